"""Where a pattern version stands at this lab, and which lines of the policy say so."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    """How far a pattern has come at this lab."""

    RECEIVED = "received"
    TESTED = "tested"
    SHADOW = "shadow"
    FLAG = "flag"
    ENFORCE = "enforce"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class Reason:
    """One line of the policy, and whether what it asks for is so.

    Attributes:
        line: of policy.toml; 0 for what is built in.
        setting: its dotted name.
        text: the same in words.
    """

    line: int
    setting: str
    holds: bool
    text: str


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a pattern version stands.

    Attributes:
        entry: hex entry hash of the version.
        share: per cent of subjects on whom ENFORCE is in effect; 0 in every other stage.
    """

    id: str
    version: int
    entry: str
    stage: Stage
    share: int
    reasons: tuple[Reason, ...]
