"""What takes more than one request, added to the narrow rows of requests (`distilling`).

Accounts and organisations get numbers, models their releases, requests the gap to the account's one before.
"""

from __future__ import annotations

import duckdb

from member_client.windows.distilling import Distilled, Text

_MACROS = """
create or replace temp macro floor_to(value, step) as (value - (((value % step) + step) % step)) // step;
"""

# `gap` is the time since the account's request before, in whichever window that was.
_FACTS = """
create or replace temp table windows_account as
  select row_number() over (order by "account.id") - 1 as account, "account.id" as id
  from (select distinct "account.id" from windows_distilled where "account.id" is not null);

create or replace temp table windows_org as
  select row_number() over (order by "org.id") - 1 as org, "org.id" as id
  from (select distinct "org.id" from windows_distilled where "org.id" is not null);

create or replace temp table windows_fact as
with request as (
  select
    "event.id" as event,
    account.account,
    "timestamp" as t,
    floor_to("timestamp", 3_600_000_000) as hour,
    "account.created" as created,
    org.org,
    "payment.fingerprint" as payment,
    "client.fingerprint" as client,
    network,
    subnet,
    distilled.model,
    "timestamp" - release.t < 86_400_000_000 as new_model,
    conversation,
    one_turn,
    round("gen_ai.usage.input_tokens" * 1e6)::hugeint as input,
    round("gen_ai.usage.output_tokens" * 1e6)::hugeint as output,
    prompt,
    template,
    template_words,
    topic,
    reasoning,
    rubric
  from windows_distilled as distilled
  join windows_account as account on account.id = "account.id"
  left join windows_org as org on org.id = "org.id"
  left join windows_release as release on release.model = distilled.model
)
select
  *,
  t - lag(t) over (partition by account order by t) as gap,
  case when getvariable('windows_hits_known') then event in (select event from windows_hit) end as query_hit
from request;

create or replace temp table windows_shared_template as
  select template, min(event) as event from windows_fact
  where template is not null group by template having min(account) <> max(account);
"""

_TEMPLATES = """
create or replace temp table windows_template as
  select template, text from windows_shared_template join windows_template_text using (event);
"""


def collect_facts(
    connection: duckdb.DuckDBPyConnection,
    distilled: Distilled,
    query_pattern_hits: str | None,
    model_releases: str | None,
) -> None:
    """Make the tables `windows_account`, `windows_org`, `windows_template` and `windows_fact`."""
    connection.table(distilled.relation).create_view("windows_distilled", replace=True)
    connection.execute("set variable windows_hits_known = $1", [query_pattern_hits is not None])
    connection.execute(_MACROS)
    if query_pattern_hits is None:
        connection.execute("create or replace temp table windows_hit (event bigint)")
    else:
        connection.table(query_pattern_hits).create_view("windows_hit_source", replace=True)
        connection.execute(
            "create or replace temp table windows_hit as select distinct event_id as event from windows_hit_source"
        )
    if model_releases is None:
        connection.execute(
            """create or replace temp table windows_release as
            select model, min("timestamp") as t from windows_distilled where model is not null group by 1"""
        )
    else:
        connection.table(model_releases).create_view("windows_release_source", replace=True)
        connection.execute(
            """create or replace temp table windows_release as
            select fingerprint(model) as model, min("timestamp") as t from windows_release_source group by 1"""
        )
    connection.execute(_FACTS)
    distilled.texts(Text.TEMPLATE, "windows_shared_template", "windows_template_text")
    connection.execute(_TEMPLATES)
