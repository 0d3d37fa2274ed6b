"""A run for people and scripts: where it stands, and as Markdown what was done, by whom, and when."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from member_client.markdown_text import plain_line
from member_client.playbooks.outline import numbers, term
from member_client.playbooks.run_file import StoredRun
from member_client.playbooks.running import Kind, Reached, Settled
from sharing_protocol.playbooks import Action
from sharing_protocol.statements.header import format_timestamp


def run_document(stored: StoredRun, now: datetime) -> dict[str, Any]:
    """Where a run stands, for scripts."""
    state = stored.run.state
    number = numbers(stored.run.workflow)
    return {
        "run": stored.name,
        "playbook": stored.source.body.title,
        "source": stored.source.origin,
        "about": stored.source.about,
        "begun": format_timestamp(stored.run.begun),
        "begun_by": stored.source.by,
        "state": "finished" if state.finished else "under way",
        "finished": format_timestamp(state.finished) if state.finished else None,
        "overdue": sum(one.overdue(now) for one in state.reached),
        "to_do": [_reached_document(one, number[one.step.id], now) for one in state.reached],
        "settled": [_settled_document(one, number[one.step.id]) for one in state.settled.values()],
        "head": stored.head,
    }


def markdown(stored: StoredRun, now: datetime) -> str:
    """A run as a report."""
    document = run_document(stored, now)
    lines = [
        f"# {plain_line(document['playbook'])}",
        "",
        f"- Run: {stored.name}, {document['state']} as of {format_timestamp(now)}",
        f"- Playbook: {plain_line(document['source'])}",
        f"- About: {plain_line(document['about']) or 'not said'}",
        f"- Begun: {document['begun']}" + (f" by {plain_line(document['begun_by'])}" if document["begun_by"] else ""),
        f"- Finished: {document['finished'] or 'not yet'}",
        f"- Newest hash of the run file: `{stored.head}`",
        "",
        "## What was done",
        "",
    ]
    for one in document["settled"]:
        lines.append(f"{one['number']}. **{plain_line(one['name'])}**: {_outcome(one)}")
        lines += [
            f"    - approved by {plain_line(given['by'])} on {given['at']}{_note(given)}" for given in one["approvals"]
        ]
    if not document["settled"]:
        lines.append("Nothing yet.")
    if document["to_do"]:
        lines += ["", "## What is to be done", ""]
        lines += [f"{one['number']}. **{plain_line(one['name'])}**: {_outstanding(one)}" for one in document["to_do"]]
    return "\n".join(lines) + "\n"


def due_in_words(due: datetime | None, now: datetime) -> str:
    """When something is due, from now."""
    if due is None:
        return "no due time"
    minutes = int(abs((due - now).total_seconds())) // 60
    if due < now:
        return f"OVERDUE by {_rough(minutes)}, since {format_timestamp(due)}"
    return f"due in {_rough(minutes)}, by {format_timestamp(due)}"


def _rough(minutes: int) -> str:
    if minutes >= 3 * 24 * 60:
        return term(minutes - minutes % (24 * 60))
    return term(minutes - minutes % 60 if minutes >= 3 * 60 else minutes)


def _reached_document(one: Reached, number: int, now: datetime) -> dict[str, Any]:
    return {
        "number": number,
        "step": one.step.id,
        "name": one.step.name,
        "role": one.step.role,
        "kind": "action" if isinstance(one.step, Action) else "question",
        "since": format_timestamp(one.since),
        "due": format_timestamp(one.due) if one.due else None,
        "overdue": one.overdue(now),
        "approvals_needed": one.step.approvals,
        "approved_by": list(one.approved_by),
    }


def _settled_document(one: Settled, number: int) -> dict[str, Any]:
    return {
        "number": number,
        "step": one.step.id,
        "name": one.step.name,
        "role": one.step.role,
        "outcome": one.event.kind.value,
        "answer": one.event.answer,
        "by": one.event.by,
        "at": format_timestamp(one.event.at),
        "note": one.event.note,
        "due": format_timestamp(one.by_then) if one.by_then else None,
        "late": one.late,
        "approvals": [
            {"by": given.by, "at": format_timestamp(given.at), "note": given.note} for given in one.approvals
        ],
    }


def _outcome(one: dict[str, Any]) -> str:
    what = f"answered {one['answer']}" if one["outcome"] == Kind.ANSWERED else one["outcome"]
    late = f" (LATE: it was due by {one['due']})" if one["late"] else ""
    return f"{what} by {plain_line(one['by'])} on {one['at']}{late}{_note(one)}"


def _outstanding(one: dict[str, Any]) -> str:
    due = f", {'OVERDUE since' if one['overdue'] else 'due by'} {one['due']}" if one["due"] else ""
    given = f", {len(one['approved_by'])} of {one['approvals_needed']} approvals" if one["approvals_needed"] else ""
    return f"{plain_line(one['role']) or 'anybody'}{due}{given}"


def _note(one: dict[str, Any]) -> str:
    return f": {plain_line(one['note'])}" if one["note"] else ""
