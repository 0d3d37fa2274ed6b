"""Which CACAO documents are playbooks: steps that people walk through, to an end, whatever is answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharing_protocol import cacao
from sharing_protocol.errors import Refused
from sharing_protocol.playbooks import Action, Block, Parallel, Question, examine, read_workflow
from tests.protocol.response_bodies import PROCEDURE
from tests.protocol.workflows import AGENT, Document, document_of, documents, moved_documents, step_id, walks_once

START, ACTION, END = PROCEDURE["workflow"]


def ids_of(block: Block) -> list[str]:
    found = []
    for step in block:
        branches: tuple[Block, ...] = ()
        if isinstance(step, Parallel):
            branches = step.branches
        elif isinstance(step, Question):
            branches = (step.yes, step.no)
        found += [step.id, *(one for branch in branches for one in ids_of(branch))]
    return found


@given(documents())
@settings(max_examples=40)
def test_a_tree_of_steps_is_read_whole(document: Document) -> None:
    workflow, findings = examine(document)
    assert findings == ()
    assert workflow is not None
    inner = {key for key, step in document["workflow"].items() if step["type"] not in ("start", "end")}
    assert sorted(ids_of(workflow.steps)) == sorted(inner)


@given(moved_documents())
@settings(max_examples=100)
def test_a_graph_is_taken_exactly_if_every_walk_visits_each_step_once(document: Document) -> None:
    workflow, findings = examine(document)
    assert (workflow is not None) == (not findings) == walks_once(document)


def test_steps_carry_what_the_document_says() -> None:
    terms = {"due_within_minutes": 60, "approvals": 2}
    step = PROCEDURE["workflow"][ACTION] | {"step_extensions": {cacao.EXTENSION: terms}}
    (action,) = read_workflow(changed("workflow", ACTION, step, declared=True)).steps
    assert isinstance(action, Action)
    assert (action.role, action.due_within_minutes, action.approvals) == ("Duty analysts", 60, 2)
    assert [(one.text, one.activity) for one in action.commands] == [("Call, and note the time", "deliver-content")]


def changed(member: str, key: str = "", value: Any = None, *, declared: bool = False) -> Document:
    """The procedure with a member, or a part of one, exchanged; None takes it away."""
    document = dict(PROCEDURE)
    if declared:
        document["extension_definitions"] = {cacao.EXTENSION: dict(cacao.EXTENSION_DEFINITION)}
    if key:
        document[member] = {**document[member], key: value}
        if value is None:
            del document[member][key]
    elif value is None:
        del document[member]
    else:
        document[member] = value
    return document


def action(**changes: Any) -> Document:
    return changed("workflow", ACTION, {**PROCEDURE["workflow"][ACTION], **changes}, declared=True)


OTHER = step_id("action", 77)
BACK = "00000000-0000-4000-8000-000000000006"
REFUSED: list[tuple[str, Callable[[], Document], str, str]] = [
    *((name, lambda name=name: changed(name), name, "missing") for name in
      ("type", "spec_version", "id", "name", "created_by", "created", "modified", "workflow_start", "workflow",
       "agent_definitions")),
    ("another version", lambda: changed("spec_version", value="cacao-1.1"), "spec_version", "cacao-2.0"),
    ("a version 3 UUID", lambda: changed("id", value=f"playbook--{'0' * 8}-0000-0000-8000-{'0' * 12}"), "id", "id:"),
    ("a member of CACAO that is not ours", lambda: changed("workflow_exception", value=ACTION),
     "workflow_exception", "not taken here"),
    ("a day that is none", lambda: changed("created", value="2026-02-30T00:00:00.000Z"), "created", "created"),
    ("seconds without decimals", lambda: changed("modified", value="2026-03-01T00:00:00Z"), "modified", "modified"),
    ("modified before created", lambda: changed("modified", value="2025-03-01T00:00:00.000Z"),
     "modified", "before created"),
    ("types without activities", lambda: changed("playbook_activities"), "playbook_activities", "no activities"),
    ("an activity of no command", lambda: changed("playbook_activities", value=["scan-system"]),
     "playbook_activities", "no command is of activity scan-system"),
    ("an attack", lambda: changed("playbook_types", value=["attack"]), "playbook_types.0", "it should be"),
    ("a person", lambda: changed("agent_definitions", f"individual--{BACK}", {"type": "individual", "name": "Jo"}),
     "agent_definitions", "individual"),
    ("a command for a machine", lambda: action(commands=[{"type": "openc2-http", "command": "deny"}]),
     f"workflow.{ACTION}.commands.0.type", "a machine would run"),
    ("no command", lambda: action(commands=[]), f"workflow.{ACTION}.commands", "at least 1"),
    ("a hidden character", lambda: action(name="Look\u202e"), f"workflow.{ACTION}.name", "U+202E"),
    ("another outcome", lambda: action(on_failure=END), f"workflow.{ACTION}.on_failure", "not taken here"),
    ("an agent that is not there", lambda: action(agent=AGENT), f"workflow.{ACTION}.agent", "there is no agent"),
    ("a target that is not there", lambda: action(targets=[AGENT]), f"workflow.{ACTION}.targets", "no target"),
    ("another extension", lambda: action(step_extensions={f"extension-definition--{BACK}": {}}),
     f"workflow.{ACTION}.step_extensions", "should match"),
    ("too late", lambda: action(step_extensions={cacao.EXTENSION: {"due_within_minutes": 129_601}}),
     f"workflow.{ACTION}.step_extensions.{cacao.EXTENSION}.due_within_minutes", "129600"),
    ("an undeclared extension",
     lambda: {**action(step_extensions={cacao.EXTENSION: {"approvals": 1}}), "extension_definitions": {}},
     f"workflow.{ACTION}.step_extensions", "not declared"),
    ("an extension in other words",
     lambda: {**PROCEDURE, "extension_definitions": {cacao.EXTENSION: {**cacao.EXTENSION_DEFINITION, "version": "2"}}},
     f"extension_definitions.{cacao.EXTENSION}", "other words"),
    ("a loop by hand", lambda: changed("workflow", OTHER, {"type": "while-condition"}),
     f"workflow.{OTHER}", "not a step that people walk through"),
    ("an id of another type", lambda: changed("workflow", OTHER, {"type": "end"}), f"workflow.{OTHER}", "otherwise"),
    ("nothing to do", lambda: changed("workflow", value={START: {"type": "start", "on_completion": END},
                                                         END: {"type": "end"}}), "workflow", "no action"),
    ("a step that is not there", lambda: action(on_completion=OTHER), f"workflow.{ACTION}.on_completion", "no step"),
    ("a step that leads to itself", lambda: action(on_completion=ACTION), f"workflow.{ACTION}.on_completion",
     "already"),
    ("back to the start", lambda: action(on_completion=START), f"workflow.{ACTION}.on_completion", "back to the start"),
    ("two starts", lambda: changed("workflow", step_id("start", 78), {"type": "start", "on_completion": END}),
     f"workflow.{step_id('start', 78)}.on_completion", "already"),
    ("a start that is none", lambda: changed("workflow_start", value=ACTION), "workflow_start", "not a start step"),
    ("a step out of reach", lambda: changed("workflow", step_id("end", 79), {"type": "end"}),
     f"workflow.{step_id('end', 79)}", "no step leads here"),
    ("one UUID for two", lambda: changed("agent_definitions", f"organization--{BACK}",
                                         {"type": "organization", "name": "Lab"}), "", "names 2 objects"),
    ("too many steps", lambda: changed("workflow", value={step_id("end", at): {"type": "end"} for at in range(129)}),
     "workflow", "129 steps"),
]  # fmt: skip


@pytest.mark.parametrize(("document", "where", "says"), [one[1:] for one in REFUSED], ids=[one[0] for one in REFUSED])
def test_what_is_no_playbook_is_refused_at_its_place(document: Callable[[], Document], where: str, says: str) -> None:
    workflow, findings = examine(document())
    assert workflow is None
    fitting = [one for one in findings if one.where.startswith(where) and says in one.what]
    assert fitting, findings
    assert all(one.mend for one in findings)
    with pytest.raises(Refused) as refused:
        read_workflow(document())
    assert refused.value.code == "invalid_playbook"


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "action", "group", AGENT, START, ACTION, END]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "name", ACTION]), inner),
    max_leaves=6,
)


@given(st.data())
@settings(max_examples=50)
def test_whatever_stands_there_is_read_or_said_to_be_wrong(data: st.DataObject) -> None:
    document = json.loads(json.dumps(data.draw(documents())))
    part: Any = document
    while isinstance(part, dict | list) and part:
        key = data.draw(st.sampled_from(sorted(part)) if isinstance(part, dict) else st.integers(0, len(part) - 1))
        if data.draw(st.booleans()):
            part[key] = data.draw(JSON)
            break
        part = part[key]
    workflow, findings = examine(document)
    assert (workflow is None) == bool(findings)
    assert all(one.what and one.mend for one in findings)


def test_branches_nest_sixteen_deep_and_no_deeper() -> None:
    def nested(depth: int) -> Document:
        workflow: Document = {}
        first = step_id("end", 0)
        workflow[first] = {"type": "end"}
        for level in range(1, depth):
            other, after, key = (
                step_id(kind, 3 * level + at) for at, kind in enumerate(("end", "end", "if-condition"))
            )
            workflow |= {other: {"type": "end"}, after: {"type": "end"}}
            workflow[key] = {
                "type": "if-condition",
                "name": "Deeper?",
                "condition": cacao.CONDITION,
                "step_variables": {"__answer__": {"type": "string"}},
                "on_true": first,
                "on_false": other,
                "on_completion": after,
            }
            first = key
        act, start = step_id("action", 900), step_id("start", 901)
        workflow[act] = {**PROCEDURE["workflow"][ACTION], "agent": AGENT, "on_completion": first}
        workflow[start] = {"type": "start", "on_completion": act}
        return document_of(workflow, start, playbook_activities=["deliver-content"])

    assert examine(nested(cacao.MAX_DEPTH))[1] == ()
    _, findings = examine(nested(cacao.MAX_DEPTH + 1))
    assert [one.what for one in findings] == ["branches are 17 levels deep"]
