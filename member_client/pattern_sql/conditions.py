"""From a condition to a boolean SQL expression that is never NULL."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from member_client.pattern_sql.addresses import tree_of
from member_client.pattern_sql.dialects import Dialect
from sharing_protocol.pattern_logic.catalogue import Field, FieldType
from sharing_protocol.pattern_logic.conditions import (
    All,
    BooleanTest,
    Comparison,
    Condition,
    Either,
    NetworkTest,
    Not,
    NumberTest,
    PresenceTest,
    RegexTest,
    SameAs,
    TextTest,
)

Fields = Callable[[str], Field]

COMPARISONS: dict[Comparison, type[exp.Binary]] = {
    Comparison.LT: exp.LT,
    Comparison.LTE: exp.LTE,
    Comparison.GT: exp.GT,
    Comparison.GTE: exp.GTE,
    Comparison.EQ: exp.EQ,
    Comparison.NEQ: exp.NEQ,
}

_TEXTS = (FieldType.TEXT, FieldType.ADDRESS)


def never_null(condition: Condition, dialect: Dialect, fields: Fields) -> exp.Expr:
    """The condition as an expression that is true or false, also where columns are NULL.

    Args:
        condition: checked, as `compile_logic` leaves it.
        fields: the catalogue's entry of a field name.

    Raises:
        Unsupported: the dialect cannot say it.
    """
    return _Conditions(dialect, fields).two_valued(condition)


def number(value: float) -> str:
    """A number as a constant of double precision; whole ones read as they are written."""
    written = repr(value)
    return written if isinstance(value, int) or "e" in written else f"{written}E0"


class _Conditions:
    def __init__(self, dialect: Dialect, fields: Fields) -> None:
        self._dialect = dialect
        self._fields = fields

    def two_valued(self, condition: Condition) -> exp.Expr:
        """True or false."""
        if isinstance(condition, Not) and isinstance(condition.part, Not):
            return self.two_valued(condition.part.part)
        said = self._say(condition)
        if isinstance(condition, Not | PresenceTest):
            return said
        return exp.Coalesce(this=said, expressions=[exp.false()])

    def _say(self, condition: Condition) -> exp.Expr:
        """True exactly if the condition holds, otherwise false or NULL: AND and OR need no more."""
        if isinstance(condition, All):
            return exp.and_(*(self._say(part) for part in condition.parts), copy=False)
        if isinstance(condition, Either):
            return self._either(condition)
        if isinstance(condition, Not):
            return exp.Not(this=exp.Paren(this=self.two_valued(condition.part)))
        return self._test(condition)

    def _either(self, condition: Either) -> exp.Expr:
        texts = [part for part in condition.parts if isinstance(part, TextTest)]
        others = [self._say(part) for part in condition.parts if not isinstance(part, TextTest)]
        return exp.or_(*self._dialect.any_fits(texts), *others, copy=False)

    def _test(self, test: Condition) -> exp.Expr:
        dialect = self._dialect
        if isinstance(test, TextTest):
            return dialect.fits(test)
        if isinstance(test, RegexTest):
            return dialect.find(dialect.column(test.field), test.expression)
        if isinstance(test, NumberTest):
            return COMPARISONS[test.comparison](this=dialect.column(test.field), expression=_constant(test.number))
        if isinstance(test, BooleanTest):
            return exp.EQ(this=dialect.column(test.field), expression=exp.convert(test.value))
        if isinstance(test, NetworkTest):
            return dialect.find_tree(dialect.column(test.field), tree_of(test.network))
        if isinstance(test, PresenceTest):
            absent = exp.Is(this=dialect.column(test.field), expression=exp.null())
            return exp.Not(this=absent) if test.present else absent
        if isinstance(test, SameAs):
            one, other = dialect.column(test.field), dialect.column(test.other)
            if self._fields(test.field).type in _TEXTS:
                return dialect.same_text(one, other)
            return exp.EQ(this=one, expression=other)
        raise TypeError(f"not a test: {test!r}")


def _constant(value: float) -> exp.Expr:
    constant = exp.Literal.number(number(abs(value)))
    return exp.Neg(this=constant) if value < 0 else constant
