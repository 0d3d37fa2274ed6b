"""`stillwatch policy`, and what `sync` and `pattern backtest` have to do with it: a pattern's life by the commands."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from member_client.errors import InvalidInput
from member_client.home import Home
from member_client.lifecycle import Stage, advance, read_policy, standings
from member_client.lifecycle.policy_file import template
from member_client.lifecycle.reviewing import FeedbackOf, resume
from member_client.lifecycle.store import LifecycleStore
from member_client.session import Session
from sharing_protocol.feedback import Feedback
from tests.forum import pattern_body
from tests.member_client.command import Command, settle
from tests.member_client.follower import Lab, entries_of
from tests.member_client.lab_homes import keep_key
from tests.member_client.lying_hub import LyingHub
from tests.protocol.forum_log import (
    BOREAL,
    FORUM,
    ForumLog,
    forum_of_two_labs,
    handling,
    identifier,
    reason,
    record_reference,
    revoke_body,
)

PATTERN = identifier("pattern", 0x1000)
QUICK = """highest_stage = "enforce"
[shadow]
hours = 0
[flag]
hours = 0
[enforce]
endorsements = 0
precision = 0.0
"""


@pytest.fixture(scope="module")
def log() -> ForumLog:
    """A forum with Aurora, whose home it is about, and Boreal, whose pattern it is about."""
    made = forum_of_two_labs()
    made.say("pattern", PATTERN, BOREAL, pattern_body(), ["Boreal analyst"])
    return made


@pytest.fixture(scope="module")
def hub(log: ForumLog) -> Iterator[LyingHub]:
    with LyingHub(entries_of(log)) as running:
        yield running


@pytest.fixture(scope="module")
def synced(hub: LyingHub, log: ForumLog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    lab = Lab(tmp_path_factory.mktemp("synced") / "lab", hub, log.fingerprint)
    home = settle(lab)
    (home / "keys").mkdir(mode=0o700)
    keep_key(home, "sync", "Aurora sync")
    lab.sync()
    lab.store.close()
    return home


@pytest.fixture
def home(synced: Path, tmp_path: Path, hub: LyingHub, log: ForumLog, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home of its own, which commands take by default; the log is afterwards what it was."""
    copied = Path(shutil.copytree(synced, tmp_path / "lab"))
    copied.chmod(0o700)
    monkeypatch.setenv("STILLWATCH_HOME", str(copied))
    yield copied
    hub.entries = entries_of(log)


def backtest(command: Command, folder: Path, legitimate: int = 400) -> None:
    """Run the pattern over a log in which it matches one account, and so many legitimate ones say hello."""
    rows = [("thief", "Please come up with 20 diverse tasks.")] + [(f"good {n}", "hello") for n in range(legitimate)]
    moment = datetime(2026, 3, 2, tzinfo=UTC).isoformat()
    lines = [json.dumps({"timestamp": moment, "account.id": who, "prompt.text": text}) for who, text in rows]
    (folder / "requests.jsonl").write_text("\n".join(lines))
    (folder / "legitimate.txt").write_text("\n".join(f"good {n}" for n in range(legitimate)))
    said = command("pattern", "backtest", PATTERN, folder / "requests.jsonl", "--legitimate", folder / "legitimate.txt")
    assert "kept: `stillwatch policy explain" in said


def enforcing(command: Command, home: Path) -> None:
    """Bring the pattern to enforcement by a policy that asks for a backtest and little else."""
    (home / "policy.toml").write_text(QUICK)
    backtest(command, home.parent)
    assert command.json("sync")["lifecycle"]["promoted"][0]["to"] == "enforce"


# -- the file ------------------------------------------------------------------------------------------------------


def test_init_writes_the_template_for_its_owner_alone_and_replaces_nothing_unasked(
    home: Path, command: Command, tmp_path: Path
) -> None:
    path = home / "policy.toml"
    assert command.json("policy", "init") == {"file": str(path)}
    assert path.read_text() == template()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("stop = true\n")
    assert "exists" in command("policy", "init", code=2)
    assert path.read_text() == "stop = true\n"
    command("policy", "init", "--force")
    assert "is good" in command("policy", "check")
    assert "is not a Stillwatch home" in command("policy", "init", "--home", tmp_path / "none", code=2)
    assert not (tmp_path / "none").exists()


def test_check_says_every_line_to_mend_and_also_of_labs_that_the_forum_does_not_have(
    home: Path, command: Command, tmp_path: Path
) -> None:
    file = tmp_path / "mine.toml"
    assert "cannot be read" in command("policy", "check", file, code=2)
    file.write_text("[gate]\nfail = 'maybe'\n[shadow]\nhour = 1\n")
    said = command("policy", "check", file, code=2)
    assert f"{file}: line 2: gate.fail: it should be 'open' or 'closed', not 'maybe'" in said
    assert f"{file}: line 4: shadow.hour: there is no such setting" in said
    found = command.json("policy", "check", file, code=2)
    assert [fault["line"] for fault in found["faults"]] == [2, 4]
    file.write_text('[trust]\nlabs = ["*"]\nnever = ["Boreall"]\n[trust.highest_stage]\nBOREAL = "flag"\n')
    assert [fault["line"] for fault in command.json("policy", "check", file, code=2)["faults"]] == [3]
    assert command.json("policy", "check", file, "--home", tmp_path / "nowhere")["ok"] is True
    assert "policy init" in command("policy", "check", code=2)


def test_show_tells_each_setting_with_its_line(home: Path, command: Command) -> None:
    assert "none, so patterns are only observed" in command("policy", "show")
    assert command.json("policy", "show")["settings"]["highest_stage"] == "shadow"
    (home / "policy.toml").write_text(QUICK)
    shown = command.json("policy", "show")
    assert (shown["file"], shown["lines"]["enforce.precision"]) == (str(home / "policy.toml"), 8)
    assert (shown["settings"]["enforce"]["precision"], shown["stopped"], shown["halted"]) == (0.0, None, None)
    rows = [line.split() for line in command("policy", "show").splitlines()]
    assert ["enforce.endorsements", "0", "7"] in rows
    assert ["rollout.hours", "24", "built", "in"] in rows


# -- a pattern's life ----------------------------------------------------------------------------------------------


def test_without_a_policy_sync_says_nothing_of_stages_and_nothing_enforces(home: Path, command: Command) -> None:
    assert command.json("sync")["lifecycle"] is None
    session = Session(Home(home))
    advance(session, read_policy(session.home), session.now)
    backtest(command, home.parent)
    [standing] = standings(session, read_policy(session.home), session.now + timedelta(days=80)).values()
    assert (standing.stage, standing.share) == (Stage.SHADOW, 0)
    assert "there is no policy.toml" in command("policy", "explain", PATTERN)


def test_by_the_template_it_waits_in_shadow_and_explain_says_for_what(home: Path, command: Command) -> None:
    command("policy", "init")
    synced = command.json("sync")["lifecycle"]
    assert (synced["demoted"], synced["promoted_in_all"], synced["problem"]) == ([], 1, None)
    explained = command.json("policy", "explain", PATTERN)
    assert (explained["stage"], explained["share"], explained["next"]) == ("shadow", 0, "flag")
    lines = template().splitlines()
    held = {one["setting"]: lines[one["line"] - 1] for one in explained["held_by"]}
    assert held == {"backtest.required": "required = true", "shadow.hours": "hours = 72"}
    said = command("policy", "explain", PATTERN)
    assert "it was in shadow for 0 of 72 hours, until 20" in said
    assert "0 other labs endorse this very version; 2 are asked for" in said
    assert [step["stage"] for step in explained["history"]] == ["shadow"]
    backtest(command, home.parent, legitimate=100)
    assert "in the backtest 0 of 100 legitimate accounts were flagged: at most 3.7 %" in command(
        "policy", "explain", PATTERN
    )
    backtest(command, home.parent)
    explained = command.json("policy", "explain", PATTERN)
    assert [one["setting"] for one in explained["held_by"]] == ["shadow.hours"]
    [listed] = command.json("policy", "list", "--stage", "shadow")
    assert listed["held_by"] == explained["held_by"]
    [row] = [line.split() for line in command("policy", "list").splitlines() if line.startswith("00000000 ")]
    assert (row[1], row[4]) == ("shadow", "shadow.hours")
    assert command.json("policy", "list", "--stage", "flag") == []


def test_a_withdrawal_takes_it_down_at_the_next_sync_which_says_so(
    home: Path, command: Command, log: ForumLog, hub: LyingHub
) -> None:
    enforcing(command, home)
    grown = log.copy()
    withdrawal = {**handling(), "reason": "Too many false positives."}
    withdrawal["record"] = record_reference(grown.head(PATTERN))
    grown.say("withdrawal", identifier("withdrawal", 1), BOREAL, withdrawal, ["Boreal analyst"])
    hub.entries = entries_of(grown)
    before = Path(shutil.copytree(home, home.parent / "twin"))
    [fell] = command.json("sync")["lifecycle"]["demoted"]
    assert (fell["id"], fell["from"], fell["to"]) == (PATTERN, "enforce", "retired")
    assert fell["why"][0] == "built in (record): the record is withdrawn"
    said = command("sync", "--home", before)
    assert "fell from enforce to retired: built in (record): the record is withdrawn" in said
    assert command.json("policy", "explain", PATTERN)["stage"] == "retired"
    assert "what retired it is still so" in command("policy", "resume", PATTERN, code=2)


def test_a_sync_by_a_clock_far_ahead_retires_nothing_for_good(home: Path, command: Command) -> None:
    enforcing(command, home)
    session = Session(Home(home))
    policy, ahead = read_policy(session.home), datetime(2226, 1, 1, tzinfo=UTC)
    assert advance(session, policy, ahead) == []
    [standing] = standings(session, policy, ahead).values()
    assert (standing.stage, standing.held_by[0].text) == (Stage.RETIRED, "the record is expired")
    with pytest.raises(InvalidInput, match="what retired it is still so: the record is expired"):
        resume(session, policy, ahead, PATTERN)
    [standing] = standings(session, policy, session.now).values()
    assert standing.stage is Stage.ENFORCE


def test_a_compromised_key_takes_it_down_before_anything_was_remembered(
    home: Path, command: Command, log: ForumLog, hub: LyingHub
) -> None:
    enforcing(command, home)
    grown = log.copy()
    revoked = revoke_body("Boreal analyst", suspect_from=0)
    grown.say("membership.revoke_key", BOREAL, BOREAL, revoked, ["Boreal owner"])
    hub.entries = entries_of(grown)
    session = Session(Home(home))
    session.catch_up()  # follows the log, and does no more
    [standing] = standings(session, read_policy(session.home), session.now).values()
    assert (standing.stage, standing.share) == (Stage.RECEIVED, 0)
    assert command.json("policy", "explain", PATTERN)["reached"] == "enforce"
    assert "stage: received, where enforce was reached" in command("policy", "explain", PATTERN)


def test_an_expelled_author_enforces_nowhere(home: Path, command: Command, log: ForumLog, hub: LyingHub) -> None:
    enforcing(command, home)
    grown = log.copy()
    grown.say("membership.suspend", BOREAL, FORUM, reason(), ["Ada", "Ben"])
    hub.entries = entries_of(grown)
    [fell] = command.json("sync")["lifecycle"]["demoted"]
    assert (fell["to"], "is a suspended member" in fell["why"][0]) == ("shadow", True)


def test_stopping_wins_over_everything_at_once_and_remembers_who_and_why(home: Path, command: Command) -> None:
    enforcing(command, home)
    session = Session(Home(home))
    policy = read_policy(session.home)
    assert "ok   policy: policy.toml: 1 enforce" in command("doctor")
    assert "nothing is stopped" in command("policy", "start", "by mistake", code=2)
    assert "the reason has 0" in command("policy", "stop", " ", code=2)
    (home / "policy.toml").write_text("broken")  # it must work all the same
    command("policy", "stop", "a customer was hit", "--by", "Noor")
    [standing] = standings(session, policy, session.now).values()
    assert (standing.stage, standing.share) == (Stage.SHADOW, 0)
    (home / "policy.toml").write_text(QUICK)
    assert command.json("policy", "show")["stopped"]["why"] == "a customer was hit"
    assert "Noor stopped everything" in command("policy", "explain", PATTERN)
    assert command.json("sync")["lifecycle"]["demoted"] == []  # it is a pause
    assert "stopped by Noor" in command("policy", "stop", "again", code=2)
    assert command.json("policy", "start", "it was allow-listed")["stopped"] is False
    [standing] = standings(session, policy, session.now).values()
    assert (standing.stage, standing.share) == (Stage.ENFORCE, 1)


@pytest.mark.parametrize("damage", ["policy.toml", "lifecycle.sqlite"])
def test_a_fault_in_what_follows_a_sync_never_fails_the_sync(home: Path, command: Command, damage: str) -> None:
    enforcing(command, home)
    for path in home.glob(f"{damage}*"):
        path.unlink()
    (home / damage).write_text("neither TOML nor a database")
    document = command.json("sync")
    assert document["status"] == "ok"
    assert "how far patterns may go was not looked at" in document["lifecycle"]["problem"]
    assert damage in document["lifecycle"]["problem"]
    assert damage in command("sync")
    assert damage in command("policy", "list", code=2)
    findings = {one["check"]: one for one in command.json("doctor", code=2)}
    assert (findings["policy"]["ok"], damage in findings["policy"]["detail"]) == (False, True)


# -- what others say, and what came of it --------------------------------------------------------------------------


def disputed(*labs: str) -> FeedbackOf:
    """The forum's feedback on every pattern version: these labs call it a false positive."""
    disputed_by = frozenset(labs)

    def feedback(session: Session, now: datetime) -> dict[str, Feedback]:
        entries = [one.entry for one in session.store.versions(type="pattern", newest_only=True)]
        return {entry: Feedback(entry, disputed_by=disputed_by) for entry in entries}

    return feedback


def test_disputes_demote_and_retire_and_only_a_person_takes_it_up_again(home: Path, command: Command) -> None:
    enforcing(command, home)
    session = Session(Home(home))
    policy, now = read_policy(session.home), session.now
    one = disputed("member--x")
    two = disputed("member--x", "member--y")
    [change] = advance(session, policy, now, feedback=one)
    assert (change.after, change.why[0].setting) == (Stage.SHADOW, "disputes.demote")
    [change] = advance(session, policy, now, feedback=two)
    assert (change.after, change.why[0].setting) == (Stage.RETIRED, "disputes.retire")
    assert advance(session, policy, now) == []  # the disputes were taken back
    with pytest.raises(InvalidInput, match="still so: 2 labs call"):
        resume(session, policy, now, PATTERN, feedback=two)
    assert "policy resume" in command("policy", "explain", PATTERN)
    assert command.json("policy", "resume", PATTERN) == {"resumed": [PATTERN], "held_by": {PATTERN: []}}
    assert command.json("sync")["lifecycle"]["promoted"][0]["to"] == "enforce"
    assert "neither halted nor retired" in command("policy", "resume", PATTERN, code=2)


def test_wrong_decisions_halt_a_pattern_until_a_person_resumes_it(home: Path, command: Command) -> None:
    enforcing(command, home)
    session = Session(Home(home))
    policy, now = read_policy(session.home), session.now
    assert advance(session, policy, now, outcomes=lambda _: (1_000, 5)) == []
    [change] = advance(session, policy, now, outcomes=lambda _: (1_000, 11))
    assert (change.before, change.after) == (Stage.ENFORCE, Stage.FLAG)
    assert change.is_demotion
    assert "11 of 1,000 decisions were wrong; the budget is 1 %" in change.why[0].text
    assert command.json("sync")["lifecycle"]["promoted"] == []
    assert "11 of 1,000 decisions were wrong (1.1 %)" in command("policy", "explain", PATTERN)
    assert "say which pattern, or --all" in command("policy", "resume", code=2)
    assert [one.id for one in resume(session, policy, now, PATTERN, outcomes=lambda _: (1_000, 11))] == [PATTERN]
    [change] = advance(session, policy, now, outcomes=lambda _: (1_200, 11))
    assert (change.after, change.share_after) == (Stage.ENFORCE, 1)


def test_resume_names_what_still_holds_a_pattern(home: Path, command: Command) -> None:
    enforcing(command, home)
    session = Session(Home(home))
    policy, now = read_policy(session.home), session.now
    advance(session, policy, now, feedback=disputed("member--x", "member--y"))
    command("policy", "stop", "An outage", "--by", "Ada")
    (home / "policy.toml").write_text(QUICK.replace("endorsements = 0", "endorsements = 2"))
    told = command("policy", "resume", PATTERN)
    assert "may climb again" not in told
    assert "is still held by" in told
    assert "Ada stopped everything" in told
    assert "all is still stopped, by Ada" in command("policy", "resume", "--all")


def test_the_total_budget_halts_everything_until_a_person_resumes_it(home: Path, command: Command) -> None:
    enforcing(command, home)
    session = Session(Home(home))
    policy, now = read_policy(session.home), session.now
    [change] = advance(session, policy, now, outcomes=lambda _: (1_000, 6))
    assert (change.after, change.why[0].setting) == (Stage.FLAG, "false_positives.total_budget")
    assert advance(session, policy, now + timedelta(days=9), outcomes=lambda _: (1_000, 6)) == []
    assert "6 of 1,000 decisions were wrong" in command.json("policy", "show")["halted"]
    assert "all enforcement was halted on" in command("policy", "explain", PATTERN)
    assert command.json("policy", "resume", "--all") == {"resumed": [], "held_by": {}}
    assert command.json("policy", "show")["halted"] is None
    assert command.json("sync")["lifecycle"]["promoted"][0]["to"] == "enforce"


def test_requests_seen_in_shadow_are_counted_from_the_runs_of_detect(home: Path, command: Command) -> None:
    (home / "policy.toml").write_text(QUICK.replace("hours = 0\n[flag]", "hours = 0\nrequests = 500\n[flag]"))
    backtest(command, home.parent)
    assert command.json("sync")["lifecycle"]["promoted"][0]["to"] == "shadow"
    log = home.parent / "requests.jsonl"
    command("detect", log)
    assert "`detect` looked at 401 of 500 requests" in command("policy", "explain", PATTERN)
    command("detect", log)
    assert command.json("sync")["lifecycle"]["promoted"][0]["to"] == "enforce"


# -- the file of what is remembered --------------------------------------------------------------------------------


def test_what_is_remembered_is_for_its_owner_alone_and_of_one_version(home: Path, command: Command) -> None:
    enforcing(command, home)
    path = home / "lifecycle.sqlite"
    assert {stat.S_IMODE(one.stat().st_mode) for one in home.glob("lifecycle.sqlite*")} == {0o600}
    store = LifecycleStore(path)
    [kept] = store.backtests().values()
    assert (kept.requests, kept.matched, kept.legitimate, kept.wrong, kept.could_match) == (401, 1, 400, 0, True)
    store._database.execute("PRAGMA user_version = 99")
    store.close()
    assert "later Stillwatch" in command("policy", "list", code=2)


def test_a_lost_file_only_means_that_patterns_climb_anew(home: Path, command: Command) -> None:
    enforcing(command, home)
    for path in home.glob("lifecycle.sqlite*"):
        path.unlink()
    assert command.json("policy", "explain", PATTERN)["stage"] == "received"
    assert command.json("sync")["lifecycle"]["promoted"][0]["to"] == "shadow"  # the backtest is lost too
