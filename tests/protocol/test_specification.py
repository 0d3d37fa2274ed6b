"""docs/protocol.md and its vectors say what the code does."""

from __future__ import annotations

import json
import re
import typing
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import sharing_protocol
from hub.problems import status_of
from sharing_protocol import checkpoints, envelope, evidence, merkle, notes, record_proof, tiles, wire
from sharing_protocol.errors import Malformed, Misbehaviour, ProtocolError, Refused
from sharing_protocol.fingerprints import parse_fingerprint
from sharing_protocol.keys import PrivateKey, PublicKey, decode_base64
from sharing_protocol.request_signing import verify_request
from sharing_protocol.statements.handling import Bucket, Marking, Severity
from sharing_protocol.statements.header import comparable_name
from sharing_protocol.statements.incidents import Act
from sharing_protocol.statements.membership import LogIdentity, MembershipStatement, Role
from sharing_protocol.statements.opinions import Verdict
from sharing_protocol.statements.playbooks import Measure, PlaybookKind, RequiredEvidence
from sharing_protocol.statements.records import Expectation, PatternKind, RecordStatement
from sharing_protocol.tiles import VerifiedTree, parse_path
from sharing_protocol.trust import check_freshness, open_checkpoint
from sharing_protocol.witnesses import open_cosigned
from tests.protocol import specification
from tests.protocol.forum_log import ForumLog
from tests.protocol.refusals import code_of

PAGE = specification.PAGE.read_text("utf-8")
VECTORS: dict[str, Any] = json.loads(specification.VECTORS.read_text("utf-8"))
REMAKE = "run `python -m tests.protocol.specification` and look at what changed"


def section(number: int) -> str:
    return PAGE.split(f"\n## {number}. ")[1].split("\n## ")[0]


def test_the_vectors_are_what_the_code_makes() -> None:
    made = specification.render(specification.make_vectors())
    assert specification.VECTORS.read_text("utf-8") == made, REMAKE


def test_the_worked_examples_are_what_the_code_makes() -> None:
    assert specification.fill_in(PAGE, specification.make_vectors()) == PAGE, REMAKE
    assert len(specification.examples_in(PAGE)) == PAGE.count("<!-- example:") >= 15


# -- the vectors, used as another client would ---------------------------------------------------------------------


def vector_log() -> ForumLog:
    log = ForumLog()
    for entry in VECTORS["log"]["entries"]:
        log.append(envelope.parse(entry.encode()))
    return log


def test_keys_come_from_their_seeds() -> None:
    for written in VECTORS["keys"]:
        public = PrivateKey.from_seed(bytes.fromhex(written["seed_hex"])).public_key
        assert (str(public), public.key_id) == (written["public_key"], written["key_id"])
    possession = VECTORS["possession"]
    proof = decode_base64(possession["proof"], "the proof")
    assert PublicKey.parse(possession["key"]).verifies(possession["message"].encode(), proof)


def test_the_log_of_the_vectors_is_admissible_and_hashes_as_written() -> None:
    log, written = vector_log(), VECTORS["log"]
    assert log.fingerprint == written["fingerprint"] == parse_fingerprint(written["fingerprint_words"])
    leaves = [merkle.leaf_hash(entry.encode()) for entry in written["entries"]]
    assert [leaf.hex() for leaf in leaves] == written["leaf_hashes_hex"]
    for size in range(len(leaves) + 1):
        assert merkle.root_from_leaves(leaves[:size]).hex() == written["roots_hex"][size]
    root, proofs = bytes.fromhex(written["roots_hex"][5]), {}
    for name in ("inclusion_proof_of_2", "consistency_proof_from_3"):
        proofs[name] = [decode_base64(step, name) for step in written[name]]
    assert merkle.verify_inclusion(leaves[2], 2, 5, proofs["inclusion_proof_of_2"], root)
    before = bytes.fromhex(written["roots_hex"][3])
    assert merkle.verify_consistency(3, 5, before, root, proofs["consistency_proof_from_3"])


def test_the_checkpoint_of_the_vectors_is_believed() -> None:
    written = VECTORS["log"]
    trusted = open_checkpoint(written["checkpoint"].encode(), LogIdentity.model_validate(written["identity"]))
    assert trusted.timestamp == written["timestamp"]
    check_freshness(trusted, written["timestamp"] + 1, 900)
    tile = decode_base64(written["tile"], "the tile")
    tree = VerifiedTree(5, trusted.checkpoint.root, {parse_path(written["tile_path"]): tile}.__getitem__)
    bundle = parse_path(written["bundle_path"])
    assert isinstance(bundle, tiles.Bundle)
    tree.check_leaves(bundle, [merkle.leaf_hash(entry.encode()) for entry in written["entries"]])
    assert checkpoints.parse_text(notes.parse(written["checkpoint"].encode()).text).size == 5


def test_the_cosignature_of_the_vectors_holds() -> None:
    written, log = VECTORS["witness"], LogIdentity.model_validate(VECTORS["log"]["identity"])
    witness = notes.VerifierKey.parse(written["verifier_key"])
    opened = open_cosigned(written["checkpoint"].encode(), log, [witness])
    assert (witness.name, opened.times) == (written["member"], {witness: written["timestamp"]})
    assert open_checkpoint(written["checkpoint"].encode(), log).checkpoint == opened.checkpoint


def test_the_exchanged_keys_of_the_vectors() -> None:
    written, log = VECTORS["exchanged_keys"], vector_log()
    log.append(envelope.parse(written["entry"].encode()))
    assert log.membership.forum is not None
    history = log.membership.forum.logs
    assert history.current == LogIdentity.model_validate(written["identity"])
    assert open_checkpoint(written["checkpoint"].encode(), history).checkpoint.size == log.size == 6
    assert open_checkpoint(VECTORS["log"]["checkpoint"].encode(), history).checkpoint.size == 5
    with pytest.raises(Misbehaviour) as error:
        open_checkpoint(written["refused_checkpoint"].encode(), history)
    assert code_of(error.value) == written["refused_code"]


@pytest.mark.parametrize("number", range(len(VECTORS["requests"])))
def test_the_requests_of_the_vectors_verify(number: int) -> None:
    request = VECTORS["requests"][number]
    keys = {written["key_id"]: PublicKey.parse(written["public_key"]) for written in VECTORS["keys"]}
    headers = [tuple(line.split(": ", 1)) for line in request["headers"].split("\n")]
    verified = verify_request(
        request["method"],
        request["url"],
        [(name, value) for name, value in headers],
        request["content"].encode(),
        keys.__getitem__,
        request["created"],
    )
    assert verified.nonce == request["nonce"]


@pytest.mark.parametrize("refused", VECTORS["refused_envelopes"], ids=lambda refused: refused["why"])
def test_refused_envelopes_are_refused(refused: dict[str, str]) -> None:
    with pytest.raises(Malformed) as error:
        envelope.parse(refused["envelope"].encode())
    assert code_of(error.value) == refused["code"]


@pytest.mark.parametrize("refused", VECTORS["refused_entries"], ids=lambda refused: refused["why"])
def test_refused_entries_are_refused(refused: dict[str, str]) -> None:
    with pytest.raises(ProtocolError) as error:
        vector_log().decide(envelope.parse(refused["entry"].encode()))
    assert code_of(error.value) == refused["code"]


def test_the_record_proof_of_the_vectors_is_believed() -> None:
    written, fingerprint = VECTORS["record_proof"], VECTORS["log"]["fingerprint"]
    proven = record_proof.verify(written["file"].encode(), fingerprint)
    assert (proven.index, proven.entry) == (written["index"], VECTORS["log"]["leaf_hashes_hex"][3])
    assert str(record_proof.decode(written["file"].encode()).proof) == VECTORS["tlog_proof"]


@pytest.mark.parametrize("refused", VECTORS["record_proof"]["refused"], ids=lambda refused: refused["why"])
def test_refused_record_proofs_are_refused(refused: dict[str, str]) -> None:
    with pytest.raises(ProtocolError) as error:
        record_proof.verify(refused["file"].encode(), VECTORS["log"]["fingerprint"])
    assert code_of(error.value) == refused["code"]


@pytest.mark.parametrize("written", VECTORS["evidence"], ids=lambda written: written["why"])
def test_the_evidence_of_the_vectors_is_judged(written: dict[str, Any]) -> None:
    found = evidence.judge(evidence.parse(written["file"].encode()), VECTORS["log"]["fingerprint"])
    assert (found.proven, found.fault.value if found.proven else None) == (written["proven"], written["fault"])


def test_paths_and_names_of_the_vectors() -> None:
    for written in VECTORS["tile_paths"]:
        place = parse_path(written["path"])
        assert (place.index, place.width) == (written["index"], written["width"])
        assert getattr(place, "level", "entries") == written["level"]
    for name, comparable in VECTORS["comparable_names"].items():
        assert comparable_name(name) == comparable


# -- the page names everything ---------------------------------------------------------------------------------------


def codes_in_source() -> set[str]:
    """Every refusal code that the core raises: first arguments of the errors' constructors."""
    package = Path(sharing_protocol.__file__).parent
    raised = re.compile(
        r"(?:Malformed|Refused|InvalidKey|Unproven)"
        r'\(\s*"([a-z_0-9]+)"|Misbehaviour\(\s*Fault\.\w+,\s*"([a-z_]+)"'
    )
    found = set()
    for source in (*package.glob("*.py"), *package.glob("statements/*.py")):
        for first, second in raised.findall(source.read_text("utf-8")):
            found.add(first or second)
    return found


def test_every_code_is_in_the_page() -> None:
    codes = codes_in_source()
    assert len(codes) > 60
    # A tree beyond 2^48 entries and a tile of the wrong length come out as a malformed checkpoint and an altered tile.
    inside = {"tree_too_large", "bad_tile"}
    assert {code for code in codes - inside if f"`{code}`" not in PAGE} == set()


def test_the_status_table_is_the_hubs() -> None:
    rows = re.findall(r"^\| (\d{3}) \| (.*) \|$", section(9), re.MULTILINE)
    listed = {code: int(status) for status, codes in rows for code in re.findall(r"`([a-z_]+)`", codes)}
    assert len(listed) > 50
    for code, status in listed.items():
        made = Malformed(code, "") if status == 400 else Refused(code, "")
        assert status_of(made) == status, code
    unlisted = codes_in_source() - set(listed)
    # What only a client meets, since it is about the hub or its log, has no HTTP status.
    assert {code for code in unlisted if status_of(Refused(code, "")) != 422} == set()


def models_of(annotation: Any) -> set[type[BaseModel]]:
    """Every model that a type mentions, and what those mention."""
    found: set[type[BaseModel]] = set()
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        found.add(annotation)
        for field in annotation.model_fields.values():
            found |= models_of(field.annotation)
    for argument in typing.get_args(annotation):
        found |= models_of(argument)
    return found


MODELS = sorted(models_of(MembershipStatement | RecordStatement), key=lambda model: model.__name__)


@pytest.mark.parametrize("model", MODELS)
def test_every_member_and_type_is_in_the_page(model: type[BaseModel]) -> None:
    for name, field in model.model_fields.items():
        assert f"`{field.alias or name}`" in section(4)
        for literal in typing.get_args(field.annotation):
            if name == "type":
                assert f"`{literal}`" in section(4)


def test_every_choice_is_in_the_page() -> None:
    every = (
        Role,
        Bucket,
        Expectation,
        Marking,
        PatternKind,
        Severity,
        Verdict,
        PlaybookKind,
        Measure,
        RequiredEvidence,
        Act,
    )
    for choices in every:
        for choice in choices:
            assert f"`{choice.value}`" in section(4)


def test_every_route_is_in_the_page() -> None:
    routes = (wire.HEALTH, wire.ENTRIES, wire.CHECKPOINT, wire.COSIGNATURES, wire.PROPOSALS, wire.RECORDS, wire.MEMBERS)
    for route in routes:
        assert re.search(rf"`(GET|POST) {route}", section(9))
    for model in (
        wire.CosignatureReceipt,
        wire.CosignedCheckpoints,
        wire.Receipt,
        wire.Proposal,
        wire.Problem,
        wire.RecordPage,
        wire.RecordDifference,
        wire.Directory,
    ):
        for name in model.model_fields:
            assert f"`{name}`" in section(9), (model.__name__, name)
