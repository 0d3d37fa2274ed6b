"""From alert to referral: three labs walk the analyst's handbook, line by line, through a real hub."""

from __future__ import annotations

import json
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from docs.demo_traffic import write_traffic
from tests.end_to_end.desks import PATIENCE_SECONDS, Desk, Handbook
from tests.forum import ForumInABox
from tests.member_client.lab_homes import make_home
from tests.member_client.receivers import WebServer, web_server
from tests.member_client.revocation_world import heard, hook_script

pytestmark = pytest.mark.timeout(900)  # some 150 commands; a busy machine takes its time
HANDBOOK = Path("docs/handbook.md").resolve()
STILLWATCH = Path(sys.executable).with_name("stillwatch")
BENCHMARK, CUSTOMER, GUILTY = "acct-0000", "acct-0007", "acct-0008"
# All that a policy asks for, but no time: an analyst would have waited for a week between two chapters.
POLICY = """
highest_stage = "enforce"
[shadow]
hours = 0
[flag]
hours = 0
[enforce]
endorsements = 1
[rollout]
steps = [100]
[decisions.actions]
medium = "block"
"""
REVOKE = "/usr/local/bin/revoke --quiet"
OFFLINE = """
import socket, sys
def refuse(*arguments, **named):
    raise AssertionError("it goes to the network")
socket.socket = socket.create_connection = socket.getaddrinfo = refuse
from member_client.cli.main import main
main(sys.argv[1:])
"""


def test_from_alert_to_referral(
    box: ForumInABox, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    handbook = Handbook.read(HANDBOOK)

    def desk(name: str) -> Desk:
        folder = tmp_path / f"{name}-desk"
        folder.mkdir()
        return Desk(make_home(tmp_path / name, box, box.admit(name)), folder, handbook, capsys, monkeypatch)

    aurora, boreal, cirrus = (desk(name) for name in ("Aurora", "Boreal", "Cirrus"))
    pattern = shared_by(aurora)
    for lab in (aurora, boreal, cirrus):
        prepare(lab)
    for lab in (boreal, cirrus):
        look(lab, pattern)
    aurora("stillwatch sync")
    aurora.command("detect", "requests.jsonl")
    aurora.command("pattern", "backtest", pattern, "requests.jsonl", "--legitimate", "legitimate.txt")
    for lab in (aurora, boreal, cirrus):
        block(lab)
    second_thoughts(boreal)
    revoke(boreal)
    with gate_of(boreal) as at_the_gate:
        assert [at_the_gate(one) for one in (BENCHMARK, CUSTOMER, "user-0001")] == [200, 403, 200]
        assert not cirrus.lets_pass(CUSTOMER)
        objection(boreal)
        wait_until(lambda: at_the_gate(CUSTOMER) == 200, "the gate does not hear of the ruling")
    give_back(boreal)
    for lab in (aurora, cirrus):
        hear_of_it(lab, pattern)
    assert cirrus.lets_pass(CUSTOMER)
    with web_server() as pager:
        incident = answer_together(aurora, boreal, pattern, pager)
    package, fingerprint = refer(boreal, incident), box.fingerprint
    assert fingerprint is not None
    officer(handbook, package, fingerprint, tmp_path / "officer")
    one_changed_byte_is_found(boreal, package, fingerprint)
    aurora('stillwatch incident close INCIDENT --note "Nothing seen for two weeks."', "--yes", INCIDENT=incident)
    assert handbook.left == []


def shared_by(lab: Desk) -> str:
    """A pattern that this lab publishes."""
    lab.ask("sync")
    file = str(lab.folder / "mine.yaml")
    lab.command("pattern", "new", "--from", "self-instruct-bootstrapping", "-o", file)
    (made,) = lab.ask("pattern", "submit", file)
    return str(made["id"])


def prepare(lab: Desk) -> None:
    lab("stillwatch policy init")
    (lab.home / "policy.toml").write_text(POLICY)
    lab("stillwatch policy check")
    lab(
        'stillwatch allow add --account ACCOUNT --owner "Ana Lyst" --reason "Our own benchmark" --expires DAY',
        ACCOUNT=BENCHMARK,
        DAY=f"{datetime.now(UTC) + timedelta(days=90):%Y-%m-%d}",
    )
    write_traffic(lab.folder / "requests.jsonl")
    (lab.folder / "legitimate.txt").write_text("".join(f"user-{number:04d}\n" for number in range(400)))


def look(lab: Desk, pattern: str) -> None:
    """See the campaign, and tell the others what was seen and what to think of the pattern."""
    lab("stillwatch sync")
    assert "1 of 1 patterns matched" in lab("stillwatch detect requests.jsonl")
    assert "by hand, a few at a time" in lab("stillwatch pattern show PATTERN", PATTERN=pattern)
    lab("stillwatch pattern feedback PATTERN", PATTERN=pattern)
    lab(
        "stillwatch pattern backtest PATTERN requests.jsonl --legitimate legitimate.txt --json > backtest.json",
        PATTERN=pattern,
    )
    assert "stage: shadow" in lab("stillwatch policy explain PATTERN", PATTERN=pattern)
    lab("stillwatch sighting report", "--yes")
    lab(
        "stillwatch opinion give PATTERN --verdict confirm --reviewed 30 --true-positives 30 "
        '--method "A random sample of a day\'s matches"',
        "--yes",
        PATTERN=pattern,
    )
    lab("stillwatch endorse PATTERN", "--yes", PATTERN=pattern)


def block(lab: Desk) -> None:
    """Decide, approve, and see that it acts."""
    lab("stillwatch sync")
    lab("stillwatch decide")
    listed = lab("stillwatch decisions list --state proposed")
    assert CUSTOMER in listed
    assert BENCHMARK not in listed
    for account in (CUSTOMER, GUILTY):
        said = lab(
            'stillwatch decisions approve DECISION --by "Ana Lyst" --note "Read its prompts"',
            DECISION=lab.decision_on(account),
        )
        assert "in effect: block" in said


def second_thoughts(lab: Desk) -> None:
    """What an analyst does besides: read the explanation, review, lift, and stop everything for a while."""
    shown = lab("stillwatch decisions show DECISION", DECISION=lab.decision_on(GUILTY))
    assert "in effect now: block" in shown
    lab("stillwatch decisions review DECISION --verdict right", DECISION=lab.decision_on(GUILTY))
    other = lab.decision_on("acct-0009")
    lab('stillwatch decisions lift DECISION --reason "A class of students behind one account"', DECISION=other)
    lab('stillwatch policy stop "Complaints from three customers"')
    assert lab.in_effect(GUILTY) == "observe"
    lab('stillwatch policy start "It was an outage of ours"')
    assert lab.in_effect(GUILTY) == "block"


@contextmanager
def gate_of(lab: Desk) -> Iterator[Callable[[str], int]]:
    """The lab's gate as a service; gives what asks it: the status by account."""
    command = [str(STILLWATCH), *lab.handbook.words("stillwatch gate", {}), "--json", "--home", str(lab.home)]
    command += ["--listen", "127.0.0.1:0", "--status", "127.0.0.1:0"]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process,
        httpx.Client(trust_env=False, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)) as gateway,
    ):
        try:
            assert process.stdout is not None
            url = f"http://{json.loads(process.stdout.readline())['listen']}/v1/chat"

            def status(account: str) -> int:
                return gateway.post(url, headers={"x-account-id": account}).status_code

            wait_until(lambda: status(GUILTY) == 403, "the gate does not refuse")
            yield status
        finally:
            process.send_signal(signal.SIGTERM)


def revoke(lab: Desk) -> None:
    """End the access of whoever is blocked, through the lab's own command."""
    hook = hook_script(lab.folder / "revoke.py")
    planned = lab("stillwatch revocation plan --all-approved -o plan.json")
    assert "Access would end for 2" in planned
    lab(f'stillwatch revocation run plan.json --hook "{REVOKE}"', "--yes", "--rate", "1000", fill={REVOKE: hook})
    assert CUSTOMER in lab("stillwatch revocation report plan.json")
    assert revoked(lab) == {CUSTOMER, GUILTY}


def give_back(lab: Desk) -> None:
    hook = hook_script(lab.folder / "revoke.py")
    lab(
        f'stillwatch revocation undo plan.json --account ACCOUNT --hook "{REVOKE}"',
        "--yes",
        fill={REVOKE: hook},
        ACCOUNT=CUSTOMER,
    )
    assert revoked(lab) == {GUILTY}
    lab(f'stillwatch revocation undo plan.json --hook "{REVOKE}"', "--yes", fill={REVOKE: hook})
    assert revoked(lab) == set()


def revoked(lab: Desk) -> set[str]:
    """Whose access the lab's own system has ended."""
    found: set[str] = set()
    for told in heard(lab.folder / "revoke.py"):
        (found.add if told["action"] == "revoke" else found.discard)(told["subject"]["id"])
    return found


def objection(lab: Desk) -> None:
    """The customer is right, and all labs are told that the pattern errs."""
    decision = lab.decision_on(CUSTOMER)
    lab('stillwatch appeal open DECISION --contact-note "Ticket 4711"', DECISION=decision)
    assert "Ticket 4711" in lab("stillwatch appeal list")
    said = lab(
        'stillwatch appeal decide 1 --upheld --reason "Builds a public test set" '
        '--publish --comment "It hits people who build test sets."',
        "--yes",
    )
    assert f"revocation undo PLAN --account {CUSTOMER}" in said
    published = said[said.index("would be published") :]
    assert '"verdict": "false_positive"' in published
    assert CUSTOMER not in published
    assert "4711" not in published
    assert lab.ask("decisions", "show", decision)["state"] == "lifted"


def hear_of_it(lab: Desk, pattern: str) -> None:
    """Until the next sync another lab knows nothing; from then on the pattern blocks nobody there."""
    assert lab.in_effect(CUSTOMER) == "block"
    said = lab("stillwatch sync")
    assert "fell from enforce to shadow" in said
    assert lab.stage(pattern) == "shadow"
    assert lab.in_effect(CUSTOMER) == lab.in_effect(GUILTY) == "observe"
    assert "shadow" in lab("stillwatch policy list")
    assert "in force" in lab("stillwatch decisions list")


def answer_together(aurora: Desk, boreal: Desk, pattern: str, pager: WebServer) -> str:
    """An incident by a published protocol; Boreal's pager is told when its level rises."""
    aurora("stillwatch playbook new --from three-level-escalation -o protocol.yaml")
    file = aurora.folder / "protocol.yaml"
    file.write_text(file.read_text().replace("title: Watch, coordinate, refer", "title: Three levels among three labs"))
    aurora("stillwatch playbook lint protocol.yaml")
    aurora("stillwatch playbook submit protocol.yaml", "--yes")
    aurora("stillwatch sync")
    (protocol,) = (one["id"] for one in aurora.ask("playbook", "list"))
    aurora(
        'stillwatch incident open --title "Accounts that grow a training set" --description "Since Monday." '
        "--severity high --pattern PATTERN --protocol PROTOCOL",
        "--yes",
        PATTERN=pattern,
        PROTOCOL=protocol,
    )
    hooks = boreal.home / "hooks.toml"
    hooks.write_text(f'[[webhook]]\nname = "pager"\nurl = "{pager.url()}"\nevents = ["escalated"]\n')
    hooks.chmod(0o600)
    boreal("stillwatch sync")
    boreal("stillwatch incident list --open")
    (incident,) = (str(one["id"]) for one in boreal.ask("incident", "list"))
    sightings = [one["id"] for one in boreal.ask("sighting", "list")]
    boreal("stillwatch incident join INCIDENT", "--yes", INCIDENT=incident)
    for sighting in sightings:
        boreal(
            'stillwatch incident update INCIDENT --note "Here too." --sighting SIGHTING',
            "--yes",
            INCIDENT=incident,
            SIGHTING=sighting,
        )
    ask = 'stillwatch incident escalate INCIDENT --to Coordinate --note "Two labs see it."'
    boreal(ask, "--yes", INCIDENT=incident)
    assert boreal.ask("incident", "show", incident)["level"] == "Watch"
    aurora(ask, "--yes", INCIDENT=incident)
    boreal("stillwatch sync")
    (told,) = (json.loads(one.body) for one in pager.received)
    assert (told["event"], told["level"]) == ("escalated", "Coordinate")
    boreal("stillwatch incident acknowledge INCIDENT", "--yes", INCIDENT=incident)
    boreal("stillwatch sync")
    assert "Boreal: acknowledge" in boreal("stillwatch incident show INCIDENT", INCIDENT=incident)
    aurora("stillwatch sync")
    assert aurora.ask("incident", "show", incident) == boreal.ask("incident", "show", incident)
    assert boreal.ask("incident", "show", incident)["due"] == []
    campaigns = boreal("stillwatch campaign list")
    assert "Boreal" in campaigns
    assert "Cirrus" in campaigns
    boreal("stillwatch playbook run PROTOCOL --about INCIDENT", "--begin", PROTOCOL=protocol, INCIDENT=incident)
    (run,) = (one["run"] for one in boreal.ask("playbook", "runs"))
    boreal('stillwatch playbook step RUN 1 --by "Ana Lyst"', RUN=run)
    assert "Ana Lyst" in boreal("stillwatch playbook report RUN", RUN=run)
    return incident


def refer(lab: Desk, incident: str) -> Path:
    """Criteria, what of them is met, and the package."""
    lab("stillwatch referral criteria new -o criteria.yaml")
    file = lab.folder / "criteria.yaml"
    changes = {"Example: organised": "Organised", "at_least: 100": "at_least: 20"}
    changes |= {"The country of the lab that refers": "Utopia", "or on trade secrets": "section 5"}
    changes["    at_least: 3\n    required: true"] = "    at_least: 3\n    required: false"
    text = file.read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)
    lab("stillwatch referral criteria lint criteria.yaml")
    lab("stillwatch referral criteria submit criteria.yaml", "--yes")
    lab("stillwatch sync")
    (criteria,) = (one["id"] for one in lab.ask("referral", "criteria", "list"))
    found = lab(
        "stillwatch referral build INCIDENT --criteria CRITERIA --dry-run",
        code=2,
        INCIDENT=incident,
        CRITERIA=criteria,
    )
    assert "met      seen by several labs [labs]: 2 of at least 2" in found
    assert "NOT MET  goes on for days [days]: 1 of at least 3 (not required)" in found
    assert "NOT MET  counsel agreed" in found
    refused = ("referral", "build", incident, "--criteria", criteria, "-o", "early.zip")
    assert "counsel agreed" in lab.command(*refused, code=2)
    lab(
        'stillwatch referral build INCIDENT --criteria CRITERIA --by "Ana Lyst" '
        '--attest "counsel agreed=General counsel, memo of 1 March" --local-evidence requests.jsonl -o case.zip',
        INCIDENT=incident,
        CRITERIA=criteria,
    )
    lab('stillwatch referral custody add case.zip --from "Ana Lyst" --to "Officer One" --note "On a stick, by courier"')
    lab('stillwatch referral record-sharing case.2.zip --with "National cyber-crime unit" --by "Ana Lyst"')
    assert not (lab.folder / "early.zip").exists()
    return lab.folder / "case.2.zip"


def officer(handbook: Handbook, package: Path, fingerprint: str, machine: Path) -> None:
    """Verified by a machine with the file, the fingerprint, and nothing else: an empty home and no network."""
    home, desk = machine / "home", machine / "desk"
    for folder in (home, desk):
        folder.mkdir(parents=True)
    (desk / package.name).write_bytes(package.read_bytes())
    words = handbook.words("stillwatch referral verify case.2.zip --forum FINGERPRINT", {"FINGERPRINT": fingerprint})
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, *words], env={"HOME": str(home)}, cwd=desk, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The package holds." in done.stdout
    assert "Officer One" in done.stdout
    assert "NOT MET  goes on for days" in done.stdout
    assert [*home.iterdir()] == []
    assert [one.name for one in desk.iterdir()] == [package.name]


def one_changed_byte_is_found(lab: Desk, package: Path, fingerprint: str) -> None:
    data = package.read_bytes()
    for place in (100, len(data) // 3, len(data) // 2, len(data) - 100):
        changed = bytearray(data)
        changed[place] ^= 1
        (lab.folder / "changed.zip").write_bytes(changed)
        said = lab.command("referral", "verify", "changed.zip", "--forum", fingerprint, code=(2, 5))
        assert "holds" not in said


def wait_until(holds: Callable[[], object], otherwise: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)
