"""Incidents: what several labs see at once and answer together.

An incident is opened by one lab; what any lab then does about it is a record of its own that refers to it. The
timeline is a fold over these in log order, so it is the same at every lab.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from sharing_protocol.statements.handling import Handling, RecordReference, Severity
from sharing_protocol.statements.header import Header, Line, Paragraphs

MAX_NAMED = 64


class Act(StrEnum):
    """What a lab does about an incident."""

    JOIN = "join"
    UPDATE = "update"
    ESCALATE = "escalate"
    ACKNOWLEDGE = "acknowledge"
    CLOSE = "close"


class IncidentBody(Handling):
    """An incident, as its first lab tells it.

    Attributes:
        patterns: versions of the patterns that show it.
        protocol: version of the escalation protocol by which its levels move, null for none.
        level: name of the level it begins at; null for the protocol's first, or where there is no protocol.
    """

    title: Line
    description: Paragraphs
    severity: Annotated[Severity, Field(strict=False)]
    patterns: Annotated[list[RecordReference], Field(max_length=MAX_NAMED)]
    protocol: RecordReference | None
    level: Line | None


class IncidentActionBody(Handling):
    """One act.

    Attributes:
        incident: the incident's first version.
        level: of `escalate` and `acknowledge`, the level's name; null otherwise.
        patterns, sightings: what it adds.
    """

    incident: RecordReference
    action: Annotated[Act, Field(strict=False)]
    level: Line | None
    note: Paragraphs | None
    patterns: Annotated[list[RecordReference], Field(max_length=MAX_NAMED)]
    sightings: Annotated[list[RecordReference], Field(max_length=MAX_NAMED)]


class Incident(Header):
    """An incident, or its next version: the same incident, told better."""

    type: Literal["incident"]
    body: IncidentBody


class IncidentAction(Header):
    """An act; it has one version."""

    type: Literal["incident_action"]
    body: IncidentActionBody
