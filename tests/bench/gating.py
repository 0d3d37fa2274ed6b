"""The gate with a million decisions: how soon it answers at a fixed rate, how much it can, and what a reload costs.

The load is open: each request has the time at which it is due, and its latency counts from there, whether or not the
generator or the gate came too late (no coordinated omission). Beside it runs a server that answers everybody the same,
with the same load: what it takes is the machine's and the generator's.

    python -m tests.bench.gating serve HOME | build HOME TABLE | memory PROCESS | bare
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

import psutil
from typing_extensions import override

from member_client.decisions.in_effect import snapshot
from member_client.decisions.lab_policy import LabPolicy
from member_client.decisions.matches import SeenPattern
from member_client.decisions.model import Action
from member_client.decisions.register import Register
from member_client.decisions.rules import Rules
from member_client.gate import Gate, table
from member_client.gate.building import ChildBuilder
from member_client.gate.serving import GateServer, address_of, listen
from member_client.gate.settings import Address, GateSettings
from member_client.home import Home, Settings
from member_client.lifecycle.standing import Stage, Standing
from member_client.session import Session
from sharing_protocol.statements.handling import Severity
from tests.bench.figures import BenchFailed, Figure, Sizes, percentile, progress

CONNECTIONS = 32
RATE = 2_000
PATIENCE_SECONDS = 300
_ANYWHERE = Address("127.0.0.1", 0)
_MEGABYTE = 2**20
_BARE = b"HTTP/1.1 200 OK\r\nx-stillwatch-action: observe\r\ncontent-length: 0\r\n\r\n"


@dataclass
class _Load:
    """What a load found; milliseconds.

    Attributes:
        late: how much later than it was due a request was sent.
        failed: requests that were not answered as they should be.
    """

    latencies: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    failed: int = 0
    seconds: float = 0.0


def gate(folder: Path, sizes: Sizes) -> list[Figure]:
    """Latencies at a fixed rate, at rest and while tables are exchanged; the most that it answers; memory."""
    rows, seconds = sizes.gated, sizes.gate_seconds
    home = Home(folder / "home")
    home.create()
    home.save(Settings(hub="http://127.0.0.1:1", forum="0" * 64, name="Aurora", member="member--1"))
    _decide(home, rows)
    progress(f"  {rows:,} decisions made up")
    with _process("bare") as (_, port):
        bare = [_at_rate(port, rows, seconds / 2) for _ in range(sizes.samples)]
    with _process("serve", str(home.path)) as (process, port), _memory(process) as memory:
        _first_table(port, rows)
        _at_rest(process)
        progress(f"  {rows:,} decisions, {process.memory_info().rss / _MEGABYTE:.0f} MB")
        calm = []
        before, begun = sum(process.cpu_times()[:2]), time.perf_counter()
        for _ in range(sizes.samples):
            calm.append(_at_rate(port, rows, seconds / 2))
        cpu = (sum(process.cpu_times()[:2]) - before) * 1e6 / sum(len(one.latencies) for one in calm)
        progress(f"  at rest, {time.perf_counter() - begun:.0f} s")
        busy, reloads = _while_reloading(process, home, port, rows, seconds)
        progress(f"  {reloads} tables exchanged meanwhile")
        most = [_as_many_as_it_can(port, rows, seconds / 4) for _ in range(sizes.samples)]
        peak = memory()
    load = f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    failed = sum(one.failed for one in (*calm, busy))
    bare99 = median(percentile(one.latencies, 99) for one in bare)
    figures = []
    for name, percent in (("gate_p50", 50), ("gate_p99", 99)):
        values = [percentile(one.latencies, percent) for one in calm]
        against = median(percentile(one.latencies, percent) for one in bare)
        promised = (f"<= 1 ms at {RATE}/s", median(values) <= 1.0) if percent == 99 else ("", None)
        told = f"a server that does nothing: {against:.2f} ms; {load}"
        figures.append(Figure(name, median(values), "ms", values, median(values) / against, told, *promised))
    reloading = percentile(busy.latencies, 99)
    late = percentile(busy.late, 99)
    told = f"{reloads} tables exchanged; requests sent up to {late:.2f} ms late (p99); {load}"
    figures += [
        Figure("gate_reload_p99", reloading, "ms", [reloading], reloading / bare99, told),
        Figure("gate_failed", failed, "requests", [failed], None, f"{reloads} tables exchanged", "none", failed == 0),
        Figure("gate_cpu", cpu, "us/request", [cpu], None, f"{RATE}/s, {CONNECTIONS} connections"),
        Figure("gate_most", median(most), "requests/s", most, None, load),
    ]
    told = f"{rows:,} decisions; with the process that makes the next table, at its largest"
    figures.append(Figure("gate_memory", peak, "MB", [peak], None, told, "< 500 MB", peak < 500))
    return figures


def _while_reloading(process: psutil.Process, home: Home, port: int, rows: int, seconds: float) -> tuple[_Load, int]:
    """A load during which new tables are asked for without a pause, for at least two of them."""
    written = home.path / "gate" / "table"
    stamps = {written.stat().st_mtime_ns}
    stopping = threading.Event()

    def ask() -> None:
        while not stopping.wait(0.1):
            if (stamp := written.stat().st_mtime_ns) not in stamps or len(stamps) == 1:
                stamps.add(stamp)
                process.send_signal(signal.SIGHUP)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        whole = _Load()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(stamps) < 3 or whole.seconds < seconds:
            part = _at_rate(port, rows, seconds / 4)
            whole.latencies += part.latencies
            whole.late += part.late
            whole.failed += part.failed
            whole.seconds += seconds / 4
            if time.monotonic() > deadline:
                raise BenchFailed("the gate takes no new table")
    finally:
        stopping.set()
        thread.join()
    return whole, len(stamps) - 1


def _at_rate(port: int, rows: int, seconds: float) -> _Load:
    """Send `RATE` requests a second, whatever comes back when."""
    load = _Load(seconds=seconds)
    free = deque(_connections(port))
    under_way: dict[int, tuple[socket.socket, float, bytes]] = {}
    waiting: deque[tuple[float, int]] = deque()
    begun = time.perf_counter() + 0.05
    count, sent = int(RATE * seconds), 0
    try:
        while sent < count or waiting or under_way:
            now = time.perf_counter()
            while sent < count and begun + sent / RATE <= now:
                waiting.append((begun + sent / RATE, sent))
                sent += 1
            while waiting and free:
                due, number = waiting.popleft()
                connection = free.popleft()
                request, wanted = _request(number, rows)
                connection.sendall(request)
                load.late.append((time.perf_counter() - due) * 1e3)
                under_way[connection.fileno()] = (connection, due, wanted)
            # `select` keeps microseconds, where epoll would round to milliseconds.
            pause = max(0.0, begun + sent / RATE - time.perf_counter()) if sent < count else 5.0
            ready = select.select(list(under_way), [], [], pause)[0]
            if sent == count and not ready:
                load.failed += len(under_way) + len(waiting)
                break
            for number in ready:
                connection, due, wanted = under_way.pop(number)
                load.failed += not _answer(connection).startswith(wanted)
                load.latencies.append((time.perf_counter() - due) * 1e3)
                free.append(connection)
    finally:
        for connection in (*free, *(one for one, _, _ in under_way.values())):
            connection.close()
    return load


def _as_many_as_it_can(port: int, rows: int, seconds: float) -> float:
    """Answers a second when every connection has a request under way at all times."""
    connections = {connection.fileno(): connection for connection in _connections(port)}
    answered, number = 0, 0
    for connection in connections.values():
        connection.sendall(_request(number, rows)[0])
        number += 1
    begun = time.perf_counter()
    while time.perf_counter() < begun + seconds:
        for ready in select.select(list(connections), [], [], 5.0)[0]:
            if not _answer(connections[ready]).startswith(b"HTTP/1.1 "):
                raise BenchFailed("the gate closed a connection")
            answered += 1
            connections[ready].sendall(_request(number, rows)[0])
            number += 1
    for connection in connections.values():
        connection.close()
    return answered / (time.perf_counter() - begun)


def _request(number: int, rows: int) -> tuple[bytes, bytes]:
    """A request as a proxy would send it, and how the answer begins. Every second account is one that is decided on."""
    place = number * 7919 % (2 * rows)
    account = b"acct-%d" % place
    status = (b"HTTP/1.1 200", b"HTTP/1.1 429", b"HTTP/1.1 403")[place % 3] if place < rows else b"HTTP/1.1 200"
    return (
        b"POST /v1/messages HTTP/1.1\r\nhost: gate\r\ncontent-length: 0\r\nx-account-id: %b\r\n"
        b"x-organisation-id: org-%d\r\nx-model: large-2\r\nx-forwarded-for: 203.0.113.9\r\nx-request-id: %d\r\n\r\n"
    ) % (account, place % 1000, number), status


def _answer(connection: socket.socket) -> bytes:
    """The whole of one answer; "" if the other side has closed, or says too little."""
    got = connection.recv(4096)
    while True:
        head, ended, body = got.partition(b"\r\n\r\n")
        if ended and len(body) >= int(head.partition(b"content-length: ")[2].partition(b"\r")[0] or 0):
            return got
        if not (more := connection.recv(4096)):
            return b""
        got += more


def _connections(port: int) -> Iterator[socket.socket]:
    for _ in range(CONNECTIONS):
        connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def _first_table(port: int, rows: int) -> None:
    """Wait until the gate judges by its decisions: the last of them blocks, slows down, or flags."""
    request = b"GET / HTTP/1.1\r\nhost: gate\r\nx-account-id: acct-%d\r\n\r\n" % (rows - 1)
    deadline = time.monotonic() + PATIENCE_SECONDS
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as connection:
        while True:
            connection.sendall(request)
            if b"x-stillwatch-reason: decision" in connection.recv(4096):
                return
            if time.monotonic() > deadline:
                raise BenchFailed("the gate takes no first table")
            time.sleep(0.1)


def _at_rest(process: psutil.Process) -> None:
    """Wait until the gate makes no table any more: by the first, decisions come into effect, which makes a second."""
    quiet, deadline = 0, time.monotonic() + PATIENCE_SECONDS
    while quiet < 30:
        if time.monotonic() > deadline:
            raise BenchFailed("the gate makes one table after the other")
        quiet = 0 if process.children() else quiet + 1
        time.sleep(0.1)


@contextmanager
def _process(*arguments: str) -> Iterator[tuple[psutil.Process, int]]:
    """A server in a process of its own, and its port."""
    command = [sys.executable, "-m", "tests.bench.gating", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            yield psutil.Process(child.pid), int(child.stdout.readline())
        finally:
            child.terminate()


@contextmanager
def _memory(process: psutil.Process) -> Iterator[Callable[[], float]]:
    """Watches, from a process of its own, what a process and its children use together; gives the most so far (MB)."""
    command = [sys.executable, "-m", "tests.bench.gating", "memory", str(process.pid)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        yield lambda: float(child.communicate(timeout=PATIENCE_SECONDS)[0])


def _watch_memory(process: str) -> None:
    """Until standard input ends. Looking through all processes takes a while: the gate and its load go first."""
    os.nice(19)
    peak, server = 0, psutil.Process(int(process))
    while not select.select([sys.stdin], [], [], 0.5)[0]:
        try:
            family = [server, *server.children(recursive=True)]
            peak = max(peak, sum(one.memory_info().rss for one in family))
        except psutil.NoSuchProcess:
            continue
    print(peak / _MEGABYTE)


_DECISIONS = """
WITH RECURSIVE counted (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM counted WHERE n + 1 < ?)
INSERT INTO decisions (number, id, kind, subject, pattern, root, action, models, created, expires, matches, numbers,
    reasons, needs)
SELECT n + 1, randomblob(16), 'account', 'acct-' || n, 1, n + 1, n % 3 + 1, '[]', ?, ?, 1, '{}', 1, 0 FROM counted
"""
_PATTERN = SeenPattern("0" * 64, "pattern--00000000-0000-4000-8000-000000000002", 1, "A pattern", Severity.HIGH)


def _decide(home: Home, rows: int) -> None:
    """Decide on so many accounts: a third of them each flagged, throttled and blocked."""
    register = Register.of(home)
    now = int(time.time())
    with register.transaction():
        ask = register.database.execute
        ask(
            "INSERT INTO patterns (number, entry, id, version, title, severity) VALUES (1, ?, ?, ?, ?, ?)",
            (_PATTERN.entry, _PATTERN.id, _PATTERN.version, _PATTERN.title, _PATTERN.severity.value),
        )
        ask("INSERT INTO reasons VALUES (1, '[]')")
        ask(_DECISIONS, (rows, now, now + 14 * 86_400))
    register.close()


def _build(home: str, path: str) -> None:
    """As `python -m member_client.gate` does it, with a pattern that enforces and without a forum."""
    os.nice(5)
    session = Session(Home(Path(home)))
    standing = Standing(_PATTERN.id, _PATTERN.version, _PATTERN.entry, Stage.ENFORCE, 100, ())
    policy = LabPolicy(Rules({_PATTERN.severity: Action.BLOCK}, {}), {_PATTERN.entry: standing})
    taken = snapshot(session, session.now, policy)
    table.write(Path(path), replace(taken, synced=session.now))


def _serve(home: str) -> None:
    builder = ChildBuilder([sys.executable, "-m", "tests.bench.gating", "build", home])
    settings = GateSettings(listen=_ANYWHERE, status=_ANYWHERE)
    with listen(_ANYWHERE) as asked, listen(_ANYWHERE) as watched, Gate(Home(Path(home)), settings, builder) as live:
        port = address_of(asked).rpartition(":")[2]
        GateServer(live, lambda: print(port, flush=True)).serve_at(asked, watched)


class _Bare(asyncio.Protocol):
    """Answers each piece of a request that comes, without reading it."""

    _transport: asyncio.Transport

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    @override
    def data_received(self, data: bytes) -> None:
        # The generator looks at the first line only, and knows which it must be.
        self._transport.write(_BARE)


async def _serve_bare() -> None:
    server = await asyncio.get_running_loop().create_server(_Bare, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


_ROLES: dict[str, Callable[..., None]] = {
    "serve": _serve,
    "build": _build,
    "memory": _watch_memory,
    "bare": lambda: asyncio.run(_serve_bare()),
}

if __name__ == "__main__":
    _ROLES[sys.argv[1]](*sys.argv[2:])
