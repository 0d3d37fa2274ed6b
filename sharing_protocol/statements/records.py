"""Record statements: patterns, withdrawals and sightings.

Every record carries its marking, purpose, legal basis and end of validity. What may not be shared (prices,
customers, volumes, real prompts, raw identifiers) has no field here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from sharing_protocol.statements.header import (
    MAX_VERSION,
    Header,
    Identifier,
    Line,
    Paragraphs,
    Sha256Hex,
    StrictModel,
    Timestamp,
)

MAX_LOGIC_DOCUMENTS = 16
MAX_TESTS = 32
MAX_TEST_EVENTS = 200


class Marking(StrEnum):
    """TLP 2.0 labels (FIRST)."""

    CLEAR = "clear"
    GREEN = "green"
    AMBER = "amber"
    AMBER_STRICT = "amber+strict"
    RED = "red"


class PatternKind(StrEnum):
    """What a pattern looks at: single requests, accounts and clusters over time, or a parameterised method."""

    QUERY_PATTERN = "query_pattern"
    BEHAVIORAL_SIGNATURE = "behavioral_signature"
    DETECTION_METHOD = "detection_method"


class Severity(StrEnum):
    """How bad a true match is."""

    INFORMATIONAL = "informational"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Expectation(StrEnum):
    """What a pattern's own test expects."""

    MATCH = "match"
    NO_MATCH = "no_match"


class Bucket(StrEnum):
    """Counts as powers of ten, so that nobody can read a rival's traffic from them."""

    UNDER_10 = "1-9"
    UNDER_100 = "10-99"
    UNDER_1_000 = "100-999"
    UNDER_10_000 = "1000-9999"
    UNDER_100_000 = "10000-99999"
    UNDER_1_000_000 = "100000-999999"
    MILLION_AND_MORE = "1000000+"


def bucket_of(count: int) -> Bucket:
    """The bucket of a positive count.

    Raises:
        ValueError: there is no bucket for zero or less: what was not seen is not reported.
    """
    if count < 1:
        raise ValueError("only a positive count has a bucket")
    return list(Bucket)[min(len(str(count)), 7) - 1]


def lowest_of(bucket: Bucket) -> int:
    """The smallest count in a bucket."""
    return int(bucket.rstrip("+").partition("-")[0])


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


class Measured(StrictModel):
    """What a backtest found: how many events were looked at, how many matched, and how wrong that is.

    Attributes:
        events: rows looked at, as a bucket.
        match_rate: share of rows that matched, 0 to 1.
        false_positive_rate: estimated share of what is known to be legitimate that matched all the same, with its
            95 % interval; null when nobody has looked. `method` says what that was.
    """

    events: Annotated[Bucket, Field(strict=False)]
    match_rate: Annotated[float, Field(ge=0, le=1)]
    false_positive_rate: Annotated[float, Field(ge=0, le=1)] | None
    false_positive_interval: (
        Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=2, max_length=2)] | None
    )
    method: Line


class Handling(StrictModel):
    """What every record says of its own use."""

    marking: Annotated[Marking, Field(strict=False)]
    purpose: Line
    legal_basis: Line
    valid_until: Timestamp


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


class RecordReference(StrictModel):
    """One exact version of a record: its id, its version, and the leaf hash of its entry."""

    id: Identifier
    version: Annotated[int, Field(ge=1, le=MAX_VERSION)]
    entry: Sha256Hex


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


RecordStatement = Pattern | Withdrawal | Sighting
