"""Connected components over improbable coincidences: the clusters that no single key shows.

A joint key, such as a subnet and a client together, links the units that share it only if so many would hardly do so
by chance, given how many have its parts. So nothing links by being popular.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Set
from itertools import combinations
from typing import NamedTuple

import duckdb
import pyarrow as pa

LEAST_UNITS = 3
SMALL_UNITS = 8
ROUNDS = 6
MOST_GROUPS = 32
"""Of a unit, the largest that may join others: heavy accounts come from hundreds of subnets."""

STRANGERS = 200
"""Units with a key, for each one that has it by chance, from which on it makes its units members by itself."""
PAYMENT = "payment"

Unit = tuple[int, int]
"""Window and unit."""


class Link(NamedTuple):
    """What some units have in common.

    Attributes:
        kind: the parts of the key.
        surprise: minus log10 of the chance of it.
        expected: how many units would have it by chance; 0 for a payment instrument.
    """

    kind: str
    surprise: float
    expected: float


# `opened` are the two spans of two clock hours (since 1970) in which an account was opened, by their first hour: a
# burst that lasts up to an hour lies whole in one of them. A pair's `n` counts units, and with templates at most the
# different prompts: a class that sends one exercise shares a text, not a way of making texts. Hence only templates of
# several units and prompts can link, which leaves few of them. Who opened an account
# at the same time and place as seven others has his client from there (a class): it links him to nobody elsewhere.
_LINKS = """
create or replace temp table batch_site as
  select distinct w, account, unit, subnet, client from batch_fact join batch_account using (w, account);

create or replace temp table batch_use as
with used as (
  select distinct w, account, unit, subnet, template, prompt from batch_fact join batch_account using (w, account)
  where template_words >= 6 and template is not null
), shared as (
  select w, template from used group by all having min(unit) <> max(unit) and min(prompt) <> max(prompt)
)
select used.* from used join shared using (w, template);

create or replace temp table batch_opening as
  select w, account, unit, floor_to(created, 3_600_000_000) - earlier as opened
  from batch_account cross join (values (0), (1)) as span(earlier) where created is not null;

create or replace temp table batch_place as
  select w, opened, subnet, count(distinct unit) as units
  from batch_opening join batch_site using (w, account, unit) where subnet is not null group by all;

create or replace temp table batch_class as
  select distinct w, opened, unit
  from batch_opening join batch_site using (w, account, unit) join batch_place using (w, opened, subnet)
  where units >= 8;

create or replace temp table batch_burst as
  select distinct w, unit, opened, client
  from batch_opening join batch_site using (w, account, unit) anti join batch_class using (w, opened, unit)
  where client is not null;

create or replace temp table batch_rush as
with holder as (
  select w, payment, unit, count(*) over (partition by w, payment) as holders
  from (select distinct w, payment, unit from batch_account where payment is not null)
), opening as (
  select distinct w, opened, payment, unit
  from batch_opening join batch_account using (w, account, unit) anti join batch_class using (w, opened, unit)
  where payment is not null
)
select w, opened, payment, unit from opening join holder using (w, payment, unit)
qualify count(*) over (partition by w, opened, payment) >= 2
  and 2 * count(*) over (partition by w, opened, payment) >= holders;

create or replace temp table batch_marginal as
  select w, 'subnet' as part, subnet as value, count(distinct unit) as units from batch_site
  where subnet is not null group by all
  union all
  select w, 'client', client, count(distinct unit) from batch_site where client is not null group by all
  union all
  select w, 'template', template::varchar, count(distinct unit) from batch_use group by w, template
  union all
  select w, 'opened', opened::varchar, count(distinct unit) from batch_opening group by w, opened;

create or replace temp table batch_pair as
with pair as (
  select w, 'subnet' as first, subnet as this, 'client' as second, client as that,
    count(distinct unit) as n, null::bigint as opened
  from batch_site where subnet is not null and client is not null group by all
  union all
  select w, 'subnet', subnet, 'template', template::varchar, least(count(distinct unit), count(distinct prompt)), null
  from batch_use where subnet is not null
  group by w, subnet, template having min(unit) <> max(unit) and min(prompt) <> max(prompt)
  union all
  select w, 'opened', opened::varchar, 'client', client, count(*), opened
  from batch_burst group by w, opened, client
  union all
  select w, 'opened', opened::varchar, 'subnet', subnet, units, opened from batch_place
  union all
  select w, 'opened', opened::varchar, 'template', template::varchar,
    least(count(distinct unit), count(distinct prompt)), opened
  from batch_use join batch_opening using (w, account, unit) group by w, opened, template
)
select *, case when opened is not null then (sum(n) over (
    partition by w, first, second, that order by opened range between 84 preceding and 84 following
  ) - sum(n) over (
    partition by w, first, second, that order by opened range between 1 preceding and 1 following
  )) / 166 else 0 end as hourly
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
    hourly,
    greatest((a.units - n) * (b.units - n) / greatest(1, size.units - n)::double, hourly) as expected
  from batch_pair as pair
  join size using (w)
  join tried using (w)
  join batch_marginal as a on a.w = pair.w and a.part = first and a.value = this
  join batch_marginal as b on b.w = pair.w and b.part = second and b.value = that
  where n > 1
), rushed as (
  select w, opened, count(distinct unit) as n, count(distinct payment) as cards from batch_rush group by w, opened
), rush as (
  select *, (coalesce(sum(n) over (partition by w order by opened range between 84 preceding and 2 preceding), 0)
    + coalesce(sum(n) over (partition by w order by opened range between 2 following and 84 following), 0)
    + 1) / 166 as hourly
  from rushed
), instrument as (
  select w, value, count(distinct unit) as units from batch_key where kind = 'payment' group by all
), mean as (
  select w, avg(units) as expected from instrument group by w
)
select w, first, this, second, that, surprise, expected from judged
where surprise > greatest(6, 2 + burden) and odds_ratio >= 10 and n >= 10 * hourly
union all
select w, 'opened', opened::varchar, 'payment', '', surprise(n, hourly), hourly
from rush join tried using (w)
where cards >= 3 and surprise(n, hourly) > greatest(6, 2 + log10(keys)) and n >= 10 * hourly
union all
select w, 'payment', value, '', '', surprise(units, expected), null from instrument join mean using (w) where units > 1;

create or replace temp table batch_edge as
with reached as (
  select link.w, first, this, second, that, unit
  from batch_link as link join batch_site as site
    on site.w = link.w and first = 'subnet' and second = 'client' and subnet = this and client = that
  union
  select link.w, first, this, second, that, unit
  from batch_link as link join batch_use as used
    on used.w = link.w and first = 'subnet' and second = 'template' and subnet = this
    and template = try_cast(that as ubigint)
  union
  select link.w, first, this, second, that, burst.unit
  from batch_link as link join batch_burst as burst
    on burst.w = link.w and first = 'opened' and second = 'client' and opened = try_cast(this as bigint)
    and client = that
  union
  select link.w, first, this, second, that, opening.unit
  from batch_link as link
  join batch_opening as opening on opening.w = link.w and first = 'opened' and opened = try_cast(this as bigint)
  join batch_site as site on site.w = link.w and site.account = opening.account
    and second = 'subnet' and subnet = that
  union
  select link.w, first, this, second, that, opening.unit
  from batch_link as link
  join batch_opening as opening on opening.w = link.w and first = 'opened' and opened = try_cast(this as bigint)
  join batch_use as used on used.w = link.w and used.account = opening.account
    and second = 'template' and template = try_cast(that as ubigint)
  union
  select link.w, first, this, second, that, rush.unit
  from batch_link as link join batch_rush as rush
    on rush.w = link.w and first = 'opened' and second = 'payment' and opened = try_cast(this as bigint)
  union
  select link.w, first, this, '', '', unit
  from batch_link as link join batch_key as had
    on had.w = link.w and first = 'payment' and kind = 'payment' and value = this
)
select reached.w, trim(first || ' ' || second) as kind, surprise, coalesce(expected, 0) as expected, unit,
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


def gathered(units_of: Mapping[int, set[Unit]], payments: Set[int] = frozenset()) -> dict[int, int]:
    """The group of each link, named by one of its links.

    At first each link is a group. Two groups become one if a third of the smaller one's units, and at least two, are
    in both; or if as many bridges as 15 % of the smaller one's units, and at least three, lead from one to the other:
    units of both, or else groups of fewer than eight units that share one with each. Where the bridges are payment
    instruments, 5 % and two do: people come to one place by chance, but seldom to one card. This is repeated with
    the larger groups until nothing changes, at most ROUNDS times.

    A plain connected component would not do: one unit that bought from a reseller and shares a popular client with a
    campaign would make the two one.

    Args:
        units_of: the units of each link.
        payments: which links are payment instruments.
    """
    group_of = {link: link for link in units_of}
    for _ in range(ROUNDS):
        units: dict[int, set[Unit]] = defaultdict(set)
        for link, group in group_of.items():
            units[group] |= units_of[link]
        merged = _merged({group: len(found) for group, found in units.items()}, *_shared(units, payments))
        if all(group == other for group, other in merged.items()):
            break
        group_of = {link: merged[group] for link, group in group_of.items()}
    return group_of


def _shared(
    units: Mapping[int, set[Unit]], payments: Set[int]
) -> tuple[Counter[tuple[int, int]], Counter[tuple[int, int]], Counter[tuple[int, int]]]:
    """For pairs of groups: units in both; small groups that share a unit with each; of these, payment instruments."""
    groups_of: dict[Unit, list[int]] = defaultdict(list)
    for group in sorted(units, key=lambda group: (-len(units[group]), group)):
        for unit in units[group]:
            if len(groups_of[unit]) < MOST_GROUPS:
                groups_of[unit].append(group)
    common = Counter(_ordered(pair) for groups in groups_of.values() for pair in combinations(groups, 2))
    bridges: Counter[tuple[int, int]] = Counter()
    cards: Counter[tuple[int, int]] = Counter()
    for group, found in units.items():
        if len(found) < SMALL_UNITS:
            near = {other for unit in found for other in groups_of[unit]} - {group}
            pairs = [_ordered(pair) for pair in combinations(near, 2)]
            bridges.update(pairs)
            if group in payments:
                cards.update(pairs)
    return common, bridges, cards


def _merged(
    sizes: Mapping[int, int],
    common: Mapping[tuple[int, int], int],
    bridges: Mapping[tuple[int, int], int],
    cards: Mapping[tuple[int, int], int],
) -> dict[int, int]:
    """The smallest of the groups that become one, for each of them (a disjoint-set forest, paths halved)."""
    parent = {group: group for group in sizes}

    def root(group: int) -> int:
        while (above := parent[group]) != group:
            parent[group] = group = parent[above]
        return group

    for pair in {*common, *bridges}:
        smaller, both = min(sizes[pair[0]], sizes[pair[1]]), common.get(pair, 0)
        overlap = both >= 2 and 3 * both >= smaller
        bridged = 20 * max(both, bridges.get(pair, 0)) >= max(60, 3 * smaller)
        paid = 20 * cards.get(pair, 0) >= max(40, smaller)
        if overlap or bridged or paid:
            low, high = sorted((root(pair[0]), root(pair[1])))
            parent[high] = low
    return {group: root(group) for group in sizes}


def _ordered(pair: tuple[int, int]) -> tuple[int, int]:
    return min(pair), max(pair)


def _members(
    component_of: Mapping[int, int], units_of: Mapping[int, set[Unit]], known: Mapping[int, Link]
) -> dict[int, list[Unit]]:
    """The units of each component: each in the one that it has most links to, those of fewer than eight units last.

    One joint key of many that ordinary people may hold as well makes nobody a member; who pays with the others is one,
    and who has a key that hardly anybody has by chance.
    """
    kinds: dict[int, set[str]] = defaultdict(set)
    links_of: dict[Unit, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    reached: dict[int, set[Unit]] = defaultdict(set)
    for link, component in sorted(component_of.items()):
        kinds[component].add(known[link].kind)
        reached[component] |= units_of[link]
        for unit in units_of[link]:
            links_of[unit][component].append(link)

    def holds(component: int, links: list[int]) -> bool:
        return (
            len({known[link].kind for link in links}) > 1
            or len(kinds[component]) == 1
            or any(known[link].expected * STRANGERS <= len(units_of[link]) for link in links)
        )

    members: dict[int, list[Unit]] = defaultdict(list)
    for unit, links_in in sorted(links_of.items()):
        held = [component for component, links in links_in.items() if holds(component, links)]
        if held:
            ranks = {one: (len(reached[one]) < SMALL_UNITS, -len(links_in[one]), -len(reached[one])) for one in held}
            members[min(held, key=lambda one: (ranks[one], one))].append(unit)
    return members


def add_components(connection: duckdb.DuckDBPyConnection) -> None:
    """Add the batch's components of at least three units to `batch_cluster` and `batch_member`."""
    connection.execute(_LINKS)
    edges = connection.execute("select w, unit, link, kind, surprise, expected from batch_edge").fetchall()
    units_of: dict[int, set[Unit]] = defaultdict(set)
    for w, unit, link, *_ in edges:
        units_of[link].add((w, unit))
    known = {link: Link(kind, surprise, expected) for _, _, link, kind, surprise, expected in edges}
    component_of = gathered(units_of, {link for link, one in known.items() if one.kind == PAYMENT})
    members = _members(component_of, units_of, known)
    kinds: dict[int, set[str]] = defaultdict(set)
    surprises: dict[int, float] = defaultdict(float)
    for link, component in component_of.items():
        kinds[component].add(known[link].kind)
        surprises[component] = max(surprises[component], known[link].surprise)
    rows = [
        (number, w, unit, len(kinds[component]), surprises[component])
        for number, component in enumerate(sorted(members), start=1)
        if len(members[component]) >= LEAST_UNITS
        for w, unit in members[component]
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
