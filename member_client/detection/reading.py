"""From a lab's files to record batches in the canonical form (`canonical`), and how far each file has been read.

JSON lines, CSV and OTLP/JSON are read line by line in Python: that gives every broken row its line, and values their
exact types. Parquet is read by DuckDB. Memory is bounded by the batch, whatever the file.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from member_client.detection import otlp_rows
from member_client.detection.canonical import BatchBuilder
from member_client.detection.csv_rows import csv_rows
from member_client.detection.log_settings import Column
from member_client.detection.parquet_rows import parquet_batches
from member_client.detection.request_logs import (
    BrokenRow,
    Place,
    Progress,
    bytes_read,
    is_compressed,
    is_parquet,
    numbered,
    opened,
    why_not_json,
)
from member_client.detection.rows import BadRow, Fields, flatten
from member_client.detection.unreadable import Readability
from sharing_protocol.pattern_logic.catalogue import Field

BATCH_ROWS = 65_536
BATCH_CHARACTERS = 32 * 1024 * 1024

Broken = Callable[[BrokenRow], None]


@dataclass(frozen=True, slots=True)
class Position:
    """How far a file has been read.

    Attributes:
        lines: lines (or Parquet rows) that lie behind.
        offset: where the next line begins, in bytes; 0 of compressed files and of Parquet.
    """

    lines: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows of one file, and the position after them."""

    file: str
    batch: pa.RecordBatch
    position: Position


@dataclass(frozen=True, slots=True)
class Request:
    """What to read.

    Attributes:
        file: its name, or `-`.
        format: see `log_settings.Source`.
        columns: field to column, for what is called otherwise.
        fields: of the batches.
        start: where to begin.
        growing: whether somebody may still be writing: a last line without its end is then left for the next time.
    """

    file: str
    format: str
    columns: Mapping[str, Column]
    fields: Sequence[Field]
    start: Position = Position()
    growing: bool = False


def read(
    request: Request,
    first_id: int,
    broken: Broken,
    progress: Progress | None = None,
    readability: Readability | None = None,
) -> Iterator[Chunk]:
    """The file's rows from the position on, in batches; also an empty last one, for where it ends.

    Args:
        first_id: `event.id` of the first row.
        broken: told of each row that is left out.
        progress: told how many bytes of this file have been read.
        readability: is told, by the last chunk, of what the columns had and could not be read.

    Raises:
        InvalidInput: the file cannot be read at all.
    """
    readability = Readability() if readability is None else readability
    if request.format == "parquet" or (not request.format and is_parquet(request.file)):
        size = Path(request.file).stat().st_size
        for batch, rows, share in parquet_batches(
            request.file, request.columns, request.fields, first_id, request.start.lines, broken, readability
        ):
            if progress is not None:
                progress(int(size * share))
            readability.note_times(batch, request.columns)
            yield Chunk(request.file, batch, Position(rows))
        return
    lines = _Lines(request, broken)
    builder = BatchBuilder(request.file, request.fields)
    columns = request.columns
    unmet = {column.name for column in columns.values() if column.name}
    rows = 0
    for number, parsed in lines.rows():
        try:
            row = _renamed(parsed, columns)
            if unmet:
                unmet.difference_update(row)
            builder.add(number, row)
        except BadRow as bad:
            broken(BrokenRow(Place(request.file, number), str(bad)))
            continue
        if len(builder) >= BATCH_ROWS or builder.size >= BATCH_CHARACTERS:
            batch = builder.take(first_id)
            first_id += batch.num_rows
            rows += batch.num_rows
            if progress is not None:
                progress(lines.bytes)
            readability.note_times(batch, columns)
            yield Chunk(request.file, batch, lines.position)
    if progress is not None:
        progress(lines.bytes)
    if rows + len(builder):
        readability.note_columns(columns, unmet)
    _note_odd(builder, request, readability)
    batch = builder.take(first_id)
    readability.note_times(batch, columns)
    yield Chunk(request.file, batch, lines.position)


def _note_odd(builder: BatchBuilder, request: Request, readability: Readability) -> None:
    for entry in request.fields:
        if entry.name in builder.odd:
            count, value = builder.odd[entry.name]
            readability.note(entry, request.columns.get(entry.name, Column(entry.name)), value, count)


class _Lines:
    """The rows of a file of lines.

    Attributes:
        position: after the last row given, or the last line that gave none.
        bytes: how far the file on disk has been read.
    """

    def __init__(self, request: Request, broken: Broken) -> None:
        self.position = request.start
        self.bytes = 0
        self._request = request
        self._broken = broken

    def rows(self) -> Iterator[tuple[int, Fields]]:
        """Line number and fields, with the columns' own names, perhaps nested."""
        request = self._request
        seeks = request.start.offset > 0 and not is_compressed(request.file)
        start = request.start if seeks else Position()
        with opened(request.file, start.offset) as (raw, content):
            lines = self._lines(raw, numbered(request.file, content, self._broken, start.lines, start.offset))
            if request.format == "csv" or (not request.format and _is_named_csv(request.file)):
                yield from self._csv_rows(lines, seeks=seeks)
            else:
                for number, line in lines:
                    if number > request.start.lines:
                        yield from self._json_rows(number, line)

    def _lines(
        self, raw: io.BufferedReader, numbered_lines: Iterator[tuple[int, bytes, int]]
    ) -> Iterator[tuple[int, bytes]]:
        for number, line, end in numbered_lines:
            if number % 1024 == 0:
                self.bytes = bytes_read(raw)
            if self._request.growing and not line.endswith(b"\n") and not _is_whole_json(line):
                break
            self.position = Position(number, end)
            yield number, line
        self.bytes = bytes_read(raw)

    def _json_rows(self, number: int, line: bytes) -> Iterator[tuple[int, Fields]]:
        place = Place(self._request.file, number)
        try:
            # decoded first: json.loads guesses the encoding of bytes, which takes longer than decoding
            value: Any = json.loads(line.decode())
        except (ValueError, RecursionError) as error:
            if not line.isspace():
                self._broken(BrokenRow(place, why_not_json(error)))
            return
        if type(value) is not dict:
            self._broken(BrokenRow(place, "not a JSON object"))
        elif otlp_rows.is_export(value):
            for row in otlp_rows.requests_in(value):
                yield number, row
        else:
            yield number, value

    def _csv_rows(self, lines: Iterator[tuple[int, bytes]], *, seeks: bool) -> Iterator[tuple[int, Fields]]:
        request = self._request
        if seeks:
            with opened(request.file) as (_, content):
                header = next(numbered(request.file, content, self._broken), None)
        else:
            header = next(((number, line, 0) for number, line in lines), None)
        if header is None:
            return
        for number, row in csv_rows(request.file, header[1], request.columns, lines, self._broken):
            if number > request.start.lines:
                yield number, row


def _renamed(row: Fields, columns: Mapping[str, Column]) -> Fields:
    """The fields of a parsed row: nested objects flattened, columns given their fields' names and units.

    Raises:
        BadRow: see `flatten`.
    """
    for value in row.values():
        if type(value) is dict:
            row = flatten(row)
            break
    if columns:
        read = {field: column.convert(row.get(column.name)) for field, column in columns.items() if column.name in row}
        row |= read | {field: column.value for field, column in columns.items() if not column.name}
    return row


def _is_whole_json(line: bytes) -> bool:
    """Whether a line without its end is an object all the same: half an object never is."""
    try:
        return type(json.loads(line)) is dict
    except (ValueError, RecursionError):
        return False


def _is_named_csv(file: str) -> bool:
    name = file.lower()
    return name.removesuffix(".gz").removesuffix(".zst").removesuffix(".zstd").endswith(".csv")
