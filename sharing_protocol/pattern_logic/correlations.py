"""Correlations over trailing windows: the definition that every engine must agree with.

The window at a moment t is `(t - timespan, t]`: later than t - timespan, not later than t. It is looked at once
for each event that a referenced rule matched, at that event's time, and holds *all* matched events of the same
group in that interval, whatever order they arrived in. So the result does not depend on the order of the input.

An event without a readable timestamp, or with any group field absent, takes part in nothing. Groups are compared
exactly (letter case counts). Without group fields all events are one group.

What is counted in the window:
    event_count       the events, each once however many of the rules it matched
    value_count       the distinct present values of the field
    value_sum         the sum of its present values; with none present the condition does not hold
    value_avg         that sum divided by how many are present; likewise
    temporal          how many of the referenced rules matched something; by default it must be all of them
    temporal_ordered  whether all of them matched, each at a strictly later time than the one named before it

Sums are exact: values and thresholds are first rounded to millionths (`events.millionths`), and then added and compared
as whole numbers, so that no engine's order of adding shows.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from typing import Protocol

from sharing_protocol.pattern_logic.conditions import Comparison
from sharing_protocol.pattern_logic.events import Value, millionths
from sharing_protocol.pattern_logic.predicates import COMPARE

_MILLION = 1_000_000
GroupKey = tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Correlation:
    """One compiled correlation.

    Attributes:
        name: its label.
        title: its title.
        kind: event_count, value_count, value_sum, value_avg, temporal or temporal_ordered.
        references: labels of the rules (or, for the temporal kinds, correlations) that feed it, in order.
        group_by: field names; empty for one group of everything.
        timespan: microseconds.
        criteria: all must hold of the counted value.
        value_field: the field that value_* looks at, else "".
        emits: whether its matches are matches of the pattern.
    """

    name: str
    title: str
    kind: str
    references: tuple[str, ...]
    group_by: tuple[str, ...]
    timespan: int
    criteria: tuple[tuple[Comparison, int | float], ...]
    value_field: str
    emits: bool


@dataclass(frozen=True, slots=True)
class Hit:
    """One event that something referenced by a correlation matched.

    Attributes:
        time: microseconds since 1970.
        index: position of the event in the input.
        ranks: positions, in `references`, of what matched it.
        group: values of the group fields.
        value: of the value field, None if absent or not needed.
    """

    time: int
    index: int
    ranks: frozenset[int]
    group: GroupKey
    value: Value | None = None


@dataclass(frozen=True, slots=True)
class Firing:
    """The condition held in the window of one event."""

    hit: Hit
    value: int | float


class _Window(Protocol):
    """Events enter by time, all of one moment at once, and leave in the same order."""

    def enter(self, moment: list[Hit], /) -> None: ...
    def leave(self, hit: Hit, /) -> None: ...
    def measure(self) -> int | Fraction | None:
        """What the condition is about; None if there is nothing to compare."""
        ...

    def comparable(self, threshold: float, /) -> float | Fraction:
        """A threshold as what is measured is compared with it."""
        ...


def evaluate(correlation: Correlation, hits: Iterable[Hit]) -> Iterator[Firing]:
    """Every event at whose time the window of its group fulfils the condition: group by group, then by time."""
    groups: dict[GroupKey, list[Hit]] = defaultdict(list)
    for hit in hits:
        groups[hit.group].append(hit)
    for members in groups.values():
        members.sort(key=lambda hit: (hit.time, hit.index))
        yield from _evaluate_group(correlation, members)


def _evaluate_group(correlation: Correlation, hits: list[Hit]) -> Iterator[Firing]:
    window = _window_of(correlation)
    wanted_values = [(sign, window.comparable(wanted)) for sign, wanted in correlation.criteria]
    inside: deque[Hit] = deque()
    for time, simultaneous in groupby(hits, key=lambda hit: hit.time):
        moment = list(simultaneous)
        window.enter(moment)
        inside.extend(moment)
        while inside[0].time <= time - correlation.timespan:
            window.leave(inside.popleft())
        value = window.measure()
        if value is not None and all(COMPARE[sign](value, wanted) for sign, wanted in wanted_values):
            shown = value if isinstance(value, int) else float(value)
            yield from (Firing(hit, shown) for hit in moment)


def _window_of(correlation: Correlation) -> _Window:
    kinds: dict[str, Callable[[], _Window]] = {
        "event_count": _Events,
        "value_count": lambda: _Distinct(lambda hit: () if hit.value is None else (hit.value,)),
        "value_sum": _Sum,
        "value_avg": _Average,
        "temporal": lambda: _Distinct(lambda hit: hit.ranks),
        "temporal_ordered": lambda: _Chains(len(correlation.references)),
    }
    return kinds[correlation.kind]()


class _Counting:
    def comparable(self, threshold: float) -> float | Fraction:
        return threshold


class _Events(_Counting):
    def __init__(self) -> None:
        self._count = 0

    def enter(self, moment: list[Hit]) -> None:
        self._count += len(moment)

    def leave(self, _hit: Hit) -> None:
        self._count -= 1

    def measure(self) -> int:
        return self._count


class _Distinct(_Counting):
    """How many different things the events in the window bring."""

    def __init__(self, things: Callable[[Hit], Iterable[Value]]) -> None:
        self._things = things
        self._seen: Counter[Value] = Counter()

    def enter(self, moment: list[Hit]) -> None:
        for hit in moment:
            self._seen.update(self._things(hit))

    def leave(self, hit: Hit) -> None:
        for thing in self._things(hit):
            self._seen[thing] -= 1
            if not self._seen[thing]:
                del self._seen[thing]

    def measure(self) -> int:
        return len(self._seen)


class _Sum:
    def __init__(self) -> None:
        self._sum = 0  # in millionths
        self._count = 0

    def enter(self, moment: list[Hit]) -> None:
        for hit in moment:
            self._add(hit, 1)

    def leave(self, hit: Hit) -> None:
        self._add(hit, -1)

    def _add(self, hit: Hit, sign: int) -> None:
        if isinstance(hit.value, int | float):
            self._sum += sign * millionths(hit.value)
            self._count += sign

    def measure(self) -> Fraction | None:
        return Fraction(self._sum, _MILLION) if self._count else None

    def comparable(self, threshold: float) -> Fraction:
        return Fraction(millionths(threshold), _MILLION)


class _Average(_Sum):
    def measure(self) -> Fraction | None:
        return Fraction(self._sum, _MILLION * self._count) if self._count else None


class _Chains(_Counting):
    """For each rule, the latest possible start of a chain of the rules so far that ends with it.

    A chain lies in the window exactly if its first event does, so its latest start is all there is to remember.
    """

    def __init__(self, length: int) -> None:
        self._starts: list[int | None] = [None] * length
        self._gone: int | None = None  # time of the latest event that has left

    def enter(self, moment: list[Hit]) -> None:
        before = tuple(self._starts)  # events of one moment are not later than each other
        for hit in moment:
            for rank in hit.ranks:
                start = hit.time if rank == 0 else before[rank - 1]
                known = self._starts[rank]
                if start is not None and (known is None or start > known):
                    self._starts[rank] = start

    def leave(self, hit: Hit) -> None:
        self._gone = hit.time

    def measure(self) -> int:
        start = self._starts[-1]
        whole = start is not None and (self._gone is None or start > self._gone)
        return len(self._starts) if whole else 0
