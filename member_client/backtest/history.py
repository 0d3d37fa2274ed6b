"""What the requests were, and what the pattern matched of them: counted in DuckDB, so that memory stays bounded."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import duckdb
import pyarrow as pa

from member_client.detection.findings import Counter as MatchCounter
from member_client.detection.findings import Finding, Tally

HOUR = 3_600_000_000
_CHUNK = 20_000
_EPOCH = date(1970, 1, 1)
_COUNTED = f"""
INSERT INTO traffic
SELECT "account.id", ("timestamp" - (("timestamp" % {HOUR}) + {HOUR}) % {HOUR}) // {HOUR}, count(*)
FROM noted GROUP BY 1, 2
"""  # noqa: S608 - a number


@dataclass(frozen=True, slots=True)
class Day:
    """One day (UTC) on which there were requests or matches.

    Attributes:
        matches: as `detect` counts them; of a window, on the last day that it covers.
    """

    day: date
    requests: int
    matches: int


class Traffic:
    """Requests by account and hour."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        connection.execute("CREATE TEMP TABLE traffic (account VARCHAR, hour BIGINT, requests BIGINT)")

    def note(self, batch: pa.RecordBatch) -> None:
        """Count a batch; a request without a time has no hour."""
        self._connection.register("noted", batch.select(["account.id", "timestamp"]))
        self._connection.execute(_COUNTED)
        self._connection.unregister("noted")

    def accounts(self) -> int:
        """How many accounts sent requests."""
        return _count(self._connection, "SELECT count(DISTINCT account) FROM traffic")

    def among(self, accounts: Iterable[str]) -> frozenset[str]:
        """Which of these accounts sent requests."""
        self._connection.register("named", pa.table({"account": pa.array(list(accounts), pa.string())}))
        try:
            rows = self._connection.execute("SELECT DISTINCT account FROM traffic SEMI JOIN named USING (account)")
            return frozenset(account for (account,) in rows.fetchall())
        finally:
            self._connection.unregister("named")

    def by_day(self) -> dict[date, int]:
        """Requests of each day that had some."""
        rows = self._connection.execute(
            "SELECT CAST(floor(hour / 24) AS BIGINT), sum(requests) FROM traffic WHERE hour IS NOT NULL GROUP BY 1"
        ).fetchall()
        return {_EPOCH + timedelta(days=day): int(requests) for day, requests in rows}


class Matches:
    """What the pattern matched.

    Attributes:
        tally: its matches as `detect` counts them.
        accounts: flagged, the members of matched clusters too.
        clusters: their kinds and keys.
        by_day: matches.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, tally: Tally) -> None:
        self.tally = tally
        self.accounts: set[str] = set()
        self.clusters: set[tuple[str, str]] = set()
        self.by_day: Counter[date] = Counter()
        self._connection = connection
        self._counter = MatchCounter(tally)
        self._events: list[str] = []
        self._spans: list[tuple[str, int, int]] = []
        connection.execute("CREATE TEMP TABLE matched_event (event VARCHAR)")
        connection.execute("CREATE TEMP TABLE matched_span (account VARCHAR, first BIGINT, last BIGINT)")

    def note(self, found: Finding) -> None:
        """Take one match."""
        before = self.tally.matches
        self._counter.count(found.moment, found.is_window, found.accounts)
        named = accounts_of(found)
        self.accounts.update(named)
        if found.cluster:
            self.clusters.add((found.cluster["key_kind"], found.cluster["key"]))
        if self.tally.matches > before and found.moment.time is not None:
            # a window ends as the next day begins
            last = found.moment.time - (1 if found.span else 0)
            self.by_day[datetime.fromtimestamp(last // 1_000_000, UTC).date()] += 1
        if found.span is None:
            place = found.moment.place
            self._events.append(f"{place.line}:{place.file}")
        else:
            self._events.append(json.dumps(found.key))
            first, end = found.span
            self._spans += [(account, first // HOUR, end // HOUR) for account in named]
        if len(self._events) + len(self._spans) >= _CHUNK:
            self._flush()

    def events(self) -> int:
        """How many requests, or windows, matched: each once, whatever matched there."""
        self._flush()
        return _count(self._connection, "SELECT count(DISTINCT event) FROM matched_event")

    def requests_in_windows(self) -> int:
        """How many requests were sent by an account within a window for which it was flagged."""
        self._flush()
        return _count(
            self._connection,
            """SELECT coalesce(sum(requests), 0) FROM traffic SEMI JOIN (SELECT DISTINCT * FROM matched_span) AS span
            ON traffic.account = span.account AND traffic.hour >= span.first AND traffic.hour < span.last""",
        )

    def _flush(self) -> None:
        if self._events:
            self._insert("matched_event", pa.table({"event": self._events}))
        if self._spans:
            account, first, last = zip(*self._spans, strict=True)
            self._insert("matched_span", pa.table({"account": account, "first": first, "last": last}))
        self._events, self._spans = [], []

    def _insert(self, table: str, rows: pa.Table) -> None:
        self._connection.register("noted", rows)
        self._connection.execute(f"INSERT INTO {table} SELECT * FROM noted")  # noqa: S608 - ours
        self._connection.unregister("noted")


def accounts_of(found: Finding) -> tuple[str, ...]:
    """The accounts that a match flags."""
    return found.accounts if found.moment.account is None else (found.moment.account,)


def days_of(requests: dict[date, int], matches: Counter[date]) -> tuple[Day, ...]:
    """Day by day, in order; days on which nothing was are left out."""
    return tuple(Day(day, requests.get(day, 0), matches[day]) for day in sorted({*requests, *matches}))


def _count(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    ((number,),) = connection.execute(query).fetchall()
    return int(number)
