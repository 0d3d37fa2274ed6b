"""The records by which labs answer each other, through a real hub into a member's store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from hub.identity import HubIdentity
from member_client.home import Home
from member_client.session import Session
from sharing_protocol.statements import RECORD_TYPES, new_id, voice_id
from tests.forum import Document, ForumInABox, handling, pattern_body, running_hub, sighting_body, signed
from tests.hub.refusals import problem_of
from tests.hub.stored_log import differences
from tests.member_client.lab_homes import Client, make_home
from tests.protocol.response_bodies import (
    action_body,
    criteria_body,
    endorsement_body,
    incident_body,
    opinion_body,
    playbook_body,
)


def test_all_of_them_arrive_and_are_found_by_what_they_are_about(
    new_database: Callable[[], str], hub_identity: HubIdentity, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_hub(new_database(), hub_identity) as hub:
        box = ForumInABox(hub)
        box.found()
        aurora, boreal = box.admit("Aurora"), box.admit("Boreal")
        pattern, _ = box.publish(aurora, pattern_body("Wrong"))
        reference = box.reference(pattern)

        def say(kind: str, body: Document, record: str = "") -> str:
            record = record or new_id(kind.replace("_", "-"), uuid4())
            box.log(signed(box.statement(kind, record, boreal.id, body), boreal.analyst), boreal.analyst)
            return record

        ids = {
            "sighting": say("sighting", sighting_body(reference)),
            "playbook": say("playbook", playbook_body(handling())),
            "referral_criteria": say("referral_criteria", criteria_body(handling())),
            "incident": say("incident", incident_body(handling(), patterns=[reference])),
        }
        voice = voice_id("opinion", boreal.id, str(reference["entry"]))
        ids["opinion"] = say("opinion", opinion_body(handling(), reference), voice)
        voice = voice_id("endorsement", boreal.id, str(reference["entry"]))
        ids["endorsement"] = say("endorsement", endorsement_body(handling(), reference), voice)
        ids["incident_action"] = say("incident_action", action_body(handling(), box.reference(ids["incident"])))
        second = box.statement("opinion", new_id("opinion", uuid4()), boreal.id, opinion_body(handling(), reference))
        problem_of(box.submit(signed(second, boreal.analyst), boreal.analyst), 422, "second_voice", "id")

        client = Client(make_home(tmp_path / "aurora", box, aurora), capsys)
        client.run("sync")
        session = Session(Home(client.home))
        stored = {one.type: one for one in session.store.versions()}
        assert {*stored} | {"withdrawal"} == {*RECORD_TYPES}
        assert {one.id for one in session.store.versions(refers_to=pattern)} == {
            ids["sighting"],
            ids["opinion"],
            ids["endorsement"],
        }
        assert [one.id for one in session.store.versions(refers_to=ids["incident"])] == [ids["incident_action"]]
        shown = {kind: (one.title, one.kind, one.severity) for kind, one in stored.items()}
        assert shown["playbook"] == ("Who is told", "escalation_protocol", "")
        assert shown["incident"] == ("A pool of accounts at several labs", "", "high")
        assert shown["opinion"] == ("", "", "")
        session.store.close()
        assert differences(hub.database_url) == []
