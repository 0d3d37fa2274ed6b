"""From a run of `detect` to what is in effect, by the commands that people run."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hub.identity import HubIdentity
from member_client.decisions.in_effect import snapshot
from member_client.decisions.lab_policy import climb, lab_policy
from member_client.decisions.matches import SeenPattern
from member_client.decisions.register import Register
from member_client.home import Home
from member_client.session import Session
from sharing_protocol.statements.handling import Severity
from tests.forum import ForumInABox, Lab, pattern_body, running_hub, withdrawal_body
from tests.member_client.decision_worlds import BOLD, gathered, make
from tests.member_client.lab_homes import Client, make_home

YESTERDAY = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)
BOOTSTRAP = "Please come up with 20 diverse tasks."
"""A policy under which a pattern enforces at once."""
UNAPPROVED = "[decisions.approvals]\nblock = 0\n"
NEXT_YEAR = f"{datetime.now(UTC).year + 1}-06-01"


@pytest.fixture(scope="module")
def forum(new_database: Callable[[], str], hub_identity: HubIdentity) -> Iterator[tuple[ForumInABox, Lab, Lab]]:
    with running_hub(new_database(), hub_identity) as hub:
        box = ForumInABox(hub)
        box.found()
        aurora, boreal = box.admit("Aurora"), box.admit("Boreal")
        yield box, aurora, boreal


@pytest.fixture
def pattern(forum: tuple[ForumInABox, Lab, Lab]) -> Iterator[str]:
    """A pattern of Aurora's, withdrawn when the test is over."""
    box, aurora, _ = forum
    record_id, _ = box.publish(aurora, pattern_body())
    yield record_id
    box.submit(box.record(aurora, withdrawal_body(box.reference(record_id))), aurora.analyst)


@pytest.fixture
def boreal(
    forum: tuple[ForumInABox, Lab, Lab], pattern: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Client:
    box, _, lab = forum
    client = Client(make_home(tmp_path / "boreal", box, lab), capsys)
    client.run("sync")
    return client


def log_of(path: Path, *accounts: str, minute: int = 0) -> Path:
    """One bootstrapping request an account."""
    rows = [
        json.dumps(
            {
                "timestamp": (YESTERDAY + timedelta(minutes=minute + n)).isoformat(),
                "account": {"id": account},
                "prompt": {"text": BOOTSTRAP},
            }
        )
        for n, account in enumerate(accounts)
    ]
    path.write_text("\n".join(rows) + "\n")
    return path


def found_in(client: Client, log: Path) -> str:
    """The name of a run over this log."""
    run: str = client.json("detect", str(log))["run"]
    return run


def be_bold(client: Client, more: str = "") -> None:
    """Let this lab's patterns enforce at once."""
    (client.home / "policy.toml").write_text(BOLD + more)
    session = Session(Home(client.home))
    for _ in range(5):
        climb(session, session.now)


def in_effect(client: Client) -> dict[str, str]:
    session = Session(Home(client.home))
    return {row.id: row.action.value for row in snapshot(session, session.now).rows}


def one(client: Client, subject: str) -> dict[str, Any]:
    (found,) = client.json("decisions", "list", "--subject", subject)
    shown: dict[str, Any] = client.json("decisions", "show", found["id"])
    return shown


def test_a_fresh_install_only_observes(boreal: Client, tmp_path: Path) -> None:
    assert "run `stillwatch detect` first" in boreal.run("decide", code=2)
    run = found_in(boreal, log_of(tmp_path / "a.jsonl", "c-1", "c-2", "c-1"))
    dry = boreal.json("decide", "--dry-run")
    assert boreal.json("decisions", "list") == []
    made = boreal.json("decide")
    assert dry == made | {"dry_run": True}
    assert (made["runs"], made["matches"], made["new"]) == ([run], 3, 2)
    assert "every run was decided before" in boreal.run("decide")
    assert in_effect(boreal) == {}
    shown = one(boreal, "c-1")
    assert (shown["matches"], len(shown["detections"]), shown["in_effect"]) == (2, 2, "observe")
    assert shown["author"] == "Aurora"
    assert any("shadow" in line for line in shown["held_by"])
    assert "HELD" in boreal.run("decisions", "show", shown["id"][:18])
    assert stat.S_IMODE((boreal.home / "decisions.sqlite").stat().st_mode) == 0o600


def test_deciding_again_adds_nothing_and_new_matches_extend(boreal: Client, tmp_path: Path) -> None:
    log = log_of(tmp_path / "a.jsonl", "c-1", "c-2")
    run = found_in(boreal, log)
    boreal.run("decide")
    before = boreal.json("decisions", "list")
    again = boreal.json("decide", run)
    assert (again["new"], again["extended"], again["unchanged"]) == (0, 0, 2)
    found_in(boreal, log)  # another run that finds the same
    assert boreal.json("decide")["unchanged"] == 2
    assert boreal.json("decisions", "list") == before
    found_in(boreal, log_of(tmp_path / "b.jsonl", "c-2", minute=30))
    assert boreal.json("decide")["extended"] == 1
    shown = one(boreal, "c-2")
    assert shown["matches"] == 2
    assert shown["last"] > before[0]["last"]
    assert [event["what"] for event in shown["history"]] == ["proposed", "extended"]


def test_a_run_by_a_clock_that_ran_ahead_hides_none_that_come_later(boreal: Client, tmp_path: Path) -> None:
    run, ahead = found_in(boreal, log_of(tmp_path / "a.jsonl", "c-1")), "20990101T000000-000000"
    for path in (boreal.home / "detections").glob(f"{run}.*"):
        path.with_name(path.name.replace(run, ahead)).write_text(path.read_text().replace(run, ahead))
        path.unlink()
    assert boreal.json("decide")["runs"] == [ahead]
    for name in ("c-2", "c-3"):
        later = found_in(boreal, log_of(tmp_path / f"{name}.jsonl", name))
        assert boreal.json("decide")["runs"] == [later]
    assert boreal.json("decide")["runs"] == []


def test_a_block_waits_for_as_many_names_as_the_policy_asks_for(boreal: Client, tmp_path: Path) -> None:
    be_bold(boreal, "[decisions.approvals]\nblock = 2\n")
    found_in(boreal, log_of(tmp_path / "a.jsonl", "c-1"))
    assert boreal.json("decide")["unapproved"] == 1
    decision = one(boreal, "c-1")["id"]
    assert in_effect(boreal) == {}
    boreal.run("decisions", "approve", decision, "--as", "Ada Lovelace")
    assert "1 more needed" in boreal.run("decisions", "approve", decision, "--as", " ada  LOVELACE ")
    assert one(boreal, "c-1")["state"] == "proposed"
    (approved,) = boreal.json("decisions", "approve", decision, "--as", "Ben", "--note", "seen")
    assert (approved["state"], approved["in_effect"]) == ("in force", "block")
    assert in_effect(boreal) == {"c-1": "block"}
    shown = one(boreal, "c-1")
    assert shown["approved_by"] == ["Ada Lovelace", "Ben"]
    assert any("line" in reason and "decisions.approvals.block" in reason for reason in shown["policy_reasons"])
    be_bold(boreal, "[decisions.approvals]\nblock = 3\n")
    assert in_effect(boreal) == {}
    be_bold(boreal, "[decisions.actions]\nhigh = 'flag'\n")
    assert in_effect(boreal) == {"c-1": "flag"}


def test_approving_says_under_which_name_and_why_it_is_only_observed(
    boreal: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "ana")
    be_bold(boreal)
    found_in(boreal, log_of(tmp_path / "a.jsonl", "c-1"))
    boreal.run("decide")
    decision = one(boreal, "c-1")["id"]
    boreal.run("policy", "stop", "An outage", "--by", "Ada")
    said = boreal.run("decisions", "approve", decision)
    assert "approved as ana" in said
    assert "in effect: observe" in said
    assert "Ada stopped everything" in said
    assert one(boreal, "c-1")["approved_by"] == ["ana"]
    boreal.run("policy", "start", "It is over")
    said = boreal.run("decisions", "approve", decision, "--as", "Ben")
    assert "approved as" not in said
    assert "stopped" not in said


def cluster_of(client: Client, pattern: str, name: str, *accounts: str) -> None:
    """Let there be a match on a cluster of these accounts."""
    head = Session(Home(client.home)).store.head(pattern)
    assert head is not None
    match = gathered(SeenPattern(head.entry, pattern, head.version, "A title", Severity.HIGH), "k", [name], accounts)
    session = Session(Home(client.home))
    with closing(Register.of(session.home)) as register:
        make(register, match, rules=lab_policy(session, session.now).rules, now=session.now)


def test_accounts_that_join_a_cluster_wait_for_another_approval(boreal: Client, pattern: str, tmp_path: Path) -> None:
    be_bold(boreal)
    cluster_of(boreal, pattern, "1", "a", "b")
    decision = one(boreal, "k")["id"]
    boreal.run("decisions", "approve", decision, "--as", "Ada")
    cluster_of(boreal, pattern, "2", "b", "c", "d")
    assert in_effect(boreal) == {"a": "block", "b": "block"}
    shown = one(boreal, "c")
    assert (shown["state"], shown["in_effect"], shown["waiting"]) == ("in force", "block", ["c", "d"])
    assert "2 accounts wait" in " ".join(boreal.run("decisions", "list").split())
    assert "waiting for approval, 2 of its accounts: c, d" in boreal.run("decisions", "show", decision)
    planned = boreal.json("revocation", "plan", decision)
    assert [target["id"] for target in planned["targets"]] == ["a", "b"]
    assert {left["id"]: "joined the cluster after" in left["why"] for left in planned["left_out"]} == {
        "c": True,
        "d": True,
    }
    boreal.run("decisions", "approve", decision, "--as", "Ada")
    assert in_effect(boreal) == dict.fromkeys("abcd", "block")
    assert one(boreal, "k")["history"][-1]["why"] == "block 4 accounts"


def test_all_decisions_by_a_pattern_are_approved_reviewed_and_lifted_at_once(
    boreal: Client, pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_bold(boreal)
    cluster_of(boreal, pattern, "1", "a", "b")
    found_in(boreal, log_of(tmp_path / "a.jsonl", "c-1", "c-2", "c-3"))
    boreal.run("decide")
    lifted = one(boreal, "c-3")["id"]
    boreal.run("decisions", "lift", lifted, "--reason", "x")
    approve = ("decisions", "approve", "--pattern", pattern, "--as", "Ada")
    asked = " ".join(boreal.run(*approve, code=2).split())
    assert "nobody confirmed" in asked
    assert "account c-1" in asked
    assert "cluster k (2 accounts)" in asked
    assert in_effect(boreal) == {}
    (first,) = boreal.json(*approve, "--yes", "--subject", "c-1")
    assert first["subject"] == "c-1"
    assert len(boreal.json(*approve, "--yes", "--limit", "2")) == 2
    assert in_effect(boreal) == {"c-1": "block", "c-2": "block"}
    # what changes between the look and the answer is not acted upon
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)

    def confirm(_: str) -> bool:
        cluster_of(boreal, pattern, "2", "c")
        return True

    monkeypatch.setattr("typer.confirm", confirm)
    assert "changed after it was shown" in boreal.run(*approve, code=2)
    assert in_effect(boreal) == {"c-1": "block", "c-2": "block"}
    monkeypatch.setattr("typer.confirm", lambda _: True)
    boreal.run(*approve)
    assert in_effect(boreal) == dict.fromkeys(["a", "b", "c", "c-1", "c-2"], "block")
    boreal.run("decisions", "review", "--pattern", pattern, "--verdict", "right", "--yes")
    assert (one(boreal, "c-1")["review"], one(boreal, "c-3")["review"]) == ("right", None)
    monkeypatch.setattr("typer.confirm", lambda _: False)
    assert "nothing was done" in boreal.run("decisions", "lift", "--pattern", pattern, "--reason", "x", code=2)
    assert len(boreal.json("decisions", "lift", "--pattern", pattern, "--reason", "x", "--yes")) == 3
    assert in_effect(boreal) == {}
    assert "proposed or in force" in boreal.run(*approve, "--yes", code=2)
    for wrong in ((), (lifted, "--pattern", pattern), (lifted, "--limit", "1")):
        boreal.run("decisions", "approve", *wrong, code=2)


def test_what_the_stop_switch_a_withdrawal_and_a_lift_do(
    forum: tuple[ForumInABox, Lab, Lab], pattern: str, boreal: Client, tmp_path: Path
) -> None:
    box, aurora, _ = forum
    be_bold(boreal, UNAPPROVED)
    found_in(boreal, log_of(tmp_path / "a.jsonl", "c-1", "c-2"))
    boreal.run("decide")
    assert in_effect(boreal) == {"c-1": "block", "c-2": "block"}
    (boreal.home / "policy.toml").write_text("stop = true\n" + BOLD + UNAPPROVED)
    assert in_effect(boreal) == {}
    (boreal.home / "policy.toml").write_text(BOLD + UNAPPROVED)
    assert in_effect(boreal) == {"c-1": "block", "c-2": "block"}
    decision = one(boreal, "c-1")["id"]
    boreal.run("decisions", "lift", decision, "--reason", "A batch customer")
    assert in_effect(boreal) == {"c-2": "block"}
    assert "only what is proposed or in force" in boreal.run("decisions", "approve", decision, code=2)
    box.log(box.record(aurora, withdrawal_body(box.reference(pattern))), aurora.analyst)
    boreal.run("sync")
    assert in_effect(boreal) == {}
    assert one(boreal, "c-2")["in_effect"] == "observe"


def test_what_was_lifted_comes_back_only_for_what_began_after_it(boreal: Client, tmp_path: Path) -> None:
    be_bold(boreal, UNAPPROVED)
    found_in(boreal, log_of(tmp_path / "a.jsonl", "c-1"))
    boreal.run("decide")
    decision = one(boreal, "c-1")["id"]
    boreal.run("decisions", "review", decision, "--verdict", "wrong")
    boreal.run("decisions", "lift", decision, "--reason", "Mistaken")
    found_in(boreal, log_of(tmp_path / "b.jsonl", "c-1", minute=5))
    assert boreal.json("decide")["left_alone"] == 1
    later = tmp_path / "c.jsonl"
    tomorrow = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    later.write_text(json.dumps({"timestamp": tomorrow, "account.id": "c-1", "prompt.text": BOOTSTRAP}) + "\n")
    found_in(boreal, later)
    assert boreal.json("decide")["new"] == 1
    newest, oldest = boreal.json("decisions", "list", "--subject", "c-1")
    assert (oldest["id"], oldest["state"]) == (decision, "lifted")
    assert (newest["follows"], newest["state"], newest["needs_approvals"]) == (decision, "proposed", 1)
    assert in_effect(boreal) == {}


def test_the_allow_list_always_wins(boreal: Client, tmp_path: Path) -> None:
    be_bold(boreal, UNAPPROVED)
    until = ("--owner", "Sales", "--reason", "Batch customer", "--expires", NEXT_YEAR)
    entry = boreal.json("allow", "add", "--account", "c-1", *until)
    found_in(boreal, log_of(tmp_path / "a.jsonl", "c-1", "c-2"))
    made = boreal.json("decide")
    assert (made["allow_listed"], made["actions"]) == (1, {"observe": 1, "block": 1})
    shown = one(boreal, "c-1")
    assert shown["action"] == "observe"
    assert f"allow-list entry {entry['number']}" in " ".join(shown["policy_reasons"])
    assert in_effect(boreal) == {"c-2": "block"}
    later = boreal.json("allow", "add", "--account", "c-2", *until)
    assert in_effect(boreal) == {}
    assert any("allow-list" in line for line in one(boreal, "c-2")["held_by"])
    boreal.run("allow", "remove", str(later["number"]), "--reason", "Over")
    assert in_effect(boreal) == {"c-2": "block"}
    assert "there is no entry" in boreal.run("allow", "remove", str(later["number"]), code=2)


def test_allow_list_entries_are_checked_warned_of_and_imported(boreal: Client, tmp_path: Path) -> None:
    owner = ("--owner", "Sales", "--reason", "Batch")
    for wrong, said in (
        (("--network", "203.0.113.1/24", "--expires", NEXT_YEAR), "is not a network"),
        (("--account", " ", "--expires", NEXT_YEAR), "is not an account id"),
        (("--account", "c", "--expires", "2020-01-01"), "is over"),
        (("--account", "c", "--expires", "soon"), "is not a day"),
        (("--account", "c", "--organisation", "o", "--expires", NEXT_YEAR), "name one"),
    ):
        assert said in boreal.run("allow", "add", *owner, *wrong, code=2)
    soon = f"{datetime.now(UTC) + timedelta(days=5):%Y-%m-%d}"
    boreal.run("allow", "add", "--network", "2001:DB8::/32", *owner, "--expires", soon)
    assert f"ends on {soon}" in boreal.run("allow", "list")
    table = tmp_path / "allow.csv"
    table.write_text(
        f"kind,id,owner,reason,expires\naccount,c-1,Sales,Batch,{NEXT_YEAR}\nnetwork,2001:db8::/32,Net,,{NEXT_YEAR}\n"
    )
    assert "allow.csv:3: a reason has" in boreal.run("allow", "import", str(table), code=2)
    assert len(boreal.json("allow", "list")) == 1
    counts = boreal.json("allow", "import", str(table), "--reason", "Ours")
    assert counts == {"added": 1, "changed": 1, "unchanged": 0}
    plain = tmp_path / "legitimate.txt"
    plain.write_text("c-1\nc-7\n")
    counts = boreal.json("allow", "import", str(plain), *owner, "--expires", NEXT_YEAR)
    assert counts == {"added": 1, "changed": 0, "unchanged": 1}
    assert {one["id"] for one in boreal.json("allow", "list")} == {"c-1", "c-7", "2001:db8::/32"}


def test_decisions_are_exported_whole_and_without_formulas(boreal: Client, tmp_path: Path) -> None:
    found_in(boreal, log_of(tmp_path / "a.jsonl", "=1+1", "c-2\u202e"))
    boreal.run("decide")
    out = tmp_path / "out.json"
    boreal.run("decisions", "export", "--output", str(out))
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert {one["subject"] for one in json.loads(out.read_text())} == {"=1+1", "c-2\u202e"}
    rows = list(csv.DictReader(io.StringIO(boreal.run("decisions", "export", "--format", "csv"))))
    assert {row["subject"] for row in rows} == {"'=1+1", "c-2\\u202e"}
    assert "is not a state" in boreal.run("decisions", "list", "--state", "gone", code=2)
    assert "is not an action" in boreal.run("decisions", "list", "--action", "shout", code=2)


# -- appeals -------------------------------------------------------------------------------------------------------


def test_an_upheld_appeal_lifts_counts_and_prepares_an_opinion(boreal: Client, pattern: str, tmp_path: Path) -> None:
    be_bold(boreal, UNAPPROVED)
    found_in(boreal, log_of(tmp_path / "a.jsonl", "c-1", "c-2", "c-3"))
    boreal.run("decide")
    entry = one(boreal, "c-1")["pattern_entry"]
    register = Register.of(Home(boreal.home))
    assert register.outcomes(entry) == (3, 0)
    opened = boreal.json("appeal", "open", "--account", "c-1", "--contact-note", "ring 555, Ms Secret")
    assert "is about the same" in boreal.run("appeal", "open", "--account", "c-1", "--contact-note", "x", code=2)
    assert in_effect(boreal) == {"c-1": "block", "c-2": "block", "c-3": "block"}
    ruled = boreal.json(
        "appeal", "decide", str(opened["number"]), "--upheld", "--reason", "Ms Secret is a customer",
        "--allow-until", NEXT_YEAR,
    )  # fmt: skip
    assert in_effect(boreal) == {"c-2": "block", "c-3": "block"}
    assert [entry["id"] for entry in boreal.json("allow", "list")] == ["c-1"]
    (opinion,) = ruled["opinions"]
    assert opinion["verdict"] == "false_positive"
    assert opinion["pattern"] == {"id": pattern, "version": 1, "entry": entry}
    assert (opinion["measured"]["reviewed"], opinion["measured"]["true_positives"]) == (1, 0)
    assert "Secret" not in json.dumps(opinion)
    assert "c-1" not in json.dumps(opinion)
    assert register.outcomes(entry) == (3, 1)
    (boreal.home / "policy.toml").write_text(BOLD.replace("budget = 1.0", "budget = 0.3") + UNAPPROVED)
    assert in_effect(boreal) == {"c-2": "flag", "c-3": "flag"}, "one of three is over the budget, so enforcement halts"
    be_bold(boreal, UNAPPROVED)
    assert boreal.json("appeal", "list") == []
    again = boreal.json("appeal", "decide", str(opened["number"]), "--upheld", "--reason", "again")
    assert again["appeal"] == ruled["appeal"]
    assert "was upheld" in boreal.run("appeal", "decide", str(opened["number"]), "--rejected", "--reason", "x", code=2)
    asked = boreal.run("appeal", "decide", str(opened["number"]), "--upheld", "--reason", "x", "--publish", code=2)
    assert "nobody confirmed" in asked
    decision = one(boreal, "c-2")["id"]
    second = boreal.json("appeal", "open", decision, "--contact-note", "x")
    boreal.json("appeal", "decide", str(second["number"]), "--rejected", "--reason", "It is what it looks like")
    assert register.reviewed(entry) == (2, 1)
    assert register.outcomes(entry) == (3, 1)
    assert in_effect(boreal) == {"c-2": "block", "c-3": "block"}


def test_an_upheld_appeal_is_told_to_every_lab(
    forum: tuple[ForumInABox, Lab, Lab],
    boreal: Client,
    pattern: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    box, aurora, _ = forum
    be_bold(boreal, UNAPPROVED)
    found_in(boreal, log_of(tmp_path / "a.jsonl", "c-1", "c-2"))
    boreal.run("decide")
    number = str(boreal.json("appeal", "open", "--account", "c-1", "--contact-note", "ring 555")["number"])
    said = ("appeal", "decide", number, "--upheld", "--reason", "Ms Secret", "--comment", "Batch jobs look so too")
    boreal.run("endorse", pattern, "--yes")
    boreal.run("sync")
    assert "your lab endorses this very version: take that back too" in boreal.run(*said)
    ruled = boreal.json(*said, "--publish", "--yes")
    other = Client(make_home(tmp_path / "aurora", box, aurora), capsys)
    other.run("sync")
    (opinion,) = other.json("opinion", "list", "--pattern", pattern)
    assert opinion["verdict"] == "false_positive"
    for secret in ("555", "Secret", "c-1"):
        assert not re.search(rf"\b{secret}\b", json.dumps(opinion)), "ids may hold the same digits"
    assert boreal.json(*said, "--publish", "--yes")["published"] == ruled["published"]


def test_a_contact_note_is_read_from_standard_input(
    boreal: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found_in(boreal, log_of(tmp_path / "a.jsonl", "c-1"))
    boreal.run("decide")
    ask = ("appeal", "open", "--account", "c-1", "--contact-note", "-")
    for text in ("", "x" * 100_000):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        assert "a contact note has 1 to" in boreal.run(*ask, code=2)
    monkeypatch.setattr("sys.stdin", io.StringIO("ring 555,\nMs Secret\n"))
    assert boreal.json(*ask)["contact_note"] == "ring 555,\nMs Secret"


def test_an_appeal_needs_something_to_be_about(boreal: Client, tmp_path: Path) -> None:
    assert "say what the appeal is about" in boreal.run("appeal", "open", "--contact-note", "x", code=2)
    assert "no decision is about" in boreal.run("appeal", "open", "--account", "c-9", "--contact-note", "x", code=2)
    assert "there is no decision" in boreal.run("appeal", "open", "abcdef", "--contact-note", "x", code=2)
    assert "there is no appeal" in boreal.run("appeal", "decide", "4", "--upheld", "--reason", "x", code=2)
    assert "how the appeal ends" in boreal.run("appeal", "decide", "4", "--reason", "x", code=2)


# -- the file ------------------------------------------------------------------------------------------------------


def test_history_can_only_grow(boreal: Client, tmp_path: Path) -> None:
    found_in(boreal, log_of(tmp_path / "a.jsonl", "c-1"))
    boreal.run("decide")
    with sqlite3.connect(boreal.home / "decisions.sqlite") as database:
        for command in ("DELETE FROM history", "UPDATE history SET who = 'nobody'"):
            with pytest.raises(sqlite3.IntegrityError, match="append only"):
                database.execute(command)
    database.close()


def test_a_register_of_a_later_version_is_left_alone(boreal: Client) -> None:
    with sqlite3.connect(boreal.home / "decisions.sqlite") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    assert "later Stillwatch" in boreal.run("decisions", "list", code=2)


def test_two_that_decide_at_once_make_one_decision_each(boreal: Client, tmp_path: Path) -> None:
    from member_client.decisions.allow_list import AllowList
    from member_client.decisions.deciding import decide
    from member_client.decisions.matches import Counted, gather
    from member_client.decisions.rules import Rules

    run = found_in(boreal, log_of(tmp_path / "a.jsonl", *(f"c-{n}" for n in range(50))))
    path = boreal.home / "detections" / f"{run}.jsonl"

    def decide_it() -> None:
        register = Register.of(Home(boreal.home))
        source = gather(path, organisations=False, counted=Counted(), scratch=tmp_path / "spilled")
        decide(register, source, Rules(), AllowList(), datetime.now(UTC), "x", run)
        register.close()

    threads = [threading.Thread(target=decide_it) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = boreal.json("decisions", "list", "--limit", "0")
    assert (len(found), {one["matches"] for one in found}) == (50, {1})


def test_a_customers_id_never_looks_like_lines_of_ours(boreal: Client, tmp_path: Path) -> None:
    be_bold(boreal, UNAPPROVED)
    odd = "c-1\nin effect now: observe\t\x1b[2J"
    found_in(boreal, log_of(tmp_path / "a.jsonl", odd))
    boreal.run("decide")
    (found,) = boreal.json("decisions", "list")
    assert found["subject"] == odd
    shown = "c-1\\nin effect now: observe\\t\\u001b[2J"
    for command in (("list",), ("show", found["id"]), ("lift", found["id"], "--reason", "A test")):
        told = boreal.run("decisions", *command)
        assert shown in told
        assert "\nin effect now: observe" not in told.replace("\nin effect now: block\n", "")
