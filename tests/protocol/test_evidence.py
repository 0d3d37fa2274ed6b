"""What evidence proves to somebody who was not there: lies by their name, and never an honest hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharing_protocol import checkpoints, envelope, merkle
from sharing_protocol import evidence as evidence_files
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.envelope import STATEMENT_TYPE, Envelope, Signature
from sharing_protocol.errors import Fault, Malformed
from sharing_protocol.evidence import Verdict, judge
from sharing_protocol.keys import encode_base64
from sharing_protocol.log_excerpt import MAX_ENTRIES, read_entries
from sharing_protocol.notes import SignatureType, VerifierKey
from sharing_protocol.strict_json import Json
from sharing_protocol.trust import MAX_SKEW_SECONDS
from tests.protocol.excerpts import NOON, Tree, eventful_log, evidence, lines, reasoned, verdict
from tests.protocol.forum_log import (
    AURORA,
    BOREAL,
    FORUM,
    LOG_KEY,
    ORIGIN,
    PATTERN,
    WITHDRAWAL,
    Document,
    ForumLog,
    add_key_body,
    admins_body,
    admit_body,
    forum_with_records,
    found_body,
    identifier,
    key,
    lab_keys,
    pattern_body,
    reason,
    record_reference,
    revoke_body,
    sighting_body,
    signed,
    withdrawal_body,
)
from tests.protocol.refusals import code_of

HONEST = eventful_log()
TREE = Tree.of(HONEST)
EVERYTHING = range(HONEST.size)
RECORDS = [index for index, made in enumerate(HONEST.entries) if b'"type":"membership.' not in made.payload]


def proven(log: ForumLog, documents: dict[str, str], fault: Fault) -> Verdict:
    found = verdict(log, documents)
    assert (found.proven, found.fault) == (True, fault), found.reasons
    assert found.culprits[0] == "hub"
    return found


def unproven(log: ForumLog, documents: dict[str, str], told: str, fault: Fault = Fault.FORGE) -> None:
    found = verdict(log, documents, fault)
    assert (found.proven, found.fault, found.culprits) == (False, fault, ()), found.reasons
    assert told in " ".join(found.reasons)


# -- an honest hub cannot be accused -----------------------------------------------------------------------------


@settings(max_examples=60)
@given(accused=st.sampled_from(EVERYTHING), context=st.sets(st.sampled_from(EVERYTHING)), whole=st.booleans())
def test_no_excerpt_of_an_honest_log_accuses_its_hub(accused: int, context: set[int], whole: bool) -> None:
    shown = {0} | (set(EVERYTHING) - context if whole else context)
    assert not verdict(HONEST, TREE.accuse(accused, shown - {accused})).proven


@pytest.mark.parametrize("left_out", EVERYTHING)
def test_nor_does_leaving_out_one_entry(left_out: int) -> None:
    for accused in EVERYTHING:
        shown = set(EVERYTHING) - {left_out, accused} | ({0} if accused else set())
        assert not verdict(HONEST, TREE.accuse(accused, shown)).proven, accused


@pytest.mark.parametrize("accused", RECORDS)
def test_nor_does_showing_who_may_speak_and_hardly_a_record(accused: int) -> None:
    membership = set(EVERYTHING) - set(RECORDS)
    unproven(HONEST, TREE.accuse(accused, membership), "rightly there")
    for other in set(RECORDS) - {accused}:
        assert not verdict(HONEST, TREE.accuse(accused, membership | {other})).proven, other


@settings(max_examples=100)
@given(
    sizes=st.tuples(st.integers(0, HONEST.size), st.integers(0, HONEST.size)),
    steps=st.none() | st.integers(1, HONEST.size - 1) | st.lists(st.sampled_from(TREE.leaves), max_size=6),
)
def test_no_two_checkpoints_of_an_honest_log_accuse_its_hub(sizes: tuple[int, int], steps: Any) -> None:
    small, large = min(sizes), max(sizes)
    documents = {"old_checkpoint": TREE.note(small, NOON + small), "new_checkpoint": TREE.note(large, NOON + large)}
    if isinstance(steps, int) and steps < large:
        documents["prefix_proof"] = lines(merkle.prefix_proof(steps, large, TREE.node))
    elif isinstance(steps, list):
        documents["prefix_proof"] = lines(steps)
    unproven(HONEST, documents, "", Fault.FORK)


def test_a_clock_that_was_set_back_is_no_roll_back() -> None:
    documents = {
        "old_checkpoint": TREE.note(9, NOON),
        "new_checkpoint": TREE.note(5, NOON + MAX_SKEW_SECONDS),
    }
    unproven(HONEST, documents, "anybody can show an old one", Fault.ROLL_BACK)


def another_forum(**log: str) -> ForumLog:
    """A forum by somebody else, whose founding statement names whatever log it likes."""
    other = ForumLog()
    body = found_body(["Mallory"], 1)
    body["log"] |= log
    other.say("membership.found", identifier("forum", 0xE), identifier("forum", 0xE), body, ["Mallory"])
    return other


def test_another_forum_that_names_the_hubs_key_accuses_nobody_who_has_not_pinned_it() -> None:
    vkey = VerifierKey(ORIGIN, SignatureType.COSIGNATURE_V1, key("Mallory").public_key)
    other = another_forum(timestamp_key=str(vkey))

    def note(size: int, time: int) -> str:
        signed_head = checkpoints.sign(Checkpoint(ORIGIN, size, merkle.root_from_leaves(TREE.leaves[:size])), LOG_KEY)
        return str(checkpoints.cosign(signed_head, ORIGIN, key("Mallory"), time))

    rolled_back = {"old_checkpoint": note(9, NOON), "new_checkpoint": note(5, NOON + 10_000)}
    entry_0 = TREE.accuse(0, []) | {"checkpoint": note(HONEST.size, NOON)}
    for documents in (rolled_back, entry_0, TREE.accuse(4, [0]) | {"checkpoint": note(HONEST.size, NOON)}):
        made_up = evidence(other, documents)
        assert not judge(made_up).proven
        assert not judge(made_up, HONEST.fingerprint).proven


def test_a_key_under_another_name_accuses_nobody_who_has_not_pinned_its_forum() -> None:
    origin = "evil.example/log"
    alias = VerifierKey(origin, SignatureType.ED25519, LOG_KEY.public_key)
    other = another_forum(origin=origin, log_key=str(alias))
    honest = Checkpoint(ORIGIN, 5, merkle.root_from_leaves(TREE.leaves[:5]))
    renamed = checkpoints.sign(Checkpoint(origin, 5, honest.root), LOG_KEY)
    line = renamed.signatures[0].__class__(origin, alias.key_id, LOG_KEY.sign(honest.text.encode()))
    document = f"{honest.text}\n{line.line}"
    assert not judge(evidence(other, {"checkpoint": document})).proven


def test_made_up_keys_accuse_nobody() -> None:
    forger = Tree(TREE.entries)
    forger.leaves[3] = bytes(32)
    notes = {
        "old_checkpoint": TREE.note(9, log_key=key("Mallory")),
        "new_checkpoint": forger.note(9, log_key=key("Mallory")),
    }
    unproven(HONEST, notes, "did not sign", Fault.FORK)
    one_genuine = {"old_checkpoint": TREE.note(9), "new_checkpoint": forger.note(9, log_key=key("Mallory"))}
    unproven(HONEST, one_genuine, "did not sign", Fault.FORK)


# -- two checkpoints -------------------------------------------------------------------------------------------------


def forked() -> Tree:
    """The same log with another entry 4."""
    return Tree([*TREE.entries[:4], b"another", *TREE.entries[5:]])


def test_one_size_and_two_roots_are_a_fork() -> None:
    documents = {"old_checkpoint": TREE.note(9), "new_checkpoint": forked().note(9)}
    found = proven(HONEST, documents, Fault.FORK)
    assert "which the forum's founding statement names" in found.reasons[0]
    assert "two roots" in found.reasons[1]
    assert judge(evidence(HONEST, documents)).proven, "the log's own key signed both, whichever forum it is"


@pytest.mark.parametrize("size", range(1, HONEST.size))
def test_two_sizes_that_do_not_continue_each_other_are_a_fork(size: int) -> None:
    other = forked()
    documents = {
        "new_checkpoint": TREE.note(size),
        "old_checkpoint": other.note(),
        "prefix_proof": lines(merkle.prefix_proof(size, HONEST.size, other.node)),
    }
    if size <= 4:
        unproven(HONEST, documents, "do not contradict", Fault.FORK)
        return
    proven(HONEST, documents, Fault.FORK)
    unproven(HONEST, {**documents, "prefix_proof": ""}, "do not contradict", Fault.FORK)
    unproven(HONEST, {**documents, "prefix_proof": documents["prefix_proof"] + " "}, "not a tlog-proof", Fault.FORK)


def test_an_older_state_vouched_for_as_the_newest_is_a_roll_back() -> None:
    documents = {
        "old_checkpoint": TREE.note(9, NOON),
        "new_checkpoint": TREE.note(5, NOON + MAX_SKEW_SECONDS + 1),
    }
    proven(HONEST, documents, Fault.ROLL_BACK)
    assert not reasoned(judge(evidence(HONEST, documents))).proven, "whose the timestamp key is hangs on the forum"


# -- one checkpoint --------------------------------------------------------------------------------------------------


def test_a_checkpoint_that_cannot_be_is_forged_if_the_logs_key_signed_it() -> None:
    for head in (Checkpoint("forum.example/other", 5, bytes(32)), Checkpoint(ORIGIN, 0, bytes(32))):
        note = checkpoints.sign(head, LOG_KEY)
        [line] = note.signatures
        line = line.__class__(ORIGIN, VerifierKey(ORIGIN, SignatureType.ED25519, LOG_KEY.public_key).key_id, line.value)
        proven(HONEST, {"checkpoint": f"{head.text}\n{line.line}"}, Fault.FORGE)
        by_another = str(checkpoints.sign(head, key("Mallory")))
        unproven(HONEST, {"checkpoint": by_another}, "anybody could have made it up")


def test_a_checkpoint_without_its_timestamp_or_with_a_bad_signature_proves_nothing() -> None:
    note = TREE.note()
    unproven(HONEST, {"checkpoint": note.rpartition("\u2014")[0]}, "contradicts itself")
    unproven(HONEST, {"checkpoint": note.replace(f"\n{HONEST.size}\n", "\n99\n")}, "does not hold")
    unproven(HONEST, {"checkpoint": "nonsense"}, "not a signed note")


# -- an entry that no honest hub lets in ------------------------------------------------------------------------------


MEMBER = identifier("member", 0xE)
Offer = Callable[[ForumLog], Envelope]


def say(*arguments: Any) -> Offer:
    *rest, signers = arguments
    return lambda log: signed(log.next(*rest), *signers)


def with_changes(signers: list[str], kind: str, record: str, author: str, body: Document, **changes: Any) -> Offer:
    return lambda log: signed({**log.next(kind, record, author, body), **changes}, *signers)


def after(change: Callable[[ForumLog], object], offer: Offer) -> Offer:
    def made(log: ForumLog) -> Envelope:
        change(log)
        return offer(log)

    return made


def revoke(log: ForumLog) -> None:
    log.say("membership.revoke_key", AURORA, AURORA, revoke_body("Aurora analyst"), ["Aurora owner"])


def expel(log: ForumLog) -> None:
    log.say("membership.expel", AURORA, FORUM, reason(), ["Ada", "Ben"])


def withdraw(log: ForumLog) -> None:
    body = withdrawal_body(record_reference(log.head(PATTERN)))
    log.say("withdrawal", WITHDRAWAL, AURORA, body, ["Aurora analyst"])


def unsigned(log: ForumLog) -> Envelope:
    genuine = signed(log.next("pattern", PATTERN, AURORA, pattern_body()), "Aurora analyst")
    return Envelope(genuine.payload, STATEMENT_TYPE, (Signature(genuine.signatures[0].key_id, bytes(64)),))


REVISION = say("pattern", PATTERN, AURORA, pattern_body(title="Revised"), ["Aurora analyst"])
LATER_REVISION = with_changes(
    ["Aurora analyst"], "pattern", PATTERN, AURORA, pattern_body(), version=3, previous="0" * 64
)
TWO = ["Ada", "Ben"]
CONCLUSIVE: dict[str, tuple[Offer, str]] = {
    "signed by a revoked key": (after(revoke, REVISION), "revoked_key"),
    "by an expelled lab": (after(expel, REVISION), "member_expelled"),
    "a revision after the withdrawal": (after(withdraw, REVISION), "withdrawn"),
    "a revision after the withdrawal, and one left out": (after(withdraw, LATER_REVISION), "withdrawn"),
    "another lab's revision, and one left out": (
        with_changes(["Boreal analyst"], "pattern", PATTERN, BOREAL, pattern_body(), version=3, previous="0" * 64),
        "not_the_author"),
    "a forged signature": (unsigned, "bad_signature"),
    "by another lab's key": (say("pattern", PATTERN, AURORA, pattern_body(), ["Boreal analyst"]), "not_the_author"),
    "another lab's record": (say("pattern", PATTERN, BOREAL, pattern_body(), ["Boreal analyst"]), "not_the_author"),
    "signed by an owner": (say("pattern", PATTERN, AURORA, pattern_body(), ["Aurora owner"]), "wrong_role"),
    "two signatures": (
        say("pattern", PATTERN, AURORA, pattern_body(), ["Aurora analyst", "Aurora second"]), "unexpected_signature"),
    "an unknown member": (with_changes(["Aurora analyst"], "pattern", PATTERN, AURORA, pattern_body(), x=1),
                          "invalid_statement"),
    "another forum": (with_changes(["Aurora analyst"], "pattern", PATTERN, AURORA, pattern_body(), forum="0" * 64),
                      "wrong_forum"),
    "another version before": (
        with_changes(["Aurora analyst"], "pattern", PATTERN, AURORA, pattern_body(), previous="0" * 64),
        "previous_mismatch"),
    "valid for too long": (
        say("pattern", PATTERN, AURORA, pattern_body(valid_until="2036-01-01T00:00:00Z"), ["Aurora analyst"]),
        "invalid_dates"),
    "a second founding": (say("membership.found", identifier("forum", 2), identifier("forum", 2), found_body(), TWO),
                          "already_founded"),
    "a name twice": (say("membership.admit", MEMBER, FORUM, admit_body(MEMBER, "AURORA", lab_keys("Evil")), TWO),
                     "name_taken"),
    "a key twice": (
        say("membership.add_key", AURORA, AURORA, add_key_body("Aurora sync", "analyst", AURORA), ["Aurora owner"]),
        "key_reused"),
    "the last owner key": (
        say("membership.revoke_key", AURORA, AURORA, revoke_body("Aurora owner"), ["Aurora owner"]), "no_owner_key"),
    "reinstated while active": (say("membership.reinstate", AURORA, FORUM, reason(), TWO), "bad_transition"),
    "a sighting of other bytes": (
        say("sighting", identifier("sighting", 9), BOREAL,
            sighting_body({"id": PATTERN, "version": 1, "entry": "0" * 64}), ["Boreal analyst"]), "unknown_record"),
    "a withdrawal of other bytes": (
        say("withdrawal", WITHDRAWAL, AURORA,
            withdrawal_body({"id": PATTERN, "version": 1, "entry": "0" * 64}), ["Aurora analyst"]),
        "previous_mismatch"),
    "a withdrawal of what stays": (
        say("withdrawal", WITHDRAWAL, AURORA,
            withdrawal_body({"id": identifier("incident-action", 1), "version": 1, "entry": "0" * 64}),
            ["Aurora analyst"]), "unknown_record"),
    "too few admins for themselves": (say("membership.change_admins", FORUM, FORUM, admins_body(["Ada"], 1), ["Ada"]),
                                      "insufficient_signatures"),
}  # fmt: skip


def offered(offer: Offer) -> tuple[ForumLog, Tree, int]:
    """A log whose hub has let something in at its end."""
    log = forum_with_records()
    log.say("membership.add_key", AURORA, AURORA, add_key_body("Aurora second", "analyst", AURORA), ["Aurora owner"])
    made = offer(log)
    return log, Tree([*(entry.encode() for entry in log.entries), made.encode()]), log.size


@pytest.mark.parametrize(("offer", "code"), CONCLUSIVE.values(), ids=CONCLUSIVE)
def test_what_no_honest_hub_lets_in_is_proven_by_the_entries_around_it(offer: Offer, code: str) -> None:
    log, tree, accused = offered(offer)
    documents = tree.accuse(accused, range(accused))
    found = proven(log, documents, Fault.FORGE)
    assert f"[{code}]" in found.reasons[1]
    assert judge(evidence(log, documents)).proven
    # Nothing of it can be changed: neither the entry, nor its place, nor what it is judged by.
    unproven(log, {**documents, "index": "1"}, "does not lead")
    unproven(log, {**documents, "inclusion_proof": documents["checkpoint"]}, "not a tlog-proof")
    unproven(log, {**documents, "context": "[]"}, "lacks the entries")


INCONCLUSIVE: dict[str, tuple[Offer, str]] = {
    "a key that is not registered": (say("pattern", PATTERN, AURORA, pattern_body(), ["Mallory"]), "unknown_key"),
    "one admin where two must sign": (
        say("membership.suspend", AURORA, FORUM, reason(), ["Ada"]), "insufficient_signatures"),
    "a signature by no admin": (
        say("membership.suspend", AURORA, FORUM, reason(), [*TWO, "Boreal owner"]), "unexpected_signature"),
    "by a suspended lab": (
        after(lambda log: log.say("membership.suspend", AURORA, FORUM, reason(), TWO), REVISION), "member_suspended"),
}  # fmt: skip
CLOSING: dict[str, Callable[[ForumLog], object]] = {
    AURORA: lambda log: log.say("membership.expel", AURORA, FORUM, reason(), TWO),
    FORUM: lambda log: log.say("membership.change_admins", FORUM, FORUM, admins_body(["Ada"], 1), TWO),
}


@pytest.mark.parametrize(("offer", "code"), INCONCLUSIVE.values(), ids=INCONCLUSIVE)
def test_what_rests_on_nothing_being_left_out_is_proven_once_the_history_goes_on(offer: Offer, code: str) -> None:
    log, tree, accused = offered(offer)
    unproven(log, tree.accuse(accused, range(accused)), "rests on no other entry having been left out")
    for subject, closing in CLOSING.items():
        later = log.copy()
        closing(later)
        grown = Tree([*tree.entries, later.entries[-1].encode()])
        documents = grown.accuse(accused, [*range(accused), accused + 1])
        if json.loads(envelope.parse(tree.entries[accused]).payload)["author"] == subject:
            assert f"[{code}]" in proven(log, documents, Fault.FORGE).reasons[1]
        else:
            unproven(log, documents, "rests on no other entry")


def test_a_version_that_was_left_out_proves_nothing() -> None:
    offer = with_changes(["Aurora owner"], "membership.add_key", AURORA, AURORA,
                         add_key_body("Aurora third", "analyst", AURORA), version=4, previous="0" * 64)  # fmt: skip
    log, tree, accused = offered(offer)
    unproven(log, tree.accuse(accused, range(accused)), "rests on no other entry")


@pytest.mark.parametrize("garbage", [b"{}", b"\xff\xfe", b"", b"[" * 60_000])
def test_an_entry_that_is_no_envelope_is_proven_to_be_in_the_log(garbage: bytes) -> None:
    log = forum_with_records()
    tree = Tree([*(entry.encode() for entry in log.entries), garbage])
    [accused] = tree.logged([log.size])
    documents = {
        "entry_base64": encode_base64(garbage),
        "index": str(log.size),
        "checkpoint": tree.note(),
        "inclusion_proof": lines(accused.steps),
        "context": tree.accuse(1, [0])["context"],
    }
    proven(log, documents, Fault.FORGE)


@settings(max_examples=100)
@given(data=st.data())
def test_no_changed_document_accuses_anybody(data: st.DataObject) -> None:
    log, tree, accused = offered(CONCLUSIVE["signed by a revoked key"][0])
    documents = tree.accuse(accused, range(accused))
    name = data.draw(st.sampled_from(sorted(documents)))
    text = documents[name].encode()
    start, removed = data.draw(st.integers(0, len(text) - 1)), data.draw(st.integers(0, 3))
    put_in = data.draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=3)).encode()
    changed = (text[:start] + put_in + text[start + removed :]).decode("utf-8", "replace")
    found = verdict(log, {**documents, name: changed})
    assert found.proven == (meaning(name, changed) == meaning(name, documents[name]))


def meaning(name: str, text: str) -> object:
    """What a document says: JSON can be spelled in more than one way."""
    try:
        return json.loads(text) if name == "context" else text
    except ValueError:
        return None


def test_two_statements_of_one_version_are_the_hubs_doing_and_the_authors() -> None:
    twin = with_changes(["Aurora analyst"], "pattern", PATTERN, AURORA, pattern_body(title="Other"), version=1,
                        previous=None)  # fmt: skip
    log, tree, accused = offered(twin)
    found = proven(log, tree.accuse(accused, range(accused)), Fault.FORGE)
    assert found.culprits == ("hub", AURORA)
    assert f"entries 3 and {accused} are two different statements of one version, both signed" in found.reasons[2]
    # Of membership, the forum's admins are the author; the hub let the second one in.
    again = say("membership.admit", AURORA, FORUM, admit_body(AURORA, "Aurora again", lab_keys("Evil")), TWO)
    log, tree, accused = offered(lambda log: signed(
        {**json.loads(again(log).payload), "version": 1, "previous": None}, *TWO))  # fmt: skip
    assert proven(log, tree.accuse(accused, range(accused)), Fault.FORGE).culprits == ("hub",)


def test_a_version_that_was_taken_accuses_its_author_only_if_both_statements_are_shown() -> None:
    twin = with_changes(["Aurora analyst"], "pattern", PATTERN, AURORA, pattern_body(title="Other"), version=1,
                        previous=None)  # fmt: skip
    log, tree, accused = offered(after(lambda log: log.append(REVISION(log)), twin))
    assert proven(log, tree.accuse(accused, range(accused)), Fault.FORGE).culprits == ("hub", AURORA)
    without_first = proven(log, tree.accuse(accused, set(range(accused)) - {3}), Fault.FORGE)
    assert without_first.culprits == ("hub",)
    assert "[version_conflict]" in without_first.reasons[1]


def test_a_log_that_begins_with_something_else_is_forged() -> None:
    log = forum_with_records()
    tree = Tree([b"{}", *(entry.encode() for entry in log.entries[1:])])
    documents = tree.accuse(0, [])
    assert "not the founding statement" in proven(log, documents, Fault.FORGE).reasons[1]
    proven(log, Tree([b"{}"]).accuse(0, []), Fault.FORGE)
    assert not judge(evidence(log, documents)).proven


def test_a_statement_that_this_version_does_not_know_accuses_nobody() -> None:
    log, tree, accused = offered(with_changes(["Mallory"], "pattern", PATTERN, AURORA, pattern_body(), schema=2))
    unproven(log, tree.accuse(accused, range(accused)), "later version")


def test_what_was_only_seen_is_said_to_be_no_proof() -> None:
    seen = {"path": "tile/entries/000.p/5", "bundle": "AAAA", "checkpoint": TREE.note()}
    unproven(HONEST, seen, "not signed", Fault.ALTER)
    unproven(HONEST, {"checkpoint": TREE.note(), "local_time": "1"}, "known only to who was there", Fault.FREEZE)
    unproven(HONEST, {}, "seen only by who asked", Fault.WITHHOLD)
    unproven(HONEST, {"receipt": "{}"}, "not signed", Fault.FORGE)
    unproven(HONEST, {"old_checkpoint": TREE.note()}, "lacks one of the two", Fault.FORK)


def test_incomplete_and_contradictory_files_prove_nothing() -> None:
    log, tree, accused = offered(CONCLUSIVE["another forum"][0])
    documents = tree.accuse(accused, range(accused))
    without_context = {name: text for name, text in documents.items() if name != "context"}
    unproven(log, without_context, "lacks the entries")
    without_entry = {name: text for name, text in documents.items() if name != "entry"}
    unproven(log, without_entry, "does not lead")
    without_proof = {name: text for name, text in documents.items() if name != "inclusion_proof"}
    unproven(log, without_proof, "interrupted")
    unproven(log, {**documents, "inclusion_proof": documents["inclusion_proof"] + " "}, "not a tlog-proof")
    unproven(log, {**documents, "index": "x"}, "decimal")
    unproven(log, {**documents, "context": tree.accuse(accused, range(1, accused))["context"]}, "lacks the entries")
    unproven(log, {**documents, "context": tree.accuse(0, range(accused + 1))["context"]}, "both as accused")
    unproven(log, {**documents, "context": "{}"}, "not entries of a log")
    unproven(log, {**documents, "context": '[{"index":0}]'}, "exactly index, entry")
    backwards = json.loads(documents["context"])[::-1]
    unproven(log, {**documents, "context": json.dumps(backwards)}, "order of their indices")
    file = evidence(log, documents)
    assert not reasoned(judge(file.model_copy(update={"founding": None}))).proven
    assert not reasoned(judge(file.model_copy(update={"founding": "{}"}))).proven
    assert not reasoned(judge(file, "0" * 64)).proven


def test_files_that_are_no_evidence_are_named_so() -> None:
    whole = evidence(HONEST, {}).model_dump(mode="json")
    files = (b"", b"[]", b"{}", b"\xff", json.dumps({**whole, "more": 1}).encode(),
             json.dumps({**whole, "format": "stillwatch-evidence/1"}).encode(),
             b" " * (evidence_files.MAX_EVIDENCE_BYTES + 1))  # fmt: skip
    for data in files:
        with pytest.raises(Malformed) as refused:
            evidence_files.parse(data)
        assert code_of(refused.value) == "not_evidence"
    assert evidence_files.parse(json.dumps(whole).encode()).documents == {}


def test_an_excerpt_has_at_most_1024_entries() -> None:
    many: list[Json] = [{"index": index, "entry": "", "inclusion_proof": []} for index in range(MAX_ENTRIES + 1)]
    assert len(read_entries(many[:-1])) == MAX_ENTRIES
    with pytest.raises(Malformed, match="at most 1024") as refused:
        read_entries(many)
    assert code_of(refused.value) == "malformed_excerpt"
