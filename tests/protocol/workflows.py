"""Random CACAO documents: trees of steps that are in order, and what is left of them after edges were moved."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from sharing_protocol import cacao
from tests.protocol.response_bodies import PROCEDURE

Document = dict[str, Any]

AGENT = "group--00000000-0000-4000-8000-0000000000aa"
AWKWARD = ("no", "stop", "4 h", "- x: 'y'", "Same name")
BRANCHES = ("next_steps", "on_true", "on_false")


def step_id(kind: str, number: int) -> str:
    return f"{kind}--{UUID(int=(0x4000 << 64) | (0x8000 << 48) | number)}"


class Planner:
    """Lays steps out as a tree, taking decisions from hypothesis."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self._number = 0x1000
        self.workflow: Document = {}

    def _new(self, kind: str, step: Document) -> str:
        self._number += 1
        key = step_id(kind, self._number)
        self.workflow[key] = {"type": kind, **step}
        return key

    def block(self, room: int, depth: int, least: int = 0) -> str:
        """Steps one after the other and their end; gives the first of them."""
        following = self._new("end", {})
        for _ in range(self._draw(st.integers(least, room))):
            following = self._step(following, room - 1, depth)
        return following

    def _step(self, following: str, room: int, depth: int) -> str:
        kinds = ["action"] if room < 1 or depth > 3 else ["action", "parallel", "if-condition"]
        kind = self._draw(st.sampled_from(kinds))
        name = self._draw(st.sampled_from([f"Step {len(self.workflow)}", *AWKWARD]))
        step: Document = {"name": name, "on_completion": following}
        terms = self._draw(st.sampled_from([{}, {"due_within_minutes": 30}, {"approvals": 2}]))
        if kind == "action":
            command = {"type": "manual", "command": "Look", "playbook_activity": "scan-system"}
            step |= {"commands": [command], "agent": AGENT}
        elif kind == "parallel":
            count = self._draw(st.integers(2, 3))
            return self._new(kind, step | {"next_steps": [self.block(room, depth + 1) for _ in range(count)]})
        else:
            step |= {"condition": cacao.CONDITION, "step_variables": {"__answer__": {"type": "string"}}}
            step |= {"on_true": self.block(room, depth + 1), "on_false": self.block(room, depth + 1)}
            terms = self._draw(st.sampled_from([terms, terms | {"asked_of": AGENT}]))
        return self._new(kind, step | ({"step_extensions": {cacao.EXTENSION: terms}} if terms else {}))


def document_of(workflow: Document, start: str, **changes: Any) -> Document:
    """A playbook of these steps."""
    return {
        **PROCEDURE,
        "playbook_types": [],
        "workflow_start": start,
        "workflow": workflow,
        "agent_definitions": {AGENT: {"type": "group", "name": "Duty analysts"}},
        "extension_definitions": {cacao.EXTENSION: dict(cacao.EXTENSION_DEFINITION)},
        **changes,
    } | {"playbook_activities": changes.get("playbook_activities", ["scan-system"])}


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """Documents in order."""
    planner = Planner(draw)
    first = planner.block(3, 1, least=1)
    start = step_id("start", 0x1000)
    planner.workflow[start] = {"type": "start", "on_completion": first}
    if not any(step["type"] == "action" for step in planner.workflow.values()):
        command = {"type": "manual", "command": "Look", "playbook_activity": "scan-system"}
        key = step_id("action", 0xFFFF)
        planner.workflow[key] = {
            "type": "action",
            "name": "At least one",
            "commands": [command],
            "agent": AGENT,
            "on_completion": first,
        }
        planner.workflow[start]["on_completion"] = key
    keys = draw(st.permutations(sorted(planner.workflow)))
    return document_of({key: planner.workflow[key] for key in keys}, start)


def edges(workflow: Document) -> list[tuple[str, str, int]]:
    """Every place that names a step: step, member, and position in a list or -1."""
    found = []
    for key, step in workflow.items():
        for member in ("on_completion", *BRANCHES):
            if member in step:
                targets = step[member]
                found += [(key, member, at) for at in (range(len(targets)) if isinstance(targets, list) else [-1])]
    return found


def move(workflow: Document, edge: tuple[str, str, int], target: str) -> Document:
    """The steps with one edge leading elsewhere."""
    key, member, position = edge
    value = workflow[key][member]
    moved = [target if at == position else one for at, one in enumerate(value)] if position >= 0 else target
    return {**workflow, key: {**workflow[key], member: moved}}


@st.composite
def moved_documents(draw: st.DrawFn) -> Document:
    """Documents some of whose edges were moved, at times to where they were."""
    document = draw(documents())
    workflow = document["workflow"]
    for _ in range(draw(st.integers(1, 3))):
        workflow = move(workflow, draw(st.sampled_from(edges(workflow))), draw(st.sampled_from(sorted(workflow))))
    return {**document, "workflow": workflow}


def walks_once(document: Document) -> bool:
    """Whether somebody who walks every branch from the start visits every step once, and never in a circle."""
    workflow = document["workflow"]
    visits: list[str] = []

    def walk(key: str) -> None:
        if len(visits) > len(workflow):
            return
        visits.append(key)
        step = workflow[key]
        for first in (*step.get("next_steps", ()), *(step[one] for one in ("on_true", "on_false") if one in step)):
            walk(first)
        if "on_completion" in step:
            walk(step["on_completion"])

    walk(document["workflow_start"])
    return sorted(visits) == sorted(workflow)
