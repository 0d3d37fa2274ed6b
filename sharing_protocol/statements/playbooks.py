"""What labs agree to do: escalation protocols, revocation procedures, and when to turn to law enforcement."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from sharing_protocol.statements.handling import Handling
from sharing_protocol.statements.header import Header, Line, Paragraphs, StrictModel

MAX_LEVELS = 8
MAX_MINUTES = 60 * 24 * 90
MAX_CRITERIA = 32


class PlaybookKind(StrEnum):
    """Who is told within what time, or how access is revoked and restored."""

    ESCALATION_PROTOCOL = "escalation_protocol"
    REVOCATION_PROCEDURE = "revocation_procedure"


class EscalationLevel(StrictModel):
    """One level of an escalation protocol; the first is where an incident begins.

    Attributes:
        tell: roles or functions that are told, no persons.
        acknowledge_within_minutes: within which every lab that joined acknowledges the level.
        approvals: how many labs must have asked for it before it is in force; 1 is whoever escalates.
    """

    name: Line
    tell: Annotated[list[Line], Field(min_length=1, max_length=32)]
    acknowledge_within_minutes: Annotated[int, Field(ge=1, le=MAX_MINUTES)]
    approvals: Annotated[int, Field(ge=1, le=16)]


class PlaybookBody(Handling):
    """A playbook.

    Attributes:
        levels: of an escalation protocol, the lowest first; none of anything else.
        cacao: the steps, as a CACAO 2.0 playbook (OASIS) of our subset; checked as content.
    """

    kind: Annotated[PlaybookKind, Field(strict=False)]
    title: Line
    description: Paragraphs
    levels: Annotated[list[EscalationLevel], Field(max_length=MAX_LEVELS)]
    cacao: dict[str, Any]

    @model_validator(mode="after")
    def _check_levels(self) -> Self:
        if (self.kind is PlaybookKind.ESCALATION_PROTOCOL) != bool(self.levels):
            raise ValueError("an escalation_protocol, and no other kind, has levels")
        if len({level.name for level in self.levels}) < len(self.levels):
            raise ValueError("levels have different names")
        return self


class Measure(StrEnum):
    """What a criterion counts; `attested` is answered by a person, 1 for yes."""

    LABS = "labs"
    PATTERNS = "patterns"
    SIGHTINGS = "sightings"
    MATCHES = "matches"
    ACCOUNTS = "accounts"
    DAYS = "days"
    ENDORSEMENTS = "endorsements"
    ESCALATION_LEVEL = "escalation_level"
    ATTESTED = "attested"


class RequiredEvidence(StrEnum):
    """What a referral has to bring."""

    PATTERN_VERSIONS = "pattern_versions"
    SIGHTINGS = "sightings"
    TIMELINE = "timeline"
    INCLUSION_PROOFS = "inclusion_proofs"
    COSIGNATURES = "cosignatures"
    LOCAL_EVIDENCE_HASHES = "local_evidence_hashes"
    CUSTODY = "custody"


class Criterion(StrictModel):
    """One threshold. Bucketed counts are taken at the lowest that they can be."""

    name: Line
    measure: Annotated[Measure, Field(strict=False)]
    at_least: Annotated[int, Field(ge=1, le=1_000_000_000)]
    required: bool


class ReferralCriteriaBody(Handling):
    """When a lab may turn to an authority, and with what.

    Attributes:
        jurisdiction: country or region whose law it is about.
        authority: the kind of authority.
        statute: the law that is thought to be broken.
    """

    title: Line
    description: Paragraphs
    jurisdiction: Line
    authority: Line
    statute: Line
    criteria: Annotated[list[Criterion], Field(min_length=1, max_length=MAX_CRITERIA)]
    evidence: Annotated[
        list[Annotated[RequiredEvidence, Field(strict=False)]], Field(min_length=1, max_length=len(RequiredEvidence))
    ]

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        if len({criterion.name for criterion in self.criteria}) < len(self.criteria):
            raise ValueError("criteria have different names")
        if len(set(self.evidence)) < len(self.evidence):
            raise ValueError("evidence is named once")
        return self


class Playbook(Header):
    """A playbook, or its next version."""

    type: Literal["playbook"]
    body: PlaybookBody


class ReferralCriteria(Header):
    """Referral criteria, or their next version."""

    type: Literal["referral_criteria"]
    body: ReferralCriteriaBody
