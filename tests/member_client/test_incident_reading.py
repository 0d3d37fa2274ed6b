"""The timeline as a member's store gives it: whatever came in which sync, and what reported keys signed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from member_client.errors import InvalidInput
from member_client.incidents import incident_timeline, incident_timelines
from member_client.incidents.acting import Wish, propose_act
from sharing_protocol.incidents import SHOWN_WITHOUT_EFFECT, Timeline
from sharing_protocol.statements import Act
from sharing_protocol.statements.header import format_timestamp
from tests.member_client.lab_homes import Client
from tests.member_client.lying_hub import LyingHub
from tests.member_client.told_lab import HANDLING, KEYS, ToldLab
from tests.protocol.forum_log import (
    AURORA,
    BOREAL,
    CREATED,
    FORUM,
    PATTERN,
    identifier,
    pattern_body,
    reason,
    record_reference,
    revoke_body,
)
from tests.protocol.response_bodies import playbook_body


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[ToldLab]:
    with LyingHub([]) as hub:
        told = ToldLab(tmp_path / "boreal", hub)
        yield told
        told.session.store.close()


def seen(lab: ToldLab, incident: str) -> Timeline:
    return incident_timeline(lab.session, incident, lab.session.now)


def test_however_the_syncs_are_cut_the_timeline_is_the_same(lab: ToldLab, tmp_path: Path) -> None:
    chance = random.Random(6)
    lab.log.say("pattern", PATTERN, AURORA, pattern_body(), [KEYS[AURORA]])
    pattern = record_reference(lab.log.head(PATTERN))
    incident = lab.open(protocol=lab.protocol(), patterns=[pattern])
    before = seen(lab, incident)
    suspended: set[str] = set()
    for _ in range(45):
        who, action = chance.choice([AURORA, BOREAL]), chance.choice(["join", "update", "escalate", "acknowledge"])
        if chance.random() < 0.1:
            what = "reinstate" if who in suspended else "suspend"
            suspended ^= {who}
            lab.log.say(f"membership.{what}", who, FORUM, reason(), ["Ada", "Ben"])
        elif who not in suspended:
            level = chance.choice(["Watch", "Act", "Panic"]) if action in ("escalate", "acknowledge") else None
            lab.act(incident, who, action, level)
        lab.sync()
        now = seen(lab, incident)
        assert now.steps[: len(before.steps)] == before.steps
        before = now
    lab.sync()
    at_once = ToldLab(tmp_path / "again", lab.hub)
    at_once.log = lab.log
    at_once.sync()
    assert seen(at_once, incident) == seen(lab, incident)
    assert len({step.without_effect for step in before.steps}) > 4
    assert before.level == "Act"
    at_once.session.store.close()


def test_what_a_thief_did_is_undone_once_the_key_is_reported(lab: ToldLab) -> None:
    incident = lab.open(level="Orange")
    lab.act(incident, BOREAL, "join")
    index = lab.log.size
    lab.act(incident, AURORA, "escalate", "Red")
    lab.act(incident, AURORA, "close")
    assert (seen(lab, incident).state, seen(lab, incident).level) == ("closed", "Red")
    lab.log.say("membership.revoke_key", AURORA, FORUM, revoke_body(KEYS[AURORA], index), ["Ada", "Ben"])
    lab.sync()
    found = seen(lab, incident)
    assert (found.state, found.level) == ("open", "Orange")
    assert [bool(step.without_effect) for step in found.steps] == [False, False, True, True]


def test_a_playbook_of_another_kind_is_no_protocol(lab: ToldLab) -> None:
    record = identifier("playbook", 0x701)
    body = {**playbook_body(HANDLING), "kind": "revocation_procedure", "levels": []}
    lab.log.say("playbook", record, AURORA, body, [KEYS[AURORA]])
    incident = lab.open(protocol=record_reference(lab.log.head(record)))
    assert seen(lab, incident).level is None
    lab.act(incident, AURORA, "escalate", "Anything")
    assert (seen(lab, incident).level, seen(lab, incident).due) == ("Anything", ())


def test_all_incidents_are_listed_in_the_order_in_which_they_were_opened(lab: ToldLab) -> None:
    opened = [lab.open(number) for number in (3, 1, 2)]
    lab.open(1, title="Told better")
    found = list(incident_timelines(lab.session, lab.session.now))
    assert [one.id for one in found] == opened
    assert found[1].title == "Told better"
    with pytest.raises(InvalidInput, match="there is no incident"):
        incident_timeline(lab.session, identifier("incident", 99), lab.session.now)


def dated(lab: ToldLab, hours: float) -> str:
    """So many hours after the beginning, as statements write it."""
    return format_timestamp(datetime.fromtimestamp(lab.opened().timestamp() + 3600 * hours, UTC))


def test_a_backdated_escalation_makes_nobody_late_at_once(lab: ToldLab, capsys: pytest.CaptureFixture[str]) -> None:
    incident = lab.open(protocol=lab.protocol())
    lab.act(incident, BOREAL, "join")
    lab.act(incident, BOREAL, "escalate", "Act")
    lab.now += 30 * 3600
    lab.log.created = dated(lab, 30)
    lab.log.say("pattern", PATTERN, BOREAL, pattern_body(), [KEYS[BOREAL]])  # which has nothing to do with it
    lab.log.created = CREATED
    lab.act(incident, AURORA, "escalate", "Act")
    found = seen(lab, incident)
    assert [(due.lab, due.level, due.overdue) for due in found.due] == [(BOREAL, "Act", False)]
    assert format_timestamp(found.steps[-1].created) == CREATED
    told = Client(lab.session.home.path, capsys).run("incident", "show", incident)
    assert "Aurora: escalate 'Act' (dated 2026-03-01 12:00:00 UTC, but the log was past that) → level" in told
    lab.log.created = dated(lab, 30.5)
    lab.act(incident, BOREAL, "acknowledge", "Act")
    assert not seen(lab, incident).steps[-1].late


def test_a_record_from_the_future_excuses_nobody(lab: ToldLab) -> None:
    """The hub would have to lie to let one in; what comes after it is not taken for as late."""
    incident = lab.open(protocol=lab.protocol())
    lab.act(incident, BOREAL, "join")
    lab.log.created = dated(lab, 2000)
    lab.log.say("pattern", PATTERN, BOREAL, pattern_body(), [KEYS[BOREAL]])
    lab.log.created = CREATED
    lab.act(incident, BOREAL, "escalate", "Act")
    lab.act(incident, AURORA, "escalate", "Act")
    lab.now += 3 * 3600
    assert [due.overdue for due in seen(lab, incident).due] == [True]


def test_a_level_is_refused_where_it_means_nothing(lab: ToldLab) -> None:
    incident = lab.open(protocol=lab.protocol())
    for act in (Act.JOIN, Act.UPDATE, Act.CLOSE):
        with pytest.raises(InvalidInput, match=f"a level means nothing to `{act}`"):
            propose_act(lab.session, incident, Wish(act, "Act"))
    assert propose_act(lab.session, incident, Wish(Act.JOIN)).body["level"] is None


def test_what_only_fills_a_timeline_is_counted_and_shown_on_demand(
    lab: ToldLab, capsys: pytest.CaptureFixture[str]
) -> None:
    incident = lab.open()
    for _ in range(SHOWN_WITHOUT_EFFECT + 3):
        lab.act(incident, BOREAL, "update")
    client, idle = Client(lab.session.home.path, capsys), "without effect: only labs that joined"
    told = client.run("incident", "show", incident)
    assert "3 further acts by Boreal left out" in told
    assert told.count(idle) == SHOWN_WITHOUT_EFFECT
    told = client.run("incident", "show", incident, "--all")
    assert "left out" not in told
    assert told.count(idle) == SHOWN_WITHOUT_EFFECT + 3
    assert len(client.json("incident", "show", incident)["steps"]) == SHOWN_WITHOUT_EFFECT + 4
