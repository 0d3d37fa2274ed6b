"""What a gate acts on, as the decisions give it: only what is in effect, and who is never to be acted against."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

ACTIONS = ("observe", "flag", "throttle", "block")
"""In rising order."""
ACCOUNT, ORGANISATION = "account", "organisation"


class Effective(Protocol):
    """One action in effect on one account or organisation.

    Attributes:
        kind: `account` or `organisation`; a cluster comes as its accounts.
        action: one of `ACTIONS`.
        expires: from this moment on it has no effect.
        models: it acts on requests to these only; () for all.
        decision_id: `decision--<uuid>`.
    """

    @property
    def kind(self) -> str: ...
    @property
    def id(self) -> str: ...
    @property
    def action(self) -> str: ...
    @property
    def expires(self) -> datetime: ...
    @property
    def models(self) -> tuple[str, ...]: ...
    @property
    def decision_id(self) -> str: ...
    @property
    def pattern_id(self) -> str: ...


class Allowed(Protocol):
    """One entry of the allow-list.

    Attributes:
        kind: `account`, `organisation` or `network`.
        id: of the account or organisation; of a network its CIDR block.
        expires: from this moment on it has no effect; None for never.
    """

    @property
    def kind(self) -> str: ...
    @property
    def id(self) -> str: ...
    @property
    def expires(self) -> datetime | None: ...


class GatePolicy(Protocol):
    """What `policy.toml` says of the gate.

    Attributes:
        fail: `open` or `closed`: what happens to requests while the data is stale or unreadable.
        stale_after: seconds since the last good sync.
    """

    @property
    def fail(self) -> str: ...
    @property
    def stale_after(self) -> int: ...


class Snapshot(Protocol):
    """All that is in effect at one moment.

    Attributes:
        as_of: when it was computed.
        synced: when the lab last learned from the forum.
        rows: may be a generator; is read once.
    """

    @property
    def as_of(self) -> datetime: ...
    @property
    def synced(self) -> datetime: ...
    @property
    def generation(self) -> str: ...
    @property
    def rows(self) -> Iterable[Effective]: ...
    @property
    def allowed(self) -> Iterable[Allowed]: ...
    @property
    def policy(self) -> GatePolicy: ...
