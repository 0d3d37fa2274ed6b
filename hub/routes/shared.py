"""Answers that a crowd asks for at the same time: read and encoded once, for all of them.

Followers who are told of the same checkpoint all want the same tiles and the same bundle, which never change. What was
read is kept for some seconds and some megabytes: the database stays the only place that anything is kept for longer.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass

KEPT_SECONDS = 3.0
MAX_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Content:
    """A body, and the coding it is in."""

    data: bytes
    coding: str = "identity"


@dataclass(slots=True)
class _Kept:
    content: asyncio.Future[Content]
    since: float
    size: int = 0


class SharedAnswers:
    """Contents by what they answer."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, _Kept] = {}  # the oldest first
        self._bytes = 0

    async def get(self, key: Hashable, read: Callable[[], Awaitable[Content]]) -> Content:
        """What `read` gives for this key, or gave a moment ago; what it raises is told to all who wait for it."""
        self._forget_old()
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = _Kept(asyncio.ensure_future(read()), time.monotonic())
            kept.content.add_done_callback(lambda _: self._weigh(key, kept))
        # Whoever asked first may leave; the others still wait.
        return await asyncio.shield(kept.content)

    def _weigh(self, key: Hashable, kept: _Kept) -> None:
        if self._kept.get(key) is not kept:
            return
        if kept.content.cancelled() or kept.content.exception() is not None:
            del self._kept[key]
            return
        kept.size = len(kept.content.result().data)
        self._bytes += kept.size
        self._forget_old()

    def _forget_old(self) -> None:
        now = time.monotonic()
        while self._kept:
            key, kept = next(iter(self._kept.items()))
            if now - kept.since < KEPT_SECONDS and self._bytes <= MAX_BYTES:
                return
            del self._kept[key]
            self._bytes -= kept.size
