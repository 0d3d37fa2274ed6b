"""What appeals and reviews change in the register, and how long it is remembered who was found wrongly decided on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from member_client.decisions.allow_list import Allowed, AllowKind, AllowList
from member_client.decisions.appeals import METHOD, measured, on_organisations, open_appeal, rule_on
from member_client.decisions.in_effect import remember_enforced
from member_client.decisions.matches import SeenPattern
from member_client.decisions.model import Action, State, Subject, SubjectKind
from member_client.decisions.register import Register
from member_client.errors import InvalidInput
from sharing_protocol.statements.handling import Severity
from tests.member_client.decision_worlds import (
    BLOCKING,
    START,
    acting,
    all_of,
    gathered,
    lab,
    make,
    seen,
    standing,
)

DAY = timedelta(days=1)
PATTERN = seen()


@pytest.fixture
def register(tmp_path: Path) -> Iterator[Register]:
    opened = Register(tmp_path / "decisions.sqlite")
    yield opened
    opened.close()


def test_a_new_version_does_not_undo_an_upheld_appeal_without_people(register: Register) -> None:
    make(register, gathered(PATTERN, "a"))
    appeal = open_appeal(register, all_of(register)[0].id, "", "a@example.com", "Ada", BLOCKING, START)
    rule_on(register, appeal.number, "Ada", "A batch customer", BLOCKING, START, upheld=True)
    newer = seen(version=2)
    make(register, gathered(newer, "a"), gathered(newer, "b"))
    assert acting(register, lab(standing(newer))) == [("b", "block")]
    (waiting,) = (one for one in all_of(register) if one.state is State.PROPOSED)
    assert (waiting.subject.id, waiting.needs_approvals) == ("a", 1)
    assert "found wrong" in waiting.policy_reasons[-1]


def test_whom_an_appeal_left_out_stays_out_until_a_person_names_it(register: Register) -> None:
    def decided(pattern: SeenPattern, match: str, *accounts: str, now: datetime = START) -> str:
        make(register, gathered(pattern, "subnet:k", {match: now}, accounts), now=now)
        newest = register.database.execute("SELECT max(number) FROM decisions").fetchone()[0]
        return register.get(newest, BLOCKING, now).id

    def appealed(decision: str, now: datetime) -> None:
        made = open_appeal(register, decision, "b", "a note", "Ada", BLOCKING, now)
        rule_on(register, made.number, "Ada", "A customer", BLOCKING, now, upheld=True)

    def counted(pattern: SeenPattern) -> tuple[int, int]:
        remember_enforced(register, lab(standing(pattern)), later)
        return register.outcomes(pattern.entry)

    later, newer = START + 15 * DAY, seen(version=2)
    appealed(decided(PATTERN, "1", "a", "b"), START)
    remember_enforced(register, lab(standing(PATTERN)), START)
    assert register.outcomes(PATTERN.entry) == (2, 1)
    # after an expiry
    again = decided(PATTERN, "2", "a", "b", now=later)
    assert acting(register, lab(standing(PATTERN)), now=later) == [("a", "block")]
    assert register.spared(register.resolve(again)) == ("b",)
    assert counted(PATTERN) == (3, 1)
    appealed(again, later)
    assert measured(register, PATTERN.entry) == {"reviewed": 1, "true_positives": 0, "method": METHOD}
    # by the next version, of a cluster and of the account alone
    newest = decided(newer, "3", "a", "b", "c", now=later)
    policy = lab(standing(newer))
    assert acting(register, policy, now=later) == [("a", "block"), ("c", "block")]
    assert measured(register, newer.entry) is None
    assert counted(newer) == (2, 0)
    make(register, gathered(newer, "b", {"4": later}), now=later)
    assert acting(register, policy, now=later) == [("a", "block"), ("c", "block")]
    # a person may want it otherwise
    number = register.resolve(newest)
    with register.transaction():
        assert register.approve(number, "Ada", "", BLOCKING, later)
    assert register.spared(number) == ("b",)
    with register.transaction():
        assert register.approve(number, "Ada", "", BLOCKING, later, ["b"])
        with pytest.raises(InvalidInput, match="no appeal left account 'c' out"):
            register.approve(number, "Ada", "", BLOCKING, later, ["c"])
    assert acting(register, policy, now=later) == [(one, "block") for one in "abc"]
    assert counted(newer) == (3, 0)
    decided(seen(version=3), "5", "b", now=later)
    assert acting(register, lab(standing(seen(version=3))), now=later) == [("b", "block")]


def test_an_appeal_against_the_version_before_holds_for_what_the_next_has_decided(register: Register) -> None:
    newer = seen(version=2)
    make(register, gathered(PATTERN, "subnet:k", ["1"], ["a", "b"]))
    appeal = open_appeal(register, all_of(register)[0].id, "b", "a note", "Ada", BLOCKING, START)
    make(register, gathered(newer, "subnet:k", ["2"], ["a", "b"]))
    assert acting(register, lab(standing(newer))) == [("a", "block"), ("b", "block")]
    ruling = rule_on(register, appeal.number, "Ada", "A customer", BLOCKING, START, upheld=True)
    assert acting(register, lab(standing(newer))) == [("a", "block")]
    assert (register.reviewed(PATTERN.entry), register.reviewed(newer.entry)) == ((1, 0), (0, 0))
    # both are told: by either access may have been ended
    assert set(ruling.spared) == {one.id for one in all_of(register)}
    assert rule_on(register, appeal.number, "Ada", "Asked again", BLOCKING, START + DAY, upheld=True) == ruling


def test_a_new_version_that_links_the_same_accounts_by_another_key_does_not_undo_a_verdict(register: Register) -> None:
    newer, newest = seen(version=2), seen(version=3)
    make(register, gathered(PATTERN, "subnet:k", ["1"], ["a", "b"]))
    with register.transaction():
        register.review(1, "wrong", "Ada", "Customers behind one proxy", START)
        register.lift(1, "Ada", "the same", BLOCKING, START)
    make(register, gathered(newer, "payment:k", ["2"], ["b", "c"]), gathered(newer, "payment:l", ["3"], ["c", "d"]))
    make(register, gathered(seen("other"), "payment:k", ["4"], ["a", "b"]))
    policy = lab(standing(newer), standing(newest))
    assert acting(register, policy) == [("c", "block"), ("d", "block")]
    (waiting,) = (one for one in all_of(register) if one.state is State.PROPOSED)
    assert (waiting.subject.id, waiting.needs_approvals) == ("payment:k", 1)
    assert "found wrong" in waiting.policy_reasons[-1]
    # nor does it once it has begun with others
    make(register, gathered(newest, "payment:m", ["5"], ["e"]))
    assert ("e", "block") in acting(register, policy)
    make(register, gathered(newest, "payment:m", ["6"], ["a"]))
    assert {account for account, _ in acting(register, policy)} == {"c", "d"}


def test_who_appeals_for_an_account_hears_of_what_was_decided_on_its_organisation(register: Register) -> None:
    person, organisation = gathered(PATTERN, "a", ["1"]), gathered(seen("q"), "o", ["1"])
    person.facts.add(("a", AllowKind.ORGANISATION, "o"))
    organisation.subject = Subject(SubjectKind.ORGANISATION, "o")
    organisation.facts.add(("b", AllowKind.ORGANISATION, "o"))
    make(register, person, organisation)
    decided = next(one for one in all_of(register) if one.subject.kind is SubjectKind.ORGANISATION)
    assert [one.id for one in on_organisations(register, "a", BLOCKING, START)] == [decided.id]
    assert on_organisations(register, "c", BLOCKING, START) == []
    appeal = open_appeal(register, "", "a", "a note", "Ada", BLOCKING, START)
    ruling = rule_on(register, appeal.number, "Ada", "A customer", BLOCKING, START, upheld=True)
    assert decided.id not in ruling.lifted
    # of one account alone there may be nothing but what its organisation feels
    with pytest.raises(InvalidInput, match=f"{decided.id} is about its organisation 'o'") as refused:
        open_appeal(register, "", "b", "a note", "Ada", BLOCKING, START)
    assert f"appeal open {decided.id}" in refused.value.hint
    late = decided.expires + (BLOCKING.appeal_days + 1) * DAY
    assert on_organisations(register, "a", BLOCKING, late) == []


def test_an_upheld_appeal_ends_what_the_next_version_decided_meanwhile(register: Register) -> None:
    newer = seen(version=2)
    policy = lab(standing(newer))
    make(register, gathered(PATTERN, "a", ["1"]), gathered(PATTERN, "b", ["1"]))
    appealed = next(one.id for one in all_of(register) if one.subject.id == "a")
    appeal = open_appeal(register, appealed, "", "a note", "Ada", BLOCKING, START)
    make(register, gathered(newer, "a", ["2"]), gathered(newer, "b", ["2"]))
    remember_enforced(register, policy, START)
    assert acting(register, policy) == [("a", "block"), ("b", "block")]
    ruling = rule_on(register, appeal.number, "Ada", "A customer", BLOCKING, START, upheld=True)
    assert acting(register, policy) == [("b", "block")]
    newest = next(one for one in all_of(register) if one.subject.id == "a" and one.pattern_version == 2)
    assert ruling.lifted == (appealed, newest.id)
    assert rule_on(register, appeal.number, "Ada", "A customer", BLOCKING, START + DAY, upheld=True) == ruling
    # it was wrong once, and by the version that the appeal is about
    assert (register.reviewed(PATTERN.entry), register.reviewed(newer.entry)) == ((1, 0), (0, 0))
    # what begins later is for people to decide
    make(register, gathered(newer, "a", {"3": START + DAY}), now=START + DAY)
    assert acting(register, policy, now=START + DAY) == [("b", "block")]


def test_whoever_was_found_wrongly_decided_on_is_not_once_more_without_people(register: Register) -> None:
    """Though the action is another when the next decision is made, and becomes what it was by an extension."""

    def wrong(subject: str, *accounts: str) -> None:
        make(register, gathered(PATTERN, subject, ["1"], accounts))
        (found,) = (one.id for one in all_of(register) if one.subject.id == subject)
        appeal = open_appeal(register, found, "", "a note", "Ada", BLOCKING, START)
        rule_on(register, appeal.number, "Ada", "A customer", BLOCKING, START, upheld=True)

    flagging = replace(BLOCKING, actions={Severity.HIGH: Action.FLAG})
    policy, later = lab(standing(PATTERN)), START + DAY
    wrong("a")
    make(register, gathered(PATTERN, "a", {"2": later}), rules=flagging, now=later)
    make(register, gathered(PATTERN, "a", {"3": later}), now=later)
    assert acting(register, policy, now=later) == []
    # or who was on the allow-list meanwhile
    wrong("b")
    listed = AllowList([Allowed(1, AllowKind.ACCOUNT, "b", "Ada", "a trial", START, later + DAY)])
    make(register, gathered(PATTERN, "b", {"2": later}), allowed=listed, now=later)
    make(register, gathered(PATTERN, "b", {"3": later + DAY}), now=later + DAY)
    assert acting(register, policy, now=later + DAY) == []
    # or was one of a cluster
    wrong("subnet:k", "c", "d")
    make(register, gathered(PATTERN, "c", {"2": later}), now=later)
    assert acting(register, policy, now=later) == []
    # or let go by people, before the author wrote another version
    make(register, gathered(PATTERN, "e", ["1"]), gathered(PATTERN, "f", ["1"]))
    (found,) = (one.id for one in all_of(register) if one.subject.id == "e")
    with register.transaction():
        register.lift(register.resolve(found), "Ada", "A trial", BLOCKING, START)
    newer = seen(version=2)
    make(register, gathered(newer, "e", ["1"]), gathered(newer, "f", ["1"]))
    assert acting(register, lab(standing(newer))) == [("f", "block")]


def test_a_closed_decision_can_be_appealed_for_as_long_as_the_policy_says(register: Register) -> None:
    make(register, gathered(PATTERN, "a"))
    late = START + 14 * DAY + 31 * DAY
    with pytest.raises(InvalidInput, match="too late"):
        open_appeal(register, "", "a", "a note", "Ada", BLOCKING, late)
    assert open_appeal(register, "", "a", "a note", "Ada", BLOCKING, late - 2 * DAY).outcome == "open"
