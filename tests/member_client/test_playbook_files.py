"""Playbook files: what is refused, at which line; and that steps stay the same through every form they take."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from member_client.playbooks import library
from member_client.playbooks.cacao_writing import Origin, write
from member_client.playbooks.outline import numbers, outline, playbook_file, term
from member_client.playbooks.playbook_file import HELP, Reading, WrittenPlaybook, read_bytes
from member_client.playbooks.running import steps_of
from sharing_protocol.content import check_playbook
from sharing_protocol.playbooks import Action, Question, Workflow, examine, read_workflow
from sharing_protocol.statements import PlaybookBody, PlaybookKind
from tests.protocol.response_bodies import playbook_body
from tests.protocol.workflows import Document, documents

NOW = datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC)
ORIGIN = Origin(
    "playbook--11111111-1111-4111-8111-111111111111", "member--22222222-2222-4222-8222-222222222222", NOW, NOW
)

FILE = """\
kind: revocation_procedure
title: Two people and a notice
description: |
  Before access ends.
marking: amber
purpose: Coordinate the defence
legal_basis: Legitimate interest
valid_for_days: 90
steps:
  - ask: Is it right?
    role: Analyst on duty
    due_within: 4 h
    no:
      - name: Lift it
        role: Analyst on duty
        do: Lift the decision.
      - stop
  - name: Revoke
    role: Access management
    do:
      - Read the plan.
      - Run the plan.
    activity: restrict-access
    approvals: 2
  - parallel:
      - - name: Tell the customer
          role: Support
          do: Say why.
      - - name: Watch
          role: Analyst on duty
          do: Look again.
          due_within: 2 d
"""


def lint(text: str) -> Reading:
    return read_bytes(text.encode(), "p.yaml", NOW)


def written(text: str = FILE) -> WrittenPlaybook:
    reading = lint(text)
    assert reading.playbook is not None, [str(issue) for issue in reading.issues]
    return reading.playbook


def same(one: Workflow, other: Workflow) -> bool:
    """Whether two workflows are the same but for their ids: then they are written as the same document."""
    kind = PlaybookKind.REVOCATION_PROCEDURE
    return write(one, kind, ORIGIN) == write(other, kind, ORIGIN)


def test_a_file_becomes_steps() -> None:
    playbook = written()
    question, *rest = playbook.workflow.steps
    assert rest == []
    assert isinstance(question, Question)
    assert (question.name, question.due_within_minutes) == ("Is it right?", 240)
    assert [step.name for step in question.no] == ["Lift it"]
    revoke, both = question.yes
    assert isinstance(revoke, Action)
    assert [one.text for one in revoke.commands] == ["Read the plan.", "Run the plan."]
    assert (revoke.role, revoke.approvals, both.name) == ("Access management", 2, "At the same time")
    assert playbook.content.description == "Before access ends."
    assert playbook.content.model_dump(mode="json")["valid_until"] == "2026-05-30T12:30:05Z"


def test_a_document_is_its_records() -> None:
    body = written().body(ORIGIN)
    document = body["cacao"]
    assert (document["id"], document["created_by"]) == (ORIGIN.id, "identity--22222222-2222-4222-8222-222222222222")
    assert document["created"] == "2026-03-01T12:30:05.000Z"
    assert (document["playbook_types"], document["playbook_activities"]) == (["mitigation"], ["restrict-access"])
    assert written().body(ORIGIN) == body
    assert same(
        check_playbook(PlaybookBody.model_validate_json(written().content.model_dump_json())), written().workflow
    )


def test_ids_of_steps_outlive_a_change_elsewhere() -> None:
    def named(text: str) -> Document:
        steps = written(text).body(ORIGIN)["cacao"]["workflow"].items()
        return {step["name"]: key for key, step in steps if "name" in step}

    before, after = named(FILE), named(FILE.replace("name: Tell the customer", "name: Write to the customer"))
    assert {name for name in before if before[name] != after.get(name)} == {"Tell the customer"}


@given(documents())
@settings(max_examples=20)
def test_steps_stay_the_same_as_a_document_and_as_a_file(document: Document) -> None:
    workflow = read_workflow(document)
    again = read_workflow(write(workflow, PlaybookKind.ESCALATION_PROTOCOL, ORIGIN))
    assert same(workflow, again)
    handling = {"marking": "amber", "purpose": "p", "legal_basis": "l", "valid_until": "2026-09-01T00:00:00Z"}
    body = PlaybookBody.model_validate_json(
        json.dumps(playbook_body(handling, cacao=document, title=workflow.name, description="d"))
    )
    read = written(playbook_file(body))
    assert same(Workflow(workflow.name, "d", workflow.steps), read.workflow)
    assert read.content.levels == body.levels
    assert playbook_file(read.content) == playbook_file(body)


@given(documents())
@settings(max_examples=30)
def test_every_step_is_numbered_once_in_order(document: Document) -> None:
    workflow = read_workflow(document)
    assert sorted(numbers(workflow)) == sorted(step.id for step in steps_of(workflow.steps))
    assert [line.number for line in outline(workflow) if line.step] == list(range(1, len(numbers(workflow)) + 1))


@given(st.integers(1, 200_000))
def test_lengths_of_time_read_back(minutes: int) -> None:
    count, unit = term(minutes).split()
    assert int(count) * {"min": 1, "h": 60, "d": 1440}[unit] == minutes


REFUSALS = [
    # what is replaced, by what, which line then has the issue, its code, what is said, how to mend it
    ("kind: revocation_procedure", "kind: plan", "kind:", "invalid_value", "'plan' is not a kind", "escalation"),
    ("kind: revocation_procedure", "kind: escalation_protocol", "kind:", "invalid_value", "levels", "from 1 to 8"),
    ("title: Two", "titel: Two", "titel", "unknown_key", "'titel'", "did you mean title?"),
    ("    due_within: 4 h", "    due_within: 4 hours", "4 hours", "invalid_value", "not a length of time", "30 min"),
    ("    due_within: 4 h", "    due_within: 91 d", "91 d", "invalid_value", "129600", "at most 90 d"),
    ("    due_within: 4 h", "    due: 4 h", "due: 4 h", "unknown_key", "'due'", "docs/playbook-format.md"),
    (
        "        role: Analyst on duty\n        do: Lift",
        "        do: Lift",
        "- name: Lift",
        "invalid_value",
        "role is missing",
        "which role",
    ),
    ("        do: Lift the decision.\n", "", "- name: Lift", "invalid_value", "do is missing", "what is to be done"),
    ("approvals: 2", "approvals: 17", "approvals", "invalid_value", "16", "up to 16"),
    ("approvals: 2", "approvals: two", "approvals", "invalid_value", "integer", "up to 16"),
    ("restrict-access", "execute-operation", "activity", "invalid_value", "activity", "CACAO"),
    (
        "      - Run the plan.\n    activity: restrict-access",
        "      - Run it.\n    activity: [restrict-access]",
        "activity: [",
        "activity",
        "more things to do",
        "write one",
    ),
    ("  - name: Revoke", "  - stop\n  - name: Revoke", "- stop\n", "stop", "nothing stops here", "end a branch"),
    ("    no:\n", "    yes: [stop]\n    no:\n", "- name: Revoke", "stop", "nobody comes here", "leave it out"),
    (
        "          do: Say why.",
        "          do: Write to jo@corp-mail.com.",
        "corp-mail",
        "personal_data",
        "an e-mail address",
        "example.com",
    ),
    (
        "          do: Say why.",
        '          do: "Say\\u202E why"',
        "202E",
        "invalid_value",
        "U+202E",
        "what is to be done",
    ),
    ("marking: amber", "marking: red", "marking", "red_needs_sealing", "named recipients", "amber+strict"),
    ("valid_for_days: 90", "valid_until: 2026-02-01", "valid_until", "invalid_dates", "not after created", "a day"),
    ("valid_for_days: 90", "valid_until: 2036-02-01", "valid_until", "invalid_dates", "five years", "a day"),
    ("valid_for_days: 90\n", "", "kind:", "invalid_dates", "neither", "a day"),
    ("  Before access ends.", "  Before access ends.\n\tx", "\tx", "bad_yaml", "", ""),
]


@pytest.mark.parametrize(("old", "new", "part", "code", "says", "mend"), REFUSALS)
def test_what_is_wrong_is_said_at_its_line(old: str, new: str, part: str, code: str, says: str, mend: str) -> None:
    assert old in FILE
    text = FILE.replace(old, new, 1)
    reading = lint(text)
    assert reading.playbook is None
    at = text.index(part.rstrip("\n")) if part != "- stop\n" else text.rindex("- stop")
    line = text.count("\n", 0, at) + 1
    found = [one for one in reading.issues if (one.line, one.code) == (line, code)]
    assert found or code == "bad_yaml", [str(issue) for issue in reading.issues]
    assert all(says in f"{one.what} {one.mend}" and mend in f"{one.what} {one.mend}" for one in found)


def test_a_question_beside_others_cannot_stop_the_playbook() -> None:
    asked = "          do: Say why.\n        - ask: Enough?\n          yes: [stop]\n"
    (issue,) = lint(FILE.replace("          do: Say why.\n", asked)).issues
    assert (issue.code, "beside or after" in issue.what) == ("stop", True)


def test_too_deep_and_too_many_are_refused() -> None:
    deep = "".join(f"  - ask: Question {at}?\n    no: [stop]\n" for at in range(17))
    (issue,) = lint(FILE + deep).issues
    assert (issue.code, issue.what) == ("invalid_playbook", "branches are 19 levels deep")
    many = "".join(f"  - {{name: Step {at}, role: r, do: d}}\n" for at in range(130))
    assert "use at most 128" in lint(FILE + many).issues[0].mend
    # Each is nested in the one before it once steps are made of them.
    chain = "".join(f"  - {{ask: Question {at}?, no: [stop]}}\n" for at in range(1500))
    (issue,) = lint(FILE + chain).issues
    assert (issue.what, issue.mend) == ("there are 1,506 steps", "use at most 128")


def test_what_is_no_step_at_all_is_refused_at_its_line() -> None:
    line = FILE.count("\n") + 1
    for item in ("1", "null", "[]", "true", "{parallel: [[1], [null]]}", "{ask: 1, yes: [2]}"):
        assert {issue.line for issue in lint(f"{FILE}  - {item}\n").issues} == {line}


@pytest.mark.parametrize("text", ["- a list\n", "", "kind: [\n", "just words\n"])
def test_what_is_no_map_of_keys_is_refused(text: str) -> None:
    reading = lint(text)
    assert reading.playbook is None
    assert len(reading.issues) == 1


SHIPPED = {kind.value: library.template(kind) for kind in PlaybookKind}
SHIPPED |= {name: library.starter(name) for name in library.starter_names()}


@pytest.mark.parametrize("name", SHIPPED)
def test_what_ships_is_in_order_and_the_same_through_its_document(name: str) -> None:
    playbook = written(SHIPPED[name])
    workflow, findings = examine(playbook.body(ORIGIN)["cacao"])
    assert findings == ()
    assert workflow is not None
    assert same(workflow, playbook.workflow)
    assert written(playbook_file(playbook.content)).content == playbook.content
    assert all(step.role for step in steps_of(workflow.steps) if isinstance(step, Action | Question))


def test_the_starters_are_what_they_promise() -> None:
    escalation = written(library.starter("three-level-escalation"))
    assert [level.name for level in escalation.content.levels] == ["Watch", "Coordinate", "Refer"]
    assert [level.approvals for level in escalation.content.levels] == [1, 2, 3]
    revocation = written(library.starter("access-revocation"))
    names = [line.text for line in outline(revocation.workflow) if line.step]
    told = [
        next(at for at, name in enumerate(names) if part in name)
        for part in ("evidence", "allow-list", "second person", "Tell the customer", "Revoke", "appeal", "Restore")
    ]
    assert told == sorted(told)
    (revoke,) = [step for step in steps_of(revocation.workflow.steps) if step.name == "Revoke"]
    assert isinstance(revoke, Action)
    assert revoke.approvals >= 1


def test_the_format_page_explains_every_key() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "playbook-format.md").read_text("utf-8")
    assert [key for key in HELP if f"`{key}`" not in page] == []
