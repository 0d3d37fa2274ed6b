"""What a regular expression means, as a small tree over code points.

It has only what a *search that answers yes or no* can tell apart: groups capture nothing, and greedy and lazy are the
same. Letter case, classes and the dot are already sets of code points, so no flag and no engine's table matters.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

LAST = 0x10FFFF
Ranges = tuple[tuple[int, int], ...]
"""First and last code point of each run, ascending, apart from each other."""

_SURROGATES = (0xD800, 0xDFFF)


class Edge(Enum):
    """A place between characters."""

    TEXT_START = "the start of the text"
    TEXT_END = "the end of the text"
    LINE_START = "the start of a line"
    LINE_END = "the end of a line"
    WORD = "the edge of an ASCII word"
    NOT_WORD = "no edge of an ASCII word"


@dataclass(frozen=True, slots=True)
class Characters:
    """One character of a set."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Sequence:
    """The parts, one after the other; without parts, the empty text."""

    parts: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the parts."""

    parts: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """The part so often; `most` is None for no bound."""

    part: Tree
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Leap:
    """The shortest run of characters that a given part follows; what is found first is kept.

    The part must always take the same number of characters: then the first place is never worse than a later one, and
    an engine that backtracks need not come back to it.
    """

    part: Tree


Tree = Edge | Characters | Sequence | Choice | Repeat | Leap

ANY = Characters(((0, LAST),))
ANY_RUN = Repeat(ANY, 0, None)


def characters(members: Iterable[str]) -> Characters:
    """The set of these characters."""
    return Characters(joined((ord(member), ord(member)) for member in members))


def joined(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """The ranges in order, with those that touch made one; surrogates, which no text has, count as members or not."""
    result: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        touching = result and (first <= result[-1][1] + 1 or (result[-1][1], first) == (0xD7FF, 0xE000))
        if touching:
            result[-1] = (result[-1][0], max(result[-1][1], last))
        else:
            result.append((first, last))
    return tuple(result)


def complement(ranges: Ranges) -> Ranges:
    """Every other code point, without surrogates at the ends of ranges."""
    result: list[tuple[int, int]] = []
    start = 0
    for first, last in ranges:
        result.append((start, first - 1))
        start = last + 1
    result.append((start, LAST))
    low, high = _SURROGATES
    trimmed = ((high + 1 if low <= a <= high else a, low - 1 if low <= b <= high else b) for a, b in result)
    return tuple((a, b) for a, b in trimmed if a <= b)


def literal(text: str) -> Sequence:
    """Exactly this text."""
    return Sequence(tuple(characters(character) for character in text))
