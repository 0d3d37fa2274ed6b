"""Completion in a real bash, for both commands."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BASH = shutil.which("bash")
PROGRAMS = {
    "stillwatch": ("_STILLWATCH_COMPLETE", "pat", "pattern"),
    "stillwatch-hub": ("_STILLWATCH_HUB_COMPLETE", "ser", "serve"),
}

pytestmark = pytest.mark.skipif(BASH is None, reason="bash is not installed on this machine")


def in_bash(script: str) -> str:
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    done = subprocess.run(
        [str(BASH), "--norc", "--noprofile", "-c", script],
        env={"PATH": path, "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_documented_line_completes_in_bash(program: str) -> None:
    variable, begun, completed = PROGRAMS[program]
    line = f'eval "$({variable}=source_bash {program})"'
    assert line in Path("docs/quick-start-analyst.md").read_text() + Path("docs/quick-start-hub.md").read_text()
    script = f"""
        {line}
        function=$(complete -p {program} | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        COMP_WORDS=({program} {begun}) COMP_CWORD=1
        "$function" {program}
        echo "${{COMPREPLY[@]}}"
    """
    assert in_bash(script).split() == [completed]


def test_it_is_shown_to_who_asks() -> None:
    assert "_STILLWATCH_COMPLETE=complete_bash" in in_bash("stillwatch --show-completion; true")
