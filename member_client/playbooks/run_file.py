"""A run on disk: one line for everything that happened, each bound to the one before.

playbook-runs/<run>.jsonl    the run, 0600; its first line has the whole playbook, so that it is later known which

A line is a JSON object with a `record` and the `hash` of the line before's hash and this record. A line that was
changed, taken out, put in or moved is found when the run is read; so is one that the playbook did not allow. Who
rewrites every line from there on, or takes lines off the end, leaves a file that is sound in itself: for that the
newest hash is shown, to be noted down elsewhere (the report has it).

Everything recorded is on disk before the command that recorded it says so. A line that broke off in the middle was
never acknowledged: it is left out, and the next one takes its place.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from member_client.detection.runs import new_name
from member_client.errors import InvalidInput, NotProven
from member_client.home import Home, write_privately
from member_client.playbooks.running import Event, Kind, NotAllowed, Run
from sharing_protocol import strict_json
from sharing_protocol.content import check_playbook
from sharing_protocol.errors import ProtocolError
from sharing_protocol.statements import PlaybookBody
from sharing_protocol.statements.header import Line, Paragraphs, StrictModel, Timestamp

MAX_BYTES = 16 * 1024 * 1024
_START = "0" * 64
_LOCK_SECONDS = 10.0
_NAME = TypeAdapter(Line)
_NOTE = TypeAdapter(Paragraphs)


class _Begun(StrictModel):
    run: Line
    source: Line
    about: str
    by: str
    at: Timestamp
    playbook: PlaybookBody


class _Happened(StrictModel):
    kind: Kind
    step: str
    by: Line
    at: Timestamp
    note: str
    answer: Literal["", "yes", "no"]


@dataclass(frozen=True, slots=True)
class Source:
    """The playbook of a run, and exactly which text or record it is.

    Attributes:
        origin: in one line.
        about: an incident's id, or a few words; "" for nothing.
        by: who began it; "" if nobody said.
    """

    body: PlaybookBody
    origin: str
    about: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run as its file has it.

    Attributes:
        head: hash of the newest line.
        size: bytes of all whole lines; what comes after broke off.
    """

    name: str
    path: Path
    source: Source
    run: Run
    head: str
    size: int


def begin(home: Home, source: Source, clock: float, at: datetime) -> StoredRun:
    """Begin a run.

    Args:
        clock: POSIX seconds, from which it gets its name.

    Raises:
        InvalidInput: the playbook is not one that can be walked through.
    """
    name = new_name(clock)
    begun = {
        "run": name,
        "source": source.origin,
        "about": one_line(source.about, "--about"),
        "by": one_line(source.by, "--by"),
        "at": at,
        "playbook": source.body,
    }
    document = _Begun.model_validate(begun).model_dump(mode="json")
    folder = _folder(home)
    folder.mkdir(mode=0o700, exist_ok=True)
    write_privately(folder / f"{name}.jsonl", _line(_START, document))
    return load(home, name)


def names(home: Home) -> list[str]:
    """Every run's name, the oldest first."""
    return sorted(path.stem for path in _folder(home).glob("*.jsonl"))


def load(home: Home, name: str) -> StoredRun:
    """Read a run, and check all of it.

    Args:
        name: or the beginning of it.

    Raises:
        InvalidInput: there is none, or more than one that begins so.
        NotProven: a line is not what was written.
    """
    path = _path(home, name)
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise InvalidInput(f"{path} has more than {MAX_BYTES:,} bytes", "begin another run")
    size = data.rfind(b"\n") + 1
    lines = data[:size].splitlines(keepends=True)
    if not lines:
        raise _changed(path, 1, "it has no whole line")
    head = _START
    records = []
    for number, line in enumerate(lines, 1):
        record, head = _read(path, number, line, head)
        records.append(record)
    return _stored(path, records, head, size)


def append(home: Home, name: str, event: Event) -> StoredRun:
    """Record what happened, durably.

    Raises:
        InvalidInput: see `load`; or the playbook does not allow it now.
        NotProven: a line of the file is not what was written; nothing was added.
    """
    record = _record_of(event)
    path = _path(home, name)
    with _locked(path):
        stored = load(home, path.stem)
        try:
            stored.run.record(event)
        except NotAllowed as refused:
            raise InvalidInput(str(refused), refused.mend) from refused
        line = _line(stored.head, record)
        if stored.size + len(line) > MAX_BYTES:
            raise InvalidInput(f"{path} would have more than {MAX_BYTES:,} bytes", "begin another run")
        descriptor = os.open(path, os.O_WRONLY)
        with os.fdopen(descriptor, "wb") as file:
            file.truncate(stored.size)  # what broke off was never acknowledged
            file.seek(stored.size)
            # If we stop in the middle of this line, it is as if it had not been begun.
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    return replace(stored, head=_hash(stored.head, record), size=stored.size + len(line))


def _record_of(event: Event) -> dict[str, Any]:
    try:
        note = _NOTE.validate_python(event.note.strip()) if event.note else ""
    except ValidationError as error:
        raise InvalidInput(f"--note: {error.errors()[0]['msg']}", "write up to 8,000 visible characters") from error
    said = {
        "kind": event.kind,
        "step": event.step,
        "by": one_line(event.by.strip(), "--by"),
        "at": event.at,
        "note": note,
        "answer": event.answer,
    }
    try:
        return _Happened.model_validate(said).model_dump(mode="json")
    except ValidationError as error:
        raise InvalidInput("nobody is named", "say who did it, with --by") from error


def one_line(text: str, option: str) -> str:
    """A name, or a few words, as they are kept; "" stays so.

    Raises:
        InvalidInput: it is not one line of visible text.
    """
    try:
        return _NAME.validate_python(text) if text else ""
    except ValidationError as error:
        raise InvalidInput(
            f"{option}: {error.errors()[0]['msg']}", "write one line of at most 200 characters"
        ) from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        with FileLock(path.with_suffix(".lock"), timeout=_LOCK_SECONDS, mode=0o600):
            yield
    except Timeout as error:
        raise InvalidInput(f"somebody else is writing {path}", "try again") from error


def _path(home: Home, name: str) -> Path:
    known = [one for one in names(home) if one.startswith(name)]
    if len(known) != 1 or not name:
        some = ", ".join(names(home)[-5:]) or "none"
        raise InvalidInput(f"{name!r} is not one run of this home", f"the newest are: {some}")
    return _folder(home) / f"{known[0]}.jsonl"


def _folder(home: Home) -> Path:
    return home.path / "playbook-runs"


def _line(head: str, record: dict[str, Any]) -> bytes:
    return f'{{"hash":"{_hash(head, record)}","record":{_written(record)}}}\n'.encode()


def _hash(head: str, record: dict[str, Any]) -> str:
    return hashlib.sha256(f"{head}\n{_written(record)}".encode()).hexdigest()


def _written(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _read(path: Path, number: int, line: bytes, head: str) -> tuple[dict[str, Any], str]:
    """A line's record and hash, if it is just as it would be written after the line before."""
    try:
        document = strict_json.loads(line)
        record = document["record"] if isinstance(document, dict) else None
        if not isinstance(document, dict) or not isinstance(record, dict) or _line(head, record) != line:
            raise _changed(path, number, "it does not follow from the line before")
    except (ProtocolError, KeyError, ValueError) as error:
        raise _changed(path, number, "it is not a line of a run") from error
    return record, str(document["hash"])


def _stored(path: Path, records: list[dict[str, Any]], head: str, size: int) -> StoredRun:
    line = 1
    try:
        begun = _Begun.model_validate_json(strict_json.dumps(records[0]))
        run = Run(check_playbook(begun.playbook), begun.at)
        for record in records[1:]:
            line += 1
            one = _Happened.model_validate_json(strict_json.dumps(record))
            run.record(Event(one.kind, one.step, one.by, one.at, one.note, one.answer))
    except (ValidationError, ProtocolError, NotAllowed) as error:
        raise _changed(path, line, f"nothing that was recorded reads so ({error})") from error
    if begun.run != path.stem:
        raise _changed(path, 1, f"it is of run {begun.run}")
    return StoredRun(begun.run, path, Source(begun.playbook, begun.source, begun.about, begun.by), run, head, size)


def _changed(path: Path, number: int, why: str) -> NotProven:
    return NotProven("changed_run", f"{path} line {number} was changed: {why}", "ask who can write to this folder")
