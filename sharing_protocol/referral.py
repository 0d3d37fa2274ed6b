"""Whether an incident meets referral criteria: a pure reading of admitted statements, the same for whoever has them.

A lab that builds a referral package and whoever checks it have the same few entries of the log, and come to the same
case. How each measure counts, always at the lowest that it can be:

- `labs`: labs that joined the incident, its opener among them, and are active members.
- `patterns`: distinct patterns that the incident names and that stand: not withdrawn, not signed by a reported key.
- `sightings`: the incident's sightings that count (`feedback.why_not_counted`).
- `matches`: of these, by the lowest bound of each bucket; of what one lab tells of days that overlap only the largest
  counts, whatever the patterns are, since one request can match several (`feedback.least_matches`).
- `accounts`: of each lab the largest of its lowest bounds, since its sightings may be of the same accounts; added up.
- `days`: the fewest days on which all sightings that count can have been; a sighting of a month is of one day at least.
- `endorsements`: other labs that endorsed a version that the incident names of a pattern that stands.
- `escalation_level`: the place of the level in force in the incident's protocol, from 1; 0 without a protocol.
- `attested`: 1 if a person answered for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TypeVar

from sharing_protocol.errors import Unproven
from sharing_protocol.feedback import Feedback, Said, feedback, least_matches, why_not_counted
from sharing_protocol.incidents import Logged, Timeline, status_changes, timeline
from sharing_protocol.log_excerpt import Admitted
from sharing_protocol.membership import Membership, Status
from sharing_protocol.merkle import leaf_hash
from sharing_protocol.statements import (
    Endorsement,
    Incident,
    IncidentAction,
    MembershipStatement,
    Opinion,
    Pattern,
    Playbook,
    RecordReference,
    RecordStatement,
    ReferralCriteria,
    ReferralCriteriaBody,
    Sighting,
    Withdrawal,
)
from sharing_protocol.statements.handling import lowest_of
from sharing_protocol.statements.playbooks import Measure, RequiredEvidence

_R = TypeVar("_R", bound=RecordStatement)
_Response = Logged[Sighting] | Logged[Opinion] | Logged[Endorsement]
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class PatternInCase:
    """A pattern version that the incident names.

    Attributes:
        why_not: `withdrawn` or `suspect` if it does not stand, `superseded` or `expired` if it does; "" for none.
    """

    logged: Logged[Pattern]
    why_not: str
    feedback: Feedback

    @property
    def stands(self) -> bool:
        """Whether it counts."""
        return self.why_not not in ("withdrawn", "suspect")


@dataclass(frozen=True, slots=True)
class SightingInCase:
    """A sighting that the incident names, and why it does not count; "" if it does."""

    logged: Logged[Sighting]
    why_not: str


@dataclass(frozen=True, slots=True)
class Case:
    """An incident as some entries of the log tell it, and the criteria that it is held against.

    Attributes:
        incident: its newest version among these that has effect.
        protocol: the version of the escalation protocol that the incident names, None for none.
        membership: after all of the entries.
        opening_suspect: whether the key that signed its opening was reported compromised: it stays opened all the same.
    """

    timeline: Timeline
    incident: Logged[Incident]
    criteria: Logged[ReferralCriteria]
    protocol: Logged[Playbook] | None
    patterns: tuple[PatternInCase, ...]
    sightings: tuple[SightingInCase, ...]
    membership: Membership
    opening_suspect: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """One criterion or piece of evidence, and whether it is met.

    Attributes:
        found: what was counted; of evidence 1 for there.
        said: what was attested, "" for nothing.
    """

    name: str
    measure: str
    at_least: int
    required: bool
    found: int
    said: str = ""

    @property
    def met(self) -> bool:
        """Whether enough was found."""
        return self.found >= self.at_least


def case_of(
    admitted: Sequence[Admitted], membership: Membership, incident: str, criteria: RecordReference, now: datetime
) -> Case:
    """Read a case from entries of the log, in log order, which the rules admit.

    Args:
        membership: after all of the entries.
        now: decides what has expired.

    Raises:
        Unproven: `incomplete_case`: the incident or the criteria are not among them; `criteria_not_in_force`.
    """
    reading = _Reading(admitted, membership, now)
    found = reading.version(ReferralCriteria, criteria)
    versions = [one for one in reading.all(Incident) if one.statement.id == incident]
    if found is None or not versions or versions[0].statement.version != 1:
        raise Unproven("incomplete_case", f"the criteria, or the first version of {incident}, is not there")
    if why_not := reading.state(found):
        raise Unproven("criteria_not_in_force", f"criteria {criteria.id} version {criteria.version} are {why_not}")
    named = versions[0].statement.body.protocol
    protocol = reading.version(Playbook, named) if named is not None else None
    if named is not None and protocol is None:
        raise Unproven("incomplete_case", f"the incident's protocol {named.id} version {named.version} is not there")
    changes = ((one.index, one.statement) for one in admitted if isinstance(one.statement, MembershipStatement))
    reached: dict[int, datetime] = {}
    for before, one in pairwise(admitted):
        reached[one.index] = max(before.statement.created, reached.get(before.index, before.statement.created))
    told = timeline(
        versions,
        [one for one in reading.all(IncidentAction) if one.statement.body.incident.id == incident],
        protocol.statement.body if protocol is not None else None,
        now,
        changes=status_changes(changes),
        suspect=reading.suspect,
        reached=reached,
    )
    taken = {step.index for step in told.steps if not step.without_effect}
    return Case(
        told,
        next(one for one in reversed(versions) if one.index in taken),
        found,
        protocol,
        tuple(reading.patterns(told.patterns)),
        tuple(reading.sightings(told.sightings)),
        membership,
        versions[0].index in reading.suspect,
    )


def count(case: Case) -> dict[Measure, int]:
    """What there is of each measure, but for `attested`."""
    counted = [one.logged.statement for one in case.sightings if not one.why_not]
    standing = [one for one in case.patterns if one.stands]
    levels = case.protocol.statement.body.levels if case.protocol is not None else []
    place = next((at for at, level in enumerate(levels, 1) if level.name == case.timeline.level), 0)
    return {
        Measure.LABS: sum(case.membership.members[lab].status is Status.ACTIVE for lab in case.timeline.labs),
        Measure.PATTERNS: len({one.logged.statement.id for one in standing}),
        Measure.SIGHTINGS: len(counted),
        Measure.MATCHES: least_matches(counted),
        Measure.ACCOUNTS: _least_accounts(counted),
        Measure.DAYS: _days(counted),
        Measure.ENDORSEMENTS: len(frozenset[str]().union(*(one.feedback.endorsed_by for one in standing))),
        Measure.ESCALATION_LEVEL: place,
    }


def judge(
    criteria: ReferralCriteriaBody,
    counts: Mapping[Measure, int],
    attested: Mapping[str, str],
    evidence: Collection[RequiredEvidence],
) -> tuple[Finding, ...]:
    """Hold counts against criteria, in the order of the criteria; then the evidence that they ask for.

    Args:
        counts: of each measure; one that is missing is 0.
        attested: by name of a criterion of the measure `attested`, who says so and how they know.
        evidence: what the package brings.
    """
    found = []
    for one in criteria.criteria:
        said = attested.get(one.name, "") if one.measure is Measure.ATTESTED else ""
        number = int(bool(said)) if one.measure is Measure.ATTESTED else counts.get(one.measure, 0)
        found.append(Finding(one.name, one.measure.value, one.at_least, one.required, number, said))
    return (*found, *(Finding(kind.value, "evidence", 1, True, int(kind in evidence)) for kind in criteria.evidence))


def unmet(findings: Iterable[Finding]) -> list[Finding]:
    """What is required and not met."""
    return [one for one in findings if one.required and not one.met]


def evidence_in(case: Case, *, cosigners: int, local_files: int) -> set[RequiredEvidence]:
    """Which evidence a package of this case brings; proofs, timeline and custody are in every package.

    Args:
        cosigners: other labs than the one that builds it.
    """
    optional = {
        RequiredEvidence.PATTERN_VERSIONS: sum(one.stands for one in case.patterns),
        RequiredEvidence.SIGHTINGS: sum(not one.why_not for one in case.sightings),
        RequiredEvidence.COSIGNATURES: cosigners,
        RequiredEvidence.LOCAL_EVIDENCE_HASHES: local_files,
    }
    return {kind for kind in RequiredEvidence if optional.get(kind, 1)}


class _Reading:
    """What the entries say of each other."""

    def __init__(self, admitted: Sequence[Admitted], membership: Membership, now: datetime) -> None:
        self._membership = membership
        self._now = now
        self._logged = [
            Logged(one.index, leaf_hash(one.envelope.encode()).hex(), one.statement)
            for one in admitted
            if isinstance(one.statement, RecordStatement)
        ]
        self.suspect = frozenset(one.index for one in admitted if self._is_suspect(one))
        self._by_reference = {(one.statement.id, one.statement.version, one.entry): one for one in self._logged}
        self._newest: dict[str, int] = {}
        for logged in self._logged:
            self._newest[logged.statement.id] = logged.statement.version
        self._withdrawn = {one.statement.body.record.id for one in self.all(Withdrawal)}
        voices: list[_Response] = [*self.all(Sighting), *self.all(Opinion), *self.all(Endorsement)]
        self._feedback = feedback(map(self._said, voices), now)

    def all(self, kind: type[_R]) -> list[Logged[_R]]:
        return [Logged(one.index, one.entry, one.statement) for one in self._logged if isinstance(one.statement, kind)]

    def version(self, kind: type[_R], reference: RecordReference) -> Logged[_R] | None:
        one = self._by_reference.get((reference.id, reference.version, reference.entry))
        if one is None or not isinstance(one.statement, kind):
            return None
        return Logged(one.index, one.entry, one.statement)

    def patterns(self, named: Iterable[RecordReference]) -> Iterator[PatternInCase]:
        for reference in named:
            one = self.version(Pattern, reference)
            if one is None:
                raise _missing(reference)
            yield PatternInCase(one, self.state(one), self._feedback.get(one.entry, Feedback(one.entry)))

    def sightings(self, named: Iterable[RecordReference]) -> Iterator[SightingInCase]:
        for reference in named:
            one = self.version(Sighting, reference)
            if one is None:
                raise _missing(reference)
            yield SightingInCase(one, why_not_counted(self._said(one), self._now))

    def _said(self, one: _Response) -> Said:
        said = one.statement
        author = self._membership.members.get(said.author)
        return Said(
            one.index,
            said,
            newest=said.version == self._newest[said.id],
            withdrawn=said.id in self._withdrawn,
            suspect=one.index in self.suspect,
            lab_active=author is not None and author.status is Status.ACTIVE,
            of_own=said.author == self._author_of(said.body.pattern.id),
        )

    def _author_of(self, record: str) -> str:
        """The author of every version of a record; "" if none is in the case."""
        return next((one.statement.author for one in self._logged if one.statement.id == record), "")

    def state(self, one: Logged[Pattern] | Logged[ReferralCriteria]) -> str:
        """Why a version is not in force, "" if it is."""
        record = one.statement
        reasons = (
            ("withdrawn", record.id in self._withdrawn),
            ("suspect", one.index in self.suspect and not self._is_brought_back(one)),
            ("superseded", record.version < self._newest[record.id]),
            ("expired", record.body.valid_until <= self._now),
        )
        return next((name for name, holds in reasons if holds), "")

    def _is_brought_back(self, one: Logged[Pattern] | Logged[ReferralCriteria]) -> bool:
        """Whether its own lab endorsed this very version of a pattern by a key that was not reported."""
        return any(
            (voice.statement.author, voice.statement.body.pattern.entry) == (one.statement.author, one.entry)
            and voice.statement.version == self._newest[voice.statement.id]
            and voice.statement.id not in self._withdrawn
            and voice.index not in self.suspect
            for voice in self.all(Endorsement)
        )

    def _is_suspect(self, one: Admitted) -> bool:
        keys = (self._membership.keys.get(signature.key_id) for signature in one.envelope.signatures)
        return any(key is not None and key.suspect_from is not None and one.index >= key.suspect_from for key in keys)


def _least_accounts(sightings: Iterable[Sighting]) -> int:
    by_lab: dict[str, int] = {}
    for one in sightings:
        if one.body.accounts is not None:
            by_lab[one.author] = max(by_lab.get(one.author, 0), lowest_of(one.body.accounts))
    return sum(by_lab.values())


def _days(sightings: Iterable[Sighting]) -> int:
    total, last = 0, None
    for one in sorted(sightings, key=lambda one: one.body.period_end):
        if last is None or one.body.period_start > last:
            total, last = total + 1, one.body.period_end - _DAY
    return total


def _missing(reference: RecordReference) -> Unproven:
    return Unproven("incomplete_case", f"{reference.id} version {reference.version}, which it names, is not there")
