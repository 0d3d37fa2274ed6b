"""Correlations as SQL: every trailing window swept once, along time.

    matching      every event that a rule matched, a mark `r` for each rule that did, fields `f`
    hits_N        those that feed correlation N, one row an event: group `g`, value `v`, a mark `k` for each reference
    fired_N       the events at which correlation N holds, with what was counted

What a window `(t - timespan, t]` holds is what has come in until t less what has gone out until t, where an event of
time s goes out at s + timespan. So all counts and sums are running ones over comings and goings in the order of time,
which every engine has; none needs a frame that slides, nor distinct values in a window.

Statements are written once, in words that all dialects share; sqlglot prints them for each. No CTE of comings and
goings is read twice, since several engines would compute it twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from member_client.pattern_sql.conditions import number
from sharing_protocol.pattern_logic import Logic
from sharing_protocol.pattern_logic.catalogue import NUMERIC, FieldType, fields_in
from sharing_protocol.pattern_logic.conditions import Comparison
from sharing_protocol.pattern_logic.correlations import Correlation
from sharing_protocol.pattern_logic.events import millionths

_SIGNS = {
    Comparison.LT: "<",
    Comparison.LTE: "<=",
    Comparison.GT: ">",
    Comparison.GTE: ">=",
    Comparison.EQ: "=",
    Comparison.NEQ: "<>",
}
# Whole millionths of a double below 2^53, in steps that lose nothing; the reference's `millionths` takes the same.
_MILLIONTHS = (
    "CAST(CAST(FLOOR(v) AS BIGINT) AS DECIMAL(24, 0)) * CAST(1000000 AS DECIMAL(7, 0)) "
    "+ CAST(CAST(FLOOR((v - FLOOR(v)) * 1E6 + 5E-1) AS BIGINT) AS DECIMAL(7, 0))"
)
_WAYS = "(SELECT 1 AS way UNION ALL SELECT -1 AS way)"
_TYPES = {
    FieldType.TEXT: "VARCHAR",
    FieldType.ADDRESS: "VARCHAR",
    FieldType.BOOLEAN: "BOOLEAN",
    FieldType.TIME: "BIGINT",
}
_ONE = "CASE WHEN v IS NULL THEN 0 ELSE 1 END"


@dataclass(frozen=True, slots=True)
class Read:
    """The fields that correlations read of an event, and the rules whose matches they look at.

    Attributes:
        fields: group and value fields; the columns `f0`, `f1`, … of `matching`.
        rules: names; the columns `r0`, `r1`, … of `matching`.
    """

    fields: tuple[str, ...]
    rules: tuple[str, ...]


def read_of(logic: Logic) -> Read:
    """What the logic's correlations read."""
    fields = [
        name
        for correlation in logic.correlations
        for name in (*correlation.group_by, correlation.value_field)
        if name != ""
    ]
    return Read(tuple(dict.fromkeys(fields)), tuple(rule.name for rule in logic.rules))


def group_columns(logic: Logic) -> dict[str, str]:
    """Group field to its column in the result, of all correlations that have matches."""
    names = (name for correlation in logic.correlations if correlation.emits for name in correlation.group_by)
    return {name: f"group_{name.replace('.', '_')}" for name in names}


def from_events(logic: Logic, column: Callable[[str], str], table: str, holds: Callable[[int], str]) -> str:
    """`matching`, from the table of all events.

    Args:
        column: how the column of a field is written.
        table: the table.
        holds: what stands for the condition of a rule, by its number.
    """
    read = read_of(logic)
    fields = "".join(f", {_field(logic, name, column)} AS f{place}" for place, name in enumerate(read.fields))
    event = f"{column('event.id')} AS event_id, {column('timestamp')} AS t{fields}"
    if len(read.rules) == 1:
        return f"SELECT {event}, 1 AS r0 FROM {table} WHERE {holds(0)}"
    marks = "".join(f", CASE WHEN {holds(place)} THEN 1 ELSE 0 END AS r{place}" for place in range(len(read.rules)))
    some = " OR ".join(f"r{place} = 1" for place in range(len(read.rules)))
    return f"SELECT * FROM (SELECT {event}{marks} FROM {table}) AS tested WHERE {some}"


def from_hits(logic: Logic, column: Callable[[str], str], table: str) -> str:
    """`matching`, from a table of hits with one row for each event and rule that matched it."""
    read = read_of(logic)
    fields = "".join(f", {_field(logic, name, column)} AS f{place}" for place, name in enumerate(read.fields))
    marks = "".join(
        f", MAX(CASE WHEN rule = {_text(name)} THEN 1 ELSE 0 END) AS r{place}" for place, name in enumerate(read.rules)
    )
    event = ", ".join(["event_id", "t", *(f"f{place}" for place in range(len(read.fields)))])
    return (
        f"SELECT {event}{marks} FROM (SELECT event_id, rule, {column('timestamp')} AS t{fields} FROM {table}) AS hit "
        f"GROUP BY {event}"
    )


def sweeps(logic: Logic) -> list[tuple[str, str]]:
    """Names and statements of all that stands between `matching` and the result, in order."""
    positions = {correlation.name: position for position, correlation in enumerate(logic.correlations)}
    statements: list[tuple[str, str]] = []
    for position, correlation in enumerate(logic.correlations):
        statements += _Sweep(logic, correlation, position, positions).statements()
    return statements


def emitted(logic: Logic, rules: bool = True) -> list[str]:
    """One SELECT for each correlation, and rule if these are wanted, that has matches of its own."""
    columns = group_columns(logic)
    selects = [
        f"SELECT {_text(rule.name)} AS rule, event_id, CAST(NULL AS DOUBLE) AS window_value, "
        f"CAST(NULL AS BIGINT) AS window_start, CAST(NULL AS BIGINT) AS window_end"
        + "".join(f", {_nothing(logic, name)} AS {column}" for name, column in columns.items())
        + f" FROM matching WHERE r{place} = 1"
        for place, rule in enumerate(logic.rules)
        if rules and rule.emits
    ]
    for position, correlation in enumerate(logic.correlations):
        if correlation.emits:
            groups = "".join(
                f", {f'g{correlation.group_by.index(name)}' if name in correlation.group_by else _nothing(logic, name)}"
                f" AS {column}"
                for name, column in columns.items()
            )
            selects.append(
                f"SELECT {_text(correlation.name)} AS rule, event_id, CAST(value AS DOUBLE) AS window_value, "
                f"t - {correlation.timespan} AS window_start, t AS window_end{groups} FROM fired_{position}"
            )
    return selects


class _Sweep:
    """The statements of one correlation."""

    def __init__(self, logic: Logic, correlation: Correlation, position: int, positions: dict[str, int]) -> None:
        self._logic = logic
        self._correlation = correlation
        self._positions = positions
        self._read = read_of(logic)
        self._hits, self._fired, self._own = f"hits_{position}", f"fired_{position}", f"{{}}_{position}"
        self._groups = [f"g{place}" for place in range(len(correlation.group_by))]
        self._marks = [f"k{place}" for place in range(len(correlation.references))]

    def statements(self) -> list[tuple[str, str]]:
        kind = self._correlation.kind
        if kind == "temporal":
            body = self._temporal()
        elif kind == "temporal_ordered":
            body = self._ordered()
        elif kind == "value_count":
            body = self._distinct()
        elif kind == "event_count":
            body = self._swept({"n": "1"}, "n AS value", self._holds("n"))
        else:
            body = self._sums()
        return [(self._hits, self._gathered()), *body]

    def _gathered(self) -> str:
        """One row an event: time, group, value, and which references matched it."""
        correlation, rules = self._correlation, self._read.rules
        column = {name: f"f{place}" for place, name in enumerate(self._read.fields)}
        groups = "".join(f", {column[name]} AS g{place}" for place, name in enumerate(correlation.group_by))
        value = f", {column[correlation.value_field]} AS v" if correlation.value_field else ""
        known = ["t IS NOT NULL", *(f"{column[name]} IS NOT NULL" for name in correlation.group_by)]
        plain = [name in rules for name in correlation.references]
        marks = [f"r{rules.index(name)}" if name in rules else "0" for name in correlation.references]
        parts: list[str] = []
        if any(plain):
            some = " OR ".join(f"{mark} = 1" for mark in marks if mark != "0")
            shown = "".join(f", {mark} AS k{place}" for place, mark in enumerate(marks))
            parts.append(
                f"SELECT event_id, t{groups}{value}{shown} FROM matching WHERE {' AND '.join(known)} AND ({some})"
            )
        for place, name in enumerate(correlation.references):
            if name in self._positions:
                parts.append(self._inner(place, name))
        if len(parts) == 1:
            return parts[0]
        # an event that a rule and a correlation matched, or two correlations, is one event
        together = ", ".join(["event_id", "t", *self._groups])
        most = ", ".join(f"MAX({mark}) AS {mark}" for mark in self._marks)
        return f"SELECT {together}, {most} FROM ({' UNION ALL '.join(parts)}) AS gathered GROUP BY {together}"

    def _inner(self, place: int, name: str) -> str:
        """The matches of a correlation that this one refers to."""
        inner = next(known for known in self._logic.correlations if known.name == name)
        groups = "".join(
            f", g{inner.group_by.index(field)} AS g{own}" for own, field in enumerate(self._correlation.group_by)
        )
        marks = "".join(f", {int(mark == f'k{place}')} AS {mark}" for mark in self._marks)
        return f"SELECT event_id, t{groups}{marks} FROM fired_{self._positions[name]}"

    def _swept(self, amounts: Mapping[str, str], value: str, holds: str, leaves: str = "") -> list[tuple[str, str]]:
        """Comings and goings, added up along time.

        Args:
            amounts: what an event adds and takes away again, by column.
            value: what is counted, of the running sums of these.
            holds: the condition, of the same.
            leaves: when an event leaves, by default a timespan after it came.
        """
        deltas, swept = self._own.format("deltas"), self._own.format("swept")
        groups = "".join(f", {group}" for group in self._groups)
        source = self._own.format("leaving") if leaves else self._hits
        leaves = leaves or f"t + {self._correlation.timespan}"
        signed = "".join(
            f", CASE WHEN way = 1 THEN {amount} ELSE -({amount}) END AS {name}" for name, amount in amounts.items()
        )
        event = f"CASE WHEN way = 1 THEN event_id END AS event_id, CASE WHEN way = 1 THEN t ELSE {leaves} END AS t"
        running = "".join(f", SUM({name}) OVER ({self._over()}) AS {name}" for name in amounts)
        return [
            (
                deltas,
                f"SELECT {event}{groups}{signed} FROM {source} CROSS JOIN {_WAYS} AS ways",
            ),
            (swept, f"SELECT event_id, t{groups}{running} FROM {deltas}"),
            (self._fired, f"SELECT event_id, t{groups}, {value} FROM {swept} WHERE NOT event_id IS NULL AND {holds}"),
        ]

    def _distinct(self) -> list[tuple[str, str]]:
        """A value counts from when it came until it leaves, or comes again."""
        groups = "".join(f", {group}" for group in self._groups)
        again = f"LEAD(t) OVER ({self._partition('v')}ORDER BY t)"
        leaving = f"SELECT event_id, t{groups}, v, {again} AS again FROM {self._hits}"
        out = f"t + {self._correlation.timespan}"
        leaves = f"CASE WHEN again < {out} THEN again ELSE {out} END"
        swept = self._swept({"n": _ONE}, "n AS value", self._holds("n"), leaves)
        return [(self._own.format("leaving"), leaving), *swept]

    def _sums(self) -> list[tuple[str, str]]:
        """Sums, in whole millionths; an average is compared by multiplying the threshold with the count."""
        average = self._correlation.kind == "value_avg"
        known = f"CASE WHEN v IS NULL THEN CAST(0 AS DECIMAL(32, 0)) ELSE {_MILLIONTHS} END"
        value = f"CAST(s AS DOUBLE) / {'(1E6 * n)' if average else '1E6'} AS value"
        holds = ["n > 0"]
        for sign, wanted in self._correlation.criteria:
            threshold = f"CAST('{millionths(wanted)}' AS DECIMAL(38, 0))"
            if average:
                threshold = f"CAST('{millionths(wanted)}' AS DECIMAL(22, 0)) * CAST(n AS DECIMAL(16, 0))"
            holds.append(f"CAST(s AS DECIMAL(38, 0)) {_SIGNS[sign]} {threshold}")
        return self._swept({"n": _ONE, "s": known}, value, " AND ".join(holds))

    def _temporal(self) -> list[tuple[str, str]]:
        """A rule counts if it last matched within the window."""
        last = ", ".join(
            f"MAX(CASE WHEN {mark} = 1 THEN t END) OVER ({self._over()}) AS last_{mark}" for mark in self._marks
        )
        groups = "".join(f", {group}" for group in self._groups)
        inside = " + ".join(
            f"CASE WHEN last_{mark} > t - {self._correlation.timespan} THEN 1 ELSE 0 END" for mark in self._marks
        )
        swept, counted = self._own.format("swept"), self._own.format("counted")
        return [
            (swept, f"SELECT event_id, t{groups}, {last} FROM {self._hits}"),
            (counted, f"SELECT event_id, t{groups}, {inside} AS value FROM {swept}"),
            (self._fired, f"SELECT event_id, t{groups}, value FROM {counted} WHERE {self._holds('value')}"),
        ]

    def _ordered(self) -> list[tuple[str, str]]:
        """For each rule, the latest start of a chain of the rules so far that ends at the event."""
        kept = ", ".join(["event_id", "t", *self._groups, *self._marks])
        groups = "".join(f", {group}" for group in self._groups)
        source = self._own.format("chain_0")
        statements = [(source, f"SELECT {kept}, CASE WHEN k0 = 1 THEN t END AS began FROM {self._hits}")]
        earlier = f"MAX(began) OVER ({self._partition()}ORDER BY t RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
        for place, mark in enumerate(self._marks[1:], 1):
            chain = self._own.format(f"chain_{place}")
            statements.append((chain, f"SELECT {kept}, CASE WHEN {mark} = 1 THEN {earlier} END AS began FROM {source}"))
            source = chain
        swept, length = self._own.format("swept"), len(self._marks)
        latest = f"MAX(began) OVER ({self._over()}) AS began"
        statements.append((swept, f"SELECT event_id, t{groups}, {latest} FROM {source}"))
        inside = f"began > t - {self._correlation.timespan}"
        statements.append(
            (self._fired, f"SELECT event_id, t{groups}, {length} AS value FROM {swept} WHERE {inside}"),
        )
        return statements

    def _over(self) -> str:
        """A window's running part: all of the group until t, its equals included."""
        return f"{self._partition()}ORDER BY t RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"

    def _partition(self, *more: str) -> str:
        columns = [*self._groups, *more]
        return f"PARTITION BY {', '.join(columns)} " if columns else ""

    def _holds(self, value: str) -> str:
        return " AND ".join(f"{value} {_SIGNS[sign]} {number(wanted)}" for sign, wanted in self._correlation.criteria)


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _nothing(logic: Logic, field: str) -> str:
    """NULL of the field's type."""
    return f"CAST(NULL AS {_TYPES.get(fields_in(logic.category)[field].type, 'DOUBLE')})"


def _field(logic: Logic, name: str, column: Callable[[str], str]) -> str:
    """A field's column, -0 being 0: some engines group them apart."""
    written = column(name)
    if fields_in(logic.category)[name].type in NUMERIC:
        return f"CASE WHEN {written} = 0 THEN 0E0 ELSE {written} END"
    return written
