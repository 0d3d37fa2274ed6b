"""Keeping what a lying hub showed, in a file that somebody else can check.

A hub may lie at every run for months, and each lie may be as large as an answer may be. So the first files stay, and
once the folder is full each kind of lie has one file more, which is always of the newest.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from member_client.home import write_privately
from sharing_protocol import strict_json
from sharing_protocol.errors import Misbehaviour
from sharing_protocol.evidence import FORMAT, FORUM_RECORD
from sharing_protocol.keys import encode_base64
from sharing_protocol.log_excerpt import LoggedEntry, write_entries
from sharing_protocol.statements.header import format_timestamp

MAX_FILES = 200
MAX_BYTES = 256 * 1024 * 1024


def keep(
    folder: Path, misbehaviour: Misbehaviour, forum: str, record: Sequence[LoggedEntry], hub: str, now: float
) -> Path:
    """Write an evidence file.

    Args:
        forum: the pinned fingerprint.
        record: the forum's own entries, as far as they are known, the founding one first: the log's keys are in them,
            and with them anybody can check the file.
        hub: where it came from.
        now: POSIX seconds.

    Returns:
        The file.
    """
    seen = datetime.fromtimestamp(int(now), UTC)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    documents = dict(misbehaviour.evidence)
    if len(record) > 1:
        documents[FORUM_RECORD] = strict_json.dumps(write_entries(record[1:])).decode()
    document = {
        "format": FORMAT,
        "fault": misbehaviour.fault.value,
        "code": misbehaviour.code,
        "detail": misbehaviour.detail,
        "seen_at": format_timestamp(seen),
        "hub": hub,
        "forum": forum,
        "founding": record[0].entry.decode("utf-8") if record else None,
        "documents": {name: text.replace("\0", "\ufffd") for name, text in documents.items()},
    }
    path = _path(folder, misbehaviour, f"{seen:%Y%m%dT%H%M%SZ}")
    write_privately(path, json.dumps(document, indent=2, ensure_ascii=False).encode())
    return path


def entry_document(entry: bytes) -> dict[str, str]:
    """An entry as evidence: as text if it is text, else in base64; either gives its exact bytes."""
    try:
        text = entry.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    return {"entry_base64": encode_base64(entry)} if "\0" in text else {"entry": text}


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
