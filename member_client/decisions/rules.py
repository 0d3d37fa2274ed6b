"""What a lab's policy says of decisions: which action for which severity, whose approval, and for how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from member_client.decisions.model import Action
from sharing_protocol.statements.handling import Severity

_APPROVALS = {Action.THROTTLE: 1, Action.BLOCK: 1}
_DAYS = 14


@dataclass(frozen=True, slots=True)
class Rules:
    """The part of a policy that decisions are made by; by default it only observes.

    Attributes:
        actions: by severity; OBSERVE where nothing is said.
        approvals: how many people must approve an action before it has an effect.
        days: after how many days an action expires, unless there are new matches.
        organisations: whether matches that name an organisation are decided on for the organisation as a whole.
        models: the only ones that new decisions are about; () for all.
        stopped: the stop switch.
        appeal_days: for how long after its end a decision can still be appealed; while it holds it always can.
        lines: in which line of policy.toml a setting stands, by its dotted name; 0 or none for what is built in.
    """

    actions: Mapping[Severity, Action] = field(default_factory=dict)
    approvals: Mapping[Action, int] = field(default_factory=lambda: _APPROVALS)
    days: Mapping[Action, int] = field(default_factory=dict)
    organisations: bool = False
    models: tuple[str, ...] = ()
    stopped: bool = False
    appeal_days: int = 30
    lines: Mapping[str, int] = field(default_factory=dict)

    def action(self, severity: Severity) -> Action:
        """What is asked for at a severity."""
        return self.actions.get(severity, Action.OBSERVE)

    def needed(self, action: Action) -> int:
        """How many approvals an action needs."""
        return self.approvals.get(action, 0)

    def seconds(self, action: Action) -> int:
        """How long an action lasts."""
        return self.days.get(action, _DAYS) * 86_400

    def reasons(self, severity: Severity, action: Action) -> tuple[str, ...]:
        """The lines by which a decision is made, in words."""
        said = [(f"decisions.actions.{severity}", f"{severity} matches are answered with {action}")]
        if needed := self.needed(action):
            said.append((f"decisions.approvals.{action}", f"{action} needs {needed} approval{'s' * (needed > 1)}"))
        if action is not Action.OBSERVE:
            said.append((f"decisions.days.{action}", f"{action} ends after {self.seconds(action) // 86_400} days"))
        return tuple(f"{self._place(setting)} ({setting}): {text}" for setting, text in said)

    def _place(self, setting: str) -> str:
        line = self.lines.get(setting, 0)
        return f"policy.toml line {line}" if line else "built-in policy"
