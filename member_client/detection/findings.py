"""What a run found: one line a match in the detections file, and counts by pattern in the run's summary.

Both stay in the lab, readable by their owner alone. Only a sighting leaves it, made from the counts, in buckets.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from member_client.detection.in_force import NotRunnable, RunnablePattern
from member_client.detection.request_logs import Place
from member_client.errors import InvalidInput
from sharing_protocol.pattern_logic import MatchedWindow

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Moment:
    """What of a matched row is kept: where it stands, when it was, whose it is.

    Attributes:
        timestamp: as the row writes it, None if it cannot be read.
        time: the same as microseconds since 1970.
        account: `account.id`, if it is text.
    """

    place: Place
    timestamp: Any
    time: int | None
    account: str | None


@dataclass(slots=True)
class Tally:
    """The matches of one pattern, counted.

    Attributes:
        matches: rows that matched by themselves (each once), and windows that matched.
        undated: how many of these have no readable timestamp.
        accounts: distinct accounts among them.
        first, last: microseconds since 1970, of the dated ones.
    """

    id: str
    version: int
    entry: str
    title: str
    severity: str
    matches: int = 0
    undated: int = 0
    accounts: int = 0
    first: int | None = None
    last: int | None = None


class Counter:
    """Counts one pattern's matches as they come."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self._accounts: set[str] = set()
        self._row: tuple[str, int] | None = None

    def count(self, moment: Moment, window: bool) -> None:
        """Take one match; a row that several rules of the pattern match counts once."""
        row = (moment.place.file, moment.place.line)
        if not window and row == self._row:
            return
        self._row = self._row if window else row
        tally = self.tally
        tally.matches += 1
        if moment.account is not None:
            self._accounts.add(moment.account)
            tally.accounts = len(self._accounts)
        if moment.time is None:
            tally.undated += 1
            return
        tally.first = moment.time if tally.first is None else min(tally.first, moment.time)
        tally.last = moment.time if tally.last is None else max(tally.last, moment.time)


@dataclass(slots=True)
class Summary:
    """A run's summary.

    Attributes:
        run: its name: when it started.
        rows: good rows read; `broken` were left out.
        detections: the file with the matches.
        tallies: one for each pattern that ran, matches or not.
        reported: hex entry hash of each pattern to the id of the sighting made of this run.
    """

    run: str
    files: list[str]
    rows: int
    broken: int
    seconds: float
    detections: str
    tallies: list[Tally]
    left_out: list[NotRunnable]
    reported: dict[str, str]

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "format": FORMAT,
            "run": self.run,
            "files": self.files,
            "rows": self.rows,
            "broken_rows": self.broken,
            "seconds": round(self.seconds, 3),
            "detections": self.detections,
            "patterns": [_tally_document(tally) for tally in self.tallies],
            "left_out": [
                {"id": one.id, "version": one.version, "title": one.title, "reason": one.reason}
                for one in self.left_out
            ],
            "reported": self.reported,
        }


def detection_line(pattern: RunnablePattern, rule: str, moment: Moment, window: MatchedWindow | None) -> str:
    """One match as a line of the detections file; pure ASCII, so that no prompt can break it."""
    document: dict[str, Any] = {
        "pattern": pattern.id,
        "version": pattern.version,
        "entry": pattern.entry,
        "title": pattern.title,
        "severity": pattern.severity,
        "rule": rule,
        "timestamp": moment.timestamp,
        "account.id": moment.account,
        "file": moment.place.file,
        "line": moment.place.line,
    }
    if window is not None:
        document["window"] = {
            "group": dict(window.group),
            "value": window.value,
            "start": window.start / 1_000_000,
            "end": window.end / 1_000_000,
        }
    return json.dumps(document) + "\n"


@contextmanager
def written_whole(path: Path) -> Iterator[TextIO]:
    """A file for its owner alone that appears under its name only when all of it is there.

    Raises:
        InvalidInput: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    if path.is_dir():
        raise InvalidInput(f"{path} is a folder", "give the name of a file to --output")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}", "choose another --output") from error
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _tally_document(tally: Tally) -> dict[str, Any]:
    return {name: getattr(tally, name) for name in Tally.__slots__}
