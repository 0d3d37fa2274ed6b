"""What a member does with the log of a hub that is honest, and of one that lies in every way we could think of."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from member_client import hub_connection
from member_client.errors import HubUnreachable, VerificationFailed
from member_client.sync.following import acknowledge
from member_client.sync.store import state_of
from sharing_protocol import wire
from sharing_protocol.envelope import STATEMENT_TYPE, Envelope, Signature
from sharing_protocol.errors import Fault
from sharing_protocol.merkle import leaf_hash
from sharing_protocol.tiles import decode_bundle, encode_bundle
from tests.member_client.follower import MAX_AGE, Lab, entries_of, many_patterns
from tests.member_client.lying_hub import Answer, LyingHub
from tests.protocol.forum_log import (
    AURORA,
    BOREAL,
    CREATED,
    FORUM,
    ORIGIN,
    PATTERN,
    Document,
    ForumLog,
    add_key_body,
    admins_body,
    admit_body,
    forum_of_two_labs,
    identifier,
    key,
    lab_keys,
    pattern_body,
    payload,
    reason,
    record_reference,
    revoke_body,
    sighting_body,
    signed,
    withdrawal_body,
)


@pytest.fixture(scope="module")
def long_log() -> ForumLog:
    return many_patterns(forum_of_two_labs(), 600)


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


# -- an honest hub ---------------------------------------------------------------------------------------------


def test_every_entry_is_stored_and_the_records_are_there(lab: Lab, log: ForumLog) -> None:
    report = lab.sync()
    assert (report.previous, report.cursor, report.refused) == (0, log.size, [])
    assert [lab.store.entry(index) for index in range(log.size)] == entries_of(log)
    assert lab.store.membership() == log.membership
    assert {version.title for version in lab.store.versions(type="pattern")} == {f"Pattern {n}" for n in range(7)}


def test_a_second_sync_reads_only_what_is_new(lab: Lab, hub: LyingHub, log: ForumLog) -> None:
    lab.sync()
    hub.requests.clear()
    assert lab.sync().cursor == log.size
    assert not [path for path in hub.requests if path.startswith("/tile/entries")]
    log.say("pattern", PATTERN, AURORA, pattern_body(), ["Aurora analyst"])
    hub.entries = entries_of(log)
    report = lab.sync()
    assert (report.previous, report.cursor) == (log.size - 1, log.size)


def test_revised_withdrawn_and_sighted_records_are_told_apart(lab: Lab, hub: LyingHub, log: ForumLog) -> None:
    log.say("pattern", PATTERN, AURORA, pattern_body(), ["Aurora analyst"])
    first = record_reference(log.head(PATTERN))
    sighting = identifier("sighting", 1)
    log.say("sighting", sighting, BOREAL, sighting_body(first), ["Boreal analyst"])
    log.say("pattern", PATTERN, AURORA, pattern_body(title="Better"), ["Aurora analyst"])
    withdrawal = withdrawal_body(record_reference(log.head(PATTERN)))
    log.say("withdrawal", identifier("withdrawal", 1), AURORA, withdrawal, ["Aurora analyst"])
    hub.entries = entries_of(log)
    lab.sync()
    versions = lab.store.versions(id=PATTERN)
    assert [(version.version, version.newest, version.withdrawn_at) for version in versions] == [
        (1, 2, log.size - 1),
        (2, 2, log.size - 1),
    ]
    assert [version.id for version in lab.store.versions(refers_to=PATTERN, type="sighting")] == [sighting]


def test_what_is_listed_of_a_record_is_what_its_lab_said(lab: Lab, hub: LyingHub, log: ForumLog) -> None:
    body = pattern_body(severity="low", marking="green", techniques=["AML.T0024.002", "AML.T0040"])
    entry = log.say("pattern", PATTERN, AURORA, body, ["Aurora analyst"]).head.entry
    hub.entries = entries_of(log)
    lab.sync()
    [version] = lab.store.versions(id=PATTERN)
    assert (version.index, version.version, version.entry) == (log.size - 1, 1, entry)
    assert (version.author, version.signer) == (AURORA, key("Aurora analyst").public_key.key_id)
    for name in ("kind", "title", "severity", "marking", "valid_from", "valid_until"):
        assert getattr(version, name) == body[name], name
    assert (version.created, version.techniques) == (CREATED, ("AML.T0024.002", "AML.T0040"))


@pytest.mark.parametrize(
    ("day", "state"),
    [(date(2026, 2, 28), "not yet valid"), (date(2026, 3, 1), "active"), (date(2026, 9, 1), "expired")],
)
def test_a_record_is_in_force_from_its_first_day_until_its_last(lab: Lab, day: date, state: str) -> None:
    lab.sync()
    version = lab.store.versions(type="pattern")[0]
    assert (version.valid_from, version.valid_until) == ("2026-03-01T00:00:00Z", "2026-09-01T00:00:00Z")
    moment = datetime(day.year, day.month, day.day, tzinfo=UTC)
    assert state_of(version, lab.store.membership(), moment) == state


def test_however_the_log_grew_the_store_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, long_log: ForumLog
) -> None:
    with LyingHub(entries_of(long_log)) as hub:
        at_once = Lab(tmp_path_factory.mktemp("at-once") / "lab", hub, long_log.fingerprint)
        at_once.sync()

        @settings(max_examples=6, deadline=None)
        @given(cuts=st.lists(st.integers(3, 600), max_size=5), bundles=st.integers(1, 3))
        def in_steps(cuts: list[int], bundles: int) -> None:
            lab = Lab(tmp_path_factory.mktemp("in-steps") / "lab", hub, long_log.fingerprint)
            for hub.shown in [*sorted(cuts), None]:
                lab.sync(bundles_per_batch=bundles)
            assert lab.contents() == at_once.contents()
            lab.store.close()

        in_steps()
        at_once.store.close()


def test_what_was_stored_before_the_hub_broke_is_kept_and_the_next_run_completes(
    tmp_path: Path, long_log: ForumLog
) -> None:
    with LyingHub(entries_of(long_log)) as hub:
        lab = Lab(tmp_path / "lab", hub, long_log.fingerprint)
        hub.lie = lambda path, answer: Answer(500) if path == "/tile/entries/001" else answer
        with pytest.raises(HubUnreachable):
            lab.sync(bundles_per_batch=1)
        assert lab.store.cursor == 256
        hub.lie = lambda path, answer: answer
        assert lab.sync(bundles_per_batch=1).cursor == long_log.size
        clean = Lab(tmp_path / "clean", hub, long_log.fingerprint)
        clean.sync()
        assert lab.contents() == clean.contents()
        lab.store.close()
        clean.store.close()


def test_a_partial_bundle_or_tile_that_became_full_is_fallen_back_from(tmp_path: Path, long_log: ForumLog) -> None:
    with LyingHub(entries_of(long_log)) as hub:
        lab = Lab(tmp_path / "lab", hub, long_log.fingerprint)
        hub.shown = 200
        old = hub.checkpoint()

        def grown_meanwhile(path: str, answer: Answer) -> Answer:
            if path == "/checkpoint":
                return Answer(200, old)
            hub.shown = None
            return Answer(404) if ".p/" in path and "000.p" in path else hub.answer(path)

        hub.lie = grown_meanwhile
        assert lab.sync().cursor == 200
        lab.store.close()


# -- a hub that lies -------------------------------------------------------------------------------------------


def change_bundle(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[str, Answer], Answer]:
    def lie(path: str, answer: Answer) -> Answer:
        if not path.startswith("/tile/entries") or path.endswith(".p/1"):
            return answer
        width = int(path.rpartition("/")[2])
        return Answer(200, encode_bundle(change(decode_bundle(answer.content, width))))

    return lie


def flip(data: bytes) -> bytes:
    return data[:200] + bytes([data[200] ^ 1]) + data[201:]


ALTERATIONS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "an altered entry": lambda entries: [*entries[:-1], flip(entries[-1])],
    "two entries swapped": lambda entries: [*entries[:-2], entries[-1], entries[-2]],
    "an entry twice": lambda entries: [*entries[:-1], entries[-2]],
    "another founding entry": lambda entries: [flip(entries[0]), *entries[1:]],
}


@pytest.mark.parametrize("change", ALTERATIONS.values(), ids=ALTERATIONS)
def test_changed_entries_are_refused(lab: Lab, hub: LyingHub, change: Callable[[list[bytes]], list[bytes]]) -> None:
    hub.lie = change_bundle(change)
    caught = lab.refused_with(Fault.ALTER, "altered_entries")
    kept = json.loads(caught.evidence.read_text())["documents"]
    assert kept.keys() == {"path", "bundle", "checkpoint"}
    assert kept["checkpoint"].startswith(f"{ORIGIN}\n{len(hub.entries)}\n")


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content + b"\0\0",
        lambda content: content[:40],
        lambda content: b"",
    ],
    ids=["cut by a byte", "longer", "cut short", "empty"],
)
def test_a_bundle_of_another_length_is_refused(lab: Lab, hub: LyingHub, damage: Callable[[bytes], bytes]) -> None:
    hub.lie = lambda path, answer: (
        Answer(200, damage(answer.content)) if "entries" in path and not path.endswith(".p/1") else answer
    )
    lab.refused_with(Fault.ALTER, "bad_bundle")


def test_an_altered_tile_is_refused(lab: Lab, hub: LyingHub) -> None:
    lab.sync()
    hub.entries.append(hub.entries[-1])
    hub.lie = lambda path, answer: (
        Answer(200, bytes([answer.content[0] ^ 1]) + answer.content[1:]) if path.startswith("/tile/0/") else answer
    )
    lab.refused_with(Fault.ALTER, "altered_tile")
    assert hub.reminded == []


def test_a_dropped_entry_is_a_fork(lab: Lab, hub: LyingHub) -> None:
    lab.sync()
    del hub.entries[4]
    hub.entries += hub.entries[-2:]
    lab.refused_with(Fault.FORK, "forked")


def test_a_rolled_back_log_is_refused_and_the_last_good_state_kept(lab: Lab, hub: LyingHub) -> None:
    lab.sync()
    hub.shown = len(hub.entries) - 1
    failure = lab.refused_with(Fault.ROLL_BACK, "rolled_back")
    kept = json.loads(failure.evidence.read_text())["documents"]
    assert set(kept) == {"old_checkpoint", "new_checkpoint"}


def test_a_backdated_entry_is_a_fork(lab: Lab, hub: LyingHub) -> None:
    lab.sync()
    hub.entries.insert(3, hub.entries.pop())
    lab.refused_with(Fault.FORK, "forked")


def test_another_history_of_the_same_size_is_a_fork(lab: Lab, hub: LyingHub) -> None:
    lab.sync()
    hub.entries[-1] = flip(hub.entries[-1])
    lab.refused_with(Fault.FORK, "forked")


def test_a_frozen_checkpoint_is_refused(lab: Lab, hub: LyingHub) -> None:
    lab.sync()
    hub.clock = lambda: time.time() - MAX_AGE - 5
    lab.refused_with(Fault.FREEZE, "stale_checkpoint")


def test_a_checkpoint_from_the_far_future_is_refused(lab: Lab, hub: LyingHub) -> None:
    hub.clock = lambda: time.time() + 86_400
    lab.refused_with(Fault.FREEZE, "checkpoint_from_the_future")


def test_a_withheld_entry_is_named_so(lab: Lab, hub: LyingHub) -> None:
    hub.lie = lambda path, answer: (
        Answer(404) if path.startswith("/tile/entries") and not path.endswith(".p/1") else answer
    )
    lab.refused_with(Fault.WITHHOLD, "withheld")


def test_another_forum_is_refused_at_first_contact(tmp_path: Path, hub: LyingHub) -> None:
    stranger = Lab(tmp_path / "stranger", hub, "0" * 64)
    stranger.refused_with(Fault.FORGE, "wrong_forum")
    assert hub.requests == ["/tile/entries/000.p/1"]  # none of its keys was taken for the log's
    stranger.store.close()


def test_a_checkpoint_of_another_origin_is_refused(lab: Lab, hub: LyingHub) -> None:
    hub.lie = lambda path, answer: (
        Answer(200, hub.checkpoint(origin="forum.example/other")) if path == "/checkpoint" else answer
    )
    lab.refused_with(Fault.FORGE, "wrong_origin")


def test_a_checkpoint_with_a_bad_signature_is_refused(lab: Lab, hub: LyingHub) -> None:
    def forge(path: str, answer: Answer) -> Answer:
        if path != "/checkpoint":
            return answer
        return Answer(200, answer.content.replace(b"\n%d\n" % len(hub.entries), b"\n%d\n" % (len(hub.entries) + 1), 1))

    hub.lie = forge
    lab.refused_with(Fault.FORGE, "bad_note_signature")


# -- a hub that lets into the log what has no right to be there --------------------------------------------------


def a_revoked_key(log: ForumLog) -> Envelope:
    log.say("membership.revoke_key", AURORA, AURORA, revoke_body("Aurora analyst"), ["Aurora owner"])
    return signed(log.next("pattern", PATTERN, AURORA, pattern_body()), "Aurora analyst")


def a_self_admitted_member(log: ForumLog) -> Envelope:
    member = identifier("member", 0xE)
    return signed(
        log.next("membership.admit", member, FORUM, admit_body(member, "Evil", lab_keys("Evil"))), "Evil owner"
    )


def one_admin_too_few(log: ForumLog) -> Envelope:
    return signed(log.next("membership.suspend", BOREAL, FORUM, reason()), "Ada")


def another_labs_record(log: ForumLog) -> Envelope:
    return signed(log.next("pattern", identifier("pattern", 0x1000), AURORA, pattern_body()), "Boreal analyst")


def a_version_conflict(log: ForumLog) -> Envelope:
    document = log.next("pattern", identifier("pattern", 0x1000), AURORA, pattern_body(title="Other bytes"))
    return signed({**document, "version": 1, "previous": None}, "Aurora analyst")


def a_forged_signature(log: ForumLog) -> Envelope:
    genuine = signed(log.next("pattern", PATTERN, AURORA, pattern_body()), "Aurora analyst")
    [signature] = genuine.signatures
    return Envelope(genuine.payload, STATEMENT_TYPE, (Signature(signature.key_id, bytes(64)),))


def a_key_that_another_lab_has(log: ForumLog) -> Envelope:
    return signed(
        log.next("membership.add_key", BOREAL, BOREAL, add_key_body("Aurora analyst", "analyst", BOREAL)),
        "Boreal owner",
    )


def a_new_lab_with_a_key_of_another(log: ForumLog) -> Envelope:
    member = identifier("member", 0xE)
    keys = [("Evil owner", "owner"), ("Aurora analyst", "analyst")]
    return signed(log.next("membership.admit", member, FORUM, admit_body(member, "Evil", keys)), "Ada", "Ben")


def an_admin_with_a_labs_key(log: ForumLog) -> Envelope:
    body = admins_body(["Ada", "Ben", "Aurora analyst"], 2)
    return signed(log.next("membership.change_admins", FORUM, FORUM, body), "Ada", "Ben", "Aurora analyst")


def withdrawn(log: ForumLog) -> Document:
    """What could withdraw the record once more."""
    record = identifier("pattern", 0x1000)
    withdrawal = withdrawal_body(record_reference(log.head(record)))
    log.say("withdrawal", identifier("withdrawal", 1), AURORA, withdrawal, ["Aurora analyst"])
    return withdrawal


def a_revision_of_what_was_withdrawn(log: ForumLog) -> Envelope:
    withdrawn(log)
    return signed(log.next("pattern", identifier("pattern", 0x1000), AURORA, pattern_body()), "Aurora analyst")


def a_second_withdrawal(log: ForumLog) -> Envelope:
    again = withdrawn(log)
    return signed(log.next("withdrawal", identifier("withdrawal", 2), AURORA, again), "Aurora analyst")


def an_unknown_field(log: ForumLog) -> Envelope:
    return signed({**log.next("pattern", PATTERN, AURORA, pattern_body()), "extra": 1}, "Aurora analyst")


INTRUDERS: dict[str, tuple[Callable[[ForumLog], Envelope], str]] = {
    "an entry signed by a revoked key": (a_revoked_key, "revoked_key"),
    "a member that admits itself": (a_self_admitted_member, "unknown_key"),
    "a threshold short by one": (one_admin_too_few, "insufficient_signatures"),
    "another lab's record": (another_labs_record, "not_the_author"),
    "two records of one version": (a_version_conflict, "version_conflict"),
    "a key that another lab has": (a_key_that_another_lab_has, "key_reused"),
    "a new lab with a key of another": (a_new_lab_with_a_key_of_another, "key_reused"),
    "an admin with a lab's key": (an_admin_with_a_labs_key, "key_reused"),
    "a revision of what was withdrawn": (a_revision_of_what_was_withdrawn, "withdrawn"),
    "a second withdrawal": (a_second_withdrawal, "withdrawn"),
    "a forged signature": (a_forged_signature, "bad_signature"),
    "an unknown field": (an_unknown_field, "invalid_statement"),
}


@pytest.mark.parametrize(("intruder", "code"), INTRUDERS.values(), ids=INTRUDERS)
def test_an_unauthorised_entry_has_no_effect_is_proven_and_never_wedges(
    lab: Lab, hub: LyingHub, log: ForumLog, intruder: Callable[[ForumLog], Envelope], code: str
) -> None:
    made = intruder(log)
    hub.entries = [*entries_of(log), made.encode()]
    report = lab.sync()
    [refused] = report.rejected
    assert (refused.index, refused.code) == (log.size, code)
    assert lab.store.membership() == log.membership
    [file] = report.evidence
    assert json.loads(file.read_text())["documents"]["entry"] == made.encode().decode()
    assert lab.sync().rejected == [refused], "said again, until somebody was told"
    acknowledge(lab.store, report)
    later = log.copy()
    later.say("pattern", identifier("pattern", 0x77), BOREAL, pattern_body(title="Later"), ["Boreal analyst"])
    hub.entries.append(later.entries[-1].encode())
    again = lab.sync()
    assert (again.rejected, again.cursor) == ([], len(hub.entries))
    assert [version.title for version in lab.store.versions(search="later")] == ["Later"]


@pytest.mark.parametrize("garbage", [b"{}", b"\xff\xfe", b"[" * 60_000, b'{"payload":"","payloadType":"x"}', b""])
def test_an_entry_that_is_no_envelope_is_kept_and_skipped(lab: Lab, hub: LyingHub, garbage: bytes) -> None:
    hub.entries.append(garbage)
    [refused] = lab.sync().rejected
    assert refused.index == len(hub.entries) - 1
    assert lab.store.entry(refused.index) == garbage


def test_a_statement_of_a_later_schema_is_kept_and_not_understood(lab: Lab, hub: LyingHub, log: ForumLog) -> None:
    future = {**log.next("pattern", PATTERN, AURORA, pattern_body()), "schema": 2}
    hub.entries.append(signed(future, "Aurora analyst").encode())
    report = lab.sync()
    assert report.rejected == []
    assert [entry.verdict for entry in report.refused] == ["not understood"]


def test_a_receipt_that_the_log_does_not_honour_is_a_broken_promise(lab: Lab, hub: LyingHub, log: ForumLog) -> None:
    receipt = {
        "index": log.size,
        "entry": leaf_hash(b"promised").hex(),
        "inclusion_proof": [],
        "checkpoint": hub.checkpoint([*hub.entries, b"promised"]).decode(),
        "already_logged": False,
    }
    with lab.store.transaction():
        lab.store.put_receipt(receipt["entry"], log.size, json.dumps(receipt))  # type: ignore[arg-type] # a str here
    lab.refused_with(Fault.ROLL_BACK, "broken_promise")
    log.say("pattern", PATTERN, AURORA, pattern_body(), ["Aurora analyst"])
    hub.entries = entries_of(log)
    with pytest.raises(VerificationFailed) as caught:
        lab.sync()
    assert caught.value.misbehaviour.fault is Fault.FORK


def test_tiles_altered_while_a_receipt_is_checked_are_no_broken_promise(lab: Lab, hub: LyingHub, log: ForumLog) -> None:
    receipt = {
        "index": 4,
        "entry": leaf_hash(hub.entries[4]).hex(),
        "inclusion_proof": [],
        "checkpoint": hub.checkpoint(hub.entries[:5]).decode(),
        "already_logged": False,
    }
    with lab.store.transaction():
        lab.store.put_receipt(leaf_hash(hub.entries[4]).hex(), 4, json.dumps(receipt))
    hub.lie = lambda path, answer: Answer(200, bytes(len(answer.content))) if path.startswith("/tile/0/") else answer
    caught = lab.refused_with(Fault.ALTER, "altered_tile")
    assert "receipt" not in json.loads(caught.evidence.read_text())["documents"]
    hub.lie = lambda path, answer: answer
    assert lab.sync().cursor == log.size
    assert not lab.store.unsettled_receipts()


def test_a_signed_payload_under_another_envelope_type_is_rejected(lab: Lab, hub: LyingHub, log: ForumLog) -> None:
    document = payload(log.next("pattern", PATTERN, AURORA, pattern_body()))
    made = signed(log.next("pattern", PATTERN, AURORA, pattern_body()), "Aurora analyst")
    hub.entries.append(Envelope(document, "text/plain", made.signatures).encode())
    assert [entry.code for entry in lab.sync().rejected] == ["unsupported_payload_type"]


# -- a hub that has forgotten ----------------------------------------------------------------------------------


def halted(code: str) -> Callable[[str, Answer], Answer]:
    problem = wire.Problem(
        type=wire.PROBLEM_TYPE_PREFIX + code, title=code, status=503, code=code, detail="", request_id=""
    )
    told = Answer(503, problem.model_dump_json().encode(), {"Content-Type": wire.PROBLEM_MEDIA_TYPE})
    return lambda path, answer: told


@pytest.mark.parametrize("code", sorted(wire.HALTED))
def test_a_hub_that_forgot_is_shown_what_it_signed(lab: Lab, hub: LyingHub, log: ForumLog, code: str) -> None:
    hub.lie = halted(code)
    with pytest.raises(HubUnreachable):
        lab.sync()
    assert hub.reminded == []  # of nothing, by who knows nothing
    hub.lie = lambda path, answer: answer
    lab.sync()
    trusted = lab.store.trusted()
    assert trusted is not None
    hub.lie = halted(code)
    with pytest.raises(HubUnreachable):
        lab.sync()
    assert hub.reminded == [trusted.note]
    receipt = {
        "index": log.size,
        "entry": leaf_hash(b"promised").hex(),
        "inclusion_proof": [],
        "checkpoint": hub.checkpoint([*hub.entries, b"promised"]).decode(),
        "already_logged": False,
    }
    with lab.store.transaction():
        lab.store.put_receipt(leaf_hash(b"promised").hex(), log.size, json.dumps(receipt))
    with pytest.raises(HubUnreachable):
        lab.sync()
    assert hub.reminded[1:] == [receipt["checkpoint"]]  # the largest of all


def test_a_hub_that_rolled_back_or_forked_is_shown_what_it_signed(lab: Lab, hub: LyingHub) -> None:
    lab.sync()
    trusted = lab.store.trusted()
    assert trusted is not None
    hub.shown = len(hub.entries) - 1
    lab.refused_with(Fault.ROLL_BACK, "rolled_back")
    hub.shown, hub.entries[-1] = None, flip(hub.entries[-1])
    lab.refused_with(Fault.FORK, "forked")
    assert hub.reminded == [trusted.note] * 2
    hub.lie = lambda path, answer: Answer(503, b"busy")
    with pytest.raises(HubUnreachable):
        lab.sync()
    assert len(hub.reminded) == 2


# -- a network that interferes ---------------------------------------------------------------------------------


def bomb(path: str, answer: Answer) -> Answer:
    return Answer(200, gzip.compress(bytes(200 * 1024 * 1024)), {"Content-Encoding": "gzip"})


HINDRANCES: dict[str, Callable[[str, Answer], Answer]] = {
    "an endless redirect": lambda path, answer: Answer(302, b"", {"Location": path}),
    "a redirect that leads nowhere": lambda path, answer: Answer(302, b"", {"Location": "http:elsewhere"}),
    "a redirect to no name": lambda path, answer: Answer(302, b"", {"Location": "http://xn--a/"}),
    "an oversize answer": lambda path, answer: Answer(200, b"x" * 80_000),
    "a decompression bomb": bomb,
    "an encoding nobody asked for": lambda path, answer: Answer(200, answer.content, {"Content-Encoding": "br"}),
    "broken compression": lambda path, answer: Answer(200, b"nonsense", {"Content-Encoding": "zstd"}),
    "an error": lambda path, answer: Answer(503, b"busy"),
}


@pytest.mark.parametrize("hindrance", HINDRANCES.values(), ids=HINDRANCES)
def test_an_answer_that_is_none_is_not_taken_for_a_lie(
    lab: Lab, hub: LyingHub, hindrance: Callable[[str, Answer], Answer]
) -> None:
    lab.sync()
    before = lab.contents()
    hub.lie = hindrance
    with pytest.raises(HubUnreachable):
        lab.sync()
    assert lab.contents() == before


def test_a_slow_drip_ends_at_the_deadline(lab: Lab, hub: LyingHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_connection, "RESPONSE_DEADLINE_SECONDS", 0.3)
    hub.lie = lambda path, answer: Answer(200, answer.content, drip_seconds=0.05)
    started = time.monotonic()
    with pytest.raises(HubUnreachable, match="took longer"):
        lab.sync()
    assert time.monotonic() - started < 10
