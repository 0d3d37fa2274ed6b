"""Requests in OpenTelemetry's exported JSON (OTLP/JSON): log records and spans with `gen_ai.*` attributes.

One line holds an export with many records. Attributes of the record, of its scope and of its resource count, the
nearest first; the catalogue's field names are the attributes' own wherever OpenTelemetry has one.
https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding, https://opentelemetry.io/docs/specs/semconv/gen-ai/
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from member_client.detection.rows import Fields
from sharing_protocol.pattern_logic.catalogue import Category, fields_in

_GROUPS = (
    ("resourceSpans", "scopeSpans", "spans"),
    ("resourceLogs", "scopeLogs", "logRecords"),
)
_TIMES = ("startTimeUnixNano", "timeUnixNano", "observedTimeUnixNano")
_MESSAGES = "gen_ai.input.messages"
_SYSTEM = "gen_ai.system_instructions"
_TOOLS = "gen_ai.tool.definitions"
_MAX_DEPTH = 64


def is_export(row: Mapping[str, Any]) -> bool:
    """Whether a line is an export rather than one request."""
    return any(isinstance(row.get(group), list) for group, _, _ in _GROUPS)


def requests_in(export: Mapping[str, Any]) -> Iterator[Fields]:
    """The requests of an export, flat; records without any `gen_ai.*` attribute are none."""
    for group, scopes, records in _GROUPS:
        for resource in _maps(export.get(group)):
            shared = _attributes(_map(resource.get("resource")))
            for scope in _maps(resource.get(scopes)):
                outer = shared | _attributes(_map(scope.get("scope")))
                for record in _maps(scope.get(records)):
                    own = _attributes(record)
                    if any(name.startswith("gen_ai.") for name in own):
                        yield _request(outer | own, record)


def _request(attributes: dict[str, Any], record: Mapping[str, Any]) -> Fields:
    row: Fields = dict(attributes)
    for entry in fields_in(Category.REQUEST).values():
        if entry.otel in attributes and entry.name not in attributes:
            row[entry.name] = attributes[entry.otel]
    for name in _TIMES:
        nanoseconds = _whole(record.get(name))
        if nanoseconds:
            row.setdefault("timestamp", _rfc_3339(nanoseconds) or str(nanoseconds))
            break
    else:
        # what is no number of nanoseconds is kept as written, to be counted among what cannot be read
        written = next((record[name] for name in _TIMES if record.get(name) not in (None, "", 0, "0")), None)
        if written is not None:
            row.setdefault("timestamp", str(written))
    _from_messages(row, attributes)
    tools = _structured(attributes.get(_TOOLS))
    row["request.tools"] = len(tools) if isinstance(tools, list) else attributes.get("request.tools")
    return row


def _from_messages(row: Fields, attributes: Mapping[str, Any]) -> None:
    """`prompt.text`, `prompt.turns` and `prompt.system` from structured messages, where they are recorded."""
    if "prompt.text" not in attributes:
        messages = _maps(_structured(attributes.get(_MESSAGES)))
        asked = [message for message in messages if message.get("role") == "user"]
        row["prompt.text"] = _text_of(asked[-1].get("parts", asked[-1].get("content"))) if asked else None
        if asked:
            row.setdefault("prompt.turns", len(asked))
    if "prompt.system" not in attributes:
        row["prompt.system"] = _text_of(_structured(attributes.get(_SYSTEM)))


def _text_of(parts: Any) -> str | None:
    """Text parts joined by line feeds; other parts (images, tool calls) are no text."""
    if isinstance(parts, str):
        return parts
    texts = [part.get("content", part.get("text")) for part in _maps(parts) if part.get("type", "text") == "text"]
    known = [text for text in texts if isinstance(text, str)]
    return "\n".join(known) if known else None


def _structured(value: Any) -> Any:
    """Structured attributes may be recorded as such or as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _attributes(holder: Mapping[str, Any]) -> dict[str, Any]:
    return {
        one["key"]: _value(one.get("value"), 0)
        for one in _maps(holder.get("attributes"))
        if isinstance(one.get("key"), str)
    }


def _value(value: Any, depth: int) -> Any:
    """An AnyValue; int64 is written as text in OTLP/JSON."""
    if not isinstance(value, dict) or depth > _MAX_DEPTH:
        return None
    if "stringValue" in value:
        return value["stringValue"]
    if "intValue" in value:
        return _whole(value["intValue"])
    if "boolValue" in value:
        return value["boolValue"]
    if "doubleValue" in value:
        return value["doubleValue"]
    if "arrayValue" in value:
        return [_value(one, depth + 1) for one in _maps(_map(value["arrayValue"]).get("values"))]
    if "kvlistValue" in value:
        entries = _maps(_map(value["kvlistValue"]).get("values"))
        return {str(one.get("key")): _value(one.get("value"), depth + 1) for one in entries}
    return None


def _whole(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and len(value) <= 20 and value.removeprefix("-").isdigit():
        return int(value)
    return value if type(value) is int else None


def _rfc_3339(nanoseconds: int) -> str | None:
    from member_client.detection.log_settings import Column

    text = Column("", unit="ns").convert(nanoseconds)
    return text if isinstance(text, str) else None


def _maps(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _map(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
