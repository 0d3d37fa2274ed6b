"""Reading one event: typed values by field name, text folded and encoded at most once.

An event is a flat mapping from catalogue names to JSON values (`{"prompt.text": "…", "account.id": "…"}`). A key
that is missing, null, or of another type than the catalogue gives the field is *absent*; nothing is converted: the
string "5" is not a number, 1 is not true. Columnar tables cannot tell null from missing either.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from fractions import Fraction
from math import floor
from typing import Any

from sharing_protocol.pattern_logic.catalogue import FieldType

Value = str | int | float | bool

MICROSECONDS = 1_000_000
_TOO_LARGE = 2**53
_EARLIEST_SECOND = -62_135_596_800  # 0001-01-01: an offset can lead out of the years that there are
_LATEST_SECOND = 253_402_300_800  # 10000-01-01: larger numbers are milliseconds sent by mistake, not times
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC_3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,12}))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)
_SURROGATE = re.compile("[\ud800-\udfff]")
# Blocks with any character whose folding is not its `lower()`: micro sign, Turkish i, long s, Greek, Cherokee, …
_FOLDED_UNLIKE_LOWER = re.compile(
    "[\u00b5\u0130\u017f\u0345-\u03ff\u13a0-\u13ff\u1c80-\u1c8f\u1e9b-\u1e9e\u1f00-\u1fff"
    "\uab70-\uabbf\ufb00-\ufb06\ud800-\udfff]"
)


class Event:
    """One event, with what was derived from its text kept for the next question.

    Make one `Event` and ask several patterns about it: folding and encoding are then shared.
    """

    __slots__ = ("_encoded", "_fields", "_folded")

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields
        self._folded: dict[str, str | None] = {}
        self._encoded: dict[str, bytes | None] = {}

    def text(self, name: str) -> str | None:
        """The text as written; half a surrogate pair reads as U+FFFD."""
        value = self._fields.get(name)
        if type(value) is not str:
            return None
        return value if value.isascii() else _SURROGATE.sub("\ufffd", value)

    def folded(self, name: str) -> str | None:
        """The text with letter case removed (see `fold`)."""
        try:
            return self._folded[name]
        except KeyError:
            value = self._fields.get(name)
            result = self._folded[name] = fold(value) if type(value) is str else None
            return result

    def encoded(self, name: str) -> bytes | None:
        """The text in UTF-8."""
        try:
            return self._encoded[name]
        except KeyError:
            text = self.text(name)
            result = self._encoded[name] = None if text is None else text.encode("utf-8")
            return result

    def number(self, name: str) -> int | float | None:
        """The value if it is a number that double precision holds exactly as written (a truth value is none).

        From 2^53 on it does not, and engines that read numbers as doubles see another one than those that do not.
        """
        value = self._fields.get(name)
        if (type(value) is int or type(value) is float) and -_TOO_LARGE < value < _TOO_LARGE:
            return value
        return None

    def boolean(self, name: str) -> bool | None:
        value = self._fields.get(name)
        return value if isinstance(value, bool) else None

    def time(self, name: str) -> int | None:
        """Microseconds since 1970-01-01T00:00:00Z (see `parse_time`)."""
        return parse_time(self._fields.get(name))

    def read(self, name: str, field_type: FieldType) -> Value | None:
        """The value as the catalogue types it, or None if it is absent."""
        if field_type in (FieldType.TEXT, FieldType.ADDRESS):
            return self.text(name)
        if field_type is FieldType.BOOLEAN:
            return self.boolean(name)
        if field_type is FieldType.TIME:
            return self.time(name)
        return self.number(name)


class _Folds(dict[int, str]):
    """Code point to its folded character, worked out when first met."""

    def __missing__(self, code: int) -> str:
        character = "\ufffd" if 0xD800 <= code <= 0xDFFF else chr(code)
        folded = character.casefold()
        if len(folded) != 1:
            lowered = character.lower()
            folded = lowered if len(lowered) == 1 else character
        self[code] = folded
        return folded


_FOLDS = _Folds()


def fold(text: str) -> str:
    """Remove letter case by Unicode's simple case folding: one character in, one out, without regard to its place.

    The same characters are then equal as under RE2's `(?i)`, and `?` counts the same characters in either form;
    `str.lower` (final sigma) and `str.casefold` (ß to ss) have neither property. Half a surrogate pair is U+FFFD.
    """
    if text.isascii() or not _FOLDED_UNLIKE_LOWER.search(text):
        return text.lower()  # ten times as fast
    return text.translate(_FOLDS)


def millionths(number: float) -> int:
    """The number in millionths, rounded half up, in steps that every engine with double precision can take.

    Args:
        number: below 2^53 in size.
    """
    whole = floor(number)
    return whole * 1_000_000 + floor((number - whole) * 1_000_000.0 + 0.5)


def parse_time(value: object) -> int | None:
    """Microseconds since 1970 of an RFC 3339 string with offset, or of a number of seconds since 1970.

    Fractions beyond microseconds are cut off in strings and rounded in numbers. None for everything else: no
    offset, no such date, a leap second, numbers outside the years 1970 to 9999.
    """
    if isinstance(value, str):
        return _parse_rfc_3339(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 <= value < _LATEST_SECOND:
        return None
    return value * MICROSECONDS if isinstance(value, int) else round(Fraction(value) * MICROSECONDS)


def _parse_rfc_3339(text: str) -> int | None:
    parsed = _RFC_3339.fullmatch(text)
    if parsed is None:
        return None
    year, month, day, hour, minute, second = (int(parsed[part]) for part in range(1, 7))
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    offset = 0
    if parsed[8]:
        hours, minutes = int(parsed[9]), int(parsed[10])
        if hours > 23 or minutes > 59:
            return None
        offset = (hours * 3600 + minutes * 60) * (1 if parsed[8] == "+" else -1)
    since = moment - _EPOCH
    seconds = since.days * 86_400 + since.seconds - offset
    if not _EARLIEST_SECOND <= seconds < _LATEST_SECOND:
        return None
    return seconds * MICROSECONDS + int((parsed[7] or "0").ljust(6, "0")[:6])
