"""What every statement shares: its header, and the kinds of text and time that bodies are made of."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)

SCHEMA = 1
MAX_VERSION = 1_000_000

_TIMESTAMP = re.compile(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")

# Control characters drive terminals and forge log lines; format characters (bidirectional overrides, zero-width ones),
# fillers and private use make a text read otherwise than it is. The list is written out, not asked of a Unicode
# database: two members with two versions of Unicode would then disagree on what the log may hold.
_HIDDEN = (
    "\u007f-\u009f\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180e"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ud800-\uf8ff\ufdd0-\ufdef\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U0010ffff"
)
_NOT_IN_A_LINE = re.compile(f"[\\x00-\\x1f{_HIDDEN}]")
_NOT_IN_PARAGRAPHS = re.compile(f"[\\x00-\\x08\\x0b-\\x1f{_HIDDEN}]")
_ID = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*--[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NAME = re.compile(r"[!-~]+(?: [!-~]+)*")


class StrictModel(BaseModel):
    """Immutable, strictly typed, no unknown members."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


def parse_timestamp(value: object) -> datetime:
    """Read `YYYY-MM-DDTHH:MM:SSZ`, the one form of a time in a statement (RFC 3339 in UTC, whole seconds).

    Raises:
        ValueError: any other form, or a day that does not exist.
    """
    if isinstance(value, datetime):
        if value.tzinfo is not UTC or value.microsecond:
            raise ValueError("a time is in UTC and whole seconds")
        return value
    if not isinstance(value, str) or not _TIMESTAMP.fullmatch(value):
        raise ValueError("a time reads YYYY-MM-DDTHH:MM:SSZ, in UTC, between 2000 and 2099")
    return datetime.fromisoformat(value)


def format_timestamp(value: datetime) -> str:
    """Write the form that `parse_timestamp` reads."""
    utc = value if value.tzinfo is UTC else value.astimezone(UTC)
    return utc.isoformat()[:19] + "Z"


def show_hidden(text: str) -> str:
    """The text with each control or invisible character written as JSON's escape of it; line breaks and tabs stay.

    For whatever may come from others where a statement does not forbid such characters: logic, test events, log rows.
    """
    return _NOT_IN_PARAGRAPHS.sub(lambda hidden: json.dumps(hidden[0])[1:-1], text)


def _line(value: str) -> str:
    # Nothing can be wrong with most texts, and this is asked some ten times a statement.
    if value.isascii() and value.isprintable() and value and value[0] != " " != value[-1]:
        return value
    return _visible(value, _NOT_IN_A_LINE)


def _paragraphs(value: str) -> str:
    return _visible(value, _NOT_IN_PARAGRAPHS)


def _visible(value: str, refused: re.Pattern[str]) -> str:
    if hidden := refused.search(value):
        raise ValueError(f"U+{ord(hidden[0]):04X} is a control or invisible character; remove it")
    if value != value.strip() or not value:
        raise ValueError("text is not empty and neither starts nor ends with white space")
    return value


def _name(value: str) -> str:
    if not _NAME.fullmatch(value) or not comparable_name(value):
        raise ValueError("a name is of printable ASCII with at least one letter or digit, words one space apart")
    return value


def comparable_name(name: str) -> str:
    """What two names share when people could take one for the other: letters and digits in lower case."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _known_id(value: str) -> str:
    if not _ID.fullmatch(value):
        raise ValueError("an id reads <type>--<uuid>, the UUID in lower case with hyphens")
    return value


Timestamp = Annotated[
    datetime,
    BeforeValidator(parse_timestamp),
    PlainSerializer(format_timestamp, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
Line = Annotated[str, Field(max_length=200), AfterValidator(_line)]
"""One line of text, 1 to 200 characters."""
Paragraphs = Annotated[str, Field(max_length=8000), AfterValidator(_paragraphs)]
"""Text with line breaks, 1 to 8,000 characters."""
Name = Annotated[str, Field(max_length=100), AfterValidator(_name)]
"""The name of a lab or an admin, 1 to 100 characters. ASCII, because whom to trust must not hang on telling a Latin
letter from a Cyrillic one, nor on a Unicode version's idea of upper and lower case."""
Sha256Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Base64Text = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]+={0,2}$", max_length=256)]
Identifier = Annotated[str, Field(max_length=80), AfterValidator(_known_id)]


class Header(StrictModel):
    """The members of every statement besides `type` and `body`.

    Attributes:
        forum: fingerprint of the forum (hex SHA-256 of the founding statement's payload); null only in that one.
            It ties a statement to one log, so it cannot be replayed into another.
        version: 1, 2, …; `previous` is the hex leaf hash of the entry with the version before, null for 1.
        author: id of the member that speaks, or of the forum when its admins do.
    """

    schema_: Annotated[int, Field(alias="schema", ge=SCHEMA, le=SCHEMA)]
    forum: Sha256Hex | None
    id: Identifier
    version: Annotated[int, Field(ge=1, le=MAX_VERSION)]
    previous: Sha256Hex | None
    author: Identifier
    created: Timestamp


@dataclass(frozen=True, slots=True)
class Unknown:
    """A statement of a later schema, or of a type this version does not know: kept, without effect.

    Attributes:
        schema: the number it gives.
        type: the type it gives.
        document: the parsed JSON object.
    """

    schema: int
    type: str
    document: dict[str, Any]


def new_id(prefix: str, uuid: UUID) -> str:
    """Write an id; the caller brings the randomness."""
    return f"{prefix}--{uuid}"
