"""Witnessing by the commands that people use, on a real hub: `sync`, `witness`, `status`, `doctor`, `key`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hub.identity import HubIdentity
from member_client.forum.explaining import explain
from member_client.keystore import KeyStore
from member_client.session import Session
from sharing_protocol import wire
from sharing_protocol.statements import AddKey, Role, parse
from tests.forum import ForumInABox, pattern_body, running_hub
from tests.member_client.lab_homes import Client, make_home
from tests.protocol.forum_log import AURORA, forum_of_two_labs, registration, signed

ROLES = ("owner", "analyst", "sync", "witness")


@pytest.fixture(scope="module")
def box(new_database: Callable[[], str], hub_identity: HubIdentity) -> Iterator[ForumInABox]:
    with running_hub(new_database(), hub_identity) as hub:
        made = ForumInABox(hub)
        made.found()
        yield made


def admitted(box: ForumInABox, name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> Client:
    """A lab of three with a home and a witness key."""
    return Client(make_home(folder / name, box, box.admit(name, "witness"), ROLES), capsys)


def test_three_labs_witness_for_each_other(
    box: ForumInABox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aurora, boreal, cirrus = (admitted(box, name, tmp_path, capsys) for name in ("Aurora", "Boreal", "Cirrus"))
    size = box.size()
    assert aurora.json("witness", "show")["policy"] == "none"
    for lab in (aurora, boreal, cirrus):
        assert lab.json("witness", "set", "majority") == {"policy": "majority"}
    first = aurora.json("sync")
    assert (first["status"], first["entries"], first["cosigned"]) == ("ok", 0, size)
    assert first["waiting"].startswith("1 have cosigned it lately, 2 must; missing: ")
    assert aurora.json("status")["checkpoint_is_fresh"] is False
    assert "nothing newer is believed yet" in boreal.run("sync", "--no-witness")
    second = boreal.json("sync")
    assert (second["entries"], second["cosigned"], second["waiting"], second["notices"]) == (size, size, None, [])
    assert aurora.json("sync")["entries"] == size
    shown = aurora.json("status")
    assert shown["checkpoint_is_fresh"] is True
    assert set(shown["checkpoint_cosigned_by"]) == {"Aurora", "Boreal"}
    assert (shown["witness_policy"], shown["cosigned_here"]) == ("majority", size)
    assert "Boreal" in aurora.run("status")
    checks = {check["check"]: check for check in aurora.json("doctor")}
    assert checks["witness"]["detail"] == f"{size} entries cosigned so far; a policy for others' cosignatures"
    assert all(check["ok"] for check in checks.values())
    # The others' keys, in a policy of one's own.
    keys = {lab["name"]: lab["witness_keys"] for lab in aurora.json("witness", "show")["labs"]}
    text = f"witness b {keys['Boreal'][0]}\nwitness c {keys['Cirrus'][0]}\ngroup both all b c\nquorum both\n"
    (tmp_path / "policy.txt").write_text(text)
    assert "quorum both" in cirrus.run("witness", "set", str(tmp_path / "policy.txt"))
    assert (cirrus.json("sync")["entries"], cirrus.json("status")["cosigned_here"]) == (size, size)
    assert cirrus.run("witness", "set", "none")
    assert cirrus.json("witness", "show")["policy"] == "none"
    assert not (cirrus.home / "policy").exists()


def test_an_older_home_gets_a_witness_key(box: ForumInABox, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drift = Client(make_home(tmp_path / "Drift", box, box.admit("Drift")), capsys)
    assert drift.json("sync")["cosigned"] is None
    assert "no witness key" in drift.run("sync", "--witness", code=2)
    request = tmp_path / "request.json"
    drift.run("key", "new", "witness", "-o", str(request))
    checks = {check["check"]: check["detail"] for check in drift.json("doctor")}
    assert checks["witness"].startswith("the witness key is not registered")
    assert drift.json("sync")["cosigned"] is None
    drift.run("key", "add", str(request))
    assert drift.json("sync", "--no-witness")["cosigned"] is None
    assert drift.json("sync")["cosigned"] == box.size()
    [stored] = KeyStore(drift.home / "keys").stored("witness")
    kept = stored.path.with_suffix(".cosigned")
    assert kept.stat().st_mode & 0o777 == 0o600
    kept.write_text("gone")
    assert "is damaged" in drift.json("sync", code=2)["message"]
    checks = {check["check"]: check for check in drift.json("doctor", code=2)}
    assert "is damaged" in checks["witness"]["detail"]


def test_a_policy_that_is_none_is_refused(box: ForumInABox, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ember = Client(make_home(tmp_path / "Ember", box, box.admit("Ember")), capsys)
    (tmp_path / "wrong").write_text("quorum nobody\n")
    assert "line 1: 'nobody' is no witness" in ember.run("witness", "set", str(tmp_path / "wrong"), code=2)
    assert "neither a rule nor a file" in ember.run("witness", "set", "everybody", code=2)
    assert not (ember.home / "policy").exists()
    (ember.home / "policy").write_text("quorum nobody\n")
    assert "is not a policy" in ember.json("sync", code=2)["message"]
    Client(tmp_path, capsys).run("witness", "set", "majority", code=2)
    assert not (tmp_path / "policy").exists()


@pytest.mark.parametrize(("seconds", "says"), [(40, "ahead of the hub's"), (-40, "behind the hub's")])
def test_a_clock_that_goes_wrong_is_told_of_before_anything_is_refused(
    box: ForumInABox, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    seconds: int, says: str,
) -> None:  # fmt: skip
    home = make_home(tmp_path / "Fjord", box, box.admit(f"Fjord {says}"))
    fjord = Client(home, capsys)
    assert fjord.json("sync")["notices"] == []
    monkeypatch.setattr(Session.__init__, "__defaults__", (lambda: time.time() + seconds,))
    report = fjord.json("sync")
    assert report["status"] == "ok"
    assert -seconds - 8 < report["clock_skew_seconds"] < -seconds + 2
    assert [says in notice for notice in report["notices"]] == [True]
    assert says in fjord.run("sync")
    checks = {check["check"]: check for check in fjord.json("doctor", code=2)}
    assert says in checks["clock"]["detail"]
    assert "NTP" in checks["clock"]["mend"]
    assert checks["hub"]["ok"]
    monkeypatch.setattr(Session.__init__, "__defaults__", (lambda: time.time() + 2 * seconds,))
    refused = fjord.json("sync", code=3)
    assert (refused["error"], refused["hint"]) == ("stale_request", "set this machine's clock (NTP)")
    assert "the clocks differ" in {c["check"]: c for c in fjord.json("doctor", code=2)}["clock"]["detail"]


def test_a_witness_that_was_robbed_hears_of_it(
    box: ForumInABox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = box.admit("Glade", "witness")
    glade = Client(make_home(tmp_path / "Glade", box, lab, ROLES), capsys)
    assert glade.json("sync")["notices"] == []
    box.publish(lab, pattern_body("Seen before Glade has synced"))
    assert box.witness(lab).status_code == 200  # by whoever else has the key
    report = glade.json("sync")
    assert report["cosigned"] == box.size()
    assert f"has cosigned {box.size()} entries, and the home does not know of it" in report["notices"][0]
    assert box.get(wire.COSIGNATURES, member=lab.id).json()["checkpoints"]


@pytest.mark.parametrize(
    ("role", "may"),
    [
        (Role.OWNER, "may manage the lab's keys"),
        (Role.ANALYST, "may publish records"),
        (Role.SYNC, "may read"),
        (Role.WITNESS, "may cosign the log as a witness"),
    ],
)
def test_whoever_admits_a_key_reads_what_it_may(role: Role, may: str) -> None:
    log = forum_of_two_labs()
    body = {"key": registration("another", role, AURORA), "reason": "One more"}
    statement = parse(signed(log.next("membership.add_key", AURORA, AURORA, body), "Aurora owner").payload)
    assert isinstance(statement, AddKey)
    assert may in "\n".join(explain(statement, log.membership))
    assert {one.value for one in Role} == {"owner", "analyst", "sync", "witness"}, "say here what a new role may"
