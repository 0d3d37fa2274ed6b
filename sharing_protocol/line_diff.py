"""What changed between two texts, line by line, within a time that nobody's text can lengthen."""

import difflib
from collections.abc import Sequence
from itertools import takewhile

MOST_COMPARED = 1_000_000
"""Lines of the one text times lines of the other, of which a shortest difference is looked for."""
CONTEXT = 3
"""Lines that are the same, before and after what differs."""


def line_diff(old: Sequence[str], new: Sequence[str], names: tuple[str, str]) -> list[str]:
    """A unified diff; of long texts not the shortest, but all that stands between their common beginning and end.

    `difflib` takes the cube of the length, at worst: half a minute for two statements that somebody wrote for that.

    Args:
        old, new: lines without their ends.
        names: of the two texts, for the head.

    Returns:
        Lines without their ends; [] if nothing changed.
    """
    if len(old) * len(new) <= MOST_COMPARED:
        return list(difflib.unified_diff(old, new, *names, lineterm=""))
    if old == new:
        return []
    head = _common(old, new)
    tail = _common(old[head:][::-1], new[head:][::-1])
    first = max(0, head - CONTEXT)
    after = old[len(old) - tail :][:CONTEXT]
    removed, added = old[head : len(old) - tail], new[head : len(new) - tail]
    sizes = [head - first + len(lines) + len(after) for lines in (removed, added)]
    return [
        f"--- {names[0]}",
        f"+++ {names[1]}",
        f"@@ -{first + 1},{sizes[0]} +{first + 1},{sizes[1]} @@",
        *(f" {line}" for line in old[first:head]),
        *(f"-{line}" for line in removed),
        *(f"+{line}" for line in added),
        *(f" {line}" for line in after),
    ]


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many lines two texts have in common at their beginnings."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
