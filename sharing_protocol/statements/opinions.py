"""What a lab says of another's pattern: that it is right, wrong or unfinished, and that it stands for it.

One voice a lab: the id follows from who speaks of which pattern version, so a second opinion can only be the next
version of the first (`voice_id`).
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, model_validator

from sharing_protocol.statements.handling import Handling, Measured, RecordReference
from sharing_protocol.statements.header import Header, Line, Paragraphs, StrictModel, new_id

MAX_REVIEWED = 10_000
"""Reviewed matches are a sample that people looked at: its size must not tell a lab's traffic."""


class Verdict(StrEnum):
    """What a lab finds of a pattern: it holds, it hits legitimate customers, or it needs work."""

    CONFIRM = "confirm"
    FALSE_POSITIVE = "false_positive"
    NEEDS_WORK = "needs_work"


class Reviewed(StrictModel):
    """A sample of a pattern's matches, looked at by people.

    Attributes:
        reviewed: how many.
        true_positives: how many of these were what the pattern says.
        method: how the sample was drawn and judged.
    """

    reviewed: Annotated[int, Field(ge=1, le=MAX_REVIEWED)]
    true_positives: Annotated[int, Field(ge=0, le=MAX_REVIEWED)]
    method: Line

    @model_validator(mode="after")
    def _check_counts(self) -> Self:
        if self.true_positives > self.reviewed:
            raise ValueError("true_positives is not above reviewed")
        return self


class OpinionBody(Handling):
    """A lab's opinion of another lab's pattern version; to call it wrong takes counts."""

    pattern: RecordReference
    verdict: Annotated[Verdict, Field(strict=False)]
    measured: Reviewed | None
    comment: Paragraphs | None

    @model_validator(mode="after")
    def _check_measured(self) -> Self:
        if self.verdict is Verdict.FALSE_POSITIVE:
            if self.measured is None:
                raise ValueError("a false_positive opinion says in `measured` how many matches were reviewed")
            if self.measured.true_positives == self.measured.reviewed:
                raise ValueError("of a false_positive opinion's reviewed matches, not all are true positives")
        return self


class EndorsementBody(Handling):
    """That a lab stands for a pattern version: another's, which it tested on its own traffic; or its own once more,
    after the key that signed it was reported compromised.
    """

    pattern: RecordReference
    measured: Measured | None
    comment: Paragraphs | None


class Opinion(Header):
    """An opinion, or its next version."""

    type: Literal["opinion"]
    body: OpinionBody


class Endorsement(Header):
    """An endorsement, or its next version."""

    type: Literal["endorsement"]
    body: EndorsementBody


def voice_id(kind: Literal["opinion", "endorsement"], author: str, pattern_entry: str) -> str:
    """The only id under which a lab may speak of a pattern version.

    Args:
        pattern_entry: hex leaf hash of the version's entry.

    Returns:
        `<kind>--<uuid>`: the first 128 bits of SHA-256 over the three, a line each, as a UUID.
    """
    digest = hashlib.sha256(f"{kind}\n{author}\n{pattern_entry}\n".encode()).digest()
    return new_id(kind, UUID(bytes=digest[:16]))
