"""Timelines for scripts: plain documents, times in the form of statements, labs with their names."""

from __future__ import annotations

from typing import Any

from member_client.patterns.finding import name_of
from sharing_protocol.incidents import Asked, Due, Step, Timeline
from sharing_protocol.membership import Membership
from sharing_protocol.statements import RecordReference
from sharing_protocol.statements.header import format_timestamp


def state_in_words(timeline: Timeline) -> str:
    """`open`, `closed`, or `expired`, which is open and past its time."""
    return "expired" if timeline.expired and timeline.state == "open" else timeline.state


def summary_document(timeline: Timeline, membership: Membership) -> dict[str, Any]:
    """An incident as lists show it."""
    return {
        "id": timeline.id,
        "entry": timeline.entry,
        "title": timeline.title,
        "state": timeline.state,
        "expired": timeline.expired,
        "level": timeline.level,
        "severity": timeline.severity,
        "marking": timeline.marking,
        "opened_by": _lab(timeline.opened_by, membership),
        "labs": [_lab(lab, membership) for lab in timeline.labs],
        "valid_until": format_timestamp(timeline.valid_until),
        "due": [_due(one, membership) for one in timeline.due],
    }


def timeline_document(timeline: Timeline, membership: Membership) -> dict[str, Any]:
    """An incident in full."""
    return {
        **summary_document(timeline, membership),
        "protocol": _reference(timeline.protocol) if timeline.protocol is not None else None,
        "patterns": [_reference(one) for one in timeline.patterns],
        "sightings": [_reference(one) for one in timeline.sightings],
        "asked": [_asked(one, membership) for one in timeline.asked],
        "steps": [_step(one, membership) for one in timeline.steps],
    }


def _step(step: Step, membership: Membership) -> dict[str, Any]:
    return {
        "index": step.index,
        "entry": step.entry,
        "created": format_timestamp(step.created),
        "logged": format_timestamp(step.logged),
        "lab": _lab(step.lab, membership),
        "action": step.action,
        "level": step.level,
        "note": step.note,
        "patterns": [_reference(one) for one in step.patterns],
        "sightings": [_reference(one) for one in step.sightings],
        "in_force": step.in_force,
        "late": step.late,
        "without_effect": step.without_effect,
    }


def _due(due: Due, membership: Membership) -> dict[str, Any]:
    return {
        "lab": _lab(due.lab, membership),
        "level": due.level,
        "by": format_timestamp(due.by),
        "overdue": due.overdue,
    }


def _asked(asked: Asked, membership: Membership) -> dict[str, Any]:
    labs = [_lab(lab, membership) for lab in asked.labs]
    return {"level": asked.level, "labs": labs, "approvals": asked.approvals}


def _lab(member: str, membership: Membership) -> dict[str, str]:
    return {"id": member, "name": name_of(member, membership)}


def _reference(reference: RecordReference) -> dict[str, Any]:
    return reference.model_dump(mode="json")
