"""Which prompts are read for `window.mmd_z`, and its values from them.

While a batch is at hand, its samples are noted by event; their texts are read in one pass over the requests after the
last batch. All choices go by hash: the same prompts are chosen whatever else is in the log.
"""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from member_client.windows.distilling import Text, Texts
from member_client.windows.unlikeness import (
    CLUSTER_UNITS,
    DIMENSIONS,
    MIN_UNITS,
    UNIT_PROMPTS,
    Hashes,
    Ordinary,
    Vectors,
    embed,
    self_likeness,
    standardised,
    unlikeness,
)

MIN_CLUSTER_PROMPTS = 40
HEAVY_PROMPTS = 200
HEAVY_SAMPLE = 64
STRATUM_UNITS = 192
COMPARED_ACCOUNTS = 256
_EMBEDDED_TOGETHER = 256  # units

_PREPARE = """
create or replace temp table windows_unit as
  select account as unit, fingerprint('account:' || id) as hash from windows_account
  union all
  select org + 1_000_000_000, fingerprint('org:' || id) from windows_org;
create or replace temp table windows_judged (hours int, end_us bigint, kind varchar, key varchar, unit bigint);
create or replace temp table windows_unit_sample (
  hours int, end_us bigint, unit bigint, ordinary boolean, place int, event bigint
);
create or replace temp table windows_account_sample (
  hours int, end_us bigint, account bigint, heavy boolean, place int, event bigint
);
"""

_NOTE = """
create or replace temp table batch_judged as
with eligible as (
  select cluster from batch_cluster_sum
  join batch_cluster_spread as spread on spread."group" = cluster
  where cluster in (
    select cluster from batch_cluster join batch_window using (w) join windows_demand using (hours, kind)
    where unlikeness
  ) and units >= $min_units and prompts >= $min_cluster_prompts
), member as (
  select distinct cluster, w, unit, hash
  from batch_member join eligible using (cluster) join batch_account using ("group") join windows_unit using (unit)
)
select cluster, w, unit from member
qualify row_number() over (partition by cluster order by hash, unit) <= $cluster_units;

insert into windows_judged
  select hours, end_us, kind, key, unit
  from batch_judged join batch_cluster using (cluster, w) join batch_window using (w);

create or replace temp table batch_compared as
with account as (
  select w, account,
    sum(n) filter (kind = 'prompt') >= $heavy_prompts as heavy,
    count(*) filter (kind = 'prompt') as texts
  from batch_account join batch_tally using ("group")
  where w in (select w from batch_window join windows_demand using (hours) where kind = '' and unlikeness)
  group by all
  having texts >= $heavy_sample
)
select w, account, heavy from account join windows_unit on unit = account
where w in (select w from account where heavy)
qualify heavy or row_number() over (partition by w, heavy order by hash, account) <= $compared_accounts;

create or replace temp table batch_unit_prompt as
  select w, unit, prompt, min(event) as event
  from batch_fact join batch_account using (w, account)
  where prompt is not null and w in (select w from batch_judged union select w from batch_compared) group by all;

create or replace temp table batch_ordinary as
with unit as (
  select w, unit, least(count(*), $unit_prompts) as prompts from batch_unit_prompt group by all
)
select w, unit from unit join windows_unit using (unit)
qualify row_number() over (partition by w, ceil(log2(prompts)) order by hash, unit) <= $stratum_units;

insert into windows_unit_sample
with wanted as (
  select w, unit, bool_or(ordinary) as ordinary
  from (select w, unit, true as ordinary from batch_ordinary union all select w, unit, false from batch_judged)
  group by all
), sampled as (
  select w, unit, ordinary, event, row_number() over (partition by w, unit order by prompt) as place
  from batch_unit_prompt join wanted using (w, unit)
)
select hours, end_us, unit, ordinary, place, event
from sampled join batch_window using (w) where place <= $unit_prompts;

insert into windows_account_sample
with text as (
  select w, account, prompt, heavy, min(event) as event
  from batch_fact join batch_compared using (w, account) where prompt is not null group by all
), sampled as (
  select *, row_number() over (partition by w, account order by prompt) as place from text
)
select hours, end_us, account, heavy, place, event
from sampled join batch_window using (w) where place <= $heavy_sample;
"""

_SAMPLED = """
create or replace temp view windows_sampled as
  select event from windows_unit_sample union select event from windows_account_sample;
"""

_UNIT_TEXTS = """
select unit, hash, ordinary, text
from windows_unit_sample join windows_excerpt using (event) join windows_unit using (unit)
where hours = $hours and end_us = $end
order by unit, place
"""

_ACCOUNT_TEXTS = """
select account, heavy, text
from windows_account_sample join windows_excerpt using (event)
where hours = $hours and end_us = $end
order by account, place
"""

_JUDGED = "select kind, key, unit from windows_judged where hours = $hours and end_us = $end order by kind, key, unit"

_SCORED = """
create or replace temp table windows_cluster_score as select * from windows_cluster_score_rows;
create or replace temp table windows_account_score as
  select hours, end_us, id, z from windows_account_score_rows join windows_account using (account);
"""


def prepare_samples(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the empty tables that `note_samples` fills."""
    connection.execute(_PREPARE)


def note_samples(connection: duckdb.DuckDBPyConnection) -> None:
    """Note which clusters and heavy accounts of the batch are judged, against whom, and by which prompts."""
    parameters = {
        "min_units": MIN_UNITS,
        "min_cluster_prompts": MIN_CLUSTER_PROMPTS,
        "cluster_units": CLUSTER_UNITS,
        "unit_prompts": UNIT_PROMPTS,
        "stratum_units": STRATUM_UNITS,
        "heavy_prompts": HEAVY_PROMPTS,
        "heavy_sample": HEAVY_SAMPLE,
        "compared_accounts": COMPARED_ACCOUNTS,
    }
    for statement in connection.extract_statements(_NOTE):
        named = {name: value for name, value in parameters.items() if name in statement.named_parameters}
        connection.execute(statement, named)


def score_samples(connection: duckdb.DuckDBPyConnection, texts: Texts) -> None:
    """Make `windows_cluster_score` (hours, end_us, kind, key, z) and `windows_account_score` (hours, end_us, id, z)."""
    connection.execute(_SAMPLED)
    texts(Text.EXCERPT, "windows_sampled", "windows_excerpt")
    clusters: list[tuple[int, int, str, str, float]] = []
    accounts: list[tuple[int, int, int, float]] = []
    windows = connection.execute(
        """select hours, end_us from windows_unit_sample union select hours, end_us from windows_account_sample
        order by all"""
    ).fetchall()
    for hours, end in windows:
        window = {"hours": hours, "end": end}
        units, hashes, ordinary, means, prompts = _units(connection.execute(_UNIT_TEXTS, window).fetchnumpy())
        crowd = Ordinary.of(hashes[ordinary], means[ordinary], prompts[ordinary])
        for kind, key, group in _groups(connection.execute(_JUDGED, window).fetchall()):
            at = np.flatnonzero(np.isin(units, group))  # without those that sent no prompt
            z = unlikeness(hashes[at], means[at], prompts[at], crowd)
            if z is not None:
                clusters.append((hours, end, kind, key, round(z, 3)))
        accounts += [
            (hours, end, account, round(z, 3))
            for account, z in _heavy(connection.execute(_ACCOUNT_TEXTS, window).fetchnumpy(), crowd)
        ]
    _register("windows_cluster_score_rows", ("hours", "end_us", "kind", "key", "z"), clusters, connection)
    _register("windows_account_score_rows", ("hours", "end_us", "account", "z"), accounts, connection)
    connection.execute(_SCORED)


def _groups(rows: list[tuple[str, str, int]]) -> list[tuple[str, str, list[int]]]:
    groups: dict[tuple[str, str], list[int]] = {}
    for kind, key, unit in rows:
        groups.setdefault((kind, key), []).append(unit)
    return [(kind, key, units) for (kind, key), units in groups.items()]


def _units(
    columns: dict[str, Any],
) -> tuple[NDArray[np.int64], Hashes, NDArray[np.bool_], Vectors, NDArray[np.int64]]:
    """The units, their hashes, which are ordinary, the means of their prompts' vectors, and the prompts' numbers."""
    units, starts, prompts = np.unique(columns["unit"], return_index=True, return_counts=True)
    texts = list(columns["text"])
    means = np.empty((len(units), DIMENSIONS))
    for first in range(0, len(units), _EMBEDDED_TOGETHER):
        last = min(first + _EMBEDDED_TOGETHER, len(units))
        stop = int(starts[last]) if last < len(units) else len(texts)
        sums = np.add.reduceat(embed(texts[starts[first] : stop]), starts[first:last] - starts[first], axis=0)
        means[first:last] = sums / prompts[first:last, None]
    return units, columns["hash"][starts].astype(np.uint64), columns["ordinary"][starts].astype(bool), means, prompts


def _heavy(columns: dict[str, Any], crowd: Ordinary) -> list[tuple[int, float]]:
    """Of each heavy account, its z among all accounts with as many different prompts."""
    accounts, starts = np.unique(columns["account"], return_index=True)
    if not len(accounts) or not len(crowd.means):
        return []
    centre = crowd.means.mean(axis=0)
    texts = list(columns["text"])
    alike = np.array([self_likeness(embed(texts[start : start + HEAVY_SAMPLE]), centre) for start in starts])
    heavy = columns["heavy"][starts].astype(bool)
    scores = []
    for at in np.flatnonzero(heavy):
        z = standardised(alike[at], np.delete(alike, at))
        if z is not None:
            scores.append((int(accounts[at]), z))
    return scores


def _register(name: str, columns: tuple[str, ...], rows: list[Any], connection: duckdb.DuckDBPyConnection) -> None:
    types = {"kind": pa.string(), "key": pa.string(), "z": pa.float64()}
    table = {
        column: pa.array([row[place] for row in rows], types.get(column, pa.int64()))
        for place, column in enumerate(columns)
    }
    connection.register(name, pa.table(table))
