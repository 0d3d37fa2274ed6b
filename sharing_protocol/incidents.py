"""The timeline of an incident: a pure fold over its versions and the acts that refer to it, in the order of the log.

Every lab that has followed the log as far computes the same one. The rules:

1. The lab that opens an incident has joined it; any other joins once. Only labs that joined update, escalate and
   acknowledge.
2. The levels are those of the protocol, the one version of an escalation protocol that the first version of the
   incident names, for as long as the incident lasts. It begins at the first level. A lab that asks for one counts once,
   also the opener at the start; with as many labs as its `approvals` it is in force. A suspension or expulsion takes
   back what a lab asked for. Levels may be skipped and never go down. Without a protocol a level is any name that was
   not in force before, and one lab is enough.
3. Each lab that joined acknowledges the level in force within the protocol's time. Whoever brought a level in force has
   acknowledged it; a lab that joined or was reinstated later has its time from then. A suspended or expelled lab owes
   nothing, and a level that was left behind is owed by nobody.
4. Only the opener closes; while it is suspended or expelled, any lab that joined. Nothing after that has effect, and
   neither has what says that it was written when the incident had expired.
5. What a reported key signed from its suspect index on has no effect, except that an incident stays opened.
6. Of one lab at most `MAX_UPDATES` updates and as many revisions have effect, without a protocol `MAX_OWN_LEVELS`
   levels; and what would make the patterns or sightings that it added more than `MAX_ADDED` has none.
7. What has no effect is kept, with its reason. An act's own `valid_until` is about its text, not about its effect.

Times are what authors say of themselves: the hub refuses those from the future, and nobody can see of one statement
alone that it is from the past. So the order is the log's alone, and a statement counts as no earlier than any that had
effect before it. Due times count from no earlier than what any lab had said of itself in the log before the act that
brought the level in force, or the one by which the lab joined, if that was later (`reached`): each lab that writes
anything narrows how far back another can date an act. Whether an incident has expired is asked of its own statements
alone, since whoever has only these, as the reader of a referral package, must come to the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from sharing_protocol.content import MAX_CLOCK_SKEW
from sharing_protocol.statements import (
    Act,
    Expel,
    Incident,
    IncidentAction,
    MembershipStatement,
    PlaybookBody,
    RecordReference,
    Reinstate,
    Suspend,
)
from sharing_protocol.statements.incidents import MAX_NAMED
from sharing_protocol.statements.playbooks import EscalationLevel

S = TypeVar("S", covariant=True)

OPEN, CLOSED = "open", "closed"
OPENING, REVISION = "open", "revise"
"""What the steps of an incident's own versions are called; every other is called by its act."""

NAMES_A_LEVEL = frozenset({Act.ESCALATE, Act.ACKNOWLEDGE})
"""The acts of which a level means something; that of another says nothing, and is not told as if it did."""

MAX_UPDATES = 64
MAX_OWN_LEVELS = 8
MAX_ADDED = MAX_NAMED
"""What of one lab has effect in one incident. Without a bound, one lab that joined could make every referral package
too large, and send every lab's duty a message for each name of a level that it can think of. A protocol has as many
levels; one statement names as much. Joining and closing happen once, acknowledging once a level."""
SHOWN_WITHOUT_EFFECT = 8
"""Of each lab, where only the steps that matter are shown: who may do nothing about an incident may still write."""


@dataclass(frozen=True, slots=True)
class Logged(Generic[S]):
    """An admitted statement and its place.

    Attributes:
        entry: hex leaf hash of its entry.
    """

    index: int
    entry: str
    statement: S


@dataclass(frozen=True, slots=True)
class StatusChange:
    """That a lab ceased to be an active member, or is one again."""

    index: int
    lab: str
    created: datetime
    active: bool


@dataclass(frozen=True, slots=True)
class Step:
    """One statement in a timeline.

    Attributes:
        created: as its author says.
        logged: the earliest that it can have been in the log, by what came before it; never before `created`.
        lab: id of its author.
        action: of the incident's own versions `open` or `revise`, otherwise the act's.
        level: that it names, where that means something.
        without_effect: why it changes nothing, "" if it does.
        in_force: the level that it brought in force, None for none.
        late: of an acknowledgement, that it came after its time.
    """

    index: int
    entry: str
    created: datetime
    lab: str
    action: str
    level: str | None
    note: str | None
    patterns: tuple[RecordReference, ...]
    sightings: tuple[RecordReference, ...]
    without_effect: str
    logged: datetime
    in_force: str | None = None
    late: bool = False


@dataclass(frozen=True, slots=True)
class Due:
    """An acknowledgement that a lab owes."""

    lab: str
    level: str
    by: datetime
    overdue: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """Labs that asked for a level that is not in force yet, and how many it takes."""

    level: str
    labs: tuple[str, ...]
    approvals: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """An incident as it stands.

    Attributes:
        entry: of its first version.
        opened_by: id of a lab, as in `labs`: those that joined, in the order in which they did.
        state: `open` or `closed`; an expired incident is open, and nobody can do anything about it.
        level: in force, None where there was never any.
        due: the acknowledgements that are owed now, also those that are overdue.
    """

    id: str
    entry: str
    title: str
    opened_by: str
    state: str
    level: str | None
    labs: tuple[str, ...]
    patterns: tuple[RecordReference, ...]
    sightings: tuple[RecordReference, ...]
    steps: tuple[Step, ...]
    due: tuple[Due, ...]
    severity: str
    marking: str
    protocol: RecordReference | None
    asked: tuple[Asked, ...]
    valid_until: datetime
    expired: bool


def status_changes(membership_log: Iterable[tuple[int, MembershipStatement]]) -> tuple[StatusChange, ...]:
    """Which labs were suspended, reinstated or expelled, and where in the log.

    Args:
        membership_log: indexes and admitted statements, in log order.
    """
    return tuple(
        StatusChange(index, statement.id, statement.created, isinstance(statement, Reinstate))
        for index, statement in membership_log
        if isinstance(statement, Suspend | Reinstate | Expel)
    )


def steps_that_matter(steps: Iterable[Step]) -> tuple[tuple[Step, ...], dict[str, int]]:
    """The steps with effect and, of each lab, the first `SHOWN_WITHOUT_EFFECT` without.

    Returns:
        The steps, and by lab how many of its were left out; a lab of which none was is not there.
    """
    kept, idle = [], Counter[str]()
    for step in steps:
        if step.without_effect:
            idle[step.lab] += 1
        if not step.without_effect or idle[step.lab] <= SHOWN_WITHOUT_EFFECT:
            kept.append(step)
    return tuple(kept), {lab: n - SHOWN_WITHOUT_EFFECT for lab, n in idle.items() if n > SHOWN_WITHOUT_EFFECT}


def timeline(
    versions: Sequence[Logged[Incident]],
    acts: Sequence[Logged[IncidentAction]],
    protocol: PlaybookBody | None,
    now: datetime,
    *,
    changes: Sequence[StatusChange] = (),
    suspect: Collection[int] = (),
    reached: Mapping[int, datetime] | None = None,
) -> Timeline:
    """Fold an incident's versions and the acts that refer to it, in log order, whatever order they come in.

    Args:
        versions: at least the first.
        protocol: the playbook version that the first version names; None for none, and one without levels is none.
        now: decides what is overdue and whether the incident has expired, and nothing else.
        changes: see `status_changes`.
        suspect: log indexes of the statements among these that a reported key signed.
        reached: by the log index of one of these, the latest time that any statement before it in the log gives itself.

    Raises:
        ValueError: there is no first version.
    """
    first = min(versions, key=lambda one: one.index, default=None)
    if first is None or first.statement.version != 1:
        raise ValueError("a timeline begins with an incident's first version")
    fold = _Fold(first, tuple(protocol.levels) if protocol is not None else (), frozenset(suspect), reached or {})
    fold.open()
    log: list[Logged[Incident] | Logged[IncidentAction] | StatusChange] = [*versions, *acts, *changes]
    for one in sorted(log, key=lambda one: one.index):
        if one is not first:
            fold.take(one)
    return fold.result(now)


class _WithoutEffect(Exception):
    """Why a statement changes nothing."""


@dataclass
class _Fold:
    """The state after some statements; what a statement may do is asked before anything changes."""

    first: Logged[Incident]
    levels: tuple[EscalationLevel, ...]
    suspect: frozenset[int]
    reached: Mapping[int, datetime]
    closed: bool = False
    level: str | None = None
    since: datetime | None = None
    past_levels: set[str] = field(default_factory=set)
    joined: dict[str, datetime] = field(default_factory=dict)
    inactive: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    asked: dict[str, dict[str, None]] = field(default_factory=dict)
    patterns: dict[RecordReference, None] = field(default_factory=dict)
    sightings: dict[RecordReference, None] = field(default_factory=dict)
    counted: Counter[tuple[str, str]] = field(default_factory=Counter)
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.told = self.first.statement
        self.opener = self.told.author
        self.latest = self.told.created

    # -- statements ----------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Take the first version: its lab has joined, and the first level is in force, or what it may choose alone."""
        statement = self.told
        logged = self._logged(self.first, statement.created)
        self.joined[self.opener] = logged
        wished = statement.body.level
        if self.levels:
            self._bring_in_force(self.levels[0].name, self.opener, logged)
            if wished is not None and self._rank(wished) > 0:
                self._ask(wished, self.opener, logged)
        elif wished is not None:
            self._bring_in_force(wished, self.opener, logged)
        self._add(self.opener, statement.body.patterns, [])
        self._step(self.first, OPENING, wished, None, in_force=self.level)

    def take(self, one: Logged[Incident] | Logged[IncidentAction] | StatusChange) -> None:
        """Take the next one, whatever it is."""
        if isinstance(one, StatusChange):
            self._change_status(one)
            return
        statement = one.statement
        action, level, note = REVISION, None, None
        if isinstance(statement, IncidentAction):
            action, note = statement.body.action.value, statement.body.note
            level = statement.body.level if statement.body.action in NAMES_A_LEVEL else None
        before, moment = self.level, max(statement.created, self.latest)
        try:
            self._check_any(one, moment)
            logged = self._logged(one, moment)
            late = self._revise(statement) if isinstance(statement, Incident) else self._act(statement, logged)
        except _WithoutEffect as reason:
            self._step(one, action, level, note, without_effect=str(reason))
            return
        self.latest = moment
        in_force = self.level if self.level != before else None
        self._step(one, action, level, note, in_force=in_force, late=late)

    def _change_status(self, change: StatusChange) -> None:
        if not change.active:
            self.inactive.add(change.lab)
            for labs in self.asked.values():
                labs.pop(change.lab, None)
            return
        self.inactive.discard(change.lab)
        if change.lab in self.joined:
            # It could not acknowledge anything meanwhile.
            self.joined[change.lab] = max(self.joined[change.lab], change.created)

    def _check_any(self, one: Logged[Incident] | Logged[IncidentAction], moment: datetime) -> None:
        statement = one.statement
        about = (statement.id, self.first.entry)
        if isinstance(statement, IncidentAction):
            about = (statement.body.incident.id, statement.body.incident.entry)
        if about != (self.told.id, self.first.entry):
            raise _WithoutEffect("it is about another incident")
        if one.index in self.suspect:
            raise _WithoutEffect("the key that signed it was reported compromised")
        if self.closed:
            raise _WithoutEffect("the incident was closed before")
        if moment >= self.told.body.valid_until:
            raise _WithoutEffect("the incident had expired")

    def _logged(self, one: Logged[Incident] | Logged[IncidentAction], moment: datetime) -> datetime:
        """The earliest that it can have been in the log: what came before was refused if it was from the future."""
        before = self.reached.get(one.index)
        return moment if before is None else max(moment, before - MAX_CLOCK_SKEW)

    def _revise(self, statement: Incident) -> bool:
        self._check_room(self.opener, statement.body.patterns, [])
        self._count(self.opener, REVISION, MAX_UPDATES, "revisions")
        self.told = statement
        self._add(self.opener, statement.body.patterns, [])
        return False

    def _act(self, statement: IncidentAction, logged: datetime) -> bool:
        lab, body, late = statement.author, statement.body, False
        if body.action is Act.JOIN and lab in self.joined:
            raise _WithoutEffect("the lab had joined before")
        if body.action is not Act.JOIN and lab not in self.joined:
            raise _WithoutEffect("only labs that joined do this, and this one had not")
        self._check_room(lab, body.patterns, body.sightings)
        if body.action is Act.JOIN:
            self.joined[lab] = logged
        elif body.action is Act.UPDATE:
            self._count(lab, body.action.value, MAX_UPDATES, "updates")
        elif body.action is Act.ESCALATE:
            self._escalate(body.level, lab, logged)
        elif body.action is Act.ACKNOWLEDGE:
            late = self._acknowledge(body.level, lab, logged)
        else:
            self._close(lab)
        self._add(lab, body.patterns, body.sightings)
        return late

    def _escalate(self, level: str | None, lab: str, logged: datetime) -> None:
        if level is None:
            raise _WithoutEffect("it names no level")
        if level == self.level:
            raise _WithoutEffect(f"level {level!r} was in force before")
        if self.levels and self._rank(level) < 0:
            raise _WithoutEffect(f"the protocol has no level {level!r}")
        if level in self.past_levels or (self.levels and self._rank(level) < self._rank(self.level)):
            raise _WithoutEffect(f"levels never go down, and {self.level!r} was in force")
        if lab in self.asked.get(level, {}):
            raise _WithoutEffect(f"the lab had asked for level {level!r} before")
        if not self.levels:
            self._count(lab, Act.ESCALATE.value, MAX_OWN_LEVELS, "levels")
        self._ask(level, lab, logged)

    def _acknowledge(self, level: str | None, lab: str, logged: datetime) -> bool:
        if level is None:
            raise _WithoutEffect("it names no level")
        if level != self.level:
            in_force = f"level {self.level!r}" if self.level is not None else "no level"
            raise _WithoutEffect(f"level {level!r} was not in force, but {in_force}")
        if lab in self.acknowledged:
            raise _WithoutEffect(f"the lab had acknowledged level {level!r} before")
        self.acknowledged.add(lab)
        by = self._due_by(lab)
        return by is not None and logged > by

    def _close(self, lab: str) -> None:
        if lab != self.opener and self.opener not in self.inactive:
            raise _WithoutEffect("only the lab that opened it closes it, as long as that is an active member")
        self.closed = True

    # -- levels --------------------------------------------------------------------------------------------------

    def _rank(self, level: str | None) -> int:
        """The place of a level in the protocol, -1 for none."""
        return next((place for place, one in enumerate(self.levels) if one.name == level), -1)

    def _approvals(self, level: str) -> int:
        return self.levels[self._rank(level)].approvals if self.levels else 1

    def _ask(self, level: str, lab: str, logged: datetime) -> None:
        self.asked.setdefault(level, {})[lab] = None
        if len(self.asked[level]) >= self._approvals(level):
            self._bring_in_force(level, lab, logged)

    def _bring_in_force(self, level: str, lab: str, logged: datetime) -> None:
        self.level, self.since, self.acknowledged = level, logged, {lab}
        self.past_levels.add(level)
        rank = self._rank(level)
        self.asked = {name: labs for name, labs in self.asked.items() if self._rank(name) > rank}

    def _due_by(self, lab: str) -> datetime | None:
        """When the lab's acknowledgement of the level in force is due, None where the protocol asks for none."""
        if self.since is None or not self.levels:
            return None
        within = timedelta(minutes=self.levels[self._rank(self.level)].acknowledge_within_minutes)
        return max(self.since, self.joined[lab]) + within

    # -- what one lab may add ------------------------------------------------------------------------------------

    def _count(self, lab: str, what: str, most: int, plural: str) -> None:
        """Count one more of these; nothing may have changed yet."""
        if self.counted[lab, what] >= most:
            raise _WithoutEffect(f"of one lab {most} {plural} have effect, and it had made as many")
        self.counted[lab, what] += 1

    def _check_room(self, lab: str, patterns: Iterable[RecordReference], sightings: Iterable[RecordReference]) -> None:
        """See that a lab may add these; nothing may have changed yet."""
        named = (("patterns", patterns, self.patterns), ("sightings", sightings, self.sightings))
        for what, references, known in named:
            new = len({one for one in references if one not in known})
            if self.counted[lab, what] + new > MAX_ADDED:
                raise _WithoutEffect(f"one lab adds at most {MAX_ADDED} {what}, and with its {new} these would be more")

    def _add(self, lab: str, patterns: Iterable[RecordReference], sightings: Iterable[RecordReference]) -> None:
        before = len(self.patterns), len(self.sightings)
        self.patterns |= dict.fromkeys(patterns)
        self.sightings |= dict.fromkeys(sightings)
        self.counted[lab, "patterns"] += len(self.patterns) - before[0]
        self.counted[lab, "sightings"] += len(self.sightings) - before[1]

    # -- what comes of it ----------------------------------------------------------------------------------------

    def _step(
        self,
        one: Logged[Incident] | Logged[IncidentAction],
        action: str,
        level: str | None,
        note: str | None,
        *,
        without_effect: str = "",
        in_force: str | None = None,
        late: bool = False,
    ) -> None:
        said = one.statement
        logged = self._logged(one, said.created if without_effect else max(said.created, self.latest))
        sightings = tuple(said.body.sightings) if isinstance(said, IncidentAction) else ()
        patterns = tuple(said.body.patterns)
        self.steps.append(
            Step(
                one.index,
                one.entry,
                said.created,
                said.author,
                action,
                level,
                note,
                patterns,
                sightings,
                without_effect,
                logged,
                in_force,
                late,
            )
        )

    def result(self, now: datetime) -> Timeline:
        """The timeline so far."""
        expired = now >= self.told.body.valid_until
        ended = self.closed or expired
        return Timeline(
            id=self.told.id,
            entry=self.first.entry,
            title=self.told.body.title,
            opened_by=self.opener,
            state=CLOSED if self.closed else OPEN,
            level=self.level,
            labs=tuple(self.joined),
            patterns=tuple(self.patterns),
            sightings=tuple(self.sightings),
            steps=tuple(self.steps),
            due=() if ended else tuple(self._due(now)),
            severity=self.told.body.severity.value,
            marking=self.told.body.marking.value,
            protocol=self.first.statement.body.protocol,
            asked=() if ended else tuple(self._asked()),
            valid_until=self.told.body.valid_until,
            expired=expired,
        )

    def _due(self, now: datetime) -> Iterable[Due]:
        for lab in self.joined:
            by = self._due_by(lab)
            if by is not None and self.level is not None and lab not in self.acknowledged | self.inactive:
                yield Due(lab, self.level, by, overdue=now > by)

    def _asked(self) -> Iterable[Asked]:
        for level, labs in self.asked.items():
            if labs:
                yield Asked(level, tuple(labs), self._approvals(level))
