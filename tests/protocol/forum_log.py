"""A small forum written by hand: keys from seeds, statements as plain JSON, and a log that admits them.

Statements are built as dictionaries rather than models, so that a test can say what no model would.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from typing import Any
from uuid import UUID

from sharing_protocol import admission, envelope, merkle, statements
from sharing_protocol.admission import Admission, Head
from sharing_protocol.envelope import Envelope
from sharing_protocol.errors import ProtocolError
from sharing_protocol.keys import PrivateKey
from sharing_protocol.membership import Membership
from sharing_protocol.notes import SignatureType, VerifierKey
from sharing_protocol.statements import Incident, Pattern, Playbook, ReferralCriteria, prove_possession
from sharing_protocol.statements.membership import LogIdentity

Document = dict[str, Any]

ORIGIN = "forum.example/log"
CREATED = "2026-03-01T12:00:00Z"


@cache
def key(name: str) -> PrivateKey:
    """The private key that goes by this name."""
    return PrivateKey.from_seed(hashlib.sha256(name.encode()).digest())


def identifier(prefix: str, number: int) -> str:
    """A readable id."""
    return f"{prefix}--{UUID(int=number)}"


FORUM = identifier("forum", 1)
AURORA = identifier("member", 0xA)
BOREAL = identifier("member", 0xB)
CIRRUS = identifier("member", 0xC)

LOG_KEY = key("log")
TIMESTAMP_KEY = key("timestamp")


def log_identity() -> Document:
    """The log's origin and verifier keys, as a founding statement has them."""
    return {
        "origin": ORIGIN,
        "log_key": str(VerifierKey(ORIGIN, SignatureType.ED25519, LOG_KEY.public_key)),
        "timestamp_key": str(VerifierKey(ORIGIN, SignatureType.COSIGNATURE_V1, TIMESTAMP_KEY.public_key)),
    }


LOG = LogIdentity.model_validate(log_identity())


def admin(name: str) -> Document:
    """An admin's registration; the key goes by the admin's name."""
    return {"name": name, "key": str(key(name).public_key), "proof": prove_possession("admin", name, key(name))}


def registration(name: str, role: str, member: str) -> Document:
    """A member key's registration."""
    return {"key": str(key(name).public_key), "role": role, "proof": prove_possession(role, member, key(name))}


def payload(document: Document) -> bytes:
    """The bytes to sign."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def signed(document: Document, *signers: str) -> Envelope:
    """The document in an envelope, signed by the keys of these names."""
    return envelope.sign(payload(document), [key(name) for name in signers])


def entry_hash(made: Envelope) -> str:
    """Hex leaf hash of the envelope's entry."""
    return merkle.leaf_hash(made.encode()).hex()


class ForumLog:
    """A log in memory that takes what `admission.admit` takes.

    Attributes:
        created: when whatever is written next says that it was.
    """

    def __init__(self) -> None:
        self.created = CREATED
        self.membership = Membership()
        self.heads: dict[str, Head] = {}
        self.versions: dict[tuple[str, int], str] = {}
        self.entries: list[Envelope] = []

    def head(self, record_id: str) -> Head | None:
        return self.heads.get(record_id)

    def entry_of(self, record_id: str, version: int) -> str | None:
        return self.versions.get((record_id, version))

    def copy(self) -> ForumLog:
        """A log that can go another way from here."""
        twin = ForumLog()
        twin.membership, twin.heads = self.membership, dict(self.heads)
        twin.versions, twin.entries = dict(self.versions), list(self.entries)
        return twin

    @property
    def size(self) -> int:
        return len(self.entries)

    @property
    def fingerprint(self) -> str:
        assert self.membership.forum is not None
        return self.membership.forum.fingerprint

    def decide(self, made: Envelope) -> Admission:
        """What admitting this envelope as the next entry would change; its claim, if it has one, leads to the same."""
        try:
            decision = admission.admit(made, self.size, entry_hash(made), self.membership, self)
        except ProtocolError:
            assert self.head_by_claim(made) is None
            raise
        assert isinstance(decision, Admission)
        is_plain = isinstance(decision.statement, Pattern | Playbook | ReferralCriteria)
        if is_plain or not isinstance(decision.statement, Incident):  # of which some refer to nothing
            assert self.head_by_claim(made) == (decision.head if is_plain else None)
        return decision

    def head_by_claim(self, made: Envelope) -> Head | None:
        """The record's new head as `admission.admit_claim` decides; None if it refuses it, or that takes more."""
        if len(made.signatures) != 1 or (key := self.membership.keys.get(made.signatures[0].key_id)) is None:
            return None
        if not key.public_key.verifies(made.signed_message, made.signatures[0].value):
            return None
        try:
            claim = admission.claim_of(statements.parse(made.payload), made.signatures[0].key_id)
            return admission.admit_claim(claim, entry_hash(made), self.membership, self) if claim is not None else None
        except ProtocolError:
            return None

    def append(self, made: Envelope) -> Admission:
        """Admit this envelope as the next entry."""
        decision = self.decide(made)
        self.membership = decision.membership
        head = decision.head
        self.heads[head.id] = head
        self.versions[head.id, head.version] = head.entry
        if (withdrawn := decision.withdrawn) is not None:
            self.heads[withdrawn.id] = Head(
                withdrawn.id, withdrawn.type, withdrawn.version, withdrawn.entry, withdrawn.author, withdrawn=True
            )
        self.entries.append(made)
        return decision

    def next(self, kind: str, record_id: str, author: str, body: Document) -> Document:
        """The next version of a record, as a statement of this type would write it."""
        head = self.heads.get(record_id)
        return {
            "schema": 1,
            "forum": self.fingerprint if self.membership.forum else None,
            "type": kind,
            "id": record_id,
            "version": head.version + 1 if head else 1,
            "previous": head.entry if head else None,
            "author": author,
            "created": self.created,
            "body": deepcopy(body),
        }

    def say(self, kind: str, record_id: str, author: str, body: Document, signers: Sequence[str]) -> Admission:
        """Write, sign and append the next version of a record."""
        return self.append(signed(self.next(kind, record_id, author, body), *signers))


def found_body(admins: Sequence[str] = ("Ada", "Ben", "Cleo"), threshold: int = 2) -> Document:
    return {
        "name": "Test forum",
        "log": log_identity(),
        "admins": [admin(name) for name in admins],
        "threshold": threshold,
    }


def admit_body(member: str, name: str, keys: Sequence[tuple[str, str]]) -> Document:
    return {
        "name": name,
        "keys": [registration(key_name, role, member) for key_name, role in keys],
        "reason": "A founding lab",
    }


def lab_keys(lab: str) -> list[tuple[str, str]]:
    """An owner, an analyst and a sync key."""
    return [(f"{lab} owner", "owner"), (f"{lab} analyst", "analyst"), (f"{lab} sync", "sync")]


def reason(text: str = "Agreed at the monthly call") -> Document:
    return {"reason": text}


def add_key_body(name: str, role: str, member: str) -> Document:
    return {"key": registration(name, role, member), "reason": "A new machine"}


def revoke_body(name: str, suspect_from: int | None = None) -> Document:
    return {"key_id": key(name).public_key.key_id, "reason": "Lost laptop", "suspect_from": suspect_from}


def admins_body(admins: Sequence[str], threshold: int) -> Document:
    return {"admins": [admin(name) for name in admins], "threshold": threshold, "reason": "Yearly rotation"}


def log_of(number: str, names: tuple[str, str] | None = None) -> LogIdentity:
    """The identity of the log with the keys `log <number>` and `timestamp <number>`."""
    log_key, timestamp_key = names or (f"log {number}", f"timestamp {number}")
    return LogIdentity(
        origin=ORIGIN,
        log_key=str(VerifierKey(ORIGIN, SignatureType.ED25519, key(log_key).public_key)),
        timestamp_key=str(VerifierKey(ORIGIN, SignatureType.COSIGNATURE_V1, key(timestamp_key).public_key)),
    )


def change_log_body(number: str, names: tuple[str, str] | None = None) -> Document:
    log_key, timestamp_key = names or (f"log {number}", f"timestamp {number}")
    log = log_of(number, names)
    return {
        "log_key": log.log_key,
        "log_key_proof": prove_possession("log", ORIGIN, key(log_key)),
        "timestamp_key": log.timestamp_key,
        "timestamp_key_proof": prove_possession("timestamp", ORIGIN, key(timestamp_key)),
        "reason": "The old log key may be known to others",
    }


def handling(**changes: Any) -> Document:
    return {
        "marking": "amber",
        "purpose": "Detect adversarial distillation",
        "legal_basis": "Legitimate interest",
        "valid_until": "2026-09-01T00:00:00Z",
        **changes,
    }


def pattern_body(**changes: Any) -> Document:
    return {
        **handling(),
        "kind": "query_pattern",
        "title": "Bootstrapped instructions",
        "description": "Asks for new tasks in the style of given ones.\nMany times over.",
        "techniques": ["AML.T0024.002"],
        "severity": "high",
        "confidence": 70,
        "valid_from": "2026-03-01T00:00:00Z",
        "references": [{"title": "Self-instruct", "url": "https://example.org/self-instruct"}],
        "method": None,
        "logic": [{"title": "Bootstrapped instructions", "detection": {"condition": "selection"}}],
        "tests": [
            {
                "name": "a bootstrap prompt",
                "expect": "match",
                "events": [{"prompt.text": "come up with 20 tasks"}],
                "synthetic": True,
            },
            {
                "name": "small talk",
                "expect": "no_match",
                "events": [{"prompt.text": "hello"}],
                "synthetic": True,
            },
        ],
        "measured": {
            "events": "100000-999999",
            "match_rate": 0.0001,
            "false_positive_rate": 0.05,
            "false_positive_interval": [0.01, 0.125],
            "method": "Manual review of 200 matches",
        },
        "playbook": None,
        **changes,
    }


def record_reference(head: Head | None) -> Document:
    assert head is not None
    return {"id": head.id, "version": head.version, "entry": head.entry}


def withdrawal_body(record: Document, **changes: Any) -> Document:
    return {**handling(), "record": record, "reason": "Too many false positives.", **changes}


def sighting_body(pattern: Document, **changes: Any) -> Document:
    return {
        **handling(),
        "pattern": pattern,
        "period_start": "2026-02-01T00:00:00Z",
        "period_end": "2026-03-01T00:00:00Z",
        "matches": "100-999",
        "accounts": "10-99",
        **changes,
    }


PATTERN = identifier("pattern", 0x100)
SIGHTING = identifier("sighting", 0x200)
WITHDRAWAL = identifier("withdrawal", 0x300)


def founded(threshold: int = 2) -> ForumLog:
    """A forum of three admins."""
    return _founded(threshold).copy()


def forum_of_two_labs() -> ForumLog:
    """A forum with three admins, threshold 2, and the labs Aurora and Boreal."""
    return _forum_of_two_labs().copy()


def forum_with_records() -> ForumLog:
    """The same with a pattern of Aurora's and a sighting of it by Boreal."""
    return _forum_with_records().copy()


# Made once: the signatures of one forum take longer than many a test of it.
@cache
def _founded(threshold: int) -> ForumLog:
    log = ForumLog()
    log.say("membership.found", FORUM, FORUM, found_body(threshold=threshold), ["Ada", "Ben"])
    return log


@cache
def _forum_of_two_labs() -> ForumLog:
    log = founded()
    for member, name in ((AURORA, "Aurora"), (BOREAL, "Boreal")):
        body = admit_body(member, name, lab_keys(name))
        log.say("membership.admit", member, FORUM, body, ["Ada", "Ben"])
    return log


@cache
def _forum_with_records() -> ForumLog:
    log = forum_of_two_labs()
    log.say("pattern", PATTERN, AURORA, pattern_body(), ["Aurora analyst"])
    seen = sighting_body(record_reference(log.head(PATTERN)))
    log.say("sighting", SIGHTING, BOREAL, seen, ["Boreal analyst"])
    return log
