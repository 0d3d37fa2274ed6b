"""Analysts who work by docs/handbook.md: each line that they run is one of the handbook's, as it stands there."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from member_client.cli.main import run
from member_client.gate import Gate
from member_client.home import Home

PATIENCE_SECONDS = 60
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass
class Handbook:
    """The commands of a page, in its order, and which of them somebody has run."""

    lines: list[str]
    run: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, path: Path) -> Handbook:
        """The lines of all shell blocks; one that ends with a backslash goes on in the next."""
        blocks = (block.replace("\\\n", "") for block in _BLOCK.findall(path.read_text()))
        return cls([re.sub(" +", " ", line) for block in blocks for line in block.splitlines()])

    def words(self, line: str, filled: Mapping[str, str]) -> list[str]:
        """What follows `stillwatch` in a line of the page, with what it leaves to fill in."""
        assert line in self.lines, f"the handbook has no line {line!r}"
        self.run.add(line)
        program, *words = shlex.split(line)
        assert program == "stillwatch"
        return [filled.get(word, word) for word in words]

    @property
    def left(self) -> list[str]:
        """What nobody has run."""
        return [line for line in self.lines if line not in self.run]


@dataclass
class Desk:
    """An analyst at a lab: a home, a folder to work in, and the handbook."""

    home: Path
    folder: Path
    handbook: Handbook
    capsys: pytest.CaptureFixture[str]
    patch: pytest.MonkeyPatch

    def __call__(
        self, line: str, *more: str, code: int = 0, fill: Mapping[str, str] | None = None, **named: str
    ) -> str:
        """Run a line of the handbook.

        Args:
            more: arguments besides, such as the yes of a person.
            code: what it must exit with.
            fill: what to put in place of which words; `named` the same.

        Returns:
            All that it printed.
        """
        words = self.handbook.words(line, {**named, **(fill or {})})
        into = self.folder / words[-1] if words[-2:-1] == [">"] else None
        printed, errors = self._run([*(words[:-2] if into else words), *more], code)
        if into is not None:
            into.write_text(printed)
        return printed + errors

    def command(self, *words: str, code: int | tuple[int, ...] = 0) -> str:
        """Run any command; gives all that it printed."""
        return "".join(self._run([*words], code))

    def ask(self, *words: str) -> Any:
        """Run any command with --json; gives the document."""
        return json.loads(self._run([*words, "--json"], 0)[0])

    def decision_on(self, account: str) -> str:
        """The id of the one decision on an account."""
        (found,) = self.ask("decisions", "list", "--subject", account)
        return str(found["id"])

    def in_effect(self, account: str) -> str:
        """What of that decision is in effect."""
        (found,) = self.ask("decisions", "list", "--subject", account)
        return str(found["in_effect"])

    def stage(self, pattern: str) -> str:
        """How far this lab lets a pattern go, now."""
        return str(self.ask("policy", "explain", pattern)["stage"])

    def lets_pass(self, account: str) -> bool:
        """What this lab's gate says, as a gateway in Python asks it."""
        with Gate(Home(self.home)) as gate:
            assert gate.wait(1, PATIENCE_SECONDS), "no table was made"
            return gate.check(account=account).allowed

    def _run(self, words: list[str], code: int | tuple[int, ...]) -> tuple[str, str]:
        self.patch.chdir(self.folder)
        self.patch.setenv("STILLWATCH_HOME", str(self.home))
        self.capsys.readouterr()
        got = run(words)
        printed = self.capsys.readouterr()
        wanted = code if isinstance(code, tuple) else (code,)
        assert got in wanted, f"{shlex.join(words)}\n{printed.out}{printed.err}"
        return printed.out, printed.err
