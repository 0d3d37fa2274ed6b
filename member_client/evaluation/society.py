"""The accounts of a simulated lab, group by group: households, developers, companies, resellers, classes, batch
customers; and campaigns that hide among them.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from member_client.evaluation.population import (
    BATCH_CUSTOMERS,
    BUNDLES,
    FAMILY_SHARE,
    HOSTING_SHARE,
    LISTED_SHARE,
    NAT_SHARE,
    OTHER_USE_SIGMA,
    SHARES,
    SMALL_ORG_SHARE,
    TEAM_SHARE,
    Accounts,
    Identities,
    Integers,
    Kind,
    Networks,
    Rhythm,
    ages,
    app_bundles,
    blank,
    concatenate,
    developers,
    group_sizes,
    lognormal,
    office_bundles,
    sdk_bundles,
    volumes,
)

HOUR = 1 / 24


def ordinary_accounts(
    draw: np.random.Generator, count: int, days: float, networks: Networks, identities: Identities
) -> Accounts:
    """All accounts that belong to no campaign, batch customers besides.

    Args:
        count: of ordinary accounts; batch customers come on top in proportion.
    """
    counts = {kind: round(count * share) for kind, share in SHARES.items()}
    counts[Kind.INDIVIDUAL] += count - sum(counts.values())
    return concatenate(
        [
            _individuals(draw, counts[Kind.INDIVIDUAL], days, networks, identities),
            _developers(draw, counts[Kind.DEVELOPER], days, networks, identities),
            _companies(draw, counts[Kind.SEAT], days, networks, identities),
            _resellers(draw, counts[Kind.RESOLD], days, networks, identities),
            _classes(draw, counts[Kind.STUDENT], days, networks, identities),
            _batch_customers(draw, count, days, networks, identities),
        ]
    )


def campaign_accounts(
    draw: np.random.Generator,
    campaign: int,
    rows: int,
    accounts: int,
    mix: tuple[int, int],
    days: float,
    networks: Networks,
    identities: Identities,
) -> Accounts:
    """The accounts of one campaign.

    Args:
        campaign: position of the attack file.
        rows: prompts to send; each is sent once.
        accounts: how many accounts at most; never more than rows.
        mix: attack to ordinary prompts.
    """
    count = min(accounts, rows)
    those = developers(draw, Kind.CAMPAIGN, count, networks, days)
    those.campaign[:] = campaign
    begin = days / 7 * (1 + draw.random())
    those.start[:] = begin
    those.attack = rows // count + (draw.permutation(count) < rows % count)
    # The campaign's share is even; how much else an account does is not, but adds up to the mix.
    other = lognormal(draw, 1.0, OTHER_USE_SIGMA, count)
    those.requests = those.attack + np.rint(rows * mix[1] / mix[0] * other / other.sum()).astype(np.int64)

    # Opened in bursts of 10 to 50 within an hour, each burst at an age that a developer's account might have.
    sizes = group_sizes(draw, count, 10, 50)
    burst = np.repeat(np.arange(len(sizes)), sizes)
    opened = begin - ages(draw, Kind.DEVELOPER, len(sizes))
    those.created = np.minimum(opened[burst] + HOUR * draw.random(count), begin)

    # Payment instruments of 3 to 12 accounts each, mostly within a burst; one account in ten has its own.
    order = np.argsort(np.arange(count) + np.where(draw.random(count) < 0.1, draw.normal(0, 100, count), 0))
    alone = draw.random(count) < 0.1
    sizes = group_sizes(draw, count, 3, 12)
    group = np.empty(count, dtype=np.int64)
    group[order] = np.repeat(np.arange(len(sizes)), sizes)
    group[alone] = len(sizes) + np.arange(int(alone.sum()))
    _, those.cell = np.unique(group, return_inverse=True)
    those.payment = identities.take(int(those.cell.max()) + 1)[those.cell]
    # Some pose as small organisations, as often as developers belong to one.
    sizes = group_sizes(draw, count, 1, 4)
    organisation = np.empty(count, dtype=np.int64)
    organisation[np.argsort(those.cell, kind="stable")] = np.repeat(np.arange(len(sizes)), sizes)
    posing = (draw.random(len(sizes)) < SMALL_ORG_SHARE)[organisation]
    those.org = np.where(posing, identities.take(len(sizes))[organisation], -1)

    # Proxies: the half that comes through hosting networks shares subnets, about 25 accounts in each.
    hosted = np.flatnonzero(those.asn >= 200)
    asn, subnet = networks.hosting(draw, max(1, round(count * HOSTING_SHARE / 25)))
    chosen = draw.integers(0, len(asn), len(hosted))
    moved = those.second_subnet[hosted] != those.subnet[hosted]
    those.asn[hosted], those.subnet[hosted] = asn[chosen], subnet[chosen]
    those.second_subnet[hosted] = np.where(moved, those.second_subnet[hosted], subnet[chosen])

    # A handful of client bundles; most accounts of a burst run the same.
    bundles = sdk_bundles(draw, BUNDLES, distinct=True)
    of_burst = bundles[draw.integers(0, BUNDLES, int(burst[-1]) + 1)][burst]
    those.client = np.where(draw.random(count) < 0.7, of_burst, bundles[draw.integers(0, BUNDLES, count)])

    # The half that turns to a new model within a day does so in the same hour.
    those.jump = np.where(those.jump < 1, draw.random() * (1 - HOUR) + HOUR * draw.random(count), those.jump)
    return those


def _individuals(
    draw: np.random.Generator, count: int, days: float, networks: Networks, identities: Identities
) -> Accounts:
    those = blank(draw, Kind.INDIVIDUAL, count, days)
    those.requests = volumes(draw, Kind.INDIVIDUAL, count, days)
    those.created = -ages(draw, Kind.INDIVIDUAL, count)
    those.payment = np.where(draw.random(count) < 0.6, identities.take(count), -1)  # the others use it for nothing
    home, carrier = networks.home(draw, count), networks.carrier(draw, count)
    behind_nat = draw.random(count) < NAT_SHARE
    those.asn = np.where(behind_nat, carrier[0], home[0])
    those.subnet = np.where(behind_nat, carrier[1], home[1])
    those.second_subnet = np.where(draw.random(count) < 0.4, carrier[1], those.subnet)
    those.client = app_bundles(draw, count)
    # Families: two to five accounts on one card, at home together.
    sizes = group_sizes(draw, round(count * FAMILY_SHARE), 2, 5)
    family = np.repeat(np.arange(len(sizes)), sizes)
    head = np.cumsum(sizes) - sizes
    members = slice(0, len(family))
    those.payment[members] = identities.take(len(sizes))[family]
    those.asn[members], those.subnet[members] = those.asn[head][family], those.subnet[head][family]
    those.zone[members] = those.zone[head][family]
    return those


def _developers(
    draw: np.random.Generator, count: int, days: float, networks: Networks, identities: Identities
) -> Accounts:
    those = developers(draw, Kind.DEVELOPER, count, networks, days)
    those.requests = volumes(draw, Kind.DEVELOPER, count, days)
    # Half of them begin, or begin again, in the first two days of seven, as every campaign does.
    those.start = np.where(draw.random(count) < 0.5, days * 2 / 7 * draw.random(count), 0.0)
    those.created = those.start - ages(draw, Kind.DEVELOPER, count)
    sizes = group_sizes(draw, count, 1, 4)
    group = np.repeat(np.arange(len(sizes)), sizes)
    organised = (draw.random(len(sizes)) < SMALL_ORG_SHARE)[group]
    those.org = np.where(organised, identities.take(len(sizes))[group], -1)
    # Some work together without being an organisation, on one card.
    together = organised | (draw.random(len(sizes)) < TEAM_SHARE)[group]
    those.payment = np.where(together, identities.take(len(sizes))[group], identities.take(count))
    return those


def _companies(
    draw: np.random.Generator, count: int, days: float, networks: Networks, identities: Identities
) -> Accounts:
    """Seats: one payer and one office, taken on in one to three bursts, most with the client that the company chose."""
    sizes = _sizes(draw, count, 12, 1.0, 3, 200)
    company = np.repeat(np.arange(len(sizes)), sizes)
    those = blank(draw, Kind.SEAT, count, days)
    those.rhythm[:] = int(Rhythm.OFFICE)
    those.requests = volumes(draw, Kind.SEAT, count, days)
    those.org = identities.take(len(sizes))[company]
    those.payment = identities.take(len(sizes))[company]
    asn, subnet = networks.office(draw, len(sizes))
    home = networks.home(draw, count)
    remote = draw.random(count) < 0.2
    those.asn = np.where(remote, home[0], asn[company])
    those.subnet = np.where(remote, home[1], subnet[company])
    those.second_subnet = np.where(draw.random(count) < 0.3, home[1], those.subnet)
    rolled_out = draw.random(count) < 0.85
    those.client = np.where(rolled_out, office_bundles(draw, len(sizes))[company], app_bundles(draw, count))
    those.zone = draw.choice(those.zone, len(sizes))[company]
    first = -np.clip(lognormal(draw, 150, 0.9, len(sizes)), 1, 900)
    later = first[:, None] * draw.random((len(sizes), 3))
    later[:, 0] = first
    wave = draw.choice(3, count, p=(0.6, 0.25, 0.15))
    those.created = later[company, wave] + 2 * HOUR * draw.random(count)
    those.created = np.minimum(those.created, 0.0)
    return those


def _resellers(
    draw: np.random.Generator, count: int, days: float, networks: Networks, identities: Identities
) -> Accounts:
    """Customers of all kinds behind a few payment instruments, one gateway's client bundle and a few subnets.

    Three quarters of them are with resellers who have 50 to 400, the others with agencies who have 12 to 40.
    """
    small = count // 4
    sizes = np.concatenate([group_sizes(draw, count - small, 50, 400), group_sizes(draw, small, 12, 40)])
    reseller = np.repeat(np.arange(len(sizes)), sizes)
    people, coders = blank(draw, Kind.RESOLD, count, days), developers(draw, Kind.RESOLD, count, networks, days)
    those = _either(people, coders, draw.random(count) < draw.random(len(sizes))[reseller])
    those.requests = volumes(draw, Kind.RESOLD, count, days)
    those.created = -ages(draw, Kind.RESOLD, count)
    instruments = draw.integers(1, 6, len(sizes))
    which = np.floor(draw.random(count) * instruments[reseller]).astype(np.int64)
    those.payment = identities.take(5 * len(sizes))[5 * reseller + which]
    asn, subnet = networks.office(draw, 4 * len(sizes))
    exit_ = 4 * reseller + draw.integers(0, 4, count)
    those.asn, those.subnet, those.second_subnet = asn[exit_], subnet[exit_], subnet[exit_]
    those.client = sdk_bundles(draw, len(sizes))[reseller]
    return those


def _classes(
    draw: np.random.Generator, count: int, days: float, networks: Networks, identities: Identities
) -> Accounts:
    """Classes and workshops of 20 to 60: opened within an hour on one campus, some with one exercise for all.

    Half of them are workshops that take place within the period and last three hours; the others are courses. Three in
    ten are about programming: their students work over the API.
    """
    sizes = group_sizes(draw, count, 20, 60)
    room = np.repeat(np.arange(len(sizes)), sizes)
    coding = (draw.random(len(sizes)) < 0.3)[room]
    people, coders = blank(draw, Kind.STUDENT, count, days), developers(draw, Kind.STUDENT, count, networks, days)
    those = _either(people, coders, coding)
    those.requests = volumes(draw, Kind.STUDENT, count, days)
    workshop = draw.random(len(sizes)) < 0.5
    # In working hours, as courses are: 8 to 16 o'clock of the campus.
    zone = draw.choice(those.zone, len(sizes))
    day = np.where(workshop, draw.integers(0, max(1, int(days)), len(sizes)), -draw.integers(1, 60, len(sizes)))
    opening = day + (8 + 8 * draw.random(len(sizes)) - zone) / 24
    opening = np.where(workshop, np.clip(opening, 0, days - 3 * HOUR), np.minimum(opening, -HOUR))
    those.zone = zone[room]
    those.created = opening[room] + HOUR * draw.random(count)
    those.start = np.where(workshop[room], those.created, 0.0)
    those.end = np.where(workshop[room], np.minimum(opening[room] + 3 * HOUR, days), float(days))
    those.start = np.minimum(those.start, those.end - HOUR / 4)
    those.created = np.minimum(those.created, those.start)
    exercise = draw.random(len(sizes)) < 0.6
    those.room = np.where(exercise[room], identities.take(len(sizes))[room], -1)
    paid = draw.random(len(sizes)) < 0.5
    those.payment = np.where(paid[room], identities.take(len(sizes))[room], -1)
    asn, subnet = networks.office(draw, len(sizes))
    those.asn, those.subnet, those.second_subnet = asn[room], subnet[room], subnet[room]
    same_machines = draw.random(len(sizes)) < 0.5
    one, other = (np.where(coding, sdk_bundles(draw, count), app_bundles(draw, count)) for _ in range(2))
    those.client = np.where(same_machines[room], one[np.cumsum(sizes)[room] - 1], other)
    return those


def _batch_customers(
    draw: np.random.Generator, ordinary: int, days: float, networks: Networks, identities: Identities
) -> Accounts:
    """Heavy legitimate customers: one or two accounts each, 2,000 to 20,000 requests together."""
    customers = max(3, round(BATCH_CUSTOMERS * ordinary / 20_000))
    listed = np.arange(customers) < round(LISTED_SHARE * customers)
    parts: list[Accounts] = []
    for kind, number in ((Kind.BATCH_LISTED, int(listed.sum())), (Kind.BATCH_NEW, int((~listed).sum()))):
        customer = np.repeat(np.arange(number), draw.integers(1, 3, number))
        those = developers(draw, kind, len(customer), networks, days)
        those.rhythm[:] = int(Rhythm.MACHINE)
        scale = min(1.0, ordinary / 5_000)  # a small world has smaller giants
        total = np.exp(draw.uniform(np.log(2_000), np.log(20_000), number)) * scale * days / 7
        split = 1 / np.bincount(customer)[customer]
        those.requests = np.maximum(1, np.rint(total[customer] * split)).astype(np.int64)
        age = draw.uniform(150, 900, number) if kind is Kind.BATCH_LISTED else draw.uniform(5, 40, number)
        those.created = -age[customer] - HOUR * draw.random(len(customer))
        those.org = identities.take(number)[customer]
        those.payment = identities.take(number)[customer]
        those.room = identities.take(number)[customer]
        those.client = sdk_bundles(draw, number)[customer]
        those.batch = (draw.random(number) < 0.6)[customer]
        those.chatty[:] = 1.0
        parts.append(those)
    return concatenate(parts)


def _sizes(draw: np.random.Generator, total: int, median: float, sigma: float, low: int, high: int) -> Integers:
    """Lognormal sizes between two bounds that add up to the total."""
    most = total // low + 1
    sizes = np.clip(np.rint(lognormal(draw, median, sigma, most)), low, high).astype(np.int64)
    sums = np.cumsum(sizes)
    kept = sizes[: int(np.searchsorted(sums, total)) + 1]
    kept[-1] -= int(kept.sum()) - total
    return kept


def _either(first: Accounts, second: Accounts, other: NDArray[np.bool_]) -> Accounts:
    """Account by account the one or the other."""
    columns = {
        one.name: np.where(other, getattr(second, one.name), getattr(first, one.name)) for one in fields(Accounts)
    }
    return Accounts(**columns)
