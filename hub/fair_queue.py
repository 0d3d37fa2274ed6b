"""A queue whose places and turns are shared out evenly: who floods it waits for themselves, and others do not."""

import asyncio
from collections import deque
from typing import Generic, TypeVar

from hub.errors import OverLimit, Overloaded

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Items by whose share they are, for one taker.

    Args:
        most: items that may wait.
        most_each: of which one share may have so many.
    """

    def __init__(self, most: int, most_each: int) -> None:
        self._most = most
        self._most_each = most_each
        self._shares: dict[str, deque[tuple[int, T]]] = {}  # in the order of their turns; none is empty
        self._arrived = 0
        self._waiting = 0
        self._news = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return self._waiting

    def put(self, share: str, item: T) -> None:
        """Let an item wait.

        Raises:
            OverLimit: `too_many_requests`: too many of this share do.
            Overloaded: too many do, or the queue is closed.
        """
        if self._closed or self._waiting >= self._most:
            raise Overloaded
        if len(self._shares.get(share, ())) >= self._most_each:
            raise OverLimit(
                "too_many_requests", f"an author may have {self._most_each} entries waiting to be logged", retry_after=1
            )
        self._shares.setdefault(share, deque()).append((self._arrived, item))
        self._arrived += 1
        self._waiting += 1
        self._news.set()

    async def wait(self) -> None:
        """Wait for items; not once the queue is closed."""
        while not self._waiting and not self._closed:
            self._news.clear()
            await self._news.wait()

    async def take(self, most: int) -> list[T]:
        """Wait for items, and take up to `most` of them, in the order of arrival; none once the queue is closed.

        If more wait, every share is asked for one in turn, and whose turn it was last is asked last the next time.
        """
        await self.wait()
        taken: list[tuple[int, T]] = []
        while self._waiting and len(taken) < most:
            share, items = next(iter(self._shares.items()))
            taken.append(items.popleft())
            self._waiting -= 1
            del self._shares[share]
            if items:
                self._shares[share] = items
        return [item for _, item in sorted(taken, key=lambda arrival: arrival[0])]

    def close(self) -> None:
        """Take no more in. What waits is still handed out."""
        self._closed = True
        self._news.set()
