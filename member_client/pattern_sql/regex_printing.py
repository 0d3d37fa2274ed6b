"""Writing a tree as a regular expression of one kind or another."""

from __future__ import annotations

from abc import ABC, abstractmethod

from typing_extensions import override

from member_client.pattern_sql.regex_backtracking import refuse_what_explodes
from member_client.pattern_sql.regex_tree import (
    ANY,
    ANY_RUN,
    LAST,
    Characters,
    Choice,
    Edge,
    Leap,
    Ranges,
    Repeat,
    Sequence,
    Tree,
    complement,
)
from member_client.pattern_sql.unsupported import Unsupported

MAX_LENGTH = 30_000
"""Characters of an expression; Unicode's larger classes are some thousands each."""

_SPECIAL = frozenset("\\.+*?()|[]{}^$")
_SPECIAL_IN_SET = frozenset("\\[]^-&~#")


class Printer(ABC):
    """One kind of expression."""

    _open = "(?:"

    def print(self, tree: Tree) -> str:
        """The expression that is found in a text exactly if the tree is.

        Raises:
            Unsupported: this kind cannot say it.
        """
        expression = self._whole(tree)
        if len(expression) > MAX_LENGTH:
            raise Unsupported(
                "an expression is too large once its classes are written out",
                f"it has {len(expression)} characters, more than {MAX_LENGTH}",
                "use smaller classes, and fewer of Unicode's",
            )
        return expression

    def _whole(self, tree: Tree) -> str:
        return self._print(tree)

    def _print(self, tree: Tree) -> str:
        if isinstance(tree, Characters):
            return self._set(tree)
        if isinstance(tree, Sequence):
            return "".join(self._grouped(part, Choice) for part in tree.parts)
        if isinstance(tree, Choice):
            return "|".join(self._print(part) for part in tree.parts)
        if isinstance(tree, Repeat):
            return self._repeat(tree)
        if isinstance(tree, Leap):
            return self._leap(tree)
        return self._edge(tree)

    def _grouped(self, tree: Tree, *kinds: type) -> str:
        """Printed, in brackets if it is of these kinds."""
        printed = self._print(tree)
        return f"{self._open}{printed})" if isinstance(tree, kinds) else printed

    def _repeat(self, tree: Repeat) -> str:
        counts = {(0, None): "*", (1, None): "+", (0, 1): "?"}
        count = counts.get((tree.least, tree.most))
        if count is None:
            upper = "" if tree.most == tree.least else f",{'' if tree.most is None else tree.most}"
            count = f"{{{tree.least}{upper}}}"
        return self._grouped(tree.part, Sequence, Choice, Repeat, Leap, Edge) + count

    @abstractmethod
    def _set(self, tree: Characters) -> str: ...

    @abstractmethod
    def _leap(self, tree: Leap) -> str: ...

    @abstractmethod
    def _edge(self, edge: Edge) -> str: ...


class _Usual(Printer):
    r"""What RE2 and Java's expressions share: `\x{…}`, escapes in sets, groups that capture nothing."""

    @override
    def _set(self, tree: Characters) -> str:
        if tree == ANY:
            return r"[\s\S]"
        if len(tree.ranges) == 1 and tree.ranges[0][0] == tree.ranges[0][1]:
            return _written(tree.ranges[0][0], _SPECIAL)
        others = complement(tree.ranges)
        if not tree.ranges:
            return r"[^\s\S]"
        if len(others) < len(tree.ranges) or (len(others) == len(tree.ranges) and tree.ranges[-1][1] == LAST):
            return f"[^{_runs(others)}]"
        return f"[{_runs(tree.ranges)}]"


class _RE2(_Usual):
    @override
    def _leap(self, tree: Leap) -> str:
        return r"[\s\S]*?" + self._grouped(tree.part, Choice)

    @override
    def _edge(self, edge: Edge) -> str:
        return {
            Edge.TEXT_START: r"\A",
            Edge.TEXT_END: r"\z",
            Edge.LINE_START: "(?m:^)",
            Edge.LINE_END: "(?m:$)",
            Edge.WORD: r"\b",
            Edge.NOT_WORD: r"\B",
        }[edge]


class _Java(_Usual):
    """Java's, which backtrack: written so that they mean the same, and refused where they might take for ever."""

    _WORD = "[0-9A-Za-z_]"

    @override
    def _whole(self, tree: Tree) -> str:
        refuse_what_explodes(tree)
        return self._print(tree)

    @override
    def _leap(self, tree: Leap) -> str:
        return rf"(?>[\s\S]*?{self._grouped(tree.part, Choice)})"

    @override
    def _edge(self, edge: Edge) -> str:
        word = self._WORD
        return {
            Edge.TEXT_START: r"\A",
            Edge.TEXT_END: r"\z",
            # Java's own ^ and $ hold at other characters too that end a line somewhere
            Edge.LINE_START: r"(?:\A|(?<=\x{a}))",
            Edge.LINE_END: r"(?:\z|(?=\x{a}))",
            Edge.WORD: f"(?:(?<={word})(?!{word})|(?<!{word})(?={word}))",
            Edge.NOT_WORD: f"(?:(?<={word})(?={word})|(?<!{word})(?!{word}))",
        }[edge]


class _Posix(Printer):
    """POSIX's extended expressions, held against the whole text, the dot being any character."""

    _open = "("

    @override
    def _whole(self, tree: Tree) -> str:
        refuse_what_explodes(tree)
        parts = list(tree.parts) if isinstance(tree, Sequence) else [tree]
        start = ".*" if not parts or parts[0] is not Edge.TEXT_START else ""
        parts = parts if start else parts[1:]
        end = ".*" if not parts or parts[-1] is not Edge.TEXT_END else ""
        parts = parts if end else parts[:-1]
        inner = "".join(self._grouped(part, Choice) for part in parts)
        return start + inner + end

    @override
    def _print(self, tree: Tree) -> str:
        if isinstance(tree, Choice) and any(part == Sequence(()) for part in tree.parts):
            others = Choice(tuple(part for part in tree.parts if part != Sequence(())))
            return f"({self._print(others)})?"
        return Printer._print(self, tree)

    @override
    def _set(self, tree: Characters) -> str:
        if tree == ANY:
            return "."
        if len(tree.ranges) == 1 and tree.ranges[0][0] == tree.ranges[0][1]:
            return self._single(tree.ranges[0][0])
        others = complement(tree.ranges)
        if others and tree.ranges[-1][1] == LAST:
            return f"[^{self._members(others)}]"
        return f"[{self._members(tree.ranges)}]"

    @override
    def _leap(self, tree: Leap) -> str:
        return self._print(Sequence((ANY_RUN, tree.part)))

    @override
    def _edge(self, edge: Edge) -> str:
        raise Unsupported(
            f"an expression asks for {edge.value} somewhere inside",
            "Snowflake holds expressions against the whole text and has no look-around",
            r"ask for it with \A at the very start or \z at the very end, or spell the neighbours out",
        )

    def _single(self, code: int) -> str:
        self._refuse_zero(code)
        character = chr(code)
        return "\\" + character if character in _SPECIAL else character

    def _members(self, ranges: Ranges) -> str:
        r"""What stands between the brackets, the same whether or not a backslash there is a backslash."""
        first, middle, last = "", "", ""
        for low, high in ranges:
            self._refuse_zero(low)
            ends = [low] if low == high else [low, high]
            if any(chr(code) in "\\]-^[" for code in ends) and low != high:
                raise Unsupported(
                    "an expression has a range of characters that ends with a bracket, a backslash, ^ or -",
                    "Snowflake does not say what those mean there",
                    "write the range without its ends",
                )
            for code in ends[:1] if low == high else []:
                character = chr(code)
                first += "]" if character == "]" else ""
                last += {"[": "[", "^": "^"}.get(character, "")
                middle += "" if character in "][^-" else "\\\\" if character == "\\" else character
            if low != high:
                middle += f"{chr(low)}-{chr(high)}"
        hyphen = "-" if any(low == high == ord("-") for low, high in ranges) else ""
        if "^" in last and not first + middle:
            raise Unsupported("an expression has a set of ^ and brackets", "Snowflake has no such set", "use a choice")
        return first + middle + last + hyphen

    def _refuse_zero(self, code: int) -> None:
        if code == 0:
            raise Unsupported(
                "an expression has the character U+0000", "Snowflake has no constant with it", "leave it out"
            )


RE2 = _RE2()
JAVA = _Java()
POSIX = _Posix()


def _runs(ranges: Ranges) -> str:
    def one(low: int, high: int) -> str:
        first, last = _written(low, _SPECIAL_IN_SET), _written(high, _SPECIAL_IN_SET)
        return first if low == high else first + last if high == low + 1 else f"{first}-{last}"

    return "".join(one(low, high) for low, high in ranges)


def _written(code: int, special: frozenset[str]) -> str:
    character = chr(code)
    if character in special:
        return "\\" + character
    return character if character.isprintable() else f"\\x{{{code:x}}}"
