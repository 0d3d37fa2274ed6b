"""What cosignatures are worth: whose they are, of which tree, and what a note that carries them may not be."""

from __future__ import annotations

import pytest

from sharing_protocol import merkle, notes
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.errors import Fault, Misbehaviour
from sharing_protocol.keys import PrivateKey
from sharing_protocol.log_keys import LogHistory
from sharing_protocol.notes import Note, NoteSignature, VerifierKey
from sharing_protocol.witnesses import (
    CosignedCheckpoint,
    claims_more,
    key_named,
    open_cosigned,
    speaking_for,
    witness_key,
)
from tests.protocol.forum_log import AURORA, BOREAL, LOG, LOG_KEY, ORIGIN, forum_of_two_labs, key, log_of
from tests.protocol.refusals import code_of

NOON = 1_772_366_400
A, B = (witness_key(member, key(name).public_key) for member, name in ((AURORA, "A"), (BOREAL, "B")))


def head(size: int, origin: str = ORIGIN) -> Checkpoint:
    return Checkpoint(origin, size, merkle.leaf_hash(bytes([size])))


def note_of(checkpoint: Checkpoint, log_key: PrivateKey = LOG_KEY) -> Note:
    """Signed by the log's key as the log, whatever it says."""
    return Note(checkpoint.text, (notes.sign(checkpoint.text, ORIGIN, log_key),))


def cosigned(note: Note, *by: tuple[str, str, int]) -> bytes:
    lines = [notes.cosign(note.text, member, key(name), time) for member, name, time in by]
    return str(note.signed_by(lines)).encode()


def forged(data: bytes, log: LogHistory | None = None) -> str:
    with pytest.raises(Misbehaviour) as caught:
        open_cosigned(data, LOG if log is None else log, [A, B])
    assert caught.value.fault is Fault.FORGE
    assert caught.value.evidence == {"checkpoint": data.decode("utf-8", "replace")}
    return code_of(caught.value)


def test_only_known_witnesses_count_each_at_its_newest_time() -> None:
    data = cosigned(note_of(head(5)), (AURORA, "A", NOON), (AURORA, "A", NOON + 9), (BOREAL, "B", NOON))
    assert open_cosigned(data, LOG, [A, B]) == CosignedCheckpoint(head(5), notes.parse(data), {A: NOON + 9, B: NOON})
    assert open_cosigned(data, LOG, [B]).times == {B: NOON}
    assert open_cosigned(data, LOG, []).times == {}


def test_the_logs_own_timestamp_is_no_witness() -> None:
    data = cosigned(note_of(head(5)), (ORIGIN, "timestamp", NOON), (AURORA, "A", NOON))
    assert open_cosigned(data, LOG, [A]).times == {A: NOON}


def test_the_logs_keys_of_that_size_sign_it() -> None:
    history = LogHistory.of(LOG).continued(3, log_of("2"))
    for size, signer, other in ((3, LOG_KEY, key("log 2")), (4, key("log 2"), LOG_KEY)):
        assert open_cosigned(cosigned(note_of(head(size), signer)), history, []).checkpoint == head(size)
        assert forged(cosigned(note_of(head(size), other)), history) == "unsigned_checkpoint"


def test_what_the_log_did_not_sign_is_forged() -> None:
    assert forged(cosigned(note_of(head(5), key("Mallory")))) == "unsigned_checkpoint"
    assert forged(cosigned(Note(head(5).text, ()), (AURORA, "A", NOON))) == "unsigned_checkpoint"
    # The log's key is for one origin alone: what it signs of another is none of this log's checkpoints.
    assert forged(cosigned(note_of(head(5, "other.example/log")))) == "unsigned_checkpoint"


def test_a_known_witness_whose_line_does_not_hold_spoils_the_note() -> None:
    note = note_of(head(5))
    line = notes.cosign(note.text, AURORA, key("A"), NOON)
    broken = str(note.signed_by([NoteSignature(line.name, line.key_id, bytes(len(line.value)))])).encode()
    assert forged(broken) == "bad_note_signature"
    assert open_cosigned(broken, LOG, [B]).times == {}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "malformed_note"),
        (b"\xff\n\n", "malformed_note"),
        (cosigned(Note("no checkpoint\n", (notes.sign("no checkpoint\n", ORIGIN, LOG_KEY),))), "malformed_checkpoint"),
    ],
)
def test_what_is_no_checkpoint_is_forged(data: bytes, code: str) -> None:
    assert forged(data) == code


def test_a_line_names_its_maker_by_name_and_key() -> None:
    membership = forum_of_two_labs().membership
    for member, lab in ((AURORA, "Aurora"), (BOREAL, "Boreal")):
        for role in ("owner", "analyst", "sync"):
            line = notes.cosign("text\n", member, key(f"{lab} {role}"), NOON)
            named = key_named(membership, line)
            assert named is not None
            assert (named.holder, named.role) == (member, role)
    assert key_named(membership, notes.cosign("text\n", AURORA, key("Mallory"), NOON)) is None
    assert key_named(membership, notes.cosign("text\n", BOREAL, key("Aurora sync"), NOON)) is None


def test_a_note_claims_more_than_the_entries_that_are_known() -> None:
    data = cosigned(note_of(head(5)))
    assert [claims_more(data, size) for size in (4, 5, 6)] == [True, False, False]
    assert not claims_more(b"nonsense", 0)


def test_who_cosigned_a_larger_tree_speaks_for_the_smaller() -> None:
    def seen(size: int, times: dict[VerifierKey, int]) -> CosignedCheckpoint:
        return CosignedCheckpoint(head(size), note_of(head(size)), times)

    known = [seen(4, {A: 40, B: 90}), seen(5, {A: 50}), seen(7, {A: 30, B: 70})]
    assert speaking_for(4, known) == {A: 50, B: 90}
    assert speaking_for(5, known) == {A: 50, B: 70}
    assert speaking_for(6, known) == speaking_for(7, known) == {A: 30, B: 70}
    assert speaking_for(8, known) == {}
    assert speaking_for(4, known[::-1]) == speaking_for(4, known)
