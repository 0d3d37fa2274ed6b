"""One lab of the simulation: a real home on the real hub, its analysts, and its gate. All by one clock that is moved.

The lab does what `stillwatch sync`, `pattern backtest`, `detect`, `decide`, `decisions review`, `decisions approve`,
`endorse` and `opinion` do, by the functions behind them: the commands take the machine's clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from member_client.backtest.backtesting import backtest
from member_client.cli.sync import run as sync
from member_client.decisions import allow_register, opinions, snapshot
from member_client.decisions.allow_list import AllowKind
from member_client.decisions.appeals import measured, open_appeal, rule_on
from member_client.decisions.deciding import decide, note_expiries
from member_client.decisions.in_effect import remember_enforced, what_and_why
from member_client.decisions.lab_policy import LabPolicy, climb, lab_policy
from member_client.decisions.matches import Counted, gather
from member_client.decisions.model import Action, Decision
from member_client.decisions.register import Register, Wanted
from member_client.detection import runs
from member_client.detection.detecting import Options, Place, Result, detect
from member_client.detection.findings import Summary
from member_client.detection.in_force import RunnablePattern, select
from member_client.detection.log_settings import Source
from member_client.detection.request_logs import BrokenRow
from member_client.feedback import feedback_by_entry, publish_endorsement, publish_opinion, voice_body
from member_client.gate import Gate, table
from member_client.gate.__main__ import ends_of_patterns
from member_client.home import Home
from member_client.lifecycle.backtests import keep_backtest, kept_of
from member_client.lifecycle.policy_file import template
from member_client.lifecycle.standing import Stage, Standing
from member_client.session import Session
from sharing_protocol.feedback import Feedback
from tests.forum import Lab
from tests.simulation.traffic import LabTraffic

REVIEWED_A_DAY = 20
"""Decisions by a pattern that a lab's analysts look into in a day."""
ENOUGH = 20
"""Reviewed decisions after which a lab says what it found; fewer if there are no more."""


@dataclass
class Clock:
    """The time of the hub and of all labs."""

    moment: datetime

    def __call__(self) -> datetime:
        return self.moment

    def seconds(self) -> float:
        """POSIX seconds."""
        return self.moment.timestamp()


@dataclass(frozen=True)
class Felt:
    """What the gate did to a day's requests.

    Attributes:
        blocked, flagged: numbers of accounts; throttled ones count as blocked.
    """

    blocked: set[int]
    flagged: set[int]


@dataclass(frozen=True)
class Effect:
    """What a pattern does at a lab now.

    Attributes:
        actions: decisions by their effective action.
        flagged, blocked: numbers of the accounts with an effective action of flag or more, of throttle or more.
    """

    standing: Standing | None
    actions: Counter[Action]
    flagged: set[int]
    blocked: set[int]


class _Made:
    """The table was made already: nothing is to be built."""

    def build(self, path: Path) -> str:
        assert path.exists()
        return ""

    def stop(self) -> None:
        pass


@dataclass
class SimulatedLab:
    """A lab at work.

    Attributes:
        careful: whether developers and batch customers are among the accounts that the lab vouches for, and the
            established batch customers on its allow-list.
    """

    member: Lab
    home: Home
    clock: Clock
    traffic: LabTraffic
    careful: bool
    session: Session = field(init=False)
    ruled: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.session = Session(self.home, self.clock.seconds)
        self.write_policy(template())
        if self.careful:
            until = f"{self.clock.moment + timedelta(days=300):%Y-%m-%d}"
            self._allow(until)

    def write_policy(self, text: str) -> None:
        """Change the lab's policy.toml."""
        self.home.lifecycle_policy.write_text(text)

    # -- what runs by itself ----------------------------------------------------------------------------------------

    def sync(self) -> None:
        """Follow the log; patterns climb and fall."""
        ran = sync(self.session)
        assert not ran.report.rejected
        assert ran.moved is not None
        assert not ran.moved.problem

    def backtest_all(self, days: int) -> None:
        """Run each pattern over the days before, with the accounts that the lab vouches for."""
        sources = [self._source(day) for day in range(days)]
        legitimate = self.traffic.vouched_for(days, with_machines=self.careful)
        folder = runs.folder(self.home)
        for tested in select(self.session).runnable:
            found = backtest(tested, [], sources, Options(), folder, _whole, legitimate)
            keep_backtest(self.session, kept_of(tested.entry, self.session.now, found))

    def detect_and_decide(self, day: int) -> None:
        """Run the patterns in force over a day's log, and decide."""
        runnable = select(self.session).runnable
        if runnable:
            self._decide(self._detect(day, runnable))

    def build_table(self) -> None:
        """Make the gate's table anew, of what is in effect now."""
        path = self.home.path / "gate" / "table"
        path.parent.mkdir(mode=0o700, exist_ok=True)
        table.write(path, snapshot(self.session, self.session.now), ends_of_patterns(self.session))

    def ask_gate(self, day: int) -> Felt:
        """Ask the gate about everybody who sends requests on a day."""
        felt = Felt(set(), set())
        if not (self.home.path / "gate" / "table").exists():
            return felt
        with Gate(self.home, builder=_Made(), wall=self.clock.seconds) as gate:
            for asker in self.traffic.askers(day):
                verdict = gate.check(account=asker.account, organisation=asker.organisation)
                if not verdict.allowed:
                    felt.blocked.add(asker.number)
                elif verdict.action == Action.FLAG:
                    felt.flagged.add(asker.number)
        return felt

    # -- what people do ---------------------------------------------------------------------------------------------

    def review(self, entry: str) -> None:
        """Look into some of the decisions that flag or do more, and see the truth."""
        with self._register() as register:
            rules = self.policy().rules
            waiting = [
                one
                for one in self._decisions(register, entry)
                if not register.verdict(register.resolve(one.id)) and one.id not in self.ruled
            ]
            with register.transaction():
                for one in sorted(waiting, key=lambda one: one.id)[:REVIEWED_A_DAY]:
                    guilty = self.traffic.campaign[self.traffic.numbers[one.subject.id]]
                    number, verdict = register.resolve(one.id), "right" if guilty else "wrong"
                    register.review(number, verdict, "An analyst", "looked into", self.session.now)
                    if not guilty and one.state.is_open:
                        register.lift(number, "An analyst", "it is a customer", rules, self.session.now)
                    self.ruled.add(one.id)

    def approve_everything(self) -> None:
        """Approve whatever waits for a person, unseen: the worst that an approver can do."""
        rules, now = self.policy().rules, self.session.now
        with self._register() as register:
            waiting = [
                one
                for one in register.find(Wanted(), rules, now)
                if one.state.is_open and len(one.approved_by) < one.needs_approvals
            ]
            with register.transaction():
                for one in waiting:
                    register.approve(register.resolve(one.id), "The night shift", "", rules, now)

    def hear_appeals(self, accounts: set[int]) -> None:
        """Rule on the appeals of customers who were blocked, and tell the other labs of it."""
        entries: dict[str, tuple[str, int]] = {}
        with self._register() as register:
            rules, now = self.policy().rules, self.session.now
            for account in sorted(accounts):
                name = str(self.traffic.world.truth.names[account])
                made = open_appeal(register, "", name, "by e-mail", "Support", rules, now)
                entries |= rule_on(register, made.number, "Support", "a customer", rules, now, upheld=True).entries
            for said in opinions.prepare(self.session, register, entries, "It blocked a customer.", {}):
                if not said.why_not:
                    opinions.publish(self.session, said)

    def speak(self, entry: str) -> str:
        """Say of another lab's pattern what the reviewed decisions show; gives what was said, "" for nothing."""
        stored = next(one for one in self.session.store.versions(type="pattern") if one.entry == entry)
        with self._register() as register:
            found = measured(register, entry)
            waits = found is not None and found["reviewed"] < ENOUGH
            more = waits and any(one.id not in self.ruled for one in self._decisions(register, entry))
            if found is None or more or stored.author == self.member.id:
                return ""
            if found["true_positives"] >= 0.9 * found["reviewed"]:
                said = {"verdict": "confirm", "measured": found, "comment": None}
                publish_opinion(self.session, stored, voice_body(self.session, stored, said, {}))
                standing_for = {"measured": None, "comment": "Reviewed on this lab's own traffic."}
                publish_endorsement(self.session, stored, voice_body(self.session, stored, standing_for, {}))
                return "endorses"
            if found["true_positives"] <= 0.5 * found["reviewed"]:
                reference = {entry: (stored.id, stored.version)}
                (ready,) = opinions.prepare(self.session, register, reference, "It matches our batch customers.", {})
                opinions.publish(self.session, ready)
                return "disputes"
        return ""

    # -- how it stands ----------------------------------------------------------------------------------------------

    def policy(self) -> LabPolicy:
        """Policy and standings now."""
        return lab_policy(self.session, self.session.now)

    def feedback(self, entry: str) -> Feedback:
        """What counts of what labs said of a pattern version."""
        return feedback_by_entry(self.session, self.session.now).get(entry, Feedback(entry))

    def effect(self, entry: str, policy: LabPolicy) -> Effect:
        """What a pattern does now."""
        actions: Counter[Action] = Counter()
        flagged, blocked = set(), set()
        with self._register() as register:
            allowed = allow_register.load(register, self.session.now)
            for one in self._decisions(register, entry, policy):
                action, _ = what_and_why(one, policy, allowed, self.session.now)
                actions[action] += 1
                number = self.traffic.numbers[one.subject.id]
                if action >= Action.FLAG:
                    flagged.add(number)
                if action.enforces:
                    blocked.add(number)
        return Effect(policy.standings.get(entry), actions, flagged, blocked)

    def stage(self, entry: str) -> Stage | None:
        """Where a pattern stands now; None if it is not known here."""
        found = self.policy().standings.get(entry)
        return found.stage if found else None

    def _allow(self, until: str) -> None:
        with self._register() as register:
            wishes = [
                allow_register.checked(AllowKind.ACCOUNT, one, "Sales", "Batch customer", until, self.session.now)
                for one in self.traffic.allowed
            ]
            allow_register.add(register, wishes, "Sales", self.session.now)

    def _detect(self, day: int, runnable: tuple[RunnablePattern, ...]) -> str:
        run = runs.new_name(self.clock.seconds())
        folder = runs.folder(self.home)
        target = folder / f"{run}.jsonl"
        source = self._source(day)

        def summarise(result: Result) -> dict[str, object]:
            return Summary(
                run, list(source.files), result.rows, 0, 0.0, str(target), result.tallies, [], {}, {}
            ).document()

        place = Place(folder, target, run, lambda summary: runs.keep_document(self.home, summary))
        detect([source], runnable, Options(), place, _whole, summarise)
        return run

    def _decide(self, run: str) -> None:
        now = self.session.now
        with self._register() as register:
            note_expiries(register, now)
            climb(self.session, now)
            policy = self.policy()
            target = runs.folder(self.home) / f"{run}.jsonl"
            found = gather(target, policy.rules.organisations, Counted(), runs.folder(self.home) / "spilled")
            allowed = allow_register.load(register, now)
            decide(register, found, policy.rules, allowed, now, "cron", run)
            register.note_decided(run, now)
            remember_enforced(register, policy, now)

    def _decisions(self, register: Register, entry: str, policy: LabPolicy | None = None) -> list[Decision]:
        rules = (policy or self.policy()).rules
        return [one for one in register.find(Wanted(), rules, self.session.now) if one.pattern_entry == entry]

    @contextmanager
    def _register(self) -> Iterator[Register]:
        register = Register.of(self.home)
        try:
            yield register
        finally:
            register.close()

    def _source(self, day: int) -> Source:
        return Source((str(self.traffic.log_of(day)),), "parquet")


def _whole(row: BrokenRow) -> None:
    raise AssertionError(f"the simulated logs have no broken row: {row}")
