"""Submitting a record so that a lost answer never makes two of it.

A submission's answer can get lost after the hub has logged it. So the signed envelope is kept in the home from before
it is sent until its receipt is verified, under the digest of what the user asked for: asking for the same again sends
the same bytes, to which the hub answers with the same place in the log.

outbox/<digest>.json     one envelope in the log's strict form, 0600
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from member_client.errors import HubUnreachable, InvalidInput, RefusedByHub
from member_client.home import write_privately
from member_client.publishing import Published, check_draft, submit_all
from member_client.session import Session
from sharing_protocol import envelope as envelopes
from sharing_protocol import statements
from sharing_protocol.envelope import Envelope
from sharing_protocol.errors import ProtocolError
from sharing_protocol.merkle import leaf_hash
from sharing_protocol.statements import RecordStatement

ROLE = "analyst"
"""Records are signed with an analyst's key."""


Wish = tuple[tuple[str, ...], Callable[[], RecordStatement | Published]]
"""What the user asked for, in words that are equal exactly when it is the same wish; and what drafts the statement, or
says where the log has what is wished for already: asked only if no draft of this wish is left from before."""


@dataclass(frozen=True, slots=True)
class _Draft:
    path: Path
    signed: Envelope
    statement: RecordStatement


def deliver(session: Session, intent: tuple[str, ...], write: Callable[[], RecordStatement | Published]) -> Published:
    """Publish what the user asked for, once.

    Args:
        intent, write: as a `Wish` has them.

    Raises:
        InvalidInput: the content would be refused.
        RefusedByHub: nothing was logged; the draft is gone, so the next try writes a new one.
        HubUnreachable, VerificationFailed: the draft is kept, and the next try sends it again.
    """
    (outcome,) = deliver_all(session, [(intent, write)])
    if not isinstance(outcome, Published):
        raise outcome
    return outcome


def deliver_all(session: Session, wishes: Sequence[Wish]) -> Iterator[Published | RefusedByHub | HubUnreachable]:
    """Publish all that the user asked for, each once, in order and in few requests; what came of each.

    Raises:
        InvalidInput: the content of one would be refused; nothing was sent.
        VerificationFailed: see `deliver`; what came after it is sent again by the next try.
    """
    prepared = [_prepare(session, *wish) for wish in wishes]
    drafts = [one for one in prepared if isinstance(one, _Draft)]
    for draft in drafts:
        draft.path.parent.mkdir(mode=0o700, exist_ok=True)
        # If we stop after this line, nothing may be in the log or everything; sending the same again settles it.
        write_privately(draft.path, draft.signed.encode())
    sent = (
        submit_all(session, session.signer(ROLE), [(draft.signed, draft.statement) for draft in drafts])
        if drafts
        else iter(())
    )
    for one in prepared:
        if isinstance(one, Published):
            yield one
            continue
        outcome = next(sent)
        if not isinstance(outcome, HubUnreachable):
            one.path.unlink(missing_ok=True)
        yield outcome


def _prepare(
    session: Session, intent: tuple[str, ...], write: Callable[[], RecordStatement | Published]
) -> _Draft | Published:
    """The draft of a wish, from before or new, or where the log has it."""
    path = _path(session, intent)
    draft = _left_over(path)
    if draft is None:
        statement = write()
        if isinstance(statement, Published):
            return statement
        check_draft(statement, session.now)
        return _Draft(path, envelopes.sign(statements.encode(statement), [session.signer(ROLE)]), statement)
    if (known := _in_store(session, *draft)) is not None:
        path.unlink(missing_ok=True)
        return known
    return _Draft(path, *draft)


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
