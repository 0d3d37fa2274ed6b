"""What has been done of a run, what is to be done now, and what may be recorded next; pure.

A run's state is a function of its playbook and of what was recorded, in order. Nothing is recorded that the playbook
does not allow at that point:

- only a step that has been reached is done, answered, skipped or approved;
- an action is done or skipped, with a reason; a question is answered, and cannot be skipped;
- a step that needs approvals has them first, from people other than the one who does, answers or skips it, each once.

Names are compared without regard to case and spaces: they keep honest people from approving their own work by mistake.
Whoever can write the file can write any name.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

from member_client.playbooks.cacao_writing import branches_of
from sharing_protocol.playbooks import Action, Block, Question, Step, Workflow


class Kind(StrEnum):
    """What can be recorded of a step."""

    DONE = "done"
    ANSWERED = "answered"
    SKIPPED = "skipped"
    APPROVED = "approved"


@dataclass(frozen=True, slots=True)
class Event:
    """Who did what, and when.

    Attributes:
        step: the step's id.
        at: in UTC and whole seconds.
        note: "" for none; for a skipped step the reason.
        answer: to a question; "" for everything else.
    """

    kind: Kind
    step: str
    by: str
    at: datetime
    note: str = ""
    answer: Literal["", "yes", "no"] = ""


class NotAllowed(Exception):
    """The playbook does not allow this now.

    Attributes:
        mend: what to do instead.
    """

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(what)
        self.mend = mend


@dataclass(frozen=True, slots=True)
class Reached:
    """A step that is to be done now.

    Attributes:
        since: when it was reached.
        due: when it should be done; None for whenever.
        approved_by: in the order of their approvals.
    """

    step: Action | Question
    since: datetime
    due: datetime | None
    approved_by: tuple[str, ...]

    def overdue(self, now: datetime) -> bool:
        """Whether it should have been done before now."""
        return self.due is not None and now > self.due


@dataclass(frozen=True, slots=True)
class Settled:
    """A step that was done, answered or skipped.

    Attributes:
        by_then: when it was due; None for whenever.
    """

    step: Action | Question
    event: Event
    approvals: tuple[Event, ...]
    by_then: datetime | None

    @property
    def late(self) -> bool:
        """Whether it was due before."""
        return self.by_then is not None and self.event.at > self.by_then


@dataclass(frozen=True, slots=True)
class State:
    """A run, as of what was recorded.

    Attributes:
        reached: what is to be done now, in the playbook's order; nothing once it is finished.
        settled: by step, in the order recorded.
        finished: when the last step was settled; None before.
    """

    reached: tuple[Reached, ...]
    settled: Mapping[str, Settled]
    finished: datetime | None


@dataclass
class Run:
    """A run under way: its playbook's steps, when it began, and what was recorded since."""

    workflow: Workflow
    begun: datetime
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._steps = {step.id: step for step in steps_of(self.workflow.steps)}
        self._settling: dict[str, Event] = {}
        self._approvals: dict[str, list[Event]] = {}
        events, self.events = self.events, []
        for event in events:
            self.record(event)

    def record(self, event: Event) -> None:
        """Take an event in.

        Raises:
            NotAllowed: the playbook does not allow it now; nothing has changed.
        """
        self.check(event)
        self.events.append(event)
        if event.kind is Kind.APPROVED:
            self._approvals.setdefault(event.step, []).append(event)
        else:
            self._settling[event.step] = event

    def check(self, event: Event) -> None:
        """Ask whether the playbook allows an event now.

        Raises:
            NotAllowed: it does not.
        """
        step = self._steps.get(event.step)
        if step is None:
            raise NotAllowed("the playbook has no such step", "see `stillwatch playbook run --status`")
        if event.step in self._settling:
            raise NotAllowed(f"{step.name!r} is {self._settling[event.step].kind} already", "go on with another step")
        if step.id not in {one.step.id for one in self.state.reached}:
            raise NotAllowed(f"{step.name!r} has not been reached", "do what comes before it")
        if not _plain(event.by):
            raise NotAllowed("nobody is named", "say who did it")
        if event.kind is Kind.APPROVED:
            self._check_approval(step, event)
            return
        self._check_fitting(step, event)
        others = [one for one in self._approvals.get(step.id, ()) if not _same(one.by, event.by)]
        missing = step.approvals - len(others) if isinstance(step, Action | Question) else 0
        if missing > 0:
            what = f"{step.name!r} needs {missing} more approval{'s' if missing > 1 else ''} by others than {event.by}"
            raise NotAllowed(what, "let somebody else approve it first")

    def _check_approval(self, step: Step, event: Event) -> None:
        if not isinstance(step, Action | Question) or not step.approvals:
            raise NotAllowed(f"{step.name!r} needs no approval", "record that it is done")
        if any(_same(one.by, event.by) for one in self._approvals.get(step.id, ())):
            raise NotAllowed(f"{event.by} has approved {step.name!r} before", "let somebody else approve it")

    @staticmethod
    def _check_fitting(step: Step, event: Event) -> None:
        if isinstance(step, Question) != (event.kind is Kind.ANSWERED) or (event.kind is Kind.ANSWERED) != bool(
            event.answer
        ):
            if isinstance(step, Question):
                raise NotAllowed(f"{step.name!r} is a question", "answer it with yes or no")
            raise NotAllowed(f"{step.name!r} is no question", "record that it is done, or skip it with a reason")
        if event.kind is Kind.SKIPPED and not event.note.strip():
            raise NotAllowed(f"{step.name!r} cannot be skipped without a reason", "say why")

    @property
    def state(self) -> State:
        """Where the run stands."""
        reached: list[Reached] = []
        settled: dict[str, Settled] = {}
        finished = self._walk(self.workflow.steps, self.begun, reached, settled)
        order = {event.step: at for at, event in enumerate(self.events) if event.kind is not Kind.APPROVED}
        in_order = dict(sorted(settled.items(), key=lambda item: order[item[0]]))
        return State(tuple(reached), in_order, finished)

    def _walk(
        self, block: Block, since: datetime, reached: list[Reached], settled: dict[str, Settled]
    ) -> datetime | None:
        """Go through a block reached at a time; gives when it was through, None if it is not."""
        for step in block:
            through: datetime | None
            if isinstance(step, Action | Question):
                through = self._settle(step, since, reached, settled)
                branches = _taken(step, self._settling.get(step.id))
            else:
                through, branches = since, step.branches
            if through is None:
                return None
            ends = [self._walk(branch, through, reached, settled) for branch in branches]
            if None in ends:
                return None
            since = max([through, *(end for end in ends if end is not None)])
        return since

    def _settle(
        self, step: Action | Question, since: datetime, reached: list[Reached], settled: dict[str, Settled]
    ) -> datetime | None:
        due = since + timedelta(minutes=step.due_within_minutes) if step.due_within_minutes else None
        approvals = tuple(self._approvals.get(step.id, ()))
        event = self._settling.get(step.id)
        if event is None:
            reached.append(Reached(step, since, due, tuple(one.by for one in approvals)))
            return None
        settled[step.id] = Settled(step, event, approvals, due)
        return event.at


def steps_of(block: Block) -> Iterator[Step]:
    """Every step of a block and of its branches."""
    for step in block:
        yield step
        for branch in branches_of(step):
            yield from steps_of(branch)


def _taken(step: Action | Question, event: Event | None) -> Iterable[Block]:
    if event is None or isinstance(step, Action):
        return ()
    return (step.yes if event.answer == "yes" else step.no,)


def _same(one: str, other: str) -> bool:
    return _plain(one) == _plain(other)


def _plain(name: str) -> str:
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())
