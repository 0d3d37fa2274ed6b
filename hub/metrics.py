"""What is counted of a hub process, for Prometheus. What is only looked at when asked for is in `scraping`.

Label values are bounded: routes are templates, codes are the hub's own, members are those of the forum.
"""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNROUTED = "none"
"""The route of what never reached one: refused at the gate, or to no path of ours."""
_REQUEST_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
_BATCH_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60)
_BATCH_ENTRIES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The metrics of one hub, in a registry of its own.

    Attributes:
        positions: for each member, the size of the log that it is known to have.
        seen: when each member last asked for anything, as POSIX seconds.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = self._counter("requests", "Requests answered", "method", "route", "status")
        self._seconds = Histogram(
            "stillwatch_request_seconds",
            "Time from a request's head to the end of its answer, waiting for the log to grow not counted",
            ("route",),
            registry=self.registry,
            buckets=_REQUEST_SECONDS,
        )
        self._refusals = self._counter("refusals", "Requests, and envelopes of many, answered with a problem", "code")
        self._appended = self._counter("entries_appended", "Entries that this process added to the log")
        self._batch_entries = Histogram(
            "stillwatch_batch_entries",
            "Entries that a batch of submissions added to the log",
            registry=self.registry,
            buckets=_BATCH_ENTRIES,
        )
        self._batch_seconds = Histogram(
            "stillwatch_batch_seconds",
            "Time from asking for the log's lock to the commit",
            registry=self.registry,
            buckets=_BATCH_SECONDS,
        )
        self._swept = self._counter("nonces_swept", "Expired request nonces deleted")
        self.positions: dict[str, int] = {}
        self.seen: dict[str, float] = {}

    def watch(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        """Show what `read` returns when asked for."""
        Gauge(f"stillwatch_{name}", meaning, registry=self.registry).set_function(read)

    def answered(self, method: str, route: str, status: int, problem: str, seconds: float) -> None:
        """Count a request; `problem` is the code of its refusal, or ""."""
        method = method if method in METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        if problem:
            self.refused(problem)

    def refused(self, problem: str) -> None:
        """Count a refusal by its code."""
        self._refusals.labels(problem).inc()

    def sequenced(self, appended: int, seconds: float) -> None:
        """Count a batch that is committed, or had nothing to commit."""
        self._batch_seconds.observe(seconds)
        self._batch_entries.observe(appended)
        self._appended.inc(appended)

    def swept(self, nonces: int) -> None:
        """Count expired nonces."""
        self._swept.inc(nonces)

    def saw(self, member: str) -> None:
        """A member has asked for something."""
        self.seen[member] = time.time()

    def has(self, member: str, size: int, *, exactly: bool = False) -> None:
        """A member says that it has so many entries (`exactly`), or has fetched up to there."""
        self.positions[member] = size if exactly else max(size, self.positions.get(member, 0))

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"stillwatch_{name}", meaning, labels, registry=self.registry)
