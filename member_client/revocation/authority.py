"""Whether access may be revoked by a decision, now: asked when a plan is made, and again before each account.

It takes all of: the decision blocks and is in effect now, whatever held when the plan was made; as many people as the
policy asks for have approved it for this very account, and at least one; the allow-list does not cover the account; no
appeal left it out. An
organisation is left alone as a whole if the allow-list covers one of its accounts, as far as matches told: who ends its
access cannot spare that one, as the gate does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Protocol

from member_client.decisions import allow_register
from member_client.decisions.allow_list import AllowList
from member_client.decisions.in_effect import remember_enforced, what_and_why
from member_client.decisions.lab_policy import LabPolicy, lab_policy
from member_client.decisions.model import Action, Decision, State, Subject, SubjectKind
from member_client.decisions.register import Register, Wanted
from member_client.errors import InvalidInput
from member_client.session import Session


@dataclass(frozen=True, slots=True)
class Target:
    """Whose access a decision ends: an account, or an organisation; of a cluster each of its accounts."""

    decision: str
    kind: str
    id: str


class Authority(Protocol):
    """Who says whether access may be revoked."""

    def why_not(self, target: Target) -> str:
        """Why it may not now, in words; "" if it may."""
        ...


@dataclass(frozen=True, slots=True)
class Moment:
    """The policy and where all patterns stand, at one time."""

    now: datetime
    policy: LabPolicy


class Decided:
    """The lab's own decisions, as of the moment of each question."""

    def __init__(self, session: Session) -> None:
        """Open the register of the session's home; `close` it."""
        self._session = session
        self._register = Register.of(session.home)

    def close(self) -> None:
        """Close the register."""
        self._register.close()

    def find(self, ids: Sequence[str]) -> list[Decision]:
        """The decisions that ids, or their beginnings, mean; each once.

        Raises:
            InvalidInput: one means none, or several.
        """
        now = self._session.now
        rules = lab_policy(self._session, now).rules
        numbers = dict.fromkeys(self._register.resolve(one) for one in ids)
        return [self._register.get(number, rules, now) for number in numbers]

    def all_approved(self) -> list[Decision]:
        """Every decision in force that blocks and that somebody approved, the oldest first."""
        now = self._session.now
        rules = lab_policy(self._session, now).rules
        wanted = Wanted(state=State.IN_FORCE.value, action=Action.BLOCK.value)
        found = [one for one in self._register.find(wanted, rules, now) if one.approved_by]
        return found[::-1]

    def remember_enforced(self) -> None:
        """Note which decisions customers feel: what goes wrong with them counts against their patterns."""
        now = self._session.now
        remember_enforced(self._register, lab_policy(self._session, now), now)

    def moment(self) -> Moment:
        """What holds now, to judge several decisions by."""
        now = self._session.now
        return Moment(now, lab_policy(self._session, now))

    def judge(self, decision_id: str, moment: Moment | None = None) -> Judged:
        """Everything that decides about a decision's accounts, as of now.

        Args:
            moment: what held a moment ago, by which a list is made; before anything is done it is asked anew.
        """
        moment = moment or self.moment()
        now, policy = moment.now, moment.policy
        number = self._register.resolve(decision_id)
        with self._register.reading():
            decision = self._register.get(number, policy.rules, now)
            spared = frozenset(self._register.spared(number))
            unapproved: frozenset[str] = frozenset()
            if decision.subject.kind is SubjectKind.CLUSTER:
                unapproved = frozenset(self._register.unapproved(number, max(1, decision.needs_approvals)))
            allowed = allow_register.load(self._register, now)
            inside = None
            if decision.subject.kind is SubjectKind.ORGANISATION:
                inside = allow_register.inside(self._register, allowed, decision.subject.id, now)
        held_by = why_decision_does_not(decision, *what_and_why(decision, policy, allowed, now))
        if not held_by and inside is not None:
            held_by = f"one of its accounts is on the allow-list: {inside}"
        return Judged(decision, held_by, spared, unapproved, allowed, now)

    def why_not(self, target: Target) -> str:
        """See `Authority`."""
        return self.judge(target.decision).why_not(target)

    def at_one_moment(self) -> Authority:
        """The same for a list of many: every decision is judged once, as of now."""
        return _AtOneMoment(self)


class _AtOneMoment:
    def __init__(self, decided: Decided) -> None:
        self._decided, self._moment = decided, decided.moment()
        self._judged: dict[str, Judged | str] = {}

    def why_not(self, target: Target) -> str:
        if target.decision not in self._judged:
            try:
                self._judged[target.decision] = self._decided.judge(target.decision, self._moment)
            except InvalidInput as error:  # the register is an older one than the journal
                self._judged[target.decision] = str(error)
        judged = self._judged[target.decision]
        return judged if isinstance(judged, str) else judged.why_not(target)


@dataclass(frozen=True)
class Judged:
    """A decision at one moment.

    Attributes:
        held_by: why nobody's access may be revoked by it, "" if it may.
        unapproved: of a cluster, accounts that joined after those approvals that it takes.
    """

    decision: Decision
    held_by: str
    spared: frozenset[str]
    unapproved: frozenset[str]
    allowed: AllowList
    now: datetime

    def targets(self) -> list[Target]:
        """Whom it is about, whether or not their access may be revoked."""
        kind = SubjectKind.ACCOUNT.value if self._is_cluster else self.decision.subject.kind.value
        ids = sorted(self.decision.accounts) if self._is_cluster else [self.decision.subject.id]
        return [Target(self.decision.id, kind, one) for one in ids]

    def why_not(self, target: Target) -> str:
        """Why the access of one of its targets may not be revoked, "" if it may."""
        if self.held_by:
            return self.held_by
        if not self._is_about(target):
            return "the decision is not about it"
        if target.id in self.spared:
            return "an appeal left it out of the decision"
        if target.id in self.unapproved:
            return "it joined the cluster after people approved the decision, and waits for their approval"
        entry = self.allowed.covers_subject(Subject(SubjectKind(target.kind), target.id), self.now)
        return f"on the allow-list: {entry}" if entry is not None else ""

    @cached_property
    def _accounts(self) -> frozenset[str]:
        return frozenset(self.decision.accounts)

    @property
    def _is_cluster(self) -> bool:
        return self.decision.subject.kind is SubjectKind.CLUSTER

    def _is_about(self, target: Target) -> bool:
        if target.decision != self.decision.id:
            return False
        if self._is_cluster:
            return target.kind == SubjectKind.ACCOUNT and target.id in self._accounts
        return (target.kind, target.id) == (self.decision.subject.kind, self.decision.subject.id)


def why_decision_does_not(decision: Decision, action: Action, held_by: Sequence[str]) -> str:
    """Why a decision ends nobody's access now, "" if it may.

    Args:
        action: what is in effect of it.
        held_by: what holds it below what was decided.
    """
    reasons = (
        (f"the decision is {decision.state}", not decision.state.is_open),
        (f"the decision is to {decision.action}, not to block", decision.action is not Action.BLOCK),
        ("nobody has approved the decision", not decision.approved_by),
        (
            f"only {len(decision.approved_by)} of {decision.needs_approvals} have approved the decision",
            len(decision.approved_by) < decision.needs_approvals,
        ),
        (f"what is in effect is to {action}: {'; '.join(held_by)}", action is not Action.BLOCK),
        (f"the decision is about {', '.join(decision.models)} only, not about all access", bool(decision.models)),
    )
    return next((words for words, holds in reasons if holds), "")
