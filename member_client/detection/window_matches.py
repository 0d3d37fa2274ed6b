"""What patterns over account and cluster windows match, in the relations that `member_client.windows` builds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import duckdb

from member_client.detection.findings import SAMPLES, Finding, Moment, Owner, shown_time
from member_client.detection.in_force import RunnablePattern
from member_client.detection.parquet_rows import quoted
from member_client.detection.request_logs import Place
from sharing_protocol.pattern_logic import MatchedWindow
from sharing_protocol.pattern_logic.catalogue import NUMERIC, Category, fields_in
from sharing_protocol.pattern_logic.conditions import fields_of
from sharing_protocol.pattern_logic.correlations import Correlation

HOUR = 3_600_000_000
_FETCHED = 5_000
OWNED = 64
"""Organisations, and addresses, that are told of an account in a window."""


def fetched(connection: duckdb.DuckDBPyConnection, query: str) -> Iterator[list[tuple[Any, ...]]]:
    """A query's rows, some at a time, in its order.

    They wait in a table of their own, which may lie on disk: the connection is free for other queries meanwhile.
    """
    table = f"fetched_{uuid4().hex}"
    connection.execute(f"CREATE TEMP TABLE {table} AS {query}")
    try:
        (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0]  # noqa: S608 - ours
        for start in range(0, count, _FETCHED):
            yield connection.execute(
                f"SELECT * FROM {table} WHERE rowid >= {start} AND rowid < {start + _FETCHED} ORDER BY rowid"  # noqa: S608 - ours
            ).fetchall()
    finally:
        connection.execute(f"DROP TABLE {table}")


def measured(correlation: Correlation, value: float) -> int | float:
    """What a correlation measured, as the reference evaluator gives it: counts are whole."""
    return value if correlation.kind in ("value_sum", "value_avg") else int(value)


def fields_built(connection: duckdb.DuckDBPyConnection, category: Category) -> frozenset[str]:
    """The fields that some window of a kind has; none if no windows were built."""
    columns = list(fields_in(category))
    try:
        (counts,) = connection.execute(
            f"SELECT {', '.join(f'count({quoted(name)})' for name in columns)} FROM {category}"  # noqa: S608 - ours
        ).fetchall()
    except duckdb.CatalogException:
        return frozenset()  # there were no requests to build windows of
    return frozenset(name for name, count in zip(columns, counts, strict=True) if count)


def matches_of(connection: duckdb.DuckDBPyConnection, pattern: RunnablePattern) -> Iterator[Finding]:
    """Every match, by window.

    Args:
        connection: with `requests`, `account_window`, `cluster_window` and `cluster_member`.
        pattern: over one of the two kinds of windows.
    """
    category = pattern.logic.category
    relation = str(category)
    matched = pattern.compiled.query
    clusters = category is Category.CLUSTER_WINDOW
    names = list(fields_in(category))
    query = f"""
        WITH matched AS ({matched}),
        concerned AS (SELECT DISTINCT event_id FROM matched),
        member AS ({_MEMBERS if clusters else _ACCOUNT}),
        sample AS (
          SELECT member.event_id, min_by({{'file': r."event.file", 'line': r."event.line"}}, r."event.id", {SAMPLES})
            AS requests
          FROM member JOIN requests r ON r."account.id" = member.account
            AND r."timestamp" < member.until AND r."timestamp" >= member.since
          GROUP BY member.event_id
        ),
        accounts AS (SELECT event_id, list(account ORDER BY account) AS accounts FROM member GROUP BY event_id),
        owner AS (
          SELECT member.event_id, account,
            list_slice(list(DISTINCT r."org.id" ORDER BY r."org.id"), 1, {OWNED}) AS organisations,
            list_slice(list(DISTINCT r."network.ip" ORDER BY r."network.ip"), 1, {OWNED}) AS addresses
          FROM member JOIN requests r ON r."account.id" = member.account
            AND r."timestamp" < member.until AND r."timestamp" >= member.since
          WHERE r."org.id" IS NOT NULL OR r."network.ip" IS NOT NULL
          GROUP BY member.event_id, account
        ),
        owners AS (
          SELECT event_id, list({{
            'account': account,
            'organisations': list_filter(organisations, lambda x: x IS NOT NULL),
            'addresses': list_filter(addresses, lambda x: x IS NOT NULL)
          }} ORDER BY account) AS owners
          FROM owner GROUP BY event_id
        )
        SELECT matched.*, sample.requests AS samples, accounts.accounts, owners.owners,
          {", ".join(f"w.{quoted(n)}" for n in names)}
        FROM matched JOIN {relation} w ON w."event.id" = matched.event_id
        LEFT JOIN sample ON sample.event_id = matched.event_id
        LEFT JOIN accounts ON accounts.event_id = matched.event_id
        LEFT JOIN owners ON owners.event_id = matched.event_id
        ORDER BY matched.event_id, matched.rule
        """  # noqa: S608 - names of the catalogue, and what the compiler gives
    columns = [column[0] for column in connection.execute(f"DESCRIBE {query}").fetchall()]
    types = fields_in(category)
    shows = {
        rule.name: sorted(name for name in fields_of(rule.condition) if types[name].type in NUMERIC)
        for rule in pattern.logic.rules
    }
    correlations = {correlation.name: correlation for correlation in pattern.logic.correlations}
    for some in fetched(connection, query):
        for values in some:
            row = dict(zip(columns, values, strict=True))
            numbers = {name: row[name] for name in shows.get(row["rule"], ()) if row[name] is not None}
            yield _detection(pattern, row, numbers, correlations.get(row["rule"]))


_ACCOUNT = f"""
  SELECT event_id, w."account.id" AS account, w."timestamp" AS until,
    w."timestamp" - CAST(w."window.hours" AS BIGINT) * {HOUR} AS since
  FROM concerned JOIN account_window w ON w."event.id" = event_id
"""  # noqa: S608 - ours
_MEMBERS = f"""
  SELECT event_id, m."account.id" AS account, w."timestamp" AS until,
    w."timestamp" - CAST(w."window.hours" AS BIGINT) * {HOUR} AS since
  FROM concerned JOIN cluster_window w ON w."event.id" = event_id JOIN cluster_member m ON m.cluster = event_id
"""  # noqa: S608 - ours


def _detection(
    pattern: RunnablePattern, row: dict[str, Any], numbers: dict[str, float], correlation: Correlation | None
) -> Finding:
    end, hours = row["timestamp"], int(row["window.hours"])
    samples = tuple(Place(one["file"], one["line"]) for one in row["samples"] or ())
    account = row.get("account.id")
    cluster = {name: row[f"cluster.{name}"] for name in ("key_kind", "key") if row.get(f"cluster.{name}") is not None}
    window = None
    if correlation is not None:
        group = {name: row[name] for name in correlation.group_by}
        value = measured(correlation, row["window_value"])
        window = MatchedWindow(group, value, row["window_start"], row["window_end"])
    place = samples[0] if samples else Place("", 0)
    return Finding(
        pattern,
        row["rule"],
        Moment(place, shown_time(end), end, account),
        (account, cluster.get("key_kind"), cluster.get("key"), hours, end),
        numbers,
        window,
        (end - hours * HOUR, end),
        cluster,
        tuple((row["accounts"] or ()) if cluster else ()),
        samples,
        tuple(
            Owner(one["account"], tuple(one["organisations"] or ()), tuple(one["addresses"] or ()))
            for one in row["owners"] or ()
        ),
    )
