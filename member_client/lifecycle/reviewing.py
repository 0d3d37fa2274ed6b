"""Where all patterns of this lab stand: by the store, the forum's feedback and the lab's own outcomes, put together.

`review` and `standings` read only, and judge by the facts as they are at that moment. `advance` also remembers, and is
the only way up. It gathers the facts inside its transaction, so what it remembers is never older than what another run
knew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from member_client.detection import runs
from member_client.errors import InvalidInput
from member_client.lifecycle.climbing import EXPIRED, advanced, counted, is_over, resumed, stand
from member_client.lifecycle.facts import NEW, Circumstances, Facts, Memory
from member_client.lifecycle.policy import Policy
from member_client.lifecycle.standing import Change, Stage, Standing
from member_client.lifecycle.store import LifecycleStore
from member_client.session import Session
from member_client.sync.store import state_of, why_suspect
from sharing_protocol.feedback import Feedback
from sharing_protocol.membership import Status

FeedbackOf = Callable[[Session, datetime], Mapping[str, Feedback]]
"""What other labs say, by entry hash of a pattern version."""
Outcomes = Callable[[str], tuple[int, int]]
"""Of a pattern version, by entry hash: this lab's decisions by it that had an effect, and of these such as turned out
wrong (upheld appeals, reviewed decisions). Both count from the beginning, and never fall."""


Known = tuple[Facts, Memory]
"""A pattern version: what is so of it, and what is remembered."""


@dataclass(frozen=True, slots=True)
class Reviewed:
    """A pattern version with its standing, and all that it is based on."""

    facts: Facts
    memory: Memory
    standing: Standing


def feedback_of_forum(session: Session, now: datetime) -> Mapping[str, Feedback]:
    """What the forum's labs say of patterns, as this home's own log has it."""
    from member_client.feedback import feedback_by_entry  # it loads all statements' models, which most commands do not

    return feedback_by_entry(session, now)


def outcomes_here(session: Session) -> Outcomes:
    """What came of this lab's decisions."""
    from member_client.decisions.register import outcomes_of  # decisions are made by standings: they load this module

    return outcomes_of(session)


def standings(
    session: Session,
    policy: Policy,
    now: datetime,
    *,
    feedback: FeedbackOf = feedback_of_forum,
    outcomes: Outcomes | None = None,
) -> dict[str, Standing]:
    """The standing of the newest version of every pattern, by entry hash. Reads only.

    Raises:
        InvalidInput: the home or its lifecycle.sqlite is not usable.
    """
    return {
        one.standing.entry: one.standing for one in review(session, policy, now, feedback=feedback, outcomes=outcomes)
    }


def review(
    session: Session,
    policy: Policy,
    now: datetime,
    *,
    feedback: FeedbackOf = feedback_of_forum,
    outcomes: Outcomes | None = None,
) -> list[Reviewed]:
    """The same in log order, with the facts and what is remembered."""
    with opened(session) as store:
        known = _gather(session, store, policy, now, feedback, outcomes)
        around = circumstances(store, policy, known)
    return [Reviewed(facts, memory, stand(facts, policy, memory, now, around)) for facts, memory in known]


def advance(
    session: Session,
    policy: Policy,
    now: datetime,
    *,
    feedback: FeedbackOf = feedback_of_forum,
    outcomes: Outcomes | None = None,
) -> list[Change]:
    """Remember where every pattern stands now: those that may climb have climbed, those that may not have fallen.

    Returns:
        The patterns whose stage or roll-out changed, in log order.

    Raises:
        InvalidInput: the home or its lifecycle.sqlite is not usable.
    """
    with opened(session) as store, store.transaction():
        known = _gather(session, store, policy, now, feedback, outcomes)
        return advance_in(store, known, policy, now)


def advance_in(store: LifecycleStore, known: Sequence[Known], policy: Policy, now: datetime) -> list[Change]:
    """The same of patterns whose facts are at hand, inside the store's transaction."""
    around = circumstances(store, policy, known)
    moved = [(facts, before, advanced(facts, policy, before, now, around)) for facts, before in known]
    if not around.halted and is_over(policy.settings.false_positives.total_budget, around.enforced, around.wrong):
        store.halt(f"{now:%Y-%m-%d %H:%M} UTC: {around.wrong:,} of {around.enforced:,} decisions were wrong")
        moved = [(facts, before, counted(facts, after)) for facts, before, after in moved]
    store.remember((facts.entry, after) for facts, before, after in moved if after != before)
    changes = [
        _change(facts, before, after, stand(facts, policy, before, now, around))
        for facts, before, after in moved
        if (before.stage, before.share) != (after.stage, after.share)
    ]
    store.note_changes(changes, now)
    return changes


def resume(
    session: Session,
    policy: Policy,
    now: datetime,
    pattern_id: str = "",
    *,
    feedback: FeedbackOf = feedback_of_forum,
    outcomes: Outcomes | None = None,
) -> list[Facts]:
    """Let a halted or retired pattern climb again, or all that are halted: a person's decision.

    What they were wrong about until now no longer counts against the budgets.

    Args:
        pattern_id: "" for all enforcement, and all halted patterns.

    Returns:
        The patterns that may climb again.

    Raises:
        InvalidInput: it is neither halted nor retired, or what retired it is still so.
    """
    with opened(session) as store, store.transaction():
        known = _gather(session, store, policy, now, feedback, outcomes)
        return resume_in(store, known, policy, now, pattern_id)


def resume_in(
    store: LifecycleStore, known: Sequence[Known], policy: Policy, now: datetime, pattern_id: str = ""
) -> list[Facts]:
    """The same of patterns whose facts are at hand, inside the store's transaction."""
    budget = policy.settings.false_positives.budget
    held = [one for one in known if one[1].halted or is_over(budget, *one[1].outcomes(one[0]))]
    if pattern_id:
        retired = [one for one in known if one[1].stage is Stage.RETIRED or one[0].state == EXPIRED]
        held = [one for one in [*held, *retired] if one[0].id == pattern_id][:1]
        if not held:
            raise InvalidInput(f"{pattern_id} is neither halted nor retired", "see `stillwatch policy explain`")
    else:
        store.halt("")
        store.remember((facts.entry, counted(facts, memory)) for facts, memory in known)
    around = circumstances(store, policy, known)
    again = [(facts, resumed(facts, memory, now)) for facts, memory in held]
    for facts, memory in again:
        for reason in stand(facts, policy, memory, now, around).reasons:
            if pattern_id and not reason.holds and reason.needed_for is Stage.RECEIVED:
                raise InvalidInput(f"what retired it is still so: {reason.text}", "change that first")
    store.remember((facts.entry, memory) for facts, memory in again)
    return [facts for facts, _ in again]


@contextmanager
def opened(session: Session) -> Iterator[LifecycleStore]:
    """The home's lifecycle.sqlite."""
    session.settings  # noqa: B018 - a folder that is no home must not get one
    store = LifecycleStore(session.home.lifecycle)
    try:
        yield store
    finally:
        store.close()


def _change(facts: Facts, before: Memory, after: Memory, standing: Standing) -> Change:
    fell = after.stage < before.stage
    why = tuple(one for one in standing.reasons if fell and not one.holds and one.needed_for <= before.stage)
    return Change(
        facts.id, facts.version, facts.entry, facts.title, before.stage, after.stage, before.share, after.share, why
    )


def _gather(
    session: Session,
    store: LifecycleStore,
    policy: Policy,
    now: datetime,
    feedback: FeedbackOf,
    outcomes: Outcomes | None,
) -> list[Known]:
    memories, backtests, said = store.memories(), store.backtests(), feedback(session, now)
    came_of = outcomes or outcomes_here(session)
    seen = _requests_seen(session, memories) if policy.settings.shadow.requests else {}
    membership = session.membership
    labs = {one.id: one.name for one in membership.members.values() if one.status is Status.ACTIVE}
    known: list[Known] = []
    for version in session.store.versions(type="pattern", newest_only=True):
        entry = version.entry
        author = membership.members.get(version.author)
        enforced, wrong = came_of(entry)
        facts = Facts(
            id=version.id,
            version=version.version,
            entry=entry,
            title=version.title,
            author=version.author,
            author_name=membership.name_of(version.author),
            author_status=author.status.value if author is not None else "unknown",
            marking=version.marking,
            severity=version.severity,
            state=state_of(version, membership, now),
            state_why=why_suspect(version, membership) or version.trial or "",
            tried=version.trial is not None,
            here=session.settings.member,
            labs=labs,
            feedback=said.get(entry) or Feedback(entry),
            backtest=backtests.get(entry),
            requests_seen=seen.get(entry, 0),
            enforced=enforced,
            wrong=wrong,
        )
        known.append((facts, memories.get(entry, NEW)))
    return known


def circumstances(store: LifecycleStore, policy: Policy, known: Sequence[Known]) -> Circumstances:
    """What holds for all these patterns at once."""
    outcomes = [memory.outcomes(facts) for facts, memory in known]
    # A pattern over its own budget is halted for that; it must not take those down that did nothing wrong.
    within = [pair for pair in outcomes if not is_over(policy.settings.false_positives.budget, *pair)]
    return Circumstances(
        store.stopped, store.halted, sum(enforced for enforced, _ in within), sum(wrong for _, wrong in within)
    )


def _requests_seen(session: Session, memories: Mapping[str, Memory]) -> dict[str, int]:
    """Requests that runs of `detect` looked at with each pattern since it entered its stage, by entry hash."""
    since = {entry: memory.since for entry, memory in memories.items() if memory.since and memory.stage is Stage.SHADOW}
    seen = dict.fromkeys(since, 0)
    if since:
        for started, summary in runs.begun_since(session.home, min(since.values())):
            for tally in summary.tallies:
                if tally.entry in since and started >= since[tally.entry]:
                    seen[tally.entry] += summary.rows
    return seen
