"""Whatever happens to decisions, patterns, allow-list and program, in whatever order: who must never feel what."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from member_client.decisions import allow_register
from member_client.decisions.allow_list import AllowKind
from member_client.decisions.appeals import open_appeal, rule_on
from member_client.decisions.deciding import note_expiries
from member_client.decisions.effect import in_roll_out
from member_client.decisions.in_effect import effects, remember_enforced
from member_client.decisions.model import Action, Decision, State, SubjectKind
from member_client.decisions.register import Register, Wanted
from member_client.errors import InvalidInput
from member_client.lifecycle.standing import Stage, Standing
from tests.member_client.decision_worlds import BLOCKING, START, gathered, lab, make, seen, standing

ACCOUNTS = ("a", "b", "c")
PATTERNS = (seen("p", 1), seen("p", 2), seen("q", 1))
CLUSTERS = {"template:t": ("a", "b"), "template:u": ("b", "c")}


class Histories(RuleBasedStateMachine):
    """One lab's register, with a model of what must hold beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.register = Register(self.folder / "decisions.sqlite")
        self.now = START
        self.lab_rules = BLOCKING
        self.standings: dict[str, Standing] = {}
        self.allowed: dict[str, int] = {}
        self.spared: set[tuple[str, str]] = set()
        self.approvals: dict[tuple[str, str], set[str]] = {}
        self.lifted: set[str] = set()
        self.outcomes = {one.entry: (0, 0) for one in PATTERNS}

    def teardown(self) -> None:
        self.register.close()
        shutil.rmtree(self.folder)

    @rule(pattern=st.sampled_from(PATTERNS), account=st.sampled_from(ACCOUNTS), name=st.sampled_from("123"))
    def decide(self, pattern: object, account: str, name: str) -> None:
        listed = allow_register.load(self.register, self.now)
        found = gathered(pattern, account, {f"{name} {self.now}": self.now})  # type: ignore[arg-type]
        make(self.register, found, rules=self.lab_rules, allowed=listed, now=self.now)

    @rule(pattern=st.sampled_from(PATTERNS), cluster=st.sampled_from(sorted(CLUSTERS)), some=st.sampled_from([1, 2]))
    def decide_on_cluster(self, pattern: object, cluster: str, some: int) -> None:
        at = {f"{some} {self.now}": self.now}
        found = gathered(pattern, cluster, at, cluster=CLUSTERS[cluster][:some])  # type: ignore[arg-type]
        make(self.register, found, rules=self.lab_rules, now=self.now)

    @rule(pattern=st.sampled_from(PATTERNS), stage=st.sampled_from(Stage), share=st.sampled_from([1, 50, 100]))
    def move(self, pattern: object, stage: Stage, share: int) -> None:
        where = standing(pattern, stage, share)  # type: ignore[arg-type]
        self.standings[where.entry] = where

    @rule(pattern=st.sampled_from(PATTERNS))
    def withdraw(self, pattern: object) -> None:
        self.standings.pop(pattern.entry, None)  # type: ignore[attr-defined]

    @rule(account=st.sampled_from(ACCOUNTS), days=st.integers(1, 20))
    def allow(self, account: str, days: int) -> None:
        day = f"{self.now + timedelta(days=days):%Y-%m-%d}"
        wish = allow_register.checked(AllowKind.ACCOUNT, account, "Sales", "Batch", day, self.now)
        allow_register.add(self.register, [wish], "somebody", self.now)
        self.allowed[account] = int(wish.expires.timestamp())

    @rule(account=st.sampled_from(ACCOUNTS))
    def disallow(self, account: str) -> None:
        for entry in list(allow_register.entries(self.register)):
            if entry.id == account:
                allow_register.remove(self.register, entry.number, "somebody", "", self.now)
        self.allowed.pop(account, None)

    @rule(stopped=st.booleans(), needed=st.integers(0, 2))
    def change_policy(self, stopped: bool, needed: int) -> None:
        self.lab_rules = replace(self.lab_rules, stopped=stopped, approvals={Action.BLOCK: needed})

    @precondition(lambda self: self.all())
    @rule(choice=st.randoms(use_true_random=False), name=st.sampled_from(["Ada", "ADA ", "Ben"]))
    def approve(self, choice: object, name: str) -> None:
        one = choice.choice(self.all())  # type: ignore[attr-defined]
        try:
            with self.register.transaction():
                self.register.approve(self.register.resolve(one.id), name, "", self.lab_rules, self.now)
        except InvalidInput:
            assert not one.state.is_open
            return
        for subject in one.accounts or (one.subject.id,):
            self.approvals.setdefault((one.id, subject), set()).add(name.strip().lower())

    @precondition(lambda self: self.all())
    @rule(choice=st.randoms(use_true_random=False))
    def lift(self, choice: object) -> None:
        one = choice.choice(self.all())  # type: ignore[attr-defined]
        with self.register.transaction():
            self.register.lift(self.register.resolve(one.id), "somebody", "x", self.lab_rules, self.now)
        self.lifted.add(one.id)

    @rule(account=st.sampled_from(ACCOUNTS), upheld=st.booleans())
    def appeal(self, account: str, upheld: bool) -> None:
        try:
            made = open_appeal(self.register, "", account, "a note", "Ada", self.lab_rules, self.now)
        except InvalidInput:
            return
        ruling = rule_on(self.register, made.number, "Ada", "x", self.lab_rules, self.now, upheld=upheld)
        self.lifted.update(ruling.lifted)
        self.spared.update((decision, account) for decision in ruling.spared)

    @rule(hours=st.sampled_from([1, 48, 24 * 15]))
    def wait(self, hours: int) -> None:
        self.now += timedelta(hours=hours)
        note_expiries(self.register, self.now)

    @rule()
    def restart(self) -> None:
        self.register.close()
        self.register = Register(self.folder / "decisions.sqlite")

    def all(self) -> list[Decision]:
        return list(self.register.find(Wanted(), self.lab_rules, self.now))

    @invariant()
    def only_what_all_allow_is_in_effect(self) -> None:
        policy = lab(*self.standings.values(), rules=self.lab_rules)
        decisions = {one.id: one for one in self.all()}
        listed = allow_register.load(self.register, self.now)
        found = list(effects(self.register, policy, listed, self.now))
        for one in found:
            decision = decisions[one.decision_id]
            assert not self.lab_rules.stopped
            assert self.allowed.get(one.id, 0) <= self.now.timestamp()
            assert one.expires > self.now
            assert decision.state is State.IN_FORCE
            assert decision.id not in self.lifted
            assert (decision.id, one.id) not in self.spared
            where = self.standings[decision.pattern_entry]
            if one.action.enforces:
                assert where.stage is Stage.ENFORCE
                assert in_roll_out(where, decision.subject.id)
                assert len(self.approvals.get((decision.id, one.id), ())) >= self.lab_rules.needed(decision.action)
            else:
                assert where.stage in (Stage.FLAG, Stage.ENFORCE)
        assert len({(one.id, one.action, one.expires) for one in found}) == len(found)

    @invariant()
    def outcomes_never_fall_and_one_open_decision_speaks_for_each(self) -> None:
        remember_enforced(self.register, lab(*self.standings.values(), rules=self.lab_rules), self.now)
        for entry, before in self.outcomes.items():
            after = self.register.outcomes(entry)
            assert after[0] >= before[0]
            assert before[1] <= after[1] <= after[0]
            self.outcomes[entry] = after
        open_ones = [(one.subject, one.pattern_id) for one in self.all() if one.state.is_open]
        assert len(set(open_ones)) == len(open_ones)
        for one in self.all():
            assert (one.subject.kind is SubjectKind.CLUSTER) == bool(one.accounts)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=10, stateful_step_count=20, deadline=None)
