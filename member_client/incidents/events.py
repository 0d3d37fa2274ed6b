"""What happened in an incident that somebody in the lab may want to be told: a pure reading of its timeline."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid5

from sharing_protocol.incidents import CLOSED, OPENING, Timeline
from sharing_protocol.statements import Act
from sharing_protocol.statements.header import format_timestamp

FORMAT = "stillwatch-incident-event/1"
DIGEST = "digest"
"""What is told instead of many events by one lab; not an event that a hook can ask for."""
MAX_LISTED = 20
"""Events that a digest names, the newest; the others it counts."""
_NAMESPACE = UUID("5b0c4b0e-6d0f-5f0c-9a55-6f6d1d2c7a31")


class EventKind(StrEnum):
    """What happened: `escalated` is a level that came in force after the opening, `overdue` an acknowledgement."""

    OPENED = "opened"
    ESCALATED = "escalated"
    OVERDUE = "overdue"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        id: the same at every lab and whenever it is computed.
        index: log index of the statement that did it; of an overdue acknowledgement, that brought its level in force.
        level: in force then, None for none.
        lab: whoever did it, or owes the acknowledgement.
        occurred: when: no earlier than its author says, nor than the log allows; or when the acknowledgement was due.
    """

    id: str
    kind: EventKind
    index: int
    level: str | None
    lab: str
    occurred: datetime


def events_of(timeline: Timeline) -> Iterator[Event]:
    """What has happened, in log order, and what is overdue now."""
    level, since, entry = None, -1, ""
    for step in timeline.steps:
        if step.in_force is not None:
            level, since, entry = step.in_force, step.index, step.entry
        kind = None
        if step.action == OPENING:
            kind = EventKind.OPENED
        elif step.in_force is not None:
            kind = EventKind.ESCALATED
        elif step.action == Act.CLOSE and not step.without_effect and timeline.state == CLOSED:
            kind = EventKind.CLOSED
        if kind is not None:
            yield Event(_id(kind.value, step.entry), kind, step.index, level, step.lab, step.logged)
    for due in timeline.due:
        if due.overdue:
            kind = EventKind.OVERDUE
            yield Event(_id(kind.value, entry, due.lab), kind, since, level, due.lab, due.by)


def digest_id(events: Sequence[Event]) -> str:
    """The id of the digest of exactly these events."""
    return _id(DIGEST, *(event.id for event in events))


def delivery_key(event_id: str, hook: str) -> str:
    """What makes all deliveries of an event or a digest by one hook the same one: the idempotency key."""
    return str(uuid5(_NAMESPACE, json.dumps([event_id, hook])))


def event_document(event: Event, timeline: Timeline, names: dict[str, str], key: str) -> dict[str, Any]:
    """What a hook is told: enough to act upon and to look it up, and none of the labs' texts but the title.

    Args:
        names: of labs, by id.
        key: of the delivery.
    """
    return {
        "format": FORMAT,
        "id": event.id,
        "delivery": key,
        "event": event.kind.value,
        "occurred": format_timestamp(event.occurred),
        "index": event.index,
        "level": event.level,
        "lab": {"id": event.lab, "name": names.get(event.lab, event.lab)},
        "incident": {
            "id": timeline.id,
            "title": timeline.title,
            "severity": timeline.severity,
            "marking": timeline.marking,
            "state": timeline.state,
            "level": timeline.level,
            "labs": [{"id": lab, "name": names.get(lab, lab)} for lab in timeline.labs],
        },
    }


def digest_document(happened: Sequence[tuple[Event, Timeline]], names: dict[str, str], key: str) -> dict[str, Any]:
    """What a hook is told instead of these events, all by one lab and in log order.

    Args:
        names: of labs, by id.
        key: of the delivery.
    """
    last = happened[-1][0]
    counts = Counter(event.kind.value for event, _ in happened)
    return {
        "format": FORMAT,
        "id": digest_id([event for event, _ in happened]),
        "delivery": key,
        "event": DIGEST,
        "occurred": format_timestamp(max(event.occurred for event, _ in happened)),
        "index": last.index,
        "level": None,
        "lab": {"id": last.lab, "name": names.get(last.lab, last.lab)},
        "incident": None,
        "counts": {kind.value: counts[kind.value] for kind in EventKind if counts[kind.value]},
        "newest": [
            {
                "event": event.kind.value,
                "occurred": format_timestamp(event.occurred),
                "index": event.index,
                "level": event.level,
                "incident": {"id": timeline.id, "title": timeline.title, "marking": timeline.marking},
            }
            for event, timeline in happened[-MAX_LISTED:]
        ],
    }


def _id(kind: str, *parts: str) -> str:
    return f"event--{uuid5(_NAMESPACE, json.dumps([kind, *parts]))}"
