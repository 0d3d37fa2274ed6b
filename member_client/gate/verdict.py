"""The verdict on one request: a pure function of the table, of who asks, and of the time."""

from __future__ import annotations

from typing import NamedTuple

from member_client.gate.snapshot import ACCOUNT, ACTIONS, ORGANISATION
from member_client.gate.table import ALLOWED, MAX_ID_BYTES, Facts, Row, Table

OBSERVE, FLAG, THROTTLE, BLOCK = ACTIONS

NO_DECISION = "no decision"
NO_ACCOUNT = "no-account"
DECIDED = "decision"
ALLOW_LISTED = "allow-listed"
STALE = "stale"
UNREADABLE = "unreadable"
MALFORMED = "malformed"
REASONS = (NO_DECISION, NO_ACCOUNT, DECIDED, ALLOW_LISTED, STALE, UNREADABLE, MALFORMED)
AHEAD_SECONDS = 300.0
"""So far a sync lets the hub's clock run ahead of this machine's (`trust.MAX_SKEW_SECONDS`)."""


class Verdict(NamedTuple):
    """What is to happen to a request, and why.

    Attributes:
        action: `observe`, `flag`, `throttle` or `block`.
        reason: one of `REASONS`.
        decision: id of the decision that it rests on, "" if on none.
        pattern: id of the pattern behind the decision.
        age: seconds since the lab last learned from the forum, None if nothing is known.
    """

    action: str
    reason: str
    decision: str = ""
    pattern: str = ""
    age: float | None = None

    @property
    def allowed(self) -> bool:
        """Whether the request may go on now: it is neither to be blocked nor to be slowed down."""
        return self.action in (OBSERVE, FLAG)


def judge(
    table: Table, now: float, account: str, organisation: str, address: str, model: str, fail: str | None = None
) -> Verdict:
    """The verdict by this table at this time.

    Args:
        now: POSIX seconds.
        account, organisation, address, model: "" for what is not known.
        fail: `open` or `closed`, instead of what the policy says.
    """
    facts = table.facts
    age = max(0.0, now - facts.synced)
    strongest: Row | None = None
    wanted = model or None
    for kind, id_ in ((ACCOUNT, account), (ORGANISATION, organisation)):
        if not id_:
            continue
        written = id_.encode("utf-8", "surrogatepass")
        if len(written) > MAX_ID_BYTES:
            return Verdict(BLOCK, MALFORMED, age=age)
        row = table.first(kind, written, wanted, now)
        if row is None:
            continue
        if row.rank == ALLOWED:
            return Verdict(OBSERVE, ALLOW_LISTED, age=age)
        if strongest is None or row.rank > strongest.rank:
            strongest = row
    if is_stale(facts, now):
        return on_failure(fail or facts.fail, STALE, age, allowed=bool(address) and table.allows_address(address, now))
    if strongest is None:
        return Verdict(OBSERVE, NO_DECISION if account else NO_ACCOUNT, age=age)
    if address and table.allows_address(address, now):
        return Verdict(OBSERVE, ALLOW_LISTED, age=age)
    return Verdict(ACTIONS[strongest.rank], DECIDED, strongest.decision, strongest.pattern, age)


def on_failure(fail: str, reason: str, age: float | None, *, allowed: bool = False) -> Verdict:
    """The verdict on everybody while there is nothing to go by; whoever is on the allow-list passes."""
    if allowed:
        return Verdict(OBSERVE, ALLOW_LISTED, age=age)
    return Verdict(BLOCK if fail == "closed" else OBSERVE, reason, age=age)


def is_stale(facts: Facts, now: float) -> bool:
    """Whether the lab has not learned from the forum for longer than its policy lets the gate go by.

    So is what it is to learn only in future: somebody set this machine's clock back, and no sync goes through any more.
    """
    return not -AHEAD_SECONDS <= now - facts.synced <= facts.stale_after
