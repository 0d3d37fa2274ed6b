"""Which expressions may take an engine that backtracks for ever.

RE2 takes time in proportion to the text. Java's engine tries one way after the other, and where a repetition can read
the same text in two ways, the ways double with every round: a pattern from another lab would stop a lab's cluster. Such
repetitions are found as in the theory of ambiguity: two different walks round the loop, over the same characters, that
start and end at the same place (an "exponential degree of ambiguity").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence as Ordered
from itertools import product
from typing import TypeVar

from member_client.pattern_sql.regex_tree import Characters, Choice, Leap, Ranges, Repeat, Sequence, Tree
from member_client.pattern_sql.unsupported import Unsupported

MAX_PLACES = 200
"""Characters in one loop; the check takes time in proportion to the square."""

_Node = TypeVar("_Node", int, tuple[int, int])
_WHY = "this engine tries one way after the other, and might try for ever"
_MEND = "let each round begin with a character that the round before cannot end with, or split the expression"


def refuse_what_explodes(tree: Tree) -> None:
    """Check every outermost loop of the tree.

    Raises:
        Unsupported: one can read the same text in two ways, or is too large to tell.
    """
    if isinstance(tree, Repeat):
        if _loops(tree) and not isinstance(tree.part, Characters):
            _Loop(tree).check()
        elif not _loops(tree):
            refuse_what_explodes(tree.part)
    elif isinstance(tree, Sequence | Choice):
        for part in tree.parts:
            refuse_what_explodes(part)


def _loops(tree: Repeat) -> bool:
    return tree.most is None or tree.most > 1


class _Loop:
    """One loop as an automaton whose states are its characters (Glushkov's)."""

    def __init__(self, tree: Repeat) -> None:
        self._sets: list[Ranges] = []
        self._steps: Counter[tuple[int, int]] = Counter()
        self._walk(tree)

    def check(self) -> None:
        """Raise Unsupported if two different walks read the same text from one state back to it."""
        component = _components({state: self._after(state) for state in range(len(self._sets))})
        if any(ways > 1 and component[one] == component[two] for (one, two), ways in self._steps.items()):
            raise Unsupported("a repetition can take the same text in two ways", _WHY, _MEND)
        pairs = {
            (one, two): [
                (after, other)
                for after, other in product(self._after(one), self._after(two))
                if _overlap(self._sets[after], self._sets[other])
            ]
            for one, two in product(range(len(self._sets)), repeat=2)
            if component[one] == component[two]
        }
        known = {pair: [after for after in reached if after in pairs] for pair, reached in pairs.items()}
        grouped = _components(known)
        together = {grouped[pair] for pair in known if pair[0] == pair[1]}
        if any(one != two and grouped[one, two] in together for one, two in known):
            raise Unsupported("a repetition can take the same text in two ways", _WHY, _MEND)

    def _after(self, state: int) -> list[int]:
        return [two for one, two in self._steps if one == state]

    def _walk(self, tree: Tree) -> tuple[list[int], list[int], bool]:
        """First and last states of a part, and whether it can be empty; notes the steps between its states."""
        if isinstance(tree, Characters):
            if len(self._sets) == MAX_PLACES:
                raise Unsupported("a repetition is too large", _WHY, "make it smaller, or split the expression")
            self._sets.append(tree.ranges)
            return [len(self._sets) - 1], [len(self._sets) - 1], False
        if isinstance(tree, Choice):
            walked = [self._walk(part) for part in tree.parts]
            firsts = [state for first, _, _ in walked for state in first]
            lasts = [state for _, last, _ in walked for state in last]
            return firsts, lasts, any(empty for _, _, empty in walked)
        if isinstance(tree, Sequence):
            return self._walk_sequence(tree)
        if isinstance(tree, Repeat):
            first, last, empty = self._walk(tree.part)
            if _loops(tree):
                if empty:
                    raise Unsupported("a repetition of what may be empty", _WHY, "make a character of it necessary")
                self._steps.update(product(last, first))
            return first, last, empty or tree.least == 0
        if isinstance(tree, Leap):
            raise TypeError("leaps stand in globs, which have no loops")
        return [], [], True  # a place between characters

    def _walk_sequence(self, tree: Sequence) -> tuple[list[int], list[int], bool]:
        first: list[int] = []
        last: list[int] = []
        empty = True
        for part in tree.parts:
            part_first, part_last, part_empty = self._walk(part)
            self._steps.update(product(last, part_first))
            first += part_first if empty else []
            last = [*last, *part_last] if part_empty else part_last
            empty = empty and part_empty
        return first, last, empty


def _overlap(one: Ranges, other: Ranges) -> bool:
    return any(low <= last and first <= high for low, high in one for first, last in other)


def _components(edges: Mapping[_Node, Ordered[_Node]]) -> dict[_Node, int]:
    """A number for each node, the same for those that reach each other (Tarjan's, without recursion)."""
    order: dict[_Node, int] = {}
    low: dict[_Node, int] = {}
    component: dict[_Node, int] = {}
    path: list[_Node] = []
    for root in edges:
        if root in order:
            continue
        order[root] = low[root] = len(order)
        path.append(root)
        work = [(root, iter(edges[root]))]
        while work:
            node, rest = work[-1]
            for following in rest:
                if following not in order:
                    order[following] = low[following] = len(order)
                    path.append(following)
                    work.append((following, iter(edges[following])))
                    break
                if following not in component:
                    low[node] = min(low[node], order[following])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == order[node]:
                    number, member = len(component), None
                    while member != node:
                        member = path.pop()
                        component[member] = number
    return component
