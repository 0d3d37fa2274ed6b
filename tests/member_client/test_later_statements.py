"""Statements of a later schema or type: what rests on one accuses nobody, and a hub cannot hide behind one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from member_client.sync import judging
from member_client.sync.following import acknowledge
from sharing_protocol.envelope import STATEMENT_TYPE, Envelope, Signature
from sharing_protocol.statements import parsing
from tests.member_client.follower import Lab, entries_of
from tests.member_client.lying_hub import LyingHub
from tests.protocol.forum_log import (
    AURORA,
    BOREAL,
    FORUM,
    PATTERN,
    SIGHTING,
    WITHDRAWAL,
    Document,
    ForumLog,
    add_key_body,
    entry_hash,
    forum_with_records,
    identifier,
    pattern_body,
    revoke_body,
    sighting_body,
    signed,
    withdrawal_body,
)


@pytest.fixture
def log() -> ForumLog:
    return forum_with_records()


@pytest.fixture
def hub(log: ForumLog) -> Iterator[LyingHub]:
    with LyingHub(entries_of(log)) as running:
        yield running


@pytest.fixture
def lab(tmp_path: Path, hub: LyingHub, log: ForumLog) -> Iterator[Lab]:
    lab = Lab(tmp_path / "lab", hub, log.fingerprint)
    yield lab
    lab.store.close()


def later(log: ForumLog, record: str, author: str, signer: str, changes: Document | None = None) -> Envelope:
    """The next version of a record, in a schema that is not there yet."""
    document = log.next("pattern", record, author, {"of": "another shape"})
    return signed({**document, "schema": 2, **(changes or {})}, signer)


def after(log: ForumLog, before: Envelope, document: Document) -> Document:
    """The document as the version that comes after an entry which this version of the program cannot read."""
    return {**document, "version": document["version"] + 1, "previous": entry_hash(before)}


def verdicts(lab: Lab, *entries: Envelope) -> list[tuple[str, str]]:
    """What becomes of these at the end of the log."""
    start = len(lab.hub.entries)
    lab.hub.entries += [entry.encode() for entry in entries]
    lab.sync()
    return [(entry.verdict, entry.code) for entry in lab.store.refused(start)]


UNREAD = ("not understood", "unknown_statement_type")
ENDLESS = PATTERN + "0" * 60

# -- what rests on one ---------------------------------------------------------------------------------------------


def the_next_version(log: ForumLog) -> tuple[Envelope, Envelope]:
    before = later(log, PATTERN, AURORA, "Aurora analyst")
    following = after(log, before, log.next("pattern", PATTERN, AURORA, pattern_body()))
    return before, signed(following, "Aurora analyst")


def a_withdrawal_of_it(log: ForumLog) -> tuple[Envelope, Envelope]:
    before = later(log, PATTERN, AURORA, "Aurora analyst")
    body = withdrawal_body({"id": PATTERN, "version": 2, "entry": entry_hash(before)})
    return before, signed(log.next("withdrawal", WITHDRAWAL, AURORA, body), "Aurora analyst")


def a_sighting_of_it(log: ForumLog) -> tuple[Envelope, Envelope]:
    before = later(log, PATTERN, AURORA, "Aurora analyst")
    body = sighting_body({"id": PATTERN, "version": 2, "entry": entry_hash(before)})
    return before, signed(log.next("sighting", identifier("sighting", 0x777), BOREAL, body), "Boreal analyst")


def a_key_of_a_lab_that_changed(log: ForumLog) -> tuple[Envelope, Envelope]:
    before = later(log, AURORA, AURORA, "Aurora owner")
    document = log.next("pattern", identifier("pattern", 0x777), AURORA, pattern_body())
    return before, signed(document, "A key that it registered")


def a_key_of_a_lab_in_a_forum_that_changed(log: ForumLog) -> tuple[Envelope, Envelope]:
    document = log.next("pattern", identifier("pattern", 0x777), AURORA, pattern_body())
    return later(log, FORUM, FORUM, "Ada"), signed(document, "A key that the admins registered")


def an_admin_of_a_forum_that_changed(log: ForumLog) -> tuple[Envelope, Envelope]:
    before = later(log, FORUM, FORUM, "Ada")
    return before, signed(log.next("membership.suspend", BOREAL, FORUM, {"reason": "Agreed"}), "A new admin", "Ada")


RESTING: dict[str, tuple[Callable[[ForumLog], tuple[Envelope, Envelope]], str]] = {
    "the next version": (the_next_version, "version_gap"),
    "a withdrawal of it": (a_withdrawal_of_it, "previous_mismatch"),
    "a sighting of it": (a_sighting_of_it, "unknown_record"),
    "a key of a lab that changed": (a_key_of_a_lab_that_changed, "unknown_key"),
    "a key of a lab in a forum that changed": (a_key_of_a_lab_in_a_forum_that_changed, "unknown_key"),
    "an admin of a forum that changed": (an_admin_of_a_forum_that_changed, "unknown_key"),
}


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(("make", "code"), RESTING.values(), ids=RESTING)
def test_what_rests_on_a_later_statement_accuses_nobody(
    lab: Lab, log: ForumLog, make: Callable[[ForumLog], tuple[Envelope, Envelope]], code: str, at_once: bool
) -> None:
    before, resting = make(log)
    if at_once:
        assert verdicts(lab, before, resting) == [UNREAD, ("not understood", code)]
    else:
        assert verdicts(lab, before) == [UNREAD]
        assert verdicts(lab, resting) == [("not understood", code)]
    report = lab.sync()
    assert (report.rejected, report.evidence) == ([], [])
    [_, refused] = lab.store.refused(log.size)
    assert refused.type == json.loads(resting.payload)["type"]
    assert f"rests on entry {log.size}, which this version does not understand" in refused.reason
    assert lab.store.membership() == log.membership


def test_the_first_of_several_is_named(lab: Lab, log: ForumLog) -> None:
    about_the_lab = later(log, AURORA, AURORA, "Aurora owner")
    before, resting = the_next_version(log)
    verdicts(lab, about_the_lab, before, before, resting)
    assert f"rests on entry {log.size}," in lab.store.refused(log.size + 3)[0].reason
    verdicts(lab, later(log, FORUM, FORUM, "Ada"), resting)
    assert f"rests on entry {log.size}," in lab.store.refused(log.size + 5)[0].reason


def test_what_rests_on_nothing_unread_is_rejected_as_ever(lab: Lab, log: ForumLog) -> None:
    """Neither another record's statement, nor a fault that no statement could mend, is an excuse."""
    before, resting = the_next_version(log)
    elsewhere = later(log, SIGHTING, BOREAL, "Boreal analyst")
    assert verdicts(lab, elsewhere, resting) == [UNREAD, ("rejected", "version_gap")]
    assert lab.store.refused(log.size + 1)[0].type == "pattern"
    [signature] = resting.signatures
    forged = Envelope(resting.payload, STATEMENT_TYPE, (Signature(signature.key_id, bytes(64)),))
    wrong_form = signed({**json.loads(resting.payload), "extra": 1}, "Aurora analyst")
    assert verdicts(lab, before, forged, wrong_form) == [
        UNREAD,
        ("rejected", "bad_signature"),
        ("rejected", "invalid_statement"),
    ]


# -- a hub that makes one up ---------------------------------------------------------------------------------------


def by_nobody(log: ForumLog) -> Envelope:
    return later(log, PATTERN, AURORA, "nobody")


def by_another_lab(log: ForumLog) -> Envelope:
    return later(log, PATTERN, AURORA, "Boreal analyst")


def by_another_lab_in_its_own_name(log: ForumLog) -> Envelope:
    return later(log, PATTERN, BOREAL, "Boreal analyst")


def with_a_forged_signature(log: ForumLog) -> Envelope:
    made = later(log, PATTERN, AURORA, "Aurora analyst")
    [signature] = made.signatures
    return Envelope(made.payload, STATEMENT_TYPE, (Signature(signature.key_id, bytes(64)),))


def by_a_revoked_key(log: ForumLog) -> Envelope:
    return later(log, PATTERN, AURORA, "Aurora sync")


def without_an_author(log: ForumLog) -> Envelope:
    return later(log, PATTERN, AURORA, "Aurora analyst", {"author": None})


def about_no_record(log: ForumLog) -> Envelope:
    return later(log, PATTERN, AURORA, "Aurora analyst", {"id": [PATTERN]})


def about_a_record_with_an_endless_id(log: ForumLog) -> Envelope:
    return later(log, PATTERN, AURORA, "Aurora analyst", {"id": ENDLESS})


PRETEXTS = (
    by_nobody,
    by_another_lab,
    by_another_lab_in_its_own_name,
    with_a_forged_signature,
    by_a_revoked_key,
    without_an_author,
    about_no_record,
    about_a_record_with_an_endless_id,
)


@pytest.mark.parametrize("make", PRETEXTS)
def test_a_made_up_later_statement_is_no_pretext(
    lab: Lab, hub: LyingHub, log: ForumLog, make: Callable[[ForumLog], Envelope]
) -> None:
    if make is by_a_revoked_key:
        log.say("membership.revoke_key", AURORA, AURORA, revoke_body("Aurora sync"), ["Aurora owner"])
        hub.entries = entries_of(log)
    pretext = make(log)
    intruder = signed(after(log, pretext, log.next("pattern", PATTERN, AURORA, pattern_body())), "Aurora analyst")
    assert verdicts(lab, pretext, intruder) == [UNREAD, ("rejected", "version_gap")]
    assert lab.store.unread([PATTERN, ENDLESS]) is None


def test_a_record_that_nobody_wrote_yet_may_begin_with_one(lab: Lab, log: ForumLog) -> None:
    record = identifier("pattern", 0x777)
    before = later(log, record, BOREAL, "Boreal analyst")
    following = after(log, before, log.next("pattern", record, BOREAL, pattern_body()))
    assert verdicts(lab, before, signed(following, "Boreal analyst")) == [UNREAD, ("not understood", "version_gap")]


def test_the_admins_may_speak_of_a_lab(lab: Lab, log: ForumLog) -> None:
    before = later(log, AURORA, FORUM, "Ben")
    document = log.next("pattern", identifier("pattern", 0x777), AURORA, pattern_body())
    assert verdicts(lab, before, signed(document, "Another key")) == [UNREAD, ("not understood", "unknown_key")]


# -- a program that learns -----------------------------------------------------------------------------------------


def knowing_less(monkeypatch: pytest.MonkeyPatch, *kinds: str) -> None:
    """As a version of the program was that did not know these statements."""
    monkeypatch.setattr(parsing, "_TYPES", parsing._TYPES - set(kinds))


@pytest.mark.parametrize("at_a_time", [1, 3, 2048])
def test_a_program_that_learned_judges_as_if_it_had_always_known(
    tmp_path: Path, hub: LyingHub, log: ForumLog, monkeypatch: pytest.MonkeyPatch, at_a_time: int
) -> None:
    log.say("membership.add_key", AURORA, AURORA, add_key_body("second", "analyst", AURORA), ["Aurora owner"])
    log.say("pattern", identifier("pattern", 0x777), AURORA, pattern_body(title="Second"), ["second"])
    body = withdrawal_body({"id": PATTERN, "version": 1, "entry": entry_hash(log.entries[3])})
    log.say("withdrawal", WITHDRAWAL, AURORA, body, ["second"])
    sighting = log.next("sighting", identifier("sighting", 0x777), BOREAL, sighting_body(body["record"]))
    intruder = signed(sighting, "nobody")
    hub.entries = [*entries_of(log)[:6], intruder.encode(), *entries_of(log)[6:]]
    monkeypatch.setattr(judging, "_JUDGED_AT_A_TIME", at_a_time)
    old = Lab(tmp_path / "old", hub, log.fingerprint)
    with monkeypatch.context() as before:
        knowing_less(before, "membership.add_key", "sighting")
        report = old.sync()
        # The key, two sightings of which one is nobody's, and what was signed with the key.
        assert report.counts == {"not understood": 5}
        acknowledge(old.store, report)
        assert old.sync().refused == []
    report = old.sync()
    assert [(entry.index, entry.code) for entry in report.rejected] == [(6, "unknown_key")]
    [file] = report.evidence
    assert json.loads(file.read_text())["documents"]["entry"] == intruder.encode().decode()
    assert old.sync().rejected == report.rejected, "said again, until somebody was told"
    acknowledge(old.store, report)
    assert old.sync().refused == []
    new = Lab(tmp_path / "new", hub, log.fingerprint)
    acknowledge(new.store, new.sync())
    assert old.contents() == new.contents()
    assert old.store.membership() == new.store.membership() == log.membership
    for one in (old, new):
        one.store.close()


def test_what_somebody_was_told_is_not_told_again_after_the_program_learned(
    lab: Lab, hub: LyingHub, log: ForumLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.entries += [b"{}", later(log, PATTERN, AURORA, "Aurora analyst").encode()]
    with monkeypatch.context() as before:
        knowing_less(before, "withdrawal")
        acknowledge(lab.store, lab.sync())
    report = lab.sync()
    assert (report.refused, report.counts) == ([], {})
