"""What is decided about whom: actions in their order, subjects, and a decision with all that explains it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID, uuid5

PREFIX = "decision--"
_NAMESPACE = UUID("6f1d0d52-7a0e-5c1a-9a55-0f3d2f0c7a11")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Action(StrEnum):
    """What happens to a subject's requests, in rising order; compared by that order, not by the letters."""

    OBSERVE = "observe"
    FLAG = "flag"
    THROTTLE = "throttle"
    BLOCK = "block"

    @property
    def rank(self) -> int:
        """0 for OBSERVE up to 3 for BLOCK."""
        return _RANKS[self]

    @property
    def enforces(self) -> bool:
        """Whether a customer feels it."""
        return self.rank >= Action.THROTTLE.rank

    def __lt__(self, other: str) -> bool:
        return self.rank < Action(other).rank

    def __le__(self, other: str) -> bool:
        return self.rank <= Action(other).rank

    def __gt__(self, other: str) -> bool:
        return self.rank > Action(other).rank

    def __ge__(self, other: str) -> bool:
        return self.rank >= Action(other).rank


ACTIONS = tuple(Action)
"""By rank."""
_RANKS = {action: rank for rank, action in enumerate(ACTIONS)}


class SubjectKind(StrEnum):
    """Whom a decision is about."""

    ACCOUNT = "account"
    ORGANISATION = "organisation"
    CLUSTER = "cluster"


class State(StrEnum):
    """Where a decision stands by itself; what it does also depends on its pattern, the allow-list and the policy."""

    PROPOSED = "proposed"
    IN_FORCE = "in force"
    LIFTED = "lifted"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"

    @property
    def is_open(self) -> bool:
        """Whether it can still have an effect."""
        return self in (State.PROPOSED, State.IN_FORCE)


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a decision is about.

    Attributes:
        id: an account's or organisation's id as the lab's logs write it; of a cluster `KIND:KEY` of what links it.
    """

    kind: SubjectKind
    id: str


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision, with all that explains it.

    Attributes:
        accounts: of a cluster, all of them; those left out of it are among them. Else ().
        action: at most what is in effect.
        models: the only ones that it is about; () for all.
        pattern_entry: hex entry hash of the pattern version.
        detections: ids of the first matches that it rests on, at most 20; `matches` counts all.
        first, last: when the earliest and the latest match were; None if none is dated.
        numbers: of each number that the matches carry the largest.
        policy_reasons: the lines of the policy by which it was made.
        needs_approvals: how many people must approve it before it is more than observed.
        approved_by: who did, for this action or a stronger one; of a cluster for who joined it first.
        waiting: of a cluster, the accounts for which too few have approved it: all, or those that joined later.
        state: one of `State`.
        follows: id of the earlier decision on the same pattern and subject, lifted or expired since; "" if none.
        superseded_by: id of the decision by the pattern's next version; "" if none.
    """

    id: str
    subject: Subject
    accounts: tuple[str, ...]
    action: Action
    models: tuple[str, ...]
    created: datetime
    expires: datetime
    pattern_id: str
    pattern_version: int
    pattern_entry: str
    pattern_title: str
    severity: str
    detections: tuple[str, ...]
    matches: int
    first: datetime | None
    last: datetime | None
    numbers: Mapping[str, float]
    policy_reasons: tuple[str, ...]
    needs_approvals: int
    approved_by: tuple[str, ...]
    state: State
    follows: str = ""
    superseded_by: str = ""
    waiting: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a decision or to an entry of the allow-list; never changed afterwards."""

    at: datetime
    what: str
    who: str
    why: str


def decision_uuid(entry: str, subject: Subject, follows: UUID | None) -> UUID:
    """The id of the decision on a pattern version and a subject: the same whatever run it is made from.

    Args:
        entry: hex entry hash of the pattern version.
        follows: the decision that it comes after, None for the first.
    """
    return uuid5(_NAMESPACE, "\0".join((entry, subject.kind.value, subject.id, follows.hex if follows else "")))


def shown_id(number: bytes) -> str:
    """A decision's UUID as people write it."""
    digits = number.hex()
    return f"{PREFIX}{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def from_seconds(seconds: int) -> datetime:
    """A POSIX time."""
    return _EPOCH + timedelta(seconds=seconds)


def from_microseconds(microseconds: int | None) -> datetime | None:
    """Microseconds since 1970, or None."""
    return None if microseconds is None else _EPOCH + timedelta(microseconds=microseconds)
