"""Whose access a revocation ended, and no decision asks for any longer: nothing gives it back by itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from member_client.revocation.authority import Authority, Target
from member_client.revocation.journal import Line
from member_client.revocation.running import TO_UNDO


@dataclass(frozen=True, slots=True)
class ToGiveBack:
    """An account or organisation that is shut out although its decision no longer blocks.

    Attributes:
        plan: id of the plan that ended its access.
        why: what became of the decision, in words.
    """

    target: Target
    plan: str
    why: str


@dataclass(frozen=True, slots=True)
class PlanInShort:
    """A plan that was run.

    Attributes:
        begun: RFC 3339, when the first of its accounts was noted.
        ended: whose access it ended, or may have, and nobody gave back.
        to_give_back: of those, whose decision no longer blocks; None if that is not known.
    """

    id: str
    begun: str
    ended: int
    to_give_back: int | None


def to_give_back(lines: Iterable[Line], authority: Authority) -> list[ToGiveBack]:
    """Everybody who is shut out without reason now, over all plans; each by the decision that ended the access.

    Who is shut out by a second decision too, and that one still blocks, is left out.
    """
    last = {line.target: line for line in lines}
    ended = {target: line.plan for target, line in last.items() if line.what in TO_UNDO}
    why = {target: authority.why_not(target) for target in ended}
    blocked = {(target.kind, target.id) for target in ended if not why[target]}
    return [
        ToGiveBack(target, plan, why[target])
        for target, plan in ended.items()
        if (target.kind, target.id) not in blocked
    ]


def plans_in_short(lines: list[Line], owed: Iterable[ToGiveBack] | None) -> list[PlanInShort]:
    """Every plan that was run, the oldest first.

    Args:
        owed: None if it is not known.
    """
    begun: dict[str, str] = {}
    ended: dict[str, int] = {}
    back: dict[str, int] = {}
    for line in lines:
        begun.setdefault(line.plan, line.at)
    for line in {line.target: line for line in lines}.values():
        ended[line.plan] = ended.get(line.plan, 0) + (line.what in TO_UNDO)
    for one in owed or ():
        back[one.plan] = back.get(one.plan, 0) + 1
    return [
        PlanInShort(plan, at, ended.get(plan, 0), None if owed is None else back.get(plan, 0))
        for plan, at in begun.items()
    ]
