"""What a run found: one line a match in the detections file, and counts by pattern in the run's summary.

Both stay in the lab, readable by their owner alone. Only a sighting leaves it, made from the counts, in buckets.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from member_client.detection.request_logs import Place
from member_client.errors import InvalidInput

if TYPE_CHECKING:  # commands that only read summaries need no DuckDB
    from member_client.detection.in_force import RunnablePattern
    from sharing_protocol.pattern_logic import MatchedWindow

FORMAT = 1
SAMPLES = 5
"""Requests named for a match of a window."""
WHOSE = ("account.id", "org.id", "network.ip")
"""Fields of a request that say whose it is: allow-lists go by them."""

_PARQUET = {
    **dict.fromkeys(("id", "pattern"), "VARCHAR"),
    "version": "BIGINT",
    **dict.fromkeys(("entry", "title", "severity", "rule", "timestamp", *WHOSE, "file"), "VARCHAR"),
    "line": "BIGINT",
    **dict.fromkeys(("window", "cluster", "whose", "numbers", "samples"), "JSON"),
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Moment:
    """What of a matched row is kept: where it stands, when it was, whose it is.

    Attributes:
        timestamp: as the row writes it, None if it cannot be read.
        time: the same as microseconds since 1970.
        account, organisation, address: `account.id`, `org.id` and `network.ip`, if they are text.
    """

    place: Place
    timestamp: Any
    time: int | None
    account: str | None
    organisation: str | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Owner:
    """What else is known of an account in a window: some of its organisations and addresses."""

    account: str
    organisations: tuple[str, ...]
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NotRunnable:
    """A pattern that was left out, and why."""

    id: str
    version: int
    title: str
    reason: str


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


@dataclass(frozen=True, slots=True)
class Finding:
    """One match of a pattern.

    Attributes:
        rule: name of the rule or correlation.
        moment: the request at which it matched; of a window, its end.
        key: what, beside pattern and rule, makes it this match and no other, whenever and under whatever name the log
            is read.
        numbers: the number fields that the rule read.
        window: of a correlation.
        span: of an account or cluster window: start and end, microseconds since 1970.
        cluster: key and kind of a cluster.
        accounts: of a cluster, all of them.
        owners: of the accounts in a window, as far as their requests say whose they are.
        samples: some of the requests, the latest or first ones.
    """

    pattern: RunnablePattern
    rule: str
    moment: Moment
    key: tuple[Any, ...]
    numbers: Mapping[str, float] = field(default_factory=dict)
    window: MatchedWindow | None = None
    span: tuple[int, int] | None = None
    cluster: Mapping[str, str] = field(default_factory=dict)
    accounts: tuple[str, ...] = ()
    samples: tuple[Place, ...] = ()
    owners: tuple[Owner, ...] = ()

    @property
    def id(self) -> str:
        """The same in every run, 128 bits in hex."""
        # logs that begin alike are told apart by the requests themselves
        named = json.dumps([self.pattern.entry, self.rule, self.moment.time, self.moment.account, *self.key])
        return hashlib.sha256(named.encode()).hexdigest()[:32]

    @property
    def counted(self) -> Moment:
        """The moment by which it is counted: a window's end is no part of it, and may be tomorrow."""
        if self.span is None or self.window is not None:
            return self.moment
        return replace(self.moment, time=self.span[1] - 1)

    @property
    def is_window(self) -> bool:
        """Whether it is about more than one request."""
        return self.window is not None or self.span is not None


class Counter:
    """Counts one pattern's matches as they come."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self._accounts: set[str] = set()
        self._row: tuple[str, int] | None = None

    def count(self, moment: Moment, window: bool, accounts: Iterable[str] = ()) -> None:
        """Take one match; a row that several rules of the pattern match counts once.

        Args:
            accounts: of a cluster.
        """
        row = (moment.place.file, moment.place.line)
        if not window and row == self._row:
            return
        self._row = self._row if window else row
        tally = self.tally
        tally.matches += 1
        self._accounts.update(accounts if moment.account is None else (moment.account,))
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
        readability: what of the columns was there, and could be read, as its document.
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
    readability: dict[str, Any] = field(default_factory=dict)

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
            **self.readability,
        }


def detection_line(found: Finding) -> str:
    """One match as a line of the detections file; pure ASCII, so that no prompt can break it."""
    pattern, moment, window = found.pattern, found.moment, found.window
    document: dict[str, Any] = {
        "id": found.id,
        "pattern": pattern.id,
        "version": pattern.version,
        "entry": pattern.entry,
        "title": pattern.title,
        "severity": pattern.severity,
        "rule": found.rule,
        "timestamp": moment.timestamp,
        "account.id": moment.account,
        **({} if moment.organisation is None else {"org.id": moment.organisation}),
        **({} if moment.address is None else {"network.ip": moment.address}),
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
    elif found.span is not None:
        document["window"] = {"start": found.span[0] / 1_000_000, "end": found.span[1] / 1_000_000}
    if found.cluster:
        document["cluster"] = {**found.cluster, "accounts": list(found.accounts)}
    if found.owners:
        document["whose"] = [
            {"account.id": one.account, "org.id": list(one.organisations), "network.ip": list(one.addresses)}
            for one in found.owners
        ]
    if found.numbers:
        document["numbers"] = dict(found.numbers)
    if found.samples:
        document["samples"] = [{"file": place.file, "line": place.line} for place in found.samples]
    return json.dumps(document) + "\n"


def to_parquet(lines: Path, target: Path) -> None:
    """A detections file as Parquet, for its owner alone; what is nested is JSON text.

    Raises:
        InvalidInput: it cannot be written.
    """
    import duckdb  # see above

    from member_client.detection.canonical import CLOSED

    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in _PARQUET.items())
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    place = "'" + str(draft).replace("'", "''") + "'"
    try:
        draft.touch(mode=0o600)
        with duckdb.connect(config={**CLOSED, "temp_directory": ""}) as connection:
            connection.execute(
                f"COPY (SELECT * FROM read_json(?, format = 'newline_delimited', columns = {{{columns}}})) "  # noqa: S608 - ours
                f"TO {place} (FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false)",
                [str(lines)],
            )
        draft.replace(target)
    except (OSError, duckdb.Error) as error:
        raise InvalidInput(f"cannot write {target}: {error}", f"the matches are in {lines}") from error
    finally:
        draft.unlink(missing_ok=True)


def shown_time(microseconds: int | None) -> str | None:
    """A time as RFC 3339 in UTC."""
    return None if microseconds is None else (_EPOCH + timedelta(microseconds=microseconds)).isoformat()


def check_target(path: Path, option: str = "--output") -> None:
    """See whether a file can be written there, before hours of work.

    Raises:
        InvalidInput: it cannot.
    """
    if path.is_dir():
        raise InvalidInput(f"{path} is a folder", f"give the name of a file to {option}")
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.touch(mode=0o600)
        draft.unlink()
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}", f"choose another {option}") from error


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
    named = {name: getattr(tally, name) for name in Tally.__slots__}
    return named | {"first_time": shown_time(tally.first), "last_time": shown_time(tally.last)}
