"""A key is reported compromised: what it signed leaves force at every member, until its lab signs it anew."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from hub.identity import HubIdentity
from sharing_protocol.statements import new_id, voice_id
from tests.forum import (
    Document,
    ForumInABox,
    Lab,
    handling,
    key,
    pattern_body,
    registration,
    running_hub,
    sighting_body,
    signed,
    withdrawal_body,
)
from tests.hub.stored_log import differences
from tests.member_client.lab_homes import Client, keep_key, make_home
from tests.protocol.response_bodies import endorsement_body

BOOTSTRAP = "Please come up with 20 diverse tasks."


@dataclass
class Case:
    """Aurora has published three patterns by one analyst key, at indexes 3 to 5, and seen Boreal's.

    Attributes:
        patterns: ids, in the order of the log.
        foreign: Boreal's pattern.
    """

    box: ForumInABox
    aurora: Lab
    boreal: Lab
    patterns: list[str]
    foreign: str
    author: Client
    reader: Client

    def lab_says(self, kind: str, body: Document) -> int:
        """A statement about Aurora by its owner; its index."""
        document = self.box.statement(kind, self.aurora.id, self.aurora.id, body)
        return self.box.log(signed(document, self.aurora.owner), self.aurora.owner).index

    def compromised(self, suspect_from: int | None, analyst: str = "") -> int:
        """Aurora's owner revokes an analyst key, by default the first."""
        key_id = key(analyst or self.aurora.analyst).public_key.key_id
        body = {"key_id": key_id, "reason": "Stolen laptop", "suspect_from": suspect_from}
        return self.lab_says("membership.revoke_key", body)

    def new_analyst(self, name: str) -> None:
        """Aurora registers another analyst key, which its home has too."""
        body = {"key": registration(name, "analyst", self.aurora.id), "reason": "A new laptop"}
        self.lab_says("membership.add_key", body)
        keep_key(self.author.home, "analyst", name)

    def states(self, client: Client | None = None) -> list[str]:
        """The states of Aurora's patterns, as a member that has just synced has them."""
        client = client or self.reader
        client.run("sync")
        found = {one["id"]: one["state"] for one in client.json("pattern", "list", "--state", "all")}
        return [found[pattern] for pattern in self.patterns]


@pytest.fixture
def case(
    new_database: Callable[[], str], hub_identity: HubIdentity, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Case]:
    with running_hub(new_database(), hub_identity) as hub:
        box = ForumInABox(hub)
        box.found()
        aurora, boreal = box.admit("Aurora"), box.admit("Boreal")
        patterns = [box.publish(aurora, pattern_body(f"Pattern {n}"))[0] for n in range(3)]
        foreign, _ = box.publish(boreal, pattern_body("Of another lab"))
        author, reader = (Client(make_home(tmp_path / lab.name, box, lab), capsys) for lab in (aurora, boreal))
        yield Case(box, aurora, boreal, patterns, foreign, author, reader)


def test_what_a_compromised_key_signed_from_there_on_is_out_of_force(case: Case, tmp_path: Path) -> None:
    assert case.states() == ["active"] * 3
    revoked = case.compromised(suspect_from=4)
    assert case.states() == ["active", "suspect", "suspect"]
    assert case.reader.json("pattern", "list", "--author", "Boreal")[0]["state"] == "active"
    shown = case.reader.json("pattern", "show", case.patterns[1])
    assert "reported compromised from entry 4 on" in shown["why"]
    assert shown["provenance"]["signer_state"] == f"revoked at index {revoked}, suspect from index 4"
    said = case.reader.run("pattern", "show", case.patterns[1])
    assert "until its lab signs or endorses it anew" in said
    assert "is suspect:" in case.reader.run("pattern", "list", "--state", "suspect")
    assert case.reader.json("pattern", "show", case.patterns[0])["why"] == ""
    assert differences(case.box.hub.database_url) == []


def test_detect_leaves_suspect_patterns_out_and_says_so(case: Case, tmp_path: Path) -> None:
    case.compromised(suspect_from=4)
    case.reader.run("sync")
    log = tmp_path / "requests.jsonl"
    moment = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    log.write_text(json.dumps({"timestamp": moment, "account": {"id": "a"}, "prompt": {"text": BOOTSTRAP}}) + "\n")
    ran = case.reader.json("detect", str(log))
    assert {one["id"] for one in ran["patterns"]} == {case.patterns[0], case.foreign}
    assert {one["id"]: "compromised" in one["reason"] for one in ran["left_out"]} == {
        case.patterns[1]: True,
        case.patterns[2]: True,
    }
    refused = case.reader.run("detect", str(log), "--pattern", case.patterns[1], code=2)
    assert "is not in force: suspect (its key" in refused


def test_the_lab_signs_anew_what_it_stands_by(case: Case) -> None:
    case.compromised(suspect_from=4)
    case.new_analyst("Aurora analyst 2")
    assert case.states(case.author) == ["active", "suspect", "suspect"]
    case.author.run("pattern", "resign", case.patterns[1], code=2)  # nobody said yes
    (done,) = case.author.json("pattern", "resign", case.patterns[1], "--yes")
    assert (done["id"], done["version"]) == (case.patterns[1], 2)
    assert case.states() == ["active", "active", "suspect"]
    assert case.reader.json("pattern", "show", case.patterns[1])["versions"][0]["state"] == "superseded"
    case.author.run("pattern", "resign", case.patterns[1], "--yes", code=2)
    case.author.run("pattern", "resign", case.foreign, "--yes", code=2)
    (done,) = case.author.json("pattern", "resign", "--yes")
    assert done["id"] == case.patterns[2]
    assert "no pattern of this lab is suspect" in case.author.run("pattern", "resign", "--yes", code=2)


def test_signing_anew_with_a_key_that_is_compromised_too_does_not_help(case: Case) -> None:
    case.compromised(suspect_from=4)
    case.new_analyst("Aurora analyst 2")
    case.author.json("pattern", "resign", "--yes")
    assert case.states() == ["active"] * 3
    case.compromised(suspect_from=0, analyst="Aurora analyst 2")
    assert case.states() == ["active", "suspect", "suspect"]


def test_what_a_thief_revised_is_out_of_force_with_all_that_was_before(case: Case) -> None:
    _, receipt = case.box.publish(case.aurora, pattern_body("Watered down"), case.patterns[0])
    case.compromised(suspect_from=receipt.index)
    assert case.states()[0] == "suspect"
    newest = case.reader.json("pattern", "show", case.patterns[0])
    assert [one["state"] for one in newest["versions"]] == ["superseded", "suspect"]
    assert case.states()[1:] == ["active", "active"]


def test_a_withdrawal_by_a_thief_stays_one(case: Case) -> None:
    body = withdrawal_body(case.box.reference(case.patterns[0]))
    made = case.box.record(case.aurora, body)
    receipt = case.box.log(made, case.aurora.analyst)
    case.compromised(suspect_from=receipt.index)
    assert case.states() == ["withdrawn", "active", "active"]


def test_sightings_by_a_compromised_key_are_suspect(case: Case) -> None:
    body = sighting_body(case.box.reference(case.foreign))
    receipt = case.box.log(case.box.record(case.aurora, body), case.aurora.analyst)
    case.compromised(suspect_from=receipt.index)
    case.reader.run("sync")
    assert [one["state"] for one in case.reader.json("sighting", "list")] == ["suspect"]


def test_a_key_that_went_out_of_use_turns_out_to_have_been_stolen(case: Case) -> None:
    first = case.compromised(suspect_from=None)
    assert case.states() == ["active"] * 3
    case.compromised(suspect_from=5)
    assert case.states() == ["active", "active", "suspect"]
    case.compromised(suspect_from=3)
    assert case.states() == ["suspect"] * 3
    shown = case.reader.json("pattern", "show", case.patterns[0])["provenance"]
    assert shown["signer_state"] == f"revoked at index {first}, suspect from index 3"
    assert differences(case.box.hub.database_url) == []


def test_the_lab_reports_it_by_a_command(case: Case) -> None:
    key_id = key(case.aurora.analyst).public_key.key_id
    case.author.run("sync")
    case.author.run("key", "revoke", key_id[:12], "--reason", "rotated")
    assert "0 keys in force" in case.author.run("key", "revoke", key_id[:12], "--reason", "again", code=2)
    case.author.run("key", "revoke", key_id[:12], "--reason", "it was stolen", "--suspect-from", "4")
    assert case.states() == ["active", "suspect", "suspect"]


def test_the_admins_report_it_for_a_lab_that_cannot(case: Case) -> None:
    key_id = key(case.aurora.analyst).public_key.key_id
    case.box.decree("membership.suspend", case.aurora.id, {"reason": "Something is wrong there"})
    body = {"key_id": key_id, "reason": "Stolen", "suspect_from": 5}
    case.box.decree("membership.revoke_key", case.aurora.id, body)
    assert case.states() == ["active", "active", "suspect"]


def test_the_lab_endorses_anew_what_it_stands_by_and_the_hash_stays(case: Case) -> None:
    entries = [case.box.reference(pattern)["entry"] for pattern in case.patterns]
    endorse(case, case.patterns[0], case.aurora, case.aurora.analyst)
    case.compromised(suspect_from=4)
    case.new_analyst("Aurora analyst 2")
    assert case.states() == ["active", "suspect", "suspect"]
    endorse(case, case.patterns[1], case.boreal, case.boreal.analyst)  # is not theirs to say
    assert case.states() == ["active", "suspect", "suspect"]
    made = endorse(case, case.patterns[1], case.aurora, "Aurora analyst 2")
    assert case.states() == ["active", "active", "suspect"]
    assert case.reader.json("pattern", "show", case.patterns[1])["provenance"]["entry"] == entries[1]
    reference = case.box.reference(made)
    withdrawal = case.box.statement(
        "withdrawal", new_id("withdrawal", uuid4()), case.aurora.id, withdrawal_body(reference)
    )
    case.box.log(signed(withdrawal, "Aurora analyst 2"), "Aurora analyst 2")
    assert case.states() == ["active", "suspect", "suspect"]
    endorse(case, case.patterns[2], case.aurora, "Aurora analyst 2")
    case.compromised(suspect_from=0, analyst="Aurora analyst 2")
    assert case.states() == ["active", "suspect", "suspect"]


def test_an_endorsement_is_of_one_version_and_ends_no_suspicion_of_another(case: Case) -> None:
    case.compromised(suspect_from=3)
    case.new_analyst("Aurora analyst 2")
    first = case.box.reference(case.patterns[0])
    case.box.log(
        signed(
            case.box.statement("pattern", case.patterns[0], case.aurora.id, pattern_body("Revised")),
            "Aurora analyst 2",
        ),
        "Aurora analyst 2",
    )
    case.compromised(suspect_from=3, analyst="Aurora analyst 2")
    case.new_analyst("Aurora analyst 3")
    voice = voice_id("endorsement", case.aurora.id, str(first["entry"]))
    body = endorsement_body(handling(), first)
    case.box.log(
        signed(case.box.statement("endorsement", voice, case.aurora.id, body), "Aurora analyst 3"), "Aurora analyst 3"
    )
    assert case.states() == ["suspect"] * 3


def endorse(case: Case, pattern: str, lab: Lab, signer: str) -> str:
    """A lab endorses the newest version of a pattern; gives the endorsement's id."""
    reference = case.box.reference(pattern)
    voice = voice_id("endorsement", lab.id, str(reference["entry"]))
    document = case.box.statement("endorsement", voice, lab.id, endorsement_body(handling(), reference))
    case.box.log(signed(document, signer), signer)
    return voice
