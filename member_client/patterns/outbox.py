"""Submitting a record so that a lost answer never makes two of it.

A submission's answer can get lost after the hub has logged it. So the signed envelope is kept in the home from before
it is sent until its receipt is verified, under the digest of what the user asked for: asking for the same again sends
the same bytes, to which the hub answers with the same place in the log.

outbox/<digest>.json     one envelope in the log's strict form, 0600
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from member_client.errors import InvalidInput, RefusedByHub
from member_client.home import write_privately
from member_client.publishing import Published, check_draft, submit
from member_client.session import Session
from sharing_protocol import envelope as envelopes
from sharing_protocol import statements
from sharing_protocol.envelope import Envelope
from sharing_protocol.errors import ProtocolError
from sharing_protocol.merkle import leaf_hash
from sharing_protocol.statements import RecordStatement

ROLE = "analyst"
"""Records are signed with an analyst's key."""


def deliver(session: Session, intent: tuple[str, ...], write: Callable[[], RecordStatement | Published]) -> Published:
    """Publish what the user asked for, once.

    Args:
        intent: what was asked for, in words that are equal exactly when it is the same wish.
        write: drafts the statement, or says where the log has what is wished for already; asked only if no draft of
            this wish is left from before.

    Raises:
        InvalidInput: the content would be refused.
        RefusedByHub: nothing was logged; the draft is gone, so the next try writes a new one.
        HubUnreachable, VerificationFailed: the draft is kept, and the next try sends it again.
    """
    path = _path(session, intent)
    draft = _left_over(path)
    if draft is None:
        statement = write()
        if isinstance(statement, Published):
            return statement
        check_draft(statement, session.now)
        signed = envelopes.sign(statements.encode(statement), [session.signer(ROLE)])
        path.parent.mkdir(mode=0o700, exist_ok=True)
        # If we stop after this line, nothing may be in the log or everything; sending the same again settles it.
        write_privately(path, signed.encode())
    else:
        signed, statement = draft
    if (known := _in_store(session, signed, statement)) is not None:
        path.unlink(missing_ok=True)
        return known
    try:
        published = submit(session, session.signer(ROLE), signed, statement)
    except RefusedByHub:
        path.unlink(missing_ok=True)
        raise
    path.unlink(missing_ok=True)
    return published


def pending(session: Session) -> list[Path]:
    """Drafts that were signed and perhaps sent, but that no receipt is known of."""
    return sorted(_folder(session).glob("*.json"))


def _folder(session: Session) -> Path:
    return session.home.path / "outbox"


def _path(session: Session, intent: tuple[str, ...]) -> Path:
    wish = "\0".join((session.forum.fingerprint, session.settings.member, *intent))
    return _folder(session) / f"{hashlib.sha256(wish.encode()).hexdigest()}.json"


def _left_over(path: Path) -> tuple[Envelope, RecordStatement] | None:
    """The draft that an earlier try left, if it is whole."""
    try:
        signed = envelopes.parse(path.read_bytes())
        statement = statements.parse(signed.payload)
    except FileNotFoundError:
        return None
    except (OSError, ProtocolError) as error:
        raise InvalidInput(
            f"{path} is damaged: {error}", "`stillwatch sync`, see whether the record is in the log, delete the file"
        ) from error
    if not isinstance(statement, RecordStatement):
        raise InvalidInput(f"{path} is not a draft of a record", "move it away")
    return signed, statement


def _in_store(session: Session, signed: Envelope, statement: RecordStatement) -> Published | None:
    """Where the log has this very envelope, as far as this home has followed it."""
    entry = leaf_hash(signed.encode()).hex()
    for version in session.store.versions(id=statement.id):
        if version.version == statement.version and version.entry == entry:
            return Published(statement.id, statement.version, version.index, entry, already_logged=True)
    return None
