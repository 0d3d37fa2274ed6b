"""Proofs and evidence from a log in memory, made without the client: a tree, its checkpoints, and excerpts of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sharing_protocol import checkpoints, merkle, strict_json
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.errors import Fault
from sharing_protocol.evidence import FORMAT, Evidence, Verdict, judge
from sharing_protocol.keys import PrivateKey, encode_base64
from sharing_protocol.log_excerpt import LoggedEntry, write_entries
from sharing_protocol.record_proof import RecordProof
from sharing_protocol.tlog_proof import TlogProof
from tests.protocol.forum_log import (
    AURORA,
    BOREAL,
    FORUM,
    LOG_KEY,
    ORIGIN,
    PATTERN,
    SIGHTING,
    TIMESTAMP_KEY,
    WITHDRAWAL,
    ForumLog,
    add_key_body,
    admins_body,
    forum_of_two_labs,
    identifier,
    pattern_body,
    reason,
    record_reference,
    revoke_body,
    sighting_body,
    withdrawal_body,
)

NOON = 1_772_366_460
OTHER_PATTERN = identifier("pattern", 0x101)


class Tree:
    """The signed tree over some entries."""

    def __init__(self, entries: Sequence[bytes], time: int = NOON) -> None:
        self.entries = list(entries)
        self.leaves = [merkle.leaf_hash(entry) for entry in entries]
        self.time = time

    @classmethod
    def of(cls, log: ForumLog) -> Tree:
        return cls([made.encode() for made in log.entries])

    def node(self, height: int, index: int) -> bytes:
        return merkle.subtree_root(self.leaves[index << height : (index + 1) << height])

    def note(self, size: int | None = None, time: int | None = None, log_key: PrivateKey = LOG_KEY) -> str:
        size = len(self.entries) if size is None else size
        head = Checkpoint(ORIGIN, size, merkle.root_from_leaves(self.leaves[:size]))
        return str(checkpoints.cosign(checkpoints.sign(head, log_key), ORIGIN, TIMESTAMP_KEY, time or self.time))

    def logged(self, indices: Iterable[int]) -> list[LoggedEntry]:
        size = len(self.entries)
        return [
            LoggedEntry(index, self.entries[index], tuple(merkle.inclusion_proof(index, size, self.node)))
            for index in indices
        ]

    def proof(self, index: int, membership: Iterable[int]) -> RecordProof:
        [proven] = self.logged([index])
        return RecordProof(
            proven.entry, TlogProof(index, proven.steps, self.note()), tuple(self.logged(sorted(membership)))
        )

    def accuse(self, index: int, context: Iterable[int]) -> dict[str, str]:
        """The documents of evidence against the entry at `index`."""
        [accused] = self.logged([index])
        return {
            "entry": accused.entry.decode(),
            "index": str(index),
            "checkpoint": self.note(),
            "inclusion_proof": lines(accused.steps),
            "context": strict_json.dumps(write_entries(self.logged(sorted(context)))).decode(),
        }


def lines(steps: Iterable[bytes]) -> str:
    return "\n".join(encode_base64(step) for step in steps)


def evidence(log: ForumLog, documents: dict[str, str], fault: Fault = Fault.FORGE) -> Evidence:
    """An evidence file about this log's forum."""
    return Evidence.model_validate(
        {
            "format": FORMAT,
            "fault": fault.value,
            "code": "claimed",
            "detail": "what its maker says",
            "seen_at": "2026-03-01T12:05:00Z",
            "hub": "https://hub.example",
            "forum": log.fingerprint,
            "founding": log.entries[0].encode().decode(),
            "documents": documents,
        }
    )


def verdict(log: ForumLog, documents: dict[str, str], fault: Fault = Fault.FORGE) -> Verdict:
    """What the documents prove to somebody who has pinned this log's forum."""
    return reasoned(judge(evidence(log, documents, fault), log.fingerprint))


def reasoned(found: Verdict) -> Verdict:
    """The same verdict, which must give its reasons in sentences."""
    assert found.reasons
    assert all(" " in reason and "None" not in reason for reason in found.reasons), found.reasons
    return found


def eventful_log() -> ForumLog:
    """A log of everything that can happen: each kind of membership change, revisions, withdrawals, sightings."""
    log, two = forum_of_two_labs(), ["Ada", "Ben"]
    log.say("pattern", PATTERN, AURORA, pattern_body(), ["Aurora analyst"])
    log.say("membership.suspend", AURORA, FORUM, reason(), two)
    log.say("membership.reinstate", AURORA, FORUM, reason(), two)
    log.say("pattern", PATTERN, AURORA, pattern_body(title="Better"), ["Aurora analyst"])
    log.say("membership.add_key", AURORA, AURORA, add_key_body("Aurora second", "analyst", AURORA), ["Aurora owner"])
    log.say("membership.revoke_key", AURORA, AURORA, revoke_body("Aurora analyst", 3), ["Aurora owner"])
    log.say("pattern", PATTERN, AURORA, pattern_body(title="Best"), ["Aurora second"])
    seen = sighting_body(record_reference(log.head(PATTERN)))
    log.say("sighting", SIGHTING, BOREAL, seen, ["Boreal analyst"])
    log.say("membership.change_admins", FORUM, FORUM, admins_body(["Ada", "Dora"], 1), ["Ada", "Ben", "Dora"])
    log.say("membership.add_key", BOREAL, FORUM, add_key_body("Boreal second", "analyst", BOREAL), ["Dora"])
    log.say("pattern", OTHER_PATTERN, BOREAL, pattern_body(title="Other"), ["Boreal second"])
    withdrawal = withdrawal_body(record_reference(log.head(PATTERN)))
    log.say("withdrawal", WITHDRAWAL, AURORA, withdrawal, ["Aurora second"])
    log.say("membership.expel", BOREAL, FORUM, reason(), ["Dora"])
    return log
