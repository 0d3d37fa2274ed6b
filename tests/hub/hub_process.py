"""The real `stillwatch-hub`, as processes of its own: to be run, asked, and killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from hub.database.embedded import EmbeddedPostgres
from hub.identity import HubIdentity
from tests.forum import ForumInABox, RunningHub

PROGRAM = str(Path(sys.executable).with_name("stillwatch-hub"))
START_SECONDS = 240.0
NO_LIMITS = {
    f"STILLWATCH_HUB_{name}": "1000000"
    for name in ("REQUESTS_PER_MINUTE", "SUBMISSIONS_PER_MINUTE", "MAX_AT_ONCE_PER_MEMBER")
}


def environment(**changes: str) -> dict[str, str]:
    """Ours, without any settings of a hub but these."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("STILLWATCH_")}
    return {**ours, "COLUMNS": "120", "NO_COLOR": "1", **changes}


def run_command(
    *arguments: str, settings: Mapping[str, str] | None = None, user: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command of the hub to its end.

    Args:
        settings: environment variables.
        user: whom to run it as, for a root that tests what others may not do.
    """
    return subprocess.run(
        [PROGRAM, *arguments],
        env=environment(**(settings or {})),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
        user=user,
        extra_groups=None if user is None else [],
    )


class HubProcess:
    """A `stillwatch-hub serve` that can be killed and started again; at another port every time.

    Args:
        home: its keys and, without a database URL, its embedded database. Several processes may share it.
        number: which of several on one home this is.
    """

    def __init__(self, home: Path, database_url: str | None = None, number: int = 0) -> None:
        self.home = home
        self.database_url = database_url
        self._port_file = home / f"port-{number}"
        self._output = home / f"output-{number}"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> None:
        """Start it; `wait_until_ready` before use."""
        assert self._process is None
        self.home.mkdir(mode=0o700, exist_ok=True)
        self._port_file.unlink(missing_ok=True)
        settings = {"STILLWATCH_DATABASE_URL": self.database_url} if self.database_url else {}
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                [PROGRAM, "serve", "--home", str(self.home), "--port", "0", "--port-file", str(self._port_file)],
                env=environment(**NO_LIMITS, STILLWATCH_HUB_LOG_LEVEL="WARNING", **settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def wait_until_ready(self) -> None:
        """Wait until it takes requests."""
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while not self._port_file.exists():
            assert self._process.poll() is None, f"the hub ended: {self.output[-3000:]}"
            assert time.monotonic() < deadline, f"the hub does not get ready: {self.output[-3000:]}"
            time.sleep(0.02)
        self.url = f"http://127.0.0.1:{self._port_file.read_text().strip()}"

    @property
    def process_id(self) -> int | None:
        """Of the process that runs, None between two."""
        return self._process.pid if self._process else None

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def freeze(self) -> None:
        """Let it do nothing until `thaw`, as a machine that swaps or a hypervisor that pauses it would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on as if nothing had been."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Ask it to end, as a supervisor does, and wait."""
        if self._process is None:
            return
        self._process.terminate()
        self.thaw()
        try:
            self._process.wait(60)
        finally:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def output(self) -> str:
        """All that it has written, in all its lives."""
        return self._output.read_text()

    def found(self) -> ForumInABox:
        """Found a forum on it."""
        identity = HubIdentity.load(self.home)
        with contextlib.ExitStack() as meanwhile:
            url = self.database_url or meanwhile.enter_context(EmbeddedPostgres.start(self.home)).url
            box = ForumInABox(RunningHub(self.url, url, identity))
            box.found()
        return box


@contextlib.contextmanager
def hub_processes(home: Path, database_url: str | None = None, count: int = 1) -> Iterator[list[HubProcess]]:
    """So many hubs with one identity, on one database, started at once."""
    hubs = [HubProcess(home, database_url, number) for number in range(count)]
    try:
        for hub in hubs:
            hub.start()
        for hub in hubs:
            hub.wait_until_ready()
        yield hubs
    finally:
        for hub in hubs:
            hub.stop()


_AT_ONCE = """
import os, sys
import hub.app, hub.serving
from hub.cli import main
count, home, *options = sys.argv[1:]
for number in range(int(count)):
    if os.fork() == 0:
        sys.argv = ["stillwatch-hub", "serve", "--home", home, "--port-file", f"{home}-port-{number}", *options]
        main()
        sys.exit()
for _ in range(int(count)):
    os.wait()
"""


@contextlib.contextmanager
def served_at_once(home: Path, database_url: str, count: int) -> Iterator[list[str]]:
    """The URLs of so many hubs whose processes start at the same moment, since they share the time of the imports."""
    files = [home.with_name(f"{home.name}-port-{number}") for number in range(count)]
    program = subprocess.Popen(
        [sys.executable, "-c", _AT_ONCE, str(count), str(home), "--port", "0", "--database-url", database_url],
        env=environment(PYTHONPATH=os.pathsep.join(sys.path)),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not all(file.exists() for file in files):
            assert time.monotonic() < deadline, "not all of them come up"
            time.sleep(0.02)
        yield [f"http://127.0.0.1:{file.read_text().strip()}" for file in files]
    finally:
        os.killpg(program.pid, signal.SIGKILL)
        _, errors = program.communicate()
        print(errors.decode())


def check_command(hub: HubProcess) -> str:
    """What `stillwatch-hub check` says of the hub's database; fails if it finds a difference."""
    where = ["--database-url", hub.database_url] if hub.database_url else ["--home", str(hub.home)]
    checked = run_command("check", *where)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    return checked.stdout
