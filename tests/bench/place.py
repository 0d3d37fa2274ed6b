"""Where it is measured: a real hub process on a Postgres with durable settings, and one lab."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
from sqlalchemy.engine import make_url

from hub.database.connections import plain_url
from hub.sequencer import MAX_BATCH
from sharing_protocol.envelope import Envelope
from tests.bench.figures import BenchFailed
from tests.forum import ForumInABox, Lab, migrate, pattern_body
from tests.hub.hub_process import HubProcess
from tests.hub.lone_sequencer import candidate, sequencing


@dataclass(frozen=True)
class Place:
    """A forum with one lab, on a hub and a database of their own.

    Attributes:
        folder: for whatever a measurement leaves.
        postgres: the plain URL of the hub's database.
    """

    folder: Path
    postgres: str
    hub: HubProcess
    box: ForumInABox
    lab: Lab

    def patterns(self, count: int, title: str) -> list[Envelope]:
        """So many patterns, signed, not sent."""
        return [self.box.record(self.lab, pattern_body(f"{title} {number}")) for number in range(count)]

    def fill(self, patterns: Sequence[Envelope]) -> None:
        """Put patterns into the log through the hub's own sequencer, in full batches, without HTTP and intake."""

        async def sequence() -> None:
            async with sequencing(self.box.hub.database_url, self.box.hub.identity) as (sequencer, directory):
                for start in range(0, len(patterns), MAX_BATCH):
                    some = [candidate(made, directory) for made in patterns[start : start + MAX_BATCH]]
                    await asyncio.gather(*(sequencer.submit(one) for one in some))

        asyncio.run(sequence())

    @contextlib.contextmanager
    def another_hub(self) -> Iterator[HubProcess]:
        """A second hub process for the same log."""
        hub = HubProcess(self.hub.home, self.hub.database_url, number=1)
        hub.start()
        try:
            hub.wait_until_ready()
            yield hub
        finally:
            hub.stop()

    def hub_process(self) -> psutil.Process:
        """The hub, to look at what it uses."""
        for child in psutil.Process().children():
            if str(self.hub.home) in child.cmdline() and "serve" in child.cmdline():
                return child
        raise BenchFailed("the hub's process is gone")


@contextlib.contextmanager
def place(folder: Path, postgres_url: str, name: str) -> Iterator[Place]:
    """A new forum on a new database of this server."""
    with psycopg.connect(plain_url(postgres_url), autocommit=True) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            if connection.execute(f"SHOW {setting}".encode()).fetchone() != ("on",):
                raise BenchFailed(f"{setting} is off: nothing that is measured here would be durable")
        connection.execute(f"CREATE DATABASE {name}".encode())
    url = make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    migrate(url)
    hub = HubProcess(folder / name, url)
    hub.start()
    try:
        hub.wait_until_ready()
        box = hub.found()
        yield Place(folder / name, plain_url(url), hub, box, box.admit("Aurora"))
    finally:
        hub.stop()
