"""Proofs and evidence from a log whose keys were exchanged: the forum's own record says whose signature counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sharing_protocol import checkpoints, merkle, record_proof, strict_json
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.errors import Fault, Unproven
from sharing_protocol.evidence import FORUM_RECORD, Verdict
from sharing_protocol.keys import PrivateKey
from sharing_protocol.log_excerpt import LoggedEntry, write_entries
from sharing_protocol.record_proof import RecordProof
from sharing_protocol.tlog_proof import TlogProof
from tests.protocol.excerpts import NOON, Tree, lines, verdict
from tests.protocol.forum_log import (
    AURORA,
    FORUM,
    LOG_KEY,
    ORIGIN,
    PATTERN,
    TIMESTAMP_KEY,
    ForumLog,
    change_log_body,
    forum_of_two_labs,
    identifier,
    key,
    pattern_body,
)
from tests.protocol.refusals import code_of

OLD, NEW = (LOG_KEY, TIMESTAMP_KEY), (key("log 2"), key("timestamp 2"))


def exchanged_log() -> ForumLog:
    """Founding, two labs, a pattern (3), the exchange (4), a pattern (5)."""
    log = forum_of_two_labs()
    log.say("pattern", PATTERN, AURORA, pattern_body(), ["Aurora analyst"])
    log.say("membership.change_log", FORUM, FORUM, change_log_body("2"), ["Ada", "Ben"])
    log.say("pattern", identifier("pattern", 0x101), AURORA, pattern_body(title="Later"), ["Aurora analyst"])
    return log


LOG = exchanged_log()
TREE = Tree.of(LOG)


def note(keys: tuple[PrivateKey, PrivateKey], size: int, root: bytes | None = None, time: int = NOON) -> str:
    head = Checkpoint(ORIGIN, size, root or merkle.root_from_leaves(TREE.leaves[:size]))
    return str(checkpoints.cosign(checkpoints.sign(head, keys[0]), ORIGIN, keys[1], time))


def proof(keys: tuple[PrivateKey, PrivateKey], index: int, membership: list[int]) -> bytes:
    [proven] = TREE.logged([index])
    place = TlogProof(index, proven.steps, note(keys, 6))
    return RecordProof(proven.entry, place, tuple(TREE.logged(membership))).encode()


@pytest.mark.parametrize("index", [3, 5])
def test_a_proof_made_after_the_exchange_holds_by_the_new_keys(index: int) -> None:
    proven = record_proof.verify(proof(NEW, index, [0, 1, 4]), LOG.fingerprint)
    assert proven.after.forum is not None
    assert proven.after.forum.logs.term_at(proven.checkpoint.checkpoint.size).since == 4


def test_a_proof_of_the_exchange_itself_holds() -> None:
    proven = record_proof.verify(proof(NEW, 4, [0]), LOG.fingerprint)
    assert proven.statement.statement.type == "membership.change_log"


@pytest.mark.parametrize(
    ("keys", "membership", "code"),
    [
        (NEW, [0, 1], "unsigned_checkpoint"),  # nothing in it names the new keys
        (OLD, [0, 1, 4], "retired_key"),
        ((NEW[0], OLD[1]), [0, 1, 4], "untimed_checkpoint"),
    ],
)
def test_a_proof_by_other_keys_than_those_of_its_size_is_refused(
    keys: tuple[PrivateKey, PrivateKey], membership: list[int], code: str
) -> None:
    with pytest.raises(Unproven) as caught:
        record_proof.verify(proof(keys, 3, membership), LOG.fingerprint)
    assert code_of(caught.value) == code


def test_an_exchange_that_too_few_signed_names_no_keys_in_a_proof() -> None:
    log = LOG.copy()
    log.say("membership.change_log", FORUM, FORUM, change_log_body("3"), ["Ada", "Ben"])
    forged = log.entries[6]
    one = Tree([*TREE.entries, replace(forged, signatures=forged.signatures[:1]).encode()])
    head = Checkpoint(ORIGIN, 7, merkle.root_from_leaves(one.leaves))
    signed = checkpoints.cosign(checkpoints.sign(head, key("log 3")), ORIGIN, key("timestamp 3"), NOON)
    [proven] = one.logged([3])
    made = RecordProof(proven.entry, TlogProof(3, proven.steps, str(signed)), tuple(one.logged([0, 1, 4, 6]))).encode()
    with pytest.raises(Unproven) as caught:
        record_proof.verify(made, LOG.fingerprint)
    assert code_of(caught.value) == "insufficient_signatures"


# -- evidence ------------------------------------------------------------------------------------------------------


def judged(old: str, new: str, *, record: bool = True, more: dict[str, str] | None = None) -> Verdict:
    documents = {"old_checkpoint": old, "new_checkpoint": new, **(more or {})}
    if record:
        entries = [LoggedEntry(4, TREE.entries[4], ())]
        documents[FORUM_RECORD] = strict_json.dumps(write_entries(entries)).decode()
    return verdict(LOG, documents, Fault.FORK)


def test_a_fork_by_the_new_keys_is_proven_by_the_record_that_names_them() -> None:
    old, new = note(NEW, 6), note(NEW, 6, bytes(32))
    found = judged(old, new)
    assert (found.proven, found.fault, found.culprits) == (True, Fault.FORK, ("hub",))
    assert "which its admins name" in found.reasons[0]
    assert not any("gave such keys up" in reason for reason in found.reasons)
    assert not judged(old, new, record=False).proven


def test_a_fork_from_before_stays_proven_and_says_that_the_keys_may_be_elsewhere() -> None:
    steps = merkle.prefix_proof(3, 6, TREE.node)
    found = judged(note(OLD, 3, bytes(32)), note(NEW, 6), more={"prefix_proof": lines(steps)})
    assert (found.proven, found.fault) == (True, Fault.FORK)
    assert any("gave such keys up at entry 4" in reason for reason in found.reasons)


def test_the_keys_given_up_prove_nothing_against_the_hub_about_later_trees() -> None:
    found = judged(note(NEW, 6), note(OLD, 6, bytes(32)))
    assert not found.proven
    assert "gave up at entry 4" in found.reasons[0]


def test_an_impossible_checkpoint_counts_only_by_keys_that_the_log_still_has() -> None:
    record = strict_json.dumps(write_entries([LoggedEntry(4, TREE.entries[4], ())])).decode()
    for keys, proven in ((NEW, True), (OLD, False)):
        found = verdict(LOG, {"checkpoint": note(keys, 0, b"\1" * 32), FORUM_RECORD: record})
        assert found.proven is proven
