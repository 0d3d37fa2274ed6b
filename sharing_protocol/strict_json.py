"""JSON that means one thing: what two parsers could read differently is refused.

RFC 8259 leaves duplicate names, huge numbers, NaN and lone surrogates to the parser; RFC 7493 (I-JSON) rules
them out, and so do we. Depth and size are bounded before anything else looks at the data.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import NoReturn

import orjson

from sharing_protocol.errors import Malformed

MAX_DEPTH = 32
MAX_SAFE_INTEGER = 2**53 - 1

Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None

_NOT_COMPACT: Json = {}
_MANY_DIGITS = b"0" * len(str(MAX_SAFE_INTEGER))
_DIGITS = bytes(ord("0") if chr(byte) in "0123456789" else ord(" ") for byte in range(256))


def loads(data: bytes, what: str = "the document") -> Json:
    """Parse UTF-8 JSON by I-JSON's rules, at most 32 levels deep.

    Raises:
        Malformed: `malformed_json`, with what is wrong and where.
    """
    value = _read_compact(data)
    if value is _NOT_COMPACT:
        value = _read(data, what)
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH:  # otherwise it cannot be deeper
        _check_depth(value, what)
    # JSON has control characters, and UTF-8 has surrogates, only where they are escaped.
    if b"\\" in data and b"\\u" in data:
        _check_text(value, what)
    return value


def dumps(value: Json) -> bytes:
    """Write compact UTF-8 JSON, members in the order given."""
    return _ENCODER.encode(value).encode("utf-8")


def _read_compact(data: bytes) -> Json:
    """Read JSON that a writer would write again to the byte; `_NOT_COMPACT` for all other, which takes a closer look.

    So it is UTF-8, names no member twice, and has no number that was rounded. Only an integer can still be too large,
    and it takes as many digits as `_MANY_DIGITS`. Most of what is signed is written so.
    """
    try:
        value: Json = orjson.loads(data)
        is_compact = orjson.dumps(value) == data and _MANY_DIGITS not in data.translate(_DIGITS)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return _NOT_COMPACT
    return value if is_compact else _NOT_COMPACT


def _read(data: bytes, what: str) -> Json:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed("malformed_json", f"{what} is not UTF-8 (byte {error.start})") from error
    if text.startswith("\ufeff"):
        raise Malformed("malformed_json", f"{what} starts with a byte order mark")
    try:
        value: Json = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Malformed("malformed_json", f"{what} is not JSON: {error.msg} ({where})") from error
    except RecursionError as error:
        raise _too_deep(what) from error
    except _Ambiguous as error:
        raise Malformed("malformed_json", f"{what}: {error}") from error
    return value


class _Ambiguous(ValueError):
    pass


def _object_without_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    result = dict(pairs)
    if len(result) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise _Ambiguous(f"the member {twice[:80]!r} appears twice in one object")
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise _Ambiguous(f"{name} is not a JSON number")


def _parse_int(digits: str) -> int:
    if len(digits) > 17 or abs(int(digits)) > MAX_SAFE_INTEGER:
        raise _Ambiguous("an integer is beyond 2^53-1, which parsers read differently")
    return int(digits)


def _parse_float(digits: str) -> float:
    value = float(digits) if len(digits) <= 64 else float("inf")
    if value in (float("inf"), float("-inf")):
        raise _Ambiguous("a number is too large or too long to be exact everywhere")
    return value


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object_without_duplicates,
    parse_constant=_refuse_constant,
    parse_int=_parse_int,
    parse_float=_parse_float,
)
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _too_deep(what: str) -> Malformed:
    return Malformed("malformed_json", f"{what} is nested more than {MAX_DEPTH} levels deep")


def _members(container: Json) -> Iterable[Json]:
    return container.values() if type(container) is dict else container if type(container) is list else ()


def _check_depth(value: Json, what: str) -> None:
    # What the decoder made has exactly these types, and asking for them is most of the time that this takes.
    level: list[Json] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            member
            for container in level
            for member in _members(container)
            if type(member) is dict or type(member) is list
        ]
        if not level:
            return
    raise _too_deep(what)


def _check_text(value: Json, what: str) -> None:
    pending = [value]
    while pending:
        current = pending.pop()
        texts = [current] if isinstance(current, str) else current if isinstance(current, dict) else ()
        for text in texts:
            if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
                raise Malformed("malformed_json", f"{what} has U+0000 or half a surrogate pair in a string")
        pending.extend(_members(current))
