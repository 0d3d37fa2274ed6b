"""An incident's statements at places of a log, as admission would have let them in."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sharing_protocol import statements
from sharing_protocol.incidents import Logged, StatusChange, Timeline, timeline
from sharing_protocol.statements import Incident, IncidentAction, Playbook, PlaybookBody
from sharing_protocol.statements.header import format_timestamp
from tests.protocol.response_bodies import Document, action_body, incident_body, playbook_body

START = datetime(2026, 5, 4, 8, tzinfo=UTC)
AURORA, BOREAL, CIRRUS, DELTA = LABS = [
    f"member--00000000-0000-4000-8000-00000000000{number}" for number in range(1, 5)
]
INCIDENT = "incident--00000000-0000-4000-8000-000000000010"
HANDLING: Document = {
    "marking": "amber",
    "purpose": "Detect adversarial distillation",
    "legal_basis": "No personal data",
    "valid_until": format_timestamp(START + timedelta(days=30)),
}
WATCH, ACT, ALARM = "Watch", "Act", "Alarm"
LEVELS = [
    {"name": WATCH, "tell": ["Duty analyst"], "acknowledge_within_minutes": 240, "approvals": 1},
    {"name": ACT, "tell": ["Head of security"], "acknowledge_within_minutes": 60, "approvals": 2},
    {"name": ALARM, "tell": ["Board"], "acknowledge_within_minutes": 30, "approvals": 1},
]


def minutes(count: float) -> datetime:
    """A moment so many minutes after the start."""
    return START + timedelta(minutes=count)


def entry_of(name: str) -> str:
    """A leaf hash."""
    return hashlib.sha256(name.encode()).hexdigest()


def reference(kind: str, number: int) -> Document:
    """A reference to a record."""
    return {"id": f"{kind}--00000000-0000-4000-8000-{number:012}", "version": 1, "entry": entry_of(f"{kind}{number}")}


PROTOCOL = reference("playbook", 20)


def protocol(**changes: Any) -> PlaybookBody:
    """The three levels above, as an escalation protocol."""
    body = playbook_body(HANDLING, **{"levels": LEVELS, **changes})
    statement = parse("playbook", PROTOCOL["id"], AURORA, START, body)
    assert isinstance(statement, Playbook)
    return statement.body


def parse(kind: str, record: str, author: str, created: datetime, body: Document, version: int = 1) -> Any:
    """A statement that came over the wire."""
    document = {
        "schema": 1,
        "forum": "0" * 64,
        "type": kind,
        "id": record,
        "version": version,
        "previous": entry_of("before") if version > 1 else None,
        "author": author,
        "created": format_timestamp(created),
        "body": body,
    }
    return statements.parse(json.dumps(document).encode())


@dataclass
class IncidentLog:
    """A log with one incident in it; every statement comes at the next index, a minute later unless it says when."""

    protocol: PlaybookBody | None = None
    versions: list[Logged[Incident]] = field(default_factory=list)
    acts: list[Logged[IncidentAction]] = field(default_factory=list)
    changes: list[StatusChange] = field(default_factory=list)
    suspect: set[int] = field(default_factory=set)
    reached: dict[int, datetime] = field(default_factory=dict)
    size: int = 100

    def open(self, lab: str = AURORA, at: datetime | None = None, **changes: Any) -> None:
        """The incident's next version."""
        named = PROTOCOL if self.protocol is not None else None
        body = incident_body(HANDLING, **{"protocol": named, **changes})
        index, created = self._next(at)
        statement = parse("incident", INCIDENT, lab, created, body, len(self.versions) + 1)
        assert isinstance(statement, Incident)
        self.versions.append(Logged(index, entry_of(f"entry {index}"), statement))

    def act(self, lab: str, action: str, level: str | None = None, at: datetime | None = None, **changes: Any) -> int:
        """An act; gives its index."""
        first = {"id": INCIDENT, "version": 1, "entry": self.versions[0].entry}
        body = {**action_body(HANDLING, first, action, level=level), **changes}
        index, created = self._next(at)
        record = f"incident-action--00000000-0000-4000-8000-{index:012}"
        statement = parse("incident_action", record, lab, created, body)
        assert isinstance(statement, IncidentAction)
        self.acts.append(Logged(index, entry_of(f"entry {index}"), statement))
        return index

    def denied(self, lab: str, action: str, level: str | None = None) -> str:
        """Why an act has no effect."""
        index = self.act(lab, action, level)
        return self.reasons()[index]

    def elsewhere(self, at: datetime) -> None:
        """A record that is none of the incident's: whatever comes next was logged after this time."""
        self.reached[self.size] = at

    def change(self, lab: str, *, active: bool, at: datetime | None = None) -> None:
        """A suspension, expulsion or reinstatement."""
        index, created = self._next(at)
        self.changes.append(StatusChange(index, lab, created, active))

    def timeline(self, now: datetime | None = None) -> Timeline:
        """What comes of it."""
        now = now or minutes(self.size - 100)
        return timeline(
            self.versions,
            self.acts,
            self.protocol,
            now,
            changes=self.changes,
            suspect=self.suspect,
            reached=self.reached,
        )

    def reasons(self) -> dict[int, str]:
        """By index, why what has no effect has none."""
        return {step.index: step.without_effect for step in self.timeline().steps if step.without_effect}

    def _next(self, at: datetime | None) -> tuple[int, datetime]:
        index = self.size
        self.size += 1
        if index in self.reached:
            self.reached[self.size] = self.reached[index]
        return index, at or minutes(index - 100)
