"""A pattern's logic, compiled: which events match, which windows of events match.

Streaming: a plain rule is answered at once (`Logic.match_event`, `Evaluation.observe`). A correlation needs all
events, in any order; of each it keeps a few numbers, never the event itself (`Evaluation.conclude`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sharing_protocol.pattern_logic.catalogue import Category, fields_in
from sharing_protocol.pattern_logic.conditions import Condition, fields_of
from sharing_protocol.pattern_logic.correlations import Correlation, Firing, Hit, evaluate
from sharing_protocol.pattern_logic.events import Event, Value
from sharing_protocol.pattern_logic.predicates import Predicate


@dataclass(frozen=True, slots=True)
class Rule:
    """One compiled rule. `emits` is false if only correlations use it."""

    name: str
    title: str
    condition: Condition
    emits: bool
    holds: Predicate = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class MatchedWindow:
    """The window in which a correlation matched.

    Attributes:
        group: group field to its value.
        value: what was counted, summed or averaged.
        start: microseconds since 1970; the window begins just after it.
        end: microseconds since 1970; the window ends with it.
    """

    group: Mapping[str, Value]
    value: int | float
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Match:
    """One match of the pattern.

    Attributes:
        rule: name, id or title of the rule or correlation.
        title: its title.
        index: position of the event in the input, from 0; of a correlation, the event at which it was evaluated.
        window: of a correlation, else None.
    """

    rule: str
    title: str
    index: int
    window: MatchedWindow | None = None


class Logic:
    """What `compile_logic` makes of a record's Sigma documents. Immutable; share it between threads."""

    def __init__(self, category: Category, rules: tuple[Rule, ...], correlations: tuple[Correlation, ...]) -> None:
        self.category = category
        self.rules = rules
        self.correlations = correlations
        self._emitting = tuple((rule.name, rule.holds) for rule in rules if rule.emits)

    @property
    def categories(self) -> frozenset[str]:
        """The categories of events it speaks about; today always one."""
        return frozenset({str(self.category)})

    @property
    def has_correlations(self) -> bool:
        """Whether some matches are only known once all events have been seen."""
        return bool(self.correlations)

    @property
    def required_fields(self) -> frozenset[str]:
        """Every field that the logic reads; a log without them cannot show it."""
        read = {name for rule in self.rules for name in fields_of(rule.condition)}
        for correlation in self.correlations:
            read |= {"timestamp", *correlation.group_by} | ({correlation.value_field} - {""})
        return frozenset(read)

    def match_event(self, event: Mapping[str, Any] | Event) -> tuple[str, ...]:
        """Names of the rules that this event alone matches (rules that only feed correlations left out)."""
        seen = event if isinstance(event, Event) else Event(event)
        return tuple([name for name, holds in self._emitting if holds(seen)])

    def matches(self, events: Iterable[Mapping[str, Any] | Event]) -> Iterator[Match]:
        """All matches: those of single events as they come, those of correlations after the last event."""
        evaluation = Evaluation(self)
        for event in events:
            yield from evaluation.observe(event)
        yield from evaluation.conclude()


class Evaluation:
    """One run of a logic over one stream of events; several logics can follow the same stream side by side."""

    def __init__(self, logic: Logic) -> None:
        self._logic = logic
        self._seen = 0
        self._hits: dict[str, list[Hit]] = {correlation.name: [] for correlation in logic.correlations}
        self._types = {name: entry.type for name, entry in fields_in(logic.category).items()}

    def observe(self, event: Mapping[str, Any] | Event) -> tuple[Match, ...]:
        """Take the next event; answer what it matches by itself."""
        index = self._seen
        self._seen += 1
        seen = event if isinstance(event, Event) else Event(event)
        matched = [rule for rule in self._logic.rules if rule.holds(seen)]
        if matched and self._hits:
            self._remember(seen, index, frozenset(rule.name for rule in matched))
        return tuple(Match(rule.name, rule.title, index) for rule in matched if rule.emits)

    def conclude(self) -> Iterator[Match]:
        """The matches of correlations, once there are no more events."""
        firings: dict[str, list[Firing]] = {}
        for correlation in self._logic.correlations:  # referenced ones come first
            hits = self._hits[correlation.name]
            for rank, reference in enumerate(correlation.references):
                inner = next((known for known in self._logic.correlations if known.name == reference), None)
                if inner is not None:
                    keep = [inner.group_by.index(name) for name in correlation.group_by]
                    hits.extend(
                        Hit(
                            firing.hit.time,
                            firing.hit.index,
                            frozenset({rank}),
                            tuple(firing.hit.group[position] for position in keep),
                        )
                        for firing in firings[reference]
                    )
            firings[correlation.name] = list(evaluate(correlation, _merge(hits)))
            if correlation.emits:
                yield from (_match(correlation, firing) for firing in firings[correlation.name])

    def _remember(self, event: Event, index: int, matched: frozenset[str]) -> None:
        time = event.time("timestamp")
        if time is None:
            return
        for correlation in self._logic.correlations:
            ranks = frozenset(rank for rank, name in enumerate(correlation.references) if name in matched)
            if not ranks:
                continue
            group = [event.read(name, self._types[name]) for name in correlation.group_by]
            known = tuple(value for value in group if value is not None)
            if len(known) != len(group):
                continue
            counted = correlation.value_field
            value = event.read(counted, self._types[counted]) if counted else None
            self._hits[correlation.name].append(Hit(time, index, ranks, known, value))


def _merge(hits: list[Hit]) -> Iterator[Hit]:
    """One hit an event: a correlation's match and a rule's match at the same event are the same moment."""
    by_event: dict[int, Hit] = {}
    for hit in hits:
        known = by_event.get(hit.index)
        if known is not None:
            hit = Hit(hit.time, hit.index, known.ranks | hit.ranks, hit.group, known.value)
        by_event[hit.index] = hit
    yield from by_event.values()


def _match(correlation: Correlation, firing: Firing) -> Match:
    end = firing.hit.time
    group = dict(zip(correlation.group_by, firing.hit.group, strict=True))
    window = MatchedWindow(group, firing.value, end - correlation.timespan, end)
    return Match(correlation.name, correlation.title, firing.hit.index, window)
