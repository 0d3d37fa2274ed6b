"""Windows: what accounts, and clusters of accounts, did in an hour, a day and a week.

Requests become events of `account_window` and `cluster_window` (docs/log-sources.md has every formula) inside DuckDB,
in batches of windows that bound the memory. A request is first distilled to a narrow row, here or elsewhere
(`distilling`). Facts, calendar, features and links are modules of their own; the features of the text itself
(`window.mmd_z`) come last, for the few prompts that are sampled.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import duckdb
import pyarrow as pa

from member_client.windows import features, links, sampling
from member_client.windows.calendar import HOUR, Window, batches, windows_over
from member_client.windows.demand import EVERYTHING, LENGTHS, Demand
from member_client.windows.distilling import Distilled, distilled_from, prepare_distilling
from member_client.windows.facts import collect_facts
from sharing_protocol.pattern_logic.catalogue import Category, FieldType, fields_in

BATCH_REQUESTS = 500_000
_SQL_TYPES = {
    FieldType.TEXT: "varchar",
    FieldType.ADDRESS: "varchar",
    FieldType.INTEGER: "double",
    FieldType.NUMBER: "double",
    FieldType.SHARE: "double",
    FieldType.BOOLEAN: "boolean",
    FieldType.TIME: "bigint",
}


def build_windows(
    connection: duckdb.DuckDBPyConnection,
    *,
    requests: str | Distilled = "requests",
    hours: Sequence[int] = LENGTHS,
    demands: Collection[Demand] = EVERYTHING,
    query_pattern_hits: str | None = None,
    model_releases: str | None = None,
    ends_after: int | None = None,
    ends_by: int | None = None,
    batch_requests: int = BATCH_REQUESTS,
) -> None:
    """Create the temporary tables `account_window`, `cluster_window` and `cluster_member`.

    The two windows have the catalogue's columns and `"event.id"` (from 1, by length, end and key); `cluster_member`
    has `cluster` (the `"event.id"` of a cluster's window) and `"account.id"`. The same requests give the same tables,
    whatever the order of the rows and the number of threads.

    Args:
        connection: where the relations are; tables of the same names are replaced.
        requests: relation with the columns of category `request` and `"event.id"`, times in microseconds; or what
            was distilled from such.
        hours: lengths of the windows, of 1, 24 and 168.
        demands: only windows of these lengths are built, of clusters only those in demand, and `window.mmd_z` only
            where it is. What is built is the same whatever else is.
        query_pattern_hits: relation with the `event_id` of each request that a query pattern in force matched;
            without it `window.query_pattern_share` is absent.
        model_releases: relation with `model` and `"timestamp"`; without it a model's release is its first request.
        ends_after: leave out windows that end at this time or before (microseconds).
        ends_by: leave out windows that end later than this.
        batch_requests: how many requests are worked on together.

    Raises:
        ValueError: a length that is none of the three.
    """
    if unknown := set(hours) - set(LENGTHS):
        raise ValueError(f"windows have 1, 24 or 168 hours, not {sorted(unknown)[0]}")
    prepare_distilling(connection)
    distilled = distilled_from(connection, requests) if isinstance(requests, str) else requests
    collect_facts(connection, distilled, query_pattern_hits, model_releases)
    connection.execute(features.MACROS)
    connection.execute(links.MACROS)
    sampling.prepare_samples(connection)
    _note_demands(demands, connection)
    _create("windows_of_accounts", Category.ACCOUNT_WINDOW, connection)
    _create("windows_of_clusters", Category.CLUSTER_WINDOW, connection)
    connection.execute(
        "create or replace temp table windows_members (hours int, end_us bigint, kind varchar, key varchar, id varchar)"
    )
    counts = connection.execute("select hour, count(*) from windows_fact group by hour order by hour").fetchall()
    by_hour = dict(counts)
    wanted = [
        window
        for window in windows_over(list(by_hour), sorted(set(hours) & {one.hours for one in demands}))
        if (ends_after is None or window.end * HOUR > ends_after) and (ends_by is None or window.end * HOUR <= ends_by)
    ]
    for batch in batches(wanted, by_hour, batch_requests):
        _lay_out(batch, connection)
        features.add_account_windows(connection)
        lengths = {window.hours for window in batch}
        links.link_accounts(connection, {one.kind for one in demands if one.hours in lengths})
        features.add_cluster_windows(connection)
        sampling.note_samples(connection)
    sampling.score_samples(connection, distilled.texts)
    connection.execute(_RESULTS)


def _create(table: str, category: Category, connection: duckdb.DuckDBPyConnection) -> None:
    columns = ", ".join(f'"{field.name}" {_SQL_TYPES[field.type]}' for field in fields_in(category).values())
    connection.execute(f"create or replace temp table {table} ({columns})")


def _note_demands(demands: Collection[Demand], connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(
        "create or replace temp table windows_demand (hours int, kind varchar, least int, unlikeness boolean)"
    )
    for one in demands:
        connection.execute(
            "insert into windows_demand values ($1, $2, $3, $4)", [one.hours, one.kind, one.least, one.unlikeness]
        )


def _lay_out(batch: list[Window], connection: duckdb.DuckDBPyConnection) -> None:
    """Tell the database the batch's windows, and which hours are in which (`earlier`: in the one just before)."""
    rows = [(w, window.hours, window.start * HOUR, window.end * HOUR) for w, window in enumerate(batch)]
    hours = [(w, hour, False) for w, window in enumerate(batch) for hour in range(window.start, window.end)]
    hours += [
        (w, hour, True) for w, window in enumerate(batch) for hour in range(window.start - window.hours, window.start)
    ]
    for name, columns, values in (
        ("batch_window_rows", ("w", "hours", "start_us", "end_us"), rows),
        ("batch_hour_rows", ("w", "hour", "earlier"), hours),
    ):
        connection.register(name, pa.table({column: [row[n] for row in values] for n, column in enumerate(columns)}))
    connection.execute("create or replace temp table batch_window as select * from batch_window_rows")
    connection.execute(
        """create or replace temp table batch_hour as
        select w, hour, earlier, start_us from batch_hour_rows join batch_window using (w)"""
    )


_RESULTS = """
create or replace temp table account_window as
  select row_number() over (order by "window.hours", "timestamp", "account.id") as "event.id",
    account.* replace (z as "window.mmd_z")
  from windows_of_accounts as account
  left join windows_account_score on "window.hours" = hours and "timestamp" = end_us and "account.id" = id
  order by 1;
create or replace temp table cluster_window as
  select row_number() over (order by "window.hours", "timestamp", "cluster.key_kind", "cluster.key") as "event.id",
    cluster.* replace (z as "window.mmd_z")
  from windows_of_clusters as cluster
  left join windows_cluster_score on "window.hours" = hours and "timestamp" = end_us and "cluster.key_kind" = kind
    and "cluster.key" = key
  order by 1;
create or replace temp table cluster_member as
  select cluster_window."event.id" as cluster, id as "account.id"
  from windows_members
  join cluster_window on "window.hours" = hours and "timestamp" = end_us and "cluster.key_kind" = kind
    and "cluster.key" = key
  order by 1, 2;
"""
