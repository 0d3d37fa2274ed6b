"""What links accounts: the keys that they share in a window, and the clusters these make."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import duckdb

from member_client.windows.components import add_components
from member_client.windows.demand import COMPONENT

MACROS = """
create or replace temp macro surprise(units, expected) as
  case when units > expected then
    round((units * ln(units / expected::double) - units + expected) / ln(10), 6) else 0 end;
"""

_EMPTY = """
create or replace temp table batch_key ("group" bigint, w bigint, unit bigint, kind varchar, value varchar, n bigint);
"""


def _column(kind: str) -> str:
    return f"""
    insert into batch_key
      with counted as (
        select w, account, {kind} as value, count(*) as n from batch_fact where {kind} is not null group by all
      )
      select "group", w, unit, '{kind}', value, n from counted join batch_account using (w, account);
    """  # noqa: S608 - kinds are constants


_KEYS: Mapping[str, str] = {
    **{kind: _column(kind) for kind in ("payment", "subnet", "network", "client")},
    "creation_burst": """
    insert into batch_key
      select "group", w, unit, 'creation_burst',
        strftime(make_timestamp(floor_to(created, 3_600_000_000) * 3_600_000_000), '%Y-%m-%dT%H:00:00Z'), 1
      from batch_account where created is not null;
    """,
    "template": """
    insert into batch_key
      select "group", w, unit, 'template', text, n
      from batch_tally join windows_template on template = value join batch_account using ("group")
      where kind = 'template';
    """,
}

# Of these, features of all clusters say how many there are; components link by payment, too.
_COUNTED = ("payment", "network", "client")

# An account takes part in a kind's clusters with its eight most frequent values: heavy ones have thousands.
_SHARED = """
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


_DEMANDED = """
delete from batch_cluster where cluster not in (
  select cluster
  from batch_cluster
  join batch_window using (w)
  join windows_demand using (hours, kind)
  join (select cluster, count(*) as accounts from batch_member group by cluster) using (cluster)
  where accounts >= least
);
delete from batch_member where cluster not in (select cluster from batch_cluster);
"""


def link_accounts(connection: duckdb.DuckDBPyConnection, kinds: Collection[str]) -> None:
    """Make `batch_cluster` and `batch_member` from the accounts of the batch: of the clusters, those in demand.

    Args:
        kinds: of key that are in demand in windows of this length.
    """
    connection.execute(_EMPTY)
    for kind, statement in _KEYS.items():
        if kind in kinds or kind in _COUNTED:
            connection.execute(statement)
    connection.execute(_SHARED)
    if COMPONENT in kinds:
        add_components(connection)
    connection.execute(_DEMANDED)
