"""Bodies of the records by which labs answer: opinions, endorsements, playbooks, referral criteria, incidents."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]

PROCEDURE: Document = {
    "type": "playbook",
    "spec_version": "cacao-2.0",
    "id": "playbook--00000000-0000-4000-8000-000000000001",
    "name": "Tell the other labs",
    "created_by": "identity--00000000-0000-4000-8000-000000000002",
    "created": "2026-03-01T00:00:00.000Z",
    "modified": "2026-03-01T00:00:00.000Z",
    "playbook_types": ["notification"],
    "workflow_start": "start--00000000-0000-4000-8000-000000000003",
    "workflow": {
        "start--00000000-0000-4000-8000-000000000003": {
            "type": "start",
            "on_completion": "action--00000000-0000-4000-8000-000000000004",
        },
        "action--00000000-0000-4000-8000-000000000004": {
            "type": "action",
            "name": "Tell the duty analyst of every lab that joined",
            "commands": [{"type": "manual", "command": "Call, and note the time"}],
            "agent": "group--00000000-0000-4000-8000-000000000006",
            "on_completion": "end--00000000-0000-4000-8000-000000000005",
        },
        "end--00000000-0000-4000-8000-000000000005": {"type": "end"},
    },
    "agent_definitions": {
        "group--00000000-0000-4000-8000-000000000006": {"type": "group", "name": "Duty analysts"},
    },
}


def opinion_body(handling: Document, pattern: Document, **changes: Any) -> Document:
    """That a pattern is wrong more often than right."""
    measured = {"reviewed": 40, "true_positives": 3, "method": "A random sample of a week's matches"}
    return {
        **handling,
        "pattern": pattern,
        "verdict": "false_positive",
        "measured": measured,
        "comment": None,
        **changes,
    }


def endorsement_body(handling: Document, pattern: Document, **changes: Any) -> Document:
    """That a lab stands for a pattern."""
    return {**handling, "pattern": pattern, "measured": None, "comment": "Backtested on a month.", **changes}


def playbook_body(handling: Document, **changes: Any) -> Document:
    """An escalation protocol of two levels."""
    return {
        **handling,
        "kind": "escalation_protocol",
        "title": "Who is told",
        "description": "Two levels.",
        "levels": [
            {"name": "Watch", "tell": ["Duty analyst"], "acknowledge_within_minutes": 240, "approvals": 1},
            {"name": "Act", "tell": ["Head of security"], "acknowledge_within_minutes": 60, "approvals": 2},
        ],
        "cacao": PROCEDURE,
        **changes,
    }


def criteria_body(handling: Document, **changes: Any) -> Document:
    """When to turn to an authority."""
    return {
        **handling,
        "title": "Organised theft of a model",
        "description": "Seen by several labs for longer than a day.",
        "jurisdiction": "Freedonia",
        "authority": "National cyber-crime unit",
        "statute": "Computer Misuse Act",
        "criteria": [
            {"name": "several labs", "measure": "labs", "at_least": 2, "required": True},
            {"name": "counsel agreed", "measure": "attested", "at_least": 1, "required": False},
        ],
        "evidence": ["pattern_versions", "sightings", "custody"],
        **changes,
    }


def incident_body(handling: Document, **changes: Any) -> Document:
    """An incident without a protocol."""
    return {
        **handling,
        "title": "A pool of accounts at several labs",
        "description": "Since Monday.",
        "severity": "high",
        "patterns": [],
        "protocol": None,
        "level": None,
        **changes,
    }


def action_body(handling: Document, incident: Document, action: str = "join", **changes: Any) -> Document:
    """An act on an incident."""
    return {
        **handling,
        "incident": incident,
        "action": action,
        "level": None,
        "note": None,
        "patterns": [],
        "sightings": [],
        **changes,
    }
