"""The lab's policy and the standing of its patterns, as decisions need them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from member_client.decisions.model import Action
from member_client.decisions.register import outcomes_of
from member_client.decisions.rules import Rules
from member_client.errors import InvalidInput
from member_client.lifecycle import Change, Policy, Standing, advance, read_policy, standings
from member_client.lifecycle.policy import BUILT_IN, GateRule
from member_client.session import Session
from sharing_protocol.statements.handling import Severity


@dataclass(frozen=True, slots=True)
class LabPolicy:
    """All that decisions need to know of the lab's policy and of the patterns, as of one moment.

    Attributes:
        standings: by entry hash, of the newest version of each pattern.
        gate: what the policy says of the gate.
    """

    rules: Rules
    standings: Mapping[str, Standing]
    gate: GateRule = field(default_factory=GateRule)


def lab_policy(session: Session, now: datetime, policy: Policy | None = None) -> LabPolicy:
    """What holds now: read anew, and computed anew from the facts as they are.

    Args:
        policy: to be followed instead of the home's policy.toml.

    Raises:
        InvalidInput: the home, its policy.toml or its lifecycle.sqlite is not usable.
    """
    policy = policy or read_policy(session.home)
    found = standings(session, policy, now, outcomes=outcomes_of(session))
    return LabPolicy(rules_of(policy), found, policy.settings.gate)


def rules_at_hand(session: Session) -> Rules:
    """The rules of policy.toml, or those of the built-in policy while it cannot be read: for what only ends something.

    Whoever has to take a block back does not wait until somebody has mended a file.
    """
    try:
        return rules_of(read_policy(session.home))
    except InvalidInput:
        return rules_of(BUILT_IN)


def climb(session: Session, now: datetime) -> list[Change]:
    """Let every pattern climb or fall to where it belongs now, and remember it; gives those that moved."""
    return advance(session, read_policy(session.home), now, outcomes=outcomes_of(session))


def rules_of(policy: Policy) -> Rules:
    """What a policy says of decisions. The stop switch that is no line of it is in the standings."""
    said = policy.settings.decisions
    # OBSERVE needs nobody's approval, and what is only observed may last as long as what is flagged.
    acting = [action for action in Action if action is not Action.OBSERVE]
    days = {action: getattr(said.days, action.value) for action in acting}
    return Rules(
        actions={severity: Action(getattr(said.actions, severity.value)) for severity in Severity},
        approvals={action: getattr(said.approvals, action.value) for action in acting},
        days=days | {Action.OBSERVE: days[Action.FLAG]},
        organisations=said.organisations,
        models=tuple(said.models),
        stopped=policy.settings.stop,
        appeal_days=policy.settings.appeals.window_days,
        lines=policy.lines,
    )
