"""How much of the hub one member may have at a time and in a time, and how much all strangers together.

A request belongs to a member once its signature holds; by a key id alone, anybody could use up anybody's share. Until
then it is a stranger's. What is counted, all of it in this process:

- requests and submissions of a minute, by the kept library `limits`. They are asked about before a nonce is written,
  and counted once the nonce was new: a captured request that is sent again counts against nobody.
- requests in work at a time, of a member and of all members; the last of these places are for submissions alone, so
  that no crowd of readers keeps the log from growing. Who only waits for the log to grow gives the place up.
- strangers in work at a time: a small share of its own. Members that this process knows never need it.

A lab counts as one, whichever of its keys asks; an admin counts by the key. A bulk submission counts as often as it has
envelopes, and takes as many places as the envelopes of the greatest size that its body has room for.
"""

import asyncio
import contextlib
import math
import time
from collections import Counter
from collections.abc import Iterator

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from hub.errors import OverLimit, Overloaded
from hub.settings import HubSettings

SUBMISSIONS_SHARE = 8
"""Of so many requests that may be in work, one is a submission."""
STRANGERS_SHARE = 8
"""For so many requests of members that may be in work, there may be one of a stranger's."""


class Place:
    """A request's place, or places, among those that are in work.

    Attributes:
        waited: seconds for which it was given up.
    """

    def __init__(self, limits: "Limits", member: str, timeout: asyncio.Timeout, places: int) -> None:
        self._limits = limits
        self._member = member
        self._timeout = timeout
        self._places = places
        self._begun = asyncio.get_running_loop().time()
        self.waited = 0.0

    @property
    def has_time(self) -> bool:
        """Whether at least half of the time that the request may take is left."""
        ends = self._timeout.when()
        return ends is None or asyncio.get_running_loop().time() < (self._begun + ends) / 2

    def count_more(self, submissions: int) -> int:
        """Count further submissions of this request, as far as its member may send them now; gives how many it may."""
        return self._limits.count_more(self._member, submissions)

    @property
    def too_many(self) -> OverLimit:
        """What the member is told of the submissions that it may not send now."""
        return self._limits.too_many_submissions(self._member)

    @contextlib.contextmanager
    def given_up(self) -> Iterator[None]:
        """While the request only waits, with a bound of its own: it takes up no place, and its time stands still."""
        clock = asyncio.get_running_loop().time
        begun, ends = clock(), self._timeout.when()
        self._timeout.reschedule(None)
        self._limits.leave(self._member, self._places)
        try:
            yield
        finally:
            # It is not asked whether there is room: what was let in is brought to its end.
            self._limits.enter(self._member, self._places)
            self.waited += clock() - begun
            if ends is not None:
                self._timeout.reschedule(ends + clock() - begun)


class Limits:
    """Counts what is in work, and what every member asked for lately."""

    def __init__(self, settings: HubSettings) -> None:
        self._most = settings.max_at_once
        self._most_readers = settings.max_at_once - settings.max_at_once // SUBMISSIONS_SHARE
        self._most_each = settings.max_at_once_per_member
        self._most_strangers = max(1, settings.max_at_once // STRANGERS_SHARE)
        self._rates = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._requests = RateLimitItemPerMinute(settings.requests_per_minute, namespace="requests")
        self._submissions = RateLimitItemPerMinute(settings.submissions_per_minute, namespace="submissions")
        self._by_member: Counter[str] = Counter()
        self.in_work = 0
        self.strangers = 0

    def check_rates(self, member: str, *, submits: bool) -> None:
        """See that a member may ask now.

        Raises:
            OverLimit: `too_many_requests`.
        """
        for item, what in self._rates_of(submits):
            if not self._rates.test(item, member):
                raise self._too_many(item, what, member)

    def count(self, member: str, *, submits: bool) -> None:
        """Count a request that is a member's beyond doubt."""
        for item, _ in self._rates_of(submits):
            # Those that were let in at the same time may together go over the limit; they count all the same.
            self._rates.hit(item, member)

    def count_more(self, member: str, submissions: int) -> int:
        """Count as many of these submissions as a member may send now; gives how many."""
        rates = self._rates_of(submits=True)
        counted = min(submissions, *(self._rates.get_window_stats(item, member).remaining for item, _ in rates))
        if counted:
            for item, _ in rates:
                self._rates.hit(item, member, cost=counted)
        return counted

    def too_many_submissions(self, member: str) -> OverLimit:
        """What a member is told of submissions that it may not send now."""
        requests, submissions = self._rates_of(submits=True)
        worst = submissions if self._rates.test(requests[0], member) else requests
        return self._too_many(*worst, member)

    @contextlib.contextmanager
    def at_work(self, member: str, timeout: asyncio.Timeout, *, submits: bool, places: int = 1) -> Iterator[Place]:
        """Give a member's request a place, or so many of them; all there are, if it asks for more.

        Raises:
            Overloaded: this process has too many requests in work.
            OverLimit: `too_many_requests`: this member has.
        """
        most = self._most if submits else self._most_readers
        places = min(places, self._most_each, most)
        if self._by_member[member] + places > self._most_each:
            raise OverLimit("too_many_requests", f"a member may have {self._most_each} requests in work at a time", 1)
        if self.in_work + places > most:
            raise Overloaded
        self.enter(member, places)
        try:
            yield Place(self, member, timeout, places)
        finally:
            self.leave(member, places)

    @contextlib.contextmanager
    def stranger(self, places: int = 1) -> Iterator[None]:
        """Give a place, or so many, to a request of which nobody knows yet whose it is.

        Raises:
            Overloaded: too many strangers are in work.
        """
        places = min(places, self._most_strangers)
        if self.strangers + places > self._most_strangers:
            raise Overloaded
        self.strangers += places
        try:
            yield
        finally:
            self.strangers -= places

    def enter(self, member: str, places: int) -> None:
        """Count so many more in work."""
        self.in_work += places
        self._by_member[member] += places

    def leave(self, member: str, places: int) -> None:
        """Count so many less in work."""
        self.in_work -= places
        self._by_member[member] -= places
        if not self._by_member[member]:
            del self._by_member[member]

    def _too_many(self, item: RateLimitItemPerMinute, what: str, member: str) -> OverLimit:
        resets = self._rates.get_window_stats(item, member).reset_time
        seconds = min(60, max(1, math.ceil(resets - time.time())))
        return OverLimit("too_many_requests", f"a member may send {item.amount} {what} a minute", seconds)

    def _rates_of(self, submits: bool) -> list[tuple[RateLimitItemPerMinute, str]]:
        return [(self._requests, "requests"), *([(self._submissions, "submissions")] if submits else [])]
