r"""Regular expressions that cannot be made to hang: RE2 syntax, linear time, bounded memory.

A pattern is written by another lab and runs over customers' prompts, so a backtracking engine would be a denial
of service by design. RE2 has no look-around and no back-references; `\C` (one byte) is refused, because engines
that work on characters cannot mean it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import accumulate
from typing import Protocol, cast

import re2

MAX_MEMORY = 2 * 1024 * 1024  # bytes for program and automaton; RE2's default is 8 MiB
# Where RE2's automaton grows too large it walks the text with the program itself, in time proportional to both:
# 2,000 instructions are about 2 ms a kilobyte at worst. `.{0,200}` takes 1,600, `\pL` alone 1,200.
MAX_INSTRUCTIONS = 2_000
MAX_NESTING = 50
"""Brackets within brackets: engines' readers of expressions descend into each, on a stack that has an end."""

# Of an expression that RE2 takes: what is quoted, an escape, a class; in none of them does a bracket open a group.
_TOKEN = re.compile(r"\\Q.*?(?:\\E|\Z)|\\.|\[\^?\]?(?:\[:\^?[a-z]+:\]|\\.|[^\]\\])*\]|.", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class Regex(Protocol):
    """What we use of a compiled expression; bytes are read as UTF-8."""

    @property
    def programsize(self) -> int: ...
    def search(self, text: bytes) -> object | None: ...


class BadRegex(Exception):
    """An expression that RE2 does not take. `mend` says what to write instead."""

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(what)
        self.what = what
        self.mend = mend


def compile_regex(expression: str) -> Regex:
    """Compile an RE2 expression for searching (unanchored) in UTF-8 bytes.

    Raises:
        BadRegex: too large once compiled, nested too deeply, or not RE2 syntax.
    """
    escapes = _ESCAPED.findall(expression)
    if "C" in escapes:
        raise BadRegex(r"\C matches a single byte, which other engines cannot", "use . with the s flag")
    options = re2.Options()
    options.max_mem = MAX_MEMORY
    options.log_errors = False  # the error is raised; RE2 would also print it on stderr
    options.never_capture = True
    try:
        compiled = cast(Regex, re2.compile(expression, options=options))
    except re2.error as error:
        raise _explain(expression, escapes, error) from error
    if compiled.programsize > MAX_INSTRUCTIONS:
        raise _too_large(f"{compiled.programsize} instructions, more than {MAX_INSTRUCTIONS}")
    if _nesting(expression) > MAX_NESTING:
        raise BadRegex(
            f"the expression has more than {MAX_NESTING} groups within each other", "leave out brackets that do nothing"
        )
    return compiled


def with_flags(expression: str, flags: Iterable[str]) -> str:
    """The expression with any of the flags i, m and s written into it."""
    letters = "".join(sorted(flags))
    return f"(?{letters}){expression}" if letters else expression


def quote(text: str) -> str:
    """The expression that matches exactly this text."""
    return cast(str, re2.escape(text))


def _nesting(expression: str) -> int:
    """How many groups are open at most, in an expression that RE2 takes."""
    steps = ({"(": 1, ")": -1}.get(token, 0) for token in _TOKEN.findall(expression))
    return max(accumulate(steps), default=0)


def _too_large(said: str) -> BadRegex:
    return BadRegex(
        f"the expression is too large once compiled ({said})", "use smaller counts in {n,m}, and fewer large classes"
    )


def _explain(expression: str, escapes: list[str], error: Exception) -> BadRegex:
    reason = error.args[0] if error.args else b""
    said = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
    if re.search(r"\(\?(?:<?[=!]|>)", expression):
        return BadRegex(
            "look-around and atomic groups are not in RE2's linear-time syntax",
            "write what must match as one value and what must not as a second selection with `not`",
        )
    if "(?P=" in expression or any(letter in "123456789k" for letter in escapes):
        return BadRegex(
            "back-references are not in RE2's linear-time syntax", "spell the repeated text out, or drop it"
        )
    if "too large" in said or "repetition" in said:
        return _too_large(said)
    return BadRegex(f"not a regular expression in RE2 syntax ({said})", "see RE2's syntax page for what is allowed")
