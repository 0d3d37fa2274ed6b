"""`stillwatch sync --follow` as a process: it has what is new at once, outlives its hub, and is not fooled."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from hub.identity import HubIdentity
from member_client.errors import HubUnreachable
from member_client.home import Home, Settings
from member_client.hub_connection import HubConnection
from member_client.keystore import KeyStore
from member_client.sync.following import SyncReport
from member_client.sync.store import Store
from member_client.sync.watching import LEAST_SECONDS, WAITING_SECONDS, watch
from tests.forum import ForumInABox, pattern_body, running_hub, withdrawal_body
from tests.member_client.follower import dump, entries_of, many_patterns
from tests.member_client.lab_homes import make_home
from tests.member_client.lying_hub import Answer, LyingHub
from tests.protocol.forum_log import AURORA, ForumLog, forum_of_two_labs, key

STILLWATCH = str(Path(sys.executable).parent / "stillwatch")


class Follower:
    """The command at work. `line` waits for the next line it prints."""

    def __init__(self, home: Path, *arguments: str) -> None:
        command = [STILLWATCH, "sync", "--follow", "--json", "--home", str(home), *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def line(self) -> dict[str, Any]:
        line = self._lines.get(timeout=60)
        assert line, f"it has ended: {self.process.stderr.read() if self.process.stderr else ''}"
        found: dict[str, Any] = json.loads(line)
        return found

    def line_with(self, status: str) -> dict[str, Any]:
        """The next line of this status; those before it are skipped."""
        while (found := self.line()).get("status") != status:
            pass
        return found

    @property
    def silent(self) -> bool:
        return self._lines.empty()

    def end(self, how: int = signal.SIGTERM) -> tuple[int, str]:
        """Exit code, and what it wrote to standard error."""
        self.process.send_signal(how)
        code = self.process.wait(60)
        self._reader.join(60)
        assert self.process.stderr is not None
        return code, self.process.stderr.read()


@pytest.fixture
def follow() -> Iterator[Callable[..., Follower]]:
    started: list[Follower] = []

    def start(home: Path, *arguments: str) -> Follower:
        started.append(Follower(home, *arguments))
        return started[-1]

    yield start
    for follower in started:
        follower.process.kill()
        follower.process.communicate()


def sync_once(home: Path) -> None:
    done = subprocess.run([STILLWATCH, "sync", "--home", str(home)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_what_is_published_is_stored_at_once(
    box: ForumInABox, tmp_path: Path, follow: Callable[..., Follower], how: int
) -> None:
    lab = box.admit("Aurora")
    home = make_home(tmp_path / "aurora", box, lab)
    (home / "policy.toml").write_text("highest_stage = 'enforce'\n")
    follower = follow(home)
    first = follower.line()
    assert (first["status"], first["previous"], first["entries"]) == ("ok", 0, box.size())
    for number in range(3):
        pattern, _ = box.publish(lab, pattern_body(f"Pattern {number}"))
        news = follower.line()
        assert (news["status"], news["new"], news["entries"]) == ("ok", 1, box.size())
        assert news["patterns_tried"] == {"passed": 1, "failed": 0}
        assert [one["to"] for one in news["lifecycle"]["promoted"]] == ["shadow"]
    box.publish(lab, withdrawal_body(box.reference(pattern)))
    [fell] = follower.line()["lifecycle"]["demoted"]
    assert (fell["id"], fell["from"], fell["to"]) == (pattern, "shadow", "retired")
    assert follower.end(how) == (0, "")
    store = Store(home / "store.sqlite")
    assert store.cursor == box.size()
    store.close()


def test_it_outlives_its_hub_and_says_so_once(
    database: str, hub_identity: HubIdentity, tmp_path: Path, follow: Callable[..., Follower]
) -> None:
    with running_hub(database, hub_identity) as hub:
        box = ForumInABox(hub)
        box.found()
        lab = box.admit("Aurora")
        follower = follow(make_home(tmp_path / "aurora", box, lab))
        assert follower.line()["status"] == "ok"
    trouble = follower.line()
    assert trouble["status"] == "unreachable"
    time.sleep(2)
    assert follower.silent, "it goes on trying, and does not go on talking"
    port = int(hub.url.rsplit(":", 1)[1])
    with running_hub(database, hub_identity, port=port) as hub:
        box.hub = hub
        assert follower.line()["status"] == "ok"
        box.publish(lab, pattern_body())
        news = follower.line()
        assert (news["new"], news["entries"]) == (1, box.size())
        assert follower.end() == (0, "")


def test_it_and_a_single_sync_do_not_disturb_each_other(
    box: ForumInABox, tmp_path: Path, follow: Callable[..., Follower]
) -> None:
    lab = box.admit("Aurora")
    home = make_home(tmp_path / "aurora", box, lab)
    follower = follow(home)
    follower.line()
    second = follow(home)
    assert second.line()["status"] == "busy"
    assert second.process.wait(60) == 0
    # Stored by whichever of the two was first; what the other knew of the membership is out of date then.
    follower.process.send_signal(signal.SIGSTOP)
    boreal = box.admit("Boreal")
    sync_once(home)
    follower.process.send_signal(signal.SIGCONT)
    box.publish(boreal, pattern_body("By a lab that the follower had not heard of"))
    news = follower.line_with("ok")
    assert (news["entries"], news["refused"]) == (box.size(), [])
    assert follower.end() == (0, "")
    alone = make_home(tmp_path / "alone", box, lab)
    sync_once(alone)
    assert dump(home / "store.sqlite") == dump(alone / "store.sqlite")


# -- a hub that lies ---------------------------------------------------------------------------------------------


@pytest.fixture
def log() -> ForumLog:
    return many_patterns(forum_of_two_labs(), 5)


@pytest.fixture
def liar(log: ForumLog) -> Iterator[LyingHub]:
    with LyingHub(entries_of(log)) as running:
        yield running


@pytest.fixture
def home(tmp_path: Path, liar: LyingHub, log: ForumLog) -> Home:
    made = Home(tmp_path / "home")
    made.create()
    made.save(Settings(liar.url, log.fingerprint, "Aurora", AURORA))
    KeyStore(made.keys).create("sync", None)
    return made


def test_a_fork_ends_it_with_evidence(home: Home, liar: LyingHub, follow: Callable[..., Follower]) -> None:
    follower = follow(home.path)
    known = follower.line()["entries"]
    liar.entries[-1], liar.entries[-2] = liar.entries[-2], liar.entries[-1]
    caught = follower.line()
    assert caught["fault"] == "fork"
    assert json.loads(Path(caught["evidence"]).read_text())["fault"] == "fork"
    assert follower.process.wait(60) == 5
    store = Store(home.store)
    assert store.cursor == known
    store.close()


def test_a_rejected_entry_is_told_once_and_does_not_stop_it(
    home: Home, liar: LyingHub, log: ForumLog, follow: Callable[..., Follower]
) -> None:
    later = many_patterns(log.copy(), 6).entries[-1].encode()
    follower = follow(home.path)
    follower.line()
    liar.entries.append(b"{}")
    caught = follower.line()
    assert (caught["status"], [entry["index"] for entry in caught["refused"]]) == ("rejected entries", [log.size])
    assert Path(caught["evidence"][0]).is_file()
    liar.entries.append(later)
    news = follower.line()
    assert (news["status"], news["entries"], news["refused"]) == ("ok", log.size + 2, [])
    assert follower.end()[0] == 5


def test_a_rejected_entry_is_told_although_every_run_breaks_off(
    home: Home, liar: LyingHub, log: ForumLog, follow: Callable[..., Follower]
) -> None:
    follower = follow(home.path)
    follower.line()
    liar.entries += [b"{}"] * 2100

    def all_but_the_ninth_bundle(path: str, answer: Answer) -> Answer:
        return Answer(503) if path.startswith("/tile/entries/008") else answer

    liar.lie = all_but_the_ninth_bundle
    caught = follower.line_with("rejected entries")
    assert caught["interrupted"]
    assert follower.line()["status"] == "unreachable"
    time.sleep(2)
    assert follower.silent
    assert follower.end()[0] == 5


def test_it_ends_when_the_hub_serves_its_lab_no_more(
    box: ForumInABox, tmp_path: Path, follow: Callable[..., Follower]
) -> None:
    lab = box.admit("Aurora")
    follower = follow(make_home(tmp_path / "aurora", box, lab))
    follower.line()
    box.decree("membership.suspend", lab.id, {"reason": "a test"})
    assert follower.line()["error"] == "member_suspended"
    assert follower.process.wait(60) == 3


def test_a_bell_that_rings_for_nothing_costs_a_request_a_second(liar: LyingHub, log: ForumLog) -> None:
    runs: list[float] = []

    def run(note: bytes | None) -> SyncReport:
        runs.append(time.monotonic())
        if len(runs) == 4:
            raise KeyboardInterrupt
        return SyncReport(log.size, log.size, 0.0)

    with HubConnection(liar.url, key("Aurora sync"), attempts=1) as connection, pytest.raises(KeyboardInterrupt):
        watch(connection, run, lambda error, pause: pytest.fail(str(error)))
    pauses = [after - before for before, after in pairwise(runs)]
    assert min(pauses) >= LEAST_SECONDS * 0.99
    assert len(liar.requests) == 3


def test_missing_cosignatures_are_looked_for_now_and_then(
    liar: LyingHub, log: ForumLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    reports = iter(
        [
            SyncReport(0, 0, 0.0, waiting="two labs must cosign"),
            SyncReport(0, log.size, 0.0),
            SyncReport(log.size, log.size, 0.0),
        ]
    )

    def run(note: bytes | None) -> SyncReport:
        report = next(reports, None)
        if report is None:
            raise KeyboardInterrupt
        return report

    monkeypatch.setattr(time, "sleep", slept.append)
    with HubConnection(liar.url, key("Aurora sync"), attempts=1) as connection, pytest.raises(KeyboardInterrupt):
        watch(connection, run, lambda error, pause: pytest.fail(str(error)))
    monkeypatch.undo()
    waited, caught_up = slept
    assert LEAST_SECONDS < waited <= WAITING_SECONDS
    assert caught_up <= LEAST_SECONDS


def test_the_pause_that_the_hub_asks_for_is_kept(liar: LyingHub, log: ForumLog) -> None:
    liar.lie = lambda path, answer: Answer(429, headers={"Retry-After": "2"})
    told: list[tuple[float, float]] = []
    begun: list[float] = []

    def run(note: bytes | None) -> SyncReport:
        begun.append(time.monotonic())
        if len(begun) == 2:
            raise KeyboardInterrupt
        return SyncReport(log.size, log.size, 0.0)

    def trouble(error: HubUnreachable, pause: float) -> None:
        told.append((error.retry_after, pause))

    with HubConnection(liar.url, key("Aurora sync"), attempts=1) as connection, pytest.raises(KeyboardInterrupt):
        watch(connection, run, trouble)
    assert told == [(2.0, 2.0)]
    assert begun[1] - begun[0] >= 2


def test_between_two_tries_the_hubs_pause_is_kept_if_it_is_short(liar: LyingHub) -> None:
    asked: list[float] = []

    def busy_once(path: str, answer: Answer) -> Answer:
        asked.append(time.monotonic())
        return Answer(503, headers={"Retry-After": "2"}) if len(asked) == 1 else answer

    liar.lie = busy_once
    with HubConnection(liar.url, key("Aurora sync")) as connection:
        assert connection.checkpoint()
        assert asked[1] - asked[0] >= 2
        liar.lie = lambda path, answer: Answer(429, headers={"Retry-After": "3600"})
        before = len(liar.requests)
        with pytest.raises(HubUnreachable) as caught:
            connection.checkpoint()
        assert (caught.value.retry_after, caught.value.hint) == (3600, "it asks to wait 3600 s")
        assert len(liar.requests) == before + 1


def test_a_hub_that_stays_away_is_asked_ever_more_slowly(liar: LyingHub, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)

    def run(note: bytes | None) -> SyncReport:
        if len(pauses) == 1200:
            raise KeyboardInterrupt
        raise HubUnreachable("away")

    with HubConnection(liar.url, key("Aurora sync"), attempts=1) as connection, pytest.raises(KeyboardInterrupt):
        watch(connection, run, lambda error, pause: None)
    assert pauses[0] <= 0.5
    assert max(pauses) <= 30
    assert 10 < sum(pauses[200:]) / 1000 < 20, "half a minute at most, at random"
