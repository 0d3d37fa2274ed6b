"""Whether this process can do all of its work now: `GET /readyz`, for load balancers and probes.

Whoever asks is a stranger, so the reasons are coarse, and a crowd of them costs one look a second.
"""

import asyncio
import logging
from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncEngine

from hub.database import migrating
from hub.database.connections import NO_ANSWER
from hub.directory import Directory
from hub.errors import LogDamaged
from hub.following import Following
from hub.log_keys import LogKeys, history_of
from hub.rollback import RollBackGuard
from hub.sequencer import Sequencer

REASONS: Mapping[str, str] = {
    "database": "the database does not answer",
    "schema": "the database does not have this version's schema",
    "log": "the log can not be extended now",
    "sequencer": "no entries are taken",
    "listener": "entries of other processes are not heard of",
}
"""Everything that can be the matter, by the name that metrics have for it."""

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_TIMEOUT_SECONDS = 5.0


class Readiness:
    """Looks, at most once a second."""

    def __init__(
        self,
        engine: AsyncEngine,
        sequencer: Sequencer,
        following: Following,
        guard: RollBackGuard,
        directory: Directory,
        keys: LogKeys,
    ) -> None:
        self._engine = engine
        self._sequencer = sequencer
        self._following = following
        self._guard = guard
        self._directory = directory
        self._keys = keys
        self._revision = migrating.newest_revision()
        self._known: frozenset[str] | None = None
        self._looked = 0.0
        self._lacked_keys = False
        self._looking = asyncio.Lock()

    async def missing(self) -> frozenset[str]:
        """What keeps the process from being ready, of `REASONS`; empty if nothing does."""
        clock = asyncio.get_running_loop().time
        if self._known is not None and (self._looking.locked() or clock() - self._looked < _LOOK_SECONDS):
            return self._known
        async with self._looking:
            if self._known is None or clock() - self._looked >= _LOOK_SECONDS:
                self._known = await self._look()
                self._looked = clock()
            return self._known

    async def _look(self) -> frozenset[str]:
        missing = set()
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                async with self._engine.connect() as connection:
                    revision = await migrating.read_revision(connection)
                    if revision == self._revision:
                        # Perhaps nobody else asks: who is not ready is sent no requests.
                        await self._directory.current(connection)
                halt = await self._guard.read_halt()
        except (*NO_ANSWER, TimeoutError):
            missing.add("database")
        except LogDamaged as error:
            _log.critical("the log cannot be read: %s", error)
            missing.add("log")
        else:
            if revision != self._revision:
                missing.add("schema")
            if halt is not None:
                missing.add("log")
        if self._sequencer.in_doubt or self._lacks_keys():
            missing.add("log")
        if not self._sequencer.running:
            missing.add("sequencer")
        if not self._following.listening:
            missing.add("listener")
        return frozenset(missing)

    def _lacks_keys(self) -> bool:
        logs = history_of(self._directory.membership)
        lacking = logs is not None and self._keys.holding(logs.current) is None
        if lacking and not self._lacked_keys:
            _log.critical("the log's present keys are not in this home: bring keys/ of a home that has them")
        elif self._lacked_keys and not lacking:
            _log.warning("the log's present keys are in this home now")
        self._lacked_keys = lacking
        return lacking
