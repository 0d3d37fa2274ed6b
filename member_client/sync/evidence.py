"""Keeping what a lying hub showed, in a file that somebody else can check.

A hub may lie at every run for months, and each lie may be as large as an answer may be. So the first files stay, and
once the folder is full each kind of lie has one file more, which is always of the newest.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from member_client.home import write_privately
from sharing_protocol.errors import Misbehaviour
from sharing_protocol.keys import encode_base64
from sharing_protocol.log_keys import LogHistory
from sharing_protocol.statements.header import format_timestamp

FORMAT = "stillwatch-evidence/1"
MAX_FILES = 200
MAX_BYTES = 256 * 1024 * 1024


def keep(folder: Path, misbehaviour: Misbehaviour, forum: str, logs: LogHistory | None, hub: str, now: float) -> Path:
    """Write an evidence file.

    Args:
        forum: the pinned fingerprint.
        logs: the log's keys, when they are known; they make the file checkable on its own.
        hub: where it came from.
        now: POSIX seconds.

    Returns:
        The file.
    """
    seen = datetime.fromtimestamp(int(now), UTC)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    document = {
        "format": FORMAT,
        "fault": misbehaviour.fault.value,
        "code": misbehaviour.code,
        "detail": misbehaviour.detail,
        "seen_at": format_timestamp(seen),
        "hub": hub,
        "forum": forum,
        "log": logs.current.model_dump(mode="json") if logs else None,
        **_former_keys(logs),
        "documents": misbehaviour.evidence,
    }
    path = _path(folder, misbehaviour, f"{seen:%Y%m%dT%H%M%SZ}")
    write_privately(path, json.dumps(document, indent=2, ensure_ascii=False).encode())
    return path


def _former_keys(logs: LogHistory | None) -> dict[str, object]:
    """All keys that the log had, with the index of the entry that named them, if there was more than one pair."""
    if logs is None or len(logs.terms) == 1:
        return {}
    return {"log_keys": [{"since": term.since, **term.log.model_dump(mode="json")} for term in logs.terms]}


def entry_document(entry: bytes) -> dict[str, str]:
    """An entry as evidence: as text if it is text, else in base64; either gives its exact bytes."""
    try:
        return {"entry": entry.decode("utf-8")}
    except UnicodeDecodeError:
        return {"entry_base64": encode_base64(entry)}


def _path(folder: Path, misbehaviour: Misbehaviour, moment: str) -> Path:
    kind = f"{misbehaviour.fault.value.replace(' ', '-')}-{misbehaviour.code}"
    if (index := misbehaviour.evidence.get("index")) is not None:
        return folder / f"{kind}-entry-{index}.json"  # the same case again, perhaps with its proof at last
    kept = [path.stat().st_size for path in folder.glob("*.json")]
    if len(kept) >= MAX_FILES or sum(kept) >= MAX_BYTES:
        return folder / f"newest-{kind}.json"
    path = folder / f"{moment}-{kind}.json"
    count = 1
    while path.exists():
        count += 1
        path = folder / f"{moment}-{kind}-{count}.json"
    return path
