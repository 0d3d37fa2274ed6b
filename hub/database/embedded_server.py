"""Initialising, starting and ending one embedded server. Whoever calls holds the cluster's lock, where it says so."""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from io import FileIO
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from hub.database import embedded_watch
from hub.database.embedded_place import Cluster, EmbeddedPostgresError, find_programs

SUPERUSER = "postgres"
ROLE = DATABASE = "stillwatch"
PORT = 5432  # a part of the socket's name; nothing listens on the network
POLL_SECONDS = 0.02
INITDB_SECONDS = 120.0
LOG_TAIL_BYTES = 2000
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
# What is left at Postgres' own default is left so on purpose: fsync and synchronous_commit are on.
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "cluster_name": "stillwatch",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


def launch(cluster: Cluster, lock: FileIO, settings: Mapping[str, str], deadline: float) -> subprocess.Popen[bytes]:
    """Start the server under a watcher, which takes the lock over, and wait until its database answers."""
    with lock:
        end_orphans(cluster)
        programs = find_programs(cluster.account)
        if not cluster.data.exists():
            _initialise(cluster, programs, settings)
        cluster.make_private_folder(cluster.socket)
        watcher = _start_watcher(cluster, programs, lock, settings)
    try:
        _await_database(cluster, watcher, deadline)
    except BaseException:
        end(watcher)
        raise
    return watcher


def answers(cluster: Cluster) -> bool:
    """Whether the hub's database can be reached now."""
    try:
        _connect(cluster, ROLE, DATABASE).close()
    except (FileNotFoundError, psycopg.OperationalError):
        return False
    return True


def end(watcher: subprocess.Popen[bytes]) -> None:
    """Tell the watcher to shut its server down, and wait for both."""
    assert watcher.stdin is not None  # noqa: S101 - for the type checker: it was started with a pipe
    watcher.stdin.close()
    try:
        watcher.wait(embedded_watch.SHUTDOWN_SECONDS + 5)
    except subprocess.TimeoutExpired:
        watcher.kill()
        watcher.wait()


def end_orphans(cluster: Cluster) -> None:
    """With the lock held, so that no watcher lives: end what a killed one left over, and clear its pid file.

    Postgres itself refuses to start if some process, any process, has the pid that a crashed server wrote down. We
    may say that the file is stale only when no process of that server is left: a backend can outlive its
    postmaster for a moment, and a second server beside it would destroy the data.
    """
    pid_file = cluster.data / "postmaster.pid"
    if not pid_file.exists():
        return
    for number, seconds in embedded_watch.SHUTDOWN_STEPS:
        deadline = time.monotonic() + seconds
        _signal_postmaster(_server_processes(cluster), number)
        while time.monotonic() < deadline:
            # Looked up again each time: waiting for them would wait for init to reap them, which some never do.
            if not _server_processes(cluster):
                pid_file.unlink(missing_ok=True)
                return
            time.sleep(POLL_SECONDS)
    raise start_failure(cluster, "a server that was left over from a crash does not end")


def read_password(cluster: Cluster) -> str:
    """The password of both roles, the hub's and the superuser's."""
    return cluster.password.read_text(encoding="ascii")


def start_failure(cluster: Cluster, problem: str) -> EmbeddedPostgresError:
    """The error for a server that does not come up, with the end of its log."""
    with contextlib.suppress(FileNotFoundError):
        said = cluster.log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip()
        problem = f"{problem}; its log {cluster.log} ends:\n{said}\n"
    return EmbeddedPostgresError(problem, "Mend what the log names, or pass --database-url.")


def _server_processes(cluster: Cluster) -> list[psutil.Process]:
    """The Postgres processes that work in this cluster's data folder, as each of them does."""
    data = str(cluster.data.resolve())
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # ended meanwhile, or not ours to look at
            if process.name() == "postgres" and process.cwd() == data:
                found.append(process)
    return found


def _signal_postmaster(processes: list[psutil.Process], number: int) -> None:
    """Signal the parent of the server's processes, or the processes themselves where it is gone."""
    pids = {process.pid for process in processes}
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.ppid() not in pids:
                process.send_signal(number)


def _initialise(cluster: Cluster, programs: Path, settings: Mapping[str, str]) -> None:
    """Make the cluster aside and move it into place: if we stop in between, the next start begins anew."""
    draft = cluster.folder / "data.draft"
    shutil.rmtree(draft, ignore_errors=True)
    cluster.make_private_folder(draft)
    password = secrets.token_hex(32)
    with open(cluster.password, "w", encoding="ascii", opener=_open_private) as file:
        file.write(password)
        file.flush()
        os.fsync(file.fileno())
    command = [
        str(programs / "initdb"),
        f"--pgdata={draft}",
        f"--username={SUPERUSER}",
        "--pwfile=/dev/stdin",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--no-instructions",
        *(["--no-sync"] if settings.get("fsync") == "off" else []),
    ]
    # An unnamed file, and not a pipe: as another user, initdb could not open a pipe of ours by name.
    with tempfile.TemporaryFile() as password_file:
        password_file.write(password.encode())
        password_file.seek(0)
        if cluster.account.user is not None:
            os.fchown(password_file.fileno(), cluster.account.user, -1)
        try:
            subprocess.run(
                command,
                cwd="/",
                env=ENVIRONMENT,
                stdin=password_file,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                user=cluster.account.user,
                group=cluster.account.group,
                extra_groups=cluster.account.supplementary,
                timeout=INITDB_SECONDS,
                check=True,
            )
        except subprocess.SubprocessError as error:
            said = (getattr(error, "output", None) or b"").decode(errors="replace").strip()
            raise EmbeddedPostgresError(
                f"initdb cannot make a database in {cluster.folder} ({error}):\n{said}\n",
                "Mend what it names, or pass --database-url.",
            ) from error
    draft.rename(cluster.data)
    folder = os.open(cluster.folder, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _start_watcher(
    cluster: Cluster, programs: Path, lock: FileIO, settings: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    parameters = {**SETTINGS, "unix_socket_directories": str(cluster.socket), **settings}
    orders = embedded_watch.Orders(
        command=[
            str(programs / "postgres"),
            "-D",
            str(cluster.data),
            *(part for name, value in parameters.items() for part in ("-c", f"{name}={value}")),
        ],
        environment=ENVIRONMENT,
        user=cluster.account.user,
        group=cluster.account.group,
        log=str(cluster.log),
    )
    with open(cluster.log, "a", opener=_open_private) as log:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", embedded_watch.__file__, json.dumps(asdict(orders))],
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=log,
            pass_fds=(lock.fileno(),),
            start_new_session=True,
        )


def _await_database(cluster: Cluster, watcher: subprocess.Popen[bytes], deadline: float) -> None:
    while True:
        try:
            with _connect(cluster, SUPERUSER, "postgres") as connection:
                return _create_database(connection, read_password(cluster))
        except psycopg.OperationalError as error:
            if watcher.poll() is not None:
                raise start_failure(cluster, "the embedded Postgres ended at once") from error
            if time.monotonic() > deadline:
                raise start_failure(cluster, f"the embedded Postgres does not answer ({error})") from error
        time.sleep(POLL_SECONDS)


def _connect(cluster: Cluster, role: str, database: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(
        host=str(cluster.socket),
        port=PORT,
        user=role,
        password=read_password(cluster),
        dbname=database,
        connect_timeout=5,
        autocommit=True,
    )


def _create_database(connection: psycopg.Connection[tuple[object, ...]], password: str) -> None:
    """Make the hub's role and database, as far as they are missing.

    The hub's role is no superuser, so that no flaw in a query reaches the files of the machine (COPY, PROGRAM).
    """
    role, database = sql.Identifier(ROLE), sql.Identifier(DATABASE)
    if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [ROLE]).fetchone() is None:
        # Encrypted on this side, as statements can end up in a log.
        verifier = connection.pgconn.encrypt_password(password.encode(), ROLE.encode(), b"scram-sha-256").decode()
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}").format(role, sql.Literal(verifier)))
    if connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).fetchone() is None:
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, role))
