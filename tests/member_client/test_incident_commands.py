"""Incidents by the commands that people run: two labs, one hub, the same timeline."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from hub.identity import HubIdentity
from member_client.home import Home
from member_client.incidents import incident_timeline
from member_client.session import Session
from sharing_protocol.statements import new_id
from tests.forum import ForumInABox, Lab, handling, pattern_body, running_hub, sighting_body, signed
from tests.member_client.lab_homes import Client, make_home
from tests.protocol.response_bodies import playbook_body

TOLD = ("--title", "A pool of accounts", "--description", "Since Monday.", "--severity", "high")


class Forum:
    """A forum in which Aurora has published a pattern, a sighting of it and an escalation protocol."""

    def __init__(self, box: ForumInABox) -> None:
        self.box = box
        box.found()
        self.aurora, self.boreal = box.admit("Aurora"), box.admit("Boreal")
        self.pattern, _ = box.publish(self.aurora, pattern_body())
        self.sighting, _ = box.publish(self.aurora, sighting_body(box.reference(self.pattern)))
        self.protocol = new_id("playbook", uuid4())
        made = box.statement("playbook", self.protocol, self.aurora.id, playbook_body(handling()))
        box.log(signed(made, self.aurora.analyst), self.aurora.analyst)


@pytest.fixture(scope="module")
def forum(new_database: Callable[[], str], hub_identity: HubIdentity) -> Iterator[Forum]:
    with running_hub(new_database(), hub_identity) as hub:
        yield Forum(ForumInABox(hub))


@pytest.fixture
def labs(forum: Forum, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Client, Client]:
    def client(lab: Lab) -> Client:
        made = Client(make_home(tmp_path / lab.name, forum.box, lab), capsys)
        made.run("sync")
        return made

    return client(forum.aurora), client(forum.boreal)


def opened(lab: Client, forum: Forum, *more: str) -> str:
    found: str = lab.json("incident", "open", *TOLD, "--pattern", forum.pattern, "--yes", *more)["id"]
    return found


def shown(lab: Client, incident: str) -> Any:
    lab.run("sync")
    return lab.json("incident", "show", incident)


def test_two_labs_walk_an_incident_and_see_the_same(forum: Forum, labs: tuple[Client, Client]) -> None:
    aurora, boreal = labs
    incident = opened(aurora, forum, "--protocol", forum.protocol)
    assert "join" in boreal.run("incident", "update", incident, "--note", "Here too", "--yes", code=2)
    boreal.run("incident", "join", incident[:20], "--yes")
    boreal.run("incident", "update", incident, "--note", "Here too", "--sighting", forum.sighting, "--yes")
    assert "1 of 2 labs" in boreal.run("incident", "escalate", incident, "--to", "Act", "--yes")
    (due,) = shown(boreal, incident)["due"]
    assert (due["lab"]["name"], due["level"], due["overdue"]) == ("Boreal", "Watch", False)
    assert "level 'Act' would be in force" in aurora.run("incident", "escalate", incident, "--to", "Act", "--yes")
    (due,) = shown(boreal, incident)["due"]
    assert (due["lab"]["name"], due["level"]) == ("Boreal", "Act")
    printed = boreal.run("incident", "show", incident)
    assert "Boreal has to acknowledge level 'Act' by" in printed
    assert "→ level 'Act' is in force" in printed
    boreal.run("incident", "acknowledge", incident, "--yes")
    assert "only the lab that opened it" in boreal.run("incident", "close", incident, "--note", "Over", "--yes", code=2)
    aurora.run("incident", "close", incident, "--note", "All accounts blocked.\nNothing since.", "--yes")
    assert "was closed before" in boreal.run("incident", "update", incident, "--note", "More", "--yes", code=2)
    one, other = shown(aurora, incident), shown(boreal, incident)
    assert one == other
    assert [(step["lab"]["name"], step["action"]) for step in one["steps"]] == [
        ("Aurora", "open"),
        *(("Boreal", action) for action in ("join", "update", "escalate")),
        ("Aurora", "escalate"),
        ("Boreal", "acknowledge"),
        ("Aurora", "close"),
    ]
    assert (one["state"], one["level"], one["due"]) == ("closed", "Act", [])
    assert [item["id"] for item in one["sightings"]] == [forum.sighting]
    assert [item["id"] for item in one["patterns"]] == [forum.pattern]
    assert one["marking"] == "amber"
    assert "Nothing since." in aurora.run("incident", "show", incident)


def test_what_another_client_says_without_effect_is_shown_with_its_reason(
    forum: Forum, labs: tuple[Client, Client]
) -> None:
    aurora, boreal = labs
    incident = opened(aurora, forum)
    first = forum_reference(aurora, incident)
    body = {**handling(), "incident": first, "action": "close", "level": None, "note": "Ours now"}
    body |= {"patterns": [], "sightings": []}
    record = new_id("incident-action", uuid4())
    made = forum.box.statement("incident_action", record, forum.boreal.id, body)
    forum.box.log(signed(made, forum.boreal.analyst), forum.boreal.analyst)
    found = shown(aurora, incident)
    assert found["state"] == "open"
    assert "had not" in found["steps"][-1]["without_effect"]
    assert "(without effect: only labs that joined" in aurora.run("incident", "show", incident)
    assert found == shown(boreal, incident)


def forum_reference(lab: Client, incident: str) -> dict[str, Any]:
    lab.run("sync")
    return {"id": incident, "version": 1, "entry": lab.json("incident", "show", incident)["entry"]}


def test_lists_show_what_is_open_and_owed(forum: Forum, labs: tuple[Client, Client]) -> None:
    aurora, boreal = labs
    incident, other = opened(aurora, forum, "--protocol", forum.protocol), opened(aurora, forum)
    boreal.run("incident", "join", incident, "--yes")
    boreal.run("incident", "join", other, "--yes")
    aurora.run("incident", "close", other, "--note", "A mistake", "--yes")
    boreal.run("sync")
    listed = {one["id"]: one for one in boreal.json("incident", "list")}
    assert (listed[incident]["state"], listed[other]["state"]) == ("open", "closed")
    assert [lab["name"] for lab in listed[incident]["labs"]] == ["Aurora", "Boreal"]
    assert [due["lab"]["name"] for due in listed[incident]["due"]] == ["Boreal"]
    still_open = [one["id"] for one in boreal.json("incident", "list", "--open")]
    assert incident in still_open
    assert other not in still_open
    assert "A pool of" in boreal.run("incident", "list")


def test_an_overdue_acknowledgement_is_shown(forum: Forum, labs: tuple[Client, Client]) -> None:
    aurora, boreal = labs
    incident = opened(aurora, forum, "--protocol", forum.protocol)
    boreal.run("incident", "join", incident, "--yes")
    aurora.run("sync")
    session = Session(Home(aurora.home))
    clock = session.clock()
    late = Session(Home(aurora.home), clock=lambda: clock + 241 * 60)
    (due,) = incident_timeline(late, incident, late.now).due
    assert (due.lab, due.overdue) == (forum.boreal.id, True)
    assert not incident_timeline(session, incident, session.now).due[0].overdue
    for one in (session, late):
        one.store.close()


def test_nothing_is_published_that_nobody_confirmed(
    forum: Forum, labs: tuple[Client, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    aurora, _ = labs
    size = forum.box.size()
    asked = ("incident", "open", *TOLD, "--pattern", forum.pattern)
    plan = aurora.json(*asked, "--dry-run", "--protocol", forum.protocol, "--level", "Act")
    assert plan["body"]["patterns"][0]["id"] == forum.pattern
    assert plan["consequences"] == ["it begins at 'Watch', and one of 2 labs has asked for 'Act'"]
    assert "pass --yes" in aurora.run(*asked, code=2)
    assert forum.box.size() == size
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    answers = iter([False, True])
    monkeypatch.setattr("typer.confirm", lambda question: next(answers))
    printed = aurora.run(*asked, code=2)
    assert printed.index("would be published") < printed.index("nothing was published")
    assert "logged at index" in aurora.run(*asked)
    assert forum.box.size() == size + 1


def test_what_is_wrong_with_an_incident_is_said_before_it_is_signed(forum: Forum, labs: tuple[Client, Client]) -> None:
    aurora, _ = labs
    size = forum.box.size()
    with_pattern = ("incident", "open", *TOLD, "--pattern", forum.pattern, "--dry-run")
    refused = {
        "severity": ("incident", "open", *TOLD, "--pattern", forum.pattern, "--severity", "dire", "--dry-run"),
        "--purpose, --legal-basis": ("incident", "open", *TOLD, "--marking", "green", "--dry-run"),
        "its levels are 'Watch', 'Act'": (*with_pattern, "--protocol", forum.protocol, "--level", "Panic"),
        "no playbook": (*with_pattern, "--protocol", "playbook--00000000"),
        "too short an id": ("incident", "show", "inc"),
        "there is no incident": ("incident", "join", "00000000-0000"),
        "looks like an e-mail address": (
            "incident",
            "open",
            *TOLD[:3],
            "Write to ann@corp.io",
            *TOLD[4:],
            *with_pattern[-3:],
        ),
    }
    for told, command in refused.items():
        printed = aurora.run(*command, code=2)
        assert told in printed, json.dumps([told, printed])
    assert forum.box.size() == size


def test_the_same_wish_after_a_lost_answer_makes_one_act(forum: Forum, labs: tuple[Client, Client]) -> None:
    aurora, boreal = labs
    incident = opened(aurora, forum)
    assert "had joined before" in aurora.run("incident", "join", incident, "--yes", code=2)
    first = boreal.json("incident", "join", incident, "--yes")
    assert first["consequences"] == []
    assert "had joined before" in boreal.run("incident", "join", incident, "--yes", code=2)
    assert [step["action"] for step in shown(boreal, incident)["steps"]] == ["open", "join"]


def test_a_lab_that_joined_closes_for_a_suspended_opener(forum: Forum, labs: tuple[Client, Client]) -> None:
    aurora, boreal = labs
    incident = opened(aurora, forum)
    boreal.run("incident", "join", incident, "--yes")
    forum.box.decree("membership.suspend", forum.aurora.id, {"reason": "A test"})
    try:
        boreal.run("incident", "close", incident, "--note", "Over", "--yes")
    finally:
        forum.box.decree("membership.reinstate", forum.aurora.id, {"reason": "A test"})
    assert shown(aurora, incident)["state"] == "closed"


def test_its_lab_tells_an_incident_better_and_nobody_else(forum: Forum, labs: tuple[Client, Client]) -> None:
    aurora, boreal = labs
    incident = opened(aurora, forum, "--protocol", forum.protocol, "--valid-until", "2027-01-31")
    before = shown(aurora, incident)
    assert "says all that already" in aurora.run("incident", "revise", incident, "--title", TOLD[1], "--yes", code=2)
    assert "only the lab that wrote" in boreal.run("incident", "revise", incident, "--title", "Mine", "--yes", code=2)
    changes = ("--title", "A pool of 300 accounts", "--severity", "low", "--valid-until", "2027-06-01")
    dry = aurora.json("incident", "revise", incident, *changes, "--dry-run")
    assert dry["consequences"] == ["it changes valid_until, title, severity"]
    assert dry["body"]["protocol"]["id"] == forum.protocol
    assert "nobody confirmed" in aurora.run("incident", "revise", incident, *changes, code=2)
    published = aurora.json("incident", "revise", incident[:20], *changes, "--yes")
    assert (published["id"], published["version"]) == (incident, 2)
    assert "says all that already" in aurora.run("incident", "revise", incident, *changes, "--yes", code=2)
    told = shown(boreal, incident)
    assert (told["title"], told["severity"], told["level"]) == ("A pool of 300 accounts", "low", before["level"])
    assert told["valid_until"] == "2027-06-01T00:00:00Z"
    assert [step["action"] for step in told["steps"]] == ["open", "revise"]
    assert aurora.json("incident", "revise", incident, "--severity", "high", "--yes")["version"] == 3
    aurora.run("incident", "close", incident, "--note", "Over", "--yes")
    assert "was closed before" in aurora.run("incident", "revise", incident, "--title", "Not over", "--yes", code=2)
    assert "severity" in aurora.run("incident", "revise", incident, "--severity", "huge", "--yes", code=2)
