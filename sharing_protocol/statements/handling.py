"""What records share: their marking and the rest of their handling, references to each other, counts and measures."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from sharing_protocol.statements.header import (
    MAX_VERSION,
    Identifier,
    Line,
    Sha256Hex,
    StrictModel,
    Timestamp,
)


class Marking(StrEnum):
    """TLP 2.0 labels (FIRST)."""

    CLEAR = "clear"
    GREEN = "green"
    AMBER = "amber"
    AMBER_STRICT = "amber+strict"
    RED = "red"


class Severity(StrEnum):
    """How bad a true match is."""

    INFORMATIONAL = "informational"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


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


class Handling(StrictModel):
    """What every record says of its own use."""

    marking: Annotated[Marking, Field(strict=False)]
    purpose: Line
    legal_basis: Line
    valid_until: Timestamp


class RecordReference(StrictModel):
    """One exact version of a record: its id, its version, and the leaf hash of its entry."""

    id: Identifier
    version: Annotated[int, Field(ge=1, le=MAX_VERSION)]
    entry: Sha256Hex


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
