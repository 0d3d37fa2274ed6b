"""The features of accounts' windows, and of clusters of them, from the facts of one batch of windows.

Both are counted the same way: values (of prompts, templates, topics, hours …) by group, then their spread. Sums are
over integers, also those of logarithms (in billionths), so that neither the order of the rows nor that of the threads
shows in the result.
"""

from __future__ import annotations

import duckdb

MACROS = """
create or replace temp macro billionths(value) as round(value * 1e9)::hugeint;
create or replace temp macro evenness(total, n_log_n, classes) as case when total is not null then
  greatest(0, least(1, round((ln(total) - n_log_n::double / 1e9 / total) / ln(classes), 9))) end;
create or replace temp macro share(part, whole) as case when whole > 0 then part::double / whole end;

create or replace temp macro spread_of(tallies) as table
  select
    "group",
    count(*) filter (kind = 'prompt') as prompt_values,
    sum(n) filter (kind = 'prompt') as prompts,
    max(n) filter (kind = 'template') as top_template,
    sum(n) filter (kind = 'template') as templates,
    sum(n) filter (kind = 'topic') as topics,
    sum(billionths(n * ln(n))) filter (kind = 'topic') as topic_n_log_n,
    count(*) filter (kind = 'hour') as hours,
    count(*) filter (kind = 'model') as models,
    sum(accounts) filter (kind = 'prompt') as prompts_of_accounts,
    sum(n) filter (kind = 'prompt' and accounts > 1) as repeated_prompts,
    sum(n) filter (kind = 'template' and accounts > 1) as shared_templates
  from query_table(tallies)
  group by "group";

-- Hours are tallied from far before 1970, a multiple of 24 of them, as they must not be negative.
create or replace temp macro clock_of(tallies) as table
  select "group", sum(billionths(n * ln(n))) as clock_n_log_n
  from (
    select "group", value % 24 as clock, sum(n) as n
    from query_table(tallies) where kind = 'hour' group by all
  )
  group by "group";
"""

_ACCOUNTS = """
create or replace temp view batch_fact as
  select w, start_us, fact.* from windows_fact as fact join batch_hour using (hour) where not earlier;

create or replace temp table batch_conversation as
  select w, account, conversation, count(*) as n, count(*) filter (one_turn) as one_turn
  from batch_fact where conversation is not null group by all;

create or replace temp table batch_account as
with summed as (
  select
    w, account,
    count(*) as requests,
    max({'t': t, 'org': org}) filter (org is not null).org as org,
    max({'t': t, 'payment': payment}) filter (payment is not null).payment as payment,
    min(created) as created,
    sum(input) as input,
    sum(output) as output,
    count(output) as outputs,
    sum(input) filter (output is not null) as paired_input,
    sum(output) filter (input is not null) as paired_output,
    count(*) filter (conversation is null and one_turn) as lone_single,
    count(model) as with_model,
    count(*) filter (new_model) as new_model,
    count(reasoning) as readable,
    count(*) filter (reasoning) as reasoning,
    count(*) filter (rubric) as rubric,
    count(query_hit) as hits_known,
    count(*) filter (query_hit) as query_hits,
    count(*) filter (t - gap >= start_us) as gaps,
    sum(gap) filter (t - gap >= start_us)::hugeint as gap_sum,
    sum(gap::hugeint * gap) filter (t - gap >= start_us) as gap_squares
  from batch_fact group by all
), earlier as (
  select w, account, count(*) as requests_before
  from windows_fact join batch_hour using (hour) where earlier group by all
), conversations as (
  select w, account, count(*) as conversations, sum(one_turn) filter (n = 1) as single
  from batch_conversation group by all
)
select
  row_number() over (order by w, account) as "group",
  summed.*,
  coalesce(requests_before, 0) as requests_before,
  conversations,
  lone_single + coalesce(single, 0) as single,
  coalesce(org + 1_000_000_000, account) as unit,
  case when gaps >= 2 and gap_sum > 0 then
    round(sqrt((gaps * gap_squares - gap_sum * gap_sum)::double) / gap_sum::double, 9) end as gap_variation
from summed
left join earlier using (w, account)
left join conversations using (w, account);

create or replace temp table batch_tally as
with counted as (
  select w, account, 'prompt' as kind, prompt as value, count(*) as n
  from batch_fact where prompt is not null group by all
  union all
  select w, account, 'template', template, count(*) from batch_fact where template is not null group by all
  union all
  select w, account, 'topic', topic, count(*) from batch_fact where topic is not null group by all
  union all
  select w, account, 'hour', (hour + 1_000_000_000_008)::ubigint, count(*) from batch_fact group by all
  union all
  select w, account, 'model', model, count(*) from batch_fact where model is not null group by all
)
select "group", kind, value, n, 1 as accounts from counted join batch_account using (w, account);

create or replace temp table batch_spread as from spread_of('batch_tally');
"""

_OF_BOTH = """
  batch_window.end_us as "timestamp",
  batch_window.hours as "window.hours",
  requests as "window.requests",
  requests_before as "window.requests_before",
  conversations as "window.conversations",
  input::double / 1e6 as "window.input_tokens",
  output::double / 1e6 as "window.output_tokens",
  share(output::double / 1e6, outputs) as "window.output_tokens_per_request",
  share(paired_output::double, paired_input) as "window.output_input_ratio",
  spread.hours as "window.active_hours",
  evenness(requests, clock_n_log_n, 24) as "window.hour_entropy",
  gap_variation as "window.gap_variation",
  nullif(models, 0) as "window.models",
  share(new_model, with_model) as "window.new_model_share",
  share(prompt_values, prompts) as "window.distinct_prompt_share",
  share(single, requests) as "window.single_turn_share",
  share(top_template, templates) as "window.template_concentration",
  case topics when 1 then 0 else evenness(topics, topic_n_log_n, topics) end as "window.topic_spread",
  share(reasoning, readable) as "window.reasoning_elicitation_share",
  share(rubric, readable) as "window.rubric_elicitation_share",
  share(query_hits, hits_known) as "window.query_pattern_share",
"""

_ACCOUNT_WINDOWS = (
    """
insert into windows_of_accounts by name
select
"""
    + _OF_BOTH
    + """  windows_account.id as "account.id",
  created as "account.created",
  (batch_window.end_us - created)::double / 86_400_000_000 as "account.age_days",
  windows_org.id as "org.id",
  payment as "payment.fingerprint"
from batch_account
join batch_window using (w)
join batch_spread as spread using ("group")
join clock_of('batch_tally') using ("group")
join windows_account using (account)
left join windows_org using (org);
"""
)

# batch_cluster(cluster, w, kind, key, link_kinds, surprise) and batch_member(cluster, "group") come from links.
_CLUSTER_WINDOWS = (
    """
create or replace temp table batch_cluster_tally as
  select cluster as "group", kind, value, sum(n) as n, count(*) as accounts
  from batch_member join batch_tally using ("group") group by all;

create or replace temp table batch_cluster_spread as from spread_of('batch_cluster_tally');

create or replace temp table batch_lab_prompt as
  select w, value, sum(n) as n from batch_tally join batch_account using ("group") where kind = 'prompt' group by all;

-- Texts that several accounts sent, and ten times as many of the cluster's prompts are as of all others'.
create or replace temp table batch_cluster_repeat as
with lab as (
  select w, sum(n) as n from batch_lab_prompt group by w
)
select "group" as cluster, sum(mine.n) as repeated_within
from batch_cluster_tally as mine
join batch_cluster_spread as spread using ("group")
join batch_cluster as of_window on of_window.cluster = "group"
join batch_lab_prompt as everyone on everyone.w = of_window.w and everyone.value = mine.value
join lab on lab.w = of_window.w
where mine.kind = 'prompt' and accounts > 1
  and mine.n * (lab.n - prompts) >= 10 * prompts * (everyone.n - mine.n)
group by all;

create or replace temp table batch_cluster_sum as
with member as (
  select cluster, account.*, end_us, hours
  from batch_member
  join batch_account as account using ("group")
  join (select w, end_us from batch_window) using (w)
  join (select "group", hours from batch_spread) using ("group")
), opening as (
  select cluster, count(*) over (
    partition by cluster order by created range between 86_399_999_999 preceding and current row
  ) as together
  from batch_member join batch_account using ("group") where created is not null
), burst as (
  select cluster, max(together) as opened_together from opening group by cluster
), largest_org as (
  select cluster, max(n) as largest_org
  from (select cluster, org, count(*) as n from member where org is not null group by all) group by cluster
), various as (
  select cluster,
    count(distinct value) filter (kind = 'payment') as payments,
    count(distinct value) filter (kind = 'network') as networks,
    count(distinct value) filter (kind = 'client') as clients
  from batch_member join batch_key using ("group")
  where kind in ('payment', 'network', 'client') group by cluster
)
select
  cluster,
  count(*) as accounts,
  count(distinct unit) as units,
  count(distinct org) as orgs,
  coalesce(any_value(largest_org), 0) as largest_org,
  sum(requests) as requests,
  sum(billionths(requests * ln(requests))) as requests_n_log_n,
  sum(requests_before) as requests_before,
  sum(conversations) as conversations,
  sum(input) as input,
  sum(output) as output,
  sum(outputs) as outputs,
  sum(paired_input) as paired_input,
  sum(paired_output) as paired_output,
  sum(single) as single,
  sum(with_model) as with_model,
  sum(new_model) as new_model,
  sum(readable) as readable,
  sum(reasoning) as reasoning,
  sum(rubric) as rubric,
  sum(hits_known) as hits_known,
  sum(query_hits) as query_hits,
  sum(billionths(gap_variation))::double / 1e9 / count(gap_variation) as gap_variation,
  sum(hours) as account_hours,
  count(created) as opened,
  any_value(opened_together) as opened_together,
  count(*) filter (created >= end_us - 604_800_000_000) as opened_lately,
  nullif(any_value(payments), 0) as payments,
  nullif(any_value(networks), 0) as networks,
  nullif(any_value(clients), 0) as clients
from member
left join burst using (cluster) left join largest_org using (cluster) left join various using (cluster)
group by cluster;

insert into windows_of_clusters by name
select
"""  # noqa: S608 - both parts are constants
    + _OF_BOTH
    + """  kind as "cluster.key_kind",
  key as "cluster.key",
  accounts as "cluster.accounts",
  units as "cluster.units",
  orgs as "cluster.orgs",
  share(largest_org, accounts) as "cluster.largest_org_share",
  payments as "cluster.payments",
  networks as "cluster.networks",
  clients as "cluster.clients",
  share(requests, accounts) as "cluster.requests_per_account",
  share(opened_together, opened) as "cluster.creation_burst_share",
  share(opened_lately, opened) as "cluster.new_account_share",
  evenness(requests, requests_n_log_n, accounts) as "cluster.load_evenness",
  share(account_hours, accounts * spread.hours) as "cluster.shared_hours_share",
  share(coalesce(repeated_prompts, 0), prompts) as "cluster.repeated_prompt_share",
  share(coalesce(repeated_within, 0), prompts) as "cluster.repeated_within_share",
  share(prompts_of_accounts, prompts) as "cluster.distinct_by_account_share",
  share(coalesce(shared_templates, 0), templates) as "cluster.shared_template_share",
  link_kinds as "cluster.link_kinds",
  surprise as "cluster.link_surprise"
from batch_cluster
join batch_window using (w)
join batch_cluster_sum using (cluster)
join batch_cluster_spread as spread on spread."group" = cluster
left join batch_cluster_repeat using (cluster)
join clock_of('batch_cluster_tally') as clock on clock."group" = cluster;

insert into windows_members
  select hours, end_us, kind, key, id
  from batch_member
  join batch_cluster using (cluster)
  join batch_window using (w)
  join batch_account using ("group")
  join windows_account using (account);
"""
)


def add_account_windows(connection: duckdb.DuckDBPyConnection) -> None:
    """Tally the batch's accounts (`batch_account`, `batch_tally`) and add their windows to `windows_of_accounts`."""
    connection.execute(_ACCOUNTS)
    connection.execute(_ACCOUNT_WINDOWS)


def add_cluster_windows(connection: duckdb.DuckDBPyConnection) -> None:
    """Add the windows of the batch's clusters to `windows_of_clusters`, and their accounts to `windows_members`."""
    connection.execute(_CLUSTER_WINDOWS)
