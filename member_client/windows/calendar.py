"""Which windows there are, and in which batches they are computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

HOUR = 3_600_000_000  # microseconds
DAY_HOURS = 24
WEEK_HOURS = 168


@dataclass(frozen=True, slots=True)
class Window:
    """A window, in whole hours since 1970; `end` is not part of it."""

    hours: int
    end: int

    @property
    def start(self) -> int:
        return self.end - self.hours


def windows_over(busy_hours: Sequence[int], lengths: Sequence[int]) -> Iterator[Window]:
    """All windows with a request in them, given the hours that have one, by length and end.

    Those of 168 h end at each midnight, up to the one after the last request; the others do not overlap.
    """
    if not busy_hours:
        return
    days = sorted({hour // DAY_HOURS for hour in busy_hours})
    for length in sorted(set(lengths)):
        if length == WEEK_HOURS:
            last = days[-1] + 1
            ends = {end for day in days for end in range(day + 1, day + 8) if end <= last}
            yield from (Window(length, end * DAY_HOURS) for end in sorted(ends))
        else:
            yield from (Window(length, (n + 1) * length) for n in sorted({hour // length for hour in busy_hours}))


def batches(windows: Sequence[Window], requests_by_hour: dict[int, int], limit: int) -> Iterator[list[Window]]:
    """The windows in order, cut where more than `limit` requests would come together."""
    batch: list[Window] = []
    weight = 0
    for window in windows:
        requests = sum(requests_by_hour.get(hour, 0) for hour in range(window.start, window.end))
        if batch and weight + requests > limit:
            yield batch
            batch, weight = [], 0
        batch.append(window)
        weight += requests
    if batch:
        yield batch
