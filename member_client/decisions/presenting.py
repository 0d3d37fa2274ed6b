"""A decision as documents and lines: for scripts as JSON, for spreadsheets as CSV, for people in words."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, TextIO

from member_client.decisions.allow_list import Allowed, AllowList
from member_client.decisions.appeals import Appeal
from member_client.decisions.in_effect import what_and_why
from member_client.decisions.lab_policy import LabPolicy
from member_client.decisions.model import Action, Decision, Event
from member_client.decisions.register import Register
from sharing_protocol.statements.header import format_timestamp

_COLUMNS = (
    "id",
    "state",
    "action",
    "in_effect",
    "subject_kind",
    "subject",
    "accounts",
    "models",
    "created",
    "expires",
    "pattern",
    "pattern_version",
    "pattern_entry",
    "pattern_title",
    "severity",
    "matches",
    "first",
    "last",
    "needs_approvals",
    "approved_by",
    "waiting",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def decision_document(decision: Decision, effect: Action, why: Iterable[str]) -> dict[str, Any]:
    """A decision, what of it is in effect, and what holds it back, as JSON."""
    return {
        "id": decision.id,
        "state": decision.state.value,
        "action": decision.action.value,
        "in_effect": effect.value,
        "held_by": list(why),
        "subject_kind": decision.subject.kind.value,
        "subject": decision.subject.id,
        "accounts": list(decision.accounts),
        "models": list(decision.models),
        "created": format_timestamp(decision.created),
        "expires": format_timestamp(decision.expires),
        "pattern": decision.pattern_id,
        "pattern_version": decision.pattern_version,
        "pattern_entry": decision.pattern_entry,
        "pattern_title": decision.pattern_title,
        "severity": decision.severity,
        "detections": list(decision.detections),
        "matches": decision.matches,
        "first": _shown(decision.first),
        "last": _shown(decision.last),
        "numbers": dict(decision.numbers),
        "policy_reasons": list(decision.policy_reasons),
        "needs_approvals": decision.needs_approvals,
        "approved_by": list(decision.approved_by),
        "waiting": list(decision.waiting),
        "follows": decision.follows,
        "superseded_by": decision.superseded_by,
    }


def event_document(event: Event) -> dict[str, str]:
    """A line of history, as JSON."""
    return {"at": format_timestamp(event.at), "what": event.what, "who": event.who, "why": event.why}


def allowed_document(entry: Allowed, now: datetime) -> dict[str, Any]:
    """An entry of the allow-list, as JSON."""
    return {
        "number": entry.number,
        "kind": entry.kind.value,
        "id": entry.id,
        "owner": entry.owner,
        "reason": entry.reason,
        "added": format_timestamp(entry.added),
        "expires": format_timestamp(entry.expires),
        "holds": entry.expires > now,
    }


def appeal_document(appeal: Appeal) -> dict[str, Any]:
    """An appeal, as JSON; with the contact note, which stays in the lab."""
    return {
        "number": appeal.number,
        "decision": appeal.decision,
        "account": appeal.account,
        "opened": format_timestamp(appeal.opened),
        "opened_by": appeal.opened_by,
        "contact_note": appeal.contact_note,
        "outcome": appeal.outcome,
        "decided": _shown(appeal.decided),
        "decided_by": appeal.decided_by,
        "reason": appeal.reason,
    }


def documents(
    register: Register, decisions: Iterable[Decision], policy: LabPolicy, allowed: AllowList, now: datetime
) -> Iterator[dict[str, Any]]:
    """Decisions one by one, each with what of it is in effect now."""
    for decision in decisions:
        document = decision_document(decision, *what_and_why(decision, policy, allowed, now))
        yield document | {"spared": list(register.spared(register.resolve(decision.id))) if decision.accounts else []}


def write_json(file: TextIO, found: Iterable[dict[str, Any]]) -> int:
    """One JSON array, a document a line; gives how many. Pure ASCII."""
    count = 0
    file.write("[")
    for document in found:
        file.write(("," if count else "") + "\n" + json.dumps(document))
        count += 1
    file.write("\n]\n")
    return count


def write_csv(file: TextIO, found: Iterable[dict[str, Any]]) -> int:
    """A header and a row each; gives how many.

    What a spreadsheet would run as a formula gets an apostrophe before it: the logs' ids are other people's text.
    """
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(_COLUMNS)
    count = 0
    for document in found:
        rows.writerow(_cell(document[name]) for name in _COLUMNS)
        count += 1
    return count


def _cell(value: Any) -> str:
    text = " ".join(value) if isinstance(value, list) else "" if value is None else str(value)
    text = text.encode("ascii", "backslashreplace").decode()
    return f"'{text}" if text.startswith(_FORMULA) else text


def _shown(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat(timespec="seconds").replace("+00:00", "Z")
