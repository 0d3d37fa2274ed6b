"""Who uses the simulated lab: ordinary accounts of several kinds, batch customers, and the accounts of campaigns.

Every account has only what a gateway knows of it. What an account of a campaign has is drawn from the same
distributions as what an ordinary developer has; a campaign differs in what its accounts have *in common*: payment
instruments, hours of opening, proxy subnets, client bundles, the hour in which they turn to a new model.
docs/evaluation.md gives the constants below with their reasons.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Kind(IntEnum):
    """What an account is; the truth that no log tells."""

    INDIVIDUAL = 0
    DEVELOPER = 1
    SEAT = 2  # of a company
    RESOLD = 3  # a reseller's customer
    STUDENT = 4  # of a class or workshop
    BATCH_LISTED = 5  # a heavy batch customer on the lab's allow-list
    BATCH_NEW = 6  # one that is not on it yet
    CAMPAIGN = 7


ORDINARY = (Kind.INDIVIDUAL, Kind.DEVELOPER, Kind.SEAT, Kind.RESOLD, Kind.STUDENT)


class Rhythm(IntEnum):
    """When an account is at work."""

    PERSON = 0
    DEVELOPER = 1
    OFFICE = 2
    MACHINE = 3


SHARES = {
    Kind.INDIVIDUAL: 0.45,
    Kind.DEVELOPER: 0.20,
    Kind.SEAT: 0.17,
    Kind.RESOLD: 0.12,
    Kind.STUDENT: 0.06,
}
VOLUMES = {  # requests in seven days: median and sigma of a lognormal, and the most
    Kind.INDIVIDUAL: (10, 1.1, 600),
    Kind.DEVELOPER: (22, 1.25, 3_000),
    Kind.SEAT: (14, 1.0, 500),
    Kind.RESOLD: (14, 1.1, 1_000),
    Kind.STUDENT: (12, 0.5, 60),
}
AGES = {  # days between opening and the first day: median and sigma of a lognormal
    Kind.INDIVIDUAL: (120, 1.2),
    Kind.DEVELOPER: (45, 1.1),
    Kind.RESOLD: (90, 1.1),
}
MAX_AGE = 900.0
ZONES = ((-8, 0.12), (-5, 0.2), (-3, 0.05), (0, 0.13), (1, 0.2), (3, 0.06), (5, 0.1), (8, 0.12), (9, 0.02))
TEMPERATURES = ((np.nan, 0.4), (0.0, 0.15), (0.2, 0.1), (0.7, 0.2), (1.0, 0.15))
MAX_TOKENS = ((-1, 0.4), (256, 0.1), (512, 0.15), (1024, 0.2), (4096, 0.15))
BATCH_CUSTOMERS = 30  # beside 20,000 ordinary accounts
LISTED_SHARE = 0.8
NAT_SHARE = 0.25  # individuals behind a carrier's address translation
FAMILY_SHARE = 0.08  # individuals who share a card with their family
TEAM_SHARE = 0.06  # groups of developers who share a card without being an organisation
SMALL_ORG_SHARE = 0.3  # developers in organisations of one to four accounts
HOSTING_SHARE = 0.5  # developers (and campaigns' accounts) who come through hosting or proxy networks
BUNDLES = 5  # client bundles of a campaign
OTHER_USE_SIGMA = 0.7  # of the lognormal of how much else the accounts of a campaign are used for

# Identities of each class begin at their own number; all are renamed at random in the log.
_APP_BUNDLES, _SDK_BUNDLES, _OFFICE_BUNDLES = 30, 40, 60
_ISPS, _CARRIERS, _HOSTERS = 40, 6, 12


@dataclass(slots=True)
class Accounts:
    """Accounts as columns of one length.

    Attributes:
        kind, campaign: the truth; `campaign` is the position of the attack file, -1 for none.
        cell: of a campaign's account, the number of its payment instrument within the campaign; else -1.
        org, payment, room, client: identities, -1 for none; `room` is the class with a common exercise.
        asn: autonomous system; subnets: two subnets of which the second may repeat the first; hosts in them.
        created, start, end: days since the first day; requests lie between start and end.
        zone: hours ahead of UTC.
        requests: how many; attack: how many of them belong to the campaign.
        chatty: mean requests of a conversation; stateless: sends no conversation id.
        jump: days from a new model's release to this account's turning to it.
    """

    kind: Integers
    campaign: Integers
    cell: Integers
    org: Integers
    payment: Integers
    room: Integers
    client: Integers
    asn: Integers
    subnet: Integers
    second_subnet: Integers
    host: Integers
    created: Floats
    start: Floats
    end: Floats
    zone: Integers
    rhythm: Integers
    requests: Integers
    attack: Integers
    chatty: Floats
    stateless: NDArray[np.bool_]
    batch: NDArray[np.bool_]
    temperature: Floats
    max_tokens: Integers
    tools: Integers
    json_output: NDArray[np.bool_]
    small_model: NDArray[np.bool_]
    jump: Floats

    def __len__(self) -> int:
        return len(self.kind)


def concatenate(parts: list[Accounts]) -> Accounts:
    """One after the other."""
    return Accounts(
        **{one.name: np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(Accounts)}
    )


class Networks:
    """Subnets by autonomous system, numbered through; how many follows the number of ordinary accounts."""

    def __init__(self, ordinary: int) -> None:
        self._isp = _zipf(_ISPS)
        self._hoster = _zipf(_HOSTERS)
        self._subnets_of_isps = max(_ISPS, ordinary // 2)
        self._pools_of_carriers = max(2, round(ordinary * SHARES[Kind.INDIVIDUAL] * NAT_SHARE / 300))
        self._subnets_of_hosters = max(_HOSTERS, ordinary // 100)
        self._offices = 0

    def home(self, draw: np.random.Generator, count: int) -> tuple[Integers, Integers]:
        """Autonomous system and subnet of households."""
        isp = draw.choice(_ISPS, count, p=self._isp)
        share = np.maximum(1, np.floor(self._isp * self._subnets_of_isps)).astype(np.int64)
        first = np.concatenate([[0], np.cumsum(share)[:-1]])
        return isp, first[isp] + np.floor(draw.random(count) * share[isp]).astype(np.int64)

    def carrier(self, draw: np.random.Generator, count: int) -> tuple[Integers, Integers]:
        """Of people behind a carrier's address translation: few subnets with very many people in each."""
        pool = draw.integers(0, self._pools_of_carriers, count)
        return 100 + pool % _CARRIERS, 1_000_000 + pool

    def hosting(self, draw: np.random.Generator, count: int) -> tuple[Integers, Integers]:
        """Of servers and proxies: subnets that many strangers share."""
        hoster = draw.choice(_HOSTERS, count, p=self._hoster)
        share = np.maximum(1, np.floor(self._hoster * self._subnets_of_hosters)).astype(np.int64)
        first = np.concatenate([[0], np.cumsum(share)[:-1]])
        subnet = first[hoster] + np.floor(draw.random(count) * share[hoster]).astype(np.int64)
        return 200 + hoster, 2_000_000 + subnet

    def office(self, draw: np.random.Generator, count: int) -> tuple[Integers, Integers]:
        """One subnet of its own for each company, campus or reseller's gateway."""
        numbers = self._offices + np.arange(count)
        self._offices += count
        return draw.choice(_ISPS, count, p=self._isp), 3_000_000 + numbers


class Identities:
    """Hands out numbers of organisations, payments and rooms."""

    def __init__(self) -> None:
        self._next = 0

    def take(self, count: int) -> Integers:
        """`count` numbers that nobody has had."""
        first, self._next = self._next, self._next + count
        return np.arange(first, self._next)


def lognormal(draw: np.random.Generator, median: float, sigma: float, count: int) -> Floats:
    """Draws of a lognormal by its median."""
    drawn: Floats = np.exp(np.log(median) + sigma * draw.standard_normal(count))
    return drawn


def pick(draw: np.random.Generator, choices: tuple[tuple[float, float], ...], count: int) -> Floats:
    """Draws of a value by its share."""
    values, shares = (np.array(column) for column in zip(*choices, strict=True))
    picked: Floats = values[draw.choice(len(values), count, p=shares / shares.sum())]
    return picked


def group_sizes(draw: np.random.Generator, total: int, low: int, high: int) -> Integers:
    """Sizes from low to high that add up to the total; the last may be smaller."""
    sizes: list[int] = []
    while (left := total - sum(sizes)) > 0:
        sizes.append(min(left, int(draw.integers(low, high + 1))))
    return np.array(sizes, dtype=np.int64)


def blank(draw: np.random.Generator, kind: Kind, count: int, days: float, *, api: bool = False) -> Accounts:
    """Accounts of a kind with what does not depend on whom they belong together with.

    Args:
        api: they are programs, or people who write some.
    """
    none = np.full(count, -1, dtype=np.int64)
    zone = pick(draw, ZONES, count).astype(np.int64)
    temperature = pick(draw, TEMPERATURES, count) if api else np.full(count, np.nan)
    max_tokens = pick(draw, MAX_TOKENS, count).astype(np.int64) if api else none.copy()
    tools = (
        np.where(draw.random(count) < 0.15, draw.integers(1, 9, count), 0) if api else np.zeros(count, dtype=np.int64)
    )
    hurry = draw.random(count) < 0.5  # half of those who turn to a new model do so within a day
    return Accounts(
        kind=np.full(count, int(kind), dtype=np.int64),
        campaign=none.copy(),
        cell=none.copy(),
        org=none.copy(),
        payment=none.copy(),
        room=none.copy(),
        client=none.copy(),
        asn=none.copy(),
        subnet=none.copy(),
        second_subnet=none.copy(),
        host=draw.integers(1, 255, count),
        created=np.zeros(count),
        start=np.zeros(count),
        end=np.full(count, float(days)),
        zone=zone,
        rhythm=np.full(count, int(Rhythm.DEVELOPER if api else Rhythm.PERSON), dtype=np.int64),
        requests=np.zeros(count, dtype=np.int64),
        attack=np.zeros(count, dtype=np.int64),
        chatty=np.where(draw.random(count) < 0.6, 1.1, 3.0) if api else 1 + draw.gamma(2.0, 1.0, count),
        stateless=(draw.random(count) < 0.6) if api else np.zeros(count, dtype=np.bool_),
        batch=np.zeros(count, dtype=np.bool_),
        temperature=temperature,
        max_tokens=max_tokens,
        tools=tools,
        json_output=(draw.random(count) < 0.1) if api else np.zeros(count, dtype=np.bool_),
        small_model=draw.random(count) < (0.4 if api else 0.2),
        jump=np.where(hurry, draw.random(count), 1 + draw.exponential(5.0, count)),
    )


def volumes(draw: np.random.Generator, kind: Kind, count: int, days: float) -> Integers:
    """Requests of the whole period."""
    median, sigma, most = VOLUMES[kind]
    return np.clip(np.rint(lognormal(draw, median, sigma, count) * days / 7), 1, most).astype(np.int64)


def ages(draw: np.random.Generator, kind: Kind, count: int) -> Floats:
    """Days between opening and first use in the period."""
    median, sigma = AGES[kind]
    return np.clip(lognormal(draw, median, sigma, count), 0.05, MAX_AGE)


def app_bundles(draw: np.random.Generator, count: int) -> Integers:
    """Client bundles of people: apps and browsers, a few of them very common."""
    return draw.choice(_APP_BUNDLES, count, p=_zipf(_APP_BUNDLES))


def sdk_bundles(draw: np.random.Generator, count: int, *, distinct: bool = False) -> Integers:
    """Client bundles of developers: library and version, a few of them very common."""
    bundles: Integers = draw.choice(_SDK_BUNDLES, count, replace=not distinct, p=_zipf(_SDK_BUNDLES))
    return 1_000 + bundles


def office_bundles(draw: np.random.Generator, count: int) -> Integers:
    """Client bundles that companies roll out."""
    return 2_000 + draw.choice(_OFFICE_BUNDLES, count, p=_zipf(_OFFICE_BUNDLES))


def developers(draw: np.random.Generator, kind: Kind, count: int, networks: Networks, days: float) -> Accounts:
    """Accounts over the API, each with a network, client and settings of its own; not yet opened or paid for."""
    accounts = blank(draw, kind, count, days, api=True)
    through_host = draw.random(count) < HOSTING_SHARE
    home, hosted = networks.home(draw, count), networks.hosting(draw, count)
    accounts.asn = np.where(through_host, hosted[0], home[0])
    accounts.subnet = np.where(through_host, hosted[1], home[1])
    moves = draw.random(count) < 0.3
    accounts.second_subnet = np.where(moves, networks.home(draw, count)[1], accounts.subnet)
    accounts.client = sdk_bundles(draw, count)
    return accounts


def _zipf(count: int) -> Floats:
    weights = 1 / np.arange(1, count + 1)
    shares: Floats = weights / weights.sum()
    return shares
