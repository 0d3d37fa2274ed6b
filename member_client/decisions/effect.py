"""What a decision does now: the least of what was decided and of everything that holds it back.

    effective = min(decided, what the policy asks for now, what the pattern's standing allows for this subject,
                    OBSERVE if it is closed, not approved, allow-listed, or everything is stopped)

Nothing here reads a file or a clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from member_client.decisions.allow_list import Allowed
from member_client.decisions.model import Action, State
from member_client.lifecycle.standing import Stage, Standing

_ALLOWS = {Stage.FLAG: Action.FLAG, Stage.ENFORCE: Action.BLOCK}


@dataclass(frozen=True, slots=True)
class Circumstances:
    """All that decides what a decision does now.

    Attributes:
        action: what was decided.
        missing_approvals: how many it still needs.
        asked_for: what the policy asks for at this severity now.
        standing: of the very pattern version, None if it is not the newest one, or not known here.
        reached: whether the roll-out has come to the subject; see `in_roll_out`.
        allowed: the allow-list's entry that covers the subject or the account.
    """

    action: Action
    state: State
    missing_approvals: int
    asked_for: Action
    standing: Standing | None
    reached: bool
    allowed: Allowed | None
    stopped: bool


def effective(now: Circumstances) -> Action:
    """The action in effect."""
    return min(cap for cap, _ in _limits(now))


def explained(now: Circumstances) -> tuple[str, ...]:
    """What holds the decision below what was decided, one line each; () if nothing does."""
    return tuple(why for cap, why in _limits(now) if cap < now.action)


def in_roll_out(standing: Standing | None, subject: str) -> bool:
    """Whether a subject is among those whom the roll-out has come to; one that is in at 1 % is in at 10 %.

    Args:
        subject: its id; of a cluster's account, the cluster's.
    """
    if standing is None or not 0 < standing.share < 100:
        return standing is not None and standing.share >= 100
    digest = hashlib.sha256(bytes.fromhex(standing.entry) + subject.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest) % 100 < standing.share


def _limits(now: Circumstances) -> Iterator[tuple[Action, str]]:
    """Each thing that may hold it back: up to which action it lets it, and why; the decision itself comes first."""
    yield now.action, ""
    if not now.state.is_open:
        yield Action.OBSERVE, f"the decision is {now.state}"
    if now.stopped:
        yield Action.OBSERVE, "the stop switch is on: nothing is enforced or flagged"
    if now.allowed is not None:
        yield Action.OBSERVE, f"on the allow-list: {now.allowed}"
    if now.missing_approvals > 0:
        yield Action.OBSERVE, f"{now.missing_approvals} more must approve it: `stillwatch decisions approve`"
    if now.asked_for < now.action:
        yield now.asked_for, f"the policy asks for no more than {now.asked_for} at this severity now"
    yield _standing_allows(now)


def _standing_allows(now: Circumstances) -> tuple[Action, str]:
    standing = now.standing
    if standing is None:
        return Action.OBSERVE, "this pattern version is not the newest one known here"
    allows = _ALLOWS.get(standing.stage, Action.OBSERVE)
    if standing.stage is Stage.ENFORCE and not now.reached:
        return (
            Action.FLAG,
            f"the roll-out has come to {standing.share} % of the subjects, and this one is not among them",
        )
    return allows, f"the pattern is at stage {standing.stage}"
