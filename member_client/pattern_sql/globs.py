"""Sigma's strings with wildcards, as regular expressions."""

from __future__ import annotations

import re

from member_client.pattern_sql.folding import orbit
from member_client.pattern_sql.regex_tree import ANY, ANY_RUN, Edge, Leap, Sequence, Tree, characters
from sharing_protocol.pattern_logic.conditions import Glob, Wildcard

_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")


def as_tree(glob: Glob, cased: bool) -> Tree:
    """A tree that is found in a text exactly if the whole text fits the glob."""
    pieces: list[list[Tree]] = [[]]
    for part in glob:
        if part is Wildcard.RUN:
            pieces.append([])
        elif part is Wildcard.ONE:
            pieces[-1].append(ANY)
        elif isinstance(part, str):
            pieces[-1].extend(characters(letter if cased else orbit(letter)) for letter in part)
    first, *later = pieces
    start: tuple[Tree, ...] = (Edge.TEXT_START, *first)
    if not later:
        return Sequence((*start, Edge.TEXT_END))
    *middle, last = later
    leaps = [Leap(Sequence(tuple(piece))) for piece in middle if piece]
    if not last:
        if len(leaps) == 1 and not first:  # contains: no need to hold on to the start
            return leaps[0].part
        return Sequence((*start, *leaps))
    ending = (*last, Edge.TEXT_END)
    if not first and not leaps:
        return Sequence(ending)
    return Sequence((*start, *leaps, ANY_RUN, *ending))


def as_re2(glob: Glob, cased: bool) -> tuple[str, str]:
    """The same for RE2, readable: flags, and the expression without them."""
    signs = {Wildcard.RUN: ".*", Wildcard.ONE: "."}
    inner = list(glob)
    start, end = r"\A", r"\z"
    if inner and inner[0] is Wildcard.RUN:
        inner, start = inner[1:], ""
    if inner and inner[-1] is Wildcard.RUN:
        inner, end = inner[:-1], ""
    flags = ("" if cased else "i") + ("s" if any(isinstance(part, Wildcard) for part in inner) else "")
    return flags, start + "".join(_quoted(part) if isinstance(part, str) else signs[part] for part in inner) + end


def _quoted(text: str) -> str:
    return _SPECIAL.sub(lambda found: "\\" + found[0], text).replace("\0", r"\x00")
