"""The steps of a playbook, as people walk through them.

CACAO wants every branch to have an `end` of its own, after which the step that began the branch goes on with its
`on_completion`. So each step but the start is led to exactly once, and a workflow is a tree: it ends whatever is
answered. `cacao` has the document's members; here is what they say of each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic import ValidationError

from sharing_protocol import cacao
from sharing_protocol.errors import Refused
from sharing_protocol.statements.playbooks import MAX_MINUTES


@dataclass(frozen=True, slots=True)
class Command:
    """Something that a person does.

    Attributes:
        activity: what kind of activity it is (section 3.1.2); "" if the document does not say.
    """

    text: str
    activity: str = ""


@dataclass(frozen=True, slots=True)
class Action:
    """A step that somebody in a role does.

    Attributes:
        due_within_minutes: after the step was reached; 0 for whenever.
        approvals: how many others approve before it is done.
    """

    id: str
    name: str
    role: str
    commands: tuple[Command, ...]
    description: str = ""
    due_within_minutes: int = 0
    approvals: int = 0


@dataclass(frozen=True, slots=True)
class Question:
    """A question whose answer, yes or no, decides which steps follow.

    Attributes:
        name: the question.
        role: who answers it; "" for whoever walks through.
    """

    id: str
    name: str
    role: str
    yes: Block
    no: Block
    description: str = ""
    due_within_minutes: int = 0
    approvals: int = 0


@dataclass(frozen=True, slots=True)
class Parallel:
    """Branches that go on side by side; what follows waits for all of them."""

    id: str
    name: str
    branches: tuple[Block, ...]
    description: str = ""


Step: TypeAlias = Action | Question | Parallel
Block: TypeAlias = tuple[Step, ...]
"""Steps one after the other; none for a branch in which nothing is to be done."""


@dataclass(frozen=True, slots=True)
class Workflow:
    """What a playbook says to do."""

    name: str
    description: str
    steps: Block


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to mend.

    Attributes:
        where: path into the document, such as `workflow.action--….agent`.
        what: what is wrong, as a clause without a full stop.
        mend: what to write instead.
    """

    where: str
    what: str
    mend: str


def examine(document: Mapping[str, Any]) -> tuple[Workflow | None, tuple[Finding, ...]]:
    """Read a playbook's `cacao` member.

    Returns:
        The workflow and nothing to mend, or no workflow and all that is to be mended.
    """
    workflow = document.get("workflow")
    if isinstance(workflow, dict) and len(workflow) > cacao.MAX_STEPS:
        what, mend = f"the workflow has {len(workflow):,} steps", f"use at most {cacao.MAX_STEPS}"
        return None, (Finding("workflow", what, mend),)
    try:
        read = cacao.Document.model_validate(document)
    except ValidationError as error:
        return None, tuple(dict.fromkeys(_findings_of(error)))
    findings = (*_members(read), *_graph(read))
    if findings:
        return None, findings
    return Workflow(read.name, read.description, _Reader(read).block(_next_of(read.workflow[read.workflow_start]))), ()


def read_workflow(document: Mapping[str, Any]) -> Workflow:
    """The workflow of a playbook's `cacao` member.

    Raises:
        Refused: `invalid_playbook`, at the first thing to mend.
    """
    workflow, findings = examine(document)
    if workflow is None:
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        first = findings[0]
        raise Refused("invalid_playbook", f"{first.what}: {first.mend}{more}", first.where)
    return workflow


_MEND: Mapping[str, str] = {
    "type": "see section 5 of docs/protocol.md",
    "spec_version": "write cacao-2.0",
    "id": "write playbook-- and a UUID in lower case",
    "created_by": "write identity-- and a UUID in lower case",
    "created": "write a time such as 2026-03-01T00:00:00.000Z",
    "modified": "write a time such as 2026-03-01T00:00:00.000Z",
    "name": "write one line of at most 200 characters",
    "description": "write up to 8,000 characters, or leave it out",
    "workflow_start": "write the id of the start step",
    "agent": "write the id of a group or an organization in agent_definitions",
    "asked_of": "write the id of a group or an organization in agent_definitions",
    "commands": f"list from 1 to {cacao.MAX_COMMANDS} manual commands",
    "command": "write what a person does, up to 8,000 characters",
    "next_steps": f"list the first steps of 2 to {cacao.MAX_BRANCHES} branches",
    "condition": f"write {cacao.CONDITION}: every condition is a person's answer",
    "step_variables": 'write {"__answer__": {"type": "string"}}',
    "due_within_minutes": f"write a whole number from 1 to {MAX_MINUTES:,}, or leave it out",
    "approvals": f"write a whole number from 1 to {cacao.MAX_APPROVALS}, or leave it out",
    "on_completion": "write the id of the step that follows; the last of a branch is an end step of its own",
    "on_true": "write the id of the first step of the branch, an end step if there is nothing to do",
    "on_false": "write the id of the first step of the branch, an end step if there is nothing to do",
    "agent_definitions": "define the groups and organisations that act; no persons",
}


def _findings_of(error: ValidationError) -> Iterator[Finding]:
    for details in error.errors(include_url=False):
        steps = [str(step) for step in details["loc"] if step != "[key]"]
        if steps[0] == "workflow" and len(steps) > 2:
            del steps[2]  # pydantic names the kind of step, which is no place in the document
        where, name, given = ".".join(steps), steps[-1], details["input"]
        mend = _MEND.get(name, "see section 5 of docs/protocol.md")
        if details["type"] == "extra_forbidden":
            yield Finding(where, f"{name[:80]!r} is not taken here", "leave it out")
        elif details["type"] == "missing":
            yield Finding(where, f"{name} is missing", mend)
        elif details["type"] == "union_tag_invalid":
            tag = str(given.get("type"))[:80]
            yield Finding(
                where, f"{tag!r} is not a step that people walk through", f"use {', '.join(cacao.STEP_TYPES)}"
            )
        elif name == "type" and "commands" in steps:
            kind = str(given)[:80]
            yield Finding(where, f"a machine would run a command of type {kind!r}", "write a manual one: people act")
        else:
            yield Finding(where, f"{name}: {details['msg'].replace('Input should', 'it should', 1)}", mend)


def _members(document: cacao.Document) -> Iterator[Finding]:
    """What one member says of another, apart from the steps' order."""
    if document.modified < document.created:
        yield Finding("modified", "modified is before created", "write the later time (section 3.1)")
    if document.playbook_types and not document.playbook_activities:
        yield Finding("playbook_activities", "there are types but no activities", "list them (section 3.1)")
    used = {
        command.playbook_activity
        for step in document.workflow.values()
        if isinstance(step, cacao.ActionStep)
        for command in step.commands
    }
    for activity in document.playbook_activities:
        if activity not in used:
            yield Finding("playbook_activities", f"no command is of activity {activity}", "leave it out (section 3.1)")
    for folder, agents in (("agent", document.agent_definitions), ("target", document.target_definitions)):
        for key, agent in agents.items():
            if key.partition("--")[0] != agent.type:
                where = f"{folder}_definitions.{key}"
                yield Finding(where, f"the id says otherwise than the type, {agent.type}", "make them agree")
    ids = [document.id, *document.workflow, *document.agent_definitions, *document.target_definitions]
    for uuid, count in Counter(one.partition("--")[2] for one in ids).items():
        if count > 1:
            yield Finding("", f"the UUID {uuid} names {count} objects", "give each its own (section 10.10)")
    for definition in document.extension_definitions.values():
        if definition.model_dump(by_alias=True) != cacao.EXTENSION_DEFINITION:
            what = "the extension is described in other words"
            yield Finding(
                f"extension_definitions.{cacao.EXTENSION}", what, "take them from section 5 of docs/protocol.md"
            )


def _graph(document: cacao.Document) -> Iterator[Finding]:
    """Whether the steps are a tree from the start, and everything that a step names is there."""
    led_to: dict[str, str] = {}
    actions = 0
    for key, step in document.workflow.items():
        where = f"workflow.{key}"
        actions += isinstance(step, cacao.ActionStep)
        if key.partition("--")[0] != step.type:
            yield Finding(where, f"the id says otherwise than the type, {step.type}", "make them agree")
        yield from _names(document, where, step)
        for member, target in _leads_to(step):
            place = f"{where}.{member}"
            if target not in document.workflow:
                yield Finding(place, f"there is no step {target}", "write the id of a step in workflow")
            elif document.workflow[target].type == "start":
                yield Finding(place, "it leads back to the start", "let it lead to a later step, or to an end")
            elif target in led_to:
                what = f"it leads to {target}, to which {led_to[target]} leads already"
                yield Finding(place, what, "give each branch steps and an end of its own (sections 4.7, 4.8)")
            led_to.setdefault(target, place)
    if not actions:
        yield Finding("workflow", "there is no action", "write at least one (section 3.1)")
    yield from _reached(document)


def _names(document: cacao.Document, where: str, step: cacao.WorkflowStep) -> Iterator[Finding]:
    """Agents, targets and the extension that a step names."""
    if isinstance(step, cacao.ActionStep):
        if step.agent not in document.agent_definitions:
            yield Finding(f"{where}.agent", f"there is no agent {step.agent}", "define it in agent_definitions")
        for target in step.targets:
            if target not in document.target_definitions:
                yield Finding(f"{where}.targets", f"there is no target {target}", "define it in target_definitions")
    if isinstance(step, cacao.IfConditionStep):
        for extension in step.step_extensions.values():
            if extension.asked_of and extension.asked_of not in document.agent_definitions:
                what = f"there is no agent {extension.asked_of}"
                yield Finding(f"{where}.step_extensions", what, "define it in agent_definitions")
    if (
        isinstance(step, cacao.ActionStep | cacao.IfConditionStep)
        and step.step_extensions
        and not document.extension_definitions
    ):
        yield Finding(
            f"{where}.step_extensions", "the extension is not declared", "declare it in extension_definitions"
        )


def _reached(document: cacao.Document) -> Iterator[Finding]:
    first = document.workflow.get(document.workflow_start)
    if first is None or first.type != "start":
        yield Finding("workflow_start", "this is not a start step of the workflow", "write the start step's id")
        return
    reached, pending, deepest = {document.workflow_start}, [(document.workflow_start, 1)], 1
    while pending:
        key, depth = pending.pop()
        deepest = max(deepest, depth)
        for member, target in _leads_to(document.workflow[key]):
            if target in document.workflow and target not in reached:
                reached.add(target)
                pending.append((target, depth + (member != "on_completion")))
    for key in document.workflow:
        if key not in reached:
            yield Finding(f"workflow.{key}", "no step leads here", "lead to it, or leave it out")
    if deepest > cacao.MAX_DEPTH:
        yield Finding("workflow", f"branches are {deepest} levels deep", f"use at most {cacao.MAX_DEPTH}")


def _leads_to(step: cacao.WorkflowStep) -> Iterator[tuple[str, str]]:
    """Member and id of every step that this one leads to."""
    if isinstance(step, cacao.ParallelStep):
        for position, first in enumerate(step.next_steps):
            yield f"next_steps.{position}", first
    if isinstance(step, cacao.IfConditionStep):
        yield "on_true", step.on_true
        yield "on_false", step.on_false
    if not isinstance(step, cacao.EndStep):
        yield "on_completion", step.on_completion


def _next_of(step: cacao.WorkflowStep) -> str:
    return "" if isinstance(step, cacao.EndStep) else step.on_completion


class _Reader:
    """Makes the tree of a document without findings, whose depth is bounded."""

    def __init__(self, document: cacao.Document) -> None:
        self._steps = document.workflow
        self._agents = document.agent_definitions

    def block(self, first: str) -> Block:
        steps: list[Step] = []
        key = first
        while not isinstance(step := self._steps[key], cacao.EndStep):
            if not isinstance(step, cacao.StartStep):
                steps.append(self._step(key, step))
            key = _next_of(step)
        return tuple(steps)

    def _step(self, key: str, step: cacao.ActionStep | cacao.ParallelStep | cacao.IfConditionStep) -> Step:
        if isinstance(step, cacao.ParallelStep):
            return Parallel(key, step.name, tuple(self.block(first) for first in step.next_steps), step.description)
        if isinstance(step, cacao.ActionStep):
            extension = step.step_extensions.get(cacao.EXTENSION, cacao.Extension())
            commands = tuple(Command(one.command, one.playbook_activity) for one in step.commands)
            role = self._agents[step.agent].name
            due, approvals = extension.due_within_minutes, extension.approvals
            return Action(key, step.name, role, commands, step.description, due, approvals)
        asked = step.step_extensions.get(cacao.EXTENSION, cacao.QuestionExtension())
        role = self._agents[asked.asked_of].name if asked.asked_of else ""
        yes, no = self.block(step.on_true), self.block(step.on_false)
        return Question(key, step.name, role, yes, no, step.description, asked.due_within_minutes, asked.approvals)
