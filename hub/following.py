"""Those who wait for the log to grow: `GET /checkpoint?after=SIZE&wait=SECONDS`.

The transaction that extends the log also notifies (Postgres delivers that with the commit, to every process). One
connection a process listens, and wakes who waits. It waits without a connection of its own, so a thousand of them
cost little.

- A notification is only a bell: what is told is read from committed rows afterwards.
- Nothing depends on hearing it. After every (re)connection, and every `_LOOK_SECONDS` without a word, the head is read.
- A crowd is let go at `WAKES_PER_SECOND`, who waits longest first, for each of them comes back with several requests:
  a small forum hears at once, and a large one cannot flatten the hub with every entry.
"""

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass

import psycopg

from hub.database import log_store
from hub.database.connections import listen_for_growth, plain_url
from hub.errors import OverLimit, Overloaded

WAKES_PER_SECOND = 300
_SLICE = 32
_LOOK_SECONDS = 15.0
_RETRY_SECONDS = (0.1, 0.5, 2.0, 5.0)
_UNKNOWN = -1

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Waiter:
    size: int
    woken: asyncio.Future[None]


class Following:
    """Lets callers wait until the log is longer than they know. `start` it, `stop` it."""

    def __init__(self, database_url: str, *, most: int, most_per_member: int) -> None:
        self._database_url = plain_url(database_url)
        self._most = most
        self._most_per_member = most_per_member
        self._waiting: dict[_Waiter, None] = {}  # in the order of arrival
        self._by_member: Counter[str] = Counter()
        self._size = _UNKNOWN
        self._grown = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._released = False

    async def start(self) -> None:
        """Begin to listen."""
        self._tasks = [
            asyncio.create_task(self._listen(), name="listener"),
            asyncio.create_task(self._wake(), name="waker"),
        ]

    async def stop(self) -> None:
        """Let everybody go and stop listening."""
        self.release()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def release(self) -> None:
        """Let everybody go, and nobody wait any more: the process is about to stop."""
        self._released = True
        for waiter in list(self._waiting):
            _let_go(waiter)

    @property
    def listening(self) -> bool:
        """Whether new entries are heard of at the moment."""
        return self._size != _UNKNOWN

    @property
    def followers(self) -> int:
        """How many wait now."""
        return len(self._waiting)

    async def wait(self, size: int, seconds: float, member: str) -> None:
        """Return once the log is known to be of another length than `size`, or after `seconds`.

        Args:
            member: on whose behalf, for the bounds.

        Raises:
            Overloaded: this process has too many followers.
            OverLimit: `too_many_followers`: this member has.
        """
        if self._size not in (size, _UNKNOWN) or self._released:
            return
        if len(self._waiting) >= self._most:
            raise Overloaded("the hub has as many followers as it takes; ask without waiting")
        if self._by_member[member] >= self._most_per_member:
            raise OverLimit(
                "too_many_followers", f"a member may have {self._most_per_member} followers at a time", retry_after=5
            )
        waiter = _Waiter(size, asyncio.get_running_loop().create_future())
        self._waiting[waiter] = None
        self._by_member[member] += 1
        try:
            async with asyncio.timeout(seconds):
                await waiter.woken
        except TimeoutError:
            pass
        finally:
            del self._waiting[waiter]
            self._by_member[member] -= 1
            if not self._by_member[member]:
                del self._by_member[member]

    async def _listen(self) -> None:
        failures = 0
        while True:
            try:
                async with await listen_for_growth(self._database_url) as connection:
                    # Listening already: what is committed from here on rings the bell, what was before is read now.
                    self._learn(await log_store.read_size(connection))
                    failures = 0
                    while True:
                        async for bell in connection.notifies(timeout=_LOOK_SECONDS, stop_after=1):
                            self._learn(int(bell.payload))
                            break
                        else:
                            self._learn(await log_store.read_size(connection))
            except (psycopg.Error, OSError) as error:
                self._size = _UNKNOWN
                pause = _RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)]
                failures += 1
                _log.warning("not hearing of new entries for %s s: %s", pause, str(error).strip())
                await asyncio.sleep(pause)

    def _learn(self, size: int) -> None:
        # Not the maximum: a database that was rolled back must not leave followers waiting for a size of the past.
        if size != self._size:
            self._size = size
            self._grown.set()

    async def _wake(self) -> None:
        while True:
            await self._grown.wait()
            self._grown.clear()
            ready = [waiter for waiter in self._waiting if self._size not in (waiter.size, _UNKNOWN)]
            for start in range(0, len(ready), _SLICE):
                some = ready[start : start + _SLICE]
                for waiter in some:
                    _let_go(waiter)
                await asyncio.sleep(len(some) / WAKES_PER_SECOND)


def _let_go(waiter: _Waiter) -> None:
    if not waiter.woken.done():
        waiter.woken.set_result(None)
