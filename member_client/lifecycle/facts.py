"""What a pattern's stage is decided from: the facts of the moment, and what this lab remembers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from member_client.lifecycle.standing import Stage
from sharing_protocol.feedback import Feedback
from sharing_protocol.intervals import wilson


@dataclass(frozen=True, slots=True)
class KeptBacktest:
    """What a backtest of this very version found here.

    Attributes:
        requests: in the logs.
        events, matched: requests or windows that were looked at, and of these such as matched.
        accounts: flagged.
        legitimate, wrong: accounts known as legitimate that sent requests, and of these such as were flagged; both
            None if the lab named none.
        could_match: whether the logs had any of the fields that the pattern reads.
        measured: the `measured` block of an endorsement as JSON; "" if nothing was measured, or an earlier version of
            this program kept it.
    """

    entry: str
    at: datetime
    requests: int
    events: int
    matched: int
    accounts: int
    legitimate: int | None
    wrong: int | None
    could_match: bool
    measured: str = ""

    @property
    def rate(self) -> float | None:
        """The share of the legitimate accounts that was flagged; None without a sample."""
        return self.wrong / self.legitimate if self.legitimate and self.wrong is not None else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The rate's 95 % Wilson interval."""
        return wilson(self.wrong, self.legitimate) if self.legitimate and self.wrong is not None else None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is so now of the newest version of a pattern.

    Attributes:
        state: `active`, or why the record is not in force (`store.state_of`); `state_why` in words.
        tried: whether this client has run the pattern's own tests.
        author_status: of the author's membership: active, suspended, expelled, or unknown.
        here: id of this lab.
        labs: the forum's active labs, id to name.
        feedback: of this very version.
        requests_seen: by runs of `detect` with it since it entered its stage.
        enforced, wrong: this lab's decisions by it that had an effect, ever, and of these such as turned out wrong.

    Raises:
        ValueError: the feedback or the backtest is of another version.
    """

    id: str
    version: int
    entry: str
    title: str
    author: str
    author_name: str
    author_status: str
    marking: str
    severity: str
    state: str
    state_why: str
    tried: bool
    here: str
    labs: Mapping[str, str]
    feedback: Feedback
    backtest: KeptBacktest | None = None
    requests_seen: int = 0
    enforced: int = 0
    wrong: int = 0

    def __post_init__(self) -> None:
        if self.feedback.entry != self.entry or (self.backtest is not None and self.backtest.entry != self.entry):
            raise ValueError("what was said of one version of a pattern says nothing of another")


@dataclass(frozen=True, slots=True)
class Memory:
    """What this lab remembers of a pattern version: how far it had come. It is only ever an upper bound.

    Attributes:
        since: when it entered the stage; None for one that was never looked at.
        share, share_since: per cent of the roll-out, and since when; 0 and None in every stage but ENFORCE.
        halted: why its enforcement or flagging was halted, until a person resumes it; "" if it was not.
        ceiling: the highest stage that it may reach while it is halted.
        counted_enforced, counted_wrong: the decisions that were counted when it was last halted or resumed; its
            budget is about those since.
    """

    stage: Stage = Stage.RECEIVED
    since: datetime | None = None
    share: int = 0
    share_since: datetime | None = None
    halted: str = ""
    ceiling: Stage = Stage.ENFORCE
    counted_enforced: int = 0
    counted_wrong: int = 0

    def outcomes(self, facts: Facts) -> tuple[int, int]:
        """Decisions since the last halt or resumption: those that had an effect, and of these the wrong ones."""
        wrong = max(0, facts.wrong - self.counted_wrong)
        return max(wrong, facts.enforced - self.counted_enforced), wrong


NEW = Memory()


@dataclass(frozen=True, slots=True)
class Stopped:
    """The stop switch, while it is on.

    Attributes:
        by: who stopped everything.
    """

    at: datetime
    by: str
    why: str


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What holds for all patterns of this lab at once.

    Attributes:
        stopped: the stop switch; None while it is off.
        halted: why all enforcement was halted, until a person resumes it; "" if it was not.
        enforced, wrong: `Memory.outcomes` of all patterns that keep their own budgets.
    """

    stopped: Stopped | None = None
    halted: str = ""
    enforced: int = 0
    wrong: int = 0
