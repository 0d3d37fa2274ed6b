"""The `stillwatch` command in this process, with a home that follows a log served from memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from member_client.cli.main import run
from member_client.home import Home, Settings
from tests.member_client.follower import Lab
from tests.protocol.forum_log import AURORA


class Command:
    """Runs commands and gives what they printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str | Path, code: int = 0) -> str:
        """Run a command that must exit with `code`; gives all that it printed, for people on one line each."""
        self._capsys.readouterr()
        got = run([str(argument) for argument in arguments])
        printed = self._capsys.readouterr()
        assert got == code, printed.out + printed.err
        return printed.out + printed.err

    def json(self, *arguments: str | Path, code: int = 0) -> Any:
        """Run it with --json; gives the one document on standard output."""
        self._capsys.readouterr()
        got = run([*(str(argument) for argument in arguments), "--json"])
        printed = self._capsys.readouterr()
        assert got == code, printed.out + printed.err
        return json.loads(printed.out)


def settle(lab: Lab) -> Path:
    """Make a follower's folder a home that commands take; gives the folder."""
    Home(lab.home).save(Settings(hub=lab.hub.url, forum=lab.fingerprint, name="Aurora", member=AURORA))
    return lab.home
