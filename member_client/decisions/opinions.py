"""What an upheld appeal lets this lab say of a pattern: a `false_positive` opinion, with counts and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from member_client.decisions.appeals import measured
from member_client.decisions.register import Register
from member_client.errors import InvalidInput
from member_client.session import Session
from member_client.sync.store import StoredVersion

VERDICT = "false_positive"


@dataclass(frozen=True, slots=True)
class Prepared:
    """An opinion that can be published.

    Attributes:
        measured: reviewed, true_positives and method.
        why_not: why it cannot be published, "" if it can.
    """

    pattern: str
    version: int
    entry: str
    measured: Mapping[str, Any] | None
    comment: str
    handling: Mapping[str, str]
    stored: StoredVersion | None
    why_not: str

    def document(self) -> dict[str, Any]:
        """All that the opinion says, as JSON."""
        return {
            "pattern": {"id": self.pattern, "version": self.version, "entry": self.entry},
            "verdict": VERDICT,
            "measured": dict(self.measured) if self.measured else None,
            "comment": self.comment or None,
            **self.handling,
        }


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
        handling: what the user said of it; the rest is the pattern's.
    """
    found = []
    for entry, (record, version) in entries.items():
        stored = next((one for one in session.store.versions(id=record) if one.entry == entry), None)
        why_not = ""
        if stored is None:
            why_not = "it is not in the log as far as it is known here"
        elif stored.author == session.settings.member:
            why_not = "it is this lab's own: revise or withdraw it"
        counts = measured(register, entry)
        if counts is None or counts["true_positives"] == counts["reviewed"]:
            why_not = why_not or "no decision by it was found wrong"
        found.append(Prepared(record, version, entry, counts, comment, handling, stored, why_not))
    return found


def publish(session: Session, prepared: Prepared) -> dict[str, Any]:
    """Sign and publish an opinion.

    Raises:
        InvalidInput: this version of the program cannot.
        ClientError: see `publishing.publish`.
    """
    try:
        publishing = import_module("member_client.feedback")
    except ModuleNotFoundError as error:
        raise InvalidInput("this version of Stillwatch publishes no opinions", "upgrade") from error
    published = publishing.publish_opinion(
        session, prepared.stored, VERDICT, prepared.measured, prepared.comment or None, dict(prepared.handling)
    )
    return {"id": published.id, "version": published.version, "index": published.index, "entry": published.entry}
