"""An operator restores an old backup. The hub notices before it signs, its members notice, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from hub.cli import commands
from hub.database.connections import make_engine
from hub.directory import Directory
from hub.errors import HubError, LogHalted
from hub.identity import HubIdentity
from hub.log_keys import LogKeys
from hub.newest_checkpoint import FILE, NewestCheckpointError
from hub.rollback import RollBackGuard
from member_client.cli.main import run
from member_client.sync.store import Store
from sharing_protocol import wire
from sharing_protocol.checkpoints import Checkpoint
from tests.forum import ForumInABox, Lab, RunningHub, code_of, make_identity, pattern_body, running_hub
from tests.hub.lone_sequencer import sequence_at_once
from tests.hub.stored_log import connect, copied, differences, number, rows, wait_until
from tests.member_client.follower import dump
from tests.member_client.lab_homes import Client, make_home

EARLY, LATE = 4, 8


@dataclass
class Disaster:
    """A forum whose hub lost what came after a backup.

    Attributes:
        folder: has the operator's `home`, the `backup`, and the homes of the labs, which have read everything.
        origin: the database as it was before the loss.
        restored: the database as a base backup would bring it back, without a mark.
        box: the forum; its hub is not running.
        stores: what the labs knew.
        port: of the hub, as the labs have it.
        receipt: Aurora's, for the last entry.
    """

    folder: Path
    origin: str
    restored: str
    box: ForumInABox
    labs: dict[str, Lab]
    stores: dict[str, dict[str, list[tuple[object, ...]]]]
    port: int
    identity: HubIdentity
    receipt: wire.Receipt

    @property
    def home(self) -> Path:
        return self.folder / "hub"


@pytest.fixture(scope="module")
def before(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Disaster:
    """Two labs have read four entries, the operator makes a backup, four more come, and three labs read them."""
    folder, database = tmp_path_factory.mktemp("disaster"), new_database()
    identity = make_identity(folder / "hub")
    with running_hub(database, identity, home=folder / "hub") as hub:
        box = ForumInABox(hub)
        box.found()
        labs = {name: box.admit(name) for name in ("Aurora", "Boreal")}
        pattern, _ = box.publish(labs["Aurora"], pattern_body("Before the loss"))
        for name in labs:
            quiet_sync(make_home(folder / name, box, labs[name]))
        operate("backup", folder / "backup", folder / "hub", database)
        # Later: a new member, a revision, a pattern of another lab's, and one more.
        labs["Cirrus"] = box.admit("Cirrus")
        box.publish(labs["Aurora"], pattern_body("Revised"), pattern)
        box.publish(labs["Boreal"], pattern_body("By another"))
        _, receipt = box.publish(labs["Aurora"], pattern_body("The last"))
        make_home(folder / "Cirrus", box, labs["Cirrus"])
        for name in labs:
            quiet_sync(folder / name)
        stores = {name: dump(folder / name / "store.sqlite") for name in labs}
        port = int(hub.url.rsplit(":", 1)[1])
    restored = new_database()
    operate("restore", folder / "backup", folder / "hub", restored)
    with connect(restored) as connection:
        connection.execute("DELETE FROM log_halt")
    return Disaster(folder, database, restored, box, labs, stores, port, identity, receipt)


@pytest.fixture
def disaster(before: Disaster, tmp_path: Path) -> Disaster:
    """A copy of it all, for one test."""
    folder = tmp_path / "copy"
    shutil.copytree(before.folder, folder)
    return replace(before, folder=folder, restored=copied(before.restored))


@contextlib.contextmanager
def operated(disaster: Disaster, database: str | None = None, home: Path | None = None) -> Iterator[ForumInABox]:
    """The hub, where the members expect it."""
    with running_hub(
        database or disaster.restored, disaster.identity, port=disaster.port, home=home or disaster.home
    ) as hub:
        yield at(disaster.box, hub)


def at(box: ForumInABox, hub: RunningHub) -> ForumInABox:
    return ForumInABox(hub, box.admins, box.threshold, box.id, box.fingerprint, dict(box.heads))


def operate(command: str, *arguments: object) -> None:
    """A command of `stillwatch-hub` with what it is about, the home and the database."""
    *about, home, database = map(str, arguments)
    commands([command, *about, "--home", home, "--database-url", database], standalone_mode=False)


def quiet_sync(home: Path) -> None:
    assert run(["sync", "--quiet", "--home", str(home)]) == 0


def client(disaster: Disaster, name: str, capsys: pytest.CaptureFixture[str]) -> Client:
    return Client(disaster.folder / name, capsys)


def halted(database: str) -> list[tuple[object, ...]]:
    return rows(database, "SELECT kind, reason FROM log_halt")


def submitted(box: ForumInABox, disaster: Disaster) -> tuple[int, str]:
    lab = disaster.labs["Aurora"]
    response = box.submit(box.record(lab, pattern_body("After the loss")), lab.analyst)
    return response.status_code, code_of(response) if response.status_code >= 400 else ""


# -- the hub notices -----------------------------------------------------------------------------------------------


def test_home_keeps_the_newest_checkpoint_privately(before: Disaster) -> None:
    path = before.home / FILE
    assert path.read_text().split("\n")[1] == str(LATE)
    assert path.stat().st_mode & 0o777 == 0o600


def test_restored_log_is_neither_extended_nor_served_by_the_hub_that_knows_better(disaster: Disaster) -> None:
    with operated(disaster) as box:
        assert submitted(box, disaster) == (503, "log_rolled_back")
        for path in (wire.CHECKPOINT, f"{wire.CHECKPOINT}?after=1&wait=1", "/tile/entries/000.p/4", wire.MEMBERS):
            response = box.get(path)
            assert (response.status_code, code_of(response)) == (503, "log_rolled_back")
            assert response.headers["retry-after"] == "60"
    assert number(disaster.restored, "SELECT tree_size FROM log_head") == EARLY
    reason = f"the log was rolled back: it has {EARLY} entries, and {LATE} were published"
    assert halted(disaster.restored) == [("rolled back", reason)]


@pytest.mark.parametrize("first", ["submission", "reader"])
@pytest.mark.parametrize("regrown", [False, True])
def test_database_put_back_under_a_running_hub_is_noticed_before_the_next_signature(
    before: Disaster, tmp_path: Path, first: str, regrown: bool
) -> None:
    """As after a failover to a standby that lacked the last commit; perhaps a process elsewhere went on from there."""
    database = copied(before.origin)
    with running_hub(database, before.identity, home=tmp_path) as hub:
        box = at(before.box, hub)
        assert box.size() == LATE
        put_back(database, LATE - 1)
        if regrown:
            sequence_at_once(database, before.identity, [box.record(before.labs["Boreal"], pattern_body("Other"))])
        if first == "submission":
            assert submitted(box, before) == (503, "log_rolled_back")
        assert code_of(box.get(wire.CHECKPOINT)) == "log_rolled_back"
        assert submitted(box, before) == (503, "log_rolled_back")
    assert number(database, "SELECT tree_size FROM log_head") == LATE - 1 + regrown
    assert (tmp_path / FILE).read_text().split("\n")[1] == str(LATE)


def put_back(database: str, size: int) -> None:
    """Undo what was logged from `size` on: patterns, that is."""
    with connect(database) as connection:
        for statement in (
            "ALTER TABLE log_entries DISABLE TRIGGER append_only",
            "ALTER TABLE checkpoints DISABLE TRIGGER append_only",
            f"DELETE FROM record_heads WHERE entry >= {size}",
            f"DELETE FROM records WHERE entry >= {size}",
            f"DELETE FROM log_entries WHERE index >= {size}",
            f"DELETE FROM checkpoints WHERE tree_size > {size}",
            f"UPDATE tiles SET hashes = substr(hashes, 1, 32 * {size})",
            f"UPDATE log_head SET tree_size = {size}",
        ):
            connection.execute(statement.encode())


def test_submission_that_was_let_in_before_the_halt_is_not_sequenced_either(before: Disaster) -> None:
    database = copied(before.origin)
    with connect(database) as connection:
        connection.execute("INSERT INTO log_halt (kind, reason) VALUES ('rolled back', 'as another process found')")
    (answer,) = sequence_at_once(
        database, before.identity, [before.box.record(before.labs["Boreal"], pattern_body("Late"))]
    )
    assert isinstance(answer, LogHalted)
    assert number(database, "SELECT tree_size FROM log_head") == LATE


def test_log_that_went_another_way_is_a_roll_back_too(disaster: Disaster, tmp_path: Path) -> None:
    """A hub without memory went on from the old state, and has as many entries as were published, or more."""
    with running_hub(disaster.restored, disaster.identity, home=tmp_path) as hub:
        box = at(disaster.box, hub)
        lab = disaster.labs["Boreal"]
        while box.size() <= LATE:
            box.publish(lab, pattern_body(f"Another history {box.size()}"))
    with operated(disaster) as box:
        assert submitted(box, disaster) == (503, "log_rolled_back")
    ((_, reason),) = halted(disaster.restored)
    assert f"do not begin with the {LATE} that were published" in str(reason)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"other.example/log\n8\nAAAA\n"])
def test_memory_that_cannot_be_believed_stops_the_start(before: Disaster, tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)

    async def start() -> None:
        engine = make_engine(before.restored, size=1)
        try:
            await RollBackGuard(engine, LogKeys(before.identity, tmp_path), Directory(engine)).start()
        finally:
            await engine.dispose()

    with pytest.raises(NewestCheckpointError, match="is not what this hub wrote"):
        asyncio.run(start())


# -- the members notice --------------------------------------------------------------------------------------------


def test_members_are_not_deceived_and_tell_every_process_of_a_hub_that_forgot(
    disaster: Disaster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        operated(disaster, home=tmp_path / "without memory") as box,
        running_hub(disaster.restored, disaster.identity, home=tmp_path / "another") as second,
    ):
        assert box.size() == EARLY, "nobody has told it yet"
        failure = client(disaster, "Aurora", capsys).json("sync", code=5)
        assert (failure["error"], failure["fault"]) == ("rolled_back", "roll back")
        evidence = json.loads(Path(failure["evidence"]).read_text())
        assert {"old_checkpoint", "new_checkpoint"} <= evidence["documents"].keys()
        assert dump(disaster.folder / "Aurora" / "store.sqlite") == disaster.stores["Aurora"]
        # From that moment on, nobody is served an old state any more, by whichever process.
        assert submitted(box, disaster) == (503, "log_rolled_back")
        assert submitted(at(box, second), disaster) == (503, "log_rolled_back")
        told = client(disaster, "Boreal", capsys).json("sync", code=4)
        assert "older than what it published" in told["message"]
    reports = rows(disaster.restored, "SELECT reporter, tree_size FROM checkpoint_reports ORDER BY 1")
    assert reports == sorted((disaster.labs[name].id, LATE) for name in ("Aurora", "Boreal"))


def test_receipt_is_shown_too(disaster: Disaster, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A publisher that has not synced since holds a receipt for more than it has read."""
    home = disaster.folder / "Aurora"
    (home / "store.sqlite").unlink()
    with operated(disaster, home=tmp_path / "without memory"):
        quiet_sync(home)
        store = Store(home / "store.sqlite")
        with store.transaction():
            store._database.execute(
                "INSERT INTO receipts (entry, idx, receipt) VALUES (?, ?, ?)",
                (disaster.receipt.entry, disaster.receipt.index, disaster.receipt.model_dump_json()),
            )
        store.close()
        assert client(disaster, "Aurora", capsys).json("sync", code=5)["error"] == "broken_promise"
    assert rows(disaster.restored, "SELECT tree_size FROM checkpoint_reports") == [(LATE,)]
    assert [kind for kind, _ in halted(disaster.restored)] == ["rolled back"]


def test_only_what_this_log_signed_halts_it(before: Disaster, tmp_path: Path) -> None:
    database = copied(before.origin)
    with running_hub(database, before.identity, home=tmp_path / "home") as hub:
        box = at(before.box, hub)
        genuine = box.get(wire.CHECKPOINT).text
        stranger = make_identity(tmp_path / "stranger")
        for body, status, code in (
            (b"", 400, "malformed_note"),
            (genuine.replace(f"\n{LATE}\n", "\n999\n", 1).encode(), 400, "bad_note_signature"),
            (str(stranger.sign(made_up(before, 999))).encode(), 422, "foreign_checkpoint"),
        ):
            refused = box.post(wire.CHECKPOINT, body, "Aurora sync")
            assert (refused.status_code, code_of(refused)) == (status, code)
        taken = box.post(wire.CHECKPOINT, genuine.encode(), "Aurora sync")
        assert taken.json() == {"tree_size": LATE, "extends": True}
        early = (before.home / FILE).read_bytes()
        assert box.post(wire.CHECKPOINT, early, "Boreal sync").json()["extends"]
        assert httpx.post(hub.url + wire.CHECKPOINT, content=genuine).status_code == 401
        assert halted(database) == []
        assert submitted(box, before) == (201, "")
        ahead = box.post(wire.CHECKPOINT, str(before.identity.sign(made_up(before, 999))).encode(), "Aurora sync")
        assert ahead.json() == {"tree_size": LATE + 1, "extends": False}
        assert submitted(box, before) == (503, "log_rolled_back")


def made_up(before: Disaster, size: int) -> Checkpoint:
    return Checkpoint(before.identity.origin, size, bytes(32))


# -- all is well again ---------------------------------------------------------------------------------------------


def test_lost_entries_come_back_from_a_member_and_everybody_goes_on(
    disaster: Disaster, new_database: Callable[[], str], capsys: pytest.CaptureFixture[str]
) -> None:
    database = new_database()
    operate("restore", disaster.folder / "backup", disaster.home, database)
    with operated(disaster, database) as box:
        # The home knows that more was published; without it, "log_unconfirmed" would say as much as is known.
        assert submitted(box, disaster)[0] == 503
        assert client(disaster, "Boreal", capsys).json("sync", code=4)["error"] == "hub_unreachable"
        box.post(wire.CHECKPOINT, (disaster.home / FILE).read_bytes(), "Ada")
        capsys.readouterr()
        operate("resume", disaster.home, database)
        shown = capsys.readouterr().out
        assert f"the log has {EARLY} entries" in shown
        ahead = [" ".join(line.split()) for line in shown.split("\n") if "AHEAD" in line]
        assert {f"{LATE} AHEAD Boreal", f"{LATE} AHEAD Ada, an admin"} <= set(ahead)
        with pytest.raises(HubError, match="does not extend the 8"):
            operate("resume", "--confirm", disaster.home, database)
        export = disaster.folder / "export"
        assert client(disaster, "Boreal", capsys).json("log", "export", str(export))["entries"] == LATE
        assert export.stat().st_mode & 0o777 == 0o600
        client(disaster, "Boreal", capsys).run("log", "export", str(export), code=2)
        operate("recover", export, disaster.home, database)
        assert submitted(box, disaster)[0] == 503, "it goes on when the operator says so, and not before"
        operate("check", disaster.home, database)
        operate("resume", "--confirm", disaster.home, database)
        # The processes that run see that by themselves.
        for name in ("Aurora", "Boreal", "Cirrus"):
            assert client(disaster, name, capsys).json("sync")["status"] == "ok"
            assert dump(disaster.folder / name / "store.sqlite") == disaster.stores[name]
        assert submitted(box, disaster) == (201, "")
        box.publish(disaster.labs["Cirrus"], pattern_body("By the member that was lost"))
        for name in ("Aurora", "Boreal", "Cirrus"):
            assert client(disaster, name, capsys).json("sync")["entries"] == LATE + 2
        wait_until(lambda: (disaster.home / FILE).read_text().split("\n")[1] == str(LATE + 2), "the home's checkpoint")
    assert differences(database) == []


def test_restored_log_waits_for_the_operator_even_when_nobody_knows_better(
    disaster: Disaster, new_database: Callable[[], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database, home = new_database(), tmp_path / "hub"
    shutil.copytree(disaster.home, home)
    (home / FILE).unlink()
    operate("restore", disaster.folder / "backup", home, database)
    with operated(disaster, database, home) as box:
        assert submitted(box, disaster) == (503, "log_unconfirmed")
        assert code_of(box.get(wire.CHECKPOINT)) == "log_unconfirmed"
        assert box.post(wire.CHECKPOINT, (disaster.home / FILE).read_bytes(), "Aurora sync").status_code == 200
        assert submitted(box, disaster) == (503, "log_rolled_back"), "now it is known"
    again = new_database()
    operate("restore", disaster.folder / "backup", home, again)
    operate("resume", "--confirm", home, again)
    with operated(disaster, again, home) as box:
        assert submitted(box, disaster) == (201, "")


def test_damaged_log_does_not_go_on(disaster: Disaster, new_database: Callable[[], str], tmp_path: Path) -> None:
    database, home = new_database(), tmp_path / "hub"
    shutil.copytree(disaster.home, home)
    (home / FILE).unlink()
    operate("restore", disaster.folder / "backup", home, database)
    with connect(database) as connection:
        connection.execute("UPDATE members SET name = 'Borora' WHERE name = 'Boreal'")
    with pytest.raises(HubError, match="members"):
        operate("resume", "--confirm", home, database)
    assert [kind for kind, _ in halted(database)] == ["restored"]
