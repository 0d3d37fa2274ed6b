"""A lab loses its owner key, or has it stolen: the admins give it another, by the commands that people run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.forum import ForumInABox, Lab, key, pattern_body, registration, signed
from tests.member_client.lab_homes import Client, make_admin_home, make_home


@dataclass
class Place:
    """A lab that has only its analyst and sync keys left, and two admins; all have synced."""

    box: ForumInABox
    lab: Lab
    aurora: Client
    ada: Client
    ben: Client

    def decide(self, *command: str) -> None:
        """One admin proposes, the other signs."""
        proposed = self.ada.json("forum", *command, "--yes")
        assert self.ben.json("forum", "sign", proposed["proposal"][:12], "--yes")["index"] is not None


@pytest.fixture
def place(box: ForumInABox, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Place:
    lab = box.admit("Aurora")
    aurora = Client(make_home(tmp_path / "aurora", box, lab), capsys)
    for path in (aurora.home / "keys").glob("owner-*"):
        path.unlink()
    ada, ben = (Client(make_admin_home(tmp_path / name, box, name), capsys) for name in ("Ada", "Ben"))
    for client in (aurora, ada, ben):
        client.run("sync")
    return Place(box, lab, aurora, ada, ben)


def test_a_lost_owner_key_is_replaced_by_the_admins(place: Place, tmp_path: Path) -> None:
    assert "no owner key in force" in place.aurora.run(
        "key", "revoke", key(place.lab.sync).public_key.key_id, "--reason", "rotated", code=2
    )
    request = tmp_path / "request.json"
    made = place.aurora.json("key", "new", "owner", "-o", str(request))
    place.decide("add-key", "Aurora", str(request), "--reason", "its owner key is lost")
    lost = key(place.lab.owner).public_key.key_id
    place.decide("revoke-key", "Aurora", lost[:12], "--reason", "lost")
    # The lab manages its keys again, and what it published before goes on.
    another = tmp_path / "another.json"
    place.aurora.json("key", "new", "sync", "-o", str(another))
    place.aurora.json("key", "add", str(another))
    states = {one["key_id"]: one["state"] for one in place.aurora.json("key", "list")}
    assert states[made["key_id"]] == "in force"
    assert states[lost].startswith("revoked at entry")
    place.box.heads.clear()
    place.box.publish(place.lab, pattern_body("By the old analyst key"))


def test_a_stolen_owner_key_is_stopped_first_and_replaced_then(place: Place, tmp_path: Path) -> None:
    thief = registration("Thief", "analyst", place.lab.id)
    body = {"key": thief, "reason": "a new machine"}
    document = place.box.statement("membership.add_key", place.lab.id, place.lab.id, body)
    place.box.log(signed(document, place.lab.owner), place.lab.owner)
    place.decide("suspend", "Aurora", "--reason", "its owner key is stolen")
    request = tmp_path / "request.json"
    place.aurora.json("key", "new", "owner", "-o", str(request))
    place.decide("add-key", "Aurora", str(request), "--reason", "a new owner key")
    place.decide("revoke-key", "Aurora", key(place.lab.owner).public_key.key_id[:12], "--reason", "stolen")
    stolen = key("Thief").public_key.key_id[:12]
    place.decide("revoke-key", "Aurora", stolen, "--reason", "the thief's", "--suspect-from", "2")
    place.aurora.run("sync", code=3)  # a suspended lab reads nothing
    place.decide("reinstate", "Aurora", "--reason", "its keys are its own again")
    place.aurora.run("sync")
    owners = [one for one in place.aurora.json("key", "list") if one["role"] == "owner" and one["state"] == "in force"]
    assert len(owners) == 1
