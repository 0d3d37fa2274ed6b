"""Requests in CSV (RFC 4180, UTF-8, a header line): cells as the catalogue types them, an empty one is absent."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from member_client.detection.log_settings import Column
from member_client.detection.request_logs import MAX_LINE_BYTES, BrokenRow, Place
from member_client.detection.rows import Fields
from member_client.errors import InvalidInput
from sharing_protocol.pattern_logic.catalogue import NUMERIC, Category, FieldType, fields_in

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_TRUTH = {"true": True, "false": False}


def csv_rows(
    name: str,
    header: bytes,
    columns: Mapping[str, Column],
    lines: Iterator[tuple[int, bytes]],
    broken: Callable[[BrokenRow], None],
) -> Iterator[tuple[int, Fields]]:
    """The records of a file with the number of their first line.

    Args:
        name: of the file.
        header: its first line.
        columns: field to column.
        lines: those after the header, or after what was read before, with their numbers.
        broken: told of each record that is left out.

    Raises:
        InvalidInput: the header cannot be meant.
    """
    names = _names(name, header)
    readers = [_reader(column, columns) for column in names]
    csv.field_size_limit(MAX_LINE_BYTES)
    taken: list[int] = []

    def decoded() -> Iterator[str]:
        for number, line in lines:
            taken.append(number)
            try:
                yield line.decode()
            except UnicodeDecodeError as error:
                broken(BrokenRow(Place(name, number), f"not UTF-8 (byte {error.start})"))
                taken.clear()

    records = csv.reader(decoded(), strict=True)
    while True:
        taken.clear()
        try:
            cells = next(records, None)
        except csv.Error as error:
            if not taken:
                return  # the last record has no end, and that has been said
            # the library's words for it speak of Python's way of opening files
            unclosed = "a quotation mark is left open" if "new-line" in str(error) else str(error)
            broken(BrokenRow(Place(name, taken[0]), f"not CSV: {unclosed}"))
            continue
        if cells is None:
            return
        if len(cells) == len(names):
            yield taken[0], {column: read(cell) for column, read, cell in zip(names, readers, cells, strict=True)}
        elif cells:
            reason = f"{len(cells)} cells, but the header has {len(names)}"
            broken(BrokenRow(Place(name, taken[0]), reason))


def _names(name: str, header: bytes) -> list[str]:
    try:
        names = next(csv.reader([header.decode("utf-8-sig")], strict=True), [])
    except (csv.Error, UnicodeDecodeError) as error:
        raise InvalidInput(f"{name} has no CSV header: {error}", "its first line names the columns") from error
    if not names or len(set(names)) < len(names):
        raise InvalidInput(f"{name} names no column, or one twice, in its header", "give each column its own name")
    return names


def _reader(column: str, columns: Mapping[str, Column]) -> Callable[[str], Any]:
    """How a column's cells are read: as the type of the field that they are for."""
    known = fields_in(Category.REQUEST)
    meant = next((field for field, source in columns.items() if source.name == column), column)
    entry = known.get(meant)
    if entry is None:
        return lambda cell: cell or None
    if entry.type is FieldType.BOOLEAN:
        return lambda cell: _TRUTH.get(cell.lower(), cell or None)
    if entry.type in NUMERIC or entry.type is FieldType.TIME:
        # what is no number stays the text that it is, which a field of numbers does not take
        return lambda cell: number if (number := _number(cell)) is not None else cell or None
    return lambda cell: cell or None


def _number(cell: str) -> int | float | None:
    written = _NUMBER.fullmatch(cell)
    if written is None or len(cell) > 400:
        return None
    return float(cell) if written[1] or written[2] else int(cell)
