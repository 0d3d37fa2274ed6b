"""What the accounts send: when, in which conversations, and which prompts.

An account of a campaign gets its times and conversations exactly as an ordinary account of that size would; only
then is it drawn which of its requests carry the campaign's prompts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from member_client.evaluation.population import Accounts, Floats, Integers, Kind, Rhythm

DAY = 86_400_000_000
"""Microseconds."""
RETRY_SHARE = 0.02
ANYTHING_SHARE = 0.1
"""Of an account's prompts, those from outside its interests."""
_PEOPLE = (Kind.INDIVIDUAL, Kind.SEAT, Kind.STUDENT)
_DAYS = {  # weight of each hour of the local day, and of a day of the weekend
    Rhythm.PERSON: ("1 .5 .3 .2 .2 .4 1 2 3 4 4 4 4 4 4 4 4 4 4 5 5 5 4 2", 0.9),
    Rhythm.DEVELOPER: ("2 1.5 1 1 1 1 1.5 2 4 6 6 6 5 6 6 6 6 5 4 3 3 3 3 2", 0.5),
    Rhythm.OFFICE: (".1 .1 .1 .1 .1 .1 .3 2 6 8 8 8 5 8 8 8 7 5 2 1 .7 .5 .3 .2", 0.15),
    Rhythm.MACHINE: ("1 " * 24, 1.0),
}


@dataclass(frozen=True, slots=True)
class Source:
    """Where prompts come from.

    Attributes:
        first: position of the file's first prompt among all prompts.
        size: how many it has.
        batch: whether heavy batch customers use it.
        allowed: whether those who do are on the allow-list; None leaves that to chance.
    """

    first: int
    size: int
    batch: bool
    allowed: bool | None = None


@dataclass(slots=True)
class Requests:
    """Requests as columns, account by account, in time within each.

    Attributes:
        account: position of the account.
        time: microseconds since the first day's midnight.
        conversation: number of the conversation.
        turn: user messages in the conversation so far.
        prompt: position among all prompts.
        attack: whether it belongs to the campaign.
    """

    account: Integers
    time: Integers
    conversation: Integers
    turn: Integers
    prompt: Integers
    attack: NDArray[np.bool_]


def requests_of(
    draw: np.random.Generator,
    accounts: Accounts,
    benign: list[Source],
    attack: Source | None,
    days: float,
) -> Requests:
    """All requests of some accounts.

    Args:
        attack: the campaign's prompts if these are its accounts; there are as many as their `attack` adds up to.
    """
    account = np.repeat(np.arange(len(accounts)), accounts.requests)
    first = np.concatenate([[True], account[1:] != account[:-1]]) if len(account) else np.zeros(0, dtype=np.bool_)
    retry = (draw.random(len(account)) < RETRY_SHARE) & ~first
    opens = first | ((draw.random(len(account)) < 1 / accounts.chatty[account]) & ~retry)
    conversation = np.cumsum(opens) - 1
    time = _times(draw, accounts, account, opens, conversation, retry, days)
    order = np.lexsort((np.arange(len(account)), time, account))
    account, time, conversation, retry = account[order], time[order], conversation[order], retry[order]
    is_attack = _drawn_per_account(draw, account, accounts.attack)
    prompt = np.empty(len(account), dtype=np.int64)
    if attack is not None:
        prompt[is_attack] = attack.first + draw.permutation(attack.size)[: int(is_attack.sum())]
    ordinary = ~is_attack
    counts = np.bincount(account[ordinary], minlength=len(accounts))
    prompt[ordinary] = _ordinary_prompts(draw, accounts, counts, benign)
    # A request that failed is sent again as it was; the prompts of a campaign are sent once by definition.
    again = np.flatnonzero(retry & ordinary)
    again = again[(again > 0)]
    again = again[(account[again - 1] == account[again]) & ordinary[again - 1]]
    prompt[again] = prompt[again - 1]
    return Requests(account, time, conversation, _turns(conversation, retry), prompt, is_attack)


def _times(
    draw: np.random.Generator,
    accounts: Accounts,
    account: Integers,
    opens: NDArray[np.bool_],
    conversation: Integers,
    retry: NDArray[np.bool_],
    days: float,
) -> Integers:
    owner = account[opens]
    begin = np.empty(len(owner))
    level = draw.random(len(owner))
    for rhythm in Rhythm:
        for zone in np.unique(accounts.zone):
            those = np.flatnonzero((accounts.rhythm[owner] == rhythm) & (accounts.zone[owner] == zone))
            if not len(those):
                continue
            edges, reached = _week(rhythm, int(zone), days)
            low = np.interp(accounts.start[owner[those]], edges, reached)
            high = np.interp(accounts.end[owner[those]], edges, reached)
            begin[those] = np.interp(low + level[those] * (high - low), reached, edges)
    machine = accounts.rhythm[account] != Rhythm.PERSON
    gap = np.exp(np.where(machine, np.log(25.0), np.log(75.0)) + 0.9 * draw.standard_normal(len(account)))
    gap = np.where(retry, 3 + 17 * draw.random(len(account)), gap)
    gap[opens] = 0
    passed = np.cumsum(gap)
    since: Floats = passed - passed[np.flatnonzero(opens)][conversation]
    times: Integers = np.floor(begin[conversation] * DAY + since * 1_000_000).astype(np.int64)
    return times


def _week(rhythm: Rhythm, zone: int, days: float) -> tuple[Floats, Floats]:
    """Edges of the hours of the period in days, and the share of an account's use before each of them."""
    hours, weekend = _DAYS[rhythm]
    weights = np.array([float(weight) for weight in hours.split()])
    edges = np.arange(int(np.ceil(days * 24)) + 1) / 24
    local = np.arange(len(edges) - 1) + zone
    weekday = (local // 24) % 7  # the first day is a Monday
    weight = weights[local % 24] * np.where(weekday >= 5, weekend, 1.0)
    return edges, np.concatenate([[0.0], np.cumsum(weight)])


def _drawn_per_account(draw: np.random.Generator, account: Integers, wanted: Integers) -> NDArray[np.bool_]:
    """Of each account's requests, as many as wanted, at random."""
    order = np.lexsort((draw.random(len(account)), account))
    sizes = np.bincount(account, minlength=len(wanted))
    rank = np.arange(len(account)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen = np.zeros(len(account), dtype=np.bool_)
    chosen[order] = rank < wanted[account[order]]
    return chosen


def _turns(conversation: Integers, retry: NDArray[np.bool_]) -> Integers:
    """User messages so far; a retry adds none. Conversations of one account may overlap in time."""
    order = np.argsort(conversation, kind="stable")
    sizes = np.bincount(conversation)
    steps = np.cumsum(~retry[order])
    base = np.repeat(steps[np.cumsum(sizes) - sizes] - 1, sizes)
    turns = np.empty(len(conversation), dtype=np.int64)
    turns[order] = np.maximum(steps - base, 1)
    return turns


def _ordinary_prompts(
    draw: np.random.Generator, accounts: Accounts, counts: Integers, sources: list[Source]
) -> Integers:
    """Prompts of ordinary use for each account in turn: none twice, as long as there are others."""
    sizes = np.array([source.size for source in sources])
    per_source = _interests(draw, accounts, counts, sources)
    owner, source = np.nonzero(per_source)
    wanted = per_source[owner, source]
    # A walk by a stride that shares no factor with the size visits every prompt of the file once.
    stride = draw.choice(_PRIMES, len(owner))
    offset = np.floor(draw.random(len(owner)) * sizes[source]).astype(np.int64)
    step = np.arange(int(wanted.sum())) - np.repeat(np.cumsum(wanted) - wanted, wanted)
    which = np.repeat(np.arange(len(owner)), wanted)
    first = np.array([one.first for one in sources])
    drawn = first[source[which]] + (offset[which] + step * stride[which]) % sizes[source[which]]
    whose = owner[which]
    shuffled = np.lexsort((draw.random(len(drawn)), whose))
    dealt: Integers = drawn[shuffled]
    _share_exercises(draw, accounts, counts, sources, dealt)
    return dealt


def _interests(draw: np.random.Generator, accounts: Accounts, counts: Integers, sources: list[Source]) -> Integers:
    """How many prompts each account takes from each source."""
    sizes = np.array([source.size for source in sources])
    batch = np.array([source.batch for source in sources])
    people = ~batch if not batch.all() else np.ones(len(sources), dtype=np.bool_)
    machines = batch if batch.any() else np.ones(len(sources), dtype=np.bool_)
    popular = np.sqrt(sizes)
    for_people = np.isin(accounts.kind, [int(kind) for kind in _PEOPLE])
    heavy = np.isin(accounts.kind, [int(Kind.BATCH_LISTED), int(Kind.BATCH_NEW)])
    chances = np.tile(popular, (len(accounts), 1)) * np.where(for_people[:, None], people, True)
    chances /= chances.sum(axis=1, keepdims=True)
    # One to three interests, the first by far the strongest: Gumbel noise draws them without replacement.
    with np.errstate(divide="ignore"):
        keys = np.log(chances) + draw.gumbel(size=chances.shape)
    ranked = np.argsort(-keys, axis=1)
    kept = 1 + draw.choice(3, len(accounts), p=(0.5, 0.3, 0.2))
    weight = np.zeros_like(chances)
    for position, share in enumerate((0.65, 0.25, 0.1)):
        if position < len(sources):
            rows = np.flatnonzero(kept > position)
            weight[rows, ranked[rows, position]] = share
    weight *= (chances > 0) * (1 - ANYTHING_SHARE) / weight.sum(axis=1, keepdims=True)
    weight += ANYTHING_SHARE * chances
    customer, numbers = np.unique(accounts.room[heavy], return_inverse=True)
    only = draw.choice(np.flatnonzero(machines), max(1, len(customer)))
    weight[heavy] = 0
    weight[np.flatnonzero(heavy), only[numbers]] = 1
    weight /= weight.sum(axis=1, keepdims=True)
    taken = draw.multinomial(counts, weight)
    taken[~heavy] = _spilled(draw, taken[~heavy], sizes)
    result: Integers = taken
    return result


def _spilled(draw: np.random.Generator, taken: Integers, sizes: Integers) -> Integers:
    """Where an account wants more prompts than a source has, it takes the rest elsewhere while there are others."""
    for row in np.flatnonzero((taken > sizes).any(axis=1)):
        excess = int(np.maximum(taken[row] - sizes, 0).sum())
        taken[row] = np.minimum(taken[row], sizes)
        for source in draw.permutation(len(sizes)):
            moved = min(excess, int(sizes[source] - taken[row, source]))
            taken[row, source] += moved
            excess -= moved
        taken[row, int(np.argmax(sizes))] += excess
    return taken


def _share_exercises(
    draw: np.random.Generator, accounts: Accounts, counts: Integers, sources: list[Source], drawn: Integers
) -> None:
    """The students of a class with an exercise send its prompts first, one after the other."""
    ends = np.cumsum(counts)
    students = np.flatnonzero((accounts.kind == Kind.STUDENT) & (accounts.room >= 0))
    plain = [source for source in sources if not source.batch] or sources
    for room in np.unique(accounts.room[students]):
        source = plain[int(draw.integers(0, len(plain)))]
        length = min(int(draw.integers(8, 21)), source.size)
        exercise = source.first + (int(draw.integers(0, source.size)) + np.arange(length)) % source.size
        for student in students[accounts.room[students] == room]:
            begin = int(ends[student] - counts[student])
            sent = min(length, int(counts[student]))
            drawn[begin : begin + sent] = exercise[:sent]


def _primes(above: int, count: int) -> Integers:
    """The next primes above a number."""
    sieve = np.ones(above + 40 * count, dtype=np.bool_)
    sieve[:2] = False
    for number in range(2, int(len(sieve) ** 0.5) + 1):
        if sieve[number]:
            sieve[number * number :: number] = False
    found: Integers = np.flatnonzero(sieve)
    return found[found > above][:count]


# Larger than any file may be (prompts.MAX_PROMPTS), hence without a common factor.
_PRIMES = _primes(2_000_000, 500)
