"""A TCP proxy between a hub and its Postgres that breaks connections just when the log is being committed.

    with PostgresProxy(database_url) as proxy, running_hub(proxy.url, identity) as hub:
        proxy.faults.append(Fault.ANSWER_LOST)

It knows one thing of the protocol: a connection that has asked for the log's lock is the sequencer's, and a message
with COMMIT in it on that connection ends a transaction that extends the log.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from types import TracebackType
from typing import Self

import psycopg
from sqlalchemy.engine import make_url

_LOCK = b"pg_advisory_xact_lock"
_COMMIT = b"COMMIT\0"


class Fault(Enum):
    """What happens to a commit of the log. The hub sees the same each time but the first: its connection breaks."""

    NONE = auto()
    """It passes, so that the fault after it meets the next one."""
    NOT_SENT = auto()
    """The server never sees it, and undoes the transaction."""
    ANSWER_LOST = auto()
    """The server commits, and its answer is lost."""
    LATE = auto()
    """It reaches the server only after the hub, on a new connection, has asked for the log's lock again."""


class _Connection:
    """The hub's socket and the server's, joined until one of them ends."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.of_sequencer = False
        self.deaf = False  # the hub hears nothing any more
        self.answered = threading.Event()

    def close(self) -> None:
        for end in (self.client, self.server):
            _hang_up(end)


class PostgresProxy:
    """Stands between a hub and its Postgres.

    Attributes:
        faults: what to do to the next commits of the log; later ones pass.
        happened: the faults so far, in order.
        reachable: clear it to turn new connections away.
    """

    def __init__(self, database_url: str) -> None:
        real = make_url(database_url)
        self._real = real.set(drivername="postgresql").render_as_string(hide_password=False)
        self._socket_path = f"{real.query['host']}/.s.PGSQL.{real.query['port']}"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)  # so that it sees when it has to end
        port = self._listener.getsockname()[1]
        self.url = real.set(host="127.0.0.1", port=port, query={}).render_as_string(hide_password=False)
        self.faults: deque[Fault] = deque()
        self.happened: list[Fault] = []
        self.reachable = threading.Event()
        self.reachable.set()
        self.turned_away = 0
        self._closing = False
        self._open: list[_Connection] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        for connection in self._open:
            connection.close()
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()
        self._listener.close()

    def cut_sequencer(self) -> None:
        """Break the sequencer's connections, which are idle."""
        for connection in self._open:
            if connection.of_sequencer:
                connection.close()

    def _start(self, work: Callable[..., None], *arguments: _Connection) -> None:
        thread = threading.Thread(target=work, args=arguments, name="proxy", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            if not self.reachable.is_set():
                self.turned_away += 1
                client.close()
                continue
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._socket_path)
            connection = _Connection(client, server)
            self._open.append(connection)
            self._start(self._to_server, connection)
            self._start(self._to_client, connection)

    def _to_server(self, connection: _Connection) -> None:
        with contextlib.suppress(OSError):
            while data := connection.client.recv(65536):
                if _LOCK in data:
                    connection.of_sequencer = True
                if connection.of_sequencer and _COMMIT in data and self.faults:
                    fault = self.faults.popleft()
                    if fault is not Fault.NONE:
                        self._break(connection, data, fault)
                        break
                connection.server.sendall(data)
        connection.close()

    def _to_client(self, connection: _Connection) -> None:
        with contextlib.suppress(OSError):
            while data := connection.server.recv(65536):
                if connection.deaf:
                    connection.answered.set()
                else:
                    connection.client.sendall(data)
        connection.close()

    def _break(self, connection: _Connection, commit: bytes, fault: Fault) -> None:
        connection.deaf = True
        if fault is Fault.LATE:
            _hang_up(connection.client)
            self._await_who_waits_for_the_lock()
        if fault is not Fault.NOT_SENT:
            connection.server.sendall(commit)
            assert connection.answered.wait(20), "the server did not answer a commit"
        self.happened.append(fault)

    def _await_who_waits_for_the_lock(self) -> None:
        waiting = "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database WHERE NOT granted AND "
        waiting += "locktype = 'advisory' AND datname = current_database()"
        deadline = time.monotonic() + 20
        with psycopg.connect(self._real, autocommit=True) as connection:
            while connection.execute(waiting.encode()).fetchone() == (0,):
                assert time.monotonic() < deadline, "the hub does not ask for the lock again"
                time.sleep(0.02)


def _hang_up(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
