"""The matches of a run, gathered by pattern version and subject: what decisions are made of.

DuckDB reads and sorts the file, on disk if it is large; a subject's matches then come one after the other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import duckdb

from member_client.decisions.allow_list import MAX_ID, AllowKind
from member_client.decisions.model import Subject, SubjectKind
from member_client.detection.canonical import CLOSED
from member_client.errors import InvalidInput
from sharing_protocol.pattern_logic.events import parse_time
from sharing_protocol.statements.handling import Severity

CHUNK = 20_000
"""Matches of one subject that are taken at once."""
_FETCHED = 10_000
_KINDS = {kind.value: kind for kind in SubjectKind}
_NO_NUMBERS: Mapping[str, float] = {}
_MEMORY = "512MB"
_COLUMNS = {
    **dict.fromkeys(("id", "pattern", "entry", "title", "severity", "account.id", "org.id", "network.ip"), "VARCHAR"),
    "version": "BIGINT",
    **dict.fromkeys(("timestamp", "window", "cluster", "whose", "numbers"), "JSON"),
}
_QUERY = """
WITH found AS (
    SELECT *, nullif(coalesce("org.id", "window"->>'$.group."org.id"'), '') AS organisation,
        coalesce("network.ip", "window"->>'$.group."network.ip"') AS address,
        (cluster->>'$.key_kind') || ':' || (cluster->>'$.key') AS key
    FROM read_json($file, format = 'newline_delimited', columns = {columns})
)
SELECT id, pattern, version, entry, title, severity, "timestamp", "window", cluster, whose, numbers, "account.id",
    organisation, address,
    CASE WHEN key IS NOT NULL THEN 'cluster'
        WHEN $organisations AND organisation IS NOT NULL THEN 'organisation'
        WHEN "account.id" IS NOT NULL THEN 'account' END AS kind,
    CASE WHEN key IS NOT NULL THEN key
        WHEN $organisations AND organisation IS NOT NULL THEN organisation
        ELSE "account.id" END AS subject
FROM found ORDER BY entry, kind, subject
"""


class _Line(NamedTuple):
    """A line of the file, as the query gives it; what is nested is JSON."""

    id: str
    pattern: str
    version: int
    entry: str
    title: str
    severity: str
    timestamp: str | None
    window: str | None
    cluster: str | None
    whose: str | None
    numbers: str | None
    account: str | None
    organisation: str | None
    address: str | None
    kind: str | None
    subject: str


@dataclass(frozen=True, slots=True)
class SeenPattern:
    """The pattern version that matched, as the run wrote it down."""

    entry: str
    id: str
    version: int
    title: str
    severity: Severity


@dataclass(frozen=True, slots=True)
class Match:
    """One match.

    Attributes:
        id: 16 bytes, the same in every run.
        began: when what it rests on began: of a window its start, else the same as `time`.
        time: both in microseconds since 1970, None if it is not dated.
    """

    id: bytes
    began: int | None
    time: int | None
    numbers: Mapping[str, float]


@dataclass(slots=True)
class Gathered:
    """Matches of one pattern version on one subject, each once.

    Attributes:
        accounts: of a cluster, as far as these matches name them.
        facts: organisations and addresses, by account.
        goes_on: whether more of the same subject were given before.
    """

    pattern: SeenPattern
    subject: Subject
    goes_on: bool = False
    matches: dict[bytes, Match] = field(default_factory=dict)
    accounts: set[str] = field(default_factory=set)
    facts: set[tuple[str, AllowKind, str]] = field(default_factory=set)


@dataclass(slots=True)
class Counted:
    """How far the reading is.

    Attributes:
        matches: read so far.
        nobodys: among them, those that name no account, organisation or cluster, or by an id of no use.
    """

    matches: int = 0
    nobodys: int = 0


def gather(path: Path, organisations: bool, counted: Counted, scratch: Path) -> Iterator[Gathered]:
    """The matches of a detections file, by pattern version and subject; many of one subject come in parts.

    Args:
        organisations: whether matches that name an organisation are the organisation's rather than the account's.
        counted: is counted up meanwhile.
        scratch: a folder for what does not fit into memory.

    Raises:
        InvalidInput: the file cannot be read, or is not what `detect` writes.
    """
    if not path.is_file():
        raise InvalidInput(f"{path} is not there", "run `stillwatch detect` again, or name another run")
    current: Gathered | None = None
    for row in map(_with_short_key, _rows(path, organisations, scratch)):
        counted.matches += 1
        # Customers choose such ids: one of no use must not keep all others from being decided on.
        if row.kind is None or not _usable(row.subject):
            counted.nobodys += 1
            continue
        try:
            begun = _begun(row, current)
            _add(row, begun or current)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidInput(
                f"{path} has a match that is not as `detect` writes it: {str(row.id)[:40]!r}",
                "run `stillwatch detect` again",
            ) from error
        if begun is not None:
            if current is not None:
                yield current
            current = begun
    if current is not None:
        yield current


def _usable(id_: str) -> bool:
    """Whether an id can be put on the allow-list, as far as its length goes: on nobody else anything is decided."""
    return 0 < len(id_) <= MAX_ID


def _with_short_key(row: _Line) -> _Line:
    """The same, with a cluster's key cut to the length of an id: a prompt template may have thousands of letters."""
    if row.kind != SubjectKind.CLUSTER or len(row.subject) <= MAX_ID:
        return row
    digest = hashlib.sha256(row.subject.encode("utf-8", "surrogatepass")).hexdigest()
    return row._replace(subject=f"{row.subject[: MAX_ID - len(digest) - 1]}…{digest}")


def _begun(row: _Line, current: Gathered | None) -> Gathered | None:
    """What a row begins; None if it belongs to what is being gathered."""
    goes_on = False
    if current is not None and current.pattern.entry == row.entry:
        kind, id_ = current.subject.kind, current.subject.id
        if id_ == row.subject and kind == row.kind:
            if len(current.matches) < CHUNK:
                return None
            goes_on = True
        pattern = current.pattern
    else:
        pattern = _pattern(row)
    return Gathered(pattern, Subject(_KINDS[row.kind or ""], row.subject), goes_on)


def _add(row: _Line, gathered: Gathered | None) -> None:
    if gathered is None:
        raise ValueError("a row belongs to somebody")
    number = bytes.fromhex(row.id)
    if len(number) != 16:
        raise ValueError("an id has 16 bytes")
    time = began = parse_time(json.loads(row.timestamp)) if row.timestamp is not None else None
    if row.window is not None:
        window = json.loads(row.window)
        start: float | None = window.get("start")
        began = int(start * 1_000_000) if start is not None else began
        if time is not None and "value" not in window:
            time -= 1  # a window's end is no part of it
    numbers = json.loads(row.numbers) if row.numbers is not None else _NO_NUMBERS
    gathered.matches[number] = Match(number, began, time, numbers)
    if row.cluster is not None:
        gathered.accounts.update(filter(_usable, map(str, json.loads(row.cluster)["accounts"])))
    elif row.account:
        if row.organisation:
            gathered.facts.add((row.account, AllowKind.ORGANISATION, row.organisation))
        if row.address:
            gathered.facts.add((row.account, AllowKind.NETWORK, row.address))
    for owner in json.loads(row.whose) if row.whose is not None else ():
        account = str(owner["account.id"])
        gathered.facts |= {(account, AllowKind.ORGANISATION, str(one)) for one in owner["org.id"]}
        gathered.facts |= {(account, AllowKind.NETWORK, str(one)) for one in owner["network.ip"]}


def _pattern(row: _Line) -> SeenPattern:
    if len(bytes.fromhex(row.entry)) != 32:
        raise ValueError("an entry hash has 32 bytes")
    return SeenPattern(row.entry, row.pattern, int(row.version), row.title, Severity(row.severity))


def _rows(path: Path, organisations: bool, scratch: Path) -> Iterator[_Line]:
    columns = "{" + ", ".join(f"'{name}': '{kind}'" for name, kind in _COLUMNS.items()) + "}"
    settings = {**CLOSED, "memory_limit": _MEMORY, "temp_directory": str(scratch), "preserve_insertion_order": False}
    try:
        with duckdb.connect(config=settings) as connection:
            found = connection.execute(
                _QUERY.replace("{columns}", columns), {"file": str(path), "organisations": organisations}
            )
            while some := found.fetchmany(_FETCHED):
                yield from map(_Line._make, some)
    except duckdb.Error as error:
        raise InvalidInput(
            f"{path} cannot be read: {str(error).splitlines()[0][:300]}", "give a run of `stillwatch detect`"
        ) from error
