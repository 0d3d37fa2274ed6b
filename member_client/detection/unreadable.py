"""Values that stand where a field's values should, and are none of its type: how many, of what kind, how to mend it.

Nothing is converted unasked, so such a value is absent, and what reads the field never matches: that is not silent. A
value is described by its type, its length or the places of its digits; it is never shown itself.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from typing import Any

from member_client.detection.log_settings import UNITS, Column
from sharing_protocol.pattern_logic.catalogue import NUMERIC, Field, FieldType

_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?", re.ASCII)
_TIME_LIKE = re.compile(r"(?=(?:\D*\d){4})[\w :/.,+-]{6,35}")
_NO_OFFSET = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,12})?", re.ASCII)
_TIMES = "times are RFC 3339 with an offset, as 2026-03-01T09:00:00Z, or numbers"
_LATEST_SECOND = 253_402_300_800  # as `events.parse_time` has it


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


@dataclass
class Readability:
    """What of the columns that fields are read from was there, and could be read.

    Attributes:
        unreadable: by field.
        mapped: fields with the columns that settings or `--map` name for them, of logs that had rows.
        met: of these, such as some row had.
    """

    unreadable: dict[str, Unreadable] = field(default_factory=dict)
    mapped: set[tuple[str, str]] = field(default_factory=set)
    met: set[tuple[str, str]] = field(default_factory=set)

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
        self.mapped |= other.mapped
        self.met |= other.met

    def document(self) -> dict[str, Any]:
        """As JSON, for people's scripts and for summaries."""
        return {
            "unreadable": [{"field": name, **asdict(found)} for name, found in sorted(self.unreadable.items())],
            "columns_never_met": [{"field": name, "column": column} for name, column in self.unmet],
        }


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
            if column.unit != "s" or value < 0:
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
