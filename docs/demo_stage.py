"""The demo's stage: homes, a hub process, and commands that are shown as they are run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.text import Text

from hub.database.embedded import destroy

COMMAND_SECONDS = 120
START_SECONDS = 60
ENVIRONMENT = {"COLUMNS": "110", "NO_COLOR": "1"}


class DemoFailed(Exception):
    """A step did not end as the story says."""


@dataclass
class Stage:
    """Runs the two console commands in homes below `root`, and echoes them so that a reader can repeat them.

    Attributes:
        root: everything the demo makes lies in here.
        facts: what happened, by name, for whoever wants to check it.
    """

    root: Path
    console: Console = field(default_factory=lambda: Console(highlight=False, markup=False, soft_wrap=True))
    facts: dict[str, Any] = field(default_factory=dict)
    _hub: subprocess.Popen[bytes] | None = None
    _port: int = 0

    @property
    def hub_home(self) -> Path:
        return self.root / "hub"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    # -- telling -----------------------------------------------------------------------------------------------

    def scene(self, title: str, *lines: str) -> None:
        """Open a part of the story."""
        self.console.print()
        self.console.print(Text(f"── {title} " + "─" * max(0, 96 - len(title)), style="bold cyan"))
        for line in lines:
            self.console.print(Text(line, style="italic"))

    def tell(self, line: str) -> None:
        """One line of narration."""
        self.console.print(Text(line, style="italic"))

    # -- commands ----------------------------------------------------------------------------------------------

    def run(self, home: str, *arguments: str, expect: int = 0, lines: int = 14) -> str:
        """Run `stillwatch`, echoed.

        Args:
            home: whose; "" for a command that needs none.
            expect: the exit code that the story needs.
            lines: how many lines of output to show.

        Raises:
            DemoFailed: another exit code.
        """
        self._echo(f"stillwatch {_shown(arguments)}" + (f" --home {self._short(home)}" if home else ""))
        whose = ["--home", str(self.root / home)] if home else []
        return self._finish([_program("stillwatch"), *arguments, *whose], expect, lines)

    def operate(self, *arguments: str, expect: int = 0, lines: int = 14) -> str:
        """Run `stillwatch-hub` as the hub's operator, echoed."""
        self._echo(f"stillwatch-hub {_shown(arguments)} --home {self._short('hub')}")
        return self._finish([_program("stillwatch-hub"), *arguments, "--home", str(self.hub_home)], expect, lines)

    def ask(self, home: str, *arguments: str) -> Any:
        """Run `stillwatch … --json` for one home, quietly, and parse the answer."""
        command = [_program("stillwatch"), *arguments, "--json", "--home", str(self.root / home)]
        return json.loads(self._finish(command, expect=0, lines=0, errors=False))

    def check(self, name: str, value: Any, right: bool) -> None:
        """Keep a fact, and stop the story where it does not hold.

        Raises:
            DemoFailed: it does not hold.
        """
        self.facts[name] = value
        if not right:
            raise DemoFailed(f"{name} is {value!r}, which the story does not expect")

    def _finish(self, command: list[str], expect: int, lines: int, errors: bool = True) -> str:
        code, output = self.execute(command, errors)
        shown = output.replace(str(self.root), self._short("")).rstrip().split("\n")
        for line in shown[:lines]:
            self.console.print(Text(f"    {line}"))
        if lines and len(shown) > lines:
            self.console.print(Text(f"    … {len(shown) - lines} more lines"))
        if code != expect:
            raise DemoFailed(f"{' '.join(command)} exited {code}, not {expect}:\n{output}")
        if expect and lines:
            self.console.print(Text(f"    (exit code {expect})", style="bold yellow"))
        return output

    def execute(self, command: list[str], errors: bool) -> tuple[int, str]:
        """Run a program to its end.

        Args:
            errors: whether what it writes on standard error is wanted too.

        Returns:
            Its exit code, and what it wrote.
        """
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if errors else None,
            stdin=subprocess.DEVNULL,
            timeout=COMMAND_SECONDS,
            check=False,
            env={**os.environ, **ENVIRONMENT},
        )
        return done.returncode, done.stdout.decode()

    def _echo(self, line: str) -> None:
        self.console.print(Text(f"$ {line}", style="bold green"))

    def _short(self, home: str) -> str:
        path = self.root / home if home else self.root
        try:
            return str(path.relative_to(Path.cwd()))
        except ValueError:
            return str(path)

    @contextmanager
    def gate(self, home: str) -> Iterator[Callable[[str, int], int]]:
        """Run a lab's gate; gives what asks it about an account, and waits a while for the status that the story needs.

        Raises:
            DemoFailed: it does not start.
        """
        self._echo(f"stillwatch gate --home {self._short(home)} &")
        command = [_program("stillwatch"), "gate", "--json", "--home", str(self.root / home)]
        command += ["--listen", "127.0.0.1:0", "--status", "127.0.0.1:0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            try:
                line = process.stdout.readline() if process.stdout is not None else ""
                if not line:
                    raise DemoFailed("the gate did not start")
                url = f"http://{json.loads(line)['listen']}/"
                with httpx.Client(trust_env=False) as gateway:
                    yield lambda account, wanted: self._answer(gateway, url, account, wanted)
            finally:
                process.send_signal(signal.SIGTERM)

    def _answer(self, gateway: httpx.Client, url: str, account: str, wanted: int) -> int:
        deadline = time.monotonic() + START_SECONDS
        while True:
            answer = gateway.get(url, headers={"x-account-id": account})
            why = answer.headers["x-stillwatch-reason"]
            # Without its first table, which takes a moment, it cannot tell.
            if (answer.status_code == wanted and why != "unreadable") or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        self.tell(f"    the gate, asked about {account}: {answer.status_code} ({why})")
        return answer.status_code

    # -- the hub -----------------------------------------------------------------------------------------------

    def start_hub(self, echo: bool = True) -> None:
        """Start the hub on embedded Postgres and wait until it answers; the same port again after a restart."""
        port_file = self.root / "hub.port"
        port_file.unlink(missing_ok=True)
        arguments = ["serve", "--home", str(self.hub_home), "--port", str(self._port), "--port-file", str(port_file)]
        if echo:
            self._echo(f"stillwatch-hub serve --home {self._short('hub')} &")
        with (self.root / "hub.log").open("ab") as log:
            self._hub = subprocess.Popen([_program("stillwatch-hub"), *arguments], stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._hub.poll() is None:
            if port_file.exists() and (text := port_file.read_text().strip()):
                self._port = int(text)
                if self._answers():
                    return
            time.sleep(0.05)
        raise DemoFailed(f"the hub did not start; see {self.root / 'hub.log'}")

    def stop_hub(self) -> None:
        """Stop the hub and its Postgres."""
        if self._hub is not None and self._hub.poll() is None:
            self._hub.send_signal(signal.SIGTERM)
            try:
                self._hub.wait(30)
            except subprocess.TimeoutExpired:
                self._hub.kill()
                self._hub.wait()
        self._hub = None

    def wait(self) -> None:
        """Leave the hub running until it ends or the user interrupts."""
        if self._hub is not None:
            self._hub.wait()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def clear(self) -> None:
        """Remove everything an earlier run left."""
        if self.hub_home.exists():
            destroy(self.hub_home)
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(parents=True, mode=0o755)


def _program(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def _shown(arguments: tuple[str, ...]) -> str:
    words = [f"'{word}'" if " " in word else word for word in arguments]
    return " ".join(words).replace(f"{Path.cwd()}/", "")
