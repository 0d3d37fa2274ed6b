"""The canonical table of events in an engine, and what a query over it says, in the reference's words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import duckdb

from sharing_protocol.pattern_logic import Event, Logic
from sharing_protocol.pattern_logic.catalogue import NUMERIC, Category, FieldType, fields_in

Found = set[tuple[Any, ...]]
"""(rule, event, value, start, end, group) of each match."""

DUCKDB_TYPES = {
    FieldType.TEXT: "VARCHAR",
    FieldType.ADDRESS: "VARCHAR",
    FieldType.BOOLEAN: "BOOLEAN",
    FieldType.TIME: "BIGINT",
}
PLACES = {"event.id": "BIGINT", "event.file": "VARCHAR", "event.line": "BIGINT"}


def canonical_rows(events: Sequence[Mapping[str, Any]], category: Category = Category.REQUEST) -> list[tuple[Any, ...]]:
    """The rows of the canonical table: places, then the fields in the catalogue's order."""
    rows: list[tuple[Any, ...]] = []
    for index, fields in enumerate(events):
        event = Event(fields)
        values = [event.read(name, field.type) for name, field in fields_in(category).items()]
        numeric = [field.type in NUMERIC for field in fields_in(category).values()]
        doubles = [
            float(value) if number and value is not None else value
            for value, number in zip(values, numeric, strict=True)
        ]
        rows.append((index, "events", index + 1, *doubles))
    return rows


def column_types(category: Category = Category.REQUEST) -> dict[str, str]:
    """Column to DuckDB's type."""
    return PLACES | {name: DUCKDB_TYPES.get(field.type, "DOUBLE") for name, field in fields_in(category).items()}


def load_duckdb(
    connection: duckdb.DuckDBPyConnection, rows: Sequence[tuple[Any, ...]], table: str = "requests"
) -> None:
    """Make the table anew."""
    columns = column_types()
    spelt = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
    connection.execute(f"CREATE OR REPLACE TABLE {table} ({spelt})")
    lists = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in columns]
    unnested = ", ".join(f"unnest(?::{kind}[])" for kind in columns.values())
    connection.execute(f"INSERT INTO {table} SELECT {unnested}", lists)


def found_by_reference(logic: Logic, events: Iterable[Mapping[str, Any]]) -> Found:
    """What the definition says."""
    found: Found = set()
    for match in logic.matches(events):
        if match.window is None:
            found.add((match.rule, match.index, None, None, None, ()))
        else:
            group = tuple(sorted((name, comparable(value)) for name, value in match.window.group.items()))
            window = match.window
            found.add((match.rule, match.index, shown(window.value), window.start, window.end, group))
    return found


def found_in_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Found:
    """What a query's rows say; fails where one match stands twice."""
    names = {f"group_{name.replace('.', '_')}": name for name in fields_in(Category.REQUEST)}
    found: Found = set()
    for row in rows:
        values = dict(zip(columns, row, strict=True))
        group = tuple(
            sorted(
                (names[name], comparable(value))
                for name, value in values.items()
                if name in names and value is not None
            )
        )
        match = tuple(values[name] for name in ("rule", "event_id", "window_value", "window_start", "window_end"))
        match = (*match[:2], shown(match[2]), *match[3:], group)
        assert match not in found
        found.add(match)
    return found


def shown(value: float | None) -> float | None:
    """A window's value to twelve digits: a sum of millionths beyond 2^53 is compared exactly, but shown as a double."""
    return None if value is None else float(f"{float(value):.12g}")


def comparable(value: Any) -> Any:
    return float(value) if type(value) is int else value


def found_by_duckdb(connection: duckdb.DuckDBPyConnection, query: str) -> Found:
    result = connection.execute(query)
    columns = [column[0] for column in result.description or ()]
    return found_in_rows(columns, result.fetchall())
