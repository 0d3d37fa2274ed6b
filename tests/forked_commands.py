"""Many runs of a console script, each in a process of its own as the script runs it, but imported only once.

Run as a program, with the script's name: an order a line on standard input, as JSON; what came of it, likewise, on
standard output.
"""

from __future__ import annotations

import contextlib
import gc
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psutil

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
        """Run the script to its end, with more environment variables, as another user."""
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        order = {"arguments": arguments, "settings": dict(settings or {}), "user": user}
        self._program.stdin.write(f"{json.dumps(order)}\n")
        self._program.stdin.flush()
        return Ended(**json.loads(self._program.stdout.readline()))


@contextlib.contextmanager
def forked_commands(script: str = "stillwatch-hub") -> Iterator[ForkedCommands]:
    """Get ready to run commands of that script, `stillwatch` or `stillwatch-hub`."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.forked_commands", script],
        env=environment(PYTHONPATH=os.pathsep.join(sys.path)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        yield ForkedCommands(program)
        assert program.stdin is not None
        program.stdin.close()


def _import_hub() -> Callable[[], None]:
    import hub.app
    import hub.database.embedded
    import hub.serving  # noqa: F401 - the commands import them when they need them
    from hub.cli import main

    return main


def _import_client() -> Callable[[], None]:
    """All but what loads NumPy, which starts threads: a process that has several is not forked."""
    from member_client.cli import appeal, forum, incident, key, main, pattern, policy, proof, setup, sync  # noqa: F401

    return main


_SCRIPTS = {"stillwatch": _import_client, "stillwatch-hub": _import_hub}


def _become(script: str, main: Callable[[], None], order: dict[str, Any], output: int, errors: int) -> None:
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.environ.update(order["settings"])
    if order["user"] is not None:
        os.setgroups([])
        os.setgid(order["user"])
        os.setuid(order["user"])
    sys.argv = [script, *order["arguments"]]
    main()


def _obey(script: str) -> None:
    main = _SCRIPTS[script]()
    assert psutil.Process().num_threads() == 1
    gc.freeze()  # or else each process would copy all of this memory, only to look through it for garbage
    forking = multiprocessing.get_context("fork")
    for line in sys.stdin:
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
            order = json.loads(line)
            child = forking.Process(target=_become, args=(script, main, order, output.fileno(), errors.fileno()))
            child.start()
            child.join()
            output.seek(0)
            errors.seek(0)
            print(json.dumps({"code": child.exitcode, "stdout": output.read(), "stderr": errors.read()}), flush=True)


if __name__ == "__main__":
    _obey(sys.argv[1])
