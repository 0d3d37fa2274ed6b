"""How the lab's own systems are told: a command for each account, or an HTTP request.

Either gets one JSON object (on standard input, or as the request's body) and may get the same one again: after a crash
nobody can know whether the first arrived. `idempotency_key` is how it tells.
"""

from __future__ import annotations

import os
import shlex
import signal
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import httpx

from member_client.calling_out import check_webhook_url, cut_off
from member_client.errors import InvalidInput
from sharing_protocol.statements.header import show_hidden

SHOWN = 200
_SECRETS = "STILLWATCH_PASSPHRASE"
"""What the names of variables begin with that open this lab's keys: no hook needs them."""
_PATIENCE = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one call.

    Attributes:
        note: what went wrong, "" for nothing.
        again: whether it makes sense to try again.
    """

    done: bool
    note: str = ""
    again: bool = True


class Hook(Protocol):
    """What is called for each account."""

    def call(self, body: bytes, key: str) -> Outcome:
        """Call it once, with a JSON object and its idempotency key."""
        ...


class Command:
    """A command: arguments, no shell; 0 means done, and anything else that it may be tried again."""

    def __init__(self, text: str, timeout: float) -> None:
        """Take a command line, split as a POSIX shell would, without running one.

        Raises:
            InvalidInput: it is empty or does not split.
        """
        try:
            self._arguments = shlex.split(text)
        except ValueError as error:
            raise InvalidInput(f"--hook does not split into arguments: {error}") from error
        if not self._arguments:
            raise InvalidInput("--hook is empty", "name a program and its arguments")
        self._timeout = timeout

    def call(self, body: bytes, key: str) -> Outcome:  # noqa: ARG002 - the body has the key
        """See `Hook`."""
        with tempfile.TemporaryFile() as said:
            try:
                process = subprocess.Popen(
                    self._arguments,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                    env={name: value for name, value in os.environ.items() if not name.startswith(_SECRETS)},
                    start_new_session=True,  # so that whatever it starts can be ended with it
                )
            except OSError as error:
                return Outcome(False, f"{self._arguments[0]} does not start: {error.strerror}", again=False)
            try:
                process.communicate(body, self._timeout)
            except subprocess.TimeoutExpired:
                _end(process)
                return Outcome(False, f"no answer within {self._timeout:g} s")
            except BaseException:
                _end(process)
                raise
            if process.returncode == 0:
                return Outcome(True)
            return Outcome(False, f"exit status {process.returncode}{_excerpt(said)}")


class Webhook:
    """An HTTP request; 2xx means done, 408, 425, 429 and 5xx that it may be tried again. Redirects are not followed."""

    def __init__(self, url: str, timeout: float, token_file: Path | None = None) -> None:
        """Take a URL: https, or http to this machine.

        Raises:
            InvalidInput: another URL; the token cannot be read, or others can.
        """
        try:
            self._url = check_webhook_url(url)
        except ValueError as error:
            raise InvalidInput(
                f"--webhook is no URL for a webhook: {error}", "write it like https://…/revoke"
            ) from error
        headers = {"content-type": "application/json"}
        if token_file is not None:
            headers["authorization"] = f"Bearer {_token(token_file)}"
        self._timeout = timeout
        self._client = httpx.Client(timeout=timeout, headers=headers, follow_redirects=False, trust_env=False)

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def call(self, body: bytes, key: str) -> Outcome:
        """See `Hook`."""
        # A connection of its own for each call: the deadline holds its socket, and ends also an answer that drips.
        headers = {"idempotency-key": key, "connection": "close"}
        with cut_off(self._timeout) as watch:
            try:
                with self._client.stream(
                    "POST", self._url, content=body, headers=headers, extensions={"trace": watch.trace}
                ) as response:
                    status = response.status_code
            except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, OSError) as error:
                # httpx reads a redirect's target, whatever that is, though it is not to follow it.
                told = (
                    f"no answer within {self._timeout:g} s" if watch.expired else f"no answer: {type(error).__name__}"
                )
                return Outcome(False, told)
        again = status >= 500 or status in _PATIENCE
        return Outcome(True) if 200 <= status < 300 else Outcome(False, f"HTTP status {status}", again)


def _end(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _excerpt(said: IO[bytes]) -> str:
    said.seek(0)
    text = show_hidden(said.read(SHOWN).decode("utf-8", "replace").strip().replace("\n", " "))
    return f": {text}" if text else ""


def _token(path: Path) -> str:
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise InvalidInput(f"{path} can be read by other users", f"run: chmod 600 {path}")
        token = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read the token in {path}") from error
    if not token or not token.isprintable() or " " in token:
        raise InvalidInput(f"{path} has no token: one line of printable characters")
    return token
