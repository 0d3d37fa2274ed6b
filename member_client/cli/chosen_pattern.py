"""The pattern that a command works on: a record, or a file that nobody has submitted yet."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from member_client.cli.output import open_session
from member_client.cli.pattern_writing import now, usable
from member_client.errors import InvalidInput
from member_client.patterns.authoring import read
from member_client.patterns.finding import resolve
from member_client.patterns.library import starter_names
from member_client.patterns.presenting import choose
from sharing_protocol.content import check_pattern
from sharing_protocol.pattern_logic import Logic
from sharing_protocol.statements import PatternBody


@dataclass(frozen=True, slots=True)
class ChosenPattern:
    """A pattern, and exactly which text or record it is.

    Attributes:
        id: of the record; "" of a file.
        version: of the record; 0 of a file.
        entry: the record's entry hash, or the file's SHA-256, in hex.
        origin: all of this in one line.
    """

    id: str
    version: int
    entry: str
    origin: str
    body: PatternBody
    logic: Logic


_ID = re.compile(r"(pattern--)?[0-9a-f-]+", re.IGNORECASE)


def how_to_name(text: str) -> str:
    """What to write where a pattern was meant by a text that is no id."""
    if text in starter_names():
        return f"it is a starter: write it to a file with `stillwatch pattern new --from {text} -o {text}.yaml`"
    return "name a pattern file, or the id of a record: `stillwatch pattern list` shows them"


def check_is_id(text: str) -> None:
    """See that a text can be the id of a record, where a file will not do.

    Raises:
        InvalidInput: it is a file, a starter or nothing.
    """
    if Path(text).suffix in (".yaml", ".yml") or Path(text).is_file():
        raise InvalidInput(
            f"{text} is a file, and only records in force are run",
            f"try a file with `stillwatch pattern backtest {text} LOGS`, or submit it first",
        )
    if not _ID.fullmatch(text):
        raise InvalidInput(f"{text!r} is no record's id", how_to_name(text))


def choose_pattern(pattern: str, version: int | None, home: Path | None) -> ChosenPattern:
    """The pattern that a user means by a file's name, or by a record's id or the beginning of one.

    Args:
        version: of a record; None for the newest.

    Raises:
        InvalidInput: there is none, or the file has something to mend.
    """
    file = Path(pattern)
    if file.suffix in (".yaml", ".yml") or file.is_file():
        if version is not None:
            raise InvalidInput("a file has no versions", "leave --version out, or name a record")
        written = usable(read(file, now()))
        origin = f"file {file}, SHA-256 {written.digest}"
        return ChosenPattern("", 0, written.digest, origin, written.content, written.logic)
    if not _ID.fullmatch(pattern):
        raise InvalidInput(f"{pattern!r} is no file, and no record's id", how_to_name(pattern))
    store = open_session(home).store
    record = choose(resolve(store, pattern), version)
    body = store.pattern(record).body
    origin = f"{record.id} version {record.version}, entry {record.entry}"
    return ChosenPattern(record.id, record.version, record.entry, origin, body, check_pattern(body))
