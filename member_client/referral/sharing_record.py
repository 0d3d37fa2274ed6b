"""What a lab notes of its own sharing with an authority: one line for each, appended and never changed.

referrals.jsonl     in the home, 0600; each line names the digest of the line before, so that none goes missing unseen

Nothing is sent: this is where the lab writes down that somebody of it did so, by its own decision.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from filelock import FileLock

from member_client.errors import InvalidInput
from member_client.home import Home
from member_client.referral.manifest import digest_of
from sharing_protocol.statements.header import show_hidden

MAX_BYTES = 64 * 1024 * 1024


def register_of(home: Home) -> Path:
    """The file."""
    return home.path / "referrals.jsonl"


def append(home: Home, facts: dict[str, Any]) -> dict[str, Any]:
    """Add a line, durably; gives the whole of it, what is no text in UTF-8 or hidden in it as escapes.

    Raises:
        InvalidInput: what is there is damaged.
    """
    path = register_of(home)
    with FileLock(home.path / "referrals.lock", mode=0o600):
        lines = _lines(path)
        shown = {name: show_hidden(fact) if isinstance(fact, str) else fact for name, fact in facts.items()}
        entry = {"number": len(lines), **shown, "previous": digest_of(lines[-1]) if lines else "0" * 64}
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    return entry


def read_all(home: Home) -> list[dict[str, Any]]:
    """Every line, the oldest first.

    Raises:
        InvalidInput: it is damaged, naming the line.
    """
    return [json.loads(line) for line in _lines(register_of(home))]


def _lines(path: Path) -> list[bytes]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidInput(f"{path} has more than {MAX_BYTES:,} bytes", "keep it elsewhere, and move it away")
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    lines = data.split(b"\n")
    if lines.pop():
        raise InvalidInput(f"{path} is damaged: its last line is not whole", "see what it says, then cut that line off")
    before = "0" * 64
    for number, line in enumerate(lines):
        try:
            found = json.loads(line)
            holds = found["previous"] == before and found["number"] == number
        except (ValueError, KeyError, TypeError):
            holds = False
        if not holds:
            raise InvalidInput(
                f"{path}, line {number + 1} does not follow the line before it", "restore it from a backup"
            )
        before = digest_of(line)
    return lines
