"""Values that stand where a field's values should, and are none of its type: how many, of what kind, how to mend it.

A wrong unit may also give a time that can be read and cannot be meant: of such times, too, it says how many there are.

Nothing is converted unasked, so such a value is absent, and what reads the field never matches: that is not silent. A
value is described by its type, its length or the places of its digits; it is never shown itself.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from member_client.detection.canonical import request_fields
from member_client.detection.log_settings import UNITS, Column
from sharing_protocol.pattern_logic.catalogue import NUMERIC, Field, FieldType

_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?", re.ASCII)
_TIME_LIKE = re.compile(r"(?=(?:\D*\d){4})[\w :/.,+-]{6,35}")
_NO_OFFSET = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,12})?", re.ASCII)
_TIMES = "times are RFC 3339 with an offset, as 2026-03-01T09:00:00Z, or numbers"
_LATEST_SECOND = 253_402_300_800  # as `events.parse_time` has it
_EARLIEST = 1_420_070_400_000_000  # 2015, before there was anything like this to log
_DAY_SECONDS = 86_400
_TIME_FIELDS = tuple(entry for entry in request_fields() if entry.type is FieldType.TIME)


@dataclass(slots=True)
class Unreadable:
    """What could not be read of one field.

    Attributes:
        rows: that had such a value.
        kind: what the first of these looked like, as a noun with its article.
        hint: how to mend that.
    """

    rows: int
    kind: str
    hint: str


@dataclass(slots=True)
class Implausible:
    """Times of one field that cannot be meant: before 2015, or later than in a day.

    Attributes:
        rows: that had one.
        year: of the first of these.
        hint: how to mend that.
    """

    rows: int
    year: int
    hint: str


def _tomorrow() -> int:
    return int(time.time() + _DAY_SECONDS) * 1_000_000


@dataclass
class Readability:
    """What of the columns that fields are read from was there, and could be read.

    Attributes:
        unreadable: by field.
        mapped: fields with the columns that settings or `--map` name for them, of logs that had rows.
        met: of these, such as some row had.
        implausible: by field that holds times.
        latest: the last time that can be meant, in microseconds since 1970.
    """

    unreadable: dict[str, Unreadable] = field(default_factory=dict)
    mapped: set[tuple[str, str]] = field(default_factory=set)
    met: set[tuple[str, str]] = field(default_factory=set)
    implausible: dict[str, Implausible] = field(default_factory=dict)
    latest: int = field(default_factory=_tomorrow, compare=False)

    @property
    def unmet(self) -> list[tuple[str, str]]:
        """Fields with columns that no row had."""
        return sorted(self.mapped - self.met)

    def note(self, entry: Field, column: Column, value: Any, rows: int) -> None:
        """Count values of a field that cannot be read.

        Args:
            column: where they come from.
            value: the first of them, after `Column.convert`.
        """
        known = self.unreadable.get(entry.name)
        if known is None:
            if column.zone and isinstance(value, str):
                value = value.removesuffix(column.zone)
            self.unreadable[entry.name] = Unreadable(rows, _kind(value, entry), _hint(value, entry, column))
        else:
            known.rows += rows

    def note_times(self, batch: pa.RecordBatch, columns: Mapping[str, Column]) -> None:
        """Count times in canonical rows that were read and cannot be meant."""
        for entry in _TIME_FIELDS:
            if entry.name not in batch.schema.names:
                continue
            times = batch.column(entry.name)
            ends = pc.min_max(times).as_py()
            if ends["min"] is None or (ends["min"] >= _EARLIEST and ends["max"] <= self.latest):
                continue
            odd = times.filter(pc.or_(pc.less(times, _EARLIEST), pc.greater(times, self.latest)))
            first = odd[0].as_py()
            known = self.implausible.get(entry.name)
            if known is None:
                hint = self._hint(first, entry, columns.get(entry.name, Column(entry.name)))
                self.implausible[entry.name] = Implausible(len(odd), _moment(first).year, hint)
            else:
                known.rows += len(odd)

    def _hint(self, time_us: int, entry: Field, column: Column) -> str:
        """How to mend a time that cannot be meant."""
        name = column.name or entry.name
        if column.unit != "s":  # which only numbers have
            for unit, parts in UNITS.items():
                if _EARLIEST <= time_us * UNITS[column.unit] // parts <= self.latest:
                    return _in_settings(entry, name, f'unit = "{unit}"') + f', as "{column.unit}" is not what it is in'
        if time_us < _EARLIEST:
            return f"leave the value away where it stands for none, {_other(entry)}"
        return f"see that unit, zone and the clock that wrote it are right, {_other(entry)}"

    def note_columns(self, columns: Mapping[str, Column], absent: Collection[str]) -> None:
        """Take the mapping of a log that had rows, and the columns of it that none of them had."""
        for name, column in columns.items():
            if column.name:
                self.mapped.add((name, column.name))
                if column.name not in absent:
                    self.met.add((name, column.name))

    def include(self, other: Readability) -> None:
        """Take what somebody else has noted."""
        for name, found in other.unreadable.items():
            known = self.unreadable.setdefault(name, Unreadable(0, found.kind, found.hint))
            known.rows += found.rows
        for name, times in other.implausible.items():
            same = self.implausible.setdefault(name, Implausible(0, times.year, times.hint))
            same.rows += times.rows
        self.mapped |= other.mapped
        self.met |= other.met

    def document(self) -> dict[str, Any]:
        """As JSON, for people's scripts and for summaries."""
        return {
            "unreadable": [{"field": name, **asdict(found)} for name, found in sorted(self.unreadable.items())],
            "implausible_times": [{"field": name, **asdict(found)} for name, found in sorted(self.implausible.items())],
            "columns_never_met": [{"field": name, "column": column} for name, column in self.unmet],
        }


def _moment(time_us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)


def _kind(value: Any, entry: Field) -> str:
    """What a value looks like."""
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, int):
        return f"a whole number of {_many(len(str(abs(value))), 'digit')}"
    if isinstance(value, float):
        return "a number with a fraction"
    if isinstance(value, str):
        if entry.type is FieldType.TIME and _TIME_LIKE.fullmatch(value):
            return f"text of the form {_shape(value)}"
        return "a number written as text" if _NUMBER.fullmatch(value) else f"text of {_many(len(value), 'character')}"
    if isinstance(value, datetime):
        return "a timestamp without a zone"
    if isinstance(value, date):
        return "a day without a time"
    return "a list" if isinstance(value, list) else "a value of another type"


def _shape(text: str) -> str:
    """A text with a 9 for each digit and an a for each letter, but for the marks of RFC 3339."""
    marked = re.sub(r"\d", "9", text)
    return re.sub(
        r"(?<=9)[Tt](?=9)|(?<=9)[Zz]\Z|[^\W\d_]", lambda letter: letter[0] if letter[0] in "TtZz" else "a", marked
    )


def _hint(value: Any, entry: Field, column: Column) -> str:
    """How to make values like this one readable."""
    name = column.name or entry.name
    if isinstance(value, bool):
        value = None
    if entry.type is FieldType.TIME:
        if isinstance(value, int | float):
            if value < 0 or (column.unit != "s" and isinstance(value, float)):
                return f'the unit is "{column.unit}" and the years are 1970 to 9999: name another unit or column'
            return _in_settings(entry, name, f'unit = "{_unit(value)}"')
        if isinstance(value, date) or (isinstance(value, str) and _NO_OFFSET.fullmatch(value) and not column.zone):
            if isinstance(value, date) and not isinstance(value, datetime):
                return _TIMES
            return _in_settings(entry, name, 'zone = "UTC"') + ', or the offset that it is in, as "+02:00"'
        return f"{_TIMES}; {'leave zone out if they have an offset, ' if column.zone else ''}{_other(entry)}"
    if entry.type is FieldType.TEXT and isinstance(value, int):
        return _in_settings(entry, name, "text = true")
    if entry.type in NUMERIC and isinstance(value, str) and _NUMBER.fullmatch(value):
        return f"have it written as a number, without quotation marks, {_other(entry)}"
    wanted = "a number" if entry.type in NUMERIC else "true or false" if entry.type is FieldType.BOOLEAN else "text"
    return f"the field takes {wanted}: have it written so, {_other(entry)}"


def _unit(number: float) -> str:
    """The unit in which a number is a time of these decades."""
    return next((unit for unit, parts in UNITS.items() if number < _LATEST_SECOND * parts), "ns")


def _in_settings(entry: Field, column: str, more: str) -> str:
    quoted = f'"{entry.name}"' if "." in entry.name else entry.name
    return f'write {quoted} = {{ column = "{column}", {more} }} in logs.toml (beside named files: --logs)'


def _other(entry: Field) -> str:
    return f"or name the column that has it: --map {entry.name}=COLUMN"


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
