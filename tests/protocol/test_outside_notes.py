"""Signed notes, checkpoints and verifier keys as Go's sumdb, C2SP and transparency-dev publish them."""

from __future__ import annotations

import pytest

from sharing_protocol import checkpoints, notes, tiles
from sharing_protocol.errors import Malformed
from sharing_protocol.keys import PrivateKey, decode_base64
from sharing_protocol.notes import SignatureType, VerifierKey
from tests.protocol.outside_vectors import json_vectors
from tests.protocol.refusals import code_of


def go_note(*lines: str) -> bytes:
    data = json_vectors("signed-note", "notes.json")
    return str(data["text"] + "\n" + "".join(data[line] for line in lines)).encode()


def test_verifier_keys_that_go_reads() -> None:
    data = json_vectors("signed-note", "notes.json")
    assert [str(VerifierKey.parse(text)) for text in data["vkeys_ok"]] == data["vkeys_ok"]


def test_verifier_keys_that_go_refuses() -> None:
    for text in json_vectors("signed-note", "notes.json")["vkeys_bad"]:
        with pytest.raises(Malformed) as refused:
            VerifierKey.parse(text)
        assert code_of(refused.value) == "bad_vkey"


def test_notes_that_go_signed() -> None:
    peter, enoch, _ = (VerifierKey.parse(text) for text in json_vectors("signed-note", "notes.json")["vkeys_ok"])
    both = notes.parse(go_note("peter_sig", "enoch_sig"))
    assert [signature.key for signature in notes.verify(both, [peter, enoch])] == [peter, enoch]
    assert [signature.key for signature in notes.verify(both, [enoch])] == [enoch]
    assert notes.verify(both, []) == []


def test_we_sign_as_go_signs() -> None:
    data = json_vectors("signed-note", "notes.json")
    encoded = data["skey"]["PeterNeumann"].split("+", 4)[4]
    signer = PrivateKey.from_seed(decode_base64(encoded, "the key")[1:])
    assert notes.sign(data["text"], "PeterNeumann", signer).line == data["peter_sig"]


def test_the_note_of_the_c2sp_specification() -> None:
    example = json_vectors("signed-note", "notes.json")["c2sp_example"]
    key = VerifierKey.parse(example["vkey"])
    (verified,) = notes.verify(notes.parse(example["note"].encode()), [key])
    assert verified == notes.VerifiedSignature(key, None)


def test_notes_that_go_refuses() -> None:
    data = json_vectors("signed-note", "notes.json")
    text, signature = data["text"], data["peter_sig"]
    malformed = {
        "text without blank line": text + signature,
        "text + blank line without sigs": text + "\n",
        "missing final newline": (text + "\n" + signature)[:-1],
        "control char 0x01": "\x01" + text + "\n" + signature,
        "invalid UTF-8 0xff": b"\xff" + text.encode() + b"\n" + signature.encode(),
        "key name with space": text + "\n" + signature.replace("PeterNeumann", "Peter Neumann"),
        "trailing unexpected line": text + "\n" + signature + "unexpected line\n",
        "more than 100 signatures (Go limit)": text + "\n" + signature * 101,
    }
    assert set(malformed) == set(data["malformed_rules"])
    for rule, note in malformed.items():
        with pytest.raises(Malformed) as refused:
            notes.parse(note if isinstance(note, bytes) else note.encode())
        assert code_of(refused.value) == "malformed_note", rule


def test_the_tree_note_of_go() -> None:
    golden = json_vectors("signed-note", "notes.json")["tree_body_golden"]
    head = checkpoints.parse_text(golden["body"])
    assert (head.origin, head.size, head.text) == ("go.sum database tree", golden["size"], golden["body"])


def test_gos_own_tile_paths_are_not_ours() -> None:
    # sumdb puts the tile's height first (`tile/4/0/001`), C2SP tlog-tiles fixed it at 8 and dropped it. What is left
    # without it is a path of ours; what is written with it is none.
    for path in json_vectors("signed-note", "notes.json")["tile_paths"]:
        with pytest.raises(Malformed):
            tiles.parse_path(path)
        ours = "tile/" + path.split("/", 2)[2]
        assert tiles.parse_path(ours).path == ours


def test_the_checkpoints_of_the_c2sp_specifications() -> None:
    examples = json_vectors("c2sp-examples", "examples.json")
    plain = notes.parse(examples["tlog-checkpoint"][0].encode())
    cosigned = notes.parse(examples["tlog-cosignature"][0].encode())
    assert str(plain) == examples["tlog-checkpoint"][0]
    assert str(cosigned) == examples["tlog-cosignature"][0]
    assert plain.text == cosigned.text
    assert checkpoints.parse_text(plain.text).size == 20852163
    # The specification does not publish the signers' public keys, so their lines are unknown ones, and ignored.
    assert notes.verify(cosigned, []) == []


def test_the_cosigned_message_of_the_c2sp_specification() -> None:
    examples = json_vectors("c2sp-examples", "examples.json")["tlog-cosignature"]
    note = notes.parse(examples[0].encode())
    witness = note.signatures[1]
    timestamp = int.from_bytes(witness.value[:8], "big")
    signer = PrivateKey.from_seed(bytes(32))
    ours = notes.cosign(note.text, witness.name, signer, timestamp)
    assert f"\ntime {timestamp}\n" in examples[5]
    assert signer.public_key.verifies((examples[5] + "\n").encode(), ours.value[8:])


def test_multi_paragraph_note_of_c2sp_splits_at_the_last_empty_line() -> None:
    poem = json_vectors("c2sp-examples", "examples.json")["signed-note"][0]
    note = notes.parse(poem.encode())
    assert note.text.endswith("sole:\n\ned è subito sera.\n")
    assert [signature.name for signature in note.signatures] == ["quasimodo.example/salvatore"]


def test_cosignature_verifier_keys() -> None:
    for row in json_vectors("cosignature-vkeys", "vkeys.json"):
        known = "ML-DSA" not in row["name"] and "MLDSA" not in row["name"]
        if row["want_err"] or not known:
            # ML-DSA cosignatures are a type of their own that we do not have; and that row states a key id which is
            # not the hash of its name and key (SOURCE.txt), so it could not judge ours.
            with pytest.raises(Malformed):
                VerifierKey.parse(row["vkey"])
        else:
            assert str(VerifierKey.parse(row["vkey"])) == row["vkey"]
    kinds = {row["vkey"].split("+")[0]: row["vkey"] for row in json_vectors("cosignature-vkeys", "vkeys.json")[:2]}
    assert VerifierKey.parse(kinds["TEST"]).kind is SignatureType.ED25519
    assert VerifierKey.parse(kinds["remora.n621.de"]).kind is SignatureType.COSIGNATURE_V1
