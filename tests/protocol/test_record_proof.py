"""A proof of a record for an outsider: it holds as it was made, and not with one byte changed."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharing_protocol import strict_json
from sharing_protocol.envelope import MAX_ENVELOPE_BYTES
from sharing_protocol.errors import Malformed, ProtocolError, Unproven
from sharing_protocol.log_excerpt import LoggedEntry
from sharing_protocol.membership import Status
from sharing_protocol.notes import cosign, parse
from sharing_protocol.record_proof import (
    MAX_PROOF_BYTES,
    ProvenStatement,
    RecordProof,
    decode,
    own_signatures,
    verify,
)
from sharing_protocol.tlog_proof import TlogProof
from tests.protocol.excerpts import NOON, Tree, eventful_log
from tests.protocol.forum_log import (
    AURORA,
    BOREAL,
    FORUM,
    LOG,
    ORIGIN,
    PATTERN,
    TIMESTAMP_KEY,
    ForumLog,
    forum_with_records,
    key,
    pattern_body,
    signed,
)
from tests.protocol.refusals import code_of

LOG_OF_FIVE = forum_with_records()
SMALL = Tree.of(LOG_OF_FIVE)
PROOF = SMALL.proof(3, [0, 1])
DATA = PROOF.encode()

EVENTS = eventful_log()
TREE = Tree.of(EVENTS)
KINDS = [json.loads(made.payload)["type"].removeprefix("membership.") for made in EVENTS.entries]


def history(*records: str) -> list[int]:
    """Indices of the membership entries about these records."""
    documents = [json.loads(made.payload) for made in EVENTS.entries]
    return [
        index
        for index, document in enumerate(documents)
        if document["id"] in records and document["type"].startswith("membership.")
    ]


def proven(index: int, *records: str) -> ProvenStatement:
    path = [place for place in history(FORUM, *records) if place != index]
    return verify(TREE.proof(index, path).encode(), EVENTS.fingerprint)


def unproven(proof: RecordProof | bytes, fingerprint: str = LOG_OF_FIVE.fingerprint) -> str:
    with pytest.raises((Unproven, Malformed)) as refused:
        verify(proof if isinstance(proof, bytes) else proof.encode(), fingerprint)
    return code_of(refused.value)


# -- what holds ------------------------------------------------------------------------------------------------------


def test_who_said_what_under_which_key_where() -> None:
    found = verify(DATA, LOG_OF_FIVE.fingerprint)
    assert found.statement.statement.id == PATTERN
    assert (found.index, found.entry) == (3, SMALL.leaves[3].hex())
    assert [key.public_key for key in found.signers] == [key("Aurora analyst").public_key]
    assert (found.checkpoint.checkpoint.size, found.checkpoint.timestamp) == (5, NOON)
    assert [step.index for step in found.path] == [0, 1]
    assert not found.admins_unbroken
    assert not found.author_unbroken


@pytest.mark.parametrize("index", range(1, EVENTS.size), ids=KINDS[1:])
def test_every_entry_of_an_eventful_log_can_be_proven(index: int) -> None:
    document = json.loads(EVENTS.entries[index].payload)
    lab = document["id"] if document["type"].startswith("membership.") else document["author"]
    found = proven(index, lab)
    assert strict_json.loads(found.statement.envelope.payload) == document
    assert found.before.keys == {
        key_id: registered for key_id, registered in found.before.keys.items() if registered.since < index
    }


def test_the_founding_statement_proves_itself() -> None:
    found = verify(SMALL.proof(0, []).encode(), LOG_OF_FIVE.fingerprint)
    assert [signer.name for signer in found.signers] == ["Ben", "Ada"]


def test_a_later_change_closes_the_history_before_it() -> None:
    first = proven(3, AURORA)
    assert (first.author_unbroken, first.admins_unbroken) == (True, True)
    last = proven(KINDS.index("withdrawal"), AURORA)
    assert (last.author_unbroken, last.admins_unbroken) == (False, False)
    # A later change of the admins says nothing of the lab, and a change is not its own continuation.
    for index in (9, KINDS.index("revoke_key")):
        between = proven(index, AURORA)
        assert (between.author_unbroken, between.admins_unbroken) == (False, True), index


def test_what_became_of_the_key_and_the_lab_since_is_told() -> None:
    first = proven(3, AURORA)
    [signer] = first.signers
    now = first.after.keys[signer.public_key.key_id]
    assert (signer.revoked_at, now.revoked_at, now.suspect_from) == (None, KINDS.index("revoke_key"), 3)
    other = proven(KINDS.index("sighting"), BOREAL)
    assert other.after.members[BOREAL].status is Status.EXPELLED


def test_a_note_with_cosignatures_of_others_is_stripped_of_them() -> None:
    note = parse(SMALL.note().encode())
    older = cosign(note.text, ORIGIN, TIMESTAMP_KEY, NOON - 5)
    witnessed = note.signed_by([cosign(note.text, "witness.example", key("witness"), NOON), older])
    assert own_signatures(str(witnessed), LOG) == SMALL.note()


# -- what does not ---------------------------------------------------------------------------------------------------


def accepts_the_same(data: bytes) -> bool:
    try:
        verify(data, LOG_OF_FIVE.fingerprint)
    except ProtocolError:
        return False
    return True


@given(position=st.integers(0, len(DATA) - 1), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found(position: int, bit: int) -> None:
    changed = DATA[:position] + bytes([DATA[position] ^ (1 << bit)]) + DATA[position + 1 :]
    assert not accepts_the_same(changed)


@given(start=st.integers(0, len(DATA)), removed=st.integers(0, 40), put_in=st.binary(max_size=40))
def test_any_other_bytes_in_any_place_are_found(start: int, removed: int, put_in: bytes) -> None:
    changed = DATA[:start] + put_in + DATA[start + removed :]
    assert changed == DATA or not accepts_the_same(changed)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of everything in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for step, part in inner for found in places(part, (*path, step)))]


DOCUMENT = json.loads(DATA)
VALUES: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers(-2, 2**60) | st.text(max_size=50) | st.just([]) | st.just({})
)


@given(path=st.sampled_from(places(DOCUMENT)[1:]), value=VALUES | st.sampled_from(["delete", "twice"]))
def test_any_changed_member_is_found(path: tuple[Any, ...], value: Any) -> None:
    changed = deepcopy(DOCUMENT)
    holder = changed
    for step in path[:-1]:
        holder = holder[step]
    if value == "delete":
        del holder[path[-1]]
    elif value == "twice" and isinstance(holder, list):
        holder.insert(path[-1], holder[path[-1]])
    else:
        holder[path[-1]] = value
    # Without the admission, or without the founding, nothing is proven either.
    written = json.dumps(changed, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
    assert written == DATA or not accepts_the_same(written)


def test_the_same_document_in_another_spelling_is_no_proof() -> None:
    for spelled in (DATA[:-1], DATA + b"\n", b" " + DATA, json.dumps(DOCUMENT).encode(), DATA.replace(b"/", b"\\/", 1)):
        assert unproven(spelled) == "not_a_proof"


def test_what_is_no_proof_at_all() -> None:
    for data in (b"", b"{}", b"null", b"[" * 50_000, b"\xff", b'{"format":"stillwatch-proof/2"}', b" " * (8 << 20)):
        assert unproven(data) == "not_a_proof"
    assert unproven(b" " * (MAX_PROOF_BYTES + 1)) == "not_a_proof"


def test_another_forum_is_not_proven() -> None:
    assert unproven(PROOF, "0" * 64) == "wrong_forum"
    assert unproven(SMALL.proof(3, [1])) == "wrong_forum"
    assert unproven(SMALL.proof(3, [])) == "wrong_forum"


def test_a_checkpoint_by_another_key_proves_nothing() -> None:
    forged = TlogProof(3, PROOF.proof.steps, SMALL.note(log_key=key("Mallory")))
    assert unproven(RecordProof(PROOF.entry, forged, PROOF.membership)) == "unsigned_checkpoint"


def test_a_line_that_nobody_can_check_is_not_carried_along() -> None:
    note = parse(SMALL.note().encode())
    witnessed = str(note.signed_by([cosign(note.text, "witness.example", key("witness"), NOON)]))
    assert (
        unproven(RecordProof(PROOF.entry, TlogProof(3, PROOF.proof.steps, witnessed), PROOF.membership))
        == "not_a_proof"
    )


def test_an_entry_of_another_log_or_at_another_index_is_not_proven() -> None:
    for index in (2, 4):
        moved = TlogProof(index, PROOF.proof.steps, PROOF.proof.checkpoint)
        assert unproven(RecordProof(PROOF.entry, moved, PROOF.membership)) == "not_in_the_log"
    other = forum_with_records()
    other.say("pattern", PATTERN, AURORA, pattern_body(title="Never logged"), ["Aurora analyst"])
    [stranger] = Tree.of(other).logged([5])
    strange = TlogProof(4, stranger.steps, PROOF.proof.checkpoint)
    assert unproven(RecordProof(stranger.entry, strange, PROOF.membership)) == "not_in_the_log"


def test_an_entry_twice_is_no_proof() -> None:
    assert unproven(SMALL.proof(1, [0, 1])) == "not_a_proof"


def test_without_the_admission_there_is_no_author() -> None:
    assert unproven(SMALL.proof(3, [0])) == "unknown_key"


def test_nothing_can_be_left_out_before_what_is_there() -> None:
    index = KINDS.index("sighting") - 1  # Aurora's third version, after all that happened to its keys
    before = [place for place in history(AURORA) if place < index]
    for left_out in before[:-1]:
        path = [place for place in history(FORUM, AURORA) if place != left_out]
        unproven(TREE.proof(index, path), EVENTS.fingerprint)
    # The last of them is what the next test is about.
    assert len(before) == 5


def test_a_change_that_was_left_out_at_the_end_is_what_a_proof_cannot_show() -> None:
    """Documented as such: here a hub lets in what a revoked key signed, and the proof leaves the revocation out."""
    log = forum_with_records()
    log.say(
        "membership.revoke_key",
        AURORA,
        AURORA,
        {"key_id": key("Aurora analyst").public_key.key_id, "reason": "Lost", "suspect_from": None},
        ["Aurora owner"],
    )
    late = signed(log.next("pattern", PATTERN, AURORA, pattern_body(title="Late")), "Aurora analyst")
    tree = Tree([*(made.encode() for made in log.entries), late.encode()])
    found = verify(tree.proof(6, [0, 1]).encode(), log.fingerprint)
    assert not found.author_unbroken, "and it says so"
    assert unproven(tree.proof(6, [0, 1, 5]), log.fingerprint) == "revoked_key"


def test_another_labs_affairs_are_not_carried_along() -> None:
    assert unproven(SMALL.proof(3, [0, 1, 2])) == "superfluous_entry"


def test_records_that_no_member_admits_are_not_proven() -> None:
    cases = {
        "invalid_dates": {"valid_until": "2036-01-01T00:00:00Z"},
        "red_needs_sealing": {"marking": "red"},
        "invalid_statement": {"title": ""},
    }
    for code, changes in cases.items():
        log = forum_with_records()
        made = signed(log.next("pattern", PATTERN, AURORA, pattern_body(**changes)), "Aurora analyst")
        tree = Tree([*(entry.encode() for entry in log.entries), made.encode()])
        assert unproven(tree.proof(5, [0, 1]), log.fingerprint) == code


def test_a_statement_of_a_later_schema_is_not_judged() -> None:
    log = forum_with_records()
    made = signed({**log.next("pattern", PATTERN, AURORA, pattern_body()), "schema": 2}, "Aurora analyst")
    tree = Tree([*(entry.encode() for entry in log.entries), made.encode()])
    assert unproven(tree.proof(5, [0, 1]), log.fingerprint) == "not_understood"


def test_a_founding_that_founds_nothing() -> None:
    """The fingerprint is of a payload: it has to be signed by its admins, and to be a founding statement."""
    log = ForumLog()
    for document in ({"schema": 1, "type": "pattern"}, {"schema": 2, "type": "membership.found"}):
        made = signed(document, "Mallory")
        tree = Tree([made.encode()])
        assert unproven(tree.proof(0, []), made.payload_sha256) in {"invalid_statement", "not_understood"}
    assert log.size == 0
    not_one = RecordProof(b"{}", TlogProof(0, (), SMALL.note()), ())
    assert unproven(not_one, "0" * 64) == "malformed_envelope"


def test_a_proof_has_a_largest_size() -> None:
    def filled(text: int) -> RecordProof:
        """With so much text in its entries."""
        lengths = [min(MAX_ENVELOPE_BYTES, text - start) for start in range(0, text, MAX_ENVELOPE_BYTES)]
        filling = (LoggedEntry(index, b"x" * length, ()) for index, length in enumerate(lengths))
        return RecordProof(PROOF.entry, PROOF.proof, tuple(filling))

    text = MAX_PROOF_BYTES - 20_000
    text += MAX_PROOF_BYTES - len(filled(text).encode())
    largest = filled(text)
    data = largest.encode()
    assert len(data) == MAX_PROOF_BYTES
    assert decode(data) == largest
    with pytest.raises(Malformed, match="at most"):
        filled(text + 1).encode()
    with pytest.raises(Malformed, match="at most"):
        decode(data.replace(b"x", b"xx", 1))
