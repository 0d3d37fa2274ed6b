"""Deciding on entries in their order: admitted, rejected, or not understood.

An entry whose statement does not hold is kept, marked rejected, and skipped: it can never wedge this client. A
statement of a later schema, or of a type that this version does not know, is kept and has no effect. What rests on it
cannot be judged either, so a refusal for want of it accuses nobody. Once this program knows more statements than it
did, all entries are judged anew from the stored bytes, and the store is as if it had always known them.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from member_client.sync.batches import Batch
from member_client.sync.evidence import entry_document
from member_client.sync.store import Store
from sharing_protocol import envelope as envelopes
from sharing_protocol import statements
from sharing_protocol.admission import Admission, admit
from sharing_protocol.envelope import Envelope, Signature
from sharing_protocol.errors import Fault, Malformed, Misbehaviour, ProtocolError
from sharing_protocol.keys import PublicKey
from sharing_protocol.log_keys import LogHistory
from sharing_protocol.membership import Membership, SignatureCheck
from sharing_protocol.merkle import leaf_hash
from sharing_protocol.statements import MembershipStatement, Sighting, Statement, Unknown, Withdrawal
from sharing_protocol.trust import TrustedCheckpoint, check_keys

REJECTED, NOT_UNDERSTOOD = "rejected", "not understood"

_SIGNATURES_A_TASK = 64
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
    store: Store,
    batch: Batch,
    fingerprint: str,
    trusted: TrustedCheckpoint,
    verifiers: ThreadPoolExecutor,
    logs: LogHistory,
) -> None:
    """Decide on each entry in order, and commit all of it with the cursor behind it.

    If this process dies before the commit, the store is as it was and the next run fetches the batch again; if it dies
    after, the next run goes on behind it. Nothing else is written on the way.

    Args:
        logs: the keys by which `trusted` was opened.

    Raises:
        Misbehaviour: `FORGE`, if entry 0 of the signed tree does not found the pinned forum, or an entry takes away
            the key that signed the tree.
    """
    with store.transaction():
        membership = _judge(store, batch, store.membership(), verifiers)
        if batch.start == 0:
            _check_founded(membership, fingerprint, batch.entries[0], trusted)
        _check_keys(membership, logs, batch, trusted)
        store.set_membership(membership)
        store.advance(fingerprint, trusted, batch.start + len(batch.entries))


def judge_anew(store: Store, verifiers: ThreadPoolExecutor) -> None:
    """Judge every stored entry again, in one transaction; what is rejected only now counts as unreported."""
    with store.transaction():
        _judge_stored(store, verifiers)


def put_back(store: Store, cursor: int, trusted: TrustedCheckpoint | None) -> None:
    """Undo the batches of a run whose checkpoint turned out to be nobody's: the store is as it was before.

    Args:
        cursor, trusted: how far the entries were stored, and which checkpoint was believed.
    """
    with ThreadPoolExecutor() as verifiers, store.transaction():
        store.cut(cursor, trusted)
        _judge_stored(store, verifiers)


def _judge_stored(store: Store, verifiers: ThreadPoolExecutor) -> None:
    cursor, reported = store.cursor, store.reported
    store.forget_verdicts()
    membership = Membership()
    for start in range(0, cursor, _JUDGED_AT_A_TIME):
        entries = store.entries(start, start + _JUDGED_AT_A_TIME)
        before = _rejected(store, start)
        batch = Batch(start, entries, [leaf_hash(entry) for entry in entries])
        membership = _judge(store, batch, membership, verifiers)
        reported = min(reported, *(_rejected(store, start) - before), cursor)
    store.set_membership(membership)
    store.set_reported(reported)


def _rejected(store: Store, start: int) -> set[int]:
    found = store.refused(start, REJECTED, limit=_JUDGED_AT_A_TIME)
    return {entry.index for entry in found if entry.index < start + _JUDGED_AT_A_TIME}


def _judge(store: Store, batch: Batch, membership: Membership, verifiers: ThreadPoolExecutor) -> Membership:
    parsed = [_parse(entry) for entry in batch.entries]
    check = _checked_ahead(parsed, membership, verifiers)
    for index, (data, leaf, signed) in enumerate(zip(batch.entries, batch.leaves, parsed, strict=True), batch.start):
        membership = _judge_entry(store, index, data, leaf, signed, membership, check)
    return membership


def _check_founded(membership: Membership, fingerprint: str, entry: bytes, trusted: TrustedCheckpoint) -> None:
    """Entry 0 of the *signed tree* must found the pinned forum: what was shown at first contact proves nothing."""
    if membership.forum is None or membership.forum.fingerprint != fingerprint:
        raise Misbehaviour(
            Fault.FORGE,
            "wrong_forum",
            "entry 0 of the signed log does not found the pinned forum",
            {**entry_document(entry), "checkpoint": trusted.note},
        )


def _check_keys(membership: Membership, logs: LogHistory, batch: Batch, trusted: TrustedCheckpoint) -> None:
    if membership.forum is None:
        return
    found = membership.forum.logs
    try:
        check_keys(trusted, logs, found)
    except Misbehaviour as misbehaviour:
        misbehaviour.evidence.update(entry_document(batch.entries[found.terms[-1].since - batch.start]))
        raise


def _parse(entry: bytes) -> Envelope | Malformed:
    try:
        return envelopes.parse(entry)
    except Malformed as error:
        return error


def _checked_ahead(
    parsed: list[Envelope | Malformed], membership: Membership, verifiers: ThreadPoolExecutor
) -> SignatureCheck:
    """Verify in threads (libsodium releases the interpreter) what keys already known have signed.

    A key's id is its hash, so a signature that holds, holds wherever the key is registered; who may sign what is
    decided later, in order.
    """
    work = [
        (membership.keys[signature.key_id].public_key, signed, signature)
        for signed in parsed
        if isinstance(signed, Envelope)
        for signature in signed.signatures
        if signature.key_id in membership.keys
    ]
    chunks = [work[start : start + _SIGNATURES_A_TASK] for start in range(0, len(work), _SIGNATURES_A_TASK)]
    held: set[tuple[bytes, str, bytes]] = set()
    for chunk, results in zip(chunks, verifiers.map(_verify_chunk, chunks), strict=True):
        held.update(
            (key.raw, signed.payload_sha256, signature.value)
            for (key, signed, signature), holds in zip(chunk, results, strict=True)
            if holds
        )

    def check(key: PublicKey, signed: Envelope, signature: Signature) -> bool:
        known = (key.raw, signed.payload_sha256, signature.value) in held
        return known or key.verifies(signed.signed_message, signature.value)

    return check


def _verify_chunk(chunk: list[tuple[PublicKey, Envelope, Signature]]) -> list[bool]:
    return [key.verifies(signed.signed_message, signature.value) for key, signed, signature in chunk]


def _judge_entry(
    store: Store,
    index: int,
    data: bytes,
    leaf: bytes,
    signed: Envelope | Malformed,
    membership: Membership,
    check: SignatureCheck,
) -> Membership:
    entry = leaf.hex()
    try:
        if isinstance(signed, Malformed):
            raise signed
        admission = admit(signed, index, entry, membership, store, check)
    except ProtocolError as error:
        _refuse(store, index, data, leaf, signed, membership, error)
        return membership
    if not isinstance(admission, Admission):
        reason = f"schema {admission.schema}, type {admission.type[:80]!r}: upgrade to understand it"
        store.put_entry(index, leaf, data, admission.type[:80], NOT_UNDERSTOOD, "unknown_statement_type", reason)
        _note_unread(store, index, admission, signed, membership, check)
        return membership
    statement = admission.statement
    store.put_entry(index, leaf, data, statement.type, "admitted", "", "")
    if not isinstance(statement, MembershipStatement):
        store.add_version(index, statement, entry, signed.signatures[0].key_id)
    store.put_head(admission.head)
    if admission.withdrawn is not None:
        store.mark_withdrawn(admission.withdrawn.id, index)
    return admission.membership


def _refuse(
    store: Store,
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
        unread = store.unread(_rests_on(statement, membership))
    if unread is None:
        store.put_entry(index, leaf, data, kind, REJECTED, error.code, error.detail)
        return
    reason = f"it rests on entry {unread}, which this version does not understand: upgrade ({error.detail})"
    store.put_entry(index, leaf, data, kind, NOT_UNDERSTOOD, error.code, reason)


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
    if isinstance(statement, Withdrawal):
        records.append(statement.body.record.id)
    if isinstance(statement, Sighting):
        records.append(statement.body.pattern.id)
    return records


def _note_unread(
    store: Store, index: int, unknown: Unknown, signed: Envelope, membership: Membership, check: SignatureCheck
) -> None:
    """Remember the record that a statement is about, if somebody who may speak of it has signed it.

    Without that, a hub could make up such a statement first, and let entries pass as merely not understood after it.
    """
    record, author = unknown.document.get("id"), unknown.document.get("author")
    forum = membership.forum
    if not isinstance(record, str) or len(record) > _LONGEST_ID or not isinstance(author, str) or forum is None:
        return
    head = store.head(record)
    may_speak = head is None or author in (head.author, record, forum.id)
    if may_speak and any(_vouches(signature, author, signed, membership, check) for signature in signed.signatures):
        store.put_unread(record, index)


def _vouches(
    signature: Signature, author: str, signed: Envelope, membership: Membership, check: SignatureCheck
) -> bool:
    try:
        key = membership.current_key(signature.key_id)
    except ProtocolError:
        return False
    return key.holder == author and check(key.public_key, signed, signature)
