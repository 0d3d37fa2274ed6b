"""Commands in the documents are commands of the programs, with options that there are."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from hub.cli import commands as hub
from member_client.cli.main import app as stillwatch

PAGES = [Path("README.md"), *sorted(Path("docs").rglob("*.md"))]
PROGRAMS = {"stillwatch": typer.main.get_command(stillwatch), "stillwatch-hub": typer.main.get_command(hub)}
BLOCK = re.compile(r"^```(?:sh)?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def commands_in(page: Path) -> Iterator[str]:
    """Lines of shell blocks that begin with one of the programs, without comments."""
    for block in BLOCK.findall(page.read_text()):
        for line in block.replace("\\\n", " ").splitlines():
            if line.split(" ")[0] in PROGRAMS:
                yield line


def what_is_wrong(line: str) -> str:
    """What in a line the program does not know; "" for nothing."""
    program, *words = shlex.split(line, comments=True)
    command: Any = PROGRAMS[program]
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        found = command.commands.get(words[0])
        if found is None:
            return f"{command.name} has no command {words[0]}"
        command, words = found, words[1:]
    known = {"--help", "-h"} | {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    named = [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    return ", ".join(f"{command.name} has no {name}" for name in named if name not in known)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_command_and_option_of_a_page_exists(page: Path) -> None:
    assert [wrong for line in commands_in(page) if (wrong := what_is_wrong(line))] == []


def test_a_command_or_an_option_that_does_not_exist_is_noticed() -> None:
    assert len(list(commands_in(Path("docs/handbook.md")))) > 40
    assert what_is_wrong("stillwatch decisions approve ID --as Ana") == ""
    assert what_is_wrong("stillwatch decisions approve ID --with Ana") == "approve has no --with"
    assert what_is_wrong("stillwatch decisions remove ID") == "decisions has no command remove"
