"""What a package's entries prove: the same reading for the lab that builds it and for whoever checks it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sharing_protocol.errors import Misbehaviour, ProtocolError, Unproven
from sharing_protocol.log_excerpt import Admitted, Excerpt, LoggedEntry
from sharing_protocol.membership import Membership, RegisteredKey
from sharing_protocol.record_proof import log_history
from sharing_protocol.referral import Case, case_of
from sharing_protocol.statements import RecordReference, Role
from sharing_protocol.trust import MAX_SKEW_SECONDS, TrustedCheckpoint, open_checkpoint
from sharing_protocol.witnesses import all_witnesses, known_witnesses, open_cosigned


@dataclass(frozen=True, slots=True)
class Claim:
    """What is to be read from the entries.

    Attributes:
        now: the moment as of which it is read.
    """

    fingerprint: str
    incident: str
    criteria: RecordReference
    now: datetime


@dataclass(frozen=True, slots=True)
class Proven:
    """What the entries say, each proven to be in one signed tree and admitted by the log's rules at its place.

    Attributes:
        cosigned: by lab, POSIX seconds of its newest cosignature, by a witness key in force.
        membership: after the last of the entries.
    """

    case: Case
    checkpoint: TrustedCheckpoint
    cosigned: dict[str, int]
    membership: Membership
    admitted: tuple[Admitted, ...]


def prove(entries: Sequence[LoggedEntry], note: str, claim: Claim) -> Proven:
    """Check entries against a checkpoint and each other, and read the case from them.

    Args:
        entries: by rising index, the founding statement first, with the histories of whoever signed one of them.
        note: the checkpoint with its cosignatures.

    Raises:
        Unproven: what does not hold, naming the entry by its index.
    """
    if not entries:
        raise Unproven("incomplete_case", "there is no statement in it")
    logs = log_history(entries, claim.fingerprint)
    try:
        trusted = open_checkpoint(note.encode(), logs)
    except Misbehaviour as error:
        raise Unproven(error.code, f"the checkpoint does not hold: {error.detail}") from error
    if claim.now.timestamp() < trusted.timestamp - MAX_SKEW_SECONDS:
        # What has expired, and what was disputed, would be as of a moment of the lab's choice.
        raise Unproven("wrong_time", "it says that it was built before the log signed the checkpoint in it")
    excerpt = Excerpt()
    for entry in entries:
        entry.check_in(trusted.checkpoint)
        _admit(excerpt, entry)
    membership = excerpt.membership
    try:
        times = open_cosigned(note.encode(), logs, known_witnesses(membership)).times
    except Misbehaviour as error:
        raise Unproven(error.code, f"a cosignature does not hold: {error.detail}") from error
    in_force = all_witnesses(membership)
    cosigned: dict[str, int] = {}
    for key, time in times.items():
        if key in in_force:
            cosigned[key.name] = max(time, cosigned.get(key.name, time))
    admitted = tuple(excerpt.admitted)
    case = case_of(admitted, membership, claim.incident, claim.criteria, claim.now)
    return Proven(case, trusted, cosigned, membership, admitted)


def analyst_key(membership: Membership, key_id: str, lab: str) -> RegisteredKey:
    """The key by which a lab signs a manifest.

    Raises:
        Unproven: `wrong_signer`: it is not an analyst's key of this lab, or it is not in force.
    """
    key = membership.keys.get(key_id)
    if key is None or key.holder != lab or key.role != Role.ANALYST:
        raise Unproven(
            "wrong_signer", f"the key {key_id[:16]}… is no analyst's key of {lab}, as far as the package tells"
        )
    if key.revoked_at is not None:
        raise Unproven("wrong_signer", f"the key {key_id[:16]}… of {lab} was revoked at entry {key.revoked_at}")
    return key


def _admit(excerpt: Excerpt, entry: LoggedEntry) -> None:
    try:
        excerpt.admit(entry.index, entry.entry)
    except Unproven:
        raise
    except ProtocolError as error:
        raise Unproven(error.code, f"entry {entry.index} has no right to be in the log: {error.detail}") from error
