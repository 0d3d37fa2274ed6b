"""Whether to believe the next checkpoint, and if not, which lie it is.

The steps, in the order that a member takes them (design, rule 5):

1. `open_checkpoint`: it parses, its origin is the forum's log, and the key that the log has at this size signed it;
2. `check_freshness`: the log's timestamped cosignature is recent;
3. `check_consistency`: it extends the last checkpoint that this member believed.

Then every entry must hash into it (`tiles.VerifiedTree.check_leaves`) and be admissible (`admission.admit`).
Each step raises `Misbehaviour` with the evidence, and none changes anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from sharing_protocol import checkpoints, notes
from sharing_protocol import envelope as envelopes
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.errors import Fault, Malformed, Misbehaviour
from sharing_protocol.keys import decode_base64, encode_base64
from sharing_protocol.log_keys import LogHistory
from sharing_protocol.merkle import (
    EMPTY_ROOT,
    leaf_hash,
    prefix_proof,
    prefix_root,
    verify_inclusion,
)
from sharing_protocol.statements.membership import LogIdentity
from sharing_protocol.tiles import VerifiedTree
from sharing_protocol.wire import Receipt

RETIRED_KEY = "retired_key"
MAX_SKEW_SECONDS = 300
"""How far in the future a cosignature's time may be before it is a lie rather than a clock."""


@dataclass(frozen=True, slots=True)
class TrustedCheckpoint:
    """A checkpoint that the log signed.

    Attributes:
        checkpoint: origin, size, root.
        note: the signed note, as text, to keep as evidence.
        timestamp: newest time (POSIX seconds) at which the log's timestamp key vouched for it.
    """

    checkpoint: Checkpoint
    note: str
    timestamp: int


def open_checkpoint(data: bytes, log: LogIdentity | LogHistory) -> TrustedCheckpoint:
    """Step 1: read a checkpoint note and check the log's two signatures.

    Args:
        log: the log's keys; its history, if they were exchanged.

    Raises:
        Misbehaviour: `FORGE`.
    """
    history = log if isinstance(log, LogHistory) else LogHistory.of(log)
    evidence = {"checkpoint": data.decode("utf-8", "replace")}
    try:
        note = notes.parse(data)
        checkpoint = checkpoints.parse_text(note.text)
        log = history.at(checkpoint.size)
        log_key = notes.VerifierKey.parse(log.log_key)
        timestamp_key = notes.VerifierKey.parse(log.timestamp_key)
        verified = {signature.key: signature for signature in notes.verify(note, [log_key, timestamp_key])}
    except Malformed as error:
        raise Misbehaviour(
            Fault.FORGE, error.code, f"the hub's checkpoint is refused: {error.detail}", evidence
        ) from error
    if checkpoint.origin != log.origin:
        raise Misbehaviour(
            Fault.FORGE,
            "wrong_origin",
            f"the checkpoint is of {checkpoint.origin!r}, not of {log.origin!r}",
            evidence,
        )
    if log_key not in verified:
        _refuse_retired(note, checkpoint, history, evidence)
        raise Misbehaviour(Fault.FORGE, "unsigned_checkpoint", "the log's key did not sign the checkpoint", evidence)
    vouched = verified.get(timestamp_key)
    if vouched is None or vouched.timestamp is None:
        raise Misbehaviour(
            Fault.FORGE,
            "untimed_checkpoint",
            "the log's timestamp key did not cosign the checkpoint",
            evidence,
        )
    if checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
        raise Misbehaviour(Fault.FORGE, "wrong_empty_root", "the empty tree has another root hash", evidence)
    return TrustedCheckpoint(checkpoint, str(note), vouched.timestamp)


def check_keys(trusted: TrustedCheckpoint, opened_by: LogHistory, found: LogHistory) -> None:
    """Refuse a checkpoint once the entries that hash into it turn out to name other keys than those that signed it.

    Args:
        opened_by: what was known of the log's keys when the checkpoint was opened.
        found: what is known after some of its entries.

    Raises:
        Misbehaviour: `FORGE`, `retired_key`.
    """
    if not opened_by.begins_with(found):
        raise retired_key({"checkpoint": trusted.note}, found.terms[-1].since)


def retired_key(evidence: dict[str, str], since: int) -> Misbehaviour:
    """The refusal of a checkpoint whose tree contains, at index `since`, the statement that took its key away."""
    return Misbehaviour(
        Fault.FORGE,
        RETIRED_KEY,
        f"the checkpoint is signed by a key that the log gave up at entry {since}, which it covers: somebody else has "
        "that key",
        evidence,
    )


def _refuse_retired(note: notes.Note, checkpoint: Checkpoint, history: LogHistory, evidence: dict[str, str]) -> None:
    since = history.term_at(checkpoint.size).since
    for term in history.retired_before(checkpoint.size):
        try:
            signed = notes.verify(note, [notes.VerifierKey.parse(term.log.log_key)])
        except Malformed:
            continue
        if signed:
            raise retired_key(evidence, since)


def check_freshness(trusted: TrustedCheckpoint, now: float, max_age: float) -> None:
    """Step 2: refuse a checkpoint that the log has not vouched for within `max_age` seconds.

    Raises:
        Misbehaviour: `FREEZE`.
    """
    age = now - trusted.timestamp
    evidence = {"checkpoint": trusted.note, "local_time": f"{now:.0f}"}
    if age > max_age:
        raise Misbehaviour(
            Fault.FREEZE,
            "stale_checkpoint",
            f"the newest checkpoint was vouched for {age:.0f} s ago, {max_age:.0f} s are allowed: the hub shows an old "
            "state, or this machine's clock is ahead",
            evidence,
        )
    if age < -MAX_SKEW_SECONDS:
        raise Misbehaviour(
            Fault.FREEZE,
            "checkpoint_from_the_future",
            f"the checkpoint was vouched for {-age:.0f} s in the future: a clock is wrong, here or at the hub",
            evidence,
        )


def check_consistency(old: TrustedCheckpoint | None, new: TrustedCheckpoint, tree: VerifiedTree) -> None:
    """Step 3: check that `new` extends `old`, by a consistency proof computed from `new`'s verified tiles.

    The proof has its first hash in every case (`merkle.prefix_proof`): if it fails, it proves to anybody that the log
    signed two histories.

    Args:
        tree: over `new`'s size and root.

    Raises:
        Misbehaviour: `ROLL_BACK` for fewer entries than before, `FORK` for another history, `ALTER` for tiles that
            are not of the signed tree.
    """
    if old is None:
        return
    before, now = old.checkpoint, new.checkpoint
    evidence = {"old_checkpoint": old.note, "new_checkpoint": new.note}
    if now.size < before.size:
        raise Misbehaviour(
            Fault.ROLL_BACK,
            "rolled_back",
            f"the log has {now.size} entries now and had {before.size} before",
            evidence,
        )
    if now.size == before.size and now.root != before.root:
        raise Misbehaviour(Fault.FORK, "forked", f"the log signed two different trees of {now.size} entries", evidence)
    if before.size == 0 or now.size == before.size:
        return
    proof = prefix_proof(before.size, now.size, tree.node)
    if prefix_root(before.size, now.size, now.root, proof) != before.root:
        evidence["prefix_proof"] = "\n".join(encode_base64(step) for step in proof)
        raise Misbehaviour(
            Fault.FORK,
            "forked",
            f"the tree of {now.size} entries does not extend the tree of {before.size} that the log signed before",
            evidence,
        )


def check_receipt(receipt: Receipt, entry: bytes, log: LogIdentity | LogHistory) -> TrustedCheckpoint:
    """Check that a receipt proves `entry` to be in the log that its checkpoint signs.

    Or else the envelope that the receipt holds: one of the same payload, with other signatures, that was logged first.
    Whether those are good, every member judges when it reads the log.

    Raises:
        Misbehaviour: `FORGE`.
    """
    trusted = open_checkpoint(receipt.checkpoint.encode(), log)
    evidence = {"receipt": receipt.model_dump_json(), "entry": entry.decode("utf-8", "replace")}
    logged = entry
    try:
        if receipt.envelope is not None:
            logged = receipt.envelope.encode()
            if envelopes.parse(logged).payload != envelopes.parse(entry).payload:
                raise Malformed("bad_receipt", "its envelope is not of the payload that was sent")
        proof = [decode_base64(step, "the inclusion proof") for step in receipt.inclusion_proof]
    except Malformed as error:
        raise Misbehaviour(Fault.FORGE, "bad_receipt", f"the receipt is refused: {error.detail}", evidence) from error
    checkpoint, leaf = trusted.checkpoint, leaf_hash(logged)
    if receipt.entry != leaf.hex() or not verify_inclusion(
        leaf, receipt.index, checkpoint.size, proof, checkpoint.root
    ):
        raise Misbehaviour(
            Fault.FORGE, "bad_receipt", "the receipt does not prove that this entry is in the log", evidence
        )
    return trusted
