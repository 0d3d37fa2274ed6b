"""Campaigns: what several labs saw of the same patterns at the same time, from sightings alone.

What joins sightings, and what does not:

1. Only sightings that count (`feedback.why_not_counted`), of at most `LONGEST_DAYS`: a longer one says too little of
   when, and a single such sighting would join everything.
2. Sightings of one pattern, in whatever versions, join if their days overlap or follow on each other; and so on from
   one to the next. But what one lab alone saw for more than `LONGEST_ALONE` days joins nothing that other labs saw
   before to what they saw after (`_reach`).
3. Sightings of different patterns do not join for being at one lab in one week: every lab sees most patterns most of
   the time, and all would be one campaign. They join if labs said that the patterns belong together (an incident that
   names both, and that another lab joined) and at least `LEAST_LABS` labs saw both on the same days. No one lab's word
   suffices for either.
4. It is a cross-lab campaign from `LEAST_LABS` labs on.

Sizes are lowest bounds of buckets, added over labs and over days, and told as a bucket again. What a lab saw on the
same days may be the same, so only the largest of it counts.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import combinations
from math import fsum
from uuid import UUID

from sharing_protocol.feedback import Said, least_matches, why_not_counted
from sharing_protocol.statements.handling import Bucket, bucket_of, lowest_of
from sharing_protocol.statements.header import new_id
from sharing_protocol.statements.records import Sighting

LONGEST_DAYS = 92
LONGEST_ALONE = 31
"""Days. Sightings laid end to end cover as long a time as their lab likes, of whatever length each may be: so it is not
the length of one that has to be bounded, but how far the others are apart that a single lab joins. A month, since labs
may report by the month: what goes on for longer at one lab alone is seen by another, or is not the forum's."""
LEAST_LABS = 2

_DAY = timedelta(days=1)


class Trend(StrEnum):
    """Whether at least twice, or at most half, as much was seen a day in the second half of the time."""

    GROWING = "growing"
    STEADY = "steady"
    FALLING = "falling"


@dataclass(frozen=True, slots=True)
class Span:
    """One sighting: whole days, the second the day after the last, and how much."""

    start: datetime
    end: datetime
    matches: Bucket
    pattern: str
    sighting: str


@dataclass(frozen=True, slots=True)
class Share:
    """What one lab saw of a campaign.

    Attributes:
        start, end: from the first day to the day after the last.
        matches, accounts: at least so many; accounts are None when none of its sightings knows any.
        spans: its sightings in the order of their days.
    """

    lab: str
    start: datetime
    end: datetime
    matches: Bucket
    accounts: Bucket | None
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Campaign:
    """Sightings that belong together.

    Attributes:
        id: `campaign--<uuid>`, of the sighting that is first in the log: it stays while the campaign grows.
        patterns: ids, sorted.
        shares: by labs, in the order in which they first saw it: where it moved.
        start, end: from the first day to the day after the last.
        matches, accounts: at least so many over all labs. The same customer at two labs is two accounts.
    """

    id: str
    patterns: tuple[str, ...]
    shares: tuple[Share, ...]
    start: datetime
    end: datetime
    matches: Bucket
    accounts: Bucket | None
    trend: Trend


def campaigns(
    everything: Iterable[Said], now: datetime, together: Iterable[frozenset[str]] = (), least_labs: int = LEAST_LABS
) -> list[Campaign]:
    """The campaigns, by their first days.

    Args:
        everything: what labs said; other things than sightings are passed over.
        together: ids of patterns that an incident of at least `LEAST_LABS` labs names together.
        least_labs: 1 also gives what one lab alone saw.
    """
    counted = [
        (said.index, said.statement)
        for said in everything
        if isinstance(said.statement, Sighting) and not why_not_counted(said, now) and _is_short(said.statement)
    ]
    runs = _runs(counted)
    found = [_campaign(joined) for joined in _joined(runs, together)]
    wide = [campaign for campaign in found if len(campaign.shares) >= least_labs]
    return sorted(wide, key=lambda campaign: (campaign.start, campaign.id))


_Logged = tuple[int, Sighting]


def _is_short(sighting: Sighting) -> bool:
    return sighting.body.period_end - sighting.body.period_start <= LONGEST_DAYS * _DAY


def _runs(counted: Iterable[_Logged]) -> list[list[_Logged]]:
    """Sightings of one pattern that join by rule 2."""
    by_pattern: dict[str, list[_Logged]] = defaultdict(list)
    for logged in counted:
        by_pattern[logged[1].body.pattern.id].append(logged)
    runs: list[list[_Logged]] = []
    for of_pattern in by_pattern.values():
        ends: dict[str, datetime] = {}
        for logged in sorted(of_pattern, key=lambda one: one[1].body.period_start):
            lab, body = logged[1].author, logged[1].body
            if not ends or body.period_start > _reach(ends.values()):
                runs.append([])
                ends = {}
            runs[-1].append(logged)
            ends[lab] = max(body.period_end, ends.get(lab, body.period_end))
    return runs


def _reach(ends: Collection[datetime]) -> datetime:
    """Up to when a sighting has to start to join, by when each lab of a run saw it last.

    What reaches furthest counts up to `LONGEST_ALONE` days beyond what any other lab saw. A lab that is alone in a run
    joins nobody to anybody, only its own: that may go on for as long as it says.
    """
    last, *others = sorted(ends, reverse=True)
    return min(last, others[0] + LONGEST_ALONE * _DAY) if others else last


def _joined(runs: list[list[_Logged]], together: Iterable[frozenset[str]]) -> list[list[_Logged]]:
    """The runs, those of different patterns joined where rule 3 says so."""
    leader = list(range(len(runs)))

    def find(place: int) -> int:
        while leader[place] != place:
            leader[place] = leader[leader[place]]
            place = leader[place]
        return place

    seen_by = _days_by_lab(runs)
    pairs = {pair for named in set(together) for pair in combinations(sorted(named), 2)}
    for one, other in pairs:
        both: dict[tuple[int, int], set[str]] = defaultdict(set)
        by_one, by_other = seen_by.get(one, {}), seen_by.get(other, {})
        for lab in by_one.keys() & by_other.keys():
            for places in _on_the_same_days(by_one[lab], by_other[lab]):
                both[places].add(lab)
        for (first, second), labs in both.items():
            if len(labs) >= LEAST_LABS:
                leader[find(first)] = find(second)
    joined: dict[int, list[_Logged]] = defaultdict(list)
    for place, run in enumerate(runs):
        joined[find(place)].extend(run)
    return list(joined.values())


@dataclass(slots=True)
class _Days:
    """Days without a gap on which one lab saw a pattern, as far as they are in one run, and the run's place."""

    start: datetime
    end: datetime
    place: int


def _days_by_lab(runs: Sequence[Sequence[_Logged]]) -> dict[str, dict[str, list[_Days]]]:
    """On which days, in their order, each pattern was seen by each lab.

    So that what it takes to compare two patterns grows with their sightings, not with the square of these: one lab
    may report as many as its quota takes.
    """
    found: dict[str, dict[str, list[_Days]]] = defaultdict(lambda: defaultdict(list))
    for place, run in enumerate(runs):  # of one pattern, they and the sightings in them come by their first days
        for _, sighting in run:
            body, days = sighting.body, found[sighting.body.pattern.id][sighting.author]
            if days and days[-1].place == place and body.period_start <= days[-1].end:
                days[-1].end = max(days[-1].end, body.period_end)
            else:
                days.append(_Days(body.period_start, body.period_end, place))
    return found


def _on_the_same_days(first: Sequence[_Days], second: Sequence[_Days]) -> Iterator[tuple[int, int]]:
    """The places of two runs, wherever they share a day."""
    begun: tuple[list[_Days], list[_Days]] = ([], [])
    both = [*((days, 0) for days in first), *((days, 1) for days in second)]
    for days, side in sorted(both, key=lambda one: one[0].start):
        others = begun[1 - side]
        others[:] = [other for other in others if other.end > days.start]
        for other in others:
            yield (other.place, days.place) if side else (days.place, other.place)
        begun[side].append(days)


def _campaign(joined: list[_Logged]) -> Campaign:
    by_lab: dict[str, list[Sighting]] = defaultdict(list)
    for _, sighting in joined:
        by_lab[sighting.author].append(sighting)
    shares = sorted((_share(lab, seen) for lab, seen in by_lab.items()), key=lambda share: (share.start, share.lab))
    start, end = min(share.start for share in shares), max(share.end for share in shares)
    known = [lowest_of(share.accounts) for share in shares if share.accounts is not None]
    _, first = min(joined, key=lambda logged: logged[0])
    return Campaign(
        id=new_id("campaign", UUID(bytes=hashlib.sha256(first.id.encode()).digest()[:16])),
        patterns=tuple(sorted({sighting.body.pattern.id for _, sighting in joined})),
        shares=tuple(shares),
        start=start,
        end=end,
        matches=bucket_of(least_matches(sighting for _, sighting in joined)),
        accounts=bucket_of(sum(known)) if known else None,
        trend=_trend(shares, start, end),
    )


def _share(lab: str, seen: list[Sighting]) -> Share:
    # The same accounts may be there on other days, so these are not added up over days.
    accounts = [lowest_of(one.body.accounts) for one in seen if one.body.accounts is not None]
    spans = [
        Span(one.body.period_start, one.body.period_end, one.body.matches, one.body.pattern.id, one.id) for one in seen
    ]
    return Share(
        lab=lab,
        start=min(span.start for span in spans),
        end=max(span.end for span in spans),
        matches=bucket_of(least_matches(seen)),
        accounts=bucket_of(max(accounts)) if accounts else None,
        spans=tuple(sorted(spans, key=lambda span: (span.start, span.end, span.sighting))),
    )


def _trend(shares: Iterable[Share], start: datetime, end: datetime) -> Trend:
    half = (end - start) // _DAY // 2
    early, late = [], []
    for share in shares:
        for day, amount in _by_day(share).items():
            if day < start + half * _DAY:
                early.append(amount)
            elif day >= end - half * _DAY:
                late.append(amount)
    before, after = fsum(early), fsum(late)
    if after >= 2 * before and after:
        return Trend.GROWING
    return Trend.FALLING if 2 * after <= before and before else Trend.STEADY


def _by_day(share: Share) -> dict[datetime, float]:
    """How much a lab saw at the least on each day, if it was spread evenly over the days of its sightings."""
    amounts: dict[datetime, float] = defaultdict(float)
    for span in share.spans:
        days = (span.end - span.start) // _DAY
        for number in range(days):
            day = span.start + number * _DAY
            amounts[day] = max(amounts[day], lowest_of(span.matches) / days)
    return amounts
