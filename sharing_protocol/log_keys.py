"""Which keys sign the log: those of the founding statement, until the admins name others.

The keys that an entry names sign every tree that contains this entry, and no other. So for each tree size there is
one pair of keys, and everybody who has read the log up to there knows which. Whoever has not may believe a checkpoint
by keys that they never heard of only after they have found, in entries that hash into that very checkpoint's root, the
admins' statement that names them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from sharing_protocol import notes, strict_json
from sharing_protocol.errors import Malformed, Refused
from sharing_protocol.keys import PublicKey, Signer
from sharing_protocol.statements.header import StrictModel
from sharing_protocol.statements.membership import LogIdentity, prove_possession

LOG_ROLE, TIMESTAMP_ROLE = "log", "timestamp"
"""As what a log's new keys prove that somebody holds them; the subject is the origin."""


@dataclass(frozen=True, slots=True)
class LogTerm:
    """A log's keys from some entry on.

    Attributes:
        since: index of the entry that names them.
    """

    since: int
    log: LogIdentity


@dataclass(frozen=True, slots=True)
class LogHistory:
    """Every pair of keys that a log had, in their order; there is at least one."""

    terms: tuple[LogTerm, ...]

    @classmethod
    def of(cls, log: LogIdentity) -> LogHistory:
        """The history of a log that has its first keys."""
        return cls((LogTerm(0, log),))

    @property
    def current(self) -> LogIdentity:
        """The keys that sign the next checkpoint."""
        return self.terms[-1].log

    def at(self, size: int) -> LogIdentity:
        """The keys that sign the tree of so many entries."""
        return self.term_at(size).log

    def term_at(self, size: int) -> LogTerm:
        """The term whose keys sign the tree of so many entries."""
        return next((term for term in reversed(self.terms) if term.since < size), self.terms[0])

    def retired_before(self, size: int) -> list[LogTerm]:
        """The keys that the log had given up before the tree of so many entries, the newest first."""
        ours = self.at(size)
        return [term for term in reversed(self.terms) if term.since < size and term.log != ours]

    def continued(self, since: int, log: LogIdentity) -> LogHistory:
        """The history once entry `since` has named these keys."""
        return LogHistory((*self.terms, LogTerm(since, log)))

    def begins_with(self, other: LogHistory) -> bool:
        """Whether `other` is this history, or an earlier state of it."""
        return self.terms[: len(other.terms)] == other.terms

    def public_keys(self) -> Iterator[PublicKey]:
        """Every key that ever signed as this log."""
        for term in self.terms:
            yield from keys_of(term.log)


class LogCard(StrictModel):
    """What a hub's operator hands to the admins: the log's next keys, and proof that somebody holds them."""

    format: Literal["stillwatch-log-card/1"] = "stillwatch-log-card/1"
    origin: str
    log_key: str
    log_key_proof: str
    timestamp_key: str
    timestamp_key_proof: str


def log_card(log: LogIdentity, log_key: Signer, timestamp_key: Signer) -> LogCard:
    """The card of a pair of keys."""
    return LogCard(
        origin=log.origin,
        log_key=log.log_key,
        log_key_proof=prove_possession(LOG_ROLE, log.origin, log_key),
        timestamp_key=log.timestamp_key,
        timestamp_key_proof=prove_possession(TIMESTAMP_ROLE, log.origin, timestamp_key),
    )


def mark_of(card: StrictModel) -> str:
    """A short mark of everything that a card says, for two people to compare by another channel: 16 hex digits."""
    return hashlib.sha256(strict_json.dumps(card.model_dump(mode="json"))).hexdigest()[:16]


def keys_of(log: LogIdentity) -> tuple[PublicKey, PublicKey]:
    """The log key and the timestamp key of an identity that was checked."""
    return notes.VerifierKey.parse(log.log_key).key, notes.VerifierKey.parse(log.timestamp_key).key


def check_log_identity(log: LogIdentity, where: str = "body.log") -> None:
    """Check that a log can have these keys.

    Raises:
        Refused: `invalid_key`.
    """
    try:
        log_key, timestamp_key = notes.VerifierKey.parse(log.log_key), notes.VerifierKey.parse(log.timestamp_key)
    except Malformed as error:
        raise Refused("invalid_key", error.detail, where) from error
    if log_key.kind is not notes.SignatureType.ED25519 or log_key.name != log.origin:
        raise Refused("invalid_key", "the log key is an Ed25519 vkey named after the origin", f"{where}.log_key")
    if timestamp_key.kind is not notes.SignatureType.COSIGNATURE_V1 or timestamp_key.key == log_key.key:
        raise Refused(
            "invalid_key", "the timestamp key is a cosignature vkey with a key of its own", f"{where}.timestamp_key"
        )
