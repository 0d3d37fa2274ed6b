"""Random histories of incidents: what must hold whoever does what in which order."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

import hypothesis.strategies as st
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from sharing_protocol.incidents import CLOSED, Timeline, timeline
from tests.protocol.incident_log import (
    ACT,
    ALARM,
    LABS,
    START,
    WATCH,
    IncidentLog,
    minutes,
    protocol,
    reference,
)

PROTOCOL = protocol()
RANKS = {level.name: rank for rank, level in enumerate(PROTOCOL.levels)}
APPROVALS = {level.name: level.approvals for level in PROTOCOL.levels}

labs = st.sampled_from(LABS)
actions = st.sampled_from(["join", "join", "update", "escalate", "escalate", "acknowledge", "close"])
levels = st.sampled_from([WATCH, ACT, ALARM, "Panic", None])
moments = st.none() | st.integers(-120, 60 * 24 * 40).map(minutes)


class Incidents(RuleBasedStateMachine):
    """Whatever the log takes: suspended labs say nothing, and everybody else says anything."""

    def __init__(self) -> None:
        super().__init__()
        self.log = IncidentLog()
        self.suspended: set[str] = set()
        self.seen: list[Timeline] = []

    @initialize(lab=labs, level=levels, steered=st.booleans())
    def open(self, lab: str, level: str | None, steered: bool) -> None:
        self.log = IncidentLog(PROTOCOL if steered else None)
        self.log.open(lab, level=level)

    @rule(lab=labs, action=actions, level=levels, at=moments, number=st.integers(1, 3))
    def act(self, lab: str, action: str, level: str | None, at: datetime | None, number: int) -> None:
        if lab not in self.suspended:
            self.log.act(lab, action, level, at, patterns=[reference("pattern", number)])

    @rule(lab=labs, active=st.booleans())
    def change(self, lab: str, active: bool) -> None:
        if active is (lab in self.suspended):
            self.suspended ^= {lab}
            self.log.change(lab, active=active)

    @rule(title=st.sampled_from(["Better", "Best"]), days=st.integers(1, 60))
    def revise(self, title: str, days: int) -> None:
        opener = self.log.versions[0].statement.author
        if opener not in self.suspended:
            until = (START + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")
            self.log.open(opener, title=title, valid_until=until)

    @invariant()
    def what_came_before_stays(self) -> None:
        """Verdicts are final, and the rest only moves one way."""
        now = self.log.timeline()
        if self.seen:
            before = self.seen[-1]
            assert now.steps[: len(before.steps)] == before.steps
            assert now.labs[: len(before.labs)] == before.labs
            assert now.patterns[: len(before.patterns)] == before.patterns
            assert self._rank(now.level) >= self._rank(before.level)
            if before.state == CLOSED:
                assert (now.state, now.level, now.labs) == (CLOSED, before.level, before.labs)
        self.seen.append(now)

    @invariant()
    def what_has_effect_was_allowed(self) -> None:
        """Looked at from outside: who had joined, who had asked, and that nothing came after the end."""
        found = self.log.timeline()
        joined, asked = {found.opened_by}, {(found.steps[0].level, found.opened_by)}
        closed = False
        for step in found.steps[1:]:
            if step.without_effect:
                assert step.in_force is None
                continue
            assert not closed
            if step.action == "join":
                assert step.lab not in joined
                joined.add(step.lab)
            assert step.lab in joined
            if step.action == "escalate":
                asked.add((step.level, step.lab))
            if step.in_force is not None:
                assert step.in_force == step.level
                labs = {lab for level, lab in asked if level == step.level}
                assert len(labs) >= (APPROVALS[step.in_force] if self.log.protocol else 1)
            closed = step.action == "close"
        assert closed == (found.state == CLOSED)
        assert joined == set(found.labs)

    @invariant()
    def what_is_owed_is_owed_by_labs_that_joined(self) -> None:
        found = self.log.timeline()
        owing = {due.lab for due in found.due}
        assert owing <= set(found.labs) - self.suspended
        assert all(
            due.level == found.level and due.overdue == (due.by < minutes(self.log.size - 100)) for due in found.due
        )
        if found.state == CLOSED or found.expired or self.log.protocol is None:
            assert not owing

    def _rank(self, level: str | None) -> int:
        """Place in the protocol; without one, the order in which levels came."""
        if self.log.protocol is not None:
            assert level is not None
            return RANKS[level]
        in_force = [step.in_force for step in self.log.timeline().steps if step.in_force is not None]
        assert len(set(in_force)) == len(in_force)
        return in_force.index(level) if level is not None else -1


def test_random_histories() -> None:
    run_state_machine_as_test(Incidents, settings=settings(max_examples=30, stateful_step_count=25, deadline=None))


acts = st.lists(st.tuples(labs, actions, levels, moments), max_size=25)


@given(acts, st.sets(st.integers(101, 125)), st.sampled_from([None, PROTOCOL]), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_in_which_a_store_hands_them_over_changes_nothing(
    said: list[tuple[str, str, str | None, datetime | None]],
    suspect: set[int],
    steered: object,
    order: random.Random,
) -> None:
    log = IncidentLog(PROTOCOL if steered is not None else None)
    log.open()
    log.suspect = suspect
    for lab, action, level, at in said:
        log.act(lab, action, level, at)
    mixed = order.sample(log.acts, len(log.acts))
    assert timeline(log.versions, mixed, log.protocol, START, suspect=suspect) == log.timeline(START)
    assert not [step for step in log.timeline().steps if step.index in suspect and not step.without_effect]
