"""Opinions and endorsements through a real hub: published, revised, told to authors, and added up alike by both."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from hub.app import utc_now
from hub.identity import HubIdentity
from hub.routes import feedback as feedback_route
from member_client import feedback
from member_client.home import Home
from member_client.session import Session
from sharing_protocol import wire
from sharing_protocol.statements import new_id, voice_id
from sharing_protocol.statements.header import format_timestamp
from tests.forum import (
    Document,
    Lab,
    handling,
    key,
    pattern_body,
    running_hub,
    sighting_body,
    signed,
    sql,
    withdrawal_body,
)
from tests.hub.documented_forum import DOCUMENT, Contract, DocumentedForum
from tests.hub.exact_requests import ask
from tests.hub.refusals import problem_of
from tests.hub.stored_log import differences
from tests.member_client.lab_homes import Client, make_home
from tests.protocol.response_bodies import endorsement_body, incident_body, opinion_body

REVIEWED = ("--reviewed", "40", "--true-positives", "3", "--method", "A random sample of a week")


@dataclass
class Clock:
    """The hub's, ahead of this machine's by so much."""

    ahead: timedelta = timedelta()

    def __call__(self) -> datetime:
        return utc_now() + self.ahead


@dataclass
class Case:
    """Aurora's pattern in two versions, which four other labs may speak of.

    Attributes:
        versions: references to them.
    """

    box: DocumentedForum
    clock: Clock
    labs: dict[str, Lab]
    pattern: str
    versions: list[Document]
    author: Client
    reader: Client

    def say(self, lab: str, kind: Any, version: int = 1, **changes: Any) -> str:
        """Publish a lab's voice on a version of the pattern, or its next version; its id."""
        one, make = self.labs[lab], opinion_body if kind == "opinion" else endorsement_body
        record = voice_id(kind, one.id, self.versions[version - 1]["entry"])
        body = make(handling(), self.versions[version - 1], **changes)
        self.box.log(signed(self.box.statement(kind, record, one.id, body), one.analyst), one.analyst)
        return record

    def hub_says(self) -> list[Document]:
        """The hub's feedback."""
        answer = self.box.get(f"{wire.PATTERNS}/{self.pattern}/feedback", self.labs["Boreal"].sync)
        assert answer.status_code == 200, answer.text
        assert answer.json()["tree_size"] == self.box.size()
        return list(answer.json()["versions"])

    def agreed(self, version: int = 1) -> Document:
        """The feedback on a version, of which hub and client say the same to the last digit."""
        self.reader.run("sync")
        by_client = self.reader.json("pattern", "feedback", self.pattern)["versions"]
        assert by_client == self.hub_says()
        found: Document = by_client[version - 1]
        return found


@pytest.fixture
def case(
    new_database: Callable[[], str], hub_identity: HubIdentity, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Case]:
    clock = Clock()
    with running_hub(new_database(), hub_identity, clock) as hub:
        box = DocumentedForum(hub)
        box.found()
        labs = {name: box.admit(name) for name in ("Aurora", "Boreal", "Cirrus", "Dorado")}
        pattern, _ = box.publish(labs["Aurora"], pattern_body("Seen by many"))
        versions = [box.reference(pattern)]
        box.publish(labs["Aurora"], pattern_body("Seen by many, refined"), pattern)
        versions.append(box.reference(pattern))
        author, reader = (Client(make_home(tmp_path / name, box, labs[name]), capsys) for name in ("Aurora", "Boreal"))
        yield Case(box, clock, labs, pattern, versions, author, reader)
        assert differences(box.hub.database_url) == []


def test_hub_and_client_agree_whatever_happens_to_voices(case: Case) -> None:
    box, labs = case.box, case.labs
    cirrus, dorado = labs["Cirrus"].id, labs["Dorado"].id
    box.contract = Contract(box.get(DOCUMENT).json())
    assert case.agreed()["precision"] is None

    dispute = case.say("Cirrus", "opinion", comment="Translators.")
    case.say("Dorado", "opinion", verdict="confirm", measured={"reviewed": 5, "true_positives": 5, "method": "All"})
    case.say("Dorado", "endorsement")
    case.say("Cirrus", "endorsement", version=2)
    box.publish(labs["Boreal"], sighting_body(case.versions[0]))
    found = case.agreed()
    assert (found["disputed_by"], found["confirmed_by"], found["endorsed_by"]) == ([cirrus], [dorado], [dorado])
    assert (found["reviewed"], found["true_positives"], found["matches"]) == (35, 7, "100-999")
    assert [one["opinion"] for one in found["disputes"]] == [dispute]
    assert case.agreed(2)["endorsed_by"] == [cirrus]

    case.say("Cirrus", "opinion", verdict="needs_work", measured=None)
    found = case.agreed()
    assert (found["disputed_by"], found["needs_work_by"], found["reviewed"]) == ([], [cirrus], 5)
    case.say("Cirrus", "opinion")
    assert case.agreed()["disputed_by"] == [cirrus]

    box.decree("membership.suspend", cirrus, {"reason": "Under review"})
    assert case.agreed()["disputed_by"] == []
    box.decree("membership.reinstate", cirrus, {"reason": "All is well"})
    assert case.agreed()["disputed_by"] == [cirrus]

    analyst = key(labs["Dorado"].analyst).public_key.key_id
    revoked = {"key_id": analyst, "reason": "Stolen", "suspect_from": 7}
    box.decree("membership.revoke_key", dorado, revoked)
    found = case.agreed()
    assert (found["confirmed_by"], found["endorsed_by"], found["disputed_by"]) == ([], [], [cirrus])

    box.publish(labs["Cirrus"], withdrawal_body(box.reference(dispute)))
    assert case.agreed()["disputed_by"] == []
    box.decree("membership.expel", cirrus, {"reason": "Sold our patterns"})
    assert case.agreed(2)["endorsed_by"] == []


def test_an_opinion_expires_for_both(case: Case) -> None:
    soon = format_timestamp(utc_now() + timedelta(hours=1))
    case.say("Cirrus", "opinion", valid_until=soon)
    assert case.agreed()["disputed_by"] == [case.labs["Cirrus"].id]
    case.clock.ahead = timedelta(hours=2)
    answer = ask(case.box, f"{wire.PATTERNS}/{case.pattern}/feedback")
    assert answer.json()["versions"][0]["disputed_by"] == []
    session = Session(Home(case.reader.home))
    entry = case.versions[0]["entry"]
    assert feedback.feedback_by_entry(session, utc_now())[entry].disputed_by == {case.labs["Cirrus"].id}
    assert feedback.feedback_by_entry(session, case.clock()) == {}
    session.store.close()


def test_a_hub_that_withholds_a_dispute_is_not_believed(case: Case) -> None:
    case.say("Cirrus", "opinion")
    disputed = [case.labs["Cirrus"].id]
    assert case.agreed()["disputed_by"] == disputed
    with sql(case.box.hub.database_url) as connection:
        kept = connection.execute("SELECT refers_to FROM records WHERE type = 'opinion'").fetchall()
        connection.execute("UPDATE records SET refers_to = NULL WHERE type = 'opinion'")
    case.clock.ahead += timedelta(seconds=1)  # within one, the hub says the same again
    assert case.hub_says()[0]["disputed_by"] == []
    case.reader.run("sync")
    assert case.reader.json("pattern", "feedback", case.pattern)["versions"][0]["disputed_by"] == disputed
    assert [str(one) for one in differences(case.box.hub.database_url)] != []
    with sql(case.box.hub.database_url) as connection:
        connection.execute("UPDATE records SET refers_to = %s WHERE type = 'opinion'", kept[0])


def test_records_show_what_a_compromised_key_signed(case: Case) -> None:
    dispute = case.say("Cirrus", "opinion")
    endorsed = case.say("Dorado", "endorsement")

    def found(state: str) -> list[str]:
        page = wire.RecordPage.model_validate_json(case.box.get(wire.RECORDS, state=state).content)
        return [one.id for one in page.records]

    assert found("suspect") == []
    suspect = {"key_id": key("Cirrus analyst").public_key.key_id, "reason": "Stolen", "suspect_from": 0}
    case.box.decree("membership.revoke_key", case.labs["Cirrus"].id, suspect)
    assert found("suspect") == [dispute]
    assert found("active") == [case.pattern, endorsed]
    history = wire.RecordHistory.model_validate_json(case.box.get(f"{wire.RECORDS}/{dispute}").content)
    assert [one.summary.state for one in history.versions] == ["suspect"]


def test_the_route_is_for_members_and_for_patterns(case: Case) -> None:
    nobody = f"{wire.PATTERNS}/{new_id('pattern', uuid4())}/feedback"
    problem_of(case.box.get(nobody), 404, "not_found")
    problem_of(case.box.get(nobody, "a stranger"), 401, "unknown_key")
    other = case.labs["Aurora"].id
    problem_of(case.box.get(f"{wire.PATTERNS}/{other}/feedback"), 422, "invalid_parameter", "path.pattern_id")
    problem_of(
        case.box.get(f"{wire.PATTERNS}/{case.pattern}/feedback?version=1"), 422, "invalid_parameter", "query.version"
    )


def test_a_lab_that_stands_by_its_own_pattern_lifts_suspicion_and_no_more(case: Case) -> None:
    aurora, box = case.labs["Aurora"], case.box
    suspect = {"key_id": key(aurora.analyst).public_key.key_id, "reason": "Stolen", "suspect_from": 0}
    box.decree("membership.revoke_key", aurora.id, suspect)

    def states() -> list[str]:
        history = wire.RecordHistory.model_validate_json(box.get(f"{wire.RECORDS}/{case.pattern}").content)
        return [one.summary.state for one in history.versions]

    assert states() == ["superseded", "suspect"]
    box.add_key(aurora, "analyst", "Aurora analyst 2")
    record = voice_id("endorsement", aurora.id, case.versions[1]["entry"])
    body = endorsement_body(handling(), case.versions[1])
    made = signed(box.statement("endorsement", record, aurora.id, body), "Aurora analyst 2")
    box.log(made, "Aurora analyst 2")
    assert states() == ["superseded", "active"]
    assert case.agreed(2)["endorsed_by"] == []
    assert case.reader.json("pattern", "show", case.pattern)["state"] == "active"


# -- commands ------------------------------------------------------------------------------------------------------


def test_an_opinion_is_shown_confirmed_revised_and_withdrawn_for_good(case: Case) -> None:
    dispute = ("opinion", "give", case.pattern, "--version", "1", "--verdict", "false_positive")
    size = case.box.size()
    case.reader.run("sync")
    assert "would be published of 'Seen by many'" in case.reader.run(*dispute, *REVIEWED, "--dry-run")
    assert case.reader.json(*dispute, *REVIEWED, "--dry-run")["verdict"] == "false_positive"
    assert "pass --yes" in case.reader.run(*dispute, *REVIEWED, code=2)
    assert "disputed with counts" in case.reader.run(*dispute, "--yes", code=2)
    assert "all three" in case.reader.run(*dispute, "--reviewed", "3", "--yes", code=2)
    assert "cannot have been right" in case.reader.run(
        *dispute, "--reviewed", "3", "--true-positives", "4", "--method", "All", "--yes", code=2
    )
    assert case.box.size() == size

    first = case.reader.json(*dispute, *REVIEWED, "--yes")
    assert (first["version"], first["index"], first["already_logged"]) == (1, size, False)
    again = case.reader.json(*dispute, *REVIEWED, "--yes")
    assert (again["index"], again["already_logged"]) == (size, True)
    until = format_timestamp(utc_now() + timedelta(days=500))[:10]
    renewed = case.reader.json(*dispute, *REVIEWED, "--valid-until", until, "--yes")
    assert (renewed["id"], renewed["version"]) == (first["id"], 2)
    revised = case.reader.json(
        "opinion",
        "give",
        case.pattern,
        "--version",
        "1",
        "--verdict",
        "confirm",
        "--comment",
        "We were wrong.",
        "--yes",
    )
    assert (revised["id"], revised["version"]) == (first["id"], 3)
    case.reader.run("sync")
    (listed,) = case.reader.json("opinion", "list", "--pattern", case.pattern)
    assert (listed["lab"], listed["verdict"], listed["state"]) == ("Boreal", "confirm", "active")
    assert "We were wrong." in case.reader.run("pattern", "feedback", case.pattern)

    case.reader.run("opinion", "withdraw", case.pattern, "--version", "1", "--reason", "Not sure")
    case.reader.run("sync")
    assert case.reader.json("opinion", "list")[0]["state"] == "withdrawn"
    assert "is final" in case.reader.run(*dispute, *REVIEWED, "--yes", code=2)
    nothing = case.reader.run("opinion", "withdraw", case.pattern, "--reason", "Again", code=2)
    assert "no opinion of" in nothing
    case.reader.json(*dispute[:3], *dispute[5:], *REVIEWED, "--yes")
    assert case.agreed(2)["disputed_by"] == [case.labs["Boreal"].id]


def test_a_lab_does_not_speak_of_its_own_pattern(case: Case) -> None:
    case.author.run("sync")
    for command in (("opinion", "give", case.pattern, "--verdict", "confirm"), ("endorse", case.pattern)):
        assert "is your own lab's" in case.author.run(*command, "--yes", code=2)


def test_a_lab_does_not_stand_for_what_it_disputes(case: Case) -> None:
    boreal = case.labs["Boreal"].id
    case.reader.run("sync")
    case.reader.run("endorse", case.pattern, "--yes")
    dispute = ("opinion", "give", case.pattern, "--verdict", "false_positive", *REVIEWED, "--yes")
    assert "--version 2 --withdraw --reason" in case.reader.run(*dispute)
    assert case.agreed(2)["disputed_by"] == [boreal]
    again = ("endorse", case.pattern, "--comment", "And yet", "--yes")
    assert "first revise the opinion" in case.reader.run(*again, code=2)
    assert "first revise the opinion" in case.reader.run(*again[:-1], "--dry-run", code=2)
    case.reader.run("endorse", case.pattern, "--version", "1", "--yes")  # another version is another matter
    wrong = case.reader.run("opinion", "give", case.pattern, "--verdict", "wrong", "--yes", code=2)
    assert "Invalid value for '--verdict': 'wrong' is not one of 'confirm', 'false_positive', 'needs_work'" in wrong
    confirm = ("opinion", "give", case.pattern, "--verdict", "confirm", "--yes")
    assert "endorses" not in case.reader.run(*confirm)
    case.reader.run("sync")
    case.reader.run(*again)
    assert (case.agreed(2)["disputed_by"], case.agreed(2)["endorsed_by"]) == ([], [boreal])


def test_no_comment_looks_like_what_another_lab_said(case: Case) -> None:
    case.say("Cirrus", "opinion", comment="Translators.\nBoreal: It is fine, I take it back.")
    case.reader.run("sync")
    lines = case.reader.run("pattern", "feedback", case.pattern).splitlines()
    assert "Cirrus: Translators." in lines
    assert not any(line.startswith("Boreal") for line in lines)


def test_authors_are_told_what_others_found_once(case: Case) -> None:
    assert case.author.json("sync")["feedback"] == []
    case.say("Cirrus", "opinion", version=2, comment="Translators.")
    case.say("Dorado", "endorsement", version=2)
    (disputed, endorsed) = case.author.json("sync")["feedback"]
    assert (disputed["lab"], disputed["verdict"], disputed["comment"]) == ("Cirrus", "false_positive", "Translators.")
    assert (disputed["pattern"], disputed["pattern_version"]) == (case.pattern, 2)
    assert (endorsed["type"], endorsed["lab"]) == ("endorsement", "Dorado")
    assert case.author.json("sync")["feedback"] == []

    assert "is disputed by Cirrus" in case.author.run("pattern", "list", "--mine")
    shown = case.author.run("pattern", "show", case.pattern)
    assert "disputed by Cirrus; endorsed by Dorado; precision 8% (3% to 20%) of 40 reviewed" in shown
    case.say("Cirrus", "opinion", version=2, verdict="confirm", measured=None)
    assert "Cirrus confirms version 2 of your pattern" in case.author.run("sync")
    assert case.reader.json("sync")["feedback"] == []  # the pattern is not its own


def test_an_endorsement_brings_the_backtest_of_that_version(case: Case, tmp_path: Path) -> None:
    case.reader.run("sync")
    measured = {
        "events": "1000-9999",
        "match_rate": 0.01,
        "false_positive_rate": None,
        "false_positive_interval": None,
        "method": "Backtest on one lab's history, 30 days; rows are requests",
    }
    file = tmp_path / "backtest.json"

    def tested(entry: str, found: Document | None = measured) -> None:
        file.write_text(json.dumps({"pattern": {"entry": entry}, "measured": found}))

    endorse = ("endorse", case.pattern, "--measured", str(file), "--yes")
    for content, says in (
        ("no JSON", "is no backtest"),
        ("[]", "is no backtest"),
        ('{"pattern": 1}', "is no backtest"),
    ):
        file.write_text(content)
        assert says in case.reader.run(*endorse, code=2)
    tested(case.versions[0]["entry"])
    assert "something else" in case.reader.run(*endorse, code=2)
    tested(case.versions[1]["entry"], None)
    assert "measured nothing" in case.reader.run(*endorse, code=2)
    assert "cannot read" in case.reader.run(*endorse[:3], str(tmp_path / "none"), "--yes", code=2)
    tested(case.versions[1]["entry"], measured | {"match_rate": 2})
    case.reader.run(*endorse, code=2)
    tested(case.versions[1]["entry"])
    assert case.reader.json(*endorse)["version"] == 1
    assert case.agreed(2)["endorsed_by"] == [case.labs["Boreal"].id]
    assert case.agreed(1)["endorsed_by"] == []
    assert "for a reason" in case.reader.run("endorse", case.pattern, "--withdraw", code=2)
    withdraw = ("endorse", case.pattern, "--withdraw", "--reason", "It was a test")
    tried = case.reader.json(*withdraw, "--dry-run")
    assert tried["reason"] == "It was a test"
    assert "would be published of 'withdrawal of " in case.reader.run(*withdraw, "--dry-run")
    assert case.agreed(2)["endorsed_by"] == [case.labs["Boreal"].id], "nothing was published"
    case.reader.run(*withdraw)
    assert case.agreed(2)["endorsed_by"] == []


def test_an_endorsement_brings_the_last_backtest_that_is_kept_here(case: Case, tmp_path: Path) -> None:
    case.reader.run("sync")
    dry = ("endorse", case.pattern, "--dry-run")
    assert "no backtest of this version is kept here" in case.reader.run(*dry)
    assert case.reader.json(*dry)["measured"] is None
    log = tmp_path / "requests.jsonl"
    log.write_text('{"timestamp": "2026-03-01T10:00:00Z", "account": {"id": "a"}, "prompt": {"text": "Hello"}}\n')
    kept = case.reader.json("pattern", "backtest", case.pattern, str(log))["measured"]
    assert case.reader.json(*dry)["measured"] == kept
    assert kept["events"] == "1-9"
    assert "as the backtest of" in case.reader.run(*dry)
    assert case.reader.json(*dry, "--unmeasured")["measured"] is None
    assert case.reader.json(*dry, "--version", "1")["measured"] is None
    assert "opposite" in case.reader.run(*dry, "--unmeasured", "--measured", str(log), code=2)
    case.reader.run("endorse", case.pattern, "--yes")
    assert case.agreed(2)["endorsed_by"] == [case.labs["Boreal"].id]


def test_a_hub_does_not_add_up_without_end(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    for lab in ("Boreal", "Cirrus"):
        case.say(lab, "opinion")
    monkeypatch.setattr(feedback_route, "MAX_SAID", 2)
    assert len(case.agreed()["disputed_by"]) == 2
    case.say("Dorado", "opinion")
    answer = case.box.get(f"{wire.PATTERNS}/{case.pattern}/feedback", case.labs["Boreal"].sync)
    problem_of(answer, 422, "too_much_said")


# -- campaigns -----------------------------------------------------------------------------------------------------


def test_labs_that_see_a_pattern_at_the_same_time_see_a_campaign(case: Case) -> None:
    box = case.box
    other, _ = box.publish(case.labs["Aurora"], pattern_body("Seen with it"))
    for lab in ("Boreal", "Cirrus"):
        for seen in (case.versions[0], box.reference(other)):
            box.publish(case.labs[lab], sighting_body(seen))
    alone, _ = box.publish(case.labs["Aurora"], pattern_body("Seen by one"))
    box.publish(case.labs["Dorado"], sighting_body(box.reference(alone)))
    case.reader.run("sync")
    found = case.reader.json("campaign", "list")
    assert sorted(one["patterns"] for one in found) == sorted([[case.pattern], [other]])
    assert len(case.reader.json("campaign", "list", "--all")) == 3

    body = incident_body(handling(), patterns=[case.versions[0], box.reference(other)])
    incident = box.statement("incident", new_id("incident", uuid4()), case.labs["Dorado"].id, body)
    box.log(signed(incident, case.labs["Dorado"].analyst), case.labs["Dorado"].analyst)
    case.reader.run("sync")
    assert len(case.reader.json("campaign", "list")) == 2, "one lab's word joins nothing"
    case.reader.run("incident", "join", incident["id"], "--yes")
    case.reader.run("sync")
    (joined,) = case.reader.json("campaign", "list")
    assert joined["patterns"] == sorted([case.pattern, other])
    assert sorted(share["name"] for share in joined["shares"]) == ["Boreal", "Cirrus"]
    assert (joined["matches"], joined["trend"]) == ("100-999", "steady")

    assert case.reader.json("campaign", "show", joined["id"]) == joined
    shown = case.reader.run("campaign", "show", joined["id"].removeprefix("campaign--")[:8])
    assert "Boreal  3333333" in shown
    assert "Boreal" in case.reader.run("campaign", "list")
    assert "there is no campaign" in case.reader.run("campaign", "show", "ffffffff", code=2)
    assert "too short" in case.reader.run("campaign", "show", "ff", code=2)
