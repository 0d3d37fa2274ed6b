"""The evidence that a lying hub leaves at a member, checked by somebody who was not there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from member_client.errors import HubUnreachable, VerificationFailed
from member_client.sync.accusations import accusations
from sharing_protocol.envelope import Envelope
from sharing_protocol.errors import Fault
from sharing_protocol.evidence import judge, parse
from sharing_protocol.merkle import leaf_hash
from sharing_protocol.tiles import encode_bundle
from tests.member_client.command import Command
from tests.member_client.follower import MAX_AGE, Lab, entries_of, many_patterns
from tests.member_client.lying_hub import Answer, Lie, LyingHub
from tests.member_client.test_following import INTRUDERS, a_version_conflict, change_bundle, flip
from tests.member_client.test_founding_attacks import another_forum, at_first_contact
from tests.protocol.excerpts import verdict
from tests.protocol.forum_log import (
    AURORA,
    FORUM,
    ForumLog,
    add_key_body,
    admins_body,
    forum_of_two_labs,
    forum_with_records,
    reason,
    signed,
)
from tests.protocol.test_evidence import CONCLUSIVE


@pytest.fixture
def log() -> ForumLog:
    return many_patterns(forum_of_two_labs(), 7)


@pytest.fixture
def hub(log: ForumLog) -> Iterator[LyingHub]:
    with LyingHub(entries_of(log)) as running:
        yield running


@pytest.fixture
def lab(tmp_path: Path, hub: LyingHub, log: ForumLog) -> Iterator[Lab]:
    lab = Lab(tmp_path / "lab", hub, log.fingerprint)
    yield lab
    lab.store.close()


def proven(command: Command, file: Path, log: ForumLog, fault: Fault) -> dict[str, Any]:
    """The file must prove this lie of the hub's, to people and to scripts."""
    told: dict[str, Any] = command.json("verify-evidence", file, "--forum", log.fingerprint)
    assert (told["proven"], told["fault"], told["culprits"][0]) == (True, fault.value, "hub"), told
    assert f"Proven: {fault.value}, by the hub" in command("verify-evidence", file, "--forum", log.fingerprint)
    assert not judge(parse(file.read_bytes()), "0" * 64).proven
    return told


def not_proven(command: Command, file: Path, log: ForumLog, why: str) -> None:
    """The file must be said to prove nothing to others, and why."""
    told = command.json("verify-evidence", file, "--forum", log.fingerprint, code=5)
    assert (told["proven"], told["culprits"]) == (False, [])
    assert why in " ".join(told["reasons"])
    assert "Not proven" in command("verify-evidence", file, "--forum", log.fingerprint, code=5)


def caught(lab: Lab) -> Path:
    with pytest.raises(VerificationFailed) as failure:
        lab.sync()
    return failure.value.evidence


# -- histories that contradict each other ------------------------------------------------------------------------


@pytest.mark.parametrize("seen", range(2, 10))
def test_a_history_without_an_entry_is_a_proven_fork_however_much_was_seen(
    lab: Lab, hub: LyingHub, log: ForumLog, command: Command, seen: int
) -> None:
    hub.shown = seen
    lab.sync()
    del hub.entries[1]
    hub.shown = None
    file = caught(lab)
    proven(command, file, log, Fault.FORK)


def test_another_history_of_the_same_size_is_a_proven_fork(
    lab: Lab, hub: LyingHub, log: ForumLog, command: Command
) -> None:
    lab.sync()
    hub.entries[-1] = flip(hub.entries[-1])
    told = proven(command, caught(lab), log, Fault.FORK)
    assert "two roots" in told["reasons"][1]


def test_a_shorter_history_that_is_another_is_a_proven_fork(
    lab: Lab, hub: LyingHub, log: ForumLog, command: Command
) -> None:
    lab.sync()
    del hub.entries[4]
    file = lab.refused_with(Fault.ROLL_BACK, "rolled_back").evidence
    proven(command, file, log, Fault.FORK)


def test_a_rolled_back_log_is_proven_by_the_hubs_own_timestamps_if_they_are_far_apart(
    lab: Lab, hub: LyingHub, log: ForumLog, command: Command
) -> None:
    hub.clock = lambda: time.time() - 600
    lab.sync()
    hub.shown = len(hub.entries) - 1
    file = lab.refused_with(Fault.ROLL_BACK, "rolled_back").evidence
    not_proven(command, file, log, "anybody can show an old one")
    hub.clock = time.time
    told = proven(command, lab.refused_with(Fault.ROLL_BACK, "rolled_back").evidence, log, Fault.ROLL_BACK)
    assert "vouched for 9 as its newest" in told["reasons"][1]


def test_a_broken_promise_is_proven_by_the_receipts_checkpoint(
    lab: Lab, hub: LyingHub, log: ForumLog, command: Command
) -> None:
    promised = leaf_hash(b"promised").hex()
    receipt = {
        "index": log.size,
        "entry": promised,
        "inclusion_proof": [],
        "checkpoint": hub.checkpoint([*hub.entries, b"promised"]).decode(),
        "already_logged": False,
    }
    with lab.store.transaction():
        lab.store.put_receipt(promised, log.size, json.dumps(receipt))
    hub.entries.append(b"something else")
    proven(command, caught(lab), log, Fault.FORK)


# -- entries that have no right to be there ----------------------------------------------------------------------


ONLY_THE_WHOLE_LOG_TELLS = {"unknown_key", "insufficient_signatures"}


@pytest.mark.parametrize(("intruder", "code"), INTRUDERS.values(), ids=INTRUDERS)
def test_an_entry_that_was_let_in_is_proven_where_a_file_can_prove_it(
    lab: Lab, hub: LyingHub, log: ForumLog, command: Command, intruder: Callable[[ForumLog], Envelope], code: str
) -> None:
    made = intruder(log)
    hub.entries = [*entries_of(log), made.encode()]
    [file] = lab.sync().evidence
    if code in ONLY_THE_WHOLE_LOG_TELLS:
        not_proven(command, file, log, "only a member that holds the whole log can tell")
        return
    told = proven(command, file, log, Fault.FORGE)
    assert f"[{code}]" in told["reasons"][1]
    assert told["culprits"] == (["hub", AURORA] if intruder is a_version_conflict else ["hub"])


def test_what_the_whole_log_had_to_tell_is_proven_once_the_history_goes_on(
    lab: Lab, hub: LyingHub, log: ForumLog, command: Command
) -> None:
    one_admin = signed(log.next("membership.suspend", AURORA, FORUM, reason()), "Ada")
    later = log.copy()
    later.say("membership.change_admins", FORUM, FORUM, admins_body(["Ada", "Ben"], 2), ["Ada", "Ben"])
    hub.entries = [*entries_of(log), one_admin.encode(), later.entries[-1].encode()]
    [file] = lab.sync().evidence
    assert "[insufficient_signatures]" in proven(command, file, log, Fault.FORGE)["reasons"][1]


@pytest.mark.parametrize("garbage", [b"{}", b"\xff\xfe", b"", b"\0"])
def test_an_entry_that_is_no_envelope_is_proven(
    lab: Lab, hub: LyingHub, log: ForumLog, command: Command, garbage: bytes
) -> None:
    hub.entries.append(garbage)
    [file] = lab.sync().evidence
    proven(command, file, log, Fault.FORGE)


def test_a_member_keeps_just_what_an_entry_is_judged_by(
    tmp_path: Path,
) -> None:
    """What the protocol's tests prove from a whole log, proven from the excerpts that a member makes of it."""
    log = forum_with_records()
    log.say("membership.add_key", AURORA, AURORA, add_key_body("Aurora second", "analyst", AURORA), ["Aurora owner"])
    entries = entries_of(log)
    # Those that change the log come last, and in this order.
    changing = ["a revision after the withdrawal", "signed by a revoked key", "by an expelled lab"]
    # Whoever has the whole log refuses a gap in the versions as such.
    names = [name for name in CONCLUSIVE if name not in changing and "left out" not in name] + changing
    for name in names:
        known = log.size
        made = CONCLUSIVE[name][0](log)
        entries += [*entries_of(log)[known:], made.encode()]
    with LyingHub(entries) as hub:
        lab = Lab(tmp_path / "lab", hub, log.fingerprint)
        lab.sync()
        rejected = lab.store.refused(0, "rejected")
        assert [entry.code for entry in rejected] == [CONCLUSIVE[name][1] for name in names]
        for name, entry in zip(names, rejected, strict=True):
            [accusation] = accusations(lab.store, [entry])
            found = verdict(log, accusation.evidence)
            assert found.proven, (name, found.reasons)
            assert f"[{entry.code}]" in found.reasons[1]
            context = json.loads(accusation.evidence["context"])
            assert len(context) < lab.store.cursor / 2
        lab.store.close()


def test_while_a_sync_was_interrupted_the_proof_is_not_there_yet(
    tmp_path: Path, log: ForumLog, command: Command
) -> None:
    intruder = a_version_conflict(log)
    with LyingHub([*entries_of(log), intruder.encode(), *[b"filler"] * 300]) as hub:
        lab = Lab(tmp_path / "lab", hub, log.fingerprint)
        hub.lie = lambda path, answer: Answer(500) if path.startswith("/tile/entries/001") else answer
        report = lab.sync(bundles_per_batch=1)
        assert isinstance(report.interruption, HubUnreachable)
        not_proven(command, report.evidence[0], log, "interrupted")
        hub.lie = lambda path, answer: answer
        proven(command, lab.sync(bundles_per_batch=1).evidence[0], log, Fault.FORGE)
        lab.store.close()


def test_a_log_of_another_forum_is_proven_to_whoever_has_pinned_the_forum(
    lab: Lab, hub: LyingHub, log: ForumLog, command: Command
) -> None:
    hub.entries = another_forum()
    hub.lie = at_first_contact(entries_of(log)[0])
    file = lab.refused_with(Fault.FORGE, "wrong_forum").evidence
    proven(command, file, log, Fault.FORGE)
    assert "give its fingerprint" in command("verify-evidence", file, code=5)


# -- what only the member saw --------------------------------------------------------------------------------------


def nonsense(path: str, answer: Answer) -> Answer:
    return Answer(200, b"\0nonsense") if path == "/checkpoint" else answer


def swapped(entries: list[bytes]) -> list[bytes]:
    return [*entries[:-2], entries[-1], entries[-2]]


SEEN: dict[str, tuple[Lie, str]] = {
    "altered entries": (change_bundle(swapped), "is not signed"),
    "a cut bundle": (
        lambda path, answer: (
            Answer(200, answer.content[:-1]) if "entries" in path and ".p/1" not in path[-4:] else answer
        ),
        "is not signed",
    ),
    "an altered tile": (
        lambda path, answer: Answer(200, flip(answer.content)) if path.startswith("/tile/0/") else answer,
        "is not signed",
    ),
    "withheld entries": (
        lambda path, answer: Answer(404) if "entries" in path and ".p/1" not in path[-4:] else answer,
        "seen only by who asked",
    ),
    "a checkpoint that is none": (nonsense, "not a signed note"),
    "another founding": (at_first_contact(encode_bundle([b"{}"])), "lacks the forum's founding statement"),
}


@pytest.mark.parametrize(("lie", "why"), SEEN.values(), ids=SEEN)
def test_what_was_only_seen_is_evidence_for_who_saw_it(
    lab: Lab, hub: LyingHub, log: ForumLog, command: Command, lie: Lie, why: str
) -> None:
    hub.lie = lie
    not_proven(command, caught(lab), log, why)


def test_a_frozen_checkpoint_is_evidence_for_who_saw_it(
    lab: Lab, hub: LyingHub, log: ForumLog, command: Command
) -> None:
    hub.clock = lambda: time.time() - MAX_AGE - 5
    not_proven(command, caught(lab), log, "known only to who was there")


# -- files ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One evidence file of a fork."""
    log = many_patterns(forum_of_two_labs(), 7)
    with LyingHub(entries_of(log)) as hub:
        hub.shown = 6
        lab = Lab(tmp_path_factory.mktemp("fork") / "lab", hub, log.fingerprint)
        lab.sync()
        del hub.entries[2]
        hub.shown = None
        kept: dict[str, Any] = json.loads(caught(lab).read_text())
        lab.store.close()
    return kept


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_no_changed_document_proves_anything(fork: dict[str, Any], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(fork["documents"])))
    text = fork["documents"][name].encode()
    position, bit = data.draw(st.integers(0, len(text) - 1)), data.draw(st.integers(0, 7))
    changed = text[:position] + bytes([text[position] ^ (1 << bit)]) + text[position + 1 :]
    documents = {**fork["documents"], name: changed.decode("utf-8", "replace").replace("\0", "\ufffd")}
    assert judge(parse(json.dumps(fork).encode()), fork["forum"]).proven
    assert not judge(parse(json.dumps({**fork, "documents": documents}).encode()), fork["forum"]).proven


def test_a_file_that_is_no_evidence_is_named(tmp_path: Path, command: Command) -> None:
    file = tmp_path / "file.json"
    for content in (b"", b"{}", b"\xff", b'{"format":"stillwatch-evidence/1"}'):
        file.write_bytes(content)
        assert str(file) in command("verify-evidence", file, code=2)
        assert command.json("verify-evidence", file, code=2)["error"] == "invalid_input"
    assert "cannot read" in command("verify-evidence", tmp_path / "nothing", code=2)
    assert "not a forum's fingerprint" in command("verify-evidence", file, "--forum", "x", code=2)
