"""`policy.toml`, read: what this lab lets other labs' patterns do here. `policy_file` reads it, with its lines.

A setting that the file leaves out has the default that stands here. Without a file everything is as here, and the
highest stage is SHADOW: patterns are observed, and nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from member_client.lifecycle.standing import Stage
from sharing_protocol.statements.handling import Marking, Severity
from sharing_protocol.statements.header import StrictModel

EVERYBODY = "*"
MAX_LABS = 1_000

_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Hours = Annotated[int, Field(ge=0, le=24 * 365)]
_Days = Annotated[int, Field(ge=1, le=365)]
_Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
_Lab = Annotated[str, Field(min_length=1, max_length=200)]
_Labs = Annotated[tuple[_Lab, ...], Field(max_length=MAX_LABS, strict=False)]


def _climbable(stage: Stage) -> Stage:
    if stage is Stage.RETIRED:
        raise ValueError("the highest stage is received, tested, shadow, flag or enforce")
    return stage


def _rising(steps: tuple[int, ...]) -> tuple[int, ...]:
    if any(later <= earlier for earlier, later in pairwise(steps)):
        raise ValueError("the steps rise, as in [1, 10, 100]")
    return steps


def _named(labs: tuple[str, ...]) -> tuple[str, ...]:
    if EVERYBODY in labs:
        raise ValueError("the labs are named one by one: a forum whose every dispute is ignored warns nobody")
    return labs


_Climbable = Annotated[Stage, Field(strict=False), AfterValidator(_climbable)]
_ActionName = Literal["observe", "flag", "throttle", "block"]
_Model = Annotated[str, Field(min_length=1, max_length=200)]
_Approvals = Annotated[int, Field(ge=0, le=20)]


class FalsePositives(StrictModel):
    """How often enforcement may be wrong."""

    budget: _Share = 0.01
    total_budget: _Share = 0.005


class BacktestRule(StrictModel):
    """What a pattern must show on this lab's own history before it flags."""

    required: bool = True
    max_age_days: _Days = 60


class ShadowRule(StrictModel):
    """How long a pattern is only observed."""

    hours: _Hours = 72
    requests: _Count = 0


class FlagRule(StrictModel):
    """How long a pattern only flags."""

    hours: _Hours = 72


class EnforceRule(StrictModel):
    """What a pattern needs before it may throttle or block."""

    endorsements: Annotated[int, Field(ge=0, le=1_000)] = 2
    precision: _Share = 0.8
    markings: Annotated[tuple[Annotated[Marking, Field(strict=False)], ...], Field(max_length=16, strict=False)] = (
        Marking.CLEAR,
        Marking.GREEN,
        Marking.AMBER,
        Marking.AMBER_STRICT,
    )
    severities: Annotated[tuple[Annotated[Severity, Field(strict=False)], ...], Field(max_length=16, strict=False)] = (
        Severity.MEDIUM,
        Severity.HIGH,
        Severity.CRITICAL,
    )


class Rollout(StrictModel):
    """Enforcement on few subjects first."""

    steps: Annotated[
        tuple[Annotated[int, Field(ge=1, le=100)], ...],
        Field(min_length=1, max_length=20, strict=False),
        AfterValidator(_rising),
    ] = (1, 10, 100)
    hours: _Hours = 24


class Trust(StrictModel):
    """Whose patterns may go how far; labs by name or id."""

    labs: _Labs = (EVERYBODY,)
    never: _Labs = ()
    highest_stage: Annotated[dict[_Lab, _Climbable], Field(max_length=MAX_LABS)] = Field(default_factory=dict)


class Disputes(StrictModel):
    """How many labs' false_positive opinions take a pattern down, and whose do not count: labs by name or id."""

    demote: Annotated[int, Field(ge=1, le=1_000)] = 1
    retire: Annotated[int, Field(ge=1, le=1_000, validate_default=True)] = 2
    ignore: Annotated[_Labs, AfterValidator(_named)] = ()

    @field_validator("retire")
    @classmethod
    def _in_order(cls, retire: int, others: ValidationInfo) -> int:
        if retire < others.data.get("demote", 1):
            raise ValueError("retire is not smaller than demote")
        return retire


class Actions(StrictModel):
    """What matches of a severity are answered with."""

    informational: _ActionName = "flag"
    low: _ActionName = "flag"
    medium: _ActionName = "throttle"
    high: _ActionName = "block"
    critical: _ActionName = "block"


class Approvals(StrictModel):
    """How many people must approve an action."""

    flag: _Approvals = 0
    throttle: _Approvals = 0
    block: _Approvals = 1


class Days(StrictModel):
    """After how many days an action expires."""

    flag: _Days = 14
    throttle: _Days = 14
    block: _Days = 14


class DecisionRules(StrictModel):
    """What decisions are made by."""

    organisations: bool = False
    models: Annotated[tuple[_Model, ...], Field(max_length=100, strict=False)] = ()
    actions: Actions = Actions()
    approvals: Approvals = Approvals()
    days: Days = Days()


class GateRule(StrictModel):
    """What the gate does when it does not know."""

    fail: Literal["open", "closed"] = "open"
    stale_after: Annotated[int, Field(ge=1, le=30 * 86_400)] = 3_600


class AppealRule(StrictModel):
    """For how long a decision can be appealed."""

    window_days: _Days = 30


class Settings(StrictModel):
    """All of policy.toml."""

    highest_stage: _Climbable = Stage.SHADOW
    stop: bool = False
    false_positives: FalsePositives = FalsePositives()
    backtest: BacktestRule = BacktestRule()
    shadow: ShadowRule = ShadowRule()
    flag: FlagRule = FlagRule()
    enforce: EnforceRule = EnforceRule()
    rollout: Rollout = Rollout()
    trust: Trust = Trust()
    disputes: Disputes = Disputes()
    decisions: DecisionRules = DecisionRules()
    gate: GateRule = GateRule()
    appeals: AppealRule = AppealRule()


@dataclass(frozen=True)
class Policy:
    """A policy, of which each value knows its line.

    Attributes:
        lines: in which line of the file a setting stands, by its dotted name.
        exists: whether there is a file; what is built in only observes.
    """

    settings: Settings = field(default_factory=Settings)
    lines: Mapping[str, int] = field(default_factory=dict)
    exists: bool = False

    def line(self, setting: str) -> int:
        """The line of a setting; 0 if the file leaves it out, or there is none."""
        return self.lines.get(setting, 0)


BUILT_IN = Policy()
"""Observes only."""
