"""The run: one pattern over a lab's history, beside the patterns in force there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import duckdb

from member_client.backtest.history import Day, Matches, Traffic, accounts_of, days_of
from member_client.detection.detecting import Options, missing_fields, opened_state, read_all
from member_client.detection.engine import Engine
from member_client.detection.findings import Tally
from member_client.detection.in_force import RunnablePattern
from member_client.detection.log_settings import Source
from member_client.detection.reading import Broken
from member_client.detection.request_logs import Progress
from member_client.detection.unreadable import Readability
from sharing_protocol.intervals import wilson
from sharing_protocol.pattern_logic.catalogue import Category

SHOWN_ACCOUNTS = 20


@dataclass(frozen=True, slots=True)
class Overlap:
    """A pattern in force that flags some of the same accounts.

    Attributes:
        accounts: that it flags.
        shared: of these, flagged by the pattern under test too.
    """

    id: str
    version: int
    title: str
    accounts: int
    shared: int


@dataclass(frozen=True, slots=True)
class Known:
    """What the patterns in force say of the same requests.

    Attributes:
        patterns: how many ran.
        accounts: that any of them flags.
        shared: of these, flagged by the pattern under test too.
        new: accounts that it alone flags.
        overlaps: those that share accounts with it, most first.
    """

    patterns: int
    accounts: int
    shared: int
    new: int
    overlaps: tuple[Overlap, ...]


@dataclass(frozen=True, slots=True)
class FalsePositives:
    """How often the pattern flags accounts that the lab knows as legitimate.

    The estimate is about these, and about others as far as they are like them.

    Attributes:
        named: accounts that the lab named.
        seen: of these, such as sent requests: the sample.
        flagged: of the sample.
        some: of those flagged, the first by name.
    """

    named: int
    seen: int
    flagged: int
    some: tuple[str, ...]

    @property
    def rate(self) -> float | None:
        """The share of the sample that was flagged; None without a sample."""
        return self.flagged / self.seen if self.seen else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The rate's 95 % Wilson interval."""
        return wilson(self.flagged, self.seen) if self.seen else None


@dataclass(frozen=True, slots=True)
class Backtest:
    """What the pattern came to.

    Attributes:
        category: of the pattern's events.
        requests, accounts: in the logs.
        first, last: the earliest and latest request, microseconds since 1970.
        events: requests, or windows of the category, that were looked at.
        matched: of these.
        matches, undated: as `detect` counts them.
        flagged: accounts.
        clusters: that matched, by kind and key.
        requests_matched: requests that matched, or were sent by an account within a window for which it was flagged.
        false_positives: None if the lab named no legitimate accounts.
        missing: fields that the pattern reads and no row or window had.
        hopeless: whether these are all of its fields.
        readability: what of the columns was there, and could be read.
    """

    category: Category
    requests: int
    accounts: int
    first: int | None
    last: int | None
    events: int
    matched: int
    matches: int
    undated: int
    flagged: int
    clusters: int
    requests_matched: int
    days: tuple[Day, ...]
    known: Known
    false_positives: FalsePositives | None
    missing: tuple[str, ...]
    hopeless: bool
    readability: Readability = field(default_factory=Readability)

    @property
    def match_rate(self) -> float:
        """The share of the events that matched."""
        return _share(self.matched, self.events)

    @property
    def requests_share(self) -> float:
        """The share of all requests that the pattern is about."""
        return _share(self.requests_matched, self.requests)

    @property
    def accounts_share(self) -> float:
        """The share of all accounts that were flagged."""
        return _share(self.flagged, self.accounts)


def backtest(
    pattern: RunnablePattern,
    in_force: Sequence[RunnablePattern],
    sources: Sequence[Source],
    options: Options,
    folder: Path,
    broken: Broken,
    legitimate: frozenset[str] | None = None,
    progress: Progress | None = None,
) -> Backtest:
    """Run a pattern over logs, whole, and see what the patterns in force say of them.

    Args:
        in_force: patterns to compare with, of other records. Their query patterns also decide what the windows know
            (`window.query_pattern_share`), as in `detect`; the pattern under test does not.
        sources: expanded.
        options: `since` and `memory`.
        folder: for what does not fit into memory; nothing stays there.
        broken: told of rows that are left out.
        legitimate: accounts that the lab knows as such.
        progress: told how many bytes of all files have been read.

    Raises:
        InvalidInput: a file cannot be read.
        Unsupported: DuckDB cannot say exactly what the pattern means.
    """
    # Its own hits must not make the windows look known, or what others flag would be partly its own doing.
    tested = replace(pattern, kind="")
    once = replace(options, follow=False, reference=False)
    with opened_state(folder, once) as state:
        traffic = Traffic(state.connection)
        engine = Engine(state, [tested, *in_force], once.since, traffic.note)
        read_all(sources, engine, state, once, broken, progress)
        matches, others = _sorted(engine, tested, state.connection)
        missing, hopeless = missing_fields(engine)
        category = pattern.logic.category
        over_requests = category is Category.REQUEST
        matched = matches.events()
        return Backtest(
            category=category,
            requests=engine.coverage.rows,
            accounts=traffic.accounts(),
            first=engine.coverage.first,
            last=engine.coverage.last,
            events=engine.coverage.rows if over_requests else _windows(state.connection, category),
            matched=matched,
            matches=matches.tally.matches,
            undated=matches.tally.undated,
            flagged=len(matches.accounts),
            clusters=len(matches.clusters),
            requests_matched=matched if over_requests else matches.requests_in_windows(),
            days=days_of(traffic.by_day(), matches.by_day),
            known=_known(matches.accounts, in_force, others),
            false_positives=None if legitimate is None else _false_positives(matches.accounts, legitimate, traffic),
            missing=missing.get(tested.entry, ()),
            hopeless=tested.entry in hopeless,
            readability=engine.coverage.readability,
        )


def _sorted(
    engine: Engine, tested: RunnablePattern, connection: duckdb.DuckDBPyConnection
) -> tuple[Matches, dict[str, set[str]]]:
    """The matches of the pattern under test, and the accounts that each other one flags, by entry."""
    matches = Matches(connection, Tally(tested.id, tested.version, tested.entry, tested.title, tested.severity))
    others: dict[str, set[str]] = {one.entry: set() for one in engine.patterns if one is not tested}
    for found in engine.found():
        if found.pattern is tested:
            matches.note(found)
        else:
            others[found.pattern.entry].update(accounts_of(found))
    return matches, others


def _known(flagged: set[str], in_force: Sequence[RunnablePattern], others: dict[str, set[str]]) -> Known:
    overlaps = [
        Overlap(one.id, one.version, one.title, len(others[one.entry]), len(shared))
        for one in in_force
        if (shared := others[one.entry] & flagged)
    ]
    overlaps.sort(key=lambda one: (-one.shared, one.id))
    known = set().union(*others.values())
    return Known(len(in_force), len(known), len(known & flagged), len(flagged - known), tuple(overlaps))


def _false_positives(flagged: set[str], legitimate: frozenset[str], traffic: Traffic) -> FalsePositives:
    seen = traffic.among(legitimate)
    wrong = sorted(seen & flagged)
    return FalsePositives(len(legitimate), len(seen), len(wrong), tuple(wrong[:SHOWN_ACCOUNTS]))


def _windows(connection: duckdb.DuckDBPyConnection, category: Category) -> int:
    try:
        ((count,),) = connection.execute(f"SELECT count(*) FROM {category}").fetchall()  # noqa: S608 - ours
    except duckdb.CatalogException:
        return 0  # there were no requests to build windows of
    return int(count)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
