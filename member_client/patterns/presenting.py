"""One pattern, for people and scripts: its versions, where it comes from, who saw it, what changed.

All of it is computed from this home's own verified copy of the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from member_client.errors import InvalidInput
from member_client.patterns.finding import Listed, listed_document, listing
from member_client.patterns.yaml_writing import pattern_file
from member_client.session import Session
from member_client.sync.store import Store, StoredVersion
from sharing_protocol import envelope as envelopes
from sharing_protocol import statements
from sharing_protocol.line_diff import line_diff
from sharing_protocol.merkle import leaf_hash
from sharing_protocol.statements import Pattern, Sighting, Withdrawal
from sharing_protocol.statements.header import format_timestamp


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a version comes from, and what proves it.

    Attributes:
        signer: id of the key that signed it.
        signer_state: `in force`, or what became of the key.
        tree_size, root: of the verified checkpoint that the entry is included in.
        intact: whether the stored entry still has the hash that was verified.
        receipt: whether this home has the hub's receipt, as its author does.
    """

    author: str
    author_name: str
    signer: str
    signer_state: str
    index: int
    entry: str
    tree_size: int
    root: str
    intact: bool
    receipt: bool


@dataclass(frozen=True, slots=True)
class SeenBy:
    """A sighting of a pattern by a lab."""

    id: str
    lab: str
    pattern_version: int
    period_start: str
    period_end: str
    matches: str
    accounts: str | None
    state: str


@dataclass(frozen=True, slots=True)
class WithdrawnBy:
    """Who withdrew a record, and why."""

    lab: str
    index: int
    created: str
    reason: str


def pattern_document(item: Listed) -> dict[str, Any]:
    """A listed version of a pattern for scripts."""
    version = item.version
    return listed_document(item) | {
        "why": item.why,
        "severity": version.severity,
        "techniques": list(version.techniques),
        "valid_from": version.valid_from,
        "trial": {None: "not tried yet", "": "passed"}.get(version.trial, version.trial),
    }


def provenance(session: Session, version: StoredVersion) -> Provenance:
    """Where a version comes from, with its stored entry hashed once more."""
    membership = session.membership
    key = membership.keys.get(version.signer)
    signer_state = "in force"
    if key is None:
        signer_state = "unknown"
    elif key.revoked_at is not None:
        since = "" if key.suspect_from is None else f", suspect from index {key.suspect_from}"
        signer_state = f"revoked at index {key.revoked_at}{since}"
    trusted = session.store.trusted()
    data = session.store.entry(version.index)
    return Provenance(
        author=version.author,
        author_name=membership.name_of(version.author),
        signer=version.signer,
        signer_state=signer_state,
        index=version.index,
        entry=version.entry,
        tree_size=trusted.checkpoint.size if trusted else 0,
        root=trusted.checkpoint.root.hex() if trusted else "",
        intact=data is not None and leaf_hash(data).hex() == version.entry,
        receipt=session.store.has_receipt(version.entry),
    )


def sightings_of(session: Session, pattern_id: str | None = None) -> list[tuple[StoredVersion, SeenBy]]:
    """The newest version of every sighting, of one pattern or of all, in log order."""
    found = []
    for version in session.store.versions(type="sighting", refers_to=pattern_id, newest_only=True):
        statement = statement_at(session.store, version.index)
        if isinstance(statement, Sighting):
            item = listing(version, session.membership, session.now)
            body = statement.body
            seen = SeenBy(
                id=version.id,
                lab=item.author_name,
                pattern_version=body.pattern.version,
                period_start=format_timestamp(body.period_start)[:10],
                period_end=format_timestamp(body.period_end)[:10],
                matches=body.matches.value,
                accounts=body.accounts.value if body.accounts else None,
                state=item.state,
            )
            found.append((version, seen))
    return found


def withdrawal_of(session: Session, record_id: str) -> WithdrawnBy | None:
    """The withdrawal of a record, or None."""
    for version in session.store.versions(type="withdrawal", refers_to=record_id):
        statement = statement_at(session.store, version.index)
        if isinstance(statement, Withdrawal):
            lab = session.membership.name_of(version.author)
            return WithdrawnBy(lab, version.index, version.created, statement.body.reason)
    return None


def statement_at(store: Store, index: int) -> object:
    """The statement of a stored, admitted entry."""
    data = store.entry(index)
    return statements.parse(envelopes.parse(data).payload) if data else None


def choose(versions: Sequence[StoredVersion], number: int | None) -> StoredVersion:
    """One version of a record, by default the newest.

    Raises:
        InvalidInput: there is no such version.
    """
    if number is None:
        return versions[-1]
    for version in versions:
        if version.version == number:
            return version
    raise InvalidInput(
        f"there is no version {number}; the newest is {versions[-1].version}", "`stillwatch pattern show`"
    )


def difference(before: Pattern, after: Pattern) -> list[str]:
    """What changed between two versions, as a unified diff of their pattern files."""
    old, new = (pattern_file(one.body).splitlines() for one in (before, after))
    return line_diff(old, new, (f"version {before.version}", f"version {after.version}"))


def parse_range(text: str, versions: Sequence[StoredVersion]) -> tuple[StoredVersion, StoredVersion]:
    """The two versions that `A..B` names; `A..` and `..B` leave the newest, or the one before, unsaid.

    Raises:
        InvalidInput: not of this form, or there is no such version.
    """
    first, separator, second = text.partition("..")
    if not separator or any(part and not (part.isascii() and part.isdigit()) for part in (first, second)):
        raise InvalidInput(f"{text!r} is not a range of versions", "write it like 1..2")
    after = choose(versions, int(second) if second else None)
    before = choose(versions, int(first) if first else max(after.version - 1, 1))
    return before, after
