"""How far a pattern may go: in whatever order things happen, never further than the policy and the facts allow."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from member_client.errors import InvalidInput
from member_client.lifecycle.climbing import advanced, stand
from member_client.lifecycle.facts import NEW, Circumstances, Facts, KeptBacktest, Memory
from member_client.lifecycle.policy import BUILT_IN, Policy
from member_client.lifecycle.policy_file import parse, template
from member_client.lifecycle.reviewing import advance_in, circumstances, resume_in
from member_client.lifecycle.standing import ORDER, Stage
from member_client.lifecycle.store import LifecycleStore
from sharing_protocol.feedback import Feedback
from sharing_protocol.statements.opinions import Reviewed

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HERE, AUTHOR, LABS = "member--here", "member--author", tuple(f"member--{name}" for name in "bcdef")
NAMES = {lab: lab.removeprefix("member--").capitalize() for lab in (HERE, AUTHOR, *LABS)}
POLICY = parse(template().encode())
ALONE = Circumstances()


def said(entry: str, **changes: Any) -> Feedback:
    return replace(Feedback(entry), **changes)


def measured(**by: tuple[int, int]) -> dict[str, Reviewed]:
    """True positives and reviewed matches, by the letter of the lab."""
    return {
        f"member--{lab}": Reviewed(true_positives=right, reviewed=reviewed, method="All of a day")
        for lab, (right, reviewed) in by.items()
    }


def facts(number: int = 0, **changes: Any) -> Facts:
    entry = f"{number:064x}"
    made = Facts(
        f"pattern--{number}", 1, entry, "Bootstrapping", AUTHOR, NAMES[AUTHOR], "active", "amber", "high", "active", "",
        True, HERE, NAMES, said(entry),
    )  # fmt: skip
    return replace(made, **changes)


def good(number: int = 0, **changes: Any) -> Facts:
    """A pattern that fulfils all that the template asks for, but for time."""
    made = facts(number)
    found = KeptBacktest(made.entry, NOW, 100_000, 100_000, 120, 40, 500, 0, could_match=True)
    endorsed = said(made.entry, endorsed_by=frozenset(LABS[:2]), measured=measured(b=(20, 20), d=(20, 20)))
    return replace(made, **{"backtest": found, "feedback": endorsed, **changes})


def policy_with(text: str) -> Policy:
    return parse(f'highest_stage = "enforce"\n{text}'.encode())


def lived(made: Facts, policy: Policy = POLICY, hours: int = 24 * 20, memory: Memory = NEW) -> Memory:
    """What is remembered after so many hours of looking every hour."""
    for hour in range(hours + 1):
        memory = advanced(made, policy, memory, NOW + timedelta(hours=hour), ALONE)
    return memory


def held(made: Facts, policy: Policy, memory: Memory, now: datetime = NOW, around: Circumstances = ALONE) -> set[str]:
    return {one.setting for one in stand(made, policy, memory, now, around).held_by}


ENFORCING = Memory(Stage.ENFORCE, NOW, 100, NOW)


def test_a_good_pattern_reaches_enforcement_by_the_template_in_its_time() -> None:
    memory = NEW
    path: list[tuple[int, Stage, int]] = []
    for hour in range(24 * 10):
        memory = advanced(good(), POLICY, memory, NOW + timedelta(hours=hour), ALONE)
        if not path or path[-1][1:] != (memory.stage, memory.share):
            path.append((hour, memory.stage, memory.share))
    assert path == [
        (0, Stage.SHADOW, 0),
        (72, Stage.FLAG, 0),
        (144, Stage.ENFORCE, 1),
        (168, Stage.ENFORCE, 10),
        (192, Stage.ENFORCE, 100),
    ]


def test_without_a_policy_nothing_goes_beyond_shadow() -> None:
    assert lived(good(), BUILT_IN).stage is Stage.SHADOW
    assert lived(good(), parse(b"")).stage is Stage.SHADOW
    standing = stand(good(), BUILT_IN, ENFORCING, NOW, ALONE)
    assert (standing.stage, standing.share) == (Stage.SHADOW, 0)
    assert "there is no policy.toml" in next(one.text for one in standing.held_by)


def test_a_bad_pattern_never_enforces_by_the_template() -> None:
    harmless = good().backtest
    assert harmless is not None
    heavy = replace(harmless, wrong=15)  # 3 % of the known batch customers
    assert lived(good(backtest=heavy)).stage is Stage.SHADOW
    assert lived(good(backtest=replace(heavy, legitimate=100, wrong=0))).stage is Stage.SHADOW  # too small a sample
    alone = said(good().entry, endorsed_by=frozenset([AUTHOR, HERE, "member--expelled", LABS[0]]))
    assert lived(good(feedback=alone)).stage is Stage.FLAG


def test_a_backtest_by_a_clock_that_ran_ahead_is_no_younger_for_it() -> None:
    kept = good().backtest
    assert kept is not None
    for ahead, stage in ((timedelta(minutes=5), Stage.ENFORCE), (timedelta(days=400), Stage.SHADOW)):
        made = good(backtest=replace(kept, at=NOW + ahead))
        assert stand(made, POLICY, ENFORCING, NOW, ALONE).stage is stage


BROKEN: list[tuple[str, dict[str, Any], Stage, str]] = [
    ("withdrawn", {"state": "withdrawn"}, Stage.RETIRED, "record"),
    ("expired", {"state": "expired"}, Stage.RETIRED, "record"),
    ("suspect", {"state": "suspect"}, Stage.RECEIVED, "record"),
    ("unsound", {"state": "unsound"}, Stage.RECEIVED, "record"),
    ("not yet valid", {"state": "not yet valid"}, Stage.RECEIVED, "record"),
    ("never tried", {"tried": False}, Stage.RECEIVED, "trial"),
    ("author suspended", {"author_status": "suspended"}, Stage.SHADOW, "author"),
    ("no backtest", {"backtest": None}, Stage.SHADOW, "backtest.required"),
    ("marking", {"marking": "red"}, Stage.FLAG, "enforce.markings"),
    ("severity", {"severity": "low"}, Stage.FLAG, "enforce.severities"),
    ("wrong", {"enforced": 100, "wrong": 2}, Stage.FLAG, "false_positives.budget"),
]


@pytest.mark.parametrize(("changes", "stage", "setting"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_it_falls_at_once_when_a_line_no_longer_holds(changes: dict[str, Any], stage: Stage, setting: str) -> None:
    broken = good(**changes)
    standing = stand(broken, POLICY, ENFORCING, NOW, ALONE)
    assert (standing.stage, standing.share) == (stage, 0)
    assert setting in {one.setting for one in standing.held_by}
    remembered = advanced(broken, POLICY, ENFORCING, NOW, ALONE).stage
    assert remembered is (Stage.ENFORCE if changes.get("state") in ("expired", "not yet valid") else stage)


FEEDBACK: list[tuple[dict[str, Any], Stage, str]] = [
    ({"disputed_by": frozenset([LABS[3]])}, Stage.SHADOW, "disputes.demote"),
    ({"disputed_by": frozenset(LABS[3:5])}, Stage.RETIRED, "disputes.retire"),
    ({"endorsed_by": frozenset([LABS[0]])}, Stage.FLAG, "enforce.endorsements"),
    ({"endorsed_by": frozenset([LABS[0], AUTHOR, HERE, "member--expelled"])}, Stage.FLAG, "enforce.endorsements"),
    ({"measured": measured(b=(15, 15))}, Stage.FLAG, "enforce.precision"),
    ({"measured": measured(b=(80, 100))}, Stage.FLAG, "enforce.precision"),
]


@pytest.mark.parametrize(("changes", "stage", "setting"), FEEDBACK)
def test_what_other_labs_say_takes_it_down(changes: dict[str, Any], stage: Stage, setting: str) -> None:
    doubted = good(feedback=replace(good().feedback, **changes))
    assert stand(doubted, POLICY, ENFORCING, NOW, ALONE).stage is stage
    assert setting in held(doubted, POLICY, ENFORCING)


POLICIES: list[tuple[str, Stage, str]] = [
    ("stop = true", Stage.SHADOW, "stop"),
    ('[trust]\nnever = ["AUTHOR"]', Stage.RECEIVED, "trust.never"),
    ('[trust]\nnever = ["member--author"]', Stage.RECEIVED, "trust.never"),
    ('[trust]\nlabs = ["B"]', Stage.SHADOW, "trust.labs"),
    ('[trust.highest_stage]\nAuthor = "flag"', Stage.FLAG, "trust.highest_stage.Author"),
    ("[enforce]\nendorsements = 3", Stage.FLAG, "enforce.endorsements"),
    ("[backtest]\nmax_age_days = 1", Stage.SHADOW, "backtest.max_age_days"),
    ("[false_positives]\nbudget = 0.005", Stage.SHADOW, "false_positives.budget"),
]


@pytest.mark.parametrize(("text", "stage", "setting"), POLICIES)
def test_an_edit_of_the_policy_holds_at_once_and_names_its_line(text: str, stage: Stage, setting: str) -> None:
    policy, now = policy_with(text), NOW + timedelta(days=1)
    standing = stand(good(), policy, ENFORCING, now, ALONE)
    assert standing.stage is stage
    [line] = [one.line for one in standing.held_by if one.setting == setting]
    assert line == 2 + text.count("\n")


def test_the_endorsement_of_a_lab_that_is_never_trusted_counts_for_nothing() -> None:
    policy = policy_with('[trust]\nnever = ["C"]')
    assert stand(good(), policy, ENFORCING, NOW, ALONE).stage is Stage.FLAG
    assert held(good(), policy, ENFORCING) == {"enforce.endorsements"}


def test_what_a_lab_measured_that_is_never_trusted_counts_for_nothing() -> None:
    """Neither for a pattern, however much it says it reviewed, nor against one."""
    stuffed = good(feedback=replace(good().feedback, measured=measured(c=(10_000, 10_000))))
    assert stand(stuffed, POLICY, ENFORCING, NOW, ALONE).stage is Stage.ENFORCE
    never = policy_with('[trust]\nnever = ["C"]\n[enforce]\nendorsements = 0')
    assert stand(stuffed, never, ENFORCING, NOW, ALONE).stage is Stage.FLAG
    [held_by] = stand(stuffed, never, ENFORCING, NOW, ALONE).held_by
    assert held_by.text.startswith("of 0 reviewed matches 0 were true: at least 0 %")
    assert held_by.text.endswith("; left out is what C measured")
    spoiled = good(feedback=replace(good().feedback, measured=measured(b=(60, 60), c=(0, 10_000))))
    assert held(spoiled, POLICY, ENFORCING) == {"enforce.precision"}
    assert stand(spoiled, never, ENFORCING, NOW, ALONE).stage is Stage.ENFORCE


def test_the_disputes_of_a_lab_can_be_ignored_with_what_it_measured_and_explain_says_so() -> None:
    honest = measured(b=(20, 20), d=(20, 20), f=(20, 20), e=(0, 10_000))
    doubted = good(feedback=replace(good().feedback, measured=honest, disputed_by=frozenset(["member--e"])))
    assert stand(doubted, POLICY, ENFORCING, NOW, ALONE).stage is Stage.SHADOW
    for lab in ("E", "member--e"):
        policy = policy_with(f'[disputes]\nignore = ["{lab}"]')
        standing = stand(doubted, policy, ENFORCING, NOW, ALONE)
        assert standing.stage is Stage.ENFORCE
        [told] = [str(one) for one in standing.reasons if one.setting == "disputes.ignore"]
        assert told == (
            "policy.toml line 3 (disputes.ignore): what E found in disputing it is ignored here, at this lab's own risk"
        )
        [precision] = [one.text for one in standing.reasons if one.setting == "enforce.precision"]
        assert precision.startswith("of 60 reviewed matches 60 were true")
    both = replace(doubted.feedback, disputed_by=frozenset(["member--e", "member--f"]))
    [line] = [one.text for one in stand(good(feedback=both), policy, ENFORCING, NOW, ALONE).held_by]
    assert line == "1 lab calls it a false positive (F); 1 demotes it"
    undisputed = replace(doubted.feedback, disputed_by=frozenset[str]())
    assert held(good(feedback=undisputed), policy, ENFORCING) == {"enforce.precision"}  # it ignores disputes alone
    with pytest.raises(InvalidInput, match="the labs are named one by one"):
        policy_with('[disputes]\nignore = ["*"]')


def test_a_lab_that_calls_itself_by_the_id_of_another_is_not_that_lab() -> None:
    policy = policy_with(f'[trust]\nlabs = ["{AUTHOR}"]')
    assert lived(good(), policy).stage is Stage.ENFORCE
    assert lived(replace(good(), author="member--z", author_name=AUTHOR), policy).stage is Stage.SHADOW


def test_own_patterns_need_no_trust_but_all_the_rest() -> None:
    own = replace(good(), author=HERE, author_name=NAMES[HERE])
    nobody = policy_with("[trust]\nlabs = []")
    assert lived(own, nobody).stage is Stage.ENFORCE
    assert lived(good(), nobody).stage is Stage.SHADOW


def test_what_was_said_of_another_version_counts_for_nothing() -> None:
    with pytest.raises(ValueError, match="another"):
        facts(1, feedback=good(2).feedback)
    with pytest.raises(ValueError, match="another"):
        facts(1, backtest=good(2).backtest)


def test_stopping_is_a_pause_and_the_clocks_start_again() -> None:
    reached, stop = lived(good()), policy_with("stop = true")
    assert (reached.stage, reached.share) == (Stage.ENFORCE, 100)
    later = NOW + timedelta(days=30)
    paused = advanced(good(), stop, replace(reached, share=10), later, ALONE)
    assert (paused.stage, paused.share, paused.share_since) == (Stage.ENFORCE, 10, later)
    again = advanced(good(), POLICY, paused, later + timedelta(hours=23), ALONE)
    assert (again.stage, again.share) == (Stage.ENFORCE, 10)
    assert advanced(good(), POLICY, again, later + timedelta(hours=24), ALONE).share == 100


def test_other_steps_never_make_the_share_more_than_it_was() -> None:
    reached = Memory(Stage.ENFORCE, NOW, 10, NOW)
    for steps, share in (("[1, 100]", 1), ("[5, 50]", 5), ("[20, 100]", 10), ("[10]", 10)):
        assert stand(good(), policy_with(f"[rollout]\nsteps = {steps}"), reached, NOW, ALONE).share == share


def test_what_time_earned_is_not_lost_when_a_clock_is_set_back() -> None:
    at_the_hour = NOW + timedelta(hours=72)
    memory = lived(good(), hours=72)
    assert memory.stage is Stage.FLAG
    assert advanced(good(), POLICY, memory, at_the_hour - timedelta(seconds=5), ALONE).stage is Stage.FLAG


def test_what_a_clock_that_ran_ahead_took_for_expired_goes_on_by_itself() -> None:
    """It is retired for whoever asks meanwhile; nobody has to take a whole forum's patterns up again."""
    expired, ahead, memory = good(state="expired"), NOW + timedelta(days=50_000), ENFORCING
    for hour in range(9):
        memory = advanced(expired, POLICY, memory, ahead + timedelta(hours=hour), ALONE)
        standing = stand(expired, POLICY, memory, ahead, ALONE)
        assert (standing.stage, standing.share, held(expired, POLICY, memory)) == (Stage.RETIRED, 0, {"record"})
    back = stand(good(), POLICY, memory, NOW, ALONE)
    assert (back.stage, back.share) == (Stage.ENFORCE, 100)
    never_seen = advanced(expired, POLICY, NEW, ahead, ALONE)
    assert lived(good(), hours=72, memory=never_seen).stage is Stage.FLAG
    doubted = good(state="expired", feedback=replace(good().feedback, disputed_by=frozenset(LABS[3:5])))
    memory = advanced(doubted, POLICY, ENFORCING, ahead, ALONE)
    assert stand(replace(doubted, state="active"), POLICY, memory, NOW, ALONE).stage is Stage.RETIRED


def test_what_a_clock_that_was_set_back_took_for_not_yet_valid_goes_on_by_itself() -> None:
    early, behind, memory = good(state="not yet valid"), NOW - timedelta(days=50_000), ENFORCING
    for hour in range(9):
        memory = advanced(early, POLICY, memory, behind + timedelta(hours=hour), ALONE)
        assert stand(early, POLICY, memory, behind, ALONE).stage is Stage.RECEIVED
    back = stand(good(), POLICY, memory, NOW, ALONE)
    assert (back.stage, back.share) == (Stage.ENFORCE, 100)
    # one that really is not valid yet earns nothing until it is
    memory = lived(early, hours=24 * 20)
    assert stand(early, POLICY, memory, NOW, ALONE).stage is Stage.RECEIVED
    assert lived(good(), hours=71, memory=memory).stage is Stage.SHADOW


def test_what_fell_by_a_clock_that_ran_ahead_climbs_anew_from_now() -> None:
    ahead = NOW + timedelta(days=50_000)
    fell = advanced(good(), POLICY, ENFORCING, ahead, ALONE)  # its backtest seemed old
    assert (fell.stage, fell.since) == (Stage.SHADOW, ahead)
    assert lived(good(), hours=71, memory=fell).stage is Stage.SHADOW
    assert lived(good(), hours=72, memory=fell).stage is Stage.FLAG
    rolled = replace(ENFORCING, share=1, since=ahead, share_since=ahead)
    assert lived(good(), hours=24, memory=rolled).share == 10


def test_no_hours_in_a_stage_are_no_shortfall() -> None:
    policy = policy_with("[shadow]\nhours = 72\n[flag]\nhours = 0\n")
    standing = stand(good(), policy, Memory(Stage.SHADOW, NOW), NOW, ALONE)
    assert (standing.stage, "shadow.hours" in {one.setting for one in standing.held_by}) == (Stage.SHADOW, True)
    (flag,) = [one for one in standing.reasons if one.setting == "flag.hours"]
    assert (flag.holds, flag.text) == (True, "no time in flag is asked for")


def test_a_halted_pattern_waits_for_a_person() -> None:
    wrong = good(enforced=100, wrong=2)
    halted = advanced(wrong, POLICY, ENFORCING, NOW, ALONE)
    assert (halted.stage, halted.ceiling) == (Stage.FLAG, Stage.FLAG)
    assert "2 of 100 decisions were wrong (2 %)" in halted.halted
    assert lived(wrong, memory=halted).stage is Stage.FLAG
    assert held(wrong, POLICY, halted, NOW + timedelta(days=9)) == {"halt"}


# -- any order -----------------------------------------------------------------------------------------------------

POLICY_TEXTS = [
    template(),
    'highest_stage = "enforce"\n[shadow]\nhours = 0\n[flag]\nhours = 0\n[rollout]\nhours = 0\n[disputes]\nretire = 3\n',
    'highest_stage = "enforce"\n[shadow]\nhours = 1\n[flag]\nhours = 1\n[enforce]\nendorsements = 0\nprecision = 0.0\n',
    'highest_stage = "flag"\n[shadow]\nhours = 0\n',
    'highest_stage = "enforce"\nstop = true\n',
    'highest_stage = "enforce"\nbacktest.required = false\nshadow.hours = 0\nflag.hours = 0\nenforce.precision = 0.5\n',
]
WHICH = st.integers(0, 1)


class AnyOrder(RuleBasedStateMachine):
    """Two patterns at a lab whose store is a real file."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "lifecycle.sqlite"
        self.store = LifecycleStore(self.path)
        self.facts = [good(0), good(1)]
        self.policy: Policy = parse(POLICY_TEXTS[1].encode())
        self.now = NOW
        self.versions = 1
        self.sync(0)

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    def change(self, which: int, **changes: Any) -> None:
        self.facts[which] = replace(self.facts[which], **changes)

    def known(self) -> list[tuple[Facts, Memory]]:
        memories = self.store.memories()
        return [(one, memories.get(one.entry, NEW)) for one in self.facts]

    @rule(hours=st.integers(-3, 100))
    def look_again(self, hours: int) -> None:
        self.sync(hours)

    @rule(hours=st.integers(-3, 100))
    def sync(self, hours: int) -> None:
        self.now += timedelta(hours=hours)
        with self.store.transaction():
            advance_in(self.store, self.known(), self.policy, self.now)

    @rule(which=WHICH, disputed=st.sampled_from([(), (), LABS[:1], LABS[:2], LABS[:3]]))
    def dispute(self, which: int, disputed: tuple[str, ...]) -> None:
        self.change(which, feedback=replace(self.facts[which].feedback, disputed_by=frozenset(disputed)))

    @rule(which=WHICH, endorsed=st.sampled_from([LABS[:2], LABS, LABS[:1], (AUTHOR, HERE, LABS[0])]))
    def endorse(self, which: int, endorsed: tuple[str, ...]) -> None:
        self.change(which, feedback=replace(self.facts[which].feedback, endorsed_by=frozenset(endorsed)))

    @rule(which=WHICH, state=st.sampled_from(["withdrawn", "expired", "suspect", "unsound", *["active"] * 6]))
    def turn(self, which: int, state: str) -> None:
        self.change(which, state=state)

    @rule(which=WHICH)
    def revise(self, which: int) -> None:
        """A new version: nothing that was said or seen of the old one counts for it."""
        self.versions += 1
        self.facts[which] = facts(which * 1000 + self.versions)
        self.facts[which] = replace(self.facts[which], id=f"pattern--{which}")

    @rule(which=WHICH, wrong=st.sampled_from([0, 0, 0, None, 9]))
    def run_backtest(self, which: int, wrong: int | None) -> None:
        entry = self.facts[which].entry
        sample = None if wrong is None else 500
        self.change(which, backtest=KeptBacktest(entry, self.now, 1_000, 1_000, 9, 9, sample, wrong, could_match=True))

    @rule(which=WHICH, enforced=st.integers(0, 500), wrong=st.sampled_from([0, 1, 9, 30]))
    def decide(self, which: int, enforced: int, wrong: int) -> None:
        one = self.facts[which]
        self.change(which, enforced=one.enforced + max(enforced, wrong), wrong=one.wrong + wrong)

    @rule(text=st.sampled_from(POLICY_TEXTS))
    def edit(self, text: str) -> None:
        self.policy = parse(text.encode())

    @rule()
    def remove_policy(self) -> None:
        self.policy = BUILT_IN

    @rule(stop=st.booleans())
    def switch(self, stop: bool) -> None:
        self.store.switch(self.now, "somebody", "a test", stop=stop)

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = LifecycleStore(self.path)

    @rule()
    def lose_the_file(self) -> None:
        stopped = self.store.stopped
        self.store.close()
        for path in self.path.parent.iterdir():
            path.unlink()
        self.store = LifecycleStore(self.path)
        if stopped is not None:
            self.store.switch(self.now, stopped.by, stopped.why, stop=True)

    @rule(which=st.sampled_from(["", "pattern--0", "pattern--1"]))
    def resume(self, which: str) -> None:
        try:
            with self.store.transaction():
                resume_in(self.store, self.known(), self.policy, self.now, which)
        except InvalidInput:
            pass  # it is neither halted nor retired, or must stay so

    @invariant()
    def none_stands_above_what_is_allowed(self) -> None:
        known = self.known()
        around = circumstances(self.store, self.policy, known)
        rules = self.policy.settings
        for one, memory in known:
            standing = stand(one, self.policy, memory, self.now, around)
            assert standing.stage <= memory.stage
            assert standing.stage <= rules.highest_stage
            assert (standing.share > 0) == (standing.stage is Stage.ENFORCE)
            disputes = len(one.feedback.disputed_by)
            if one.state in ("withdrawn", "expired") or disputes >= rules.disputes.retire:
                assert standing.stage is Stage.RETIRED
            if one.state != "active":
                assert standing.stage <= Stage.RECEIVED
            if disputes >= rules.disputes.demote or not self.policy.exists or rules.stop or self.store.stopped:
                assert standing.stage <= Stage.SHADOW
            if rules.backtest.required and (one.backtest is None or one.backtest.wrong != 0):
                assert standing.stage <= Stage.SHADOW
            others = one.feedback.endorsed_by - {AUTHOR, HERE}
            if len(others) < rules.enforce.endorsements or self.store.halted:
                assert standing.stage <= Stage.FLAG
            if memory.halted:
                assert standing.stage <= memory.ceiling < Stage.ENFORCE
            for reason in standing.reasons:
                assert reason.holds or standing.stage < reason.needed_for


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    max_examples=15, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def test_stages_compare_by_how_far_they_are() -> None:
    assert sorted(Stage) == list(ORDER)
    assert max(Stage.SHADOW, Stage.FLAG, Stage.RETIRED) is Stage.FLAG
    assert [stage.below for stage in ORDER] == [Stage.RETIRED, *ORDER[:-1]]


def test_a_file_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    path, kept = tmp_path / "lifecycle.sqlite", KeptBacktest("a" * 64, NOW, 10, 10, 1, 1, None, None, could_match=True)
    LifecycleStore(path).close()
    with closing(sqlite3.connect(path)) as old:
        old.executescript("ALTER TABLE backtests DROP COLUMN measured; PRAGMA user_version = 1")
        row = (kept.entry, "2026-03-01T12:00:00Z", 10, 10, 1, 1, None, None, 1)
        old.execute("INSERT INTO backtests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        old.commit()
    with closing(LifecycleStore(path)) as store:
        assert store.backtests() == {kept.entry: kept}
        later = replace(kept, measured='{"events": "10-99"}')
        store.keep_backtest(later)
        assert store.backtests() == {kept.entry: later}
