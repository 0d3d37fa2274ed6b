"""From a pattern's logic to SQL, checked by reading it back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError

from member_client.errors import InvalidInput
from member_client.pattern_sql.conditions import never_null
from member_client.pattern_sql.correlations import emitted, from_events, from_hits, sweeps
from member_client.pattern_sql.dialects import DIALECTS, Dialect
from member_client.pattern_sql.unsupported import Unsupported
from sharing_protocol.pattern_logic import Logic
from sharing_protocol.pattern_logic.catalogue import Category, fields_in

_NEUTRAL = "duckdb"  # what the statements of correlations are written in
_TABLE = "the_table"
_CONDITION = "the_condition_"
MAX_SQL = 512 * 1024
"""Bytes of a statement: engines take tens of seconds to plan some megabytes."""


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """One plain rule.

    Attributes:
        name: its name, id or title, as matches name it.
        emits: whether its matches are matches of the pattern; false if only correlations use it.
        where: a boolean expression over the table's columns, true or false and never NULL.
        keeps: true for the same rows, and NULL for some others: what a WHERE needs, which engines work out sooner.
    """

    name: str
    title: str
    emits: bool
    where: str
    keeps: str


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
        Unsupported: the dialect cannot say exactly what the logic means, it would take more than MAX_SQL, or there is
            no such dialect.
    """
    target = _dialect(dialect)
    wheres = _conditions(logic, target)
    matching = from_events(logic, target.written, _TABLE, lambda place: f"{_CONDITION}{place}")
    return CompiledPattern(
        logic.category, _rules(logic, wheres, target), _query(target, matching, logic, table, wheres)
    )


def compile_rules(logic: Logic, dialect: str = "duckdb") -> tuple[CompiledRule, ...]:
    """The `rules` of `compile_sql` alone, in a fraction of its time.

    Raises:
        Unsupported: as there.
    """
    target = _dialect(dialect)
    return _rules(logic, _conditions(logic, target), target)


def correlation_query(logic: Logic, hits_table: str, dialect: str = "duckdb") -> str:
    """The matches of the logic's correlations, from the matches of its rules.

    Args:
        hits_table: the name of a relation with one row for each event and rule of this logic that matched it, whether
            the rule emits or not: `event_id`, `rule` (its name), `timestamp`, and the columns of all fields that the
            correlations group by or count, as the table of events has them. Further columns do no harm.
        dialect: as in `compile_sql`.

    Returns:
        One SELECT with the columns of `CompiledPattern.query`, without the rows of plain rules; "" if the logic has
        no correlations.

    Raises:
        Unsupported: there is no such dialect.
    """
    if not logic.correlations:
        return ""
    target = _dialect(dialect)
    return _query(target, from_hits(logic, target.written, _TABLE), logic, hits_table, ())


def _conditions(logic: Logic, target: Dialect) -> list[exp.Expr]:
    """One for each rule."""
    fields = fields_in(logic.category).__getitem__
    wheres = [target.adapted(never_null(rule.condition, target, fields)) for rule in logic.rules]
    _bound(sum(len(constant.name) for where in wheres for constant in where.find_all(exp.Literal)))
    return wheres


def _rules(logic: Logic, wheres: Sequence[exp.Expr], target: Dialect) -> tuple[CompiledRule, ...]:
    printed = [_printed(where, target) for where in wheres]
    return tuple(
        CompiledRule(rule.name, rule.title, rule.emits, sql, _without_coalesce(where, sql))
        for rule, where, sql in zip(logic.rules, wheres, printed, strict=True)
    )


def _without_coalesce(where: exp.Expr, sql: str) -> str:
    """What stands in COALESCE(…, FALSE), if that is all there is."""
    before, after = "COALESCE(", ", FALSE)"
    if isinstance(where, exp.Coalesce) and where.expressions == [exp.false()] and sql.startswith(before):
        return sql.removeprefix(before).removesuffix(after)
    return sql


def _query(target: Dialect, matching: str, logic: Logic, table: str, wheres: Sequence[exp.Expr]) -> str:
    statements = [("matching", matching), *sweeps(logic)]
    ctes = ", ".join(f"{name} AS ({statement})" for name, statement in statements)
    selects = " UNION ALL ".join(emitted(logic, rules=bool(wheres)))
    tree = parse_one(f"WITH {ctes} {selects}", read=_NEUTRAL)
    for node in list(tree.find_all(exp.Column, exp.Table, exp.Ordered)):
        if isinstance(node, exp.Ordered):
            node.replace(node.this)  # it would be printed with a place for NULLs, of which there are none
        elif isinstance(node, exp.Table) and node.name == _TABLE:
            node.replace(_table(table, target))
        elif isinstance(node, exp.Column) and node.name.startswith(_CONDITION):
            node.replace(wheres[int(node.name.removeprefix(_CONDITION))].copy())
    return _printed(target.adapted(tree), target, pretty=True)


def _table(name: str, target: Dialect) -> exp.Expr:
    try:
        return exp.to_table(name, dialect=target.name)
    except SqlglotError as error:
        raise InvalidInput(f"{name!r} is not the name of a table in {target.title}", "quote it as there") from error


def _dialect(name: str) -> Dialect:
    try:
        return DIALECTS[name]
    except KeyError:
        known = ", ".join(DIALECTS)
        raise Unsupported(f"there is no dialect {name!r}", "it has never been tried", f"use one of {known}") from None


def _bound(size: int) -> None:
    """Refuse what is larger than MAX_SQL; of constants alone before they are printed, which takes longest."""
    if size > MAX_SQL:
        raise Unsupported(
            "the pattern is too large as SQL",
            f"it takes more than {MAX_SQL // 1024} KiB",
            "use fewer field references, networks and values, or each of them once",
        )


def _printed(tree: exp.Expr, dialect: Dialect, pretty: bool = False) -> str:
    """The tree in the dialect, read back and found the same."""
    sql = tree.sql(dialect=dialect.name, pretty=pretty)
    _bound(len(sql.encode()))
    again = parse_one(sql, read=dialect.name).sql(dialect=dialect.name, pretty=pretty)
    if again != sql:
        raise RuntimeError(f"{dialect.title} would read this otherwise than it was meant: {sql!r}, read as {again!r}")
    return sql
