"""From alert to referral: three labs walk the analyst's handbook, command by command, through a real hub."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from docs.demo_traffic import write_traffic
from member_client.cli.main import run
from member_client.gate import Gate
from member_client.home import Home
from tests.forum import ForumInABox, Lab
from tests.member_client.lab_homes import make_home
from tests.member_client.receivers import WebServer, web_server
from tests.member_client.revocation_world import heard, hook_script

HANDBOOK = Path("docs/handbook.md").resolve()
STILLWATCH = Path(sys.executable).with_name("stillwatch")
PATIENCE_SECONDS = 30
CUSTOMER, STRANGER = "acct-0007", "acct-0008"
NO_WAITING = """
highest_stage = "enforce"
[shadow]
hours = 0
[flag]
hours = 0
[enforce]
endorsements = 1
[rollout]
steps = [100]
hours = 0
[decisions.actions]
medium = "block"
"""
PUBLISHED = "would be published"
OFFLINE = """
import os, socket, sys
def refuse(*arguments, **named):
    raise AssertionError("it goes to the network")
socket.socket = socket.create_connection = socket.getaddrinfo = refuse
from member_client.cli.main import main
main(sys.argv[1:])
"""


@dataclass
class Handbook:
    """The commands of docs/handbook.md, and which of them the story has run."""

    lines: list[str]
    run: set[str] = field(default_factory=set)

    @classmethod
    def read(cls) -> Handbook:
        blocks = re.findall(r"^```sh\n(.*?)^```$", HANDBOOK.read_text(), re.DOTALL | re.MULTILINE)
        return cls([line for block in blocks for line in block.replace("\\\n", " ").splitlines()])


@dataclass
class Desk:
    """An analyst at a lab: a home, a folder to work in, and the handbook."""

    home: Path
    folder: Path
    handbook: Handbook
    capsys: pytest.CaptureFixture[str]
    patch: pytest.MonkeyPatch

    def __call__(self, line: str, *more: str, code: int = 0, **filled: str) -> str:
        """Run a line of the handbook, with what it leaves to fill in and more arguments; gives all that it printed."""
        assert line in self.handbook.lines, f"the handbook has no line {line!r}"
        self.handbook.run.add(line)
        words = [filled.get(word, word) for word in shlex.split(line)]
        assert words[0] == "stillwatch"
        into = self.folder / words[-1] if words[-2:-1] == [">"] else None
        printed, errors = self._run([*(words[1:-2] if into else words[1:]), *more], code)
        if into is not None:
            into.write_text(printed)
        return printed + errors

    def ask(self, *words: str) -> Any:
        """Look something up, for the test."""
        return json.loads(self._run([*words, "--json"], 0)[0])

    def _run(self, words: list[str], code: int) -> tuple[str, str]:
        self.patch.chdir(self.folder)
        self.patch.setenv("STILLWATCH_HOME", str(self.home))
        self.capsys.readouterr()
        got = run(words)
        printed = self.capsys.readouterr()
        with open("/tmp/story_transcript.txt", "a") as f:
            f.write(f"\n{self.folder.name}$ {shlex.join(words)}   [{got}]\n{printed.out}{printed.err}")
        assert got == code, f"{shlex.join(words)}\n{printed.out}{printed.err}"
        return printed.out, printed.err

    def stage(self, pattern: str) -> str:
        (one,) = [one for one in self.ask("policy", "list") if one["id"] == pattern]
        return str(one["stage"])

    def lets_pass(self, account: str) -> bool:
        """What this lab's gate says, as a gateway in Python would ask it."""
        with Gate(Home(self.home)) as gate:
            return gate.check(account=account).allowed


def test_from_alert_to_referral(
    box: ForumInABox, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    handbook = Handbook.read()

    def desk(lab: Lab) -> Desk:
        folder = tmp_path / f"{lab.name}-desk"
        folder.mkdir()
        return Desk(make_home(tmp_path / lab.name, box, lab), folder, handbook, capsys, monkeypatch)

    aurora, boreal, cirrus = (desk(box.admit(name)) for name in ("Aurora", "Boreal", "Cirrus"))
    pattern = published_by(aurora)
    for one in (aurora, boreal, cirrus):
        prepare(one)
    for one in (boreal, cirrus):
        alert(one, pattern)
    for one in (aurora, boreal, cirrus):
        decide(one, pattern)


def published_by(desk: Desk) -> str:
    """A pattern that this lab shares."""
    desk.ask("sync")
    file = desk.folder / "mine.yaml"
    desk._run(["pattern", "new", "--from", "self-instruct-bootstrapping", "-o", str(file)], 0)
    (made,) = desk.ask("pattern", "submit", str(file))
    return str(made["id"])


def prepare(desk: Desk) -> None:
    """A policy that lets patterns climb without waiting, and a day's requests with a campaign in them."""
    desk("stillwatch policy init")
    (desk.home / "policy.toml").write_text(NO_WAITING)
    desk("stillwatch policy check")
    write_traffic(desk.folder / "requests.jsonl")
    (desk.folder / "legitimate.txt").write_text("".join(f"user-{number:04d}\n" for number in range(400)))
    desk(
        'stillwatch allow add --account ACCOUNT --owner "Ana Lyst" --reason "Our own benchmark" --expires DAY',
        ACCOUNT="acct-0000",
        DAY=f"{datetime.now(UTC) + timedelta(days=90):%Y-%m-%d}",
    )


def alert(desk: Desk, pattern: str) -> None:
    desk("stillwatch sync")
    desk("stillwatch detect requests.jsonl")
    desk("stillwatch pattern show PATTERN", PATTERN=pattern)
    desk("stillwatch pattern feedback PATTERN", PATTERN=pattern)
    desk("stillwatch pattern backtest PATTERN requests.jsonl --legitimate legitimate.txt --json > backtest.json", PATTERN=pattern)
    desk("stillwatch policy explain PATTERN", PATTERN=pattern)
    desk("stillwatch sighting report", "--yes")
    desk('stillwatch opinion give PATTERN --verdict confirm --reviewed 30 --true-positives 30 --method "A random sample of a day\'s matches"', "--yes", PATTERN=pattern)
    desk("stillwatch endorse PATTERN --measured backtest.json", "--yes", PATTERN=pattern)


def decide(desk: Desk, pattern: str) -> None:
    desk("stillwatch sync")
    desk.ask("detect", "requests.jsonl")
    desk.ask("pattern", "backtest", pattern, "requests.jsonl", "--legitimate", "legitimate.txt")
    desk("stillwatch sync")
    desk("stillwatch policy explain PATTERN", PATTERN=pattern)
    desk("stillwatch decide")
    desk("stillwatch decisions list --state proposed")
