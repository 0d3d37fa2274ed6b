"""One YAML document as JSON values, and the line and column that each of them comes from.

YAML has more than a pattern can carry, and some of it bites: `no` is false, `2026-01-01` a date, `010` is eight, an
alias can unfold to gigabytes, a tag can make objects, of two equal keys the last one wins. Here a plain scalar is null,
true, false or a number only if JSON would read it so, and text otherwise; aliases, anchors, tags, merge keys,
duplicate keys and further documents are refused. Size and depth are bounded before anything is built.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn, Protocol

import yaml

from sharing_protocol.strict_json import MAX_DEPTH, MAX_SAFE_INTEGER, Json

MAX_BYTES = 256 * 1024

INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
FLOAT = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_NULL = frozenset({"", "~", "null"})
_BOOLEANS = {"true": True, "false": False}
# libyaml's parser is nine times as fast; PyYAML carries it on every platform that has wheels.
_LOADER: type[yaml.CSafeLoader] | type[yaml.SafeLoader] = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in the text; line and column count from 1."""

    line: int
    column: int


class _Mark(Protocol):
    """PyYAML's mark, from either of its parsers; counts from 0."""

    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...


class BadYaml(Exception):
    """Text that is not one YAML document of JSON values.

    Attributes:
        position: where.
        what: what is wrong, as a clause.
        mend: what to write instead.
        code: stable name of the kind of problem.
    """

    def __init__(self, position: Position, code: str, what: str, mend: str) -> None:
        super().__init__(f"{position.line}:{position.column}: {what}")
        self.position = position
        self.code = code
        self.what = what
        self.mend = mend


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """A document's value, and where each part of it stands.

    Attributes:
        value: JSON values only.
        positions: path (as in `logic[0].detection.selection`) to the place of that member's key or that item.
    """

    value: Json
    positions: Mapping[str, Position]

    def locate(self, path: str) -> Position:
        """The place of a path, or of its nearest ancestor that the file has."""
        while path and path not in self.positions:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.positions.get(path, Position(1, 1))


def parse(data: bytes) -> YamlDocument:
    """Read one YAML document.

    Raises:
        BadYaml: at the first problem; what comes after it in a file means nothing.
    """
    if len(data) > MAX_BYTES:
        _refuse(Position(1, 1), "too_large", f"the file has {len(data):,} bytes", f"use at most {MAX_BYTES:,}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace")
        _refuse(_end_of(before), "bad_text", "the file is not UTF-8 from here on", "save it as UTF-8")
    if forbidden := yaml.reader.Reader.NON_PRINTABLE.search(text):
        code = f"U+{ord(forbidden[0]):04X}"
        _refuse(_end_of(text[: forbidden.start()]), "bad_text", f"{code} may not stand in a file", "remove it")
    builder = _Builder(yaml.parse(text, Loader=_LOADER))
    try:
        value = builder.document()
    except yaml.MarkedYAMLError as error:
        _refuse(_place(error.problem_mark or error.context_mark), "bad_yaml", *_explain(error))
    return YamlDocument(value, builder.positions)


class _Builder:
    """Builds JSON values from parser events, in one pass and to a bounded depth."""

    def __init__(self, events: Iterator[yaml.Event]) -> None:
        self._events = events
        self.positions: dict[str, Position] = {}

    def document(self) -> Json:
        next(self._events)  # start of the stream
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            _refuse(_place(event.start_mark), "empty", "the file is empty", "start from `stillwatch pattern new`")
        event = next(self._events)
        self.positions[""] = _place(event.start_mark)
        value = self._value(event, "", 1)
        next(self._events)  # end of the document
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            _refuse(
                _place(event.start_mark),
                "many_documents",
                "a second document starts here",
                "write one pattern a file, and its Sigma documents as the list under `logic`",
            )
        return value

    def _value(self, event: yaml.Event, path: str, depth: int) -> Json:
        position = _place(event.start_mark)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            _refuse(position, "alias", "anchors and aliases (& and *) are not taken", "write the text out again")
        if getattr(event, "tag", None) is not None:
            _refuse(position, "tag", "tags (starting with !) are not taken", "remove it, or quote the text")
        if depth > MAX_DEPTH:
            _refuse(position, "too_deep", f"this is nested more than {MAX_DEPTH} levels deep", "flatten it")
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event, position)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path, depth)
        return self._mapping(path, depth)

    def _sequence(self, path: str, depth: int) -> list[Json]:
        items: list[Json] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            place = f"{path}[{len(items)}]"
            self.positions.setdefault(place, _place(event.start_mark))
            items.append(self._value(event, place, depth + 1))
        return items

    def _mapping(self, path: str, depth: int) -> dict[str, Json]:
        members: dict[str, Json] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            position = _place(event.start_mark)
            key = self._value(event, path, depth + 1)
            if not isinstance(event, yaml.ScalarEvent) or not isinstance(key, str):
                _refuse(position, "bad_key", "a key must be text", "put it in quotation marks")
            if key == "<<" and event.implicit[0]:
                _refuse(position, "alias", "merge keys (<<) are not taken", "write the members out")
            if key in members:
                _refuse(position, "duplicate_key", f"{key[:80]!r} stands here twice", "keep one of the two")
            place = f"{path}.{key}" if path else key
            self.positions.setdefault(place, position)
            members[key] = self._value(next(self._events), place, depth + 1)
        return members


def _scalar(event: yaml.ScalarEvent, position: Position) -> Json:
    text = event.value
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        _refuse(position, "bad_text", "the text has U+0000 or half a surrogate pair", "remove it")
    if not event.implicit[0]:
        return text
    if text in _NULL:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if not FLOAT.fullmatch(text):
        return text
    if INTEGER.fullmatch(text):
        if len(text) > 17 or abs(int(text)) > MAX_SAFE_INTEGER:
            _refuse(position, "bad_number", "the number is beyond 2^53-1", "quote it if it is text")
        return int(text)
    number = float(text) if len(text) <= 64 else float("inf")
    if abs(number) == float("inf"):
        _refuse(position, "bad_number", "the number is too large to be exact", "quote it if it is text")
    return number


def _place(mark: _Mark | None) -> Position:
    return Position(mark.line + 1, mark.column + 1) if mark is not None else Position(1, 1)


def _end_of(text: str) -> Position:
    return Position(text.count("\n") + 1, len(text) - text.rfind("\n"))


def _explain(error: yaml.MarkedYAMLError) -> tuple[str, str]:
    problem = error.problem or "this is not YAML"
    hints = (
        ("cannot start any token", "put the text in quotation marks; indent with spaces, not tabs"),
        ("mapping values are not allowed", "put text with `: ` in quotation marks, or check the indentation"),
        ("block mapping", "check the indentation of this line and the ones above"),
        ("block collection", "check the indentation of this line and the ones above"),
        ("found unknown escape character", "use 'single quotation marks' for text with backslashes"),
        ("quoted scalar", "close the quotation mark"),
    )
    said = f"{error.context or ''} {problem}"
    mend = next((mend for sign, mend in hints if sign in said), "check quotation marks and indentation")
    return f"not YAML: {problem}", mend


def _refuse(position: Position, code: str, what: str, mend: str) -> NoReturn:
    raise BadYaml(position, code, what, mend)
