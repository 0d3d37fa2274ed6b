"""The engines that a pattern can be compiled for, and how each says a test of text."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import MappingProxyType

from sqlglot import exp
from typing_extensions import override

from member_client.pattern_sql.folding import folded_glob, has_case, translation
from member_client.pattern_sql.globs import as_re2, as_tree
from member_client.pattern_sql.regex_printing import JAVA, POSIX, RE2, Printer
from member_client.pattern_sql.regex_syntax import parse, varies
from member_client.pattern_sql.regex_tree import Tree
from member_client.pattern_sql.unsupported import Unsupported
from sharing_protocol.pattern_logic.conditions import Glob, TextTest, Wildcard

_SUBSTITUTED = re.compile(r"(?<=\$)(?=\{)")
MAX_MERGED = 2_000
"""Characters of an alternation that several values are merged into."""


def call(function: str, *arguments: exp.Expr) -> exp.Expr:
    """A function by the name that the dialect has for it."""
    return exp.Anonymous(this=function, expressions=list(arguments))


def text_of(glob: Glob) -> str:
    """The glob's text without its wildcards."""
    return "".join(part for part in glob if isinstance(part, str))


class Dialect(ABC):
    """One engine's SQL.

    Every test is true, false, or (of a column that is NULL) NULL.

    Attributes:
        name: as `--target` takes it, and as sqlglot calls it.
        title: for people.
        dotted_names: whether a column may be called `prompt.text`; otherwise it is `prompt_text`.
    """

    name: str
    title: str
    dotted_names = True
    _contains = "CONTAINS"
    _starts_with = "STARTSWITH"
    _ends_with = "ENDSWITH"

    def column(self, field: str) -> exp.Expr:
        """The column of a catalogue field."""
        return exp.column(exp.to_identifier(self._name(field), quoted=True))

    def written(self, field: str) -> str:
        """The same in double quotation marks, for statements that sqlglot has yet to print."""
        return f'"{self._name(field)}"'

    def adapted(self, query: exp.Expr) -> exp.Expr:
        """The query or condition, with changed what the dialect has otherwise and sqlglot does not change by itself."""
        return query

    def fits(self, test: TextTest) -> exp.Expr:
        """Whether the text fits the glob."""
        column = self.column(test.field)
        return self._plainly(column, test) or self._fits(column, test.glob, test.cased)

    def any_fits(self, tests: Sequence[TextTest]) -> list[exp.Expr]:
        """Whether each text fits its glob, of tests of which one must hold; fewer expressions may do."""
        return [self.fits(test) for test in tests]

    @abstractmethod
    def find(self, column: exp.Expr, expression: str) -> exp.Expr:
        """Whether an RE2 expression is found in the text."""

    @abstractmethod
    def find_tree(self, column: exp.Expr, tree: Tree) -> exp.Expr:
        """Whether what the tree means is found in the text."""

    def same_text(self, one: exp.Expr, other: exp.Expr) -> exp.Expr:
        """Whether two texts are the same without regard to case."""
        sources, targets = (exp.Literal.string(characters) for characters in translation())
        folded = [call("TRANSLATE", side.copy(), sources.copy(), targets.copy()) for side in (one, other)]
        # folding is one character to one, so texts of different lengths need not be folded
        lengths = [exp.Length(this=side.copy()) for side in (one, other)]
        return exp.or_(exp.EQ(this=one, expression=other), exp.and_(_equal(*lengths), _equal(*folded)))

    @abstractmethod
    def _fits(self, column: exp.Expr, glob: Glob, cased: bool) -> exp.Expr: ...

    def _name(self, field: str) -> str:
        return field if self.dotted_names else field.replace(".", "_")

    def _plainly(self, column: exp.Expr, test: TextTest) -> exp.Expr | None:
        """The test without a regular expression, where no letter's case is to be ignored and its shape has one."""
        text = text_of(test.glob)
        if (test.cased or not has_case(text)) and "\0" not in text:
            return self._shaped(column, test.glob, text)
        return None

    def _shaped(self, column: exp.Expr, glob: Glob, text: str) -> exp.Expr | None:
        constant, run = exp.Literal.string(text), Wildcard.RUN
        if glob in ((), (text,)):
            return _equal(column, constant)
        if glob == (run, text, run):
            return self._has(column, constant)
        if glob == (text, run):
            return call(self._starts_with, column, constant)
        if glob == (run, text):
            return self._ends(column, text)
        return None

    def _has(self, column: exp.Expr, constant: exp.Expr) -> exp.Expr:
        return call(self._contains, column, constant)

    def _ends(self, column: exp.Expr, text: str) -> exp.Expr:
        return call(self._ends_with, column, exp.Literal.string(text))


class _WithRE2(Dialect):
    """An engine whose regular expressions are RE2: patterns' own are passed through."""

    _starts_with = "STARTS_WITH"
    _ends_with = "ENDS_WITH"
    _search: str

    @override
    def find(self, column: exp.Expr, expression: str) -> exp.Expr:
        if varies(expression):
            return self.find_tree(column, parse(expression))
        return self._find(column, expression)

    @override
    def find_tree(self, column: exp.Expr, tree: Tree) -> exp.Expr:
        return self._find(column, RE2.print(tree))

    @override
    def any_fits(self, tests: Sequence[TextTest]) -> list[exp.Expr]:
        found: list[exp.Expr] = []
        searches: dict[tuple[str, str], list[list[str]]] = {}
        for test in tests:
            plain = self._plainly(self.column(test.field), test)
            if plain is not None:
                found.append(plain)
                continue
            flags, body = as_re2(test.glob, test.cased)
            batches = searches.setdefault((test.field, flags), [[]])
            if batches[-1] and sum(map(len, batches[-1])) + len(body) > MAX_MERGED:
                batches.append([])
            batches[-1].append(body)
        return found + [
            self._find(self.column(field), _with_flags(flags, "|".join(batch)))
            for (field, flags), batches in searches.items()
            for batch in batches
        ]

    @override
    def _fits(self, column: exp.Expr, glob: Glob, cased: bool) -> exp.Expr:
        return self._find(column, _with_flags(*as_re2(glob, cased)))

    def _find(self, column: exp.Expr, expression: str) -> exp.Expr:
        return call(self._search, column, exp.Literal.string(expression))


class DuckDB(_WithRE2):
    """DuckDB."""

    name = "duckdb"
    title = "DuckDB"
    _search = "REGEXP_MATCHES"


class BigQuery(_WithRE2):
    """BigQuery, whose columns' names have no dots."""

    name = "bigquery"
    title = "BigQuery"
    dotted_names = False
    _search = "REGEXP_CONTAINS"

    @override
    def adapted(self, query: exp.Expr) -> exp.Expr:
        for kind in query.find_all(exp.DataType):
            if kind.is_type(exp.DataType.Type.DECIMAL):  # NUMERIC has 29 digits before the point
                kind.replace(exp.DataType.build("BIGDECIMAL"))
        return query

    @override
    def _has(self, column: exp.Expr, constant: exp.Expr) -> exp.Expr:
        return exp.GT(this=call("INSTR", column, constant), expression=exp.Literal.number(0))


class _WithTrees(Dialect):
    """An engine with expressions of another kind: RE2's are parsed, and written anew in what means the same."""

    _printer: Printer

    @override
    def find(self, column: exp.Expr, expression: str) -> exp.Expr:
        return self.find_tree(column, parse(expression))

    @override
    def find_tree(self, column: exp.Expr, tree: Tree) -> exp.Expr:
        return self._find(column, self._printer.print(tree))

    @override
    def _fits(self, column: exp.Expr, glob: Glob, cased: bool) -> exp.Expr:
        return self.find_tree(column, as_tree(glob, cased))

    @abstractmethod
    def _find(self, column: exp.Expr, expression: str) -> exp.Expr: ...


class Spark(_WithTrees):
    """Spark SQL, whose expressions are Java's."""

    name = "spark"
    title = "Spark"
    _printer = JAVA

    @override
    def adapted(self, query: exp.Expr) -> exp.Expr:
        for constant in list(query.find_all(exp.Literal)):
            if constant.is_string and _SUBSTITUTED.search(constant.name):
                constant.replace(spark_constant(constant.name))
        return query

    @override
    def _find(self, column: exp.Expr, expression: str) -> exp.Expr:
        return exp.RegexpLike(this=column, expression=exp.Literal.string(expression))


class Trino(_WithTrees):
    """Trino with its default expressions (Joni, in Java's syntax); RE2J, its other choice, refuses some of them."""

    name = "trino"
    title = "Trino"
    _printer = JAVA
    _starts_with = "STARTS_WITH"

    @override
    def _find(self, column: exp.Expr, expression: str) -> exp.Expr:
        return call("REGEXP_LIKE", column, exp.Literal.string(expression))

    @override
    def _has(self, column: exp.Expr, constant: exp.Expr) -> exp.Expr:
        return exp.GT(this=call("STRPOS", column, constant), expression=exp.Literal.number(0))

    @override
    def _ends(self, column: exp.Expr, text: str) -> exp.Expr:
        # Trino has no function for it; of a text that is shorter this gives the empty one
        end = call("SUBSTR", column, exp.Neg(this=exp.Literal.number(len(text))))
        return _equal(end, exp.Literal.string(text))


class Snowflake(_WithTrees):
    """Snowflake, whose expressions have no look-around, and are held against the whole text."""

    name = "snowflake"
    title = "Snowflake"
    _printer = POSIX

    @override
    def _fits(self, column: exp.Expr, glob: Glob, cased: bool) -> exp.Expr:
        text = text_of(glob)
        if "\0" in text:
            raise Unsupported("a value has the character U+0000", "Snowflake has no constant with it", "leave it out")
        if not cased:
            glob = folded_glob(glob)
            text = text_of(glob)
            column = call("TRANSLATE", column, *(exp.Literal.string(characters) for characters in translation(text)))
        plain = self._shaped(column, glob, text)
        if plain is not None:
            return plain
        signs = {Wildcard.RUN: "%", Wildcard.ONE: "_"}
        like = "".join(_escaped(part) if isinstance(part, str) else signs[part] for part in glob)
        return exp.Escape(
            this=exp.Like(this=column, expression=exp.Literal.string(like)), expression=exp.Literal.string("!")
        )

    @override
    def _find(self, column: exp.Expr, expression: str) -> exp.Expr:
        # s: the dot is any character
        return call("REGEXP_LIKE", column, exp.Literal.string(expression), exp.Literal.string("s"))


DIALECTS = MappingProxyType(
    {dialect.name: dialect for dialect in (DuckDB(), Spark(), Trino(), BigQuery(), Snowflake())}
)
"""The dialects, by the names that `--target` takes."""


def spark_constant(text: str) -> exp.Expr:
    """A text of which Spark replaces nothing: before it parses SQL, it puts settings and the environment for `${…}`."""
    constants = [exp.Literal.string(part) for part in _SUBSTITUTED.split(text)]
    return constants[0] if len(constants) == 1 else call("CONCAT", *constants)


def _equal(one: exp.Expr, other: exp.Expr) -> exp.Expr:
    return exp.EQ(this=one, expression=other)


def _with_flags(flags: str, expression: str) -> str:
    return f"(?{flags}){expression}" if flags else expression


def _escaped(text: str) -> str:
    return "".join("!" + character if character in "!%_" else character for character in text)
