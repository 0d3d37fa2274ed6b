"""Referral criteria in the log: publishing them, and what there is."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from member_client.errors import InvalidInput
from member_client.patterns.finding import Listed, listing, resolve
from member_client.patterns.outbox import deliver
from member_client.patterns.presenting import choose, statement_at
from member_client.patterns.submission import as_record, author_of
from member_client.publishing import Published, draft, first_version, next_version
from member_client.referral.criteria_file import WrittenCriteria
from member_client.session import Session
from member_client.sync.store import StoredVersion
from sharing_protocol.statements import RecordStatement, ReferralCriteria

KIND = "referral_criteria"


def submit(session: Session, written: WrittenCriteria, revises: str = "") -> Published:
    """Publish a file as new criteria, or as the next version of our own.

    Args:
        revises: id of ours, or its beginning; "" for new ones.

    Raises:
        ClientError: see `outbox.deliver`.
    """
    author = author_of(session)
    newest = find(session, revises) if revises else None
    if newest is not None and newest.author != author:
        raise InvalidInput(f"{newest.id} is another lab's", "only the lab that wrote a record can change it")

    def write() -> RecordStatement:
        if newest is None:
            header = first_version(session, "referral-criteria", author, session.now)
        else:
            header = next_version(session, newest.id, author, session.now)
        return as_record(draft(header, KIND, written.body))

    before = newest.entry if newest is not None else ""
    return deliver(session, (KIND, written.digest, before), write)


def find(session: Session, record_id: str, version: int | None = None) -> StoredVersion:
    """A version of the criteria that an id, or its beginning, means; by default the newest.

    Raises:
        InvalidInput: there is none.
    """
    return choose(resolve(session.store, record_id, KIND), version)


def list_all(session: Session) -> list[Listed]:
    """The newest version of all criteria, in log order."""
    versions = session.store.versions(type=KIND, newest_only=True)
    return [listing(version, session.membership, session.now) for version in versions]


def document(session: Session, version: StoredVersion) -> dict[str, Any]:
    """Criteria for scripts, whole."""
    item = listing(version, session.membership, session.now)
    statement = statement_at(session.store, version.index)
    if not isinstance(statement, ReferralCriteria):
        raise InvalidInput(f"{version.id} version {version.version} is not in the store as it was", "sync anew")
    return summary(item) | {"body": statement.body.model_dump(mode="json")}


def summary(item: Listed) -> dict[str, Any]:
    """Criteria for lists."""
    kept = ("id", "version", "title", "marking", "author", "index", "entry", "created", "valid_until")
    fields = asdict(item.version)
    return {name: fields[name] for name in kept} | {"author_name": item.author_name, "state": item.state}
