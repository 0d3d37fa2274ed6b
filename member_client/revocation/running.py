"""Going through a plan, account by account, and back.

For each account, in this order: is it done already; may it be done, now; note that it begins; call the hook; note what
came of it. If we are killed before the hook is called, or after it and before the note, the next run calls it with the
same idempotency key. Nothing is ever called without a note on the disk that it was about to be.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from member_client.revocation.authority import Authority, Target
from member_client.revocation.hooks import Hook, Outcome
from member_client.revocation.journal import Journal, Line, What, key_of
from member_client.revocation.planning import Plan
from sharing_protocol.statements.header import format_timestamp

HOOK_FORMAT = "stillwatch-revocation/1"
_LONGEST_WAIT = 30.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How hard it is tried.

    Attributes:
        per_second: calls of the hook, at most.
        attempts: calls for one account.
        max_failures: accounts that fail before it stops.
    """

    per_second: float = 5.0
    attempts: int = 3
    max_failures: int = 5


@dataclass(frozen=True, slots=True)
class Clock:
    """The time of day, a clock that never goes back, and a way to wait; all in seconds."""

    now: Callable[[], float] = time.time
    steady: Callable[[], float] = time.monotonic
    wait: Callable[[float], None] = time.sleep


@dataclass
class Tally:
    """What a run did.

    Attributes:
        before: accounts that were done before it.
        stopped: whether it stopped at too many failures.
        held_back, failed: with the reason.
    """

    done: int = 0
    before: int = 0
    held_back: list[tuple[Target, str]] = field(default_factory=list)
    failed: list[tuple[Target, str]] = field(default_factory=list)
    stopped: bool = False


Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class _Deed:
    """What is done to each account, and how its beginning and ends are noted."""

    action: str
    begun: What
    done: What
    failed: What


_REVOKE = _Deed("revoke", What.BEGUN, What.DONE, What.FAILED)
_RESTORE = _Deed("restore", What.UNDO_BEGUN, What.UNDONE, What.UNDO_FAILED)
TO_UNDO = frozenset({What.BEGUN, What.DONE, What.FAILED, What.UNDO_BEGUN, What.UNDO_FAILED})
"""What is noted last of somebody whose access was ended, or may have been, and was not given back."""


def run_plan(
    plan: Plan,
    authority: Authority,
    hook: Hook,
    journal: Journal,
    limits: Limits,
    clock: Clock,
    progress: Progress | None = None,
) -> Tally:
    """Revoke access, as far as it may be now; what is noted as done is not done again."""
    run = _Run(plan, hook, journal, limits, clock, _REVOKE, authority.why_not)
    for number, target in enumerate(targets_of(plan), 1):
        state = journal.state(target)
        if state is What.DONE:
            run.tally.before += 1
        elif state in (What.UNDO_BEGUN, What.UNDO_FAILED):
            run.tally.held_back.append((target, "its access is being given back: finish `revocation undo` first"))
        elif why := run.why_not_at_its_turn(target):
            if state not in (What.BEGUN, What.FAILED):  # a hook that was called stays to be undone
                run.note(target, What.HELD_BACK, why)
            run.tally.held_back.append((target, why))
        elif not run.do(target):
            return run.tally
        if progress is not None:
            progress(number, len(plan.targets))
    return run.tally


def undo_plan(
    plan: Plan,
    hook: Hook,
    journal: Journal,
    limits: Limits,
    clock: Clock,
    progress: Progress | None = None,
    only: Collection[str] = (),
) -> Tally:
    """Give access back to everybody from whom the plan took it, or may have: the last first; or to these ids only.

    Whose access was ended by another decision too is held back: it is noted that this one no longer ends it, and the
    undoing of the last one gives it back.
    """
    run = _Run(plan, hook, journal, limits, clock, _RESTORE, lambda _: "")
    wanted = to_undo(plan, journal, only)
    run.tally.before = sum(
        line.what is What.UNDONE and line.plan == plan.id
        for target in targets_of(plan)
        if (line := journal.last.get(target)) is not None and (not only or target.id in only)
    )
    others = _by_subject(journal.last)
    for number, target in enumerate(wanted, 1):
        if why := _still_held(target, others, journal):
            run.note(target, What.RELEASED, why)
            run.tally.held_back.append((target, why))
        elif not run.do(target):
            return run.tally
        if progress is not None:
            progress(number, len(wanted))
    return run.tally


def to_undo(plan: Plan, journal: Journal, only: Collection[str] = ()) -> list[Target]:
    """Whose access the plan revoked, or may have, and nobody has restored; the last first.

    Args:
        only: ids of accounts and organisations that are meant; () for all.
    """
    found = [target for target in targets_of(plan) if is_to_undo(plan, journal.last.get(target))]
    return [target for target in found if not only or target.id in only][::-1]


def is_to_undo(plan: Plan, last: Line | None) -> bool:
    """Whether by the last that is known of an account this plan took its access, or may have."""
    return last is not None and last.what in TO_UNDO and last.plan == plan.id


def _by_subject(targets: Iterable[Target]) -> dict[tuple[str, str], list[Target]]:
    found: dict[tuple[str, str], list[Target]] = {}
    for target in targets:
        found.setdefault((target.kind, target.id), []).append(target)
    return found


def _still_held(target: Target, by_subject: dict[tuple[str, str], list[Target]], journal: Journal) -> str:
    """By which other decision access stays ended, in words; "" if by none."""
    for other in by_subject[target.kind, target.id]:
        line = journal.last[other]
        if other != target and line.what in TO_UNDO:
            return f"{other.decision} keeps its access ended too: it comes back when {line.plan} is undone too"
    return ""


def targets_of(plan: Plan) -> Iterator[Target]:
    """Whom the plan is about, in its order."""
    return (Target(one.decision, one.kind, one.id) for one in plan.targets)


class _Run:
    """One pass over a plan."""

    def __init__(
        self,
        plan: Plan,
        hook: Hook,
        journal: Journal,
        limits: Limits,
        clock: Clock,
        deed: _Deed,
        why_not: Callable[[Target], str],
    ) -> None:
        self._plan, self._hook, self._journal = plan, hook, journal
        self._limits, self._clock, self._deed, self._why_not = limits, clock, deed, why_not
        self._decisions = {one.id: one for one in plan.decisions}
        self._next_call = clock.steady()
        self.tally = Tally()

    def why_not_at_its_turn(self, target: Target) -> str:
        """Why it may not be done, asked when its turn has come: at a slow pace a minute may pass until then."""
        self._await_turn()
        return self._why_not(target)

    def do(self, target: Target) -> bool:
        """Do it to one account; False when too many have failed and the pass must end."""
        self.note(target, self._deed.begun, "")
        outcome = self._call(target)
        self.note(target, self._deed.done if outcome.done else self._deed.failed, outcome.note)
        if outcome.done:
            self.tally.done += 1
            return True
        self.tally.failed.append((target, outcome.note))
        self.tally.stopped = len(self.tally.failed) >= self._limits.max_failures
        return not self.tally.stopped

    def note(self, target: Target, what: What, why: str) -> None:
        """Note it, durably."""
        round_ = self._journal.round(target)
        at = format_timestamp(datetime.fromtimestamp(int(self._clock.now()), UTC))
        key = key_of(self._deed.action, target, round_)
        self._journal.note(Line(at, what, self._plan.id, target.decision, target.kind, target.id, key, round_, why))

    def _call(self, target: Target) -> Outcome:
        key = key_of(self._deed.action, target, self._journal.round(target))
        body = self._body(target, key)
        outcome = Outcome(False)
        for attempt in range(self._limits.attempts):
            if attempt:
                self._clock.wait(min(2.0**attempt, _LONGEST_WAIT))
                if why := self.why_not_at_its_turn(target):  # people may have changed their minds while we waited
                    return Outcome(False, f"{outcome.note}; not tried again: {why}")
            self._await_turn()
            self._next_call = self._clock.steady() + 1 / self._limits.per_second
            outcome = self._hook.call(body, key)
            if outcome.done or not outcome.again:
                break
        return outcome

    def _await_turn(self) -> None:
        now = self._clock.steady()
        if now < self._next_call:
            self._clock.wait(self._next_call - now)

    def _body(self, target: Target, key: str) -> bytes:
        decision = self._decisions.get(target.decision)
        document = {
            "format": HOOK_FORMAT,
            "action": self._deed.action,
            "idempotency_key": key,
            "subject": {"kind": target.kind, "id": target.id},
            "decision": target.decision,
            "pattern": decision.pattern if decision is not None else "",
            "expires": format_timestamp(decision.expires) if decision is not None else "",
            "plan": self._plan.id,
        }
        return json.dumps(document, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


def states(plan: Plan, lines: Iterable[Line]) -> dict[Target, Line | None]:
    """The last that is known of each account of a plan, in its order."""
    found: dict[Target, Line | None] = dict.fromkeys(targets_of(plan))
    for line in lines:
        if line.target in found:
            found[line.target] = line
    return found
