"""Connected components over improbable coincidences: the clusters that no single key shows.

A joint key, such as a subnet and a client together, links the units that share it only if so many would hardly do so
by chance, given how many have its parts. So nothing links by being popular.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import combinations

import duckdb
import pyarrow as pa

LEAST_UNITS = 3
SHARED_UNITS = 1 / 3
MOST_LINKS = 32
"""Of a unit, the strongest links that may join others; heavy accounts come from hundreds of subnets."""

# `opened` is the hour (since 1970) in which an account was opened. A pair's `n` counts units, and with templates at
# most the different prompts: a class that sends one exercise shares a text, not a way of making texts.
_LINKS = """
create or replace temp table batch_trait as
  select distinct w, unit, subnet, client, prompt, case when template_words >= 6 then template end as template,
    floor_to(batch_account.created, 3_600_000_000) as opened
  from batch_fact join batch_account using (w, account);

create or replace temp table batch_marginal as
  select w, 'subnet' as part, subnet as value, count(distinct unit) as units from batch_trait
  where subnet is not null group by all
  union all
  select w, 'client', client, count(distinct unit) from batch_trait where client is not null group by all
  union all
  select w, 'template', template::varchar, count(distinct unit) from batch_trait where template is not null group by all
  union all
  select w, 'opened', opened::varchar, count(distinct unit) from batch_trait where opened is not null group by all;

create or replace temp table batch_pair as
with pair as (
  select w, 'subnet' as first, subnet as this, 'client' as second, client as that,
    count(distinct unit) as n, null::bigint as opened
  from batch_trait where subnet is not null and client is not null group by all
  union all
  select w, 'subnet', subnet, 'template', template::varchar, least(count(distinct unit), count(distinct prompt)), null
  from batch_trait where subnet is not null and template is not null group by all
  union all
  select w, 'opened', opened::varchar, 'client', client, count(distinct unit), opened
  from batch_trait where opened is not null and client is not null group by all
  union all
  select w, 'opened', opened::varchar, 'subnet', subnet, count(distinct unit), opened
  from batch_trait where opened is not null and subnet is not null group by all
  union all
  select w, 'opened', opened::varchar, 'template', template::varchar,
    least(count(distinct unit), count(distinct prompt)), opened
  from batch_trait where opened is not null and template is not null group by all
)
select *, case when opened is not null then (sum(n) over (
    partition by w, first, second, that order by opened range between 84 preceding and 84 following
  ) - n) / 168 else 0 end as hourly
from pair;

create or replace temp table batch_link as
with size as (
  select w, count(distinct unit) as units from batch_account group by w
), tried as (
  select w, count(*) as keys from batch_pair where n > 1 group by w
), judged as (
  select pair.w, first, this, second, that, n,
    surprise(n, greatest(a.units * b.units / size.units::double, hourly)) as surprise,
    log10(keys) as burden,
    (n + 0.5) * (size.units - a.units - b.units + n + 0.5) / ((a.units - n + 0.5) * (b.units - n + 0.5)) as odds_ratio,
    hourly
  from batch_pair as pair
  join size using (w)
  join tried using (w)
  join batch_marginal as a on a.w = pair.w and a.part = first and a.value = this
  join batch_marginal as b on b.w = pair.w and b.part = second and b.value = that
  where n > 1
), instrument as (
  select w, value, count(distinct unit) as units from batch_key where kind = 'payment' group by all
), mean as (
  select w, avg(units) as expected from instrument group by w
)
select w, first, this, second, that, surprise from judged
where surprise > greatest(6, 2 + burden) and odds_ratio >= 10 and n >= 10 * hourly
union all
select w, 'payment', value, '', '', surprise(units, expected) from instrument join mean using (w) where units > 1;

create or replace temp table batch_edge as
with reached as (
  select distinct link.w, first, this, second, that, unit
  from batch_link as link join batch_trait as trait
    on trait.w = link.w and first = 'subnet' and subnet = this
    and case second when 'client' then client = that else template::varchar = that end
  union
  select distinct link.w, first, this, second, that, unit
  from batch_link as link join batch_trait as trait
    on trait.w = link.w and first = 'opened' and trait.opened::varchar = this
    and case second when 'client' then client = that when 'subnet' then subnet = that
      else template::varchar = that end
  union
  select distinct link.w, first, this, '', '', unit
  from batch_link as link join batch_key as had
    on had.w = link.w and first = 'payment' and kind = 'payment' and value = this
)
select reached.w, first || ' ' || second as kind, surprise, unit,
  dense_rank() over (order by reached.w, first, this, second, that) as link
from reached join batch_link using (w, first, this, second, that)
order by link, unit;
"""

_CLUSTERS = """
create or replace temp table batch_component as
  select component.*, (select coalesce(max(cluster), 0) from batch_cluster) + component as cluster
  from batch_component_rows as component;

insert into batch_cluster
with named as (
  select cluster, min(id) as smallest
  from batch_component join batch_account using (w, unit) join windows_account using (account)
  group by cluster
)
select cluster, any_value(w), 'component', substring(sha256(any_value(smallest)), 1, 16),
  any_value(kinds), any_value(surprise)
from batch_component join named using (cluster) group by cluster;

insert into batch_member
  select cluster, "group" from batch_component join batch_account using (w, unit);
"""


def gathered(units_of: Mapping[int, set[int]]) -> dict[int, int]:
    """The component of each link, named by one of them (a disjoint-set forest, paths halved); strongest links first.

    Two links are of one component if a third of the smaller one's units, and at least two, are in both: a single unit
    that bought from a reseller and shares a popular client with a campaign does not make the two one.
    """
    parent = {link: link for link in units_of}

    def root(link: int) -> int:
        while (above := parent[link]) != link:
            parent[link] = link = parent[above]
        return link

    links_of: dict[int, list[int]] = defaultdict(list)
    for link, units in units_of.items():
        for unit in units:
            links_of[unit].append(link)
    common = Counter(pair for links in links_of.values() for pair in combinations(links[:MOST_LINKS], 2))
    for (one, other), shared in common.items():
        if shared >= 2 and shared >= SHARED_UNITS * min(len(units_of[one]), len(units_of[other])):
            low, high = sorted((root(one), root(other)))
            parent[high] = low
    return {link: root(link) for link in units_of}


def add_components(connection: duckdb.DuckDBPyConnection) -> None:
    """Add the batch's components of at least three units to `batch_cluster` and `batch_member`."""
    connection.execute(_LINKS)
    edges = connection.execute(
        "select w, unit, link, kind, surprise from batch_edge order by surprise desc, link"
    ).fetchall()
    units_of: dict[int, set[int]] = defaultdict(set)
    known: dict[int, tuple[int, str, float]] = {}
    for w, unit, link, kind, surprise in edges:
        units_of[link].add(unit)
        known[link] = (w, kind, surprise)
    links_of: dict[tuple[int, int], list[int]] = defaultdict(list)  # by component and unit
    component_of = gathered(units_of)
    for link, component in component_of.items():
        for unit in units_of[link]:
            links_of[component, unit].append(link)
    members: dict[int, list[int]] = defaultdict(list)
    for (component, unit), links in links_of.items():
        # One joint key that ordinary people hold as well makes nobody a member; who pays with the others is one.
        if len(links) > 1 or known[links[0]][1].startswith("payment"):
            members[component].append(unit)
    kinds: dict[int, set[str]] = defaultdict(set)
    surprises: dict[int, float] = defaultdict(float)
    for link, component in component_of.items():
        kinds[component].add(known[link][1])
        surprises[component] = max(surprises[component], known[link][2])
    rows = [
        (number, known[component][0], unit, len(kinds[component]), surprises[component])
        for number, component in enumerate(sorted(members), start=1)
        if len(members[component]) >= LEAST_UNITS
        for unit in sorted(members[component])
    ]
    if not rows:
        return
    names = ("component", "w", "unit", "kinds", "surprise")
    connection.register(
        "batch_component_rows",
        pa.table({name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}),
    )
    connection.execute(_CLUSTERS)
    connection.unregister("batch_component_rows")
