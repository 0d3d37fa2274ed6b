"""Bytes to statements and back."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from sharing_protocol import strict_json
from sharing_protocol.errors import Malformed, Refused
from sharing_protocol.statements.header import SCHEMA, Unknown
from sharing_protocol.statements.membership import MembershipStatement, Role
from sharing_protocol.statements.records import RECORD_TYPES, RecordStatement

Statement = MembershipStatement | RecordStatement

_ADAPTER: TypeAdapter[Statement] = TypeAdapter(Annotated[Statement, Field(discriminator="type")])
_TYPES = frozenset(
    {
        "membership.found",
        "membership.change_admins",
        "membership.change_log",
        "membership.admit",
        "membership.suspend",
        "membership.reinstate",
        "membership.expel",
        "membership.add_key",
        "membership.revoke_key",
        *RECORD_TYPES,
    }
)
_MAX_ISSUES_SHOWN = 5


def parse(payload: bytes, *, is_strict: bool = False) -> Statement | Unknown:
    """Read a statement.

    Args:
        is_strict: whether `strict_json.loads` is known to take this payload. It is most of the work, and only a
            statement that is known and valid makes do without what it returns.

    Raises:
        Malformed: `malformed_json`, or `malformed_statement` when it is not an object with `schema` and `type`.
        Refused: `invalid_statement`, with the path of each member that is missing, unknown or wrong.
    """
    if is_strict:
        with suppress(ValidationError):
            return _ADAPTER.validate_json(payload)
    document = strict_json.loads(payload, "the statement")
    schema = document.get("schema") if isinstance(document, dict) else None
    kind = document.get("type") if isinstance(document, dict) else None
    if not isinstance(document, dict) or type(schema) is not int or not isinstance(kind, str):
        raise Malformed(
            "malformed_statement", "a statement is a JSON object with a number `schema` and a string `type`"
        )
    if schema > SCHEMA or kind not in _TYPES:
        return Unknown(schema, kind, document)
    try:
        return _ADAPTER.validate_json(payload)
    except ValidationError as error:
        raise _refusal(error) from error


def understanding() -> str:
    """Which statements, and roles of keys, this version understands: one line; another version's may differ."""
    return f"{SCHEMA} {' '.join(sorted(_TYPES))} {' '.join(sorted(Role))}"


def encode(statement: Statement) -> bytes:
    """Write a statement as compact JSON: the payload to sign."""
    document: dict[str, strict_json.Json] = statement.model_dump(mode="json", by_alias=True)
    body, kind = document.pop("body"), document.pop("type")
    schema, forum = document.pop("schema"), document.pop("forum")
    return strict_json.dumps({"schema": schema, "forum": forum, "type": kind, **document, "body": body})


def _refusal(error: ValidationError) -> Refused:
    issues = error.errors(include_url=False, include_context=False, include_input=False)
    named = [(_path(issue["loc"][1:]), issue["msg"]) for issue in issues[:_MAX_ISSUES_SHOWN]]
    shown = "; ".join(f"{where or 'the statement'}: {what}" for where, what in named)
    more = len(issues) - _MAX_ISSUES_SHOWN
    return Refused("invalid_statement", shown + (f"; and {more} more" if more > 0 else ""), where=named[0][0])


def _path(steps: tuple[int | str, ...]) -> str:
    # An unknown member's name is its author's choice, and this goes to terminals and log lines.
    names = (str(step)[:80] for step in steps)
    return ".".join(name if name.isascii() and name.isprintable() else ascii(name) for name in names)
