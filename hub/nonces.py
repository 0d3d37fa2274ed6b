"""Which requests are new: their nonces are stored in groups, by one statement and one commit for all that wait.

A request is answered only after the commit that its nonce is in. While one group is with the database the next one
gathers, so a lone request waits for nobody, and a crowd shares round trips and flushes.
"""

import asyncio
from collections import deque
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from hub.database import nonce_store
from hub.database.nonce_store import Nonce
from hub.errors import DatabaseSilent

MOST_IN_GROUP = 128
GROUPS_AT_ONCE = 2
"""A connection that hangs must not hold up everybody."""
GROUP_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Novelty:
    """What storing a nonce showed: whether it was new, and the rest as `nonce_store.Remembered` has it."""

    fresh: bool
    last_membership: int
    halted: bool


@dataclass(slots=True, eq=False)
class _Waiting:
    nonce: Nonce
    answer: asyncio.Future[Novelty]


class Nonces:
    """Stores nonces for requests that come at the same time, together."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._waiting: deque[_Waiting] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    async def remember(self, nonce: Nonce) -> Novelty:
        """Store a nonce; return when that is durable.

        Raises:
            DatabaseSilent: the database took too long. What else it raises comes as SQLAlchemy has it.
        """
        waiting = _Waiting(nonce, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if len(self._tasks) < GROUPS_AT_ONCE:
            task = asyncio.create_task(self._work(), name="nonces")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await waiting.answer

    async def _work(self) -> None:
        while group := self._next_group():
            try:
                async with asyncio.timeout(GROUP_SECONDS), self._engine.connect() as connection:
                    seen = await nonce_store.remember(connection, [one.nonce for one in group])
            except Exception as error:  # noqa: BLE001 - whatever it is, it is those who wait that must hear of it
                _tell(group, DatabaseSilent() if isinstance(error, TimeoutError) else error)
                continue
            fresh = set(seen.fresh)
            for one in group:
                key = (one.nonce.key_id, one.nonce.nonce)
                if not one.answer.done():
                    one.answer.set_result(Novelty(key in fresh, seen.last_membership, seen.halted))
                # A request and its copy may be in one group: the first is new, and no other.
                fresh.discard(key)

    def _next_group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        while self._waiting and len(group) < MOST_IN_GROUP:
            waiting = self._waiting.popleft()
            if not waiting.answer.done():  # else whoever asked has given up
                group.append(waiting)
        return group


def _tell(group: list[_Waiting], error: Exception) -> None:
    for one in group:
        if not one.answer.done():
            one.answer.set_exception(error)
