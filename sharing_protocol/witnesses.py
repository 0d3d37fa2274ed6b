"""Witnesses: members whose cosignature says that a checkpoint extends everything they saw of the log before.

A cosignature v1 does not name its maker. So a lab registers keys of the role `witness` for this and nothing else, and
the name in the signature line is the lab's id: whoever has read the log knows every witness's verifier key.

A cosignature of a larger tree speaks for every smaller one that it extends: who has seen 120 entries as they are has
seen the first 100. Sources: C2SP tlog-cosignature, tlog-witness.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from sharing_protocol import checkpoints, notes
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.errors import Fault, Malformed, Misbehaviour
from sharing_protocol.keys import PublicKey
from sharing_protocol.log_keys import LogHistory
from sharing_protocol.membership import Membership, RegisteredKey, Status
from sharing_protocol.notes import Note, SignatureType, VerifierKey
from sharing_protocol.statements.membership import LogIdentity, Role


@dataclass(frozen=True, slots=True)
class CosignedCheckpoint:
    """A checkpoint that the log signed, with the cosignatures of known witnesses that hold.

    Attributes:
        note: the note with all its lines.
        times: when each witness cosigned (POSIX seconds), the newest time of each.
    """

    checkpoint: Checkpoint
    note: Note
    times: dict[VerifierKey, int]


def witness_key(member: str, key: PublicKey) -> VerifierKey:
    """A lab's witness key as a verifier key."""
    return VerifierKey(member, SignatureType.COSIGNATURE_V1, key)


def witnesses_of(membership: Membership, member: str) -> list[VerifierKey]:
    """The witness keys of a lab that are in force; none unless the lab is active."""
    lab = membership.members.get(member)
    if lab is None or lab.status is not Status.ACTIVE:
        return []
    return [witness_key(member, key.public_key) for key in membership.keys_of(member) if key.role == Role.WITNESS]


def all_witnesses(membership: Membership) -> list[VerifierKey]:
    """The witness keys in force of every active lab."""
    return [key for member in membership.members for key in witnesses_of(membership, member)]


def known_witnesses(membership: Membership) -> list[VerifierKey]:
    """Every witness key that was ever registered: what a line by one of them claims can be checked."""
    keys = membership.keys.values()
    return [witness_key(key.holder, key.public_key) for key in keys if key.role == Role.WITNESS]


def key_named(membership: Membership, line: notes.NoteSignature) -> RegisteredKey | None:
    """The registered key, of whatever role, that a signature line names as its maker's."""
    for key in membership.keys.values():
        if key.holder == line.name and witness_key(key.holder, key.public_key).key_id == line.key_id:
            return key
    return None


def open_cosigned(data: bytes, log: LogIdentity | LogHistory, known: Collection[VerifierKey]) -> CosignedCheckpoint:
    """Read a checkpoint note that others than the log have cosigned; it says nothing of being the newest.

    Args:
        log: the log's keys; its history, if they were exchanged.
        known: witnesses. A line by one of them that does not hold refuses the note; lines by others are ignored.

    Raises:
        Misbehaviour: `FORGE`.
    """
    history = log if isinstance(log, LogHistory) else LogHistory.of(log)
    try:
        note = notes.parse(data)
        checkpoint = checkpoints.parse_text(note.text)
        log = history.at(checkpoint.size)
        log_key = VerifierKey.parse(log.log_key)
        verified = notes.verify(note, [log_key, *known])
        if checkpoint.origin != log.origin or log_key not in (signature.key for signature in verified):
            raise Malformed("unsigned_checkpoint", "this log's key did not sign it")
    except Malformed as error:
        raise Misbehaviour(
            Fault.FORGE,
            error.code,
            f"a cosigned checkpoint that the hub shows is refused: {error.detail}",
            {"checkpoint": data.decode("utf-8", "replace")},
        ) from error
    times = {signature.key: signature.timestamp for signature in verified if signature.timestamp is not None}
    return CosignedCheckpoint(checkpoint, note, {key: time for key, time in times.items() if key in set(known)})


def claims_more(data: bytes, size: int) -> bool:
    """Whether a note says it is of a larger tree: perhaps signed by keys that the log has only there."""
    try:
        return checkpoints.parse_text(notes.parse(data).text).size > size
    except Malformed:
        return False


def speaking_for(size: int, cosigned: Iterable[CosignedCheckpoint]) -> dict[VerifierKey, int]:
    """Who cosigned the checkpoint of this size, or one that extends it, and when each did so last.

    Args:
        cosigned: checkpoints of one history: each was found to extend every smaller one.
    """
    found: dict[VerifierKey, int] = {}
    for other in cosigned:
        if other.checkpoint.size >= size:
            for key, time in other.times.items():
                found[key] = max(time, found.get(key, time))
    return found
