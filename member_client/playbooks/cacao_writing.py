"""Steps as the CACAO 2.0 document that a playbook's statement carries.

The same steps of the same record always make the same document: ids are taken from the record's id, from where a step
stands and from its name, in the form of random UUIDs (version 4), which CACAO asks of steps (10.10).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sharing_protocol import cacao
from sharing_protocol.playbooks import Action, Block, Command, Parallel, Question, Step, Workflow
from sharing_protocol.statements import PlaybookKind, new_id

_TYPES = {
    PlaybookKind.ESCALATION_PROTOCOL: "notification",
    PlaybookKind.REVOCATION_PROCEDURE: "mitigation",
}


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose document it is, and of when.

    Attributes:
        id: the record's id, which is the document's too.
        author: the lab's id.
        created, modified: of the first version and of this one.
    """

    id: str
    author: str
    created: datetime
    modified: datetime


def write(workflow: Workflow, kind: PlaybookKind, origin: Origin) -> dict[str, Any]:
    """The document of these steps, whose own ids count for nothing; `read_workflow` reads the same steps from it."""
    writer = _Writer(origin.id)
    start = writer.new_id("start", "")
    writer.steps[start] = {"type": "start", "on_completion": writer.block(workflow.steps, "")}
    activities = dict.fromkeys(one.activity for one in _commands(workflow.steps) if one.activity)
    document: dict[str, Any] = {
        "type": "playbook",
        "spec_version": cacao.SPEC_VERSION,
        "id": origin.id,
        "name": workflow.name,
        "description": workflow.description,
        "playbook_types": [_TYPES[kind]] if activities else [],
        "playbook_activities": list(activities),
        "created_by": f"identity--{origin.author.partition('--')[2]}",
        "created": _time(origin.created),
        "modified": _time(origin.modified),
        "workflow_start": start,
        "workflow": writer.steps,
        "agent_definitions": {key: {"type": "group", "name": role} for role, key in writer.agents.items()},
        "extension_definitions": {cacao.EXTENSION: dict(cacao.EXTENSION_DEFINITION)} if writer.extended else {},
    }
    return {name: value for name, value in document.items() if value}


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _commands(block: Block) -> Iterable[Command]:
    for step in block:
        if isinstance(step, Action):
            yield from step.commands
        else:
            for branch in branches_of(step):
                yield from _commands(branch)


def branches_of(step: Step) -> tuple[Block, ...]:
    """The branches that a step begins; none for an action."""
    if isinstance(step, Question):
        return step.yes, step.no
    return step.branches if isinstance(step, Parallel) else ()


class _Writer:
    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._used: set[str] = set()
        self.steps: dict[str, Any] = {}
        self.agents: dict[str, str] = {}
        self.extended = False

    def new_id(self, kind: str, place: str) -> str:
        number = 0
        while (key := f"{kind}\0{place}\0{number}") in self._used:
            number += 1
        self._used.add(key)
        digest = hashlib.sha256(f"{self._seed}\0{key}".encode()).digest()
        return new_id(kind, UUID(bytes=digest[:16], version=4))

    def block(self, block: Block, place: str) -> str:
        """Write steps that follow each other, and their end; gives the id of the first."""
        ids = [self.new_id(_kind(step), f"{place}/{step.name}") for step in block]
        end = self.new_id("end", place)
        for key, following, step in zip(ids, [*ids[1:], end], block, strict=False):
            self.steps[key] = {**self._step(step, f"{place}/{step.name}"), "on_completion": following}
        self.steps[end] = {"type": "end"}
        return ids[0] if ids else end

    def _step(self, step: Step, place: str) -> dict[str, Any]:
        written: dict[str, Any] = {"type": _kind(step), "name": step.name}
        if step.description:
            written["description"] = step.description
        if isinstance(step, Parallel):
            firsts = [self.block(branch, f"{place}/{at}") for at, branch in enumerate(step.branches)]
            return written | {"next_steps": firsts}
        terms: dict[str, Any] = {"due_within_minutes": step.due_within_minutes, "approvals": step.approvals}
        if isinstance(step, Action):
            written |= {"commands": [_command(one) for one in step.commands], "agent": self._agent(step.role)}
        else:
            written |= {
                "condition": cacao.CONDITION,
                "step_variables": {"__answer__": {"type": "string"}},
                "on_true": self.block(step.yes, f"{place}/yes"),
                "on_false": self.block(step.no, f"{place}/no"),
            }
            terms["asked_of"] = self._agent(step.role) if step.role else ""
        if said := {name: value for name, value in terms.items() if value}:
            written["step_extensions"] = {cacao.EXTENSION: said}
            self.extended = True
        return written

    def _agent(self, role: str) -> str:
        return self.agents.setdefault(role, self.agents.get(role) or self.new_id("group", role))


def _kind(step: Step) -> str:
    if isinstance(step, Action):
        return "action"
    return "parallel" if isinstance(step, Parallel) else "if-condition"


def _command(command: Command) -> dict[str, str]:
    written = {"type": "manual", "command": command.text}
    return written | {"playbook_activity": command.activity} if command.activity else written
