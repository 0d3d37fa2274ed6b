"""The fields that patterns may speak about, by log source category.

`docs/log-sources.md` says the same in prose with the formulas; a test keeps the two in step. Names follow
OpenTelemetry's GenAI conventions where those have one; `otel` names the attribute that carries the value.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

PRODUCT = "llm_api"


class Category(StrEnum):
    """What one event stands for."""

    REQUEST = "request"
    ACCOUNT_WINDOW = "account_window"
    CLUSTER_WINDOW = "cluster_window"


class FieldType(StrEnum):
    """How a field's values are read; a value of another JSON type counts as absent."""

    TEXT = "text"
    ADDRESS = "address"  # an IP address as text
    INTEGER = "integer"
    NUMBER = "number"
    SHARE = "share"  # a number from 0 to 1
    BOOLEAN = "boolean"
    TIME = "time"  # RFC 3339 with offset, or seconds since 1970


NUMERIC = frozenset({FieldType.INTEGER, FieldType.NUMBER, FieldType.SHARE})


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the catalogue.

    Attributes:
        name: as events and rules write it.
        type: how values are read.
        unit: of numbers; empty for what has none.
        meaning: one clause; formulas are in docs/log-sources.md.
        otel: the OpenTelemetry attribute with this value, if there is one.
    """

    name: str
    type: FieldType
    unit: str
    meaning: str
    otel: str = ""


_TIME = FieldType.TIME
_TEXT = FieldType.TEXT
_INTEGER = FieldType.INTEGER
_NUMBER = FieldType.NUMBER
_SHARE = FieldType.SHARE

_REQUEST = (
    Field("timestamp", _TIME, "", "when the request arrived"),
    Field("account.id", _TEXT, "", "the account that sent it"),
    Field("account.created", _TIME, "", "when the account was opened"),
    Field("org.id", _TEXT, "", "the organisation that the account belongs to"),
    Field("payment.fingerprint", _TEXT, "", "the lab's keyed hash of the payment instrument"),
    Field("network.ip", FieldType.ADDRESS, "", "the client's address", "client.address"),
    Field("network.asn", _INTEGER, "", "number of the autonomous system that the address belongs to"),
    Field("client.fingerprint", _TEXT, "", "fingerprint of the client software's TLS and HTTP behaviour"),
    Field("user_agent.original", _TEXT, "", "the User-Agent header", "user_agent.original"),
    Field("gen_ai.operation.name", _TEXT, "", "the kind of operation, such as chat", "gen_ai.operation.name"),
    Field("gen_ai.request.model", _TEXT, "", "the model asked for", "gen_ai.request.model"),
    Field("gen_ai.response.model", _TEXT, "", "the model that answered", "gen_ai.response.model"),
    Field("gen_ai.conversation.id", _TEXT, "", "the conversation, where one is kept", "gen_ai.conversation.id"),
    Field("gen_ai.request.temperature", _NUMBER, "", "sampling temperature asked for", "gen_ai.request.temperature"),
    Field("gen_ai.request.max_tokens", _INTEGER, "tokens", "longest answer asked for", "gen_ai.request.max_tokens"),
    Field("gen_ai.request.choice.count", _INTEGER, "answers", "answers asked for", "gen_ai.request.choice.count"),
    Field("gen_ai.output.type", _TEXT, "", "form of the answer asked for, such as json", "gen_ai.output.type"),
    Field("gen_ai.usage.input_tokens", _INTEGER, "tokens", "tokens read", "gen_ai.usage.input_tokens"),
    Field("gen_ai.usage.output_tokens", _INTEGER, "tokens", "tokens written", "gen_ai.usage.output_tokens"),
    Field(
        "prompt.text", _TEXT, "", "the last user message, its text parts joined by line feeds", "gen_ai.input.messages"
    ),
    Field("prompt.system", _TEXT, "", "the system instructions, joined likewise", "gen_ai.system_instructions"),
    Field("prompt.turns", _INTEGER, "messages", "user messages in the request, the last one included"),
    Field("prompt.template", _TEXT, "", "skeleton of the prompt's beginning, equal for prompts made from one template"),
    Field("request.tools", _INTEGER, "tools", "tools offered to the model", "gen_ai.tool.definitions"),
    Field("request.batch", FieldType.BOOLEAN, "", "sent through a batch interface"),
)

_WINDOW = (
    Field("timestamp", _TIME, "", "end of the window, which is not part of it"),
    Field("window.hours", _INTEGER, "h", "length of the window: 1, 24 or 168"),
    Field("window.requests", _INTEGER, "requests", "requests in the window"),
    Field("window.requests_before", _INTEGER, "requests", "requests in the window of the same length just before"),
    Field("window.conversations", _INTEGER, "conversations", "distinct conversations"),
    Field("window.input_tokens", _INTEGER, "tokens", "tokens read, summed"),
    Field("window.output_tokens", _INTEGER, "tokens", "tokens written, summed"),
    Field("window.output_tokens_per_request", _NUMBER, "tokens", "mean tokens written a request"),
    Field("window.output_input_ratio", _NUMBER, "", "tokens written for each token read"),
    Field("window.active_hours", _INTEGER, "h", "distinct clock hours (UTC) with a request"),
    Field("window.hour_entropy", _SHARE, "share", "evenness of the requests over the 24 hours of the clock (UTC)"),
    Field("window.gap_variation", _NUMBER, "", "irregularity of an account's requests: 0 a metronome, about 1 chance"),
    Field("window.models", _INTEGER, "models", "distinct models asked for"),
    Field("window.new_model_share", _SHARE, "share", "requests to a model within 24 h of its release"),
    Field("window.distinct_prompt_share", _SHARE, "share", "distinct prompt texts among the prompts"),
    Field("window.single_turn_share", _SHARE, "share", "requests whose conversation is that one request"),
    Field("window.template_concentration", _SHARE, "share", "prompts made from the most frequent template"),
    Field("window.topic_spread", _SHARE, "share", "evenness of the topics: 0 one topic, 1 each prompt its own"),
    Field("window.reasoning_elicitation_share", _SHARE, "share", "prompts that ask for written-out reasoning"),
    Field("window.rubric_elicitation_share", _SHARE, "share", "prompts that ask for grades, rubrics or preferences"),
    Field("window.query_pattern_share", _SHARE, "share", "requests that a query pattern in force matched"),
    Field("window.mmd_z", _NUMBER, "", "how unlike ordinary traffic the prompts are, in standard deviations of chance"),
)

_ACCOUNT_WINDOW = (
    *_WINDOW,
    Field("account.id", _TEXT, "", "the account"),
    Field("account.created", _TIME, "", "when the account was opened"),
    Field("account.age_days", _NUMBER, "d", "age of the account at the end of the window"),
    Field("org.id", _TEXT, "", "the organisation that the account belongs to"),
    Field("payment.fingerprint", _TEXT, "", "the lab's keyed hash of the payment instrument"),
)

_CLUSTER_WINDOW = (
    *_WINDOW,
    Field(
        "cluster.key_kind",
        _TEXT,
        "",
        "what links the accounts: payment, subnet, network, client, template, creation_burst, component",
    ),
    Field("cluster.key", _TEXT, "", "the linking value, of the lab's own making"),
    Field("cluster.accounts", _INTEGER, "accounts", "accounts with a request in the window"),
    Field("cluster.units", _INTEGER, "parties", "unrelated parties: accounts, those of one organisation counted once"),
    Field("cluster.orgs", _INTEGER, "organisations", "distinct organisations among the accounts"),
    Field("cluster.largest_org_share", _SHARE, "share", "accounts that belong to the most frequent organisation"),
    Field("cluster.payments", _INTEGER, "instruments", "distinct payment fingerprints"),
    Field("cluster.networks", _INTEGER, "systems", "distinct autonomous systems"),
    Field("cluster.clients", _INTEGER, "clients", "distinct client fingerprints"),
    Field("cluster.requests_per_account", _NUMBER, "requests", "mean requests an account"),
    Field("cluster.creation_burst_share", _SHARE, "share", "accounts opened within the busiest 24 h of openings"),
    Field("cluster.new_account_share", _SHARE, "share", "accounts opened in the seven days before the window's end"),
    Field("cluster.load_evenness", _SHARE, "share", "evenness of requests over accounts: 1 means all the same"),
    Field("cluster.shared_hours_share", _SHARE, "share", "accounts active in an hour, averaged over the active hours"),
    Field("cluster.repeated_prompt_share", _SHARE, "share", "prompts whose exact text several of the accounts sent"),
    Field("cluster.repeated_within_share", _SHARE, "share", "prompts sent by several of the accounts and few others"),
    Field("cluster.distinct_by_account_share", _SHARE, "share", "an account's different prompts among its prompts"),
    Field("cluster.shared_template_share", _SHARE, "share", "prompts whose template several of the accounts used"),
    Field("cluster.link_kinds", _INTEGER, "kinds", "kinds of links that hold the cluster together"),
    Field("cluster.link_surprise", _NUMBER, "", "how improbable the link is by chance: minus log10 of a bound on it"),
)

_CATALOGUE: Mapping[Category, Mapping[str, Field]] = MappingProxyType(
    {
        category: MappingProxyType({field.name: field for field in fields})
        for category, fields in (
            (Category.REQUEST, _REQUEST),
            (Category.ACCOUNT_WINDOW, _ACCOUNT_WINDOW),
            (Category.CLUSTER_WINDOW, _CLUSTER_WINDOW),
        )
    }
)


def fields_in(category: Category) -> Mapping[str, Field]:
    """The fields of one category, by name, in the order of the documentation."""
    return _CATALOGUE[category]


def how_to_mend_field(name: str, category: Category) -> str:
    """Advice for a field name that the category does not have: the nearest name, or where it does exist."""
    elsewhere = [str(other) for other in Category if other is not category and name in _CATALOGUE[other]]
    if elsewhere:
        return f"it exists in category {' and '.join(elsewhere)} only"
    near = difflib.get_close_matches(name, _CATALOGUE[category], n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else f"docs/log-sources.md lists the fields of category {category}"
