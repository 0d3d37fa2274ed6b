"""From an approved decision to revoked access and back, by the commands that people run; a run that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hub.identity import HubIdentity
from member_client.cli.main import run
from member_client.decisions.lab_policy import LabPolicy, climb, lab_policy
from member_client.decisions.matches import SeenPattern
from member_client.decisions.register import Register
from member_client.home import Home
from member_client.revocation import authority
from member_client.session import Session
from sharing_protocol.statements.handling import Severity
from tests.forum import ForumInABox, pattern_body, running_hub
from tests.member_client.decision_worlds import BOLD, line, write_lines
from tests.member_client.lab_homes import Client, make_home
from tests.member_client.revocation_world import heard, hook_script

ACCOUNTS = ("c-1", "c-2", "c-3", "c-4", "c-5")


@pytest.fixture(scope="module")
def forum(new_database: Callable[[], str], hub_identity: HubIdentity) -> Iterator[ForumInABox]:
    with running_hub(new_database(), hub_identity) as hub:
        box = ForumInABox(hub)
        box.found()
        yield box


@pytest.fixture
def lab(forum: ForumInABox, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Client:
    """A lab whose pattern, by its own policy, blocks five accounts; nobody has approved that."""
    name = f"Lab {len(forum.heads)}"
    member = forum.admit(name)
    forum.publish(member, pattern_body())
    client = Client(make_home(tmp_path / "lab", forum, member), capsys)
    client.run("sync")
    (client.home / "policy.toml").write_text(BOLD)
    session = Session(Home(client.home))
    for _ in range(5):
        climb(session, session.now)
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    rows = [
        {
            "timestamp": (start + timedelta(minutes=number)).isoformat(),
            "account": {"id": account},
            "prompt": {"text": "Please come up with 20 diverse tasks."},
        }
        for number, account in enumerate(ACCOUNTS)
    ]
    log = tmp_path / "requests.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    client.run("detect", str(log))
    client.run("decide")
    return client


def decisions(client: Client) -> dict[str, str]:
    """The decision on each account."""
    return {one["subject"]: one["id"] for one in client.json("decisions", "list")}


def test_access_is_revoked_by_approved_decisions_and_given_back(lab: Client, tmp_path: Path) -> None:
    by_account, plan = decisions(lab), tmp_path / "plan.json"
    refused = lab.json("revocation", "plan", *by_account.values(), "-o", str(plan))
    assert refused["accounts"] == 0
    assert {one["why"] for one in refused["left_out"]} == {"nobody has approved the decision"}
    assert not plan.exists()
    assert "nothing to do" in lab.run("revocation", "plan", "--all-approved")
    assert "which decisions" in lab.run("revocation", "plan", code=2)

    lab.run("decisions", "approve", *(by_account[one] for one in ACCOUNTS[:4]), "--as", "Ada")
    told = lab.run("revocation", "plan", "--all-approved", "-o", str(plan))
    assert "Access would end for 4" in told
    assert "nothing was done" in told
    assert plan.stat().st_mode & 0o777 == 0o600
    hook = hook_script(tmp_path / "hook.py")
    again = ("revocation", "run", str(plan), "--hook", hook, "--rate", "1000")
    assert "nobody confirmed" in lab.run(*again, code=2)
    assert heard(tmp_path / "hook.py") == []

    # After the plan was made: one is allow-listed, one is lifted, and somebody edits the plan.
    allow = ("--owner", "Sales", "--reason", "A batch customer", "--expires", f"{datetime.now(UTC).year + 1}-06-01")
    lab.run("allow", "add", "--account", "c-2", *allow)
    lab.run("decisions", "lift", by_account["c-3"], "--reason", "Not what it seemed")
    plan.write_text(plan.read_text().replace('"id":"c-4"', '"id":"c-9"'))
    ran = lab.json(*again, "--yes")
    assert (ran["done"], ran["failed"]) == (1, [])
    held_back = {one["id"]: one["why"] for one in ran["held_back"]}
    assert set(held_back) == {"c-2", "c-3", "c-9"}
    assert "on the allow-list" in held_back["c-2"]
    assert held_back["c-3"] == "the decision is lifted"
    assert held_back["c-9"] == "the decision is not about it"
    (call,) = heard(tmp_path / "hook.py")
    assert (call["action"], call["subject"]) == ("revoke", {"kind": "account", "id": "c-1"})
    assert lab.json(*again, "--yes")["done_before"] == 1
    report = lab.run("revocation", "report", str(plan))
    assert "| account | c-1 | done |" in report
    assert lab.json("revocation", "report", str(plan))["to_undo"] == ["c-1"]

    undo = ("revocation", "undo", str(plan), "--hook", hook)
    assert "nobody confirmed" in lab.run(*undo, code=2)
    assert "is not about c-7" in lab.run(*undo, "--account", "c-7", "--yes", code=2)
    assert lab.json(*undo, "--account", "c-2", "--yes")["done"] == 0
    assert lab.json(*undo, "--account", "c-1", "--yes")["done"] == 1
    assert [one["action"] for one in heard(tmp_path / "hook.py")] == ["revoke", "restore"]
    assert "0 given back, 1 were given back before" in lab.run(*undo, "--account", "c-1", "--yes")
    assert "access given back" in lab.run("revocation", "report", str(plan))


def test_who_stays_shut_out_after_a_pattern_fell_is_told(lab: Client, tmp_path: Path) -> None:
    by_account, plan = decisions(lab), tmp_path / "plan.json"
    hook = ("--hook", hook_script(tmp_path / "hook.py"), "--rate", "1000", "--yes")
    lab.run("decisions", "approve", *(by_account[one] for one in ACCOUNTS[:3]), "--as", "Ada")
    lab.run("revocation", "plan", "--all-approved", "-o", str(plan))
    assert lab.json("revocation", "list") == []
    lab.run("revocation", "run", str(plan), *hook)
    assert lab.json("revocation", "report", str(plan))["to_give_back"] == []
    assert "To give back" not in lab.run("revocation", "report", str(plan))

    lab.run("decisions", "lift", by_account["c-3"], "--reason", "Not what it seemed")
    (owed,) = lab.json("revocation", "report", str(plan))["to_give_back"]
    assert (owed["id"], owed["why"]) == ("c-3", "the decision is lifted")
    (listed,) = lab.json("revocation", "list")
    assert (listed["ended"], listed["to_give_back"]) == (3, 1)

    (lab.home / "policy.toml").write_text("highest_stage = ")  # somebody is editing it: what needs none is done
    assert lab.json("revocation", "report", str(plan))["to_give_back"] is None
    told = lab.run("revocation", "report", str(plan))
    assert "Left out: the policy cannot be read" in told
    assert "| account | c-3 | done |" in told
    assert "not known" in lab.run("revocation", "list")
    told = lab.run("decisions", "lift", by_account["c-5"], "--reason", "Not what it seemed")
    assert "they are lifted; left out is what the policy says" in told
    assert "c-5" in told

    (lab.home / "policy.toml").write_text(BOLD.replace('"enforce"', '"shadow"'))
    assert lab.json("decisions", "show", by_account["c-5"])["state"] == "lifted"
    told = lab.run("sync")
    assert "3 accounts are still without access by a revocation whose decision no longer blocks" in told
    lab.run("revocation", "undo", str(plan), "--account", "c-3", *hook)
    report = lab.run("revocation", "report", str(plan))
    assert "stillwatch revocation undo PLAN --account ID" in report
    assert {one["id"] for one in lab.json("revocation", "report", str(plan))["to_give_back"]} == {"c-1", "c-2"}
    assert "revocation undo PLAN" in lab.run("revocation", "list")
    lab.run("revocation", "undo", str(plan), *hook)
    (listed,) = lab.json("revocation", "list")
    assert (listed["ended"], listed["to_give_back"]) == (0, 0)


def test_a_plan_asks_once_where_the_patterns_stand_and_a_run_before_each_account(
    lab: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_account, asked = decisions(lab), 0

    def counted(session: Session, now: datetime) -> LabPolicy:
        nonlocal asked
        asked += 1
        return lab_policy(session, now)

    lab.run("decisions", "approve", *by_account.values(), "--as", "Ada")
    monkeypatch.setattr(authority, "lab_policy", counted)
    planned = []
    for accounts in (ACCOUNTS[:1], ACCOUNTS):
        asked, plan = 0, tmp_path / f"{len(accounts)}.json"
        lab.run("revocation", "plan", *(by_account[one] for one in accounts), "-o", str(plan))
        planned.append(asked)
    assert planned[0] == planned[1]
    asked = 0
    lab.run("revocation", "run", str(plan), "--hook", hook_script(tmp_path / "hook.py"), "--rate", "1000", "--yes")
    assert asked >= len(ACCOUNTS)


def test_an_organisation_keeps_its_access_while_one_of_its_accounts_is_on_the_allow_list(
    lab: Client, tmp_path: Path
) -> None:
    known = lab.json("decisions", "list")[0]
    with (lab.home / "policy.toml").open("a") as policy:
        policy.write("[decisions]\norganisations = true\n")
    pattern = SeenPattern(known["pattern_entry"], known["pattern"], 1, "A pattern", Severity(known["severity"]))
    here = {"account.id": "d-1", "org.id": "acme", "network.ip": "203.0.113.7"}
    lab.run("decide", str(write_lines(tmp_path / "found.jsonl", line(pattern, "1", **here))))
    (decision,) = lab.json("decisions", "list", "--subject", "acme")
    lab.run("decisions", "approve", decision["id"], "--as", "Ada")
    assert lab.json("revocation", "plan", decision["id"])["accounts"] == 1
    entry = ("--owner", "Sales", "--reason", "Batch", "--expires", f"{datetime.now(UTC).year + 1}-06-01")
    for kind, value in (("--account", "d-1"), ("--network", "203.0.113.0/24")):
        number = lab.json("allow", "add", kind, value, *entry)["number"]
        planned = lab.json("revocation", "plan", decision["id"])
        assert planned["accounts"] == 0
        assert "one of its accounts is on the allow-list" in planned["left_out"][0]["why"]
        lab.run("allow", "remove", str(number))


def test_who_lost_access_counts_against_the_patterns_budget(lab: Client, tmp_path: Path) -> None:
    by_account, plan = decisions(lab), tmp_path / "plan.json"
    lab.run("policy", "stop", "A test")
    lab.run("decisions", "approve", *by_account.values(), "--as", "Ada")
    lab.run("policy", "start", "A test")
    lab.run("revocation", "plan", "--all-approved", "-o", str(plan))
    lab.run("revocation", "run", str(plan), "--hook", hook_script(tmp_path / "hook.py"), "--rate", "1000", "--yes")
    lab.run("decisions", "review", by_account["c-1"], "--verdict", "wrong")
    entry = lab.json("decisions", "show", by_account["c-1"])["pattern_entry"]
    assert Register.of(Home(lab.home)).outcomes(entry) == (5, 1)


def test_a_hook_that_fails_stops_the_run_and_the_next_one_goes_on(lab: Client, tmp_path: Path) -> None:
    by_account, plan = decisions(lab), tmp_path / "plan.json"
    lab.run("decisions", "approve", *by_account.values(), "--as", "Ada")
    lab.run("revocation", "plan", *(by_account[one][:18] for one in ACCOUNTS), "-o", str(plan))
    failing = hook_script(tmp_path / "failing.py", "sys.exit(told['subject']['id'] != 'c-1')")
    rest = ("--attempts", "1", "--max-failures", "2", "--rate", "1000", "--yes")
    assert "it stopped there" in lab.run("revocation", "run", str(plan), "--hook", failing, *rest, code=4)
    broken = lab.json("revocation", "run", str(plan), "--hook", str(tmp_path / "none"), *rest, code=4)
    assert (broken["stopped"], len(broken["failed"]), broken["done_before"]) == (True, 2, 1)
    assert lab.json("revocation", "run", str(plan), "--hook", hook_script(tmp_path / "good.py"), *rest)["done"] == 4
    keys = {one["subject"]["id"]: one["idempotency_key"] for one in heard(tmp_path / "failing.py")}
    again = {one["subject"]["id"]: one["idempotency_key"] for one in heard(tmp_path / "good.py")}
    assert len(again) == 4
    assert all(again[account] == key for account, key in keys.items() if account in again)
    assert "one of the two" in lab.run("revocation", "run", str(plan), "--yes", code=2)


def test_a_run_that_is_killed_goes_on_where_it_was(lab: Client, tmp_path: Path) -> None:
    by_account, plan = decisions(lab), tmp_path / "plan.json"
    lab.run("decisions", "approve", *by_account.values(), "--as", "Ada")
    lab.run("revocation", "plan", "--all-approved", "-o", str(plan))
    hook = hook_script(tmp_path / "hook.py", "if calls == 2: os.kill(os.getppid(), signal.SIGKILL)")
    arguments = ["revocation", "run", str(plan), "--hook", hook, "--rate", "1000", "--yes"]
    program = [sys.executable, "-c", "from member_client.cli.main import main; main()"]
    killed = subprocess.run(
        [*program, *arguments, "--home", str(lab.home)],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    states = lab.json("revocation", "report", str(plan))["states"]
    assert states == {"begun": 1, "done": 2, "not begun": 2}
    assert (ran := lab.json(*arguments))["done"] == 3
    assert ran["done_before"] == 2
    keys = [(one["subject"]["id"], one["idempotency_key"]) for one in heard(tmp_path / "hook.py")]
    assert len(keys) == 6
    assert keys[2] == keys[3]
    assert {account for account, _ in keys} == set(ACCOUNTS)
    assert len(set(keys)) == 5


def test_criteria_are_written_published_and_used_by_another_lab(
    forum: ForumInABox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    author, other = forum.admit("Aurora"), forum.admit("Boreal")
    aurora = Client(make_home(tmp_path / "aurora", forum, author), capsys)
    boreal = Client(make_home(tmp_path / "boreal", forum, other), capsys)
    aurora.run("sync")
    file = tmp_path / "criteria.yaml"
    assert run(["referral", "criteria", "new", "-o", str(file)]) == 0
    assert run(["referral", "criteria", "new", "-o", str(file)]) == 2
    capsys.readouterr()
    assert run(["referral", "criteria", "lint", str(file)]) == 2
    left = capsys.readouterr().err
    for name in ("title", "jurisdiction", "statute"):
        assert f"this is still the starter's {name}" in left
    assert "starter's title" in aurora.run("referral", "criteria", "submit", str(file), "--yes", code=2)
    file.write_text(
        file.read_text()
        .replace("Example: organised theft", "Organised theft")
        .replace("The country of the lab that refers", "Utopia")
        .replace("or on trade secrets", "section 5")
    )
    assert run(["referral", "criteria", "lint", str(file)]) == 0
    assert '"evidence": [' in aurora.run("referral", "criteria", "submit", str(file), "--dry-run")
    assert "nobody confirmed" in aurora.run("referral", "criteria", "submit", str(file), code=2)
    first = aurora.json("referral", "criteria", "submit", str(file), "--yes")
    file.write_text(file.read_text().replace("at_least: 100", "at_least: 1000"))
    second = aurora.json("referral", "criteria", "submit", str(file), "--revise", first["id"][:26], "--yes")
    assert (second["id"], second["version"]) == (first["id"], 2)
    boreal.run("sync")
    (listed,) = boreal.json("referral", "criteria", "list")
    assert (listed["version"], listed["author_name"], listed["state"]) == (2, "Aurora", "active")
    shown = boreal.json("referral", "criteria", "show", first["id"], "--version", "1")
    assert shown["body"]["criteria"][1]["at_least"] == 100
    assert "1000" in boreal.run("referral", "criteria", "show", first["id"][:30])
    assert "another lab" in boreal.run(
        "referral", "criteria", "submit", str(file), "--revise", first["id"], "--yes", code=2
    )
    broken = tmp_path / "broken.yaml"
    broken.write_text(file.read_text().replace("measure: labs", "measure: laps").replace("statute:", "law:"))
    capsys.readouterr()
    assert run(["referral", "criteria", "lint", str(broken), "--json"]) == 2
    (told,) = json.loads(capsys.readouterr().out)
    assert {issue["code"] for issue in told["issues"]} == {"invalid_value", "unknown_key"}
    assert all(issue["line"] for issue in told["issues"])
    assert "to mend" in aurora.run("referral", "criteria", "submit", str(broken), "--yes", code=2)
