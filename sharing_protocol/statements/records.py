"""Record statements: patterns, withdrawals and sightings, and what all records have in common.

Every record carries its marking, purpose, legal basis and end of validity. What may not be shared (prices,
customers, volumes, real prompts, raw identifiers) has no field here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import Field

from sharing_protocol.statements.handling import Bucket, Handling, Measured, RecordReference, Severity
from sharing_protocol.statements.header import Header, Identifier, Line, Paragraphs, StrictModel, Timestamp
from sharing_protocol.statements.incidents import Incident, IncidentAction
from sharing_protocol.statements.opinions import Endorsement, Opinion
from sharing_protocol.statements.playbooks import Playbook, ReferralCriteria

MAX_LOGIC_DOCUMENTS = 16
MAX_TESTS = 32
MAX_TEST_EVENTS = 200


class PatternKind(StrEnum):
    """What a pattern looks at: single requests, accounts and clusters over time, or a parameterised method."""

    QUERY_PATTERN = "query_pattern"
    BEHAVIORAL_SIGNATURE = "behavioral_signature"
    DETECTION_METHOD = "detection_method"


class Expectation(StrEnum):
    """What a pattern's own test expects."""

    MATCH = "match"
    NO_MATCH = "no_match"


class Reference(StrictModel):
    """A public source."""

    title: Line
    url: Annotated[str, Field(pattern=r"^https?://[!#-;=?-~]{1,500}$")]


class Method(StrictModel):
    """The parameters of a detection method: what it is called, what it reads, and its thresholds."""

    name: Line
    features: Annotated[list[Line], Field(min_length=1, max_length=64)]
    parameters: Annotated[dict[Line, int | float], Field(max_length=64)]


class PatternTest(StrictModel):
    """A small list of synthetic events that must, or must not, match."""

    name: Line
    expect: Annotated[Expectation, Field(strict=False)]
    events: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MAX_TEST_EVENTS)]
    synthetic: Literal[True]


class PatternBody(Handling):
    """An executable pattern and its own tests."""

    kind: Annotated[PatternKind, Field(strict=False)]
    title: Line
    description: Paragraphs
    techniques: Annotated[
        list[Annotated[str, Field(pattern=r"^AML\.T[0-9]{4}(\.[0-9]{3})?$")]],
        Field(min_length=1, max_length=16),
    ]
    severity: Annotated[Severity, Field(strict=False)]
    confidence: Annotated[int, Field(ge=0, le=100)]
    valid_from: Timestamp
    references: Annotated[list[Reference], Field(max_length=32)]
    method: Method | None
    logic: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MAX_LOGIC_DOCUMENTS)]
    tests: Annotated[list[PatternTest], Field(min_length=2, max_length=MAX_TESTS)]
    measured: Measured | None
    playbook: Identifier | None


class WithdrawalBody(Handling):
    """Withdraws the author's own record, whose newest version it names."""

    record: RecordReference
    reason: Paragraphs


class SightingBody(Handling):
    """That a pattern was seen, when, and roughly how much.

    Attributes:
        period_start, period_end: whole days; from the first to the day after the last.
        matches: requests or windows that matched.
        accounts: distinct accounts among them, null when the log knows none.
    """

    pattern: RecordReference
    period_start: Timestamp
    period_end: Timestamp
    matches: Annotated[Bucket, Field(strict=False)]
    accounts: Annotated[Bucket, Field(strict=False)] | None


class Pattern(Header):
    """A pattern, or its next version."""

    type: Literal["pattern"]
    body: PatternBody


class Withdrawal(Header):
    """A withdrawal; it has one version."""

    type: Literal["withdrawal"]
    body: WithdrawalBody


class Sighting(Header):
    """A sighting, or its next version."""

    type: Literal["sighting"]
    body: SightingBody


RecordStatement = (
    Pattern | Withdrawal | Sighting | Opinion | Endorsement | Playbook | ReferralCriteria | Incident | IncidentAction
)

RECORD_TYPES: tuple[str, ...] = tuple(
    get_args(one.model_fields["type"].annotation)[0] for one in get_args(RecordStatement)
)
"""Every record's type, in the order of `RecordStatement`."""


@dataclass(frozen=True, slots=True)
class Named:
    """A reference in a record.

    Attributes:
        where: JSON path.
        type: of the record that it has to name; "" for the one that a withdrawal withdraws.
    """

    reference: RecordReference
    where: str
    type: str


def references_in(statement: RecordStatement) -> Iterator[Named]:
    """What a record refers to; first of all, if anything, the one record that it is about."""
    match statement:
        case Pattern():
            return
        case Withdrawal():
            yield Named(statement.body.record, "body.record", "")
        case Sighting() | Opinion() | Endorsement():
            yield Named(statement.body.pattern, "body.pattern", "pattern")
        case Incident():
            yield from _listed(statement.body.patterns, "pattern")
            if statement.body.protocol is not None:
                yield Named(statement.body.protocol, "body.protocol", "playbook")
        case IncidentAction():
            yield Named(statement.body.incident, "body.incident", "incident")
            yield from _listed(statement.body.patterns, "pattern")
            yield from _listed(statement.body.sightings, "sighting")


def is_about(statement: RecordStatement) -> str:
    """Id of the one record that a record is about, "" for a record of its own."""
    if isinstance(statement, Pattern | Playbook | ReferralCriteria | Incident):
        return ""
    return next(references_in(statement)).reference.id


class Headline(NamedTuple):
    """What lists of records show; "" for what a record of its type does not have."""

    title: str = ""
    description: str = ""
    kind: str = ""
    severity: str = ""
    techniques: tuple[str, ...] = ()


def headline_of(statement: RecordStatement) -> Headline:
    """What lists of records show of this one."""
    match statement:
        case Pattern(body=body):
            kind, severity = body.kind.value, body.severity.value
            return Headline(body.title, body.description, kind, severity, tuple(body.techniques))
        case Playbook(body=body):
            return Headline(body.title, body.description, body.kind.value)
        case ReferralCriteria(body=body):
            return Headline(body.title, body.description)
        case Incident(body=body):
            return Headline(body.title, body.description, severity=body.severity.value)
        case _:
            return Headline()


def _listed(references: list[RecordReference], kind: str) -> Iterator[Named]:
    for place, reference in enumerate(references):
        yield Named(reference, f"body.{kind}s.{place}", kind)
