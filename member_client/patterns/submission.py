"""Publishing patterns, and withdrawing records: what is drafted, and when the log has it already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from member_client.errors import HubUnreachable, InvalidInput, RefusedByHub
from member_client.patterns.authoring import WrittenPattern
from member_client.patterns.finding import listing, resolve
from member_client.patterns.outbox import deliver, deliver_all
from member_client.publishing import HeaderFields, Published, draft, first_version, next_version
from member_client.session import Session
from member_client.sync.store import StoredVersion
from sharing_protocol.statements import PatternBody, RecordStatement, Statement
from sharing_protocol.statements.header import format_timestamp
from sharing_protocol.strict_json import Json

YEAR = timedelta(days=365)
_DATES = frozenset({"valid_from", "valid_until"})
IN_FORCE = frozenset({"active", "not yet valid"})
"""States of a record that still says what it says."""


def submit_patterns(
    session: Session, patterns: Sequence[WrittenPattern]
) -> Iterator[Published | RefusedByHub | HubUnreachable]:
    """Publish files as new patterns; one that says the same as a pattern of ours in force is that pattern.

    Raises:
        InvalidInput: two files say the same.
        ClientError: see `outbox.deliver_all`.
    """
    named: dict[str, str] = {}
    for one in patterns:
        if one.digest in named:
            raise InvalidInput(f"{named[one.digest]} and {one.file} are the same file", "submit it once")
        named[one.digest] = one.file

    def write(pattern: WrittenPattern) -> RecordStatement | Published:
        if (known := _same_in_log(session, pattern.content)) is not None:
            return already(known)
        return _record(first_version(session, "pattern", author_of(session), session.now), "pattern", pattern.body)

    return deliver_all(session, [(("submit", one.digest), partial(write, one)) for one in patterns])


def revise_pattern(session: Session, record_id: str, pattern: WrittenPattern) -> Published:
    """Publish a file as the next version of our own pattern, unless the newest says exactly that.

    Args:
        record_id: or the beginning of it.

    Raises:
        ClientError: see `outbox.deliver`.
    """
    newest = own_newest(session, record_id)

    def write() -> RecordStatement | Published:
        state = listing(newest, session.membership, session.now).state
        if state in IN_FORCE and session.store.pattern(newest).body == pattern.content:
            return already(newest)
        return _record(next_version(session, newest.id, author_of(session), session.now), "pattern", pattern.body)

    return deliver(session, ("revise", newest.id, pattern.digest), write)


def resign_pattern(session: Session, suspect: StoredVersion) -> Published:
    """Publish a suspect pattern of ours once more, as its next version, by a key that is in force.

    Raises:
        ClientError: see `outbox.deliver`.
    """

    def write() -> RecordStatement:
        body = session.store.pattern(suspect).body.model_dump(mode="json")
        return _record(next_version(session, suspect.id, author_of(session), session.now), "pattern", body)

    return deliver(session, ("resign", suspect.entry), write)


def own_suspects(session: Session, ids: Sequence[str]) -> list[StoredVersion]:
    """Our patterns that are suspect and not expired besides, or the ones that are meant.

    Args:
        ids: record ids, or beginnings of them.

    Raises:
        InvalidInput: one is not there, is another lab's, or is not suspect.
    """
    if not ids:
        found = session.store.versions(type="pattern", newest_only=True)
        ours = [one for one in found if one.author == author_of(session) and _state(session, one) == "suspect"]
        return [one for one in ours if one.valid_until > format_timestamp(session.now)]
    wanted = [own_newest(session, text) for text in dict.fromkeys(ids)]
    for version in wanted:
        if (state := _state(session, version)) != "suspect":
            raise InvalidInput(f"{version.id} is not suspect but {state}", "revise it instead, if it should change")
    return wanted


def _state(session: Session, version: StoredVersion) -> str:
    return listing(version, session.membership, session.now).state


def withdraw_record(
    session: Session, record_id: str, reason: str, handling: dict[str, str], kind: str = "pattern"
) -> Published:
    """Withdraw our own pattern, or our own record of another type.

    Args:
        record_id: or the beginning of it.
        reason: why, for every lab to read.
        handling: marking, purpose, legal_basis, valid_until; what is missing comes from the record (`handling_of`).

    Raises:
        ClientError: see `outbox.deliver`.
    """
    newest = own_newest(session, record_id, kind)

    def write() -> RecordStatement:
        if newest.withdrawn_at is not None:
            raise InvalidInput(f"{newest.id} was withdrawn before, at index {newest.withdrawn_at}")
        body = withdrawal_body(session, newest, reason, handling)
        return _record(first_version(session, "withdrawal", author_of(session), session.now), "withdrawal", body)

    return deliver(session, ("withdraw", newest.entry, reason, *sorted(handling.values())), write)


def withdrawal_body(session: Session, newest: StoredVersion, reason: str, handling: dict[str, str]) -> dict[str, Any]:
    """What `withdraw_record` publishes of a record's newest version."""
    reference = {"id": newest.id, "version": newest.version, "entry": newest.entry}
    return handling_of(session, newest) | handling | {"record": reference, "reason": reason}


def own_newest(session: Session, record_id: str, kind: str = "pattern") -> StoredVersion:
    """The newest version of our own pattern, or of our own record of another type.

    Raises:
        InvalidInput: there is none, or it is another lab's.
    """
    newest = resolve(session.store, record_id, kind)[-1]
    if newest.author != author_of(session):
        name = listing(newest, session.membership, session.now).author_name
        raise InvalidInput(f"{newest.id} is {name}'s", "only the lab that wrote a record can change it")
    return newest


def handling_of(session: Session, about: StoredVersion) -> dict[str, Any]:
    """Marking, purpose and legal basis of a record, and a year of validity, for a record about it."""
    body = session.store.record(about).body
    return {
        "marking": body.marking.value,
        "purpose": body.purpose,
        "legal_basis": body.legal_basis,
        "valid_until": format_timestamp(session.now + YEAR),
    }


def author_of(session: Session) -> str:
    """The id of this home's lab.

    Raises:
        InvalidInput: it is an admin's home.
    """
    member = session.settings.member
    if not member:
        raise InvalidInput("this is an admin's home, and only labs publish records", "pass a lab's --home")
    return member


def _record(header: HeaderFields, kind: str, body: dict[str, Json]) -> RecordStatement:
    return as_record(draft(header, kind, body))


def as_record(statement: Statement) -> RecordStatement:
    """The statement, known to be a record.

    Raises:
        InvalidInput: it is about membership.
    """
    if not isinstance(statement, RecordStatement):
        raise InvalidInput(f"{statement.type} is not a record")
    return statement


def _same_in_log(session: Session, content: PatternBody) -> StoredVersion | None:
    """A pattern of ours in force that says the same, whatever its dates."""
    for version in session.store.versions(type="pattern", newest_only=True):
        if version.author == session.settings.member and version.title == content.title:
            state = listing(version, session.membership, session.now).state
            if state in IN_FORCE and _undated(session.store.pattern(version).body) == _undated(content):
                return version
    return None


def _undated(body: PatternBody) -> dict[str, Any]:
    return body.model_dump(exclude=set(_DATES))


def already(version: StoredVersion) -> Published:
    """A version that the log has, as what was published."""
    return Published(version.id, version.version, version.index, version.entry, already_logged=True)
