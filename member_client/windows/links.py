"""What links accounts: the keys that they share in a window, and the clusters these make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import duckdb

from member_client.windows.components import add_components

MACROS = """
create or replace temp macro surprise(units, expected) as
  case when units > expected then
    round((units * ln(units / expected::double) - units + expected) / ln(10), 6) else 0 end;
"""

# An account takes part in a kind's clusters with its eight most frequent values: heavy ones have thousands.
_KEYS = """
create or replace temp table batch_key as
with counted as (
  select w, account, 'payment' as kind, payment as value, count(*) as n
  from batch_fact where payment is not null group by all
  union all
  select w, account, 'subnet', subnet, count(*) from batch_fact where subnet is not null group by all
  union all
  select w, account, 'network', network, count(*) from batch_fact where network is not null group by all
  union all
  select w, account, 'client', client, count(*) from batch_fact where client is not null group by all
)
select "group", w, unit, kind, value, n from counted join batch_account using (w, account)
union all
select "group", w, unit, 'creation_burst',
  strftime(make_timestamp(floor_to(created, 3_600_000_000) * 3_600_000_000), '%Y-%m-%dT%H:00:00Z'), 1
from batch_account where created is not null
union all
select "group", w, unit, 'template', text, n
from batch_tally join windows_template on template = value join batch_account using ("group") where kind = 'template';

create or replace temp table batch_shared as
with shared as (
  select w, kind, value, count(*) as accounts, count(distinct unit) as units
  from batch_key group by all
), expected as (
  select w, kind, sum(units) / count(*)::double as expected from shared group by all
)
select
  row_number() over (order by w, kind, value) as cluster, w, kind, value as key,
  surprise(units, expected) as surprise
from shared join expected using (w, kind) where accounts > 1;

create or replace temp table batch_member as
with ranked as (
  select cluster, "group", row_number() over (partition by "group", had.kind order by n desc, value) as place
  from batch_key as had join batch_shared as shared on shared.w = had.w and shared.kind = had.kind and key = value
)
select cluster, "group" from ranked where place <= 8
qualify count(*) over (partition by cluster) > 1;

create or replace temp table batch_cluster as
  select cluster, w, kind, key, 1 as link_kinds, surprise
  from batch_shared where cluster in (select cluster from batch_member);
"""


def link_accounts(connection: duckdb.DuckDBPyConnection, kinds: Mapping[int, Iterable[str]] | None = None) -> None:
    """Make `batch_cluster` and `batch_member` from the accounts of the batch.

    Args:
        kinds: for each length of windows, keep only clusters of these kinds of key.
    """
    connection.execute(_KEYS)
    add_components(connection)
    if kinds is not None:
        kept = [f"{hours} {kind}" for hours, named in kinds.items() for kind in named]
        connection.execute(
            """delete from batch_cluster using batch_window
            where batch_cluster.w = batch_window.w and not list_contains($1, hours || ' ' || kind)""",
            [kept],
        )
        connection.execute("delete from batch_member where cluster not in (select cluster from batch_cluster)")
