"""Which windows patterns could match at all: no others need to be built.

A rule's condition is asked with three answers (yes, no, not known) of what is known of a window before it is built:
its length, its kind of key, and that it has at most so many accounts. Where the answer is no, the rule cannot match.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from sharing_protocol.pattern_logic import Logic
from sharing_protocol.pattern_logic.catalogue import Category, fields_in
from sharing_protocol.pattern_logic.conditions import (
    All,
    Comparison,
    Condition,
    Either,
    Not,
    NumberTest,
    PresenceTest,
    RegexTest,
    TextTest,
)
from sharing_protocol.pattern_logic.events import Event
from sharing_protocol.pattern_logic.predicates import COMPARE, build

LENGTHS = (1, 24, 168)
COMPONENT = "component"
KINDS = ("payment", "subnet", "network", "client", "template", "creation_burst", COMPONENT)
ACCOUNT = ""
"""The kind of windows of single accounts."""
SMALLEST = 2
"""Accounts of a cluster."""
_MOST = 2**53


@dataclass(frozen=True, slots=True)
class Demand:
    """Windows that some pattern could match.

    Attributes:
        hours: their length.
        kind: ACCOUNT, or the kind of key of a cluster.
        least: accounts that such a cluster has at least.
        unlikeness: whether their `window.mmd_z` is asked for.
    """

    hours: int
    kind: str
    least: int = 1
    unlikeness: bool = True


EVERYTHING = frozenset(
    Demand(hours, kind, 1 if kind == ACCOUNT else SMALLEST) for hours in LENGTHS for kind in (ACCOUNT, *KINDS)
)


def demands(logics: Iterable[Logic]) -> frozenset[Demand]:
    """What these patterns ask of windows, at most one demand a length and kind; nothing for those over requests."""
    found: dict[tuple[int, str], tuple[int, bool]] = {}
    for logic in logics:
        if logic.category is Category.REQUEST:
            continue
        unlikeness = "window.mmd_z" in logic.required_fields
        kinds = KINDS if logic.category is Category.CLUSTER_WINDOW else (ACCOUNT,)
        for hours in LENGTHS:
            for kind in kinds:
                leasts = [least for rule in logic.rules if (least := _least(rule.condition, hours, kind)) is not None]
                if leasts:
                    before, asked = found.get((hours, kind), (_MOST, False))
                    found[hours, kind] = min(before, *leasts), asked or unlikeness
    return frozenset(Demand(*window, least, unlikeness) for window, (least, unlikeness) in found.items())


def all_windows(logics: Iterable[Logic]) -> frozenset[Demand]:
    """Every window, but `window.mmd_z` only where these patterns ask for it.

    For a lab's own logs: which fields no window has, and which share of all windows matches, is told of all of them.
    """
    asked = {(one.hours, one.kind) for one in demands(logics) if one.unlikeness}
    return frozenset(Demand(one.hours, one.kind, one.least, (one.hours, one.kind) in asked) for one in EVERYTHING)


def _least(condition: Condition, hours: int, kind: str) -> int | None:
    """How many accounts a window has at least for which the condition could hold; None if it never could."""
    if kind == ACCOUNT:
        return None if _holds(condition, {"window.hours": (hours, hours)}, None) is False else 1

    def impossible(most: int) -> bool:
        # a party has an account at least, so there are no more parties than accounts
        known = {"window.hours": (hours, hours), "cluster.accounts": (SMALLEST, most), "cluster.units": (1, most)}
        return _holds(condition, known, kind) is False

    if impossible(_MOST):
        return None
    return max((n for n in _numbers(condition) if n > SMALLEST and impossible(n - 1)), default=SMALLEST)


def _numbers(condition: Condition) -> Collection[int]:
    """Numbers of accounts or parties from which on something could hold that does not with fewer."""
    if isinstance(condition, All | Either):
        return {number for part in condition.parts for number in _numbers(part)}
    if isinstance(condition, Not):
        return _numbers(condition.part)
    if isinstance(condition, NumberTest) and condition.field in ("cluster.accounts", "cluster.units"):
        number = int(min(max(condition.number, SMALLEST), _MOST - 1))
        return {number, number + 1}
    return ()


def _holds(condition: Condition, ranges: Mapping[str, tuple[int, int]], kind: str | None) -> bool | None:
    """Whether the condition holds for all windows with numbers in these ranges; None if for some, or not known."""
    if isinstance(condition, All):
        answers = {_holds(part, ranges, kind) for part in condition.parts}
        return False if False in answers else None if None in answers else True
    if isinstance(condition, Either):
        answers = {_holds(part, ranges, kind) for part in condition.parts}
        return True if True in answers else None if None in answers else False
    if isinstance(condition, Not):
        answer = _holds(condition.part, ranges, kind)
        return None if answer is None else not answer
    if isinstance(condition, NumberTest) and condition.field in ranges:
        return _compares(condition, *ranges[condition.field])
    if isinstance(condition, PresenceTest) and (condition.field in ranges or condition.field == "cluster.key_kind"):
        return condition.present
    if isinstance(condition, TextTest | RegexTest) and condition.field == "cluster.key_kind" and kind is not None:
        return build(condition, fields_in(Category.CLUSTER_WINDOW).__getitem__)(Event({"cluster.key_kind": kind}))
    return None


def _compares(test: NumberTest, low: int, high: int) -> bool | None:
    """Of all whole numbers from low to high."""
    ends = {COMPARE[test.comparison](low, test.number), COMPARE[test.comparison](high, test.number)}
    if len(ends) > 1:
        return None
    if test.comparison in (Comparison.EQ, Comparison.NEQ) and low < test.number < high:
        return None
    return ends.pop()
