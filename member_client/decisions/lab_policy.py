"""The lab's policy and the standing of its patterns, as decisions need them."""

from __future__ import annotations

from datetime import datetime

from member_client.decisions.in_effect import LabPolicy
from member_client.decisions.rules import Rules
from member_client.session import Session


def lab_policy(session: Session, now: datetime) -> LabPolicy:  # noqa: ARG001
    """What holds now."""
    return LabPolicy(Rules(), {})
