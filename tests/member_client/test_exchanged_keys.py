"""A member follows the log from one pair of keys to the next, by the admins' word alone; and whom it does not."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from member_client.errors import HubUnreachable, VerificationFailed
from sharing_protocol import envelope, evidence
from sharing_protocol.envelope import Signature
from sharing_protocol.errors import Fault
from sharing_protocol.keys import PrivateKey
from sharing_protocol.tiles import encode_bundle
from tests.member_client.command import Command, settle
from tests.member_client.follower import MAX_AGE, Lab, entries_of, many_patterns
from tests.member_client.lying_hub import Answer, LyingHub
from tests.protocol.forum_log import (
    AURORA,
    FORUM,
    LOG_KEY,
    TIMESTAMP_KEY,
    ForumLog,
    admins_body,
    change_log_body,
    forum_of_two_labs,
    found_body,
    identifier,
    key,
    pattern_body,
    signed,
)

OLD = LOG_KEY, TIMESTAMP_KEY
TWO = ["Ada", "Ben"]


def pair(number: str) -> tuple[PrivateKey, PrivateKey]:
    return key(f"log {number}"), key(f"timestamp {number}")


@pytest.fixture
def log() -> ForumLog:
    return many_patterns(forum_of_two_labs(), 7)


@pytest.fixture
def hub(log: ForumLog) -> Iterator[LyingHub]:
    with LyingHub(entries_of(log)) as running:
        yield running


@pytest.fixture
def lab(tmp_path: Path, hub: LyingHub, log: ForumLog) -> Iterator[Lab]:
    """A member that has read the log as it was before."""
    lab = Lab(tmp_path / "lab", hub, log.fingerprint)
    lab.sync()
    yield lab
    lab.store.close()


@pytest.fixture
def late(tmp_path: Path, hub: LyingHub, log: ForumLog) -> Iterator[Lab]:
    """A member that has read nothing yet."""
    late = Lab(tmp_path / "late", hub, log.fingerprint)
    yield late
    late.store.close()


def exchange(log: ForumLog, hub: LyingHub, number: str, more: int = 3) -> None:
    """The keys are exchanged, some patterns come after, and the hub signs all of it with the new keys."""
    log.say("membership.change_log", FORUM, FORUM, change_log_body(number), TWO)
    for _ in range(more):
        body = pattern_body(title=f"Pattern {log.size}")
        log.say("pattern", identifier("pattern", 0x9000 + log.size), AURORA, body, ["Aurora analyst"])
    hub.entries, hub.keys = entries_of(log), pair(number)


# -- following -----------------------------------------------------------------------------------------------------


def test_a_member_follows_the_log_to_its_new_keys(lab: Lab, hub: LyingHub, log: ForumLog) -> None:
    exchange(log, hub, "2")
    report = lab.sync()
    assert (report.previous, report.cursor, report.refused) == (10, 14, [])
    assert lab.store.membership() == log.membership
    exchange(log, hub, "3")
    assert lab.sync().cursor == log.size
    assert lab.sync().refused == []


def test_a_member_that_comes_late_follows_from_the_founding(late: Lab, hub: LyingHub, log: ForumLog) -> None:
    exchange(log, hub, "2")
    assert late.sync().cursor == log.size
    assert late.store.membership() == log.membership


@pytest.mark.parametrize("who", ["lab", "late"])
def test_several_exchanges_at_once(who: str, hub: LyingHub, log: ForumLog, request: pytest.FixtureRequest) -> None:
    member: Lab = request.getfixturevalue(who)
    for number in ("2", "3", "4"):
        exchange(log, hub, number)
    assert member.sync(bundles_per_batch=1).cursor == log.size
    assert member.store.membership() == log.membership


def test_the_admins_who_say_so_may_themselves_be_new(lab: Lab, hub: LyingHub, log: ForumLog) -> None:
    """All that the member knew is gone: the admins have changed, and the new ones exchanged the keys."""
    log.say("membership.change_admins", FORUM, FORUM, admins_body(["Dora", "Emil"], 2), [*TWO, "Dora", "Emil"])
    log.say("membership.change_log", FORUM, FORUM, change_log_body("2"), ["Dora", "Emil"])
    hub.entries, hub.keys = entries_of(log), pair("2")
    assert lab.sync().cursor == log.size


def test_the_statement_may_be_spelt_in_any_json(lab: Lab, hub: LyingHub, log: ForumLog) -> None:
    document = log.next("membership.change_log", FORUM, FORUM, change_log_body("2"))
    payload = json.dumps(document, indent=1).replace("membership.change_log", "\\u006dembership\\u002echange_log")
    log.append(envelope.sign(payload.encode(), [key(name) for name in TWO]))
    hub.entries, hub.keys = entries_of(log), pair("2")
    assert lab.sync().cursor == log.size


def test_an_interrupted_hand_over_goes_on(lab: Lab, hub: LyingHub, log: ForumLog) -> None:
    """It stops after the first batch, which is stored under the new checkpoint, before the statement is."""
    many_patterns_after(log, 300)
    exchange(log, hub, "2")
    served: list[str] = []

    def fail(path: str, answer: Answer) -> Answer:
        served.append(path)
        second = "/tile/entries/001"
        return Answer(503) if path.startswith(second) and sum(p.startswith(second) for p in served) > 1 else answer

    hub.lie = fail
    with pytest.raises(HubUnreachable):
        lab.sync(bundles_per_batch=1)
    assert lab.store.cursor == 256
    hub.lie = lambda path, answer: answer
    assert lab.sync(bundles_per_batch=1).cursor == log.size
    assert lab.store.membership() == log.membership


def many_patterns_after(log: ForumLog, count: int) -> None:
    for number in range(count):
        body = pattern_body(title=f"More {number}")
        log.say("pattern", identifier("pattern", 0x5000 + number), AURORA, body, ["Aurora analyst"])


# -- not following -------------------------------------------------------------------------------------------------


def test_keys_that_nobody_named_are_a_forgery(lab: Lab, late: Lab, hub: LyingHub, log: ForumLog) -> None:
    many_patterns_after(log, 3)
    hub.entries, hub.keys = entries_of(log), pair("2")
    for member in (lab, late):
        member.refused_with(Fault.FORGE, "unsigned_checkpoint")
    hub.entries, hub.keys = entries_of(log), OLD
    assert lab.sync().cursor == log.size


def test_keys_that_nobody_named_sign_nothing_that_is_read_already(lab: Lab, hub: LyingHub, log: ForumLog) -> None:
    hub.keys = pair("2")
    for size in (log.size, log.size - 1):
        hub.shown = size
        hub.requests.clear()
        lab.refused_with(Fault.FORGE, "unsigned_checkpoint")
        assert hub.requests == ["/checkpoint"]  # there is no entry left that could name them


@pytest.mark.parametrize("who", ["lab", "late"])
def test_both_new_keys_have_to_sign(who: str, hub: LyingHub, log: ForumLog, request: pytest.FixtureRequest) -> None:
    member: Lab = request.getfixturevalue(who)
    exchange(log, hub, "2")
    hub.keys = key("log 2"), TIMESTAMP_KEY
    caught = member.refused_with(Fault.FORGE, "unsigned_checkpoint")
    assert "the log's timestamp key did not cosign the checkpoint" in str(caught)
    hub.keys = pair("2")
    assert member.sync().cursor == log.size


def test_keys_that_too_few_admins_named_are_a_forgery(lab: Lab, late: Lab, hub: LyingHub, log: ForumLog) -> None:
    document = log.next("membership.change_log", FORUM, FORUM, change_log_body("2"))
    made = signed(document, *TWO)
    broken = replace(made, signatures=(made.signatures[0], Signature(made.signatures[1].key_id, bytes(64))))
    for attempt in (signed(document, "Ada"), signed(document, "Ada", "Mallory"), signed(document, "log"), broken):
        hub.entries, hub.keys = [*entries_of(log), attempt.encode()], pair("2")
        for member in (lab, late):
            member.refused_with(Fault.FORGE, "unsigned_checkpoint")


def test_a_statement_of_another_forum_names_no_keys(lab: Lab, hub: LyingHub, log: ForumLog) -> None:
    document = log.next("membership.change_log", FORUM, FORUM, change_log_body("2")) | {"forum": "00" * 32}
    hub.entries, hub.keys = [*entries_of(log), signed(document, *TWO).encode()], pair("2")
    lab.refused_with(Fault.FORGE, "unsigned_checkpoint")


def test_new_keys_do_not_lead_away_from_what_was_believed(lab: Lab, hub: LyingHub, log: ForumLog) -> None:
    """The admins' statement is genuine; the history before it is another one."""
    other = many_patterns(forum_of_two_labs(), 6)
    assert other.fingerprint == log.fingerprint
    exchange(other, hub, "2", more=10)
    caught = lab.refused_with(Fault.FORGE, "unsigned_checkpoint")
    assert "does not extend" in str(caught)
    kept = json.loads(caught.evidence.read_text())["documents"]
    assert {"checkpoint", "old_checkpoint", "new_checkpoint"} <= kept.keys()


def test_entries_that_are_not_in_the_signed_tree_name_no_keys(lab: Lab, hub: LyingHub, log: ForumLog) -> None:
    """The checkpoint covers something else; the statement is only shown."""
    before = log.copy()
    exchange(log, hub, "2", more=0)
    shown = entries_of(log)
    many_patterns_after(before, 1)
    hub.entries, hub.keys = entries_of(before), pair("2")

    def slip_in(path: str, answer: Answer) -> Answer:
        return Answer(200, encode_bundle(shown)) if path.startswith("/tile/entries/") else answer

    hub.lie = slip_in
    lab.refused_with(Fault.FORGE, "unsigned_checkpoint")


def test_a_late_member_is_not_led_into_another_forum(late: Lab, hub: LyingHub, log: ForumLog) -> None:
    """At first contact the pinned founding is shown; the tree begins with another one, whose admins name the keys."""
    mine = ForumLog()
    mine.say("membership.found", FORUM, FORUM, found_body(["Mallory"], 1), ["Mallory"])
    mine.say("membership.change_log", FORUM, FORUM, change_log_body("2"), ["Mallory"])
    hub.entries, hub.keys = entries_of(mine), pair("2")
    genuine = encode_bundle(entries_of(log)[:1])

    def first_contact(path: str, answer: Answer) -> Answer:
        return Answer(200, genuine) if path == "/tile/entries/000.p/1" else answer

    hub.lie = first_contact
    late.refused_with(Fault.FORGE, "unsigned_checkpoint")


def test_nor_into_a_tree_that_founds_nothing(late: Lab, hub: LyingHub, log: ForumLog) -> None:
    genuine = encode_bundle(entries_of(log)[:1])
    exchange(log, hub, "2")
    hub.entries[0] = b"{}"
    hub.lie = lambda path, answer: Answer(200, genuine) if path == "/tile/entries/000.p/1" else answer
    late.refused_with(Fault.FORGE, "unsigned_checkpoint")


# -- whoever has the old keys --------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["lab", "late"])
def test_the_old_keys_do_not_sign_what_takes_them_away(
    who: str, hub: LyingHub, log: ForumLog, request: pytest.FixtureRequest
) -> None:
    member: Lab = request.getfixturevalue(who)
    exchange(log, hub, "2")
    hub.keys = OLD
    caught = member.refused_with(Fault.FORGE, "retired_key")
    kept = json.loads(caught.evidence.read_text())["documents"]
    assert kept["entry"].encode() == log.entries[10].encode()
    assert kept.keys() == {"checkpoint", "entry"}
    hub.keys = pair("2")
    assert member.sync().cursor == log.size


def test_the_statement_may_be_the_first_of_its_bundle(lab: Lab, hub: LyingHub, log: ForumLog) -> None:
    many_patterns_after(log, 246)
    exchange(log, hub, "2")
    hub.keys = OLD
    caught = lab.refused_with(Fault.FORGE, "retired_key")
    kept = json.loads(caught.evidence.read_text())["documents"]
    assert kept["entry"].encode() == log.entries[256].encode()


@pytest.mark.parametrize("who", ["lab", "late"])
def test_nothing_stays_of_a_long_run_that_ends_with_the_exchange(
    who: str, hub: LyingHub, log: ForumLog, request: pytest.FixtureRequest
) -> None:
    """Batches were stored under the thief's checkpoint before the statement came: they go again."""
    member: Lab = request.getfixturevalue(who)
    many_patterns_after(log, 300)
    exchange(log, hub, "2")
    hub.keys = OLD
    before = member.contents()
    with pytest.raises(VerificationFailed, match="gave up at entry 310"):
        member.sync(bundles_per_batch=1)
    assert member.contents() == before
    hub.keys = pair("2")
    assert member.sync(bundles_per_batch=1).cursor == log.size
    assert member.store.membership() == log.membership


def test_the_old_keys_are_refused_by_who_has_read_of_it(lab: Lab, hub: LyingHub, log: ForumLog) -> None:
    exchange(log, hub, "2")
    lab.sync()
    for keys in (OLD, (key("log 2"), TIMESTAMP_KEY), (LOG_KEY, key("timestamp 2"))):
        hub.keys = keys
        code = "untimed_checkpoint" if keys[0] != LOG_KEY else "retired_key"
        lab.refused_with(Fault.FORGE, code)
    # Nor do they sign other entries after those that are known, or fewer.
    hub.entries, hub.keys = entries_of(log)[:12], OLD
    lab.refused_with(Fault.FORGE, "retired_key")
    hub.entries = entries_of(log)[:10]
    lab.refused_with(Fault.ROLL_BACK, "rolled_back")


def test_a_second_exchange_takes_the_first_new_keys_away(lab: Lab, hub: LyingHub, log: ForumLog) -> None:
    exchange(log, hub, "2")
    exchange(log, hub, "3")
    hub.keys = pair("2")
    lab.refused_with(Fault.FORGE, "retired_key")


# -- for outsiders -------------------------------------------------------------------------------------------------


def test_what_is_proven_after_an_exchange_holds_for_an_outsider(
    lab: Lab, hub: LyingHub, log: ForumLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exchange(log, hub, "2")
    lab.sync()
    lab.store.close()
    command, file = Command(capsys), tmp_path / "proof.json"
    command("prove", identifier("pattern", 0x1000), "-o", file, "--home", settle(lab))
    told = command("verify-proof", file, "--forum", log.fingerprint)
    assert "which entry 10, signed by the forum's admins, names" in told


@pytest.mark.parametrize("who", ["lab", "late"])
def test_a_lie_by_keys_just_found_comes_with_the_entries_that_name_them(
    who: str, hub: LyingHub, log: ForumLog, request: pytest.FixtureRequest
) -> None:
    member: Lab = request.getfixturevalue(who)
    exchange(log, hub, "2")
    exchange(log, hub, "3")
    hub.clock = lambda: time.time() - 2 * MAX_AGE
    caught = member.refused_with(Fault.FREEZE, "stale_checkpoint")
    kept = evidence.parse(caught.evidence.read_bytes())
    assert kept.founding is not None
    assert kept.founding.encode() == log.entries[0].encode()
    named = json.loads(kept.documents[evidence.FORUM_RECORD])
    assert [entry["index"] for entry in named] == [10, 14]


@pytest.mark.parametrize("who", ["lab", "late"])
def test_a_fork_by_the_new_keys_is_proven_by_the_kept_file(
    who: str, hub: LyingHub, log: ForumLog, request: pytest.FixtureRequest
) -> None:
    member: Lab = request.getfixturevalue(who)
    exchange(log, hub, "2")
    member.sync()
    hub.entries = [*hub.entries[:-1], hub.entries[-2]]
    caught = member.refused_with(Fault.FORK, "forked")
    kept = evidence.parse(caught.evidence.read_bytes())
    found = evidence.judge(kept, log.fingerprint)
    assert (found.proven, found.fault) == (True, Fault.FORK)
    without = kept.model_copy(update={"documents": {**kept.documents, evidence.FORUM_RECORD: "[]"}})
    assert not evidence.judge(without, log.fingerprint).proven
