"""From the log to the gate's answer: whatever other labs say, in whatever order, who must never be blocked by it.

Everything is real but the hub, which serves a log from memory: the home's store, stages, decisions and allow-list, the
snapshot, and the table that a gate looks accounts up in.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from member_client.cli.sync import run as sync
from member_client.decisions import allow_register, snapshot
from member_client.decisions.allow_list import AllowKind
from member_client.decisions.deciding import decide
from member_client.decisions.lab_policy import climb, lab_policy
from member_client.decisions.matches import SeenPattern
from member_client.decisions.register import Register
from member_client.gate import table
from member_client.gate.__main__ import ends_of_patterns
from member_client.gate.verdict import BLOCK, Verdict, judge
from member_client.home import Home
from member_client.session import Session
from sharing_protocol.statements import voice_id
from sharing_protocol.statements.handling import Severity
from sharing_protocol.statements.header import format_timestamp
from tests.forum import pattern_body
from tests.member_client.command import settle
from tests.member_client.decision_worlds import gathered
from tests.member_client.follower import Lab, entries_of
from tests.member_client.lab_homes import keep_key
from tests.member_client.lying_hub import LyingHub
from tests.protocol.forum_log import (
    BOREAL,
    CIRRUS,
    FORUM,
    add_key_body,
    admit_body,
    forum_of_two_labs,
    handling,
    identifier,
    lab_keys,
    reason,
    record_reference,
    revoke_body,
)
from tests.protocol.response_bodies import opinion_body

START = datetime(2026, 3, 2, tzinfo=UTC)
DRIFT = identifier("member", 0xD)
NAMES = {BOREAL: "Boreal", CIRRUS: "Cirrus", DRIFT: "Drift"}
PATTERNS = (identifier("pattern", 0x1000), identifier("pattern", 0x2000))
KEYS = dict(zip(PATTERNS, ("Boreal analyst", "Boreal second analyst"), strict=True))
"""The key that signs each pattern's first version; it may turn out that others had it."""
LATER_KEY = "Boreal third analyst"
ACCOUNTS = ("a", "b", "c")
POLICY = """highest_stage = "enforce"
backtest.required = false
shadow.hours = 0
flag.hours = 0
enforce.endorsements = 0
enforce.precision = 0.0
rollout.steps = [100]
decisions.approvals.block = 0
gate.stale_after = 2592000
"""
"""All that makes patterns wait is off, so that whatever is left to hold them back must do so by itself."""


@dataclass(frozen=True)
class Said:
    """What the log says of a pattern's newest version."""

    entry: str
    valid_until: datetime
    withdrawn: bool = False
    suspect: bool = False
    signed_with: str = ""
    disputed_by: frozenset[str] = frozenset()


@dataclass
class Chain:
    """A log, and a lab that follows it. `said` is what stands in the log, `known` what the lab has synced of it."""

    folder: Path
    now: datetime = START
    said: dict[str, Said] = field(default_factory=dict)
    known: dict[str, Said] = field(default_factory=dict)
    suspended: frozenset[str] = frozenset()
    known_suspended: frozenset[str] = frozenset()
    retired: set[str] = field(default_factory=set)
    allowed: dict[str, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.log = forum_of_two_labs()
        more = [(KEYS[PATTERNS[1]], "analyst"), (LATER_KEY, "analyst")]
        for name, role in more:
            self.log.say("membership.add_key", BOREAL, BOREAL, add_key_body(name, role, BOREAL), ["Boreal owner"])
        for lab in (CIRRUS, DRIFT):
            self.log.say(
                "membership.admit", lab, FORUM, admit_body(lab, NAMES[lab], lab_keys(NAMES[lab])), ["Ada", "Ben"]
            )
        self.hub = LyingHub([])
        self.hub.clock = self.seconds
        self.hub.__enter__()
        for pattern in PATTERNS:
            self.publish(pattern, KEYS[pattern], days=90)
        self.home = Home(settle(Lab(self.folder / "lab", self.hub, self.log.fingerprint)))
        self.home.keys.mkdir(mode=0o700)
        keep_key(self.home.path, "sync", "Aurora sync")
        self.home.lifecycle_policy.write_text(POLICY)
        self.restart()
        self.sync()

    def close(self) -> None:
        self.hub.__exit__(None, None, None)

    def seconds(self) -> float:
        return self.now.timestamp()

    # -- the log ----------------------------------------------------------------------------------------------------

    def publish(self, pattern: str, signer: str, days: int) -> None:
        """A pattern's next version, valid for so many days."""
        until = self.now + timedelta(days=days)
        title = f"Version {len(self.log.entries)}"
        body = pattern_body(title, valid_from=format_timestamp(START), valid_until=format_timestamp(until))
        self.log.say("pattern", pattern, BOREAL, body, [signer])
        head = self.log.head(pattern)
        assert head is not None
        self.said[pattern] = Said(head.entry, until, signed_with=signer)

    def voice(self, pattern: str, lab: str, verdict: str) -> None:
        """A lab's opinion of the newest version, or another one than before."""
        head = self.log.head(pattern)
        assert head is not None
        body = opinion_body(handling(), record_reference(head), verdict=verdict)
        self.log.say("opinion", voice_id("opinion", lab, head.entry), lab, body, [f"{NAMES[lab]} analyst"])
        one, who = self.said[pattern], frozenset([lab])
        now = one.disputed_by | who if verdict == "false_positive" else one.disputed_by - who
        self.said[pattern] = replace(one, disputed_by=now)

    def take_back(self, pattern: str, lab: str) -> None:
        """Withdraw a lab's opinion."""
        head = self.log.head(voice_id("opinion", lab, self.said[pattern].entry))
        assert head is not None
        self._withdraw(head, lab, f"{NAMES[lab]} analyst")
        one = self.said[pattern]
        self.said[pattern] = replace(one, disputed_by=one.disputed_by - {lab})

    def withdraw(self, pattern: str) -> None:
        """Withdraw a pattern."""
        self._withdraw(self.log.head(pattern), BOREAL, LATER_KEY)
        self.said[pattern] = replace(self.said[pattern], withdrawn=True)

    def lose_key(self, name: str) -> None:
        """A key turns out to have been in others' hands from the beginning."""
        self.log.say("membership.revoke_key", BOREAL, BOREAL, revoke_body(name, suspect_from=0), ["Boreal owner"])
        for pattern, one in self.said.items():
            self.said[pattern] = replace(one, suspect=one.suspect or one.signed_with == name)

    def suspend(self, lab: str) -> None:
        self.log.say("membership.suspend", lab, FORUM, reason(), ["Ada", "Ben"])
        self.suspended |= {lab}

    def reinstate(self, lab: str) -> None:
        self.log.say("membership.reinstate", lab, FORUM, reason(), ["Ada", "Ben"])
        self.suspended -= {lab}

    # -- the lab ----------------------------------------------------------------------------------------------------

    def restart(self) -> None:
        """A new process: nothing is kept but what lies in the home."""
        self.session = Session(self.home, self.seconds)

    def sync(self) -> None:
        self.hub.entries = entries_of(self.log)
        ran = sync(self.session)
        assert not ran.report.rejected
        assert ran.moved is not None
        assert not ran.moved.problem
        self.known, self.known_suspended = dict(self.said), self.suspended
        self._note_retired()

    def climb(self) -> None:
        climb(self.session, self.now)
        self._note_retired()

    def decide(self, pattern: str, account: str) -> None:
        head = self.session.store.versions(id=pattern)[-1]
        matched = SeenPattern(head.entry, pattern, head.version, head.title, Severity.HIGH)
        found = gathered(matched, account, {f"{account} {self.now}": self.now})
        register = Register.of(self.home)
        rules = lab_policy(self.session, self.now).rules
        listed = allow_register.load(register, self.now)
        decide(register, [found], rules, listed, self.now, "cron", "a run")
        register.close()

    def allow(self, account: str, days: int) -> None:
        day = f"{self.now + timedelta(days=days):%Y-%m-%d}"
        wish = allow_register.checked(AllowKind.ACCOUNT, account, "Sales", "Batch", day, self.now)
        register = Register.of(self.home)
        allow_register.add(register, [wish], "Sales", self.now)
        register.close()
        self.allowed[account] = wish.expires

    def build(self) -> table.Table:
        """The table that a gate would take now."""
        path = self.folder / "table"
        table.write(path, snapshot(self.session, self.now), ends_of_patterns(self.session))
        return table.Table.load(path)

    def ask(self, account: str, by: table.Table | None = None) -> Verdict:
        """What the gate says of an account, by a table of now or by an older one."""
        return judge(by or self.build(), self.seconds(), account, "", "", "")

    def disputes(self, pattern: str) -> frozenset[str]:
        """The labs whose dispute is known here, and counts."""
        return self.known[pattern].disputed_by - self.known_suspended

    def _withdraw(self, head: object, lab: str, signer: str) -> None:
        number = identifier("withdrawal", len(self.log.entries))
        body = {**handling(), "record": record_reference(head), "reason": "Too many false positives."}  # type: ignore[arg-type]
        self.log.say("withdrawal", number, lab, body, [signer])

    def _note_retired(self) -> None:
        self.retired |= {one.entry for pattern, one in self.known.items() if len(self.disputes(pattern)) >= 2}


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    made = Chain(tmp_path)
    yield made
    made.close()


def test_what_other_labs_say_reaches_the_gate_with_the_next_sync(chain: Chain) -> None:
    pattern, other = PATTERNS
    chain.decide(pattern, "a")
    chain.decide(other, "b")
    before = chain.build()
    assert [chain.ask(account).action for account in ACCOUNTS] == [BLOCK, BLOCK, "observe"]
    chain.voice(pattern, CIRRUS, "false_positive")
    assert chain.ask("a").action == BLOCK  # it is not known here yet
    chain.sync()
    assert [chain.ask(account).action for account in ACCOUNTS] == ["observe", BLOCK, "observe"]
    chain.suspend(CIRRUS)
    chain.sync()
    assert chain.ask("a").action == BLOCK
    chain.allow("a", 2)
    assert chain.ask("a").reason == "allow-listed"
    chain.withdraw(other)
    chain.sync()
    assert chain.ask("b").action == "observe"
    chain.now += timedelta(days=3)
    assert chain.ask("a").action == BLOCK
    chain.lose_key(KEYS[pattern])
    chain.sync()
    assert chain.ask("a").action == "observe"
    chain.now += timedelta(days=20)
    assert chain.ask("a", before).action == "observe"


class AnyOrder(RuleBasedStateMachine):
    """Statements, syncs, decisions, restarts and time, in any order; and a gate that goes by an older table."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.chain = Chain(self.folder)
        self.lost: set[str] = set()
        self.keep_table()

    def teardown(self) -> None:
        self.chain.close()
        shutil.rmtree(self.folder)

    @rule()
    def keep_table(self) -> None:
        """The gate takes a table, and goes by it until the next one."""
        self.old = self.chain.build()
        self.old_ends = {pattern: one.valid_until for pattern, one in self.chain.known.items()}
        self.old_allowed = dict(self.chain.allowed)

    @rule(pattern=st.sampled_from(PATTERNS), account=st.sampled_from(ACCOUNTS))
    def decide(self, pattern: str, account: str) -> None:
        self.chain.decide(pattern, account)

    @rule()
    def sync(self) -> None:
        self.chain.sync()

    @rule()
    def look_again(self) -> None:
        self.chain.climb()

    @rule(
        pattern=st.sampled_from(PATTERNS),
        lab=st.sampled_from([CIRRUS, DRIFT]),
        verdict=st.sampled_from(["false_positive", "confirm"]),
    )
    def speak(self, pattern: str, lab: str, verdict: str) -> None:
        head = self.chain.log.head(voice_id("opinion", lab, self.chain.said[pattern].entry))
        if lab not in self.chain.suspended and not self.chain.said[pattern].withdrawn and not (head and head.withdrawn):
            self.chain.voice(pattern, lab, verdict)

    @rule(pattern=st.sampled_from(PATTERNS), lab=st.sampled_from([CIRRUS, DRIFT]))
    def take_back(self, pattern: str, lab: str) -> None:
        head = self.chain.log.head(voice_id("opinion", lab, self.chain.said[pattern].entry))
        if head is not None and not head.withdrawn and lab not in self.chain.suspended:
            self.chain.take_back(pattern, lab)

    @rule(pattern=st.sampled_from(PATTERNS), days=st.sampled_from([1, 90]))
    def revise(self, pattern: str, days: int) -> None:
        if not self.chain.said[pattern].withdrawn and BOREAL not in self.chain.suspended:
            self.chain.publish(pattern, LATER_KEY, days)

    @rule(pattern=st.sampled_from(PATTERNS))
    def withdraw(self, pattern: str) -> None:
        if not self.chain.said[pattern].withdrawn and BOREAL not in self.chain.suspended:
            self.chain.withdraw(pattern)

    @precondition(lambda self: len(self.lost) < len(KEYS) and BOREAL not in self.chain.suspended)
    @rule(name=st.sampled_from(sorted(KEYS.values())))
    def lose_key(self, name: str) -> None:
        if name not in self.lost:
            self.lost.add(name)
            self.chain.lose_key(name)

    @rule(lab=st.sampled_from(sorted(NAMES)))
    def suspend_or_reinstate(self, lab: str) -> None:
        if lab in self.chain.suspended:
            self.chain.reinstate(lab)
        else:
            self.chain.suspend(lab)

    @rule(account=st.sampled_from(ACCOUNTS), days=st.integers(1, 5))
    def allow(self, account: str, days: int) -> None:
        self.chain.allow(account, days)

    @rule(hours=st.sampled_from([1, 30]))
    def wait(self, hours: int) -> None:
        self.chain.now += timedelta(hours=hours)

    @rule()
    def restart(self) -> None:
        self.chain.restart()

    @invariant()
    def nobody_is_blocked_by_what_does_not_hold(self) -> None:
        chain, fresh = self.chain, self.chain.build()
        for account in ACCOUNTS:
            verdict = chain.ask(account, fresh)
            if verdict.allowed:
                continue
            one = chain.known[verdict.pattern]
            assert not one.withdrawn
            assert not one.suspect
            assert one.valid_until > chain.now
            assert not chain.disputes(verdict.pattern)
            assert one.entry not in chain.retired
            assert BOREAL not in chain.known_suspended
            assert chain.allowed.get(account, START) <= chain.now
            register = Register.of(chain.home)
            rules = lab_policy(chain.session, chain.now).rules
            decided = register.get(register.resolve(verdict.decision), rules, chain.now)
            register.close()
            assert decided.pattern_entry == one.entry
            assert decided.subject.id == account

    @invariant()
    def time_counts_by_an_older_table_too(self) -> None:
        for account in ACCOUNTS:
            verdict = self.chain.ask(account, self.old)
            if not verdict.allowed:
                assert self.old_ends[verdict.pattern] > self.chain.now
                assert self.old_allowed.get(account, START) <= self.chain.now


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    max_examples=6, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
