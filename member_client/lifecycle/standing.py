"""Where a pattern version stands at this lab, and which lines of the policy say so."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    """How far a pattern has come at this lab. Stages compare by how far, not by the alphabet; RETIRED is lowest.

    RECEIVED is in the log. TESTED passed its own tests here. SHADOW only observes. FLAG marks accounts for people to
    look at. ENFORCE throttles and blocks. RETIRED is out for good, unless a person takes it up again.
    """

    RECEIVED = "received"
    TESTED = "tested"
    SHADOW = "shadow"
    FLAG = "flag"
    ENFORCE = "enforce"
    RETIRED = "retired"

    @property
    def rank(self) -> int:
        """How far, from 0."""
        return ORDER.index(self)

    def __lt__(self, other: str) -> bool:
        return self.rank < Stage(other).rank

    def __le__(self, other: str) -> bool:
        return self.rank <= Stage(other).rank

    def __gt__(self, other: str) -> bool:
        return self.rank > Stage(other).rank

    def __ge__(self, other: str) -> bool:
        return self.rank >= Stage(other).rank

    @property
    def below(self) -> Stage:
        """The stage before this one; RETIRED has none before it."""
        return ORDER[max(0, self.rank - 1)]

    @property
    def next(self) -> Stage | None:
        """The stage that a pattern climbs to from here; None from the highest, and from RETIRED, which none leaves."""
        return None if self in (Stage.ENFORCE, Stage.RETIRED) else ORDER[self.rank + 1]


ORDER = (Stage.RETIRED, Stage.RECEIVED, Stage.TESTED, Stage.SHADOW, Stage.FLAG, Stage.ENFORCE)


@dataclass(frozen=True, slots=True)
class Reason:
    """One line of the policy, and whether what it asks for is so.

    Attributes:
        line: of policy.toml; 0 for what is built in, or a setting that the file leaves out.
        setting: its dotted name; for what no policy can change, what is built in: `record`, `author`, `halt`, ….
        text: the same in words, with the numbers.
        needed_for: the lowest stage that asks for it. If it does not hold, the pattern stands below that stage.
    """

    line: int
    setting: str
    holds: bool
    text: str
    needed_for: Stage = Stage.ENFORCE

    def __str__(self) -> str:
        place = f"policy.toml line {self.line}" if self.line else "built in"
        return f"{place} ({self.setting}): {self.text}"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a pattern version stands.

    Attributes:
        entry: hex entry hash of the version.
        share: per cent of subjects on whom ENFORCE is in effect; 0 in every other stage.
        reasons: every line that was consulted, whether it holds or not.
    """

    id: str
    version: int
    entry: str
    stage: Stage
    share: int
    reasons: tuple[Reason, ...]

    @property
    def held_by(self) -> tuple[Reason, ...]:
        """What keeps it from the next stage; empty if it climbs the next time that somebody looks."""
        following = self.stage.next
        return tuple(
            one for one in self.reasons if not one.holds and (following is None or one.needed_for <= following)
        )


@dataclass(frozen=True, slots=True)
class Change:
    """A pattern version that stands elsewhere than before.

    Attributes:
        why: the lines that took it down; empty when it climbed.
    """

    id: str
    version: int
    entry: str
    title: str
    before: Stage
    after: Stage
    share_before: int
    share_after: int
    why: tuple[Reason, ...]

    @property
    def is_demotion(self) -> bool:
        """Whether it may do less than before."""
        return (self.after, self.share_after) < (self.before, self.share_before)
