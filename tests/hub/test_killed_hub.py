"""Real hub processes are killed while 32 writers submit: what was acknowledged stays, and the writers get on.

How often they are killed is `STILLWATCH_TEST_KILLS`, 3 by default and at least; run with `-s` to see the figures. From
20 on (`make test-slow`), Postgres itself is killed too, its disk runs full, and a hub hangs in its turn.
"""

from __future__ import annotations

import contextlib
import os
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from hub.database.embedded import EmbeddedPostgres, destroy
from hub.database.embedded_place import existing_cluster
from tests.hub.hub_process import HubProcess, check_command, hub_processes
from tests.hub.persistent_writers import PersistentWriters, assert_all_kept, assert_same_index_again
from tests.hub.stored_log import connect, differences
from tests.small_disk import fill, small_file_system

KILLS = max(3, int(os.environ.get("STILLWATCH_TEST_KILLS", "3")))
TURNS = b"""SELECT pid, xact_start, state_change FROM pg_stat_activity
    WHERE datname = current_database() AND state = 'idle in transaction'
    AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted)"""
pytestmark = pytest.mark.timeout(120 + 30 * KILLS)


def kill_at_random(hubs: Sequence[HubProcess], writers: PersistentWriters, kills: int) -> None:
    """Kill one of them so many times, each time in the middle of something, and start it again."""
    chance = random.Random()
    for _ in range(kills):
        # The first receipt of a batch comes while its others are on their way: committed, and nobody was told.
        writers.wait_for(chance.randrange(1, 64))
        time.sleep(chance.choice((0, 0, chance.uniform(0, 0.1))))
        victim = chance.choice(hubs)
        victim.kill()
        victim.start()
        victim.wait_until_ready()
    writers.wait_for(32)


def kill_postgres(home: Path) -> None:
    """kill -9 of the server and every process of it at one moment, and wait until they are gone."""
    cluster = existing_cluster(home)
    assert cluster is not None
    postmaster = psutil.Process(int((cluster.data / "postmaster.pid").read_text().split("\n")[0]))
    processes = [postmaster, *postmaster.children()]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, 20)


def wait_until_nothing_moves(writers: PersistentWriters) -> None:
    """Postgres has some room in the files that it has; wait until that is used up."""
    deadline = time.monotonic() + 90
    before = -1
    while before != (before := len(writers.acknowledged)):
        assert time.monotonic() < deadline, "the disk is full, and records are acknowledged all the same"
        time.sleep(2)


def tell(what: str, kills: int, writers: PersistentWriters) -> None:
    acknowledged = writers.acknowledged
    doubtful = [one for one in acknowledged if one.broken]
    found = [one for one in doubtful if one.receipt.already_logged]
    print(
        f"\n{what}: {kills} kills, {len(acknowledged)} records acknowledged, {len(doubtful)} of them after a broken "
        f"connection, of which {len(found)} were in the log already; longest time without any receipt "
        f"{writers.longest_pause:.2f} s, longest wait of one writer {max(one.seconds for one in acknowledged):.2f} s"
    )


def test_a_killed_hub_has_lost_nothing_that_it_acknowledged(database: str, tmp_path: Path) -> None:
    kills = KILLS // 3
    with hub_processes(tmp_path / "home", database) as hubs:
        box = hubs[0].found()
        lab = box.admit("Aurora")
        with PersistentWriters(box, lab, hubs) as writers:
            kill_at_random(hubs, writers, kills)
        tell("one hub", kills, writers)
        assert_all_kept(database, box.hub.identity, writers.acknowledged)
        assert_same_index_again(box, lab, hubs[0], [*writers.acknowledged[:16], *writers.acknowledged[-16:]])
        assert any(one.broken for one in writers.acknowledged)
    assert differences(database) == []


def test_a_hub_killed_with_its_embedded_postgres_has_lost_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    home = tmp_path / "home"
    try:
        with hub_processes(home) as hubs:
            box = hubs[0].found()
            lab = box.admit("Aurora")
            with PersistentWriters(box, lab, hubs) as writers:
                kill_at_random(hubs, writers, KILLS // 3)
            tell("one hub, killed with its database", KILLS // 3, writers)
            assert_same_index_again(box, lab, hubs[0], writers.acknowledged[:16])
            with EmbeddedPostgres.start(home) as server:
                assert_all_kept(server.url, box.hub.identity, writers.acknowledged)
                assert differences(server.url) == []
    finally:
        destroy(home)


def test_of_two_hubs_on_one_database_either_may_be_killed(database: str, tmp_path: Path) -> None:
    with hub_processes(tmp_path / "home", database, count=2) as hubs:
        box = hubs[0].found()
        lab = box.admit("Aurora")
        with PersistentWriters(box, lab, hubs) as writers:
            kill_at_random(hubs, writers, KILLS)
        tell("two hubs", KILLS, writers)
        assert_all_kept(database, box.hub.identity, writers.acknowledged)
        for hub in hubs:
            assert_same_index_again(box, lab, hub, writers.acknowledged[-16:])
        assert any(one.broken for one in writers.acknowledged)
        assert "no difference" in check_command(hubs[0])


slow = pytest.mark.skipif(KILLS < 20, reason="takes a minute or more: make test-slow")


@slow
def test_a_killed_postgres_has_lost_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Its own processes are killed; whoever runs it starts it again, and the hub goes on by itself."""
    home = tmp_path / "home"
    try:
        with EmbeddedPostgres.start(home) as first, hub_processes(tmp_path / "hub", first.url) as hubs:
            box = hubs[0].found()
            lab = box.admit("Aurora")
            server = first
            with contextlib.ExitStack() as later:
                with PersistentWriters(box, lab, hubs) as writers:
                    for _ in range(KILLS):
                        writers.wait_for(random.randrange(1, 64))
                        kill_postgres(home)
                        server = later.enter_context(EmbeddedPostgres.start(home))
                    writers.wait_for(32)
                tell("one hub, whose database is killed", KILLS, writers)
                assert_all_kept(server.url, box.hub.identity, writers.acknowledged)
                assert differences(server.url) == []
    finally:
        destroy(home)


@slow
def test_a_full_disk_stops_the_log_and_loses_nothing(tmp_path: Path) -> None:
    disk = Path(tempfile.mkdtemp(prefix="stillwatch-test-"))
    disk.chmod(0o755)
    try:
        with small_file_system(disk, "256m"):
            home = disk / "home"
            home.mkdir(mode=0o755)  # root's Postgres runs as somebody else, and keeps its data where it can go
            with hub_processes(home) as hubs:
                box = hubs[0].found()
                lab = box.admit("Aurora")
                with PersistentWriters(box, lab, hubs) as writers:
                    for _ in range(3):
                        writers.wait_for(64)
                        cluster = existing_cluster(home)
                        assert cluster is not None
                        assert cluster.data.is_relative_to(disk)
                        filler = fill(disk)
                        wait_until_nothing_moves(writers)
                        filler.unlink()
                        # Postgres gives up when it cannot write ahead, and so ends what was started with it.
                        hubs[0].kill()
                        hubs[0].start()
                        hubs[0].wait_until_ready()
                    writers.wait_for(64)
                tell("one hub, whose disk runs full", 3, writers)
            with EmbeddedPostgres.start(home) as server:
                assert_all_kept(server.url, box.hub.identity, writers.acknowledged)
                assert differences(server.url) == []
            destroy(home)
    finally:
        disk.rmdir()


@slow
def test_a_hub_that_hangs_in_its_turn_is_passed_over_and_finds_that_it_was(database: str, tmp_path: Path) -> None:
    with hub_processes(tmp_path / "home", database, count=2) as hubs:
        box = hubs[0].found()
        lab = box.admit("Aurora")
        with PersistentWriters(box, lab, hubs) as writers:
            writers.wait_for(100)
            freeze_in_its_turn(hubs[0], database)
            # Whoever asks the hub that hangs gives up after a while, and goes to the other.
            writers.wait_for(48)
            hubs[0].thaw()
            writers.wait_for(200)
        tell("two hubs, one of which hangs in its turn", 0, writers)
        assert_all_kept(database, box.hub.identity, writers.acknowledged)
        for hub in hubs:
            assert_same_index_again(box, lab, hub, writers.acknowledged[-16:])
        assert "no difference" in check_command(hubs[0])


def freeze_in_its_turn(hub: HubProcess, database_url: str) -> None:
    """Freeze it while its transaction holds the log's lock, which shows in that nothing moves."""
    with connect(database_url) as connection:
        for _ in range(500):
            hub.freeze()
            time.sleep(0.1)
            found = connection.execute(TURNS).fetchall()
            time.sleep(1)
            if found and connection.execute(TURNS).fetchall() == found:
                return
            hub.thaw()
            time.sleep(random.uniform(0, 0.05))
    raise AssertionError("it never hung in its turn")
