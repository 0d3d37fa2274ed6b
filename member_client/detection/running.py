"""All patterns over all rows by the reference evaluator, in one pass: slow, and what the engine must agree with.

A row is made one event, and every rule of every pattern is asked about it; what folding and encoding a rule needs is
then done once for all. A pattern with correlations also keeps a few numbers of each row that one of its rules matches,
and of no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from member_client.detection.findings import WHOSE, Counter, Moment, Tally
from member_client.detection.in_force import RunnablePattern
from member_client.detection.request_logs import BrokenRow, Place, Row
from member_client.detection.rows import BadRow, Fields, event_fields, template_of
from sharing_protocol.pattern_logic import Evaluation, Event, MatchedWindow
from sharing_protocol.pattern_logic.events import parse_time

_PROMPT = "prompt.text"
_TEMPLATE = "prompt.template"

Found = Callable[[RunnablePattern, str, Moment, MatchedWindow | None], object]
"""Told of each match: pattern, rule, row, and the window if a correlation matched; what it answers is ignored."""


class Detection:
    """One run of patterns over rows."""

    def __init__(self, patterns: Sequence[RunnablePattern], columns: Mapping[str, str], found: Found) -> None:
        """Prepare a run.

        Args:
            columns: see `rows.event_fields`.
            found: told of every match as it is known.
        """
        self.rows = 0
        self.seen: set[str] = set()
        self._columns = columns
        self._found = found
        self._counters = {
            pattern.entry: Counter(Tally(pattern.id, pattern.version, pattern.entry, pattern.title, pattern.severity))
            for pattern in patterns
        }
        # One flat list of predicates: at a hundred thousand rows a second, a call for each pattern is what costs.
        self._rules = [
            (rule.holds, pattern, rule.name)
            for pattern in patterns
            if not pattern.logic.has_correlations
            for rule in pattern.logic.rules
            if rule.emits
        ]
        self._needs_template = any(_TEMPLATE in pattern.logic.required_fields for pattern in patterns)
        self._correlated = [_Correlated(pattern) for pattern in patterns if pattern.logic.has_correlations]

    @property
    def tallies(self) -> list[Tally]:
        """The counts so far, a pattern each."""
        return [counter.tally for counter in self._counters.values()]

    def run(self, rows: Iterable[Row], broken: Callable[[BrokenRow], None]) -> None:
        """Take all rows, then conclude what can only be known at the end.

        Args:
            broken: told of rows that are no event.
        """
        for file, line, row in rows:
            try:
                fields = event_fields(row, self._columns)
            except BadRow as bad:
                broken(BrokenRow(Place(file, line), str(bad)))
                continue
            if self._needs_template and fields.get(_TEMPLATE) is None and isinstance(fields.get(_PROMPT), str):
                fields[_TEMPLATE] = template_of(fields[_PROMPT])
            self.take(file, line, fields)
        self.conclude()

    def take(self, file: str, line: int, fields: Fields) -> None:
        """Ask all rules about one row."""
        self.rows += 1
        self.seen.update(fields)
        event = Event(fields)
        for holds, pattern, name in self._rules:
            if holds(event):
                self._match(pattern, name, _moment(file, line, fields), None)
        for follower in self._correlated:
            for name in follower.observe(event, file, line, fields):
                self._match(follower.pattern, name, _moment(file, line, fields), None)

    def conclude(self) -> None:
        """What is known once there are no more rows."""
        for follower in self._correlated:
            for name, moment, window in follower.conclude():
                self._match(follower.pattern, name, moment, window)

    def missing_fields(self) -> dict[str, frozenset[str]]:
        """For each pattern that could not match because no row had any field it reads: those fields."""
        if not self.rows:
            return {}
        patterns = [pattern for _, pattern, _ in self._rules] + [follower.pattern for follower in self._correlated]
        needed = {pattern.entry: pattern.logic.required_fields for pattern in patterns}
        return {entry: fields for entry, fields in needed.items() if not fields & self.seen}

    def _match(self, pattern: RunnablePattern, rule: str, moment: Moment, window: MatchedWindow | None) -> None:
        self._counters[pattern.entry].count(moment, window is not None)
        self._found(pattern, rule, moment, window)


class _Correlated:
    """A pattern with correlations, following the stream."""

    def __init__(self, pattern: RunnablePattern) -> None:
        self.pattern = pattern
        self._evaluation = Evaluation(pattern.logic)
        self._predicates = [rule.holds for rule in pattern.logic.rules]
        self._moments: list[Moment] = []

    def observe(self, event: Event, file: str, line: int, fields: Fields) -> list[str]:
        """Names of the rules that this row matches by itself."""
        for holds in self._predicates:
            if holds(event):
                break
        else:
            return []
        # Only rows that matter are shown to the evaluation, so its positions are positions in this list.
        self._moments.append(_moment(file, line, fields))
        return [match.rule for match in self._evaluation.observe(event)]

    def conclude(self) -> Iterable[tuple[str, Moment, MatchedWindow | None]]:
        """The matches of correlations, once there are no more rows."""
        for match in self._evaluation.conclude():
            yield match.rule, self._moments[match.index], match.window


def _moment(file: str, line: int, fields: Mapping[str, Any]) -> Moment:
    timestamp = fields.get("timestamp")
    time = parse_time(timestamp)
    whose = (value if isinstance(value := fields.get(name), str) else None for name in WHOSE)
    return Moment(Place(file, line), None if time is None else timestamp, time, *whose)
