"""Requests in Parquet, read by DuckDB straight into the canonical form.

Values are typed by their columns: a column of another type than its field's is absent as a whole, nothing is converted.
`parse_time` of the reference evaluator is said here in SQL, for columns that hold times as text or as numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from member_client.detection.canonical import (
    CLOSED,
    LARGEST_INTEGER,
    PROMPT,
    TEMPLATE,
    batch_schema,
    shown_name,
    sql_type,
)
from member_client.detection.log_settings import UNITS, Column
from member_client.detection.request_logs import BrokenRow, Place
from member_client.detection.rows import template_of
from member_client.detection.unreadable import Readability
from sharing_protocol.pattern_logic.catalogue import NUMERIC, Field, FieldType

_MOST_ROWS = 131_072
_BATCH_BYTES = 64 * 1024 * 1024
_EARLIEST_SECOND = -62_135_596_800  # as `events.parse_time` has them
_LATEST_SECOND = 253_402_300_800

# RFC 3339 in groups: date, time, fraction, sign, hours and minutes of the offset; as `events.parse_time` has it.
_RFC_3339 = r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,12}))?(?:[Zz]|([+-])(\d\d):(\d\d))"


def parquet_batches(
    file: str,
    columns: Mapping[str, Column],
    fields: Sequence[Field],
    first_id: int,
    skip: int,
    broken: Callable[[BrokenRow], None],
    readability: Readability,
) -> Iterator[tuple[pa.RecordBatch, int, float]]:
    """Batches of the file's rows after the first `skip`: each with how many rows, and what share of all, lie behind.

    Args:
        broken: told if the file is damaged; what was read before counts.
        readability: told, batch by batch, of what the columns had and could not be read.
    """
    try:
        with pq.ParquetFile(file) as described:
            schema, metadata = described.schema_arrow, described.metadata
        rows = metadata.num_rows
        stored = sum(metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups))
    except (OSError, pa.ArrowException) as error:
        broken(BrokenRow(Place(file, 1), f"not Parquet that can be read: {error}"))
        return
    at_once = max(1_024, min(_MOST_ROWS, _BATCH_BYTES * rows // max(1, stored)))
    selected = [_select(entry, columns.get(entry.name, Column(entry.name)), schema) for entry in fields]
    doubtful = [one for one in selected if one.written]
    if rows > skip:
        names = {column.name for column in columns.values() if column.name}
        readability.note_columns(columns, {name for name in names if _find(name, schema) is None})
    # asked in two steps: what a column gives is worked out once, and then looked at
    given = "".join(f", {one.read} AS {quoted(one.entry.name)}" for one in selected)
    given += "".join(f", {one.written} AS {quoted(one.odd)}" for one in doubtful)
    odd = "".join(
        f", CASE WHEN {quoted(one.entry.name)} IS NULL THEN {quoted(one.odd)} END AS {quoted(one.odd)}"
        for one in doubtful
    )
    query = (
        f'SELECT "event.id", "event.file", "event.line"{"".join(f", {quoted(e.name)}" for e in fields)}{odd} FROM '  # noqa: S608 - ours
        f'(SELECT file_row_number + {first_id - skip} AS "event.id", ?::VARCHAR AS "event.file", '
        f'file_row_number + 1 AS "event.line"{given} '
        # of the file alone, not of its name: neither a pattern of other names nor `column=value` folders
        f"FROM read_parquet(?, file_row_number = true, hive_partitioning = false) WHERE file_row_number >= {skip})"
    )
    form = batch_schema(fields)
    behind = skip
    # a connection of its own: a result that is being fetched occupies one
    with duckdb.connect(config={**CLOSED, "threads": 2, "temp_directory": ""}) as connection:
        try:
            for found in connection.sql(query, params=[shown_name(file), _exactly(file)]).to_arrow_reader(at_once):
                columns_read = found.columns[: len(form)]
                batch = pa.RecordBatch.from_arrays([_plain(column) for column in columns_read], schema=form)
                behind += batch.num_rows
                for one, odd_values in zip(doubtful, found.columns[len(form) :], strict=True):
                    if count := len(odd_values) - odd_values.null_count:
                        value = one.example if one.example is not None else odd_values.drop_null()[0].as_py()
                        readability.note(one.entry, one.column, value, count)
                yield _with_templates(batch), behind, behind / max(1, rows)
        except (duckdb.Error, pa.ArrowException) as error:
            reason = str(error).partition("\n")[0]
            broken(BrokenRow(Place(file, behind + 1), f"the file is damaged from here on: {reason}"))


def _exactly(file: str) -> str:
    """A file's name as DuckDB's pattern of names that only it fits."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in file)


def _plain(column: pa.Array) -> pa.Array:
    return column.cast(pa.string()) if pa.types.is_large_string(column.type) else column


def _with_templates(batch: pa.RecordBatch) -> pa.RecordBatch:
    """`prompt.template` made from the prompt where the log has none."""
    names = batch.schema.names
    if TEMPLATE not in names or PROMPT not in names:
        return batch
    known = batch.column(TEMPLATE)
    if not known.null_count:
        return batch
    made = [
        template if template is not None or text is None else template_of(text)
        for template, text in zip(known.to_pylist(), batch.column(PROMPT).to_pylist(), strict=True)
    ]
    return batch.set_column(names.index(TEMPLATE), TEMPLATE, pa.array(made, pa.string()))


@dataclass(frozen=True, slots=True)
class _Selected:
    """How a field is read.

    Attributes:
        read: SQL that gives it, NULL where it is absent.
        written: SQL that is not NULL where the log says something, "" if all of that can be read or none is there.
        example: a value like those, where `written` does not give them.
    """

    entry: Field
    column: Column
    read: str
    written: str = ""
    example: Any = None

    @property
    def odd(self) -> str:
        """The column for what cannot be read."""
        return f"{self.entry.name} as written"


def _select(entry: Field, column: Column, schema: pa.Schema) -> _Selected:
    if not column.name:
        read = _constant(column, entry)
        return _Selected(entry, column, read, literal(str(column.value)), column.value)
    found = _find(column.name, schema)
    if found is None:
        return _Selected(entry, column, f"NULL::{sql_type(entry)}")
    expression, stored = found
    stored = stored.value_type if pa.types.is_dictionary(stored) else stored
    read = _read(expression, stored, entry, column)
    cast = f"CAST({read} AS {sql_type(entry)})"
    if read == "NULL":
        example = _example(stored)
        # not more than needed of what will be thrown away: such columns may be lists of whole conversations
        shown = expression if example is None else f"CASE WHEN {expression} IS NOT NULL THEN true END"
        return _Selected(entry, column, cast, shown, example)
    fails = entry.type is FieldType.TIME or (entry.type in NUMERIC and pa.types.is_integer(stored))
    if fails and not pa.types.is_timestamp(stored):
        # an empty text, or what is no number by its own account, says that there is nothing
        nothing = f"isnan({expression})" if pa.types.is_floating(stored) else f"CAST({expression} AS VARCHAR) = ''"
        nothing = nothing if not pa.types.is_integer(stored) and not pa.types.is_decimal(stored) else "false"
        return _Selected(entry, column, cast, f"CASE WHEN NOT {nothing} THEN {expression} END")
    return _Selected(entry, column, cast)


def _example(stored: pa.DataType) -> Any:
    """A value that looks like those of a column; None if only its own do."""
    types = pa.types
    if types.is_string(stored) or types.is_large_string(stored) or types.is_integer(stored):
        return None
    if types.is_boolean(stored):
        return True
    if types.is_floating(stored) or types.is_decimal(stored):
        return 0.5
    if types.is_timestamp(stored):
        return datetime.min  # noqa: DTZ901 - such a column has no zone
    if types.is_date(stored):
        return date.min
    return [] if types.is_list(stored) or types.is_large_list(stored) else object()


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def _constant(column: Column, entry: Field) -> str:
    value = column.value
    if entry.type in NUMERIC:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    elif entry.type is FieldType.BOOLEAN:
        fits = isinstance(value, bool)
    else:
        fits = isinstance(value, str) and entry.type is not FieldType.TIME
    return f"CAST({literal(str(value)) if fits else 'NULL'} AS {sql_type(entry)})"


def _find(name: str, schema: pa.Schema) -> tuple[str, pa.DataType] | None:
    """The SQL of a column of this name, dotted or nested, and its type."""
    if name in schema.names:
        return quoted(name), schema.field(name).type
    for split in (n for n, character in enumerate(name) if character == "."):
        outer, rest = name[:split], name[split + 1 :]
        if outer in schema.names and pa.types.is_struct(schema.field(outer).type):
            found = _find(rest, pa.schema(list(schema.field(outer).type)))
            if found is not None:
                return f"{quoted(outer)}.{found[0]}", found[1]
    return None


def _read(expression: str, stored: pa.DataType, entry: Field, column: Column) -> str:
    """SQL that gives a stored column as the field's type, NULL where the value is absent."""
    types = pa.types
    is_text = types.is_string(stored) or types.is_large_string(stored)
    is_number = types.is_integer(stored) or types.is_floating(stored) or types.is_decimal(stored)
    if entry.type in (FieldType.TEXT, FieldType.ADDRESS):
        return expression if is_text or (column.text and types.is_integer(stored)) else "NULL"
    if entry.type is FieldType.BOOLEAN:
        return expression if types.is_boolean(stored) else "NULL"
    if entry.type is FieldType.TIME:
        if types.is_timestamp(stored):
            known = stored.tz is not None
            shift = _offset(column.zone)
            return _in_years(f"(epoch_us({expression}){shift})") if known or column.zone else "NULL"
        if is_text:
            return _parsed(f"{expression} || '{column.zone}'" if column.zone else expression)
        return _counted(expression, stored, column.unit) if is_number else "NULL"
    if types.is_integer(stored):
        return f"CASE WHEN {expression} > -{LARGEST_INTEGER} AND {expression} < {LARGEST_INTEGER} THEN {expression} END"
    if types.is_floating(stored):
        return f"CASE WHEN isfinite({expression}) THEN {expression} END"
    return expression if is_number else "NULL"


def _offset(zone: str) -> str:
    """What to take from a time written in a zone, in microseconds."""
    if zone in ("", "Z"):
        return ""
    minutes = int(zone[1:3]) * 60 + int(zone[4:6])
    return f" {'-' if zone[0] == '+' else '+'} {minutes * 60_000_000}"


def _counted(expression: str, stored: pa.DataType, unit: str) -> str:
    """Microseconds of a number of seconds, or of parts of a second."""
    parts = UNITS[unit]
    inside = f"{expression} >= 0 AND {expression} < {_LATEST_SECOND * parts}"
    if pa.types.is_integer(stored):
        whole = f"CAST({expression} AS HUGEINT) * 1000000 // {parts}"
    else:
        # Whole seconds and the rest apart: both stay exact, where the product of all would be rounded twice.
        seconds = f"(CAST({expression} AS DOUBLE) / {parts})"
        rest = f"round_even(({seconds} - floor({seconds})) * 1000000, 0)"
        whole = f"CAST(floor({seconds}) AS BIGINT) * 1000000 + CAST({rest} AS BIGINT)"
    return f"CASE WHEN {inside} THEN {whole} END"


def _parsed(text: str) -> str:
    """`events.parse_time` of a text."""
    parts = [f"regexp_extract({text}, '{_RFC_3339}', {n}, 's')" for n in range(1, 7)]
    date, clock, fraction, sign, hours, minutes = parts
    moment = f"epoch_us(TRY_CAST({date} || ' ' || {clock} AS TIMESTAMP))"
    micros = f"CAST(left(rpad('0' || {fraction}, 7, '0'), 7) AS BIGINT)"
    offset = (
        f"CASE WHEN {sign} = '' THEN 0 ELSE (CASE {sign} WHEN '+' THEN 1 ELSE -1 END) * "
        f"(TRY_CAST({hours} AS BIGINT) * 60 + TRY_CAST({minutes} AS BIGINT)) * 60000000 END"
    )
    sound = (
        f"regexp_full_match({text}, '{_RFC_3339}', 's') AND {clock} NOT LIKE '%:60' AND {clock} NOT LIKE '24:%' "
        f"AND {date} NOT LIKE '0000%' AND ({sign} = '' OR ({hours} < '24' AND {minutes} < '60'))"
    )
    return _in_years(f"CASE WHEN {sound} THEN {moment} + {micros} - ({offset}) END")


def _in_years(time: str) -> str:
    """A time in microseconds, absent outside the years 1 to 9999."""
    return (
        f"CASE WHEN {time} BETWEEN {_EARLIEST_SECOND * 1_000_000} AND {_LATEST_SECOND * 1_000_000 - 1} THEN {time} END"
    )
