"""What labs say of a pattern, added up by its versions: a pure fold that hub and members share.

The same sightings, opinions and endorsements give the same answer in whatever order they come, so a member that has
read the log needs nobody's sums. What counts, and how much:

1. A statement counts while it is its record's newest version, not withdrawn and not expired, its key was not reported
   compromised from an index at or below its own, and its lab is an active member (`why_not_counted`). What a lab says
   of its own pattern counts for nothing here, though it may see it: an endorsement of one's own only lifts suspicion.
2. It counts for the very pattern version whose entry hash it names, never for one before or after.
3. A lab has one voice. The log sees to that by the id of opinions and endorsements (`voice_id`); if there were two all
   the same, the later one in the log counts. Of sightings by one lab whose days overlap only the largest counts.
4. Precision is true positives of reviewed matches over all labs that measured. No lab weighs more than the lower
   median of what the labs reviewed, or than `SAFE_WEIGHT` where that is more: who reviews ten thousand, or says so,
   does not outvote labs that reviewed a hundred each. Nor can a lab make the others' work worthless by reviewing one.
   Beyond its weight, a lab's share of true positives counts, not its number. A reader who does not believe some labs
   leaves them out, and the others weigh what they would if those had said nothing (`Feedback.measured_by_others`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sharing_protocol.intervals import wilson
from sharing_protocol.statements.handling import Bucket, bucket_of, lowest_of
from sharing_protocol.statements.header import format_timestamp
from sharing_protocol.statements.opinions import Endorsement, Opinion, Reviewed, Verdict
from sharing_protocol.statements.records import Sighting
from sharing_protocol.wire import DisputeInformation, VersionFeedback

SAFE_WEIGHT = 30
"""Reviewed matches that count of each lab, however few the others reviewed."""

Voice = Sighting | Opinion | Endorsement
"""What a lab says of another's pattern, or of its own: that it was seen."""


@dataclass(frozen=True, slots=True)
class Said:
    """An admitted sighting, opinion or endorsement, and where the log puts it now.

    Attributes:
        index: of its entry in the log.
        newest: whether no later version of the record is in the log.
        withdrawn: whether a withdrawal names the record.
        suspect: whether its key was reported compromised from an index at or below this one.
        lab_active: whether its author is a member, neither suspended nor expelled.
        of_own: whether the pattern is its author's own.
    """

    index: int
    statement: Voice
    newest: bool
    withdrawn: bool
    suspect: bool
    lab_active: bool
    of_own: bool


@dataclass(frozen=True, slots=True)
class Dispute:
    """An open `false_positive` opinion."""

    lab: str
    opinion: str
    created: datetime
    measured: Reviewed
    comment: str | None


@dataclass(frozen=True, slots=True)
class Feedback:
    """What counts of what labs said of one pattern version.

    Attributes:
        entry: hex leaf hash of the version's entry.
        confirmed_by, disputed_by, needs_work_by, endorsed_by, seen_by: ids of labs.
        measured: what each lab that measured found, by its id.
        disputes: the open ones, in log order.
        matches: at least so many were seen in all; None for no sighting.
        first_seen, last_seen: of all sightings; from the first day to the day after the last.
    """

    entry: str
    confirmed_by: frozenset[str] = frozenset()
    disputed_by: frozenset[str] = frozenset()
    needs_work_by: frozenset[str] = frozenset()
    endorsed_by: frozenset[str] = frozenset()
    seen_by: frozenset[str] = frozenset()
    measured: Mapping[str, Reviewed] = field(default_factory=dict)
    disputes: tuple[Dispute, ...] = ()
    matches: Bucket | None = None
    first_seen: datetime | None = None
    last_seen: datetime | None = None

    @property
    def reviewed(self) -> int:
        """Matches that people looked at, over all labs, each by its weight."""
        return self.measured_by_others()[0]

    @property
    def true_positives(self) -> int:
        """How many of these were what the pattern says, to the nearest."""
        return self.measured_by_others()[1]

    def measured_by_others(self, than: Collection[str] = ()) -> tuple[int, int]:
        """Reviewed matches and true positives over all labs but these, as if they had said nothing."""
        return _weighed([one for lab, one in self.measured.items() if lab not in than])

    @property
    def precision(self) -> float | None:
        """Share of reviewed matches that were what the pattern says; None while nobody has reviewed any."""
        reviewed, true_positives = self.measured_by_others()
        return true_positives / reviewed if reviewed else None

    @property
    def precision_interval(self) -> tuple[float, float] | None:
        """The precision's 95 % Wilson interval."""
        reviewed, true_positives = self.measured_by_others()
        return wilson(true_positives, reviewed) if reviewed else None


def why_not_counted(said: Said, now: datetime) -> str:
    """Why a statement does not count, as one word as states of records are named; "" if it does."""
    reasons = (
        ("superseded", not said.newest),
        ("withdrawn", said.withdrawn),
        ("suspect", said.suspect),
        ("expired", said.statement.body.valid_until <= now),
        ("not a member", not said.lab_active),
        ("own pattern", said.of_own and not isinstance(said.statement, Sighting)),
    )
    return next((name for name, holds in reasons if holds), "")


def feedback(everything: Iterable[Said], now: datetime) -> dict[str, Feedback]:
    """The feedback by entry hash of the pattern version; a version of which nothing counts is not there."""
    by_version: dict[str, list[Said]] = defaultdict(list)
    for said in everything:
        if not why_not_counted(said, now):
            by_version[said.statement.body.pattern.entry].append(said)
    return {entry: _of_version(entry, counted) for entry, counted in by_version.items()}


def as_wire(version: int, found: Feedback) -> VersionFeedback:
    """A version's feedback as hubs answer it and clients print it."""
    interval = found.precision_interval
    return VersionFeedback(
        version=version,
        entry=found.entry,
        confirmed_by=sorted(found.confirmed_by),
        disputed_by=sorted(found.disputed_by),
        needs_work_by=sorted(found.needs_work_by),
        endorsed_by=sorted(found.endorsed_by),
        seen_by=sorted(found.seen_by),
        reviewed=found.reviewed,
        true_positives=found.true_positives,
        precision=found.precision,
        precision_interval=list(interval) if interval else None,
        matches=found.matches.value if found.matches else None,
        first_seen=format_timestamp(found.first_seen) if found.first_seen else None,
        last_seen=format_timestamp(found.last_seen) if found.last_seen else None,
        disputes=[
            DisputeInformation(
                lab=one.lab,
                opinion=one.opinion,
                created=format_timestamp(one.created),
                reviewed=one.measured.reviewed,
                true_positives=one.measured.true_positives,
                comment=one.comment,
            )
            for one in found.disputes
        ],
    )


def _of_version(entry: str, counted: list[Said]) -> Feedback:
    opinions: dict[str, tuple[int, Opinion]] = {}
    endorsed, sightings = set(), []
    for said in counted:
        match said.statement:
            case Opinion() as opinion:
                before = opinions.get(opinion.author)
                if before is None or before[0] < said.index:
                    opinions[opinion.author] = (said.index, opinion)
            case Endorsement() as endorsement:
                endorsed.add(endorsement.author)
            case Sighting() as sighting:
                sightings.append(sighting)
    voices = [opinion for _, opinion in sorted(opinions.values(), key=lambda voice: voice[0])]
    matches = least_matches(sightings)
    return Feedback(
        entry=entry,
        confirmed_by=_labs(voices, Verdict.CONFIRM),
        disputed_by=_labs(voices, Verdict.FALSE_POSITIVE),
        needs_work_by=_labs(voices, Verdict.NEEDS_WORK),
        endorsed_by=frozenset(endorsed),
        seen_by=frozenset(one.author for one in sightings),
        measured={one.author: one.body.measured for one in voices if one.body.measured is not None},
        disputes=tuple(_disputes(voices)),
        matches=bucket_of(matches) if matches else None,
        first_seen=min((one.body.period_start for one in sightings), default=None),
        last_seen=max((one.body.period_end for one in sightings), default=None),
    )


def _labs(voices: Iterable[Opinion], verdict: Verdict) -> frozenset[str]:
    return frozenset(one.author for one in voices if one.body.verdict is verdict)


def _disputes(voices: Iterable[Opinion]) -> Iterator[Dispute]:
    for one in voices:
        if one.body.verdict is Verdict.FALSE_POSITIVE and one.body.measured is not None:
            yield Dispute(one.author, one.id, one.created, one.body.measured, one.body.comment)


def _weighed(measured: list[Reviewed]) -> tuple[int, int]:
    """Reviewed matches and true positives over all labs, each lab by its weight."""
    if not measured:
        return 0, 0
    sizes = sorted(one.reviewed for one in measured)
    most = max(SAFE_WEIGHT, sizes[(len(sizes) - 1) // 2])
    reviewed = true_positives = 0
    for one in measured:
        weight = min(one.reviewed, most)
        reviewed += weight
        true_positives += (2 * one.true_positives * weight + one.reviewed) // (2 * one.reviewed)
    return reviewed, true_positives


def least_matches(sightings: Iterable[Sighting]) -> int:
    """How many matches there were at the least: the buckets' lowest bounds, over labs and over days.

    What one lab reports of days that overlap may be the same matches, so of each such run of days only its largest
    sighting counts.
    """
    by_lab: dict[str, list[Sighting]] = defaultdict(list)
    for sighting in sightings:
        by_lab[sighting.author].append(sighting)
    return sum(_least_of_lab(of_lab) for of_lab in by_lab.values())


def _least_of_lab(sightings: list[Sighting]) -> int:
    total = largest = 0
    end: datetime | None = None
    for one in sorted(sightings, key=lambda one: one.body.period_start):
        if end is None or one.body.period_start >= end:
            total, largest, end = total + largest, 0, one.body.period_end
        largest, end = max(largest, lowest_of(one.body.matches)), max(end, one.body.period_end)
    return total + largest
