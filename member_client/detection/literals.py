r"""Which texts a rule cannot match without: the literals that one pass over all prompts looks for.

For a condition, `required` gives field and literals such that whenever the condition holds, at least one of the
literals stands in that field, ASCII letters compared without case. The converse is not asked for: an exact test
follows. A condition that can hold without any such literal (a number, an absence, `.*`) has none, and goes to SQL.

Expressions are read by a small reader of RE2's syntax that gives up (None) at whatever it does not know, as
Russ Cox's trigram index does (https://swtch.com/~rsc/regexp/regexp4.html): a set of texts that a part matches exactly
while that is small, and else what of it must be there.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from sharing_protocol.pattern_logic.conditions import All, Condition, Either, RegexTest, TextTest

SHORTEST = 3
"""Bytes: of shorter ones nearly every prompt has some."""
LONGEST = 48
_MAX_EXACT = 16
_MAX_ALTERNATIVES = 64
_DIGITS = re.compile("[0-9]{1,4}")
_UNCASED = frozenset({"Lo", "Po", "Zs", "Ps", "Pe"})

# What Unicode's simple case folding makes ASCII letters of: no search for ASCII sees these.
FOLDED_TO_ASCII = ("\u017f", "\u212a")


@dataclass(frozen=True, slots=True)
class Required:
    """One of these literals (UTF-8, ASCII letters in lower case) stands in the field wherever the condition holds."""

    field: str
    literals: frozenset[bytes]

    @property
    def worth(self) -> tuple[int, int]:
        """What of several to look for: the one whose shortest literal is longest, then the fewest."""
        return min(map(len, self.literals)), -len(self.literals)


def required(condition: Condition) -> Required | None:
    """The most telling literals that the condition needs, None if it needs none."""
    return max(all_required(condition), key=lambda found: found.worth, default=None)


def all_required(condition: Condition) -> list[Required]:
    """Everything that is known of what the condition needs: each by itself leaves no match out."""
    if isinstance(condition, All):
        return list(dict.fromkeys(found for part in condition.parts for found in all_required(part)))
    if isinstance(condition, Either):
        found = _any_of([required(part) for part in condition.parts])
        return [] if found is None else [found]
    if isinstance(condition, TextTest):
        each = [_required(condition.field, {part}) for part in _parts(condition)]
        return [found for found in each if found is not None]
    if isinstance(condition, RegexTest):
        found = _required(condition.field, needed_by_expression(condition.expression))
        return [] if found is None else [found]
    return []


def needed_by_expression(expression: str) -> frozenset[str]:
    """Texts of which one is in whatever the RE2 expression finds; empty if none are known."""
    try:
        reader = _Reader(expression)
        found = reader.alternatives()
        reader.end()
    except (_Unknown, RecursionError):
        return frozenset()
    return found.best()


def _parts(test: TextTest) -> list[str]:
    return [_searchable(part) for part in test.glob if isinstance(part, str)]


def _required(field: str, texts: Iterable[str]) -> Required | None:
    literals = frozenset(_searchable(text).lower().encode() for text in texts)
    if not literals or len(literals) > _MAX_ALTERNATIVES or min(map(len, literals)) < SHORTEST:
        return None
    return Required(field, literals)


def _any_of(parts: list[Required | None]) -> Required | None:
    known = [part for part in parts if part is not None]
    literals = frozenset().union(*(part.literals for part in known))
    if len(known) < len(parts) or len({part.field for part in known}) != 1 or len(literals) > _MAX_ALTERNATIVES:
        return None
    return Required(known[0].field, literals)


def _searchable(text: str) -> str:
    """The longest stretch of characters that are ASCII or have no letter case, at most LONGEST bytes of it."""
    longest = run = ""
    for character in text:
        plain = "\0" < character < "\x80" or (character > "\x7f" and unicodedata.category(character) in _UNCASED)
        run = run + character if plain else ""
        if len(run) > len(longest) and len(run.encode()) <= LONGEST:
            longest = run
    return longest


# -- expressions ---------------------------------------------------------------------------------------------------


class _Unknown(Exception):
    """Syntax that this reader does not know; RE2 does."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What is known of a part of an expression.

    Attributes:
        ends: texts of which one ends whatever it matches, None if not known or too many.
        whole: whether these are all that it can match, and not only ends of it.
        needs: other texts of which one is in whatever it matches; empty if none are known.
    """

    ends: frozenset[str] | None
    whole: bool = True
    needs: frozenset[str] = frozenset()

    def best(self) -> frozenset[str]:
        """The most telling texts of which one is in whatever it matches."""
        return max((self.needs, self.ends or frozenset()), key=_worth)


def _worth(texts: frozenset[str]) -> tuple[int, int]:
    return min((len(_searchable(text).encode()) for text in texts), default=0), -len(texts)


_EMPTY = _Part(frozenset({""}))
_ANYTHING = _Part(None, whole=False)


class _Reader:
    """Recursive descent over an expression."""

    def __init__(self, expression: str) -> None:
        self._text = expression
        self._at = 0

    def alternatives(self) -> _Part:
        """`a|b|c`."""
        parts = [self._sequence()]
        while self._take("|"):
            parts.append(self._sequence())
        if len(parts) == 1:
            return parts[0]
        ends = [part.ends for part in parts if part.ends is not None]
        if len(ends) == len(parts) and len(together := frozenset().union(*ends)) <= _MAX_ALTERNATIVES:
            return _Part(together, all(part.whole for part in parts))
        needs = [part.best() for part in parts]
        return _some(frozenset().union(*needs) if all(needs) else frozenset())

    def end(self) -> None:
        """Nothing may be left."""
        if self._at < len(self._text):
            raise _Unknown

    def _sequence(self) -> _Part:
        done = _EMPTY
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            done = _joined(done, self._repeated(self._single()))
        return done

    def _single(self) -> _Part:
        character = self._next()
        if character == "(":
            return self._group()
        if character == "[":
            return self._class()
        if character == "\\":
            return self._escaped()
        if character == ".":
            return _ANYTHING
        if character in "^$":
            return _EMPTY
        if character in "*+?":
            raise _Unknown
        return _Part(frozenset({character}))

    def _group(self) -> _Part:
        if self._take("?"):
            if self._take("P<") or self._take("<"):
                self._skip_past(">")
            else:
                flags = ""
                while self._text[self._at : self._at + 1].isalpha() or self._text[self._at : self._at + 1] == "-":
                    flags += self._next()
                if set(flags) - set("imsU-"):
                    raise _Unknown
                if self._take(")"):  # flags for what follows: none changes which texts are needed, case aside
                    return _EMPTY
                if not self._take(":"):
                    raise _Unknown
        inside = self.alternatives()
        if not self._take(")"):
            raise _Unknown
        return inside

    def _class(self) -> _Part:
        negated = self._take("^")
        members: set[str] = set()
        simple = True
        first = True
        while first or not self._take("]"):
            first = False
            character = self._next()
            if character == "[" and self._text[self._at : self._at + 1] == ":":
                self._skip_past(":]")
                simple = False
                continue
            if character == "\\":
                escaped = self._escaped()
                if escaped.ends is None:
                    simple = False
                    continue
                (character,) = escaped.ends
            if self._text[self._at : self._at + 1] == "-" and self._text[self._at + 1 : self._at + 2] != "]":
                self._next()
                if self._next() == "\\":
                    self._escaped()
                simple = False
            members.add(character)
        if negated or not simple or len(members) > _MAX_EXACT:
            return _ANYTHING
        return _Part(frozenset(members))

    def _escaped(self) -> _Part:
        character = self._next()
        if character in "dDsSwW":
            return _ANYTHING
        if character in "AzbB":
            return _EMPTY
        if character in "tnrfva":
            return _Part(frozenset({{"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}[character]}))
        if character in "pP":
            if self._take("{"):
                self._skip_past("}")
            else:
                self._next()
            return _ANYTHING
        if character.isalnum():
            raise _Unknown
        return _Part(frozenset({character}))

    def _repeated(self, part: _Part) -> _Part:
        while True:
            if self._take("*") or self._take("?"):
                part = _ANYTHING
            elif self._take("+"):
                part = _some(part.best())
            elif (counts := self._counts()) is not None:
                least, most = counts
                if least == 0:
                    part = _ANYTHING
                elif (least, most) != (1, 1):
                    part = _some(part.best())
            else:
                return part

    def _counts(self) -> tuple[int, int | None] | None:
        """`{2}`, `{2,}` or `{2,5}`; anything else in braces is text."""
        if self._text[self._at : self._at + 1] != "{":
            return None
        end = self._text.find("}", self._at)
        least, comma, most = self._text[self._at + 1 : end].partition(",")
        if end < 0 or not _DIGITS.fullmatch(least) or (most and not _DIGITS.fullmatch(most)):
            return None
        self._at = end + 1
        return int(least), (int(most) if most else None) if comma else int(least)

    def _skip_past(self, text: str) -> None:
        found = self._text.find(text, self._at)
        if found < 0:
            raise _Unknown
        self._at = found + len(text)

    def _take(self, text: str) -> bool:
        if not self._text.startswith(text, self._at):
            return False
        self._at += len(text)
        return True

    def _next(self) -> str:
        if self._at >= len(self._text):
            raise _Unknown
        self._at += 1
        return self._text[self._at - 1]


def _some(needs: frozenset[str]) -> _Part:
    return _Part(None, whole=False, needs=needs)


def _joined(left: _Part, right: _Part) -> _Part:
    """What is known of the one followed by the other."""
    needs = max((left.needs, right.needs), key=_worth)
    if left.ends is not None and right.ends is not None and right.whole:
        together = frozenset(one + two for one in left.ends for two in right.ends)
        if len(together) <= _MAX_EXACT and max(map(len, together)) <= LONGEST:
            return _Part(together, left.whole, needs)
    return _Part(right.ends, whole=False, needs=max((needs, left.ends or frozenset()), key=_worth))
