"""All patterns over a lab's requests on DuckDB: batches in, detections out.

    take     a batch: the rules of all request patterns, at once (`hits`); kept for windows, if any pattern reads those
    settle   the end of a leg: what waited is asked, what was kept is a segment
    found    every match: of single requests, of correlations over the hits, and of the windows of accounts and clusters

Which requests lie in reach of a correlation or a window is the state's matter (`state`): the engine works on what is
there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc

from member_client.detection.canonical import EVENT_FILE, EVENT_LINE, batch_schema, request_fields
from member_client.detection.findings import SAMPLES, WHOSE, Finding, Moment, shown_time
from member_client.detection.hits import Hits, NumberedRule, fields_kept, numbered_rules
from member_client.detection.in_force import RunnablePattern
from member_client.detection.parquet_rows import literal, quoted
from member_client.detection.request_logs import Place
from member_client.detection.segments import Segment
from member_client.detection.state import State
from member_client.detection.unreadable import Readability
from member_client.detection.window_matches import fetched, fields_built, matches_of, measured
from member_client.pattern_sql import correlation_query
from member_client.windows import build_windows
from member_client.windows.demand import all_windows
from sharing_protocol.pattern_logic import MatchedWindow
from sharing_protocol.pattern_logic.catalogue import Category, Field
from sharing_protocol.pattern_logic.correlations import Correlation

DAY = 86_400_000_000
REACH = 15 * DAY
"""Of windows: a week that ends up to a week after a request, and for `requests_before` the week before it."""
QUERY_PATTERN = "query_pattern"


@dataclass
class Coverage:
    """What the rows had.

    Attributes:
        rows: how many there were.
        present: field to how many rows had it.
        first, last: the earliest and latest timestamp, microseconds since 1970.
        readability: of all that was read, also of what is left out because it was sent too early.
    """

    rows: int = 0
    present: dict[str, int] = field(default_factory=dict)
    first: int | None = None
    last: int | None = None
    readability: Readability = field(default_factory=Readability)

    def add(self, batch: pa.RecordBatch, fields: Sequence[Field]) -> None:
        """Count a batch."""
        self.rows += batch.num_rows
        for entry in fields:
            column = batch.column(entry.name)
            self.present[entry.name] = self.present.get(entry.name, 0) + len(column) - column.null_count
        ends = pc.min_max(batch.column("timestamp")).as_py()
        if ends["min"] is not None:
            self.first = ends["min"] if self.first is None else min(self.first, ends["min"])
            self.last = ends["max"] if self.last is None else max(self.last, ends["max"])

    def include(self, other: Coverage) -> None:
        """Count what somebody else has counted."""
        self.rows += other.rows
        for name, count in other.present.items():
            self.present[name] = self.present.get(name, 0) + count
        self.first = min((end for end in (self.first, other.first) if end is not None), default=None)
        self.last = max((end for end in (self.last, other.last) if end is not None), default=None)
        self.readability.include(other.readability)


class Engine:
    """One run of patterns."""

    def __init__(
        self,
        state: State,
        patterns: Sequence[RunnablePattern],
        since: int | None = None,
        shown: Callable[[pa.RecordBatch], object] | None = None,
    ) -> None:
        """Compile.

        Args:
            state: where hits and segments are.
            since: leave out requests before this, and those without a time (microseconds since 1970).
            shown: is shown every batch that is taken; it has `timestamp` and `account.id` at least.
        """
        self.coverage = Coverage()
        self.patterns = patterns
        self._state = state
        self._connection = state.connection
        self._since = since
        self._shown = shown
        requests = [one for one in patterns if one.logic.category is Category.REQUEST]
        self._over_windows = [one for one in patterns if one.logic.category is not Category.REQUEST]
        self._rules: list[NumberedRule] = []
        numbers = state.rule_numbers([(one.entry, rule.name) for one in requests for rule in one.logic.rules])
        for position, pattern in enumerate(patterns):
            if pattern.logic.category is Category.REQUEST:
                self._rules += numbered_rules(pattern, position, numbers)
        self._kept = fields_kept([one.logic for one in requests], self._rules)
        self._hits = Hits(self._connection, self._rules, self._kept)
        needed = {"timestamp", *WHOSE}.union(*(one.logic.required_fields for one in requests))
        self.fields = request_fields(None if self._over_windows else needed)
        self._segment: Segment | None = None

    # -- requests ----------------------------------------------------------------------------------------------------

    def take(self, batch: pa.RecordBatch, identity: str) -> None:
        """Ask all request patterns about a batch with `fields`; its log is known by `identity`."""
        batch = sent_since(batch, self._since)
        if not batch.num_rows:
            return
        self.coverage.add(batch, self.fields)
        if self._shown is not None:
            self._shown(batch)
        if self._rules:
            self._hits.take(batch, identity)
        if self._over_windows:
            if self._segment is None:
                self._segment = Segment(self._state.folder / f"{uuid4().hex}.parquet", batch_schema(self.fields))
            self._segment.add(batch)

    def settle(self) -> None:
        """End a leg: after this, and in the same transaction, all that was taken is in the state."""
        self._hits.flush()
        if self._segment is not None:
            self._segment.close()
            first, last = self._segment.first, self._segment.last
            self._connection.execute(
                "INSERT INTO segment VALUES (?, ?, ?, NULL)", [self._segment.path.name, first, last]
            )
            self._segment = None

    # -- what it comes to --------------------------------------------------------------------------------------------

    def found(self) -> Iterator[Finding]:
        """Every match: those of single requests in their order, then those of correlations, then those of windows."""
        self._connection.execute("CREATE OR REPLACE TEMP TABLE query_pattern_hits (event_id BIGINT)")
        yield from self._single_requests()
        for pattern in self.patterns:
            if pattern.logic.category is Category.REQUEST and pattern.logic.has_correlations:
                yield from self._correlated(pattern)
        if self._over_windows:
            yield from self._windows()

    def _note_query_hits(self, query: str) -> None:
        """Requests that a query pattern in force matched, for the windows."""
        self._connection.execute(f"INSERT INTO query_pattern_hits {query}")

    def _single_requests(self) -> Iterator[Finding]:
        by_number = {rule.number: rule for rule in self._rules if rule.emits}
        columns = [EVENT_FILE, EVENT_LINE, *(entry.name for entry in self._kept)]
        chosen = ", ".join(map(quoted, columns))
        numbers = ", ".join(map(str, by_number)) or "NULL"
        rows = fetched(
            self._connection,
            f"SELECT rule, identity, {chosen} FROM hit WHERE run IS NULL AND rule IN ({numbers}) "  # noqa: S608 - ours
            'ORDER BY "event.id", rule',
        )
        for some in rows:
            for number, identity, *values in some:
                rule = by_number[number]
                row = dict(zip(columns, values, strict=True))
                yield request_finding(self.patterns[rule.pattern], rule, identity, row)

    def _correlated(self, pattern: RunnablePattern) -> Iterator[Finding]:
        numbers = {rule.number: rule.name for rule in self._rules if self.patterns[rule.pattern] is pattern}
        names = " ".join(f"WHEN {number} THEN {literal(name)}" for number, name in numbers.items())
        self._connection.execute(
            f"""CREATE OR REPLACE TEMP VIEW pattern_hits AS
            SELECT "event.id" AS event_id, CASE rule {names} END AS rule, * EXCLUDE (rule)
            FROM hit WHERE rule IN ({", ".join(map(str, numbers))})"""  # noqa: S608 - ours
        )
        self._connection.execute(
            f"CREATE OR REPLACE TEMP TABLE fired AS {correlation_query(pattern.logic, 'pattern_hits')}"
        )
        if pattern.kind == QUERY_PATTERN:
            self._note_query_hits("SELECT event_id FROM fired")
        for correlation in pattern.logic.correlations:
            if correlation.emits:
                yield from self._firings(pattern, correlation)

    def _firings(self, pattern: RunnablePattern, correlation: Correlation) -> Iterator[Finding]:
        groups = [quoted(name) for name in correlation.group_by]
        partition = f"PARTITION BY {', '.join(groups)}" if groups else ""
        rows = fetched(
            self._connection,
            f"""
            WITH event AS (
              SELECT event_id, any_value(identity) AS identity, any_value("event.file") AS file,
                any_value("event.line") AS line, any_value("timestamp") AS t, any_value("account.id") AS account,
                any_value("org.id") AS organisation, any_value("network.ip") AS address
                {"".join(f", any_value({name}) AS {name}" for name in groups)}
              FROM pattern_hits GROUP BY event_id
            ), trail AS (
              SELECT *, list({{'file': file, 'line': line, 't': t}}) OVER (
                {partition} ORDER BY t, event_id ROWS BETWEEN {SAMPLES - 1} PRECEDING AND CURRENT ROW) AS recent
              FROM event WHERE t IS NOT NULL
            )
            SELECT fired.window_value, fired.window_start, fired.window_end, identity, file, line, t, account,
              organisation, address,
              list_filter(recent, lambda one: one.t > fired.window_start) AS recent
              {"".join(f", {one}" for one in groups)}
            FROM fired JOIN trail USING (event_id)
            WHERE fired.rule = {literal(correlation.name)} AND fired.window_end IS NOT NULL
            ORDER BY event_id
            """,  # noqa: S608 - names of the catalogue
        )
        for some in rows:
            for value, start, end, identity, file, line, time, account, organisation, address, recent, *group in some:
                moment = Moment(Place(file, line), shown_time(time), time, account, organisation, address)
                named = dict(zip(correlation.group_by, group, strict=True))
                window = MatchedWindow(named, measured(correlation, value), start, end)
                yield firing(pattern, correlation, identity, moment, window, recent)

    # -- windows -----------------------------------------------------------------------------------------------------

    def window_fields(self, category: Category) -> frozenset[str]:
        """The fields that some window of a kind has, once they have been built."""
        return fields_built(self._connection, category)

    def _windows(self) -> Iterator[Finding]:
        segments = self._connection.execute("SELECT file FROM segment").fetchall()
        (newest,) = self._connection.execute("SELECT min(first) FROM segment WHERE run IS NULL").fetchall()
        if newest == (None,):
            return
        files = ", ".join(literal(str(self._state.folder / name)) for (name,) in segments)
        self._connection.execute(
            f"CREATE OR REPLACE TEMP VIEW requests AS SELECT * FROM read_parquet([{files}], union_by_name = true)"  # noqa: S608 - ours
        )
        plain = [
            str(rule.number) for rule in self._rules if rule.emits and self.patterns[rule.pattern].kind == QUERY_PATTERN
        ]
        if plain:
            numbers = ", ".join(plain)
            self._note_query_hits(f'SELECT "event.id" FROM hit WHERE rule IN ({numbers})')  # noqa: S608 - ours
        # only windows that end after a new request can have become others
        asked = all_windows(one.logic for one in self._over_windows)
        build_windows(self._connection, demands=asked, query_pattern_hits="query_pattern_hits", ends_after=newest[0])
        for pattern in self._over_windows:
            yield from matches_of(self._connection, pattern)


def sent_since(batch: pa.RecordBatch, since: int | None) -> pa.RecordBatch:
    """The requests of a batch from a time on; those without a time are left out with the others."""
    if since is None:
        return batch
    return batch.filter(pc.fill_null(pc.greater_equal(batch.column("timestamp"), since), False))


def request_finding(pattern: RunnablePattern, rule: NumberedRule, identity: str, row: Mapping[str, Any]) -> Finding:
    """A match of a single request, from its row of the hits."""
    time = row["timestamp"]
    moment = Moment(Place(row[EVENT_FILE], row[EVENT_LINE]), shown_time(time), time, *(row[name] for name in WHOSE))
    numbers = {name: row[name] for name in rule.shows if row[name] is not None}
    return Finding(pattern, rule.name, moment, (identity, row[EVENT_LINE]), numbers)


def firing(
    pattern: RunnablePattern,
    correlation: Correlation,
    identity: str,
    moment: Moment,
    window: MatchedWindow,
    recent: Iterable[Mapping[str, Any]],
) -> Finding:
    """A match of a correlation; `recent` are the latest requests in its window, by `file` and `line`."""
    return Finding(
        pattern,
        correlation.name,
        moment,
        (identity, moment.place.line, json.dumps(dict(window.group))),
        window=window,
        samples=tuple(Place(one["file"], one["line"]) for one in recent),
    )
