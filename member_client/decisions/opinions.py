"""What an upheld appeal lets this lab say of a pattern: a `false_positive` opinion, with counts and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from member_client.decisions.appeals import measured
from member_client.decisions.register import Register
from member_client.errors import InvalidInput
from member_client.feedback import publish_opinion
from member_client.patterns.submission import handling_of
from member_client.session import Session
from member_client.sync.store import StoredVersion

VERDICT = "false_positive"


@dataclass(frozen=True, slots=True)
class Prepared:
    """An opinion that can be published.

    Attributes:
        body: all that it says, as JSON; {} if it cannot be published.
        why_not: why it cannot be published, "" if it can.
    """

    pattern: str
    version: int
    stored: StoredVersion | None
    body: Mapping[str, Any]
    why_not: str = ""


def prepare(
    session: Session,
    register: Register,
    entries: Mapping[str, tuple[str, int]],
    comment: str,
    handling: Mapping[str, str],
) -> list[Prepared]:
    """An opinion on each of these pattern versions.

    Args:
        entries: by entry hash the record's id and version.
        handling: what the user said of it; the rest is as the pattern says.
    """
    return [
        _prepared(session, register, entry, record, version, comment, handling)
        for entry, (record, version) in entries.items()
    ]


def publish(session: Session, prepared: Prepared) -> dict[str, Any]:
    """Sign and publish an opinion; a second one revises the first.

    Raises:
        ClientError: see `publishing.publish`.
    """
    if prepared.stored is None:
        raise InvalidInput(f"nothing can be said of {prepared.pattern}: {prepared.why_not}")
    published = publish_opinion(session, prepared.stored, dict(prepared.body))
    return {"id": published.id, "version": published.version, "index": published.index, "entry": published.entry}


def _prepared(
    session: Session,
    register: Register,
    entry: str,
    record: str,
    version: int,
    comment: str,
    handling: Mapping[str, str],
) -> Prepared:
    stored = next((one for one in session.store.versions(id=record) if one.entry == entry), None)
    if stored is None:
        return Prepared(record, version, None, {}, "it is not in the log as far as it is known here")
    if stored.author == session.settings.member:
        return Prepared(record, version, None, {}, "it is this lab's own: revise or withdraw it")
    counts = measured(register, entry)
    if counts is None or counts["true_positives"] == counts["reviewed"]:
        return Prepared(record, version, None, {}, "no decision by it was found wrong")
    reference = {"id": record, "version": version, "entry": entry}
    said = {"pattern": reference, "verdict": VERDICT, "measured": counts, "comment": comment or None}
    return Prepared(record, version, stored, {**handling_of(session, stored), **handling, **said})
