"""Killing `stillwatch sync` wherever it happens to be, or letting its disk run full: the next run completes, and the
store is that of a clean run.

How often it is killed is `STILLWATCH_TEST_SYNC_KILLS`, 5 by default.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from member_client.home import Home, Settings
from member_client.keystore import KeyStore
from member_client.sync.store import Store
from tests.member_client.follower import dump, entries_of, many_patterns
from tests.member_client.lying_hub import Answer, LyingHub
from tests.protocol.forum_log import AURORA, ForumLog, forum_of_two_labs
from tests.small_disk import small_file_system

KILLS = int(os.environ.get("STILLWATCH_TEST_SYNC_KILLS", "5"))
STILLWATCH = str(Path(sys.executable).parent / "stillwatch")


@pytest.fixture(scope="module")
def log() -> ForumLog:
    return many_patterns(forum_of_two_labs(), 3000)


@pytest.fixture(scope="module")
def hub(log: ForumLog) -> Iterator[LyingHub]:
    with LyingHub(entries_of(log)) as running:
        answers: dict[str, Answer] = {}

        def remembered(path: str, answer: Answer) -> Answer:
            return answer if path == "/checkpoint" else answers.setdefault(path, answer)

        running.lie = remembered
        yield running


def home(path: Path, hub: LyingHub, log: ForumLog) -> Home:
    made = Home(path)
    made.create()
    made.save(Settings(hub.url, log.fingerprint, "Aurora", AURORA))
    KeyStore(made.keys).create("sync", None)
    return made


def sync(home: Home) -> subprocess.Popen[bytes]:
    command = [STILLWATCH, "sync", "--json", "--home", str(home.path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory, hub: LyingHub, log: ForumLog) -> Home:
    """The home of a run that nothing came in the way of."""
    made = home(tmp_path_factory.mktemp("undisturbed") / "clean", hub, log)
    done = sync(made)
    assert done.communicate()[1] == b""
    assert done.returncode == 0
    return made


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB, which is less than the store needs."""
    disk = tmp_path / "disk"
    disk.mkdir()
    with small_file_system(disk, "2m"):
        yield disk


@pytest.mark.timeout(120 + 5 * KILLS)
def test_killed_anywhere_the_next_run_completes(tmp_path: Path, hub: LyingHub, log: ForumLog, clean: Home) -> None:
    killed = home(tmp_path / "killed", hub, log)
    chance = random.Random(11)
    cursors = []
    for _ in range(KILLS):
        running = sync(killed)
        # From before the store is made to after the last batch; a run that is over by then was not interrupted.
        deadline = time.monotonic() + chance.uniform(0.3, 2.2)
        while running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        running.send_signal(signal.SIGKILL)
        running.communicate()
        store = Store(killed.store)
        cursors.append(store.cursor)
        store.close()
    assert cursors == sorted(cursors)
    last = sync(killed)
    output, errors = last.communicate()
    assert (last.returncode, errors) == (0, b"")
    assert json.loads(output)["entries"] == log.size
    assert dump(killed.store) == dump(clean.store)


def test_a_full_disk_loses_nothing_and_is_named(
    tmp_path: Path, small_disk: Path, hub: LyingHub, log: ForumLog, clean: Home
) -> None:
    full = home(small_disk / "home", hub, log)
    stopped = sync(full)
    document, errors = stopped.communicate()
    assert (stopped.returncode, errors) == (2, b"")
    assert "full" in json.loads(document)["message"]
    assert "disk" in json.loads(document)["hint"]
    store = Store(full.store)
    assert store.cursor % 256 == 0, "whole batches or nothing"
    store.close()
    roomy = Home(tmp_path / "roomy")
    shutil.copytree(full.path, roomy.path)
    done = sync(roomy)
    assert done.communicate()[1] == b""
    assert done.returncode == 0
    assert dump(roomy.store) == dump(clean.store)


def test_a_second_run_says_that_one_is_under_way(tmp_path: Path, hub: LyingHub, log: ForumLog) -> None:
    busy = home(tmp_path / "busy", hub, log)
    with FileLock(busy.sync_lock):
        second = sync(busy)
        output, _ = second.communicate()
    assert second.returncode == 0
    assert json.loads(output)["status"] == "busy"
