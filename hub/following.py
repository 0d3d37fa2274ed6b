"""Those who wait for the log to grow: `GET /checkpoint?after=SIZE&wait=SECONDS`.

The transaction that extends the log also notifies (Postgres delivers that with the commit, to every process). One
connection a process listens, and wakes who waits. It waits without a connection of its own, so a thousand of them
cost little.

- A notification is only a bell: what is told is read from committed rows afterwards.
- Nothing depends on hearing it. After every (re)connection, and every `_LOOK_SECONDS` without a word, the head is read.
- Who is to be told, because the log has another length than they know, is told in turn, who waits longest first, at a
  `pace` that leaves the hub time for everything else: a small forum hears at once, and a crowd, all of whom come back
  at once to find that the log has grown again, cannot flatten the hub.
"""

import asyncio
import logging
import time
from collections import Counter, deque
from dataclasses import dataclass

import psycopg

from hub.database import log_store
from hub.database.connections import listen_for_growth, plain_url
from hub.errors import OverLimit, Overloaded
from hub.pace import LOOK_SECONDS, Pace

_LOOK_SECONDS = 15.0
_RETRY_SECONDS = (0.1, 0.5, 2.0, 5.0)
_UNKNOWN = -1

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Waiter:
    """A follower who knows a log of `size` entries; `is_due` once the log has another length."""

    size: int
    told: asyncio.Future[None]
    is_due: bool = False


class Following:
    """Lets callers wait until the log is longer than they know. `start` it, `stop` it."""

    def __init__(self, database_url: str, *, most: int, most_per_member: int) -> None:
        self._database_url = plain_url(database_url)
        self._most = most
        self._most_per_member = most_per_member
        self._waiting: dict[_Waiter, None] = {}  # in the order of arrival
        self._due: deque[_Waiter] = deque()  # in the order of their turns
        self._by_member: Counter[str] = Counter()
        self._size = _UNKNOWN
        self._pace = Pace(time.monotonic())
        self._busy = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._released = False

    async def start(self) -> None:
        """Begin to listen."""
        self._tasks = [
            asyncio.create_task(self._listen(), name="listener"),
            asyncio.create_task(self._keep_pace(), name="pace"),
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

    def tells_at_once(self, size: int) -> bool:
        """Whether the log is known to be of another length than `size`, and this caller need not wait to hear of it."""
        return self._released or (self._has_grown(size) and not self._due and self._take_turn())

    def waits_on(self, size: int, ends: float) -> bool:
        """Whether a caller whose turn came, and who found the log to be of `size` all the same, may wait on.

        The bell of an entry comes a little after its commit: whoever heard of the entry first knows more than we do.

        Args:
            ends: when the caller wants an answer, by the monotonic clock.
        """
        if self._released or time.monotonic() >= ends:
            return False
        if self.listening:
            self._learn(size)
        return True

    async def wait(self, size: int, seconds: float, member: str) -> None:
        """Return once the log is known to be of another length than `size` and it is this caller's turn to hear of it.

        Or after `seconds`.

        Args:
            member: on whose behalf, for the bounds.

        Raises:
            Overloaded: this process has too many followers.
            OverLimit: `too_many_followers`: this member has.
        """
        if self.tells_at_once(size):
            return
        if len(self._waiting) >= self._most:
            raise Overloaded("the hub has as many followers as it takes; ask without waiting")
        if self._by_member[member] >= self._most_per_member:
            raise OverLimit(
                "too_many_followers", f"a member may have {self._most_per_member} followers at a time", retry_after=5
            )
        waiter = _Waiter(size, asyncio.get_running_loop().create_future())
        self._waiting[waiter] = None
        self._look_at(waiter)
        self._by_member[member] += 1
        try:
            async with asyncio.timeout(seconds):
                await waiter.told
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
            for waiter in self._waiting:
                self._look_at(waiter)
            self._give_turns()

    def _has_grown(self, size: int) -> bool:
        return self._size not in (size, _UNKNOWN)

    def _look_at(self, waiter: _Waiter) -> None:
        if not waiter.is_due and self._has_grown(waiter.size):
            waiter.is_due = True
            self._due.append(waiter)
            self._busy.set()

    def _take_turn(self) -> bool:
        self._busy.set()
        return self._pace.take(time.monotonic())

    def _give_turns(self) -> None:
        while self._due:
            if self._due[0].told.done():  # who has left, or waited long enough
                self._due.popleft()
            elif self._take_turn():
                _let_go(self._due.popleft())
            else:
                return

    async def _keep_pace(self) -> None:
        while True:
            await self._busy.wait()
            self._busy.clear()
            while self._due or not self._pace.is_quiet(time.monotonic()):
                begun = time.monotonic()
                await asyncio.sleep(LOOK_SECONDS)
                self._pace.was_late(time.monotonic() - begun - LOOK_SECONDS)
                self._give_turns()


def _let_go(waiter: _Waiter) -> None:
    if not waiter.told.done():
        waiter.told.set_result(None)
