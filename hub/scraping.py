"""What Prometheus gets: `GET /metrics` on a port of its own, never on the one that strangers reach.

The library's own server answers, from a thread. What lies in the database is asked for in the hub's event loop, once
for each scrape and not for long; if the database does not answer, the rest is shown all the same.
"""

import asyncio
import logging
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from wsgiref.simple_server import WSGIServer

from prometheus_client import start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import QueuePool
from typing_extensions import override

from hub.database import usage_store
from hub.database.connections import NO_ANSWER
from hub.directory import Directory
from hub.errors import HubError
from hub.metrics import Metrics
from hub.publication import Publication
from hub.quotas import Quotas, Usage
from hub.readiness import REASONS, Readiness

_TIMEOUT_SECONDS = 5.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Stored:
    """What was found in the database by the last scrape that it answered."""

    size: int = 0
    published: float | None = None
    bytes: int = 0
    usage: dict[str, Usage] | None = None


class HubState(Collector):
    """The hub's state, looked at whenever the metrics are asked for."""

    def __init__(
        self,
        engine: AsyncEngine,
        publication: Publication,
        directory: Directory,
        readiness: Readiness,
        metrics: Metrics,
        quotas: Quotas,
        clock: Callable[[], datetime],
        home: Path | None,
    ) -> None:
        self._engine = engine
        self._publication = publication
        self._directory = directory
        self._readiness = readiness
        self._metrics = metrics
        self._quotas = quotas
        self._clock = clock
        self._home = home
        self._stored = _Stored()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Remember the loop, which the collecting thread is not in."""
        self._loop = asyncio.get_running_loop()

    @override
    def collect(self) -> Iterable[Metric]:
        missing = frozenset(("database",))
        if self._loop is not None and self._loop.is_running():
            looking = asyncio.run_coroutine_threadsafe(self._look(), self._loop)
            try:
                missing = looking.result(2 * _TIMEOUT_SECONDS)
            except TimeoutError:
                looking.cancel()
        yield _gauge("ready", "Whether /readyz says so", not missing)
        yield _by("unready", "What keeps the process from being ready", "reason", {r: r in missing for r in REASONS})
        yield from self._of_log()
        yield from self._of_members()
        yield from self._of_storage()

    async def _look(self) -> frozenset[str]:
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                await self._read()
        except (*NO_ANSWER, HubError, TimeoutError) as error:
            _log.warning("metrics without what lies in the database: %s", type(error).__name__)
        return await self._readiness.missing()

    async def _read(self) -> None:
        async with self._engine.connect() as connection:
            self._stored.usage = await usage_store.read_all(connection)
            used = await connection.execute(text("SELECT pg_database_size(current_database())"))
            self._stored.bytes = used.scalar_one()
        newest = await self._publication.checkpoint()
        if newest is not None:
            self._stored.size = newest.size
            self._stored.published = self._clock().timestamp()

    def _of_log(self) -> Iterable[Metric]:
        yield _gauge("checkpoint_size", "Entries in the newest checkpoint", self._stored.size)
        if self._stored.published is not None:
            age = max(0.0, self._clock().timestamp() - self._stored.published)
            yield _gauge("checkpoint_age_seconds", "Since a checkpoint could last be vouched for as the newest", age)

    def _of_members(self) -> Iterable[Metric]:
        members = self._directory.membership.members
        size = self._stored.size
        positions, seen, usage = dict(self._metrics.positions), dict(self._metrics.seen), self._stored.usage or {}
        info = GaugeMetricFamily(
            "stillwatch_member_info", "1 for each member of the forum, by name and status",
            labels=("member", "name", "status"),
        )  # fmt: skip
        for member in members.values():
            info.add_metric((member.id, member.name, member.status.value), 1)
        yield info
        lag = {member: max(0, size - position) for member, position in positions.items() if member in members}
        yield _by("member_lag_entries", "Entries that a member was not seen to have, by this process", "member", lag)
        last = {member: then for member, then in seen.items() if member in members}
        yield _by("member_seen_timestamp_seconds", "When a member last asked this process", "member", last)
        yield _by("member_bytes", "Bytes of a member's entries", "member", {m: u.in_all for m, u in usage.items()})
        yield _by("member_day_bytes", "Of which of the last day", "member", {m: u.in_day for m, u in usage.items()})
        yield _gauge("member_bytes_limit", "Bytes of entries that a member may have", self._quotas.in_all)
        yield _gauge("member_day_bytes_limit", "Bytes that a member may add in a day", self._quotas.per_day)

    def _of_storage(self) -> Iterable[Metric]:
        pool = self._engine.sync_engine.pool
        if isinstance(pool, QueuePool):
            yield _gauge("database_connections_in_use", "Connections for reading that are in use", pool.checkedout())
            yield _gauge("database_connections_limit", "Connections for reading that there may be", pool.size())
        yield _gauge("database_bytes", "Size of the hub's database", self._stored.bytes)
        if self._home is not None:
            disk = shutil.disk_usage(self._home)
            yield _gauge("home_free_bytes", "Free space where the hub's home is", disk.free)
            yield _gauge("home_size_bytes", "All space where the hub's home is", disk.total)


class Listener:
    """Serves a hub's metrics.

    Attributes:
        port: where, while it is started.
    """

    def __init__(self, host: str, port: int | None, metrics: Metrics) -> None:
        self._host = host
        self._wanted = port
        self._metrics = metrics
        self.port: int | None = None

    @asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        """Serve as long as this lasts.

        Raises:
            HubError: `cannot_listen`.
        """
        if self._wanted is None:
            yield
            return
        try:
            server, thread = start_http_server(self._wanted, self._host, self._metrics.registry)
        except OSError as error:
            raise HubError(
                "cannot_listen", f"cannot listen on {self._host} port {self._wanted}: {error.strerror or error}"
            ) from error
        self.port = server.server_port
        _log.info("serving metrics", extra={"host": self._host, "port": self.port})
        try:
            yield
        finally:
            # In a thread: a scrape that is under way waits for this loop.
            await asyncio.to_thread(_stop, server, thread)


def _stop(server: WSGIServer, thread: threading.Thread) -> None:
    server.shutdown()
    server.server_close()
    thread.join()


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"stillwatch_{name}", meaning, value=float(value))


def _by(name: str, meaning: str, label: str, values: dict[str, int] | dict[str, float] | dict[str, bool]) -> Metric:
    family = GaugeMetricFamily(f"stillwatch_{name}", meaning, labels=(label,))
    for value, number in values.items():
        family.add_metric((value,), float(number))
    return family
