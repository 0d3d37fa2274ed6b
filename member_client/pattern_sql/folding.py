"""The letters that differ only in case, as the reference evaluator folds them.

`sharing_protocol.pattern_logic.events.fold` is one character to one, so a comparison without regard to case can name
exactly the characters that a letter stands for, and needs no engine's `lower()`: those differ in dotted I, long s,
final sigma and more.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from functools import cache

from sharing_protocol.pattern_logic.conditions import Glob
from sharing_protocol.pattern_logic.events import fold

_BLOCK = 256  # characters; Unicode has a whole number of such blocks


@cache
def _orbits() -> dict[str, str]:
    """Folded character to all characters that fold to it, of those with more than one."""
    orbits: defaultdict[str, list[str]] = defaultdict(list)
    for start in range(0, sys.maxunicode + 1, _BLOCK):
        block = "".join(map(chr, range(start, start + _BLOCK)))
        # only what `casefold` changes can fold to something else, and most blocks have none of that
        for character in block if block.casefold() != block else "":
            folded = fold(character)
            if folded != character:
                orbits[folded].append(character)
    return {folded: folded + "".join(members) for folded, members in orbits.items()}


def orbit(character: str) -> str:
    """The characters that are the same as this one without regard to case, itself among them."""
    return _orbits().get(fold(character), character)


def has_case(text: str) -> bool:
    """Whether letter case matters to any character of the text."""
    return any(len(orbit(character)) > 1 for character in text)


def folded_glob(glob: Glob) -> Glob:
    """The glob with its text folded."""
    return tuple(fold(part) if isinstance(part, str) else part for part in glob)


def translation(text: str | None = None) -> tuple[str, str]:
    """What SQL's TRANSLATE needs to fold a text: characters, and what each becomes, at the same position.

    Args:
        text: already folded; only the characters that fold to one of its characters are named, which is all that a
            comparison with it can see. None names every character that folds at all.
    """
    orbits = _orbits()
    names = orbits.keys() if text is None else dict.fromkeys(character for character in text if character in orbits)
    pairs = [(member, folded) for folded in names for member in orbits[folded] if member != folded]
    return "".join(member for member, _ in pairs), "".join(folded for _, folded in pairs)
