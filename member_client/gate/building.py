"""Making a gate's table anew, in a process of its own: its memory and its pauses are not the gate's.

python -m member_client.gate HOME TABLE
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from member_client.gate import table
from member_client.home import Home

BUILD_SECONDS = 600
"""A build that takes longer is ended."""
MADE_WITH_FAULT = 3
"""How a build ends that made a table, and says what is to be mended all the same."""
_MAX_TOLD = 2000


class Builder(Protocol):
    """Writes new tables to a file, each whole or not at all."""

    def build(self, path: Path) -> str:
        """Write a table.

        Returns:
            What people should mend although there is a table, "" for nothing.

        Raises:
            Unusable: it cannot be made; the file is as it was.
        """

    def stop(self) -> None:
        """End a build that is under way in another thread, and let none begin."""


class ChildBuilder:
    """Builds in a child process, which says on standard error why it cannot."""

    def __init__(self, command: Sequence[str]) -> None:
        """Build by this command, with the path of the table as its last argument."""
        self._command = command
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None
        self._stopped = False

    def build(self, path: Path) -> str:
        """See `Builder`."""
        with self._lock:
            if self._stopped:
                raise table.Unusable("the gate is ending")
            try:
                self._child = child = subprocess.Popen(
                    [*self._command, str(path)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            except OSError as error:
                raise table.Unusable(f"no process could be started to make the table: {error}") from error
        try:
            _, told = child.communicate(timeout=BUILD_SECONDS)
        except subprocess.TimeoutExpired as error:
            child.kill()
            child.communicate()
            raise table.Unusable(f"the table was not made within {BUILD_SECONDS} s") from error
        finally:
            table.draft_of(path, child.pid).unlink(missing_ok=True)
        if child.returncode not in (0, MADE_WITH_FAULT):
            raise table.Unusable(told.strip()[-_MAX_TOLD:] or f"the process ended with status {child.returncode}")
        return told.strip()[-_MAX_TOLD:] if child.returncode == MADE_WITH_FAULT else ""

    def stop(self) -> None:
        """See `Builder`."""
        with self._lock:
            self._stopped = True
            if self._child is not None:
                self._child.kill()  # once it was waited for, this does nothing


def builder_of(home: Home) -> ChildBuilder:
    """Builds from the decisions of a home."""
    return ChildBuilder([sys.executable, "-m", "member_client.gate", str(home.path)])
