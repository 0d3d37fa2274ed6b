"""Many commands of the hub, each in a process of its own as the console script runs it, but imported only once.

Run as a program: an order a line on standard input, as JSON; what came of it, likewise, on standard output.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.hub.hub_process import environment


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str


class ForkedCommands:
    """The program below, running."""

    def __init__(self, program: subprocess.Popen[str]) -> None:
        self._program = program

    def run(self, *arguments: str, settings: Mapping[str, str] | None = None, user: int | None = None) -> Ended:
        """Run `stillwatch-hub` to its end, with more environment variables, as another user."""
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        order = {"arguments": arguments, "settings": dict(settings or {}), "user": user}
        self._program.stdin.write(f"{json.dumps(order)}\n")
        self._program.stdin.flush()
        return Ended(**json.loads(self._program.stdout.readline()))


@contextlib.contextmanager
def forked_commands() -> Iterator[ForkedCommands]:
    """Get ready to run commands."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.hub.forked_commands"],
        env=environment(PYTHONPATH=os.pathsep.join(sys.path)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        yield ForkedCommands(program)
        assert program.stdin is not None
        program.stdin.close()


def _become(order: dict[str, Any], output: int, errors: int) -> None:
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(order["settings"])
    if order["user"] is not None:
        os.setgroups([])
        os.setgid(order["user"])
        os.setuid(order["user"])
    sys.argv = ["stillwatch-hub", *order["arguments"]]


def _obey() -> None:
    import hub.app
    import hub.database.embedded
    import hub.serving  # noqa: F401 - the commands import them when they need them
    from hub.cli import main

    for line in sys.stdin:
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
            child = os.fork()
            if child == 0:
                _become(json.loads(line), output.fileno(), errors.fileno())
                main()
                sys.exit()
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            output.seek(0)
            errors.seek(0)
            print(json.dumps({"code": code, "stdout": output.read(), "stderr": errors.read()}), flush=True)


if __name__ == "__main__":
    _obey()
