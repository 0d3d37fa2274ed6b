"""What detection remembers between runs, in one DuckDB file of the home: `detections/state.duckdb`.

    watermark   how far each log has been read, and by what it is known again
    rule        numbers of the rules of patterns, which hits name them by
    hit         what rules hit, as long as some correlation or window reaches back to it
    segment     requests kept for windows, as Parquet beside the file, as long as some window reaches back to them
    told        ids of the detections that were told, so that none is told twice
    run         runs whose files may not be in place yet

A leg (so many rows of one file) is one transaction: its hits, its segment and its watermark are there together or not
at all. A run killed in a leg begins that leg again. A run that looks at files once has the same tables in memory.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from member_client.detection.canonical import CLOSED, keep_from_files, request_fields, sql_type
from member_client.detection.parquet_rows import quoted
from member_client.detection.reading import Position
from member_client.detection.request_logs import BrokenRow, is_compressed, is_parquet, numbered, opened
from member_client.errors import InvalidInput

SCHEMA = 1
_TAIL = 4_096
_IDENTITY = 65_536
_BLOCK = 1024 * 1024

_TABLES = f"""
CREATE TABLE IF NOT EXISTS schema (version INTEGER);
CREATE TABLE IF NOT EXISTS watermark (
  file VARCHAR PRIMARY KEY, identity VARCHAR, size BIGINT, modified BIGINT, lines BIGINT, bytes BIGINT, tail VARCHAR
);
CREATE TABLE IF NOT EXISTS hit (
  rule INTEGER, run VARCHAR, identity VARCHAR, "event.id" BIGINT, "event.file" VARCHAR, "event.line" BIGINT,
  {", ".join(f"{quoted(entry.name)} {sql_type(entry)}" for entry in request_fields())}
);
CREATE TABLE IF NOT EXISTS rule (number INTEGER, entry VARCHAR, name VARCHAR);
CREATE TABLE IF NOT EXISTS segment (file VARCHAR, first BIGINT, last BIGINT, run VARCHAR);
CREATE TABLE IF NOT EXISTS told (id VARCHAR, moment BIGINT);
CREATE TABLE IF NOT EXISTS run (name VARCHAR PRIMARY KEY, draft VARCHAR, target VARCHAR, summary VARCHAR);
CREATE TABLE IF NOT EXISTS next_event (id BIGINT);
"""


@dataclass(frozen=True, slots=True)
class Watermark:
    """How far a log has been read.

    Attributes:
        identity: hash of its first line: the log is known by it, whatever it is called by now.
        position: the rows behind which were read.
        tail: hash of the bytes just before, which must still be there.
    """

    file: str
    identity: str
    size: int
    modified: int
    position: Position
    tail: str


class State:
    """The tables, on disk or in memory."""

    def __init__(self, folder: Path, *, lasting: bool, memory: str, threads: int | None = None) -> None:
        """Open them.

        Args:
            folder: for the file, the segments, and what does not fit into memory.
            lasting: whether they are kept.
            memory: how much the engine may use before it spills, as DuckDB writes it.

        Raises:
            InvalidInput: another run has them open, or they are of a later version of this program.
        """
        self.folder = folder
        self.lasting = lasting
        self.file = folder / "state.duckdb"
        settings: dict[str, Any] = {**CLOSED, "memory_limit": memory, "temp_directory": str(folder / "spilled")}
        if threads is not None:
            settings["threads"] = threads
        folder.mkdir(mode=0o700, exist_ok=True, parents=True)
        try:
            self.connection = duckdb.connect(str(self.file) if lasting else ":memory:", config=settings)
        except duckdb.IOException as error:
            raise InvalidInput(
                f"{self.file} cannot be opened: {str(error).splitlines()[0]}", "another `detect` runs: wait for its end"
            ) from error
        except duckdb.Error as error:
            raise InvalidInput(
                f"{self.file} is not usable: {str(error).splitlines()[0]}", "move it away; logs are then read anew"
            ) from error
        if lasting:
            self.file.chmod(0o600)
        keep_from_files(self.connection, folder)
        self.connection.execute(_TABLES)
        found = self.connection.execute("SELECT version FROM schema").fetchone()
        if found is None:
            self.connection.execute("INSERT INTO schema VALUES (?)", [SCHEMA])
            self.connection.execute("INSERT INTO next_event VALUES (1)")
        elif found != (SCHEMA,):
            raise InvalidInput(f"{self.file} is of another version of this program", "move it away")

    def close(self) -> None:
        """Let go of the file."""
        self.connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing."""
        self.connection.begin()
        try:
            yield
        except BaseException:
            self.connection.rollback()
            raise
        self.connection.commit()

    def already_told(self, ids: Sequence[str]) -> frozenset[str]:
        """Which of these detections an earlier run told."""
        self.connection.register("asked", pa.table({"id": pa.array(ids, pa.string())}))
        try:
            rows = self.connection.execute("SELECT id FROM told SEMI JOIN asked USING (id)").fetchall()
        finally:
            self.connection.unregister("asked")
        return frozenset(name for (name,) in rows)

    @property
    def next_event(self) -> int:
        """The `event.id` for the next row."""
        ((number,),) = self.connection.execute("SELECT id FROM next_event").fetchall()
        return int(number)

    def advance(self, rows: int) -> None:
        """So many rows more have an `event.id`."""
        self.connection.execute("UPDATE next_event SET id = id + ?", [rows])

    def rule_numbers(self, rules: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """The numbers of rules (entry of a pattern version, name), given when they are first met."""
        rows = self.connection.execute("SELECT entry, name, number FROM rule").fetchall()
        known = {(entry, name): number for entry, name, number in rows}
        last = max(known.values(), default=0)
        unmet = [rule for rule in dict.fromkeys(rules) if rule not in known]
        if unmet:
            given = {rule: last + 1 + n for n, rule in enumerate(unmet)}
            columns = {
                "number": list(given.values()),
                "entry": [entry for entry, _ in given],
                "name": [name for _, name in given],
            }
            self.connection.register("given", pa.table(columns))
            self.connection.execute("INSERT INTO rule SELECT number, entry, name FROM given")
            self.connection.unregister("given")
            known |= given
        return known

    # -- how far logs have been read --------------------------------------------------------------------------------

    def start_of(self, file: str, name: str) -> tuple[Position, str]:
        """Where to go on in a log, and by what it is known.

        A log that was renamed is known by its first line; one in which something else stands now where it was
        read (a new one under the old name) begins at its start.

        Args:
            file: its absolute name, by which it is remembered.
            name: as the user called it.
        """
        identity = identity_of(name)
        rows = self.connection.execute(
            "SELECT * FROM watermark WHERE file = ? OR identity = ? ORDER BY file = ? DESC, lines DESC",
            [file, identity, file],
        ).fetchall()
        for row in rows:
            known, first_line, size, modified, lines, offset, tail = row
            mark = Watermark(known, first_line, size, modified, Position(lines, offset), tail)
            if mark.identity == identity and _continues(mark, file, name):
                return mark.position, identity
        return Position(), identity

    def is_unchanged(self, file: str, name: str) -> bool:
        """Whether a log is, to all appearances, as it was when it was read to its end."""
        status = Path(name).stat()
        row = self.connection.execute("SELECT size, modified FROM watermark WHERE file = ?", [file]).fetchone()
        return row == (status.st_size, status.st_mtime_ns)

    def remember(self, file: str, name: str, identity: str, position: Position, seen: os.stat_result | None) -> None:
        """Set a log's watermark, in the transaction that keeps what was found up to there.

        Args:
            seen: what the file was before it was read to its end; None if there is more to read.
        """
        tail = _hash_before(name, position)
        ends = (-1, -1) if seen is None else (seen.st_size, seen.st_mtime_ns)
        self.connection.execute(
            "INSERT OR REPLACE INTO watermark VALUES (?, ?, ?, ?, ?, ?, ?)",
            [file, identity, *ends, position.lines, position.offset, tail],
        )

    # -- runs that were killed ---------------------------------------------------------------------------------------

    def conclude(self, run: str, draft: Path, target: Path, summary: dict[str, Any], ids: pa.Table) -> None:
        """Make a run's result certain: from here on it is told, once, even if we stop before its file is in place.

        Args:
            ids: table of `id` and `moment` of every detection in the file.
        """
        with self.transaction():
            self.connection.register("ids", ids)
            self.connection.execute("INSERT INTO told SELECT id, moment FROM ids")
            self.connection.unregister("ids")
            self.connection.execute("UPDATE hit SET run = ? WHERE run IS NULL", [run])
            self.connection.execute("UPDATE segment SET run = ? WHERE run IS NULL", [run])
            self.connection.execute(
                "INSERT INTO run VALUES (?, ?, ?, ?)", [run, str(draft), str(target), json.dumps(summary)]
            )

    def unfinished(self) -> list[tuple[str, Path, Path, dict[str, Any]]]:
        """Runs whose file may not be in place: name, draft, target, summary."""
        rows = self.connection.execute("SELECT name, draft, target, summary FROM run ORDER BY name").fetchall()
        return [(name, Path(draft), Path(target), json.loads(summary)) for name, draft, target, summary in rows]

    def finished(self, run: str) -> None:
        """Its files are in place."""
        self.connection.execute("DELETE FROM run WHERE name = ?", [run])

    def forget(self, before: int) -> list[Path]:
        """Drop what lies further back than anything reaches (microseconds); gives the segments to delete."""
        gone = self.connection.execute("SELECT file FROM segment WHERE last < ?", [before]).fetchall()
        with self.transaction():
            self.connection.execute("DELETE FROM segment WHERE last < ?", [before])
            self.connection.execute(
                'DELETE FROM hit WHERE run IS NOT NULL AND ("timestamp" IS NULL OR "timestamp" < ?)', [before]
            )
            self.connection.execute("DELETE FROM told WHERE moment < ?", [before])
        return [self.folder / name for (name,) in gone]


def identity_of(name: str) -> str:
    """By what a log is known whatever it is called: the hash of how it begins, or of Parquet's end."""
    if is_parquet(name):
        with Path(name).open("rb") as file:
            file.seek(max(0, Path(name).stat().st_size - _IDENTITY))
            return hashlib.sha256(file.read()).hexdigest()
    ignored: list[BrokenRow] = []
    with opened(name) as (_, content):
        lines = [line for _, line, _ in islice(numbered(name, content, ignored.append), 2)]
    # the first line of CSV is the same in all files, so the second counts too
    first = lines[:1] if lines and lines[0].lstrip().startswith(b"{") else lines
    return hashlib.sha256(b"".join(line.rstrip(b"\r\n") + b"\n" for line in first)).hexdigest()


def _continues(mark: Watermark, file: str, name: str) -> bool:
    """Whether what was read is still there, at the same place."""
    status = Path(name).stat()
    if (mark.file, mark.size, mark.modified) == (file, status.st_size, status.st_mtime_ns):
        return True
    return is_parquet(name) or _hash_before(name, mark.position) == mark.tail


def _hash_before(name: str, position: Position) -> str:
    """Hash of the bytes of the content just before a position; "" if it does not go that far."""
    if is_parquet(name):
        return ""
    offset = position.offset
    begin = 0 if is_compressed(name) else max(0, offset - _TAIL)
    tail = b""
    with opened(name, begin) as (_, content):
        stream = io.BufferedReader(content)
        left = offset - begin
        while left and (block := stream.read(min(left, _BLOCK))):
            left -= len(block)
            tail = (tail + block)[-_TAIL:]
    return "" if left else hashlib.sha256(tail).hexdigest()
