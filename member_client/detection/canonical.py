"""Rows as columns: the one form of a request that all engines and windows work on.

A record batch has `event.id` (BIGINT, ascending in input order), `event.file`, `event.line` (from 1), and the fields of
category `request` by their names: text and addresses as VARCHAR, numbers as DOUBLE, truth values as BOOLEAN, times as
BIGINT microseconds since 1970. What is absent by docs/log-sources.md is NULL, decided by the reference evaluator's own
reading of values.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from member_client.detection.rows import Fields, template_of
from sharing_protocol.pattern_logic import Event
from sharing_protocol.pattern_logic.catalogue import NUMERIC, Category, Field, FieldType, fields_in

EVENT_ID = "event.id"
EVENT_FILE = "event.file"
EVENT_LINE = "event.line"
PROMPT = "prompt.text"
TEMPLATE = "prompt.template"
LARGEST_INTEGER = 2**53
CLOSED: dict[str, Any] = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
"""Settings of every DuckDB connection: it fetches nothing."""

_ARROW = {FieldType.TEXT: pa.string(), FieldType.ADDRESS: pa.string(), FieldType.BOOLEAN: pa.bool_()} | {
    FieldType.TIME: pa.int64()
}
_SQL = {FieldType.TEXT: "VARCHAR", FieldType.ADDRESS: "VARCHAR", FieldType.BOOLEAN: "BOOLEAN", FieldType.TIME: "BIGINT"}


def keep_from_files(connection: duckdb.DuckDBPyConnection, folder: Path | None = None) -> None:
    """Let a connection that others' patterns run on read and write no file, for the rest of its life.

    Their texts and names are only ever literals in our SQL; this holds if one should not be.

    Args:
        folder: may be used all the same; so may the connection's own database and spilled data.
    """
    if folder is not None:
        escaped = str(folder).replace("'", "''")
        connection.execute(f"SET allowed_directories = ['{escaped}']")
    connection.execute("SET enable_external_access = false")


def arrow_type(entry: Field) -> pa.DataType:
    """The type of a field's column in a record batch."""
    return _ARROW.get(entry.type, pa.float64())


def sql_type(entry: Field) -> str:
    """The type of a field's column in DuckDB."""
    return _SQL.get(entry.type, "DOUBLE")


def request_fields(names: Iterable[str] | None = None) -> tuple[Field, ...]:
    """The catalogue's request fields of these names (by default all), in its order."""
    wanted = None if names is None else set(names)
    return tuple(entry for entry in fields_in(Category.REQUEST).values() if wanted is None or entry.name in wanted)


def batch_schema(fields: Sequence[Field]) -> pa.Schema:
    """The schema of record batches with these fields."""
    return pa.schema(
        [(EVENT_ID, pa.int64()), (EVENT_FILE, pa.string()), (EVENT_LINE, pa.int64())]
        + [(entry.name, arrow_type(entry)) for entry in fields]
    )


def shown_name(file: str) -> str:
    r"""A file's name as data; bytes in it that are not UTF-8 are written as `\xNN`."""
    return os.fsencode(file).decode("utf-8", "backslashreplace")


class BatchBuilder:
    """Gathers rows of one file until they are worth a batch.

    Attributes:
        size: characters of text gathered, roughly.
        odd: by field, how many values of another type than its own there were, and the first of them.
    """

    def __init__(self, file: str, fields: Sequence[Field]) -> None:
        self.size = 0
        self.odd: dict[str, tuple[int, Any]] = {}
        self._file = shown_name(file)
        self._schema = batch_schema(fields)
        self._lines: list[int] = []
        self._columns: list[tuple[str, Callable[[Event, str], Any], list[Any]]] = [
            (entry.name, _reader(entry.type), []) for entry in fields
        ]
        self._templated = any(entry.name == TEMPLATE for entry in fields)

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, line: int, row: Fields) -> None:
        """Take a row, flat and with the catalogue's names."""
        text = row.get(PROMPT)
        self.size += sum([len(value) for value in row.values() if type(value) is str])
        if isinstance(text, str) and self._templated and not isinstance(row.get(TEMPLATE), str):
            row[TEMPLATE] = template_of(text)
        event = Event(row)
        self._lines.append(line)
        for name, read, values in self._columns:
            if name in row:
                value = read(event, name)
                if value is None and row[name] is not None:
                    self._note_odd(name, row[name])
                values.append(value)
            else:
                values.append(None)

    def take(self, first_id: int) -> pa.RecordBatch:
        """The rows gathered, as a batch whose first event has this id; the builder is empty then."""
        count = len(self._lines)
        columns: list[Any] = [range(first_id, first_id + count), [self._file] * count, self._lines]
        columns += [values for _, _, values in self._columns]
        batch = pa.RecordBatch.from_arrays(
            [pa.array(values, type=field.type) for values, field in zip(columns, self._schema, strict=True)],
            schema=self._schema,
        )
        self.size = 0
        self._lines = []
        self._columns = [(name, read, []) for name, read, _ in self._columns]
        return batch

    def _note_odd(self, name: str, value: Any) -> None:
        # an empty text, or what is no number by its own account, says that there is nothing
        if value != "" and value == value:
            count, first = self.odd.get(name, (0, value))
            self.odd[name] = (count + 1, first)


def _reader(field_type: FieldType) -> Callable[[Event, str], Any]:
    if field_type in NUMERIC:
        return _number
    if field_type is FieldType.BOOLEAN:
        return Event.boolean
    if field_type is FieldType.TIME:
        return Event.time
    return Event.text


def _number(event: Event, name: str) -> float | None:
    number = event.number(name)
    if number is None or (isinstance(number, int) and abs(number) > LARGEST_INTEGER):
        return None
    return float(number)
