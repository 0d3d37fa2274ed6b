"""The rules of an incident's timeline, one by one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from sharing_protocol import statements
from sharing_protocol.content import MAX_CLOCK_SKEW
from sharing_protocol.incidents import (
    MAX_ADDED,
    MAX_OWN_LEVELS,
    MAX_UPDATES,
    SHOWN_WITHOUT_EFFECT,
    Asked,
    status_changes,
    steps_that_matter,
    timeline,
)
from sharing_protocol.statements import MembershipStatement
from tests.protocol.forum_log import FORUM, ForumLog, admit_body, found_body, identifier, reason
from tests.protocol.incident_log import (
    ACT,
    ALARM,
    AURORA,
    BOREAL,
    CIRRUS,
    DELTA,
    HANDLING,
    INCIDENT,
    LEVELS,
    START,
    WATCH,
    IncidentLog,
    minutes,
    protocol,
    reference,
)


@pytest.fixture
def log() -> IncidentLog:
    """An incident by Aurora, under a protocol, that Boreal has joined."""
    log = IncidentLog(protocol())
    log.open()
    log.act(BOREAL, "join")
    return log


@pytest.fixture
def free() -> IncidentLog:
    """The same without a protocol."""
    log = IncidentLog()
    log.open()
    log.act(BOREAL, "join")
    return log


def test_an_incident_begins_at_the_first_level_with_its_opener(log: IncidentLog) -> None:
    found = log.timeline()
    assert (found.id, found.state, found.level, found.opened_by) == (INCIDENT, "open", WATCH, AURORA)
    assert found.labs == (AURORA, BOREAL)
    assert [(step.action, step.in_force) for step in found.steps] == [("open", WATCH), ("join", None)]
    assert found.entry == log.versions[0].entry


def test_only_labs_that_joined_do_anything_but_join(log: IncidentLog) -> None:
    done = [log.act(CIRRUS, "update", note="Here too"), log.act(CIRRUS, "escalate", ALARM)]
    done += [log.act(CIRRUS, "acknowledge", WATCH), log.act(CIRRUS, "close"), log.act(BOREAL, "join")]
    assert list(log.reasons()) == done
    assert log.timeline().labs == (AURORA, BOREAL)
    assert log.timeline().level == WATCH
    log.act(CIRRUS, "join")
    log.act(CIRRUS, "update")
    assert list(log.reasons()) == done


def test_a_level_is_in_force_once_enough_labs_asked_for_it(log: IncidentLog) -> None:
    log.act(AURORA, "escalate", ACT)
    again = log.act(AURORA, "escalate", ACT)
    found = log.timeline()
    assert (found.level, found.asked) == (WATCH, (Asked(ACT, (AURORA,), 2),))
    assert "asked for level 'Act' before" in log.reasons()[again]
    moved = log.act(BOREAL, "escalate", ACT)
    found = log.timeline()
    assert (found.level, found.asked, found.steps[-1].in_force) == (ACT, (), ACT)
    assert moved not in log.reasons()


def test_levels_exist_and_never_go_down(log: IncidentLog) -> None:
    log.act(AURORA, "escalate", ALARM)
    refused = [log.act(lab, "escalate", level) for lab in (AURORA, BOREAL) for level in (ACT, WATCH, ALARM, "Panic")]
    refused.append(log.act(AURORA, "escalate", None))
    assert list(log.reasons()) == refused
    assert log.timeline().level == ALARM
    assert "no level 'Panic'" in log.reasons()[refused[3]]


def test_whoever_opens_cannot_choose_a_level_that_takes_more_than_one_lab() -> None:
    log = IncidentLog(protocol())
    log.open(level=ACT)
    assert (log.timeline().level, log.timeline().asked) == (WATCH, (Asked(ACT, (AURORA,), 2),))
    log.act(BOREAL, "join")
    log.act(BOREAL, "escalate", ACT)
    assert log.timeline().level == ACT
    alone = IncidentLog(protocol())
    alone.open(level=ALARM)
    assert alone.timeline().level == ALARM
    first = IncidentLog(protocol(levels=[{**LEVELS[0], "approvals": 2}]))
    first.open(level=WATCH)
    assert (first.timeline().level, first.timeline().asked) == (WATCH, ())
    unknown = IncidentLog(protocol())
    unknown.open(level="Panic")
    assert unknown.timeline().level == WATCH


def test_a_suspended_lab_takes_its_voice_along(log: IncidentLog) -> None:
    log.act(CIRRUS, "join")
    log.act(BOREAL, "escalate", ACT)
    log.change(BOREAL, active=False)
    log.act(CIRRUS, "escalate", ACT)
    assert log.timeline().level == WATCH
    log.change(BOREAL, active=True)
    assert log.timeline().level == WATCH
    log.act(BOREAL, "escalate", ACT)
    assert log.timeline().level == ACT


def test_acknowledgements_are_due_by_each_lab_that_joined(log: IncidentLog) -> None:
    log.act(AURORA, "escalate", ALARM, at=minutes(10))
    log.act(CIRRUS, "join", at=minutes(25))
    log.act(DELTA, "join", at=minutes(26))
    log.act(DELTA, "acknowledge", ALARM, at=minutes(27))
    due = log.timeline(minutes(41)).due
    assert [(one.lab, one.level, one.by, one.overdue) for one in due] == [
        (BOREAL, ALARM, minutes(40), True),
        (CIRRUS, ALARM, minutes(55), False),
    ]
    assert not log.timeline(minutes(40)).due[0].overdue
    log.act(BOREAL, "acknowledge", ALARM, at=minutes(42))
    log.act(CIRRUS, "acknowledge", ALARM, at=minutes(55))
    assert log.timeline(minutes(100)).due == ()
    assert [step.late for step in log.timeline().steps if step.action == "acknowledge"] == [False, True, False]


def test_only_the_level_in_force_is_acknowledged_and_once(log: IncidentLog) -> None:
    none, other = log.act(BOREAL, "acknowledge"), log.act(BOREAL, "acknowledge", ACT)
    log.act(BOREAL, "acknowledge", WATCH)
    twice = log.act(BOREAL, "acknowledge", WATCH)
    own = log.act(AURORA, "acknowledge", WATCH)
    log.act(AURORA, "escalate", ALARM)
    past = log.act(BOREAL, "acknowledge", WATCH)
    assert list(log.reasons()) == [none, other, twice, own, past]
    assert [one.lab for one in log.timeline().due] == [BOREAL]


def test_a_suspended_lab_owes_nothing_and_has_its_time_after_it_is_back(log: IncidentLog) -> None:
    log.change(BOREAL, active=False)
    assert log.timeline(minutes(1000)).due == ()
    log.change(BOREAL, active=True, at=minutes(2000))
    (due,) = log.timeline(minutes(2001)).due
    assert (due.by, due.overdue) == (minutes(2240), False)


def test_nothing_has_effect_after_the_opener_closed(log: IncidentLog) -> None:
    denied = log.act(BOREAL, "close", note="Over")
    assert "only the lab that opened it" in log.reasons()[denied]
    log.act(AURORA, "close", note="Over")
    refused = [denied]
    for action, level in (("update", None), ("escalate", ALARM), ("acknowledge", WATCH), ("close", None)):
        refused.append(log.act(BOREAL, action, level, patterns=[reference("pattern", 1)]))
    refused += [log.act(CIRRUS, "join"), log.size]
    log.open(title="Not over")
    found = log.timeline(minutes(1000))
    assert (found.state, found.level, found.due, found.patterns) == ("closed", WATCH, (), ())
    assert found.title != "Not over"
    assert list(log.reasons()) == refused


def test_any_lab_that_joined_closes_while_the_opener_is_suspended(log: IncidentLog) -> None:
    log.change(AURORA, active=False)
    assert "had not" in log.denied(CIRRUS, "close")
    log.change(AURORA, active=True)
    assert "only the lab" in log.denied(BOREAL, "close")
    log.change(AURORA, active=False)
    log.act(BOREAL, "close")
    assert log.timeline().state == "closed"


def test_nothing_has_effect_after_the_expiry(log: IncidentLog) -> None:
    end = START + timedelta(days=30)
    log.act(BOREAL, "update", at=end - timedelta(seconds=1))
    refused = [log.act(AURORA, "close", at=end), log.size]
    log.open(at=end, valid_until="2027-01-01T00:00:00Z")
    assert log.reasons() == dict.fromkeys(refused, "the incident had expired")
    found = log.timeline(end)
    assert (found.state, found.expired, found.due) == ("open", True, ())
    assert not log.timeline(end - timedelta(seconds=1)).expired


def test_nobody_goes_back_behind_what_was_said_before(log: IncidentLog) -> None:
    end = START + timedelta(days=30)
    log.act(BOREAL, "update", at=minutes(500))
    log.act(AURORA, "escalate", ALARM, at=minutes(-1000))
    (due,) = log.timeline(minutes(501)).due
    assert (due.by, due.overdue) == (minutes(530), False)
    log.open(at=minutes(600), valid_until="2026-05-04T18:10:00Z")
    log.act(CIRRUS, "update", at=end)
    log.act(BOREAL, "acknowledge", ALARM, at=minutes(10))
    assert (log.timeline().steps[-1].late, log.timeline().steps[-1].without_effect) == (True, "")
    log.act(BOREAL, "update", at=minutes(609))
    log.open(at=minutes(-5), valid_until="2026-05-04T18:05:00Z")
    assert "expired" in log.denied(BOREAL, "update")


def test_a_later_version_tells_it_better_and_lasts_longer(log: IncidentLog) -> None:
    log.open(title="Told better", severity="low", valid_until="2026-08-01T00:00:00Z", level=ALARM, protocol=None)
    log.act(BOREAL, "update", at=START + timedelta(days=60))
    found = log.timeline(START + timedelta(days=60))
    assert (found.title, found.severity, found.expired, log.reasons()) == ("Told better", "low", False, {})
    assert found.level == WATCH
    assert found.protocol == log.versions[0].statement.body.protocol
    assert [step.action for step in found.steps] == ["open", "join", "revise", "update"]


def test_what_a_reported_key_signed_has_no_effect(log: IncidentLog) -> None:
    log.suspect |= {log.act(BOREAL, "escalate", ALARM), log.act(AURORA, "close"), log.versions[0].index}
    found = log.timeline()
    assert (found.state, found.level, len(log.reasons())) == ("open", WATCH, 2)


def test_without_a_protocol_levels_are_any_names_and_one_lab_is_enough(free: IncidentLog) -> None:
    assert free.timeline().level is None
    assert "but no level" in free.denied(BOREAL, "acknowledge", "Orange")
    free.act(BOREAL, "escalate", "Orange")
    free.act(AURORA, "escalate", "Red")
    back = free.act(BOREAL, "escalate", "Orange")
    found = free.timeline()
    assert (found.level, found.due) == ("Red", ())
    assert "never go down" in free.reasons()[back]
    chosen = IncidentLog()
    chosen.open(level="Orange")
    assert chosen.timeline().level == "Orange"


def test_patterns_and_sightings_are_gathered_in_log_order_and_once(log: IncidentLog) -> None:
    one, two, seen = reference("pattern", 1), reference("pattern", 2), reference("sighting", 3)
    log.act(BOREAL, "update", patterns=[two], sightings=[seen])
    log.act(CIRRUS, "update", patterns=[reference("pattern", 4)])
    log.open(patterns=[one, two])
    found = log.timeline()
    assert [pattern.id for pattern in found.patterns] == [two["id"], one["id"]]
    assert [sighting.id for sighting in found.sightings] == [seen["id"]]


def test_acts_on_another_incident_are_not_this_ones(log: IncidentLog) -> None:
    log.act(CIRRUS, "join", incident=reference("incident", 99))
    assert list(log.reasons().values()) == ["it is about another incident"]


def test_there_is_no_timeline_without_a_first_version(log: IncidentLog) -> None:
    log.open()
    for versions in ([], log.versions[1:]):
        with pytest.raises(ValueError, match="first version"):
            timeline(versions, log.acts, None, START)


def test_a_level_of_an_act_that_has_none_is_not_told(log: IncidentLog) -> None:
    log.act(BOREAL, "update", ALARM)
    log.act(AURORA, "close", ALARM)
    found = log.timeline()
    assert (found.state, found.level, log.reasons()) == ("closed", WATCH, {})
    assert [step.level for step in found.steps] == [None] * 4


def test_status_changes_are_read_from_the_membership_log() -> None:
    log, lab = ForumLog(), identifier("member", 1)
    log.say("membership.found", FORUM, FORUM, found_body(["Admin A"], 1), ["Admin A"])
    log.say("membership.admit", lab, FORUM, admit_body(lab, "Lab", [("Key 1", "owner")]), ["Admin A"])
    for what in ("suspend", "reinstate", "expel"):
        log.say(f"membership.{what}", lab, FORUM, reason(), ["Admin A"])
    said = [statements.parse(entry.payload) for entry in log.entries]
    found = status_changes((index, one) for index, one in enumerate(said) if isinstance(one, MembershipStatement))
    assert [(one.index, one.lab, one.active) for one in found] == [(2, lab, False), (3, lab, True), (4, lab, False)]


def test_an_acts_own_validity_does_not_take_back_what_it_did(log: IncidentLog) -> None:
    log.act(AURORA, "escalate", ALARM, **{**HANDLING, "valid_until": "2026-05-04T09:00:00Z"})
    assert log.timeline(minutes(600)).level == ALARM


# -- when it was -----------------------------------------------------------------------------------------------------


def test_a_backdated_escalation_counts_from_when_the_log_can_have_had_it(log: IncidentLog) -> None:
    log.elsewhere(minutes(600))
    log.act(AURORA, "escalate", ALARM, at=minutes(2))
    found = log.timeline(minutes(601))
    logged = minutes(600) - MAX_CLOCK_SKEW
    assert [(one.lab, one.by, one.overdue) for one in found.due] == [(BOREAL, logged + timedelta(minutes=30), False)]
    assert (found.steps[-1].created, found.steps[-1].logged) == (minutes(2), logged)
    log.act(BOREAL, "acknowledge", ALARM, at=minutes(620))
    assert not log.timeline().steps[-1].late


def test_an_acknowledgement_is_late_whatever_its_author_dates_it(log: IncidentLog) -> None:
    log.act(AURORA, "escalate", ALARM, at=minutes(10))
    log.elsewhere(minutes(100))
    log.act(BOREAL, "acknowledge", ALARM, at=minutes(11))
    assert log.timeline().steps[-1].late


def test_a_backdated_opening_and_a_late_join_owe_from_when_the_log_can_have_had_them() -> None:
    log = IncidentLog(protocol())
    log.elsewhere(minutes(1000))
    log.open(at=minutes(-5000))
    log.act(BOREAL, "join", at=minutes(-4000))
    (due,) = log.timeline(minutes(1001)).due
    assert due.by == minutes(1240) - MAX_CLOCK_SKEW


def test_a_clock_that_is_ahead_by_what_is_allowed_moves_nothing(log: IncidentLog) -> None:
    log.elsewhere(minutes(10) + MAX_CLOCK_SKEW)
    log.act(AURORA, "escalate", ALARM, at=minutes(10))
    assert log.timeline().steps[-1].logged == minutes(10)


def test_what_others_say_elsewhere_does_not_let_an_incident_expire(log: IncidentLog) -> None:
    log.elsewhere(START + timedelta(days=400))
    log.act(BOREAL, "update", at=minutes(5))
    log.act(AURORA, "close", at=minutes(6))
    assert (log.reasons(), log.timeline().state) == ({}, "closed")


# -- how much --------------------------------------------------------------------------------------------------------


def test_of_one_lab_only_so_many_updates_have_effect_and_others_still_speak(log: IncidentLog) -> None:
    done = [log.act(BOREAL, "update", note=f"{number}") for number in range(MAX_UPDATES + 20)]
    assert list(log.reasons()) == done[MAX_UPDATES:]
    assert f"{MAX_UPDATES} updates" in log.reasons()[done[-1]]
    for action, level in (("acknowledge", WATCH), ("escalate", ALARM)):
        assert log.act(BOREAL, action, level) not in log.reasons()
    log.act(AURORA, "update")
    log.act(AURORA, "close")
    assert log.timeline().state == "closed"
    steps, left_out = steps_that_matter(log.timeline().steps)
    assert left_out == {BOREAL: 20 - SHOWN_WITHOUT_EFFECT}
    assert len(steps) + 20 - SHOWN_WITHOUT_EFFECT == len(log.timeline().steps)
    assert [one for one in log.timeline().steps if not one.without_effect] == [
        one for one in steps if not one.without_effect
    ]


def test_whoever_did_not_join_is_not_shown_a_thousand_times(log: IncidentLog) -> None:
    for _ in range(30):
        log.act(CIRRUS, "update")
    log.act(DELTA, "update")
    steps, left_out = steps_that_matter(log.timeline().steps)
    assert left_out == {CIRRUS: 30 - SHOWN_WITHOUT_EFFECT}
    assert [step.lab for step in steps].count(DELTA) == 1
    assert steps_that_matter(steps) == (steps, {})


def test_without_a_protocol_one_lab_brings_only_so_many_levels_in_force(free: IncidentLog) -> None:
    for number in range(MAX_OWN_LEVELS + 5):
        free.act(BOREAL, "escalate", f"Level {number}")
    assert (free.timeline().level, len(free.reasons())) == (f"Level {MAX_OWN_LEVELS - 1}", 5)
    free.act(AURORA, "escalate", "Another")
    assert free.timeline().level == "Another"


def test_of_an_incident_only_so_many_versions_have_effect(log: IncidentLog) -> None:
    for number in range(MAX_UPDATES + 2):
        log.open(title=f"Told {number}")
    assert (log.timeline().title, len(log.reasons())) == (f"Told {MAX_UPDATES - 1}", 2)


def test_one_lab_adds_only_so_many_patterns_and_sightings(log: IncidentLog) -> None:
    def some(kind: str, *numbers: int) -> dict[str, Any]:
        return {f"{kind}s": [reference(kind, number) for number in numbers]}

    log.act(BOREAL, "update", **some("sighting", *range(1, MAX_ADDED)))
    too_many = log.act(BOREAL, "update", **some("sighting", 1001, 1002))
    known = log.act(BOREAL, "update", **some("sighting", 1, 2, 1003))
    full = log.act(BOREAL, "escalate", ALARM, **some("sighting", 1004))
    log.act(BOREAL, "update", **some("pattern", *range(1, MAX_ADDED + 1)))
    assert list(log.reasons()) == [too_many, full]
    assert "at most 64 sightings" in log.reasons()[too_many]
    assert known not in log.reasons()
    log.act(AURORA, "update", **some("sighting", 1001, 1002))
    found = log.timeline()
    assert (len(found.sightings), len(found.patterns), found.level) == (MAX_ADDED + 2, MAX_ADDED, WATCH)
    log.open(patterns=[reference("pattern", number) for number in range(1, MAX_ADDED + 1)])
    assert len(log.reasons()) == 2
