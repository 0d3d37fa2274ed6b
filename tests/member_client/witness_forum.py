"""A forum of three labs with a witness key each, and what happens to its log."""

from __future__ import annotations

import time

from sharing_protocol import checkpoints, notes
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.merkle import leaf_hash, root_from_leaves
from sharing_protocol.witnesses import witness_key
from tests.member_client.follower import MEMBERS, entries_of
from tests.member_client.lying_hub import LyingHub
from tests.protocol.forum_log import (
    AURORA,
    BOREAL,
    FORUM,
    LOG_KEY,
    ORIGIN,
    ForumLog,
    admit_body,
    founded,
    identifier,
    key,
    lab_keys,
    pattern_body,
)

ADMINS = ["Ada", "Ben"]


def forum_of_witnesses() -> ForumLog:
    log = founded()
    for name, member in MEMBERS.items():
        keys = [*lab_keys(name), (f"{name} witness", "witness")]
        log.say("membership.admit", member, FORUM, admit_body(member, name, keys), ADMINS)
    return log


def grow(hub: LyingHub, log: ForumLog, count: int = 1) -> None:
    """Let the log have so many patterns more."""
    for _ in range(count):
        body = pattern_body(title=f"Pattern {log.size}")
        log.say("pattern", identifier("pattern", 0x100 + log.size), AURORA, body, ["Aurora analyst"])
    hub.entries = entries_of(log)


def branch(log: ForumLog, size: int, title: str = "Another history") -> list[bytes]:
    """The log's first entries, and one that it does not have."""
    twin = ForumLog()
    for made in log.entries[:size]:
        twin.append(made)
    twin.say("pattern", identifier("pattern", 0x999), BOREAL, pattern_body(title=title), ["Boreal analyst"])
    return entries_of(twin)


def cosigned(hub: LyingHub) -> list[tuple[str, int]]:
    """Who sent what to the hub, the newest first: names and sizes. Every line holds."""
    found = []
    for text in hub.cosigned:
        note = notes.parse(text.encode())
        witness = note.signatures[-1]
        name = next(name for name, member in MEMBERS.items() if member == witness.name)
        assert notes.verify(note, [witness_key(witness.name, key(f"{name} witness").public_key)])
        found.append((name, checkpoints.parse_text(note.text).size))
    return found


def cosign(hub: LyingHub, name: str, entries: list[bytes], at: float | None = None, signer: str = "") -> str:
    """A note of these entries by the log's key, cosigned in a lab's name; put where the hub shows it."""
    head = Checkpoint(ORIGIN, len(entries), root_from_leaves(leaf_hash(entry) for entry in entries))
    note = checkpoints.sign(head, LOG_KEY)
    made = checkpoints.cosign(
        note, MEMBERS[name], key(signer or f"{name} witness"), int(time.time() if at is None else at)
    )
    hub.cosigned.insert(0, str(made))
    return str(made)
