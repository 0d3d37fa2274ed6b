"""A forum that has seen everything: labs of every status, a revoked key, a revised and a withdrawn record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sharing_protocol.statements import new_id
from tests.forum import (
    Document,
    ForumInABox,
    Lab,
    RunningHub,
    key,
    pattern_body,
    registration,
    sighting_body,
    withdrawal_body,
)

REVOKED_KEY = "Aurora former analyst"


@dataclass(frozen=True)
class TroubledForum:
    """The forum.

    Attributes:
        aurora, boreal: active; one of Aurora's analyst keys, `REVOKED_KEY`, is revoked.
        cirrus: suspended.
        drift: expelled.
        revised: id of a pattern of Aurora's in version 2.
        withdrawn: id of a pattern of Aurora's that was withdrawn.
    """

    box: ForumInABox
    aurora: Lab
    boreal: Lab
    cirrus: Lab
    drift: Lab
    revised: str
    withdrawn: str

    def pattern(self, body: Document | None = None, **changes: Any) -> Document:
        """A new pattern of Aurora's; `changes` are to the statement."""
        made = self.box.statement("pattern", new_id("pattern", uuid4()), self.aurora.id, body or pattern_body())
        return made | changes

    def revision(self, **changes: Any) -> Document:
        """The next version of Aurora's revised pattern."""
        return self.box.statement("pattern", self.revised, self.aurora.id, pattern_body("Third")) | changes

    def withdrawal(self, record: Document) -> Document:
        """A withdrawal by Aurora."""
        record_id = new_id("withdrawal", uuid4())
        return self.box.statement("withdrawal", record_id, self.aurora.id, withdrawal_body(record))

    def sighting(self, pattern: Document, **changes: Any) -> Document:
        """A sighting by Aurora; `changes` are to its body."""
        body = sighting_body(pattern) | changes
        return self.box.statement("sighting", new_id("sighting", uuid4()), self.aurora.id, body)


def make_troubled_forum(hub: RunningHub) -> TroubledForum:
    """Found the forum on a hub with an empty log, and let things happen."""
    box = ForumInABox(hub)
    box.found()
    aurora, boreal, cirrus, drift = (box.admit(name) for name in ("Aurora", "Boreal", "Cirrus", "Drift"))
    added = {"key": registration(REVOKED_KEY, "analyst", aurora.id), "reason": "A second analyst"}
    box.decree("membership.add_key", aurora.id, added)
    revised, _ = box.publish(aurora, pattern_body("Revised"))
    box.publish(aurora, pattern_body("Revised again"), revised)
    withdrawn, _ = box.publish(aurora, pattern_body("Withdrawn"))
    box.publish(aurora, withdrawal_body(box.reference(withdrawn)))
    revoked = {"key_id": key(REVOKED_KEY).public_key.key_id, "reason": "Left the lab", "suspect_from": None}
    box.decree("membership.revoke_key", aurora.id, revoked)
    box.decree("membership.suspend", cirrus.id, {"reason": "Under review"})
    box.decree("membership.expel", drift.id, {"reason": "Broke the rules"})
    return TroubledForum(box, aurora, boreal, cirrus, drift, revised, withdrawn)
