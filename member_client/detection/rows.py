"""One row of a request log as an event: nested objects flattened to dotted names, columns renamed.

`{"prompt": {"text": "…"}}` and `{"prompt.text": "…"}` are the same event. A row in which both stand is refused: it
would mean one thing or the other by chance.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from member_client.errors import InvalidInput
from sharing_protocol.pattern_logic.catalogue import Category, fields_in, how_to_mend_field

Fields = dict[str, Any]

_TEMPLATE_WORDS = 8
_DIGITS = re.compile("[0-9]+")


class BadRow(Exception):
    """A row that is no event; the message says why."""


def flatten(row: Mapping[str, Any]) -> Fields:
    """Give every value its dotted name; an empty object has no values, and so no name.

    Raises:
        BadRow: two values have the same name.
    """
    fields: Fields = {}
    pending: list[tuple[str, Mapping[str, Any]]] = [("", row)]
    while pending:
        prefix, part = pending.pop()
        for key, value in part.items():
            name = prefix + key
            if isinstance(value, dict):
                pending.append((f"{name}.", value))
            elif name in fields:
                raise BadRow(f"{name[:80]!r} stands in the row twice, nested and with its dotted name")
            else:
                fields[name] = value
    return fields


def event_fields(row: Fields, columns: Mapping[str, str]) -> Fields:
    """The fields of a parsed row.

    Args:
        columns: field to the column that holds it, for logs that call things otherwise.

    Raises:
        BadRow: see `flatten`.
    """
    for value in row.values():
        if type(value) is dict:
            row = flatten(row)
            break
    for field, column in columns.items():
        if column in row:
            row[field] = row[column]
    return row


def template_of(prompt: str) -> str:
    """The skeleton of a prompt's beginning, as docs/log-sources.md defines `prompt.template`."""
    return _DIGITS.sub("0", " ".join(prompt.split(None, _TEMPLATE_WORDS)[:_TEMPLATE_WORDS]).lower())


def parse_columns(mappings: list[str]) -> dict[str, str]:
    """Read `FIELD=COLUMN` arguments.

    Raises:
        InvalidInput: not of this form, no such field, or a field given twice.
    """
    columns: dict[str, str] = {}
    known = fields_in(Category.REQUEST)
    for mapping in mappings:
        field, separator, column = mapping.partition("=")
        if not separator or not column:
            raise InvalidInput(f"{mapping!r} is not a mapping", "write --map FIELD=COLUMN, as in prompt.text=prompt")
        if field not in known:
            raise InvalidInput(f"there is no field {field!r}", how_to_mend_field(field, Category.REQUEST))
        if field in columns:
            raise InvalidInput(f"{field} is mapped twice", "map it once")
        columns[field] = column
    return columns
