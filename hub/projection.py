"""What the log says, as rows: a pure function of admitted entries, used to write the tables and to check them.

The row types are those of `records`, `record_heads`, `forum`, `members` and `member_keys` in `database.tables`.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, TypedDict

from sharing_protocol import strict_json
from sharing_protocol.admission import Admission, Head
from sharing_protocol.membership import Membership
from sharing_protocol.statements import RecordStatement, headline_of, is_about


class RecordRow(TypedDict):
    """One version of a record."""

    entry: int
    leaf_hash: bytes
    type: str
    id: str
    version: int
    author: str
    created: datetime
    kind: str | None
    title: str | None
    techniques: list[str]
    severity: str | None
    marking: str
    valid_until: datetime
    refers_to: str | None
    statement: dict[str, Any]


class HeadRow(TypedDict):
    """The newest version of a record, of a member or of the forum."""

    id: str
    type: str
    version: int
    entry: int
    leaf_hash: bytes
    author: str
    withdrawn_at: int | None


class ForumRow(TypedDict):
    """The forum."""

    id: str
    name: str
    fingerprint: bytes
    origin: str
    log_key: str
    timestamp_key: str
    admins: list[str]
    threshold: int


class MemberRow(TypedDict):
    """A lab."""

    id: str
    name: str
    status: str
    since: int


class KeyRow(TypedDict):
    """A registered key."""

    key_id: str
    public_key: bytes
    holder: str
    role: str
    name: str
    since: int
    revoked_at: int | None
    suspect_from: int | None


def record_row(index: int, admission: Admission, payload: bytes) -> RecordRow | None:
    """The row for entry `index`, or None for a membership statement."""
    statement = admission.statement
    if not isinstance(statement, RecordStatement):
        return None
    document = strict_json.loads(payload)
    if not isinstance(document, dict):
        raise TypeError("an admitted statement is an object")
    body = statement.body
    shown = headline_of(statement)
    return {
        "entry": index,
        "leaf_hash": bytes.fromhex(admission.head.entry),
        "type": statement.type,
        "id": statement.id,
        "version": statement.version,
        "author": statement.author,
        "created": statement.created,
        "kind": shown.kind or None,
        "title": shown.title or None,
        "techniques": list(shown.techniques),
        "severity": shown.severity or None,
        "marking": body.marking.value,
        "valid_until": body.valid_until,
        "refers_to": is_about(statement) or None,
        "statement": document,
    }


def head_row(head: Head, entry: int) -> HeadRow:
    """The row for a record whose newest version is entry `entry`; a withdrawn one has no newer version."""
    return {
        "id": head.id,
        "type": head.type,
        "version": head.version,
        "entry": entry,
        "leaf_hash": bytes.fromhex(head.entry),
        "author": head.author,
        "withdrawn_at": None,
    }


def forum_rows(membership: Membership) -> list[ForumRow]:
    """The forum's row; none before it is founded."""
    forum = membership.forum
    if forum is None:
        return []
    return [
        {
            "id": forum.id,
            "name": forum.name,
            "fingerprint": bytes.fromhex(forum.fingerprint),
            "origin": forum.log.origin,
            "log_key": forum.log.log_key,
            "timestamp_key": forum.log.timestamp_key,
            "admins": list(forum.admins),
            "threshold": forum.threshold,
        }
    ]


def member_rows(membership: Membership) -> Iterable[MemberRow]:
    """Every lab ever admitted."""
    for member in membership.members.values():
        yield {"id": member.id, "name": member.name, "status": member.status.value, "since": member.since}


def key_rows(membership: Membership) -> Iterable[KeyRow]:
    """Every key ever registered."""
    for key_id, key in membership.keys.items():
        yield {
            "key_id": key_id,
            "public_key": key.public_key.raw,
            "holder": key.holder,
            "role": str(key.role),
            "name": key.name,
            "since": key.since,
            "revoked_at": key.revoked_at,
            "suspect_from": key.suspect_from,
        }
