"""From a pattern's logic to SQL, checked by reading it back."""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp, parse_one

from member_client.pattern_sql.conditions import never_null
from member_client.pattern_sql.dialects import DIALECTS, Dialect
from member_client.pattern_sql.unsupported import Unsupported
from sharing_protocol.pattern_logic import Logic
from sharing_protocol.pattern_logic.catalogue import Category, fields_in


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """One plain rule.

    Attributes:
        name: its name, id or title, as matches name it.
        emits: whether its matches are matches of the pattern; false if only correlations use it.
        where: a boolean expression over the table's columns, true or false and never NULL.
    """

    name: str
    title: str
    emits: bool
    where: str


@dataclass(frozen=True, slots=True)
class CompiledPattern:
    """A pattern in one dialect.

    Attributes:
        category: whose table it goes over.
        rules: all plain rules.
        query: one SELECT, one row a match; docs/log-sources.md, "As SQL", gives its columns.
    """

    category: Category
    rules: tuple[CompiledRule, ...]
    query: str


def compile_sql(logic: Logic, dialect: str = "duckdb", table: str = "requests") -> CompiledPattern:
    """The logic as SQL.

    Args:
        dialect: duckdb, spark, trino, bigquery or snowflake.
        table: the name of the table or view, as the dialect writes it.

    Raises:
        Unsupported: the dialect cannot say exactly what the logic means, or is not one of these.
    """
    target = _dialect(dialect)
    fields = fields_in(logic.category).__getitem__
    wheres = {rule.name: never_null(rule.condition, target, fields) for rule in logic.rules}
    rules = tuple(
        CompiledRule(rule.name, rule.title, rule.emits, _printed(wheres[rule.name], target)) for rule in logic.rules
    )
    return CompiledPattern(logic.category, rules, "")


def correlation_query(logic: Logic, hits_table: str, dialect: str = "duckdb") -> str:
    raise NotImplementedError


def _dialect(name: str) -> Dialect:
    try:
        return DIALECTS[name]
    except KeyError:
        known = ", ".join(DIALECTS)
        raise Unsupported(f"there is no dialect {name!r}", "it has never been tried", f"use one of {known}") from None


def _printed(tree: exp.Expression, dialect: Dialect) -> str:
    """The tree in the dialect, read back and found the same."""
    sql = tree.sql(dialect=dialect.name)
    again = parse_one(sql, read=dialect.name).sql(dialect=dialect.name)
    if again != sql:
        raise RuntimeError(f"{dialect.title} would read this otherwise than it was meant: {sql!r}, read as {again!r}")
    return sql
