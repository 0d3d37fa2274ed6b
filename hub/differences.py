"""Where a table says something else than it should: the rows that are derived, against those that are stored."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it should be.

    Attributes:
        table: where it is stored.
        row: which row, "" for the whole table.
        what: how it differs.
    """

    table: str
    row: str
    what: str

    def __str__(self) -> str:
        return f"{self.table} {self.row}: {self.what}" if self.row else f"{self.table}: {self.what}"


def compare_keyed(
    table: str, derived: Mapping[Any, Mapping[str, Any]], stored: Mapping[Any, Mapping[str, Any]]
) -> Iterator[Difference]:
    """Compare rows by their keys."""
    for key in sorted(derived.keys() | stored.keys()):
        yield from _compare_row(table, str(key), derived.get(key), stored.get(key))


def compare_sorted(
    table: str, derived: Iterable[Mapping[str, Any]], stored: Iterable[Mapping[str, Any]]
) -> Iterator[Difference]:
    """Walk two streams that are ordered by id side by side."""
    left, right = iter(derived), iter(stored)
    ours, theirs = next(left, None), next(right, None)
    while ours is not None or theirs is not None:
        if theirs is None or (ours is not None and ours["id"].encode() < theirs["id"].encode()):
            yield from _compare_row(table, ours["id"] if ours else "", ours, None)
            ours = next(left, None)
        elif ours is None or theirs["id"].encode() < ours["id"].encode():
            yield from _compare_row(table, theirs["id"], None, theirs)
            theirs = next(right, None)
        else:
            yield from _compare_row(table, ours["id"], ours, theirs)
            ours, theirs = next(left, None), next(right, None)


def _compare_row(
    table: str, key: str, derived: Mapping[str, Any] | None, stored: Mapping[str, Any] | None
) -> Iterator[Difference]:
    if derived is None:
        yield Difference(table, key, "says something that the log does not")
    elif stored is None:
        yield Difference(table, key, "is missing")
    else:
        wrong = [name for name, value in derived.items() if _value(name, value) != _value(name, stored[name])]
        if wrong:
            yield Difference(table, key, f"{', '.join(wrong)}: not what the log says")


def _value(name: str, value: Any) -> Any:
    return json.loads(value, parse_float=_number, parse_int=_number) if name == "statement" else value


def _number(written: str) -> tuple[Decimal]:
    # Postgres writes the numbers of a JSON document in its own way; what they are must be the same, exactly. In a
    # tuple, since `Decimal(1) == True`.
    return (Decimal(written),)
