"""One narrow row a request: everything that windows need of it alone, and none of its text.

It is worked out where the request is, in the lab's own engine or on a machine of its Spark, by the same SQL. What takes
more than one request comes after (`facts`), and the few texts that windows need are looked up by event (`Texts`).

Texts are kept as 64 bits of their MD5, which is the same in every process and version. Two texts of ten million
share them with a chance of 3 in a million, and whoever forges such a pair makes two prompts count as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import duckdb
import pyarrow as pa

from member_client.windows.unlikeness import EXCERPT_BYTES

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


_DISTILLED = """
    "event.id",
    "timestamp",
    "account.id",
    "account.created",
    "org.id",
    "payment.fingerprint",
    "client.fingerprint",
    "network.asn"::bigint::varchar as network,
    subnet_of(lower("network.ip")) as subnet,
    fingerprint("gen_ai.request.model") as model,
    fingerprint("account.id" || chr(0) || "gen_ai.conversation.id") as conversation,
    coalesce("prompt.turns", 1) = 1 as one_turn,
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
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
"""


class Text(Enum):
    """A text of a request that windows need of some: its SQL over category `request`."""

    TEMPLATE = '"prompt.template"'
    EXCERPT = f'substring("prompt.text", 1, {EXCERPT_BYTES})'


class Texts(Protocol):
    """Finds the texts of a few requests."""

    def __call__(self, text: Text, events: str, into: str) -> None:
        """Create the temporary table `into` with `event` and `text`, for each `event` in the relation `events`."""


@dataclass(frozen=True, slots=True)
class Distilled:
    """A log of which only the narrow rows are at hand.

    Attributes:
        relation: of the rows that `distilled_rows` gives, perhaps with more columns.
        texts: finds the texts of some of its requests.
    """

    relation: str
    texts: Texts


def prepare_distilling(connection: duckdb.DuckDBPyConnection) -> None:
    """Let a connection run `distilled_rows`."""
    connection.execute("set variable windows_reasoning = $1", [REASONING_ELICITATION])
    connection.execute("set variable windows_rubric = $1", [RUBRIC_ELICITATION])
    connection.execute(_MACROS)


def distilled_rows(requests: str, also: Sequence[str] = ()) -> str:
    """A query of the narrow rows of all requests that have a `timestamp`.

    Those without an `account.id` are among them: they, too, may be the first that ask for a model.

    Args:
        requests: relation with the columns of category `request` and `"event.id"`; times in microseconds.
        also: SQL of more columns, for findings.
    """
    columns = ", ".join([_DISTILLED, *also])
    return f'select {columns} from {requests} where "timestamp" is not null'  # noqa: S608 - ours


def distilled_from(connection: duckdb.DuckDBPyConnection, requests: str) -> Distilled:
    """The narrow rows of requests that are themselves a relation of the connection, prepared; see `distilled_rows`."""
    connection.execute(f"create or replace temp view windows_narrow as {distilled_rows(requests)}")

    def texts(text: Text, events: str, into: str) -> None:
        connection.execute(
            f"""create or replace temp table {into} as
            select "event.id" as event, {text.value} as text from {requests}
            where "event.id" in (select event from {events})"""  # noqa: S608 - ours
        )

    return Distilled("windows_narrow", texts)


class Distiller:
    """Distils batches of requests where they are read, on a connection that is given to it alone."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, also: Sequence[str] = ()) -> None:
        """Prepare the connection.

        Args:
            also: names of more columns, for findings.
        """
        prepare_distilling(connection)
        self._connection = connection
        self._rows = distilled_rows("batch", [f'"{name}"' for name in also])

    def rows(self, batch: pa.RecordBatch) -> pa.Table:
        """The narrow rows of a batch with all columns of category `request`."""
        return self._asked(batch, self._rows)

    def texts(self, batch: pa.RecordBatch, wanted: Sequence[Text]) -> pa.Table:
        """`event`, and by the names of `wanted` those texts, of the requests that windows could ask for them."""
        columns = ", ".join(f"{one.value} as {one.name}" for one in wanted)
        query = f"""select "event.id" as event, {columns} from batch
            where "timestamp" is not null and "account.id" is not null
            and ("prompt.text" is not null or "prompt.template" is not null)"""  # noqa: S608 - ours
        return self._asked(batch, query)

    def _asked(self, batch: pa.RecordBatch, query: str) -> pa.Table:
        self._connection.register("batch", pa.Table.from_batches([batch]))
        try:
            return self._connection.sql(query).to_arrow_table()
        finally:
            self._connection.unregister("batch")
