"""One narrow row a request: everything that windows need of it, and none of its text.

Texts are kept as 64 bits of their MD5, which is the same in every process and version. Two texts of ten million
share them with a chance of 3 in a million, and whoever forges such a pair makes two prompts count as one.
"""

from __future__ import annotations

import duckdb

REASONING_ELICITATION = (
    r"(?i)step[- ]by[- ]step|chain[- ]of[- ]thought|show (all )?your (work|reasoning|thinking)"
    r"|think (aloud|out loud)|<think|your (full|complete|entire) (reasoning|thought process|train of thought)"
)
RUBRIC_ELICITATION = (
    r"(?i)\brubrics?\b|\b(grading|scoring|evaluation|judging) (criteria|criterion|scale|guidelines?)\b"
    r"|\b(rate|score|grade|rank)\b.{0,60}\b(response|answer|output|completion|reply|essay|solution)s?\b"
    r"|\bfrom [01] (to|through) (5|10|100)\b|\bscale of [01]\b|\b[01]-(5|10|100) scale\b"
    r"|\b(which|what) (response|answer|output|completion|reply|one|of the (two|following) \w+) (is|was) "
    r"(better|best|preferred|more (helpful|harmless|accurate))"
    r"|\b(better|preferred|chosen|rejected) (response|answer|output|completion|reply)\b"
    r"|\bassistant [a1]\b.{0,400}\bassistant [b2]\b|\bimpartial judge\b"
)

_MACROS = """
create or replace temp macro floor_to(value, step) as (value - (((value % step) + step) % step)) // step;
create or replace temp macro fingerprint(value) as md5_number_lower(value);
create or replace temp macro longest(words) as
  list_min(list_transform(words, lambda word: {'length': -length(word), 'word': word})).word;
create or replace temp macro behind(text, beginning) as
  case when beginning = '' then '' else substring(text, length(beginning) + 1) end;
create or replace temp macro behind_eight_words(text) as
  behind(text, regexp_extract(text, '^\\s*(?:\\S+\\s+){8}'));
create or replace temp macro topic_of(rest) as case
  when rest = '' then null
  when regexp_matches(rest, '\\p{L}{12}') then longest(regexp_extract_all(rest, '\\p{L}{12,}'))
  when regexp_matches(rest, '\\p{L}{8}') then longest(regexp_extract_all(rest, '\\p{L}{8,}'))
  else longest(regexp_extract_all(rest, '\\p{L}+')) end;
create or replace temp macro without_zeros(hextet) as
  case when ltrim(hextet, '0') = '' then '0' else ltrim(hextet, '0') end;
create or replace temp macro hextets(address) as
  list_concat(string_split(split_part(address, '::', 1), ':'), ['0', '0', '0']);
create or replace temp macro subnet_of(address) as case
  when regexp_matches(address, '^(::ffff:)?[0-9]{1,3}([.][0-9]{1,3}){3}$')
    then regexp_extract(address, '([0-9]+[.][0-9]+[.][0-9]+)[.][0-9]+$', 1) || '.0/24'
  when regexp_matches(address, '^[0-9a-f:]*:[0-9a-f:]*$')
    then array_to_string(list_transform(hextets(address)[1:3], lambda hextet: without_zeros(hextet)), ':') || '::/48'
  end;
"""

# `gap` is the time since the account's request before, in whichever window that was.
_FACTS = """
create or replace temp table windows_account as
  select row_number() over (order by "account.id") - 1 as account, "account.id" as id
  from (select distinct "account.id" from windows_source where "account.id" is not null and "timestamp" is not null);

create or replace temp table windows_org as
  select row_number() over (order by "org.id") - 1 as org, "org.id" as id
  from (select distinct "org.id" from windows_source where "org.id" is not null);

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
    "network.asn"::bigint::varchar as network,
    subnet_of(lower("network.ip")) as subnet,
    fingerprint("gen_ai.request.model") as model,
    "timestamp" - release.t < 86_400_000_000 as new_model,
    fingerprint("account.id" || chr(0) || "gen_ai.conversation.id") as conversation,
    coalesce("prompt.turns", 1) = 1 as one_turn,
    round("gen_ai.usage.input_tokens" * 1e6)::hugeint as input,
    round("gen_ai.usage.output_tokens" * 1e6)::hugeint as output,
    fingerprint("prompt.text") as prompt,
    fingerprint("prompt.template") as template,
    length("prompt.template") - length(replace("prompt.template", ' ', '')) + 1 as template_words,
    fingerprint(topic_of(behind_eight_words(lower(substring("prompt.text", 1, 4000))))) as topic,
    case when "prompt.text" is not null or "prompt.system" is not null then
      coalesce(regexp_matches("prompt.text", getvariable('windows_reasoning')), false)
      or coalesce(regexp_matches("prompt.system", getvariable('windows_reasoning')), false) end as reasoning,
    case when "prompt.text" is not null or "prompt.system" is not null then
      coalesce(regexp_matches("prompt.text", getvariable('windows_rubric')), false)
      or coalesce(regexp_matches("prompt.system", getvariable('windows_rubric')), false) end as rubric
  from windows_source
  join windows_account as account on account.id = "account.id"
  left join windows_org as org on org.id = "org.id"
  left join windows_release as release on release.model = "gen_ai.request.model"
  where "timestamp" is not null
)
select
  *,
  t - lag(t) over (partition by account order by t) as gap,
  case when getvariable('windows_hits_known') then event in (select event from windows_hit) end as query_hit
from request;

create or replace temp table windows_template as
  select fingerprint("prompt.template") as template, min("prompt.template") as text
  from windows_source
  where "prompt.template" is not null and "account.id" is not null and "timestamp" is not null
  group by 1
  having min("account.id") <> max("account.id");
"""


def collect_facts(
    connection: duckdb.DuckDBPyConnection, requests: str, query_pattern_hits: str | None, model_releases: str | None
) -> None:
    """Make the tables `windows_account`, `windows_org`, `windows_template` and `windows_fact`."""
    connection.table(requests).create_view("windows_source", replace=True)
    connection.execute("set variable windows_reasoning = $1", [REASONING_ELICITATION])
    connection.execute("set variable windows_rubric = $1", [RUBRIC_ELICITATION])
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
            select "gen_ai.request.model" as model, min("timestamp") as t from windows_source
            where "gen_ai.request.model" is not null and "timestamp" is not null group by 1"""
        )
    else:
        connection.table(model_releases).create_view("windows_release_source", replace=True)
        connection.execute(
            """create or replace temp table windows_release as
            select model, min("timestamp") as t from windows_release_source group by 1"""
        )
    connection.execute(_FACTS)
