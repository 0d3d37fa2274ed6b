"""The ceremony by which a log gets other keys, by the commands that people run: operator, admins, labs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hub.cli import commands
from hub.identity import HubIdentity
from member_client.sync.store import Store
from tests.forum import ForumInABox, Lab, pattern_body, running_hub
from tests.hub.stored_log import differences, rows
from tests.member_client.lab_homes import Client, make_admin_home, make_home


@dataclass
class Place:
    """A hub that runs, with a home of its own, and the homes of two admins and of two labs that have synced."""

    folder: Path
    database: str
    box: ForumInABox
    labs: dict[str, Lab]
    clients: dict[str, Client]

    @property
    def home(self) -> Path:
        return self.folder / "hub"

    def next_keys(self, home: Path | None = None, *options: str) -> Path:
        card = self.folder / f"card-{len(list(self.folder.glob('card-*')))}.json"
        arguments = ["next-keys", "--home", str(home or self.home), "-o", str(card), *options]
        commands(arguments, standalone_mode=False)
        return card


@pytest.fixture
def place(database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Place]:
    identity = HubIdentity.load_or_make(tmp_path / "hub", "forum.example/log")
    with running_hub(database, identity, home=tmp_path / "hub") as hub:
        box = ForumInABox(hub)
        box.found()
        labs = {name: box.admit(name) for name in ("Aurora", "Boreal")}
        box.publish(labs["Aurora"], pattern_body("By the first keys"))
        homes = {name: make_home(tmp_path / name, box, lab) for name, lab in labs.items()}
        homes |= {name: make_admin_home(tmp_path / name, box, name) for name in ("Ada", "Ben")}
        clients = {name: Client(home, capsys) for name, home in homes.items()}
        for client in clients.values():
            client.run("sync")
        yield Place(tmp_path, database, box, labs, clients)


def sign_all(place: Place, proposed: dict[str, str]) -> dict[str, object]:
    signed: dict[str, object] = place.clients["Ben"].json("forum", "sign", proposed["proposal"][:12], "--yes")
    return signed


def pattern_file(place: Place, title: str) -> str:
    path = place.folder / f"{title}.yaml"
    shown = place.clients["Aurora"].json("pattern", "list")[0]["id"]
    text = place.clients["Aurora"].run("pattern", "export", shown, "--format", "pattern")
    path.write_text(text.replace("By the first keys", title))
    return str(path)


def test_the_ceremony(place: Place) -> None:
    file = pattern_file(place, "By the second keys")
    card = place.next_keys()
    told = place.clients["Ada"].run("forum", "change-log-keys", str(card), "--reason", "yearly", "--yes", code=0)
    assert "EXCHANGE THE LOG'S KEYS" in told
    mark = next(line for line in told.splitlines() if "mark" in line).split()[-1]
    assert len(mark) == 16
    (pending,) = place.clients["Ben"].json("forum", "pending")
    assert json.loads(card.read_text())["log_key"] in " ".join(pending["what"])
    assert pending["problem"] == ""
    assert sign_all(place, pending)["index"] == 4
    # A lab publishes without having heard of it: the receipt is by keys that it gets to know on the way.
    published = place.clients["Aurora"].json("pattern", "submit", file, "--no-sync")
    assert [one["index"] for one in published] == [5]
    for name in ("Aurora", "Boreal", "Ada", "Ben"):
        place.clients[name].run("sync")
        assert place.clients[name].json("status")["entries"] == 6
    assert place.clients["Boreal"].json("doctor")
    history = place.clients["Boreal"].json("forum", "log")
    assert history[-1]["type"] == "membership.change_log"
    assert sorted(history[-1]["signed_by"]) == ["Ada", "Ben"]
    assert differences(place.database) == []
    store = Store(place.clients["Aurora"].home / "store.sqlite")
    assert store.unsettled_receipts() == []
    store.close()


def test_a_doctor_that_meets_other_keys_sends_one_to_sync(place: Place) -> None:
    proposed = place.clients["Ada"].json(
        "forum", "change-log-keys", str(place.next_keys()), "--reason", "yearly", "--yes"
    )
    sign_all(place, proposed)
    assert "run `stillwatch sync`" in place.clients["Boreal"].run("doctor", code=2)
    assert not (place.clients["Boreal"].home / "evidence").exists()
    place.clients["Boreal"].run("sync")
    place.clients["Boreal"].run("doctor")


def test_a_member_that_comes_late_needs_nothing_but_the_fingerprint(place: Place, tmp_path: Path) -> None:
    for reason in ("first", "second"):
        proposed = place.clients["Ada"].json(
            "forum", "change-log-keys", str(place.next_keys()), "--reason", reason, "--yes"
        )
        sign_all(place, proposed)
    home = make_home(tmp_path / "another machine", place.box, place.labs["Boreal"])
    late = Client(home, place.clients["Ada"]._capsys)
    late.run("sync")
    assert late.json("status")["entries"] == 6


@pytest.mark.parametrize("spoil", ["origin", "proof", "file"])
def test_a_card_that_is_not_right_is_refused_before_anybody_signs(place: Place, spoil: str) -> None:
    card = place.next_keys()
    document = json.loads(card.read_text())
    if spoil == "origin":
        document["origin"] = "other.example/log"
    elif spoil == "proof":
        document["log_key_proof"] = document["timestamp_key_proof"]
    else:
        del document["timestamp_key"]
    card.write_text(json.dumps(document))
    place.clients["Ada"].run("forum", "change-log-keys", str(card), "--reason", "x", "--yes", code=2)
    assert rows(place.database, "SELECT 1 FROM proposals") == []


def test_keys_of_another_hub_are_refused_by_this_one(place: Place, tmp_path: Path) -> None:
    card = place.next_keys(tmp_path / "elsewhere", "--origin", "forum.example/log")
    refused = place.clients["Ada"].json("forum", "change-log-keys", str(card), "--reason", "x", "--yes", code=3)
    assert refused["error"] == "wrong_log"


def test_lost_keys_are_replaced_by_the_same_commands(
    new_database: Callable[[], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No copy of the keys is left. The admins go by what they have read; the members notice nothing but a pause."""
    database, old = new_database(), tmp_path / "old"
    with running_hub(database, HubIdentity.load_or_make(old, "forum.example/log"), home=old) as hub:
        box = ForumInABox(hub)
        box.found()
        lab = box.admit("Aurora")
        port = int(hub.url.rsplit(":", 1)[1])
        clients = {name: Client(make_admin_home(tmp_path / name, box, name), capsys) for name in ("Ada", "Ben")}
        clients["Aurora"] = Client(make_home(tmp_path / "Aurora", box, lab), capsys)
        for client in clients.values():
            client.run("sync")
    shutil.rmtree(old)
    place = Place(tmp_path, database, box, {"Aurora": lab}, clients)
    card = place.next_keys(tmp_path / "new", "--origin", "forum.example/log")
    with running_hub(database, HubIdentity.load(tmp_path / "new"), port=port, home=tmp_path / "new"):
        paused = clients["Aurora"].json("sync", code=4)
        assert "does not hold the keys" in paused["message"]
        proposed = clients["Ada"].json("forum", "change-log-keys", str(card), "--reason", "a fire", "--yes")
        sign_all(place, proposed)
        for client in clients.values():
            client.run("sync")
            assert client.json("status")["entries"] == 3
    assert differences(database) == []
