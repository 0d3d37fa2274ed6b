"""Whether an entry may be the log's next: every refusal of `admission`, by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sharing_protocol import admission
from sharing_protocol.admission import Head
from sharing_protocol.errors import Malformed, Refused
from sharing_protocol.membership import Membership
from sharing_protocol.statements import Unknown, parse
from tests.protocol.forum_log import (
    AURORA,
    BOREAL,
    FORUM,
    PATTERN,
    SIGHTING,
    WITHDRAWAL,
    Document,
    ForumLog,
    admit_body,
    entry_hash,
    forum_of_two_labs,
    forum_with_records,
    found_body,
    identifier,
    lab_keys,
    pattern_body,
    reason,
    record_reference,
    revoke_body,
    sighting_body,
    signed,
    withdrawal_body,
)
from tests.protocol.refusals import code_of, refuses

TWO = ["Ada", "Ben"]
ANOTHER = identifier("pattern", 0x101)


def revision(log: ForumLog, **changes: Any) -> Document:
    return log.next("pattern", PATTERN, AURORA, pattern_body(title="Revised")) | changes


def withdraw(log: ForumLog, record: Document, author: str = AURORA, record_id: str = WITHDRAWAL) -> Document:
    return log.next("withdrawal", record_id, author, withdrawal_body(record))


def test_a_record_goes_from_version_to_version() -> None:
    log = forum_with_records()
    first = log.head(PATTERN)
    decision = log.append(signed(revision(log), "Aurora analyst"))
    assert first is not None
    assert decision.statement == parse(log.entries[-1].payload)
    assert decision.head == Head(PATTERN, "pattern", 2, entry_hash(log.entries[-1]), AURORA)
    assert decision.withdrawn is None
    assert log.entry_of(PATTERN, 1) == first.entry


def test_the_same_version_with_other_bytes_is_refused() -> None:
    log = forum_with_records()
    again = revision(log, version=1, previous=None)
    refuses(log, signed(again, "Aurora analyst"), "version_conflict", "version")


def test_a_version_that_leaves_a_gap_is_refused() -> None:
    log = forum_with_records()
    refuses(log, signed(revision(log, version=3), "Aurora analyst"), "version_gap", "version")
    new = log.next("pattern", ANOTHER, AURORA, pattern_body()) | {"version": 2}
    refuses(log, signed(new, "Aurora analyst"), "version_gap", "version")


@pytest.mark.parametrize("previous", [None, "00" * 32])
def test_a_version_names_the_one_before(previous: str | None) -> None:
    log = forum_with_records()
    refuses(log, signed(revision(log, previous=previous), "Aurora analyst"), "previous_mismatch", "previous")


def test_a_first_version_has_none_before() -> None:
    log = forum_of_two_labs()
    document = log.next("pattern", PATTERN, AURORA, pattern_body()) | {"previous": "00" * 32}
    refuses(log, signed(document, "Aurora analyst"), "previous_mismatch", "previous")


def test_only_the_author_revises_a_record() -> None:
    log = forum_with_records()
    refuses(log, signed(revision(log, author=BOREAL), "Boreal analyst"), "not_the_author", "author")


@pytest.mark.parametrize("record_id", [identifier("sighting", 1), identifier("patterns", 1), AURORA])
def test_an_id_says_what_it_is_of(record_id: str) -> None:
    log = forum_of_two_labs()
    document = log.next("pattern", record_id, AURORA, pattern_body()) | {"version": 1, "previous": None}
    refuses(log, signed(document, "Aurora analyst"), "invalid_statement", "id")


def test_a_membership_entry_is_of_a_member() -> None:
    log = forum_of_two_labs()
    document = log.next("membership.suspend", FORUM, FORUM, reason())
    refuses(log, signed(document, *TWO), "invalid_statement", "id")
    document = log.next("membership.change_admins", AURORA, FORUM, {**found_body(), "reason": "x"})
    document["body"] = {name: document["body"][name] for name in ("admins", "threshold", "reason")}
    refuses(log, signed(document, *TWO), "invalid_statement", "id")


def test_a_lab_is_admitted_once() -> None:
    log = forum_of_two_labs()
    body = admit_body(AURORA, "Aurora again", lab_keys("Cirrus"))
    refuses(log, signed(log.next("membership.admit", AURORA, FORUM, body), *TWO), "version_conflict", "version")
    fresh = log.next("membership.admit", AURORA, FORUM, body) | {"version": 1, "previous": None}
    refuses(log, signed(fresh, *TWO), "version_conflict", "version")


def test_a_membership_statement_is_worth_nothing_in_another_state_of_the_member() -> None:
    log = forum_of_two_labs()
    kept = signed(log.next("membership.suspend", AURORA, FORUM, reason()), *TWO)
    log.append(kept)
    log.say("membership.reinstate", AURORA, FORUM, reason(), TWO)
    refuses(log, kept, "version_conflict", "version")


# -- withdrawals -------------------------------------------------------------------------------------------------


def test_a_withdrawal_ends_a_record() -> None:
    log = forum_with_records()
    decision = log.append(signed(withdraw(log, record_reference(log.head(PATTERN))), "Aurora analyst"))
    assert decision.withdrawn is not None
    assert decision.withdrawn.id == PATTERN
    refuses(log, signed(revision(log), "Aurora analyst"), "withdrawn", "id")
    again = withdraw(log, record_reference(log.head(PATTERN)), record_id=identifier("withdrawal", 0x301))
    refuses(log, signed(again, "Aurora analyst"), "withdrawn", "body.record")


def test_a_withdrawal_has_one_version() -> None:
    log = forum_with_records()
    log.append(signed(withdraw(log, record_reference(log.head(PATTERN))), "Aurora analyst"))
    refuses(log, signed(withdraw(log, record_reference(log.head(SIGHTING))), "Aurora analyst"),
            "version_conflict", "version")  # fmt: skip


def test_only_the_author_withdraws() -> None:
    log = forum_with_records()
    document = withdraw(log, record_reference(log.head(PATTERN)), BOREAL)
    refuses(log, signed(document, "Boreal analyst"), "not_the_author", "body.record")


@pytest.mark.parametrize("record", [ANOTHER, AURORA, FORUM, WITHDRAWAL])
def test_only_records_are_withdrawn(record: str) -> None:
    log = forum_with_records()
    log.append(signed(withdraw(log, record_reference(log.head(SIGHTING)), BOREAL), "Boreal analyst"))
    head = log.head(record)
    reference = record_reference(head) if head else {"id": record, "version": 1, "entry": "00" * 32}
    document = withdraw(log, reference, record_id=identifier("withdrawal", 0x301))
    refuses(log, signed(document, "Aurora analyst"), "unknown_record", "body.record")


def test_a_withdrawal_names_the_newest_version() -> None:
    log = forum_with_records()
    old = record_reference(log.head(PATTERN))
    log.append(signed(revision(log), "Aurora analyst"))
    refuses(log, signed(withdraw(log, old), "Aurora analyst"), "previous_mismatch", "body.record")
    wrong = record_reference(log.head(PATTERN)) | {"entry": old["entry"]}
    refuses(log, signed(withdraw(log, wrong), "Aurora analyst"), "previous_mismatch", "body.record")


# -- sightings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes", [{"version": 2}, {"entry": "00" * 32}, {"id": ANOTHER}, {"id": SIGHTING}, {"id": AURORA}]
)
def test_a_sighting_names_a_pattern_version_of_the_log(changes: Document) -> None:
    log = forum_with_records()
    reference = record_reference(log.head(PATTERN)) | changes
    if "id" in changes and (head := log.head(changes["id"])):
        reference = record_reference(head)
    document = log.next("sighting", identifier("sighting", 9), BOREAL, sighting_body(reference))
    refuses(log, signed(document, "Boreal analyst"), "unknown_record", "body.pattern")


def test_an_older_version_can_have_been_seen() -> None:
    log = forum_with_records()
    old = record_reference(log.head(PATTERN))
    log.append(signed(revision(log), "Aurora analyst"))
    log.say("sighting", identifier("sighting", 9), BOREAL, sighting_body(old), ["Boreal analyst"])


# -- dates and marking -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"valid_until": "2026-03-01T12:00:00Z"}, "body.valid_until"),
        ({"valid_until": "2031-03-05T12:00:01Z"}, "body.valid_until"),
        ({"valid_from": "2026-09-01T00:00:00Z"}, "body.valid_from"),
    ],
)
def test_impossible_dates_of_a_pattern(changes: Document, where: str) -> None:
    log = forum_of_two_labs()
    document = log.next("pattern", PATTERN, AURORA, pattern_body(**changes))
    refuses(log, signed(document, "Aurora analyst"), "invalid_dates", where)


def test_the_longest_validity_is_allowed() -> None:
    log = forum_of_two_labs()
    log.say("pattern", PATTERN, AURORA, pattern_body(valid_until="2031-03-05T12:00:00Z"), ["Aurora analyst"])


@pytest.mark.parametrize(
    "changes",
    [
        {"period_start": "2026-03-01T00:00:00Z"},
        {"period_start": "2026-02-01T00:00:01Z"},
        {"period_start": "2026-02-01T00:01:00Z"},
        {"period_end": "2026-02-28T10:00:00Z"},
        {"period_end": "2026-03-03T00:00:00Z"},
    ],
)
def test_impossible_periods_of_a_sighting(changes: Document) -> None:
    log = forum_with_records()
    body = sighting_body(record_reference(log.head(PATTERN)), **changes)
    document = log.next("sighting", identifier("sighting", 9), BOREAL, body)
    refuses(log, signed(document, "Boreal analyst"), "invalid_dates", "body.period_end")


def test_a_period_may_end_a_day_after_the_sighting_was_written_and_no_later() -> None:
    log = forum_with_records()
    for end, allowed in (("2026-03-02T00:00:00Z", True), ("2026-03-03T00:00:00Z", False)):
        body = sighting_body(record_reference(log.head(PATTERN)), period_end=end)
        document = log.next("sighting", identifier("sighting", 9), BOREAL, body) | {"created": "2026-03-01T00:00:00Z"}
        if allowed:
            log.decide(signed(document, "Boreal analyst"))
        else:
            refuses(log, signed(document, "Boreal analyst"), "invalid_dates", "body.period_end")


def test_red_is_refused_in_the_open_log() -> None:
    log = forum_of_two_labs()
    document = log.next("pattern", PATTERN, AURORA, pattern_body(marking="red"))
    refuses(log, signed(document, "Aurora analyst"), "red_needs_sealing", "body.marking")


# -- what cannot be read -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes", [{"schema": 2}, {"type": "confession"}, {"type": "membership.merge"}, {"schema": 2, "body": 7}]
)
def test_a_later_statement_is_unknown_and_changes_nothing(changes: Document) -> None:
    log = forum_of_two_labs()
    document = log.next("pattern", PATTERN, AURORA, pattern_body()) | changes
    made = signed(document, "Mallory")
    decision = admission.admit(made, log.size, entry_hash(made), log.membership, log)
    assert decision == Unknown(document["schema"], document["type"], document)


def test_bytes_that_are_no_statement() -> None:
    log = forum_of_two_labs()
    made = signed({}, "Ada")
    with pytest.raises(Malformed) as refused:
        admission.admit(made, log.size, entry_hash(made), log.membership, log)
    assert code_of(refused.value) == "malformed_statement"


def test_a_caller_brings_its_own_check_of_signatures_and_its_own_reader() -> None:
    log = forum_of_two_labs()
    made = signed(log.next("pattern", PATTERN, AURORA, pattern_body()), "Aurora analyst")
    admitted = log.decide(made)
    unread = replace(made, payload=b"")
    place = (log.size, entry_hash(made), log.membership, log)
    told = admission.admit(unread, *place, check=lambda *_: True, read=lambda _: admitted.statement)
    assert told == admitted
    with pytest.raises(Refused) as refused:
        admission.admit(made, *place, check=lambda *_: False)
    assert code_of(refused.value) == "bad_signature"


# -- position ----------------------------------------------------------------------------------------------------


def busy_log() -> ForumLog:
    log = forum_with_records()
    log.append(signed(revision(log), "Aurora analyst"))
    log.say("membership.revoke_key", AURORA, AURORA, revoke_body("Aurora sync", 2), ["Aurora owner"])
    log.append(signed(withdraw(log, record_reference(log.head(PATTERN))), "Aurora analyst"))
    log.say("membership.suspend", BOREAL, FORUM, reason(), TWO)
    return log


def test_the_same_entries_lead_to_the_same_state() -> None:
    log, again = busy_log(), ForumLog()
    states: list[Membership] = []
    for made in log.entries:
        again.append(made)
        states.append(again.membership)
    assert states[-1] == log.membership
    assert again.heads == log.heads
    assert again.versions == log.versions
    for count, state in enumerate(states, 1):
        prefix = ForumLog()
        for made in log.entries[:count]:
            prefix.append(made)
        assert prefix.membership == state
