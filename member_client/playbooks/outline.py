"""Steps in the order in which people read them, numbered; and a playbook as the file that its author could have
written.

A question at the end of all steps is written with its shorter branch below it and the longer one going on as before:
"is it on the allow-list? if so do this and stop". That is how such a playbook is thought of, and files may say it so
(`stop`); in the document, the rest is the other branch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from member_client.patterns.yaml_writing import dump
from member_client.playbooks.cacao_writing import branches_of
from sharing_protocol.playbooks import Action, Block, Question, Step, Workflow, read_workflow
from sharing_protocol.statements import PlaybookBody
from sharing_protocol.strict_json import Json

STOP = "stop"
_ORDER = ("kind", "title", "description", "marking", "purpose", "legal_basis", "valid_until", "levels", "steps")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an outline.

    Attributes:
        depth: how far it is indented.
        number: of a step, from 1; 0 for a line without one.
        text: what stands there.
    """

    depth: int
    number: int
    text: str
    step: Step | None = None


def outline(workflow: Workflow) -> list[Line]:
    """Every step with its number, and where branches begin and the playbook stops."""
    lines: list[Line] = []
    number = 0
    for depth, item in _unfold(workflow.steps, 0, last=True):
        if isinstance(item, str):
            lines.append(Line(depth, 0, item))
        else:
            number += 1
            lines.append(Line(depth, number, item.name, item))
    return lines


def numbers(workflow: Workflow) -> dict[str, int]:
    """The number of every step, by its id."""
    return {line.step.id: line.number for line in outline(workflow) if line.step is not None}


def playbook_file(body: PlaybookBody) -> str:
    """A playbook as a file."""
    document: dict[str, Json] = body.model_dump(mode="json", exclude={"cacao"})
    document["levels"] = [
        {
            "name": level.name,
            "tell": list(level.tell),
            "acknowledge_within": term(level.acknowledge_within_minutes),
            "approvals": level.approvals,
        }
        for level in body.levels
    ]
    document["steps"] = _items(read_workflow(body.cacao).steps, last=True)
    return dump({key: document[key] for key in _ORDER if document[key] != []})


def term(minutes: int) -> str:
    """A length of time as files write it: `30 min`, `4 h`, `2 d`."""
    for unit, size in (("d", 24 * 60), ("h", 60)):
        if minutes % size == 0:
            return f"{minutes // size} {unit}"
    return f"{minutes} min"


def split(question: Question) -> tuple[str, Block, Block]:
    """A last question's shorter branch, with the answer that leads to it, and the one that is the rest."""
    if _count(question.yes) <= _count(question.no):
        return "yes", question.yes, question.no
    return "no", question.no, question.yes


def _count(block: Block) -> int:
    return sum(1 + sum(_count(branch) for branch in branches_of(step)) for step in block)


def _unfold(block: Block, depth: int, *, last: bool) -> Iterator[tuple[int, Step | str]]:
    for step in block:
        yield depth, step
        if isinstance(step, Question) and last and step is block[-1]:
            answer, aside, rest = split(step)
            yield depth + 1, f"if {answer}:"
            yield from _unfold(aside, depth + 2, last=True)
            yield depth + 2, STOP
            yield from _unfold(rest, depth, last=True)
            continue
        names = ("if yes:", "if no:") if isinstance(step, Question) else ("side by side:",) * 8
        for name, branch in zip(names, branches_of(step), strict=False):
            if branch:
                yield depth + 1, name
                yield from _unfold(branch, depth + 2, last=False)


def _items(block: Block, *, last: bool) -> list[Json]:
    items: list[Json] = []
    for step in block:
        item: dict[str, Json] = {}
        rest: Block = ()
        if isinstance(step, Action):
            texts: list[Json] = [command.text for command in step.commands]
            item |= {"name": step.name, "role": step.role, "do": texts[0] if len(texts) == 1 else texts}
            activities: list[Json] = [command.activity for command in step.commands]
            if any(activities):
                item["activity"] = activities[0] if len(set(map(str, activities))) == 1 else activities
        elif isinstance(step, Question):
            item |= {"ask": step.name, "role": step.role}
            if last and step is block[-1]:
                answer, aside, rest = split(step)
                item[answer] = [*_items(aside, last=True), STOP]
            else:
                item |= {"yes": _items(step.yes, last=False), "no": _items(step.no, last=False)}
        else:
            item |= {"parallel": [_items(branch, last=False) for branch in step.branches], "name": step.name}
        item["description"] = step.description
        if isinstance(step, Action | Question):
            item["due_within"] = term(step.due_within_minutes) if step.due_within_minutes else ""
            item["approvals"] = step.approvals
        items.append({key: value for key, value in item.items() if value not in ("", [], 0) or key == "parallel"})
        items += _items(rest, last=True)
    return items
