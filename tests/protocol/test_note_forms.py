"""Notes, signature lines and checkpoints: round trips, and every byte counted."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from sharing_protocol import checkpoints, notes
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.errors import Malformed
from sharing_protocol.notes import MAX_NOTE_BYTES, Note, NoteSignature, SignatureType, VerifierKey
from sharing_protocol.tiles import MAX_TREE_SIZE
from tests.protocol.forum_log import AURORA, ORIGIN, key
from tests.protocol.refusals import code_of

lines = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
note_texts = st.lists(lines, min_size=1, max_size=5).map(lambda parts: "\n".join(parts) + "\n")
names = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x2FF, exclude_categories=["Cc", "Cs", "Zs"],
                              exclude_characters="+"), min_size=1, max_size=12)  # fmt: skip
signature_lines = st.builds(NoteSignature, names, st.binary(min_size=4, max_size=4), st.binary(min_size=1, max_size=80))
some_notes = st.builds(Note, note_texts, st.lists(signature_lines, min_size=1, max_size=4).map(tuple))
heads = st.builds(
    Checkpoint,
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20),
    st.integers(0, MAX_TREE_SIZE),
    st.binary(min_size=32, max_size=32),
)
LOG = VerifierKey(ORIGIN, SignatureType.ED25519, key("log").public_key)
WITNESS = VerifierKey("witness.example", SignatureType.COSIGNATURE_V1, key("witness").public_key)


def malformed(data: bytes | str) -> None:
    with pytest.raises(Malformed) as refused:
        notes.parse(data if isinstance(data, bytes) else data.encode())
    assert code_of(refused.value) == "malformed_note"


@given(some_notes)
def test_a_note_gives_back_what_was_written(note: Note) -> None:
    assert notes.parse(str(note).encode()) == note


@given(st.binary(max_size=80))
def test_whatever_parses_as_a_note_is_written_the_same(data: bytes) -> None:
    for candidate in (data, b"text\n\n" + data, b"text\n\n\xe2\x80\x94 n " + data):
        try:
            note = notes.parse(candidate)
        except Malformed:
            continue
        assert str(note).encode() == candidate


@given(heads, st.integers(0, 2**63 - 1))
def test_a_checkpoint_is_signed_and_cosigned(head: Checkpoint, time: int) -> None:
    note = Note(head.text, (notes.sign(head.text, ORIGIN, key("log")),))
    note = checkpoints.cosign(note, "witness.example", key("witness"), time)
    parsed = notes.parse(str(note).encode())
    assert checkpoints.parse_text(parsed.text) == head
    verified = notes.verify(parsed, [WITNESS, LOG])
    assert [(signature.key, signature.timestamp) for signature in verified] == [(LOG, None), (WITNESS, time)]
    assert note.signed_by(note.signatures) == note


@given(heads, st.data())
def test_no_change_of_a_signed_checkpoint_verifies(head: Checkpoint, data: st.DataObject) -> None:
    note = Note(head.text, (notes.sign(head.text, ORIGIN, key("log")),))
    note = checkpoints.cosign(note, "witness.example", key("witness"), 1_772_366_400)
    encoded = str(note).encode()
    position = data.draw(st.integers(0, len(encoded) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda value: value != encoded[position]))
    try:
        parsed = notes.parse(encoded[:position] + bytes([other]) + encoded[position + 1 :])
        verified = notes.verify(parsed, [LOG, WITNESS])
    except Malformed:
        return
    # What is left to change is the name or the key id of a line: it is by an unknown key then, and ignored.
    assert parsed.text == note.text
    assert len(verified) == 1


@pytest.mark.parametrize(
    "text",
    [
        "origin\n1\n", "origin\n1\nAA==\n", "origin\n1\n!\n", "\n1\n{root}\n", "origin\n01\n{root}\n",
        "origin\n+1\n{root}\n", "origin\n1_0\n{root}\n", "origin\n-1\n{root}\n", "origin\n 1\n{root}\n",
        "origin\n\n{root}\n",
        "origin\n\u0661\n{root}\n", "origin\n281474976710657\n{root}\n", "origin\n1\n{root}\nextension\n",
        "origin\n1\n{root}", "origin\n1\n{root}\n\n", "origin\n1\n{root}=\n", "origin\n" + "9" * 5000 + "\n{root}\n",
    ],
)  # fmt: skip
def test_other_spellings_of_a_checkpoint(text: str) -> None:
    root = Checkpoint("", 0, bytes(32)).text.split("\n")[2]
    with pytest.raises(Malformed) as refused:
        checkpoints.parse_text(text.replace("{root}", root))
    assert code_of(refused.value) == "malformed_checkpoint"


def test_a_checkpoint_of_the_largest_size() -> None:
    head = Checkpoint(ORIGIN, MAX_TREE_SIZE, bytes(32))
    assert checkpoints.parse_text(head.text) == head


LINE = str(NoteSignature("n", b"abcd", b"value").line)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\n", b"\n\n", b"text\n", b"text\n\n", ("text\n" + LINE).encode(), ("text\n\n" + LINE[:-1]).encode(),
        ("text\n\n" + LINE + "\n").encode(), ("text\n\n" + LINE + " \n").encode(), ("text\r\n\n" + LINE).encode(),
        b"text\n\n- n YWJjZHZhbHVl\n", ("text\n\n\u2014n YWJjZHZhbHVl\n").encode(),
        ("text\n\n\u2014  YWJjZHZhbHVl\n").encode(), ("text\n\n\u2014 n\n").encode(),
        ("text\n\n\u2014 n YWJj\n").encode(),
        ("text\n\n\u2014 n YWJjZA==\n").encode(), ("text\n\n\u2014 n+1 YWJjZHZhbHVl\n").encode(),
        ("text\n\n\u2014 n\u00a01 YWJjZHZhbHVl\n").encode(), ("text\n\n\u2014 n YWJjZHZhbHVl \n").encode(),
        ("text\n\n\u2014 n YWJjZHZhbHV\n").encode(), b"text\x00\n\n" + LINE.encode(), b"\xff\n\n" + LINE.encode(),
        ("text\n\n" + LINE * 101).encode(), b"x" * (MAX_NOTE_BYTES + 1),
    ],
)  # fmt: skip
def test_what_is_no_note(data: bytes) -> None:
    malformed(data)


def test_a_note_may_be_as_large_as_the_bound_and_have_100_lines() -> None:
    text = "x" * (MAX_NOTE_BYTES - len(LINE.encode()) - 2)
    assert notes.parse(f"{text}\n\n{LINE}".encode()).text == text + "\n"
    assert len(notes.parse(f"text\n\n{LINE * 100}".encode()).signatures) == 100


@given(names, st.sampled_from(SignatureType))
def test_a_verifier_key_gives_back_what_was_written(name: str, kind: SignatureType) -> None:
    written = VerifierKey(name, kind, key("Ada").public_key)
    assert VerifierKey.parse(str(written)) == written


VKEY = str(LOG)


@pytest.mark.parametrize(
    "text",
    [
        "", "+", "++", VKEY[1:], VKEY + "=", VKEY.replace("+", " ", 1), VKEY.upper(), VKEY.replace(ORIGIN, ""),
        VKEY.replace(ORIGIN, "with space"), VKEY.replace(ORIGIN, "\ud800"), f"{ORIGIN}+00000000+AA==",
        f"{ORIGIN}+00000000+", f"{ORIGIN}+00000000+" + "A" * 44, VKEY.rsplit("+", 1)[0] + "+" + "AQ" + "A" * 42,
    ],
)  # fmt: skip
def test_what_is_no_verifier_key(text: str) -> None:
    with pytest.raises(Malformed) as refused:
        VerifierKey.parse(text)
    assert code_of(refused.value) == "bad_vkey"


@pytest.mark.parametrize("name", ["", "with space", "a+b", "no\nbreak", "no\u2003break", "\x7f"])
def test_no_key_goes_by_a_name_that_a_note_cannot_hold(name: str) -> None:
    with pytest.raises(Malformed) as refused:
        VerifierKey(name, SignatureType.ED25519, key("Ada").public_key)
    assert code_of(refused.value) == "bad_vkey"


def test_a_line_by_the_same_name_with_another_id_is_unknown() -> None:
    text = "text\n"
    note = Note(text, (notes.sign(text, ORIGIN, key("somebody else")), notes.sign(text, ORIGIN, key("log"))))
    assert [signature.key for signature in notes.verify(note, [LOG])] == [LOG]


def test_a_key_that_signed_twice_counts_once() -> None:
    text = "text\n"
    line = notes.sign(text, ORIGIN, key("log"))
    assert len(notes.verify(Note(text, (line, line)), [LOG])) == 1


@pytest.mark.parametrize("times", [(0, 1), (1, 0), (8, 9), (9, 8)])
def test_of_two_cosignatures_by_one_key_the_newest_counts(times: tuple[int, int]) -> None:
    note = Note("text\n", tuple(notes.cosign("text\n", WITNESS.name, key("witness"), time) for time in times))
    assert [held.timestamp for held in notes.verify(note, [WITNESS])] == [max(times)]


@pytest.mark.parametrize("length", [1, 8, 64, 71, 73])
def test_a_cosignature_of_another_length_does_not_hold(length: int) -> None:
    line = notes.cosign("text\n", WITNESS.name, key("witness"), 1_772_366_400)
    assert len(line.value) == 72
    other = NoteSignature(line.name, line.key_id, (line.value + b"x")[:length])
    with pytest.raises(Malformed, match="does not hold"):
        notes.verify(Note("text\n", (other,)), [WITNESS])


def test_two_keys_with_one_name_and_key_id_do_not_spoil_each_others_lines() -> None:
    # Two of about 73,000 keys: nothing keeps a lab from looking for such a pair, and registering it.
    signers = [key("Aurora witness 68838"), key("Aurora witness 72965")]
    first, second = (VerifierKey(AURORA, SignatureType.COSIGNATURE_V1, signer.public_key) for signer in signers)
    assert (first.key_id, first != second) == (second.key_id, True)
    note = Note("text\n", tuple(notes.cosign("text\n", AURORA, signer, time) for time, signer in enumerate(signers, 1)))
    for known in ([first, second], [second, first]):
        assert {held.key: held.timestamp for held in notes.verify(note, known)} == {first: 1, second: 2}
    for alone in (first, second):
        with pytest.raises(Malformed, match="does not hold"):
            notes.verify(note, [alone])


def test_a_cosignature_beyond_the_largest_time_does_not_hold() -> None:
    signer = key("Aurora witness")
    known = VerifierKey(AURORA, SignatureType.COSIGNATURE_V1, signer.public_key)
    for time, holds in ((2**63 - 1, True), (2**63, False), (2**64 - 1, False)):
        note = Note("text\n", (notes.cosign("text\n", AURORA, signer, time),))
        if holds:
            assert notes.verify(note, [known])[0].timestamp == time
            continue
        with pytest.raises(Malformed, match="does not hold"):
            notes.verify(note, [known])
