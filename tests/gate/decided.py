"""What a gate is given in tests: a snapshot in memory, a builder that writes it, and a gate behind real HTTP."""

from __future__ import annotations

import itertools
import json
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from member_client.gate import Gate, GateSettings, table
from member_client.gate.serving import GateServer, listen
from member_client.gate.settings import Address
from member_client.home import Home, Settings

NOW = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)
PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class Effective:
    id: str
    action: str = "block"
    kind: str = "account"
    expires: datetime = NOW + timedelta(days=7)
    models: tuple[str, ...] = ()
    decision_id: str = "decision--00000000-0000-4000-8000-000000000001"
    pattern_id: str = "pattern--00000000-0000-4000-8000-000000000002"


@dataclass(frozen=True)
class Allowed:
    id: str
    kind: str = "account"
    expires: datetime | None = None


@dataclass(frozen=True)
class GatePolicy:
    fail: str = "open"
    stale_after: int = 3600


@dataclass(frozen=True)
class Snapshot:
    rows: Sequence[Effective] = ()
    allowed: Sequence[Allowed] = ()
    policy: GatePolicy = field(default_factory=GatePolicy)
    as_of: datetime = NOW
    synced: datetime = NOW
    generation: str = "1"


class Decided:
    """A builder whose snapshot a test sets; None makes it fail."""

    def __init__(self, snapshot: Snapshot | None) -> None:
        self.snapshot = snapshot
        self.spoils = b""

    def build(self, path: Path) -> str:
        if self.snapshot is None:
            raise table.Unusable("decisions.sqlite is no store")
        table.write(path, self.snapshot)
        if self.spoils:
            path.write_bytes(path.read_bytes()[: -len(self.spoils)] + self.spoils)
        return ""

    def stop(self) -> None:
        pass


class Clock:
    """Both clocks of a machine, and somebody who sets one of them."""

    def __init__(self) -> None:
        self.wall = NOW.timestamp()
        self.monotonic = 1000.0

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


def home_in(folder: Path) -> Home:
    home = Home(folder)
    home.create()
    home.save(Settings(hub="http://127.0.0.1:1", forum="0" * 64, name="Aurora", member="member--1"))
    return home


@contextmanager
def gate_with(
    folder: Path, snapshot: Snapshot | None, settings: GateSettings | None = None, clock: Clock | None = None
) -> Iterator[tuple[Gate, Decided]]:
    """A gate that has tried to take its first table."""
    decided = Decided(snapshot)
    clock = clock or Clock()
    gate = Gate(home_in(folder), settings, decided, lambda: clock.wall, lambda: clock.monotonic)
    with gate:
        assert gate.wait(1, PATIENCE_SECONDS)
        yield gate, decided


def renew(gate: Gate) -> None:
    """Have a new table made, and wait for it."""
    condition = gate.condition()
    gate.reload()
    assert gate.wait(condition.reloads + condition.failures + 1, PATIENCE_SECONDS)


@dataclass
class RunningGate:
    """A gate behind HTTP."""

    gate: Gate
    decided: Decided
    address: tuple[str, int]
    status: tuple[str, int]

    def ask(self, *headers: tuple[str, str | bytes], target: str = "/v1/messages", method: str = "POST") -> Answer:
        head = [f"{method} {target} HTTP/1.1".encode(), b"host: api.example"]
        head += [
            name.encode() + b": " + (value if isinstance(value, bytes) else value.encode()) for name, value in headers
        ]
        return exchange(self.address, b"\r\n".join([*head, b"connection: close", b"", b""]))

    def look(self, path: str) -> Answer:
        return exchange(self.status, f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def action(self) -> str:
        return self.headers["x-stillwatch-action"]

    @property
    def reason(self) -> str:
        return self.headers["x-stillwatch-reason"]

    def json(self) -> dict[str, object]:
        document: dict[str, object] = json.loads(self.body)
        return document


def exchange(address: tuple[str, int], sent: bytes) -> Answer:
    """Send bytes, and read until the other side closes."""
    with socket.create_connection(address, timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(sent)
        got = b"".join(iter(lambda: connection.recv(65_536), b""))
    return parse(got)


def parse(got: bytes) -> Answer:
    head, _, body = got.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return Answer(int(first.split(" ")[1]), headers, body)


@contextmanager
def served(
    folder: Path, snapshot: Snapshot | None, settings: GateSettings | None = None, clock: Clock | None = None
) -> Iterator[RunningGate]:
    """A gate behind HTTP at two free ports."""
    settings = replace(settings or GateSettings(), listen=Address("127.0.0.1", 0), status=Address("127.0.0.1", 0))
    with (
        gate_with(folder, snapshot, settings, clock) as (gate, decided),
        listen(settings.listen) as asked,
        listen(settings.status) as watched,
    ):
        ready = threading.Event()
        server = GateServer(gate, ready.set)
        thread = threading.Thread(target=server.serve_at, args=(asked, watched))
        running = RunningGate(gate, decided, asked.getsockname(), watched.getsockname())
        thread.start()
        try:
            assert ready.wait(PATIENCE_SECONDS)
            yield running
        finally:
            server.stop()
            thread.join()


_numbers = itertools.count(1)


def new_decision() -> str:
    return f"decision--{uuid.UUID(int=next(_numbers), version=4)}"


def wait_until(holds: object, what: str) -> None:
    assert callable(holds)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
