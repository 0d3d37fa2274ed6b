"""Deciding on entries in their order: admitted, rejected, or not understood.

An entry whose statement does not hold is kept, marked rejected, and skipped: it can never wedge this client. A
statement of a later schema, or of a type that this version does not know, is kept and has no effect. What rests on it
cannot be judged either, so a refusal for want of it accuses nobody. Once this program knows more statements than it
did, all entries are judged anew from the stored bytes, and the store is as if it had always known them.
"""

from __future__ import annotations

from collections.abc import Sequence

from member_client.sync.batches import Stretch
from member_client.sync.evidence import entry_document
from member_client.sync.examiner import PlainRecord
from member_client.sync.examining import Examination, Examined, Opened, examination, opened
from member_client.sync.judged import Judged, listing_of
from member_client.sync.store import Store
from sharing_protocol import statements
from sharing_protocol.admission import Admission, admit, admit_claim
from sharing_protocol.envelope import Envelope, Signature
from sharing_protocol.errors import Fault, Malformed, Misbehaviour, ProtocolError
from sharing_protocol.log_keys import LogHistory
from sharing_protocol.membership import Forum, Membership, SignatureCheck
from sharing_protocol.merkle import leaf_hash
from sharing_protocol.statements import RecordStatement, Statement, Unknown, references_in
from sharing_protocol.trust import TrustedCheckpoint, check_keys

REJECTED, NOT_UNDERSTOOD = "rejected", "not understood"

_JUDGED_AT_A_TIME = 2048
_LONGEST_ID = 80
_RESTS_ON_STATE = frozenset(
    {
        *("unknown_key", "revoked_key", "member_suspended", "member_expelled", "wrong_role", "not_the_author"),
        *("unexpected_signature", "insufficient_signatures", "unknown_member", "bad_transition", "name_taken"),
        *("key_reused", "no_owner_key", "too_many_keys", "version_conflict", "version_gap", "previous_mismatch"),
        *("withdrawn", "unknown_record"),
    }
)
"""Refusals that could turn out otherwise if some statement before had been understood."""


def judge_batch(
    store: Store, batch: Sequence[Examined], fingerprint: str, trusted: TrustedCheckpoint, logs: LogHistory
) -> None:
    """Decide on each entry in order, and commit all of it with the cursor behind it.

    If this process dies before the commit, the store is as it was and the next run fetches the batch again; if it dies
    after, the next run goes on behind it. Nothing else is written on the way.

    Args:
        batch: stretches of the log, one behind the other.
        logs: the keys by which `trusted` was opened.

    Raises:
        Misbehaviour: `FORGE`, if entry 0 of the signed tree does not found the pinned forum, or an entry takes away
            the key that signed the tree.
    """
    first, last = batch[0].stretch, batch[-1].stretch
    with store.transaction():
        membership = _judge(store, batch, store.membership())
        forum = _check_founded(membership, fingerprint, first, trusted)
        _check_keys(forum.logs, logs, batch, trusted)
        store.set_membership(membership)
        store.advance(fingerprint, trusted, last.start + len(last.entries))


def judge_anew(store: Store, judging: Examination) -> None:
    """Judge every stored entry again, in one transaction; what is rejected only now counts as unreported."""
    with store.transaction():
        _judge_stored(store, judging)


def put_back(store: Store, cursor: int, trusted: TrustedCheckpoint | None) -> None:
    """Undo the batches of a run whose checkpoint turned out to be nobody's: the store is as it was before.

    Args:
        cursor, trusted: how far the entries were stored, and which checkpoint was believed.
    """
    with examination(cursor) as judging, store.transaction():
        store.cut(cursor, trusted)
        _judge_stored(store, judging)


def _judge_stored(store: Store, judging: Examination) -> None:
    cursor, reported = store.cursor, store.reported
    store.forget_verdicts()
    membership = Membership()
    for start in range(0, cursor, _JUDGED_AT_A_TIME):
        entries = store.entries(start, start + _JUDGED_AT_A_TIME)
        before = _rejected(store, start)
        stretch = Stretch(start, entries, [leaf_hash(entry) for entry in entries])
        membership = _judge(store, [judging.examine(stretch, membership.keys)], membership)
        reported = min(reported, *(_rejected(store, start) - before), cursor)
    store.set_membership(membership)
    store.set_reported(reported)


def _rejected(store: Store, start: int) -> set[int]:
    found = store.refused(start, REJECTED, limit=_JUDGED_AT_A_TIME)
    return {entry.index for entry in found if entry.index < start + _JUDGED_AT_A_TIME}


def _judge(store: Store, batch: Sequence[Examined], membership: Membership) -> Membership:
    plain = [found for examined in batch for found in examined.findings if isinstance(found, PlainRecord)]
    judged = Judged(store, [found.claim.id for found in plain])
    for examined in batch:
        stretch = examined.stretch
        entries = zip(stretch.entries, stretch.leaves, examined.findings, strict=True)
        for index, (data, leaf, found) in enumerate(entries, stretch.start):
            if not isinstance(found, PlainRecord):
                membership = _judge_entry(judged, index, data, leaf, found, membership)
            elif not _take_plain(judged, index, data, leaf, found, membership):
                # Why not, and whether that rests on something not understood, takes all of it to say.
                membership = _judge_entry(judged, index, data, leaf, opened(data), membership)
    store.put(judged)
    return membership


def _take_plain(
    judged: Judged, index: int, data: bytes, leaf: bytes, found: PlainRecord, membership: Membership
) -> bool:
    entry = leaf.hex()
    try:
        head = admit_claim(found.claim, entry, membership, judged)
    except ProtocolError:
        return False
    judged.put_entry(index, leaf, data, head.type, "admitted", "", "")
    judged.add_version(index, entry, found.listing)
    judged.put_head(head)
    return True


def _check_founded(membership: Membership, fingerprint: str, first: Stretch, trusted: TrustedCheckpoint) -> Forum:
    """Entry 0 of the *signed tree* must found the pinned forum: what was shown at first contact proves nothing."""
    if membership.forum is None or membership.forum.fingerprint != fingerprint:
        raise Misbehaviour(
            Fault.FORGE,
            "wrong_forum",
            "entry 0 of the signed log does not found the pinned forum",
            {**entry_document(first.entries[0]), "checkpoint": trusted.note},
        )
    return membership.forum


def _check_keys(found: LogHistory, logs: LogHistory, batch: Sequence[Examined], trusted: TrustedCheckpoint) -> None:
    try:
        check_keys(trusted, logs, found)
    except Misbehaviour as misbehaviour:
        since = found.terms[-1].since
        [stretch] = [one.stretch for one in batch if 0 <= since - one.stretch.start < len(one.stretch.entries)]
        misbehaviour.evidence.update(entry_document(stretch.entries[since - stretch.start]))
        raise


def _judge_entry(
    judged: Judged, index: int, data: bytes, leaf: bytes, found: Opened, membership: Membership
) -> Membership:
    entry, signed = leaf.hex(), found.signed
    try:
        if isinstance(signed, Malformed):
            raise signed
        admission = admit(signed, index, entry, membership, judged, found.check, found.read)
    except ProtocolError as error:
        _refuse(judged, index, data, leaf, signed, membership, error)
        return membership
    if not isinstance(admission, Admission):
        reason = f"schema {admission.schema}, type {admission.type[:80]!r}: upgrade to understand it"
        judged.put_entry(index, leaf, data, admission.type[:80], NOT_UNDERSTOOD, "unknown_statement_type", reason)
        _note_unread(judged, index, admission, signed, membership, found.check)
        return membership
    statement = admission.statement
    judged.put_entry(index, leaf, data, statement.type, "admitted", "", "")
    if isinstance(statement, RecordStatement):
        judged.add_version(index, entry, listing_of(statement, signed.signatures[0].key_id))
    judged.put_head(admission.head)
    if admission.withdrawn is not None:
        judged.mark_withdrawn(admission.withdrawn.id, index)
    return admission.membership


def _refuse(
    judged: Judged,
    index: int,
    data: bytes,
    leaf: bytes,
    signed: Envelope | Malformed,
    membership: Membership,
    error: ProtocolError,
) -> None:
    statement = _claimed(signed)
    kind = statement.type if statement is not None else ""
    unread = None
    if statement is not None and error.code in _RESTS_ON_STATE:
        unread = judged.unread(_rests_on(statement, membership))
    if unread is None:
        judged.put_entry(index, leaf, data, kind, REJECTED, error.code, error.detail)
        return
    reason = f"it rests on entry {unread}, which this version does not understand: upgrade ({error.detail})"
    judged.put_entry(index, leaf, data, kind, NOT_UNDERSTOOD, error.code, reason)


def _claimed(signed: Envelope | Malformed) -> Statement | None:
    if isinstance(signed, Malformed):
        return None
    try:
        statement = statements.parse(signed.payload)
    except ProtocolError:
        return None
    return None if isinstance(statement, Unknown) else statement


def _rests_on(statement: Statement, membership: Membership) -> list[str]:
    """The records whose statements decide whether this one may be there."""
    records = [statement.id, statement.author]
    if membership.forum is not None:
        records.append(membership.forum.id)
    if isinstance(statement, RecordStatement):
        records += [named.reference.id for named in references_in(statement)]
    return records


def _note_unread(
    judged: Judged, index: int, unknown: Unknown, signed: Envelope, membership: Membership, check: SignatureCheck
) -> None:
    """Remember the record that a statement is about, if somebody who may speak of it has signed it.

    Without that, a hub could make up such a statement first, and let entries pass as merely not understood after it.
    """
    record, author = unknown.document.get("id"), unknown.document.get("author")
    forum = membership.forum
    if not isinstance(record, str) or len(record) > _LONGEST_ID or not isinstance(author, str) or forum is None:
        return
    head = judged.head(record)
    may_speak = head is None or author in (head.author, record, forum.id)
    if may_speak and any(_vouches(signature, author, signed, membership, check) for signature in signed.signatures):
        judged.put_unread(record, index)


def _vouches(
    signature: Signature, author: str, signed: Envelope, membership: Membership, check: SignatureCheck
) -> bool:
    try:
        key = membership.current_key(signature.key_id)
    except ProtocolError:
        return False
    return key.holder == author and check(key.public_key, signed, signature)
