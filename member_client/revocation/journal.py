"""What was begun and what was done, of all plans of a home: appended, made durable, never changed.

revocations/journal.jsonl     a JSON object a line, 0600
revocations/lock              held by whoever runs or undoes a plan

A line is on the disk before what it tells of goes on. So after a crash everything that was done is either noted as
done, or as begun: then it is tried again under the same idempotency key, and the hook can tell that it was. A line that
a crash cut off was never relied upon; it is taken away when the journal is opened.

The state is kept by decision and subject, not by plan: what one plan did, another does not do again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID, uuid5

from filelock import FileLock, Timeout

from member_client.errors import InvalidInput
from member_client.home import Home
from member_client.revocation.authority import Target

_NAMESPACE = UUID("0b6a6b5e-2f3c-5c1b-8d0e-5f6f8f3b7a2d")
_FIELDS = ("at", "what", "plan", "decision", "kind", "id", "key", "round", "note")


class What(StrEnum):
    """What a line tells of."""

    BEGUN = "begun"
    DONE = "done"
    FAILED = "failed"
    HELD_BACK = "held back"
    UNDO_BEGUN = "undo begun"
    UNDONE = "undone"
    UNDO_FAILED = "undo failed"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Line:
    """One line.

    Attributes:
        at: RFC 3339, by this machine's clock.
        round: how often access had been restored before, or left to another decision: it makes the key of the next
            revocation another one.
        note: why it failed or was held back; "" for nothing.
    """

    at: str
    what: What
    plan: str
    decision: str
    kind: str
    id: str
    key: str
    round: int
    note: str

    @property
    def target(self) -> Target:
        """Whose access."""
        return Target(self.decision, self.kind, self.id)


def key_of(action: str, target: Target, round_: int) -> str:
    """The idempotency key: the same for the same action on the same subject by the same decision, however often tried.

    Args:
        action: `revoke` or `restore`.
    """
    return str(uuid5(_NAMESPACE, "\0".join((action, target.decision, target.kind, target.id, str(round_)))))


def folder_of(home: Home) -> Path:
    """Where journal and lock are."""
    return home.path / "revocations"


class Journal:
    """The journal, read and open for appending; use it as a context."""

    def __init__(self, home: Home) -> None:
        """Read it, and take away a line that a crash cut off; the caller holds the lock.

        Raises:
            InvalidInput: a line is damaged.
        """
        self.path = folder_of(home) / "journal.jsonl"
        self.path.parent.mkdir(mode=0o700, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self.last: dict[Target, Line] = {}
        try:
            whole = 0
            for line, end in _whole_lines(self.path):
                self.last[line.target] = line
                whole = end
            os.ftruncate(self._file, whole)
            os.fsync(self._file)
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def note(self, line: Line) -> None:
        """Append a line; it is on the disk when this returns."""
        written = json.dumps({name: getattr(line, name) for name in _FIELDS}, ensure_ascii=False, separators=(",", ":"))
        data = written.encode("utf-8", "surrogatepass") + b"\n"
        while data:
            data = data[os.write(self._file, data) :]
        os.fsync(self._file)
        self.last[line.target] = line

    def state(self, target: Target) -> What | None:
        """The last that is known of a subject, None for nothing."""
        line = self.last.get(target)
        return line.what if line is not None else None

    def round(self, target: Target) -> int:
        """The round that the next revocation, or the one that was begun, belongs to."""
        line = self.last.get(target)
        if line is None:
            return 0
        return line.round + 1 if line.what in (What.UNDONE, What.RELEASED) else line.round


def read_journal(home: Home) -> list[Line]:
    """Every whole line, the oldest first, without taking the lock.

    Raises:
        InvalidInput: a line is damaged.
    """
    path = folder_of(home) / "journal.jsonl"
    return [line for line, _ in _whole_lines(path)] if path.exists() else []


@contextmanager
def locked(home: Home) -> Iterator[None]:
    """Let nobody else run or undo a plan of this home.

    Raises:
        InvalidInput: somebody does; or the folder is no home, which must not get a journal.
    """
    home.settings()
    folder = folder_of(home)
    folder.mkdir(mode=0o700, exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=0, mode=0o600):
            yield
    except Timeout as error:
        raise InvalidInput("another revocation of this home is under way", "wait for it, and try again") from error


def _whole_lines(path: Path) -> Iterator[tuple[Line, int]]:
    """Lines, and where each ends; one without its line break is left out."""
    end = 0
    with path.open("rb") as file:
        for number, data in enumerate(file, 1):
            if not data.endswith(b"\n"):
                return
            end += len(data)
            yield _parse(data, path, number), end


def _parse(data: bytes, path: Path, number: int) -> Line:
    try:
        document: Any = json.loads(data)
        if not isinstance(document, dict) or set(document) != set(_FIELDS):
            raise ValueError("it does not have the members of a line")
        if type(document["round"]) is not int or not all(
            isinstance(document[name], str) for name in _FIELDS if name != "round"
        ):
            raise ValueError("a member is of another type")
        return Line(**(document | {"what": What(document["what"])}))
    except ValueError as error:
        raise InvalidInput(f"{path}:{number} is damaged: {error}", "restore the journal from a backup") from error
