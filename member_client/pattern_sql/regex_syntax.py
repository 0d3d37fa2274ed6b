r"""Reading RE2's syntax into a tree, for engines that have expressions of another kind.

The expression has been compiled by RE2 before, so only what RE2 takes has to be told apart. What a single class, escape
or letter stands for is never worked out here: RE2 itself is asked, over all code points, under the flags in force.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import cast

import re2

from member_client.pattern_sql.folding import orbit
from member_client.pattern_sql.regex_tree import (
    ANY,
    Characters,
    Choice,
    Edge,
    Ranges,
    Repeat,
    Sequence,
    Tree,
    characters,
    complement,
    joined,
)

_REPEAT = re.compile(r"\{([0-9]+)(,([0-9]*))?\}", re.ASCII)
_FLAGS = re.compile(r"\(\?([imsU]*)(?:-([imsU]+))?([:)])", re.ASCII)
_NAMED = re.compile(r"\(\?P?<[^>]*>")
_ESCAPE = re.compile(r"\\(?:[pP](?:\{[^}]*\}|.)|x(?:\{[0-9A-Fa-f]+\}|[0-9A-Fa-f]{2})|[0-7]{1,3}|.)", re.DOTALL)
_POSIX_CLASS = re.compile(r"\[:\^?[a-z]+:\]", re.ASCII)
_VARYING = re.compile(r"\\[pP]|\(\?P?<")
_SIMPLE_REPEATS = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_EDGES = {"A": Edge.TEXT_START, "z": Edge.TEXT_END, "b": Edge.WORD, "B": Edge.NOT_WORD}
_NOT_A_LINE_BREAK = Characters(complement(((10, 10),)))


def varies(expression: str) -> bool:
    r"""Whether releases of RE2 take it differently; what is only quoted counts too, which does no harm.

    The members of `\pL` are those of the release's Unicode, and older ones know neither `(?<name>` nor names that are
    not ASCII.
    """
    return _VARYING.search(expression) is not None


@lru_cache(maxsize=256)
def parse(expression: str) -> Tree:
    """The tree of an expression that RE2 takes."""
    return _Reader(expression).whole()


@dataclass(frozen=True, slots=True)
class _Flags:
    i: bool = False
    m: bool = False
    s: bool = False


class _Reader:
    def __init__(self, expression: str) -> None:
        self._rest = expression
        self._position = 0

    def whole(self) -> Tree:
        tree = self._choice(_Flags())
        if self._position != len(self._rest):
            raise ValueError(f"RE2 takes an expression that is not read here: {self._rest!r} at {self._position}")
        return tree

    def _choice(self, flags: _Flags) -> Tree:
        """Up to the closing bracket or the end; flags set inside hold until there, across the alternatives."""
        parts: list[Tree] = []
        sequence: list[Tree] = []
        while self._position < len(self._rest) and not self._at(")"):
            if self._take("|"):
                parts.append(_sequence(sequence))
                sequence = []
                continue
            switch = _FLAGS.match(self._rest, self._position)
            if switch is not None and switch[3] == ")":
                self._position = switch.end()
                flags = _switched(flags, switch)
                continue
            sequence.extend(self._atoms(flags))
            self._repeats(sequence)
        parts.append(_sequence(sequence))
        return parts[0] if len(parts) == 1 else _either(parts)

    def _repeats(self, sequence: list[Tree]) -> None:
        """Apply what repeats the last atom."""
        while self._position < len(self._rest) and sequence:
            sign = self._rest[self._position]
            counted = _REPEAT.match(self._rest, self._position)
            if sign in _SIMPLE_REPEATS:
                self._position += 1
                least, most = _SIMPLE_REPEATS[sign]
            elif counted is not None:
                self._position = counted.end()
                least = int(counted[1])
                most = least if counted[2] is None else int(counted[3]) if counted[3] else None
            else:
                return
            self._take("?")
            sequence[-1] = Repeat(sequence[-1], least, most)

    def _atoms(self, flags: _Flags) -> list[Tree]:
        """The next atom; of a quotation, all its letters."""
        if self._at("("):
            return [self._group(flags)]
        if self._at("["):
            return [Characters(members(self._class(), flags.i))]
        if self._at("\\"):
            return self._escape(flags)
        letter = self._rest[self._position]
        self._position += 1
        if letter == ".":
            return [ANY if flags.s else _NOT_A_LINE_BREAK]
        if letter == "^":
            return [Edge.LINE_START if flags.m else Edge.TEXT_START]
        if letter == "$":
            return [Edge.LINE_END if flags.m else Edge.TEXT_END]
        return [_letter(letter, flags)]

    def _group(self, flags: _Flags) -> Tree:
        switch = _FLAGS.match(self._rest, self._position)
        named = _NAMED.match(self._rest, self._position)
        if switch is not None:
            self._position = switch.end()
            flags = _switched(flags, switch)
        else:
            self._position = named.end() if named is not None else self._position + 1
        inner = self._choice(flags)
        self._position += 1  # the closing bracket
        return inner

    def _class(self) -> str:
        """The text of a class in square brackets."""
        start = self._position
        self._position += 1
        self._take("^")
        self._take("]")  # a bracket that comes first is a member
        while not self._at("]"):
            posix = _POSIX_CLASS.match(self._rest, self._position)
            escape = _ESCAPE.match(self._rest, self._position)
            longer = posix or escape
            self._position = longer.end() if longer is not None else self._position + 1
        self._position += 1
        return self._rest[start : self._position]

    def _escape(self, flags: _Flags) -> list[Tree]:
        if self._rest.startswith("\\Q", self._position):
            end = self._rest.find("\\E", self._position + 2)
            quoted = self._rest[self._position + 2 : end if end >= 0 else len(self._rest)]
            self._position = end + 2 if end >= 0 else len(self._rest)
            return [_letter(letter, flags) for letter in quoted]
        escape = _ESCAPE.match(self._rest, self._position)
        if escape is None:
            raise ValueError(f"RE2 takes an escape that is not read here: {self._rest!r}")
        self._position = escape.end()
        kind = escape[0][1]
        if kind in _EDGES:
            return [_EDGES[kind]]
        if kind.isalnum():
            return [Characters(members(escape[0], flags.i))]
        return [_letter(kind, flags)]

    def _at(self, letter: str) -> bool:
        return self._rest.startswith(letter, self._position)

    def _take(self, letter: str) -> bool:
        found = self._at(letter)
        self._position += found
        return found


def _switched(flags: _Flags, switch: re.Match[str]) -> _Flags:
    on = {letter: True for letter in switch[1] if letter != "U"}
    off = {letter: False for letter in switch[2] or "" if letter != "U"}
    return replace(flags, **on, **off)


def _letter(letter: str, flags: _Flags) -> Characters:
    return characters(orbit(letter) if flags.i else letter)


def _sequence(parts: list[Tree]) -> Tree:
    return parts[0] if len(parts) == 1 else Sequence(tuple(parts))


def _either(parts: list[Tree]) -> Tree:
    """One of them; single characters become one set, which engines that backtrack take in one step."""
    if all(isinstance(part, Characters) for part in parts):
        return Characters(joined(run for part in parts if isinstance(part, Characters) for run in part.ranges))
    return Choice(tuple(parts))


@cache
def _every_character() -> bytes:
    codes = (code for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF)
    return "".join(map(chr, codes)).encode()


@lru_cache(maxsize=256)
def members(token: str, ignoring_case: bool) -> Ranges:
    """The code points that one class or escape stands for, as RE2 has them."""
    expression = f"(?{'i' if ignoring_case else ''}s:{token})+"
    runs = cast(list[bytes], re2.findall(f"(?:{expression})", _every_character()))
    texts = (run.decode() for run in runs)
    return joined((ord(text[0]), ord(text[-1])) for text in texts)
