"""Which record a user means, and which ones a list shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from member_client.errors import InvalidInput
from member_client.session import Session
from member_client.sync.store import Store, StoredVersion, state_of, why_suspect
from sharing_protocol.membership import Membership

STATES = ("active", "superseded", "withdrawn", "suspect", "expired", "not yet valid", "unsound")
ALL = "all"
_SHORTEST_PREFIX = 4
_SHOWN_CANDIDATES = 5
_SHOWN_CHARACTERS = 8


@dataclass(frozen=True, slots=True)
class Listed:
    """A record version with its state and its author's name, as of now.

    Attributes:
        why: for a suspect one what makes it so, "" otherwise.
    """

    version: StoredVersion
    state: str
    author_name: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a list is narrowed to; an empty string narrows nothing.

    Attributes:
        state: one of STATES, or ALL.
        author: a lab's name or id.
        technique: an ATLAS id; a technique finds its sub-techniques too.
        text: words in the title or description.
    """

    state: str = "active"
    kind: str = ""
    author: str = ""
    technique: str = ""
    text: str = ""


def find(session: Session, wanted: Wanted) -> list[Listed]:
    """Pattern versions that fit, in log order; older versions only when their states are asked for."""
    if wanted.state not in (*STATES, ALL):
        raise InvalidInput(f"{wanted.state!r} is not a state", f"use one of {', '.join((*STATES, ALL))}")
    versions = session.store.versions(
        type="pattern", search=wanted.text or None, newest_only=wanted.state not in ("superseded", ALL)
    )
    listed = (listing(version, session.membership, session.now) for version in versions)
    return [item for item in listed if _fits(item, wanted)]


def listing(version: StoredVersion, membership: Membership, now: datetime) -> Listed:
    """A version with its state and its author's name."""
    state = state_of(version, membership, now)
    why = why_suspect(version, membership) if state == "suspect" else ""
    return Listed(version, state, membership.name_of(version.author), why)


def name_of(member: str, membership: Membership) -> str:
    """A lab's name, or its id if the log has not admitted it."""
    return membership.name_of(member)


def listed_document(item: Listed) -> dict[str, Any]:
    """A listed version of any kind of record, for scripts."""
    version = item.version
    return {
        "id": version.id,
        "version": version.version,
        "state": item.state,
        "kind": version.kind,
        "title": version.title,
        "marking": version.marking,
        "author": version.author,
        "author_name": item.author_name,
        "index": version.index,
        "entry": version.entry,
        "created": version.created,
        "valid_until": version.valid_until,
    }


def short_id(record_id: str) -> str:
    """The beginning of an id, for tables; `resolve` takes it wherever an id is asked for."""
    return record_id.partition("--")[2][:_SHOWN_CHARACTERS]


def resolve(store: Store, text: str, kind: str = "pattern") -> list[StoredVersion]:
    """Every version of the record that a user's id, or the beginning of one, means; oldest first.

    Raises:
        InvalidInput: none, or more than one.
    """
    head = f"{kind.replace('_', '-')}--"
    prefix = text.removeprefix(head).lower()
    if len(prefix) < _SHORTEST_PREFIX:
        raise InvalidInput(f"{text!r} is too short an id", f"give at least {_SHORTEST_PREFIX} of its characters")
    versions = [version for version in store.versions(type=kind) if version.id.removeprefix(head).startswith(prefix)]
    ids = list(dict.fromkeys(version.id for version in versions))
    if not ids:
        raise InvalidInput(f"there is no {kind} {text!r} here", "run `stillwatch sync`, or check the id")
    if len(ids) > 1:
        raise InvalidInput(f"{text!r} means {len(ids)} records: {_some(ids)}", "give more of the id")
    return versions


def _some(ids: Sequence[str]) -> str:
    more = len(ids) - _SHOWN_CANDIDATES
    return ", ".join(ids[:_SHOWN_CANDIDATES]) + (f" and {more} more" if more > 0 else "")


def _fits(item: Listed, wanted: Wanted) -> bool:
    version = item.version
    technique = wanted.technique.upper()
    return (
        wanted.state in (ALL, item.state)
        and wanted.kind in ("", version.kind)
        and (not wanted.author or wanted.author.lower() in (item.author_name.lower(), version.author))
        and (not technique or any(f"{one}.".startswith(f"{technique}.") for one in version.techniques))
    )
