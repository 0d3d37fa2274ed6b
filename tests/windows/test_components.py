"""Thousands of unremarkable accounts show together; innocent structures do not join them."""

from __future__ import annotations

import random

import duckdb
import pytest

from member_client.windows.components import gathered
from member_client.windows.demand import Demand
from tests.windows.traffic import DAY, HOUR, MONDAY, Request, members, ordinary_account, rows, sentence, windows_of

CAMPAIGN = 300
ORDINARY = 5_000


def campaign(rng: random.Random, accounts: int = CAMPAIGN) -> list[Request]:
    """Accounts opened in five hours with one client, asking a few templates about all things."""
    found: list[Request] = []
    for number in range(accounts):
        account = {
            "account.id": f"campaign-{number}",
            "account.created": MONDAY - 9 * DAY + rng.randrange(5) * HOUR + rng.randrange(HOUR),
            "payment.fingerprint": f"virtual-{number // 3}",
            "network.asn": 99.0,
            "network.ip": f"10.{rng.randrange(64)}.{rng.randrange(64)}.{rng.randrange(1, 255)}",
            "client.fingerprint": "client-2",
        }
        for _ in range(4):
            form = rng.choice(
                ("Solve this problem and show all your work", "Write a detailed lesson for a student about")
            )
            found.append(
                account
                | {
                    "timestamp": MONDAY + rng.randrange(DAY),
                    "prompt.text": f"{form} {sentence(rng)}",
                    "prompt.turns": 1,
                }
            )
    return found


@pytest.fixture(scope="module")
def mixed() -> duckdb.DuckDBPyConnection:
    rng = random.Random(5)
    log = campaign(rng)
    for number in range(ORDINARY):
        log += ordinary_account(number, rng)
    return windows_of(log, hours=(24,))


def test_a_campaign_among_ordinary_accounts_is_one_component_and_nobody_else_is_in_it(
    mixed: duckdb.DuckDBPyConnection,
) -> None:
    largest, *others = members(mixed, "component")
    assert not {account for account in largest if account.startswith("ordinary")}
    assert len(largest) >= 0.98 * CAMPAIGN
    assert all(len(other) < 10 for other in others)


def test_the_campaign_s_component_carries_its_evidence(mixed: duckdb.DuckDBPyConnection) -> None:
    (found,) = (row for row in rows(mixed, "cluster_window") if row["cluster.key_kind"] == "component")
    assert found["window.mmd_z"] > 50
    assert found["window.reasoning_elicitation_share"] > 0.3
    assert found["cluster.shared_template_share"] > 0.9  # a few templates, divided among all …
    assert found["cluster.repeated_prompt_share"] < 0.01  # … and no prompt sent twice
    assert found["cluster.link_kinds"] >= 2
    assert found["cluster.link_surprise"] > 6
    assert "campaign" not in found["cluster.key"]


def people(rng: random.Random, number: int = 2_000) -> list[Request]:
    return [one for account in range(number) for one in ordinary_account(account, rng, requests=2)]


def shared(name: str, accounts: int, rng: random.Random, **fields: object) -> list[Request]:
    """Ordinary accounts of one name that also have these fields."""
    return [
        dict(one)
        | {"account.id": f"{name}-{number}", "payment.fingerprint": f"{name}-{number}", "org.id": None}
        | fields
        for number in range(accounts)
        for one in ordinary_account(number, rng, requests=2)
    ]


def test_what_is_popular_links_nobody() -> None:
    rng = random.Random(2)
    log = people(rng)
    # One address of a carrier, from which a phone's client is three times as likely as elsewhere; a new release of a
    # client; and an application's prompt, which begins the same for all who use it.
    log += [
        dict(one) | ({"client.fingerprint": "client-2"} if int(one["account.id"][8:]) % 5 < 2 else {})
        for one in shared("carrier", 150, rng, **{"network.ip": "10.200.0.1"})
    ]
    log += shared("release", 400, rng, **{"client.fingerprint": "client-new"})
    log += [
        dict(one) | {"prompt.text": f"You are a helpful shop assistant who answers questions about {sentence(rng)}"}
        for one in shared("application", 200, rng)
    ]
    assert members(windows_of(log, hours=(24,)), "component") == []


def test_the_seats_of_one_company_are_one_party_and_no_component() -> None:
    rng = random.Random(3)
    seats = shared(
        "seat",
        60,
        rng,
        **{
            "org.id": "company",
            "payment.fingerprint": "invoice",
            "network.ip": "10.201.0.1",
            "client.fingerprint": "intranet",
            "account.created": MONDAY - 100 * DAY,
        },
    )
    connection = windows_of(people(rng, 300) + seats, hours=(24,))
    assert members(connection, "component") == []
    (cluster,) = (row for row in rows(connection, "cluster_window") if row["cluster.key"] == "invoice")
    assert (cluster["cluster.accounts"], cluster["cluster.units"], cluster["cluster.largest_org_share"]) == (60, 1, 1)
    assert cluster["cluster.link_surprise"] == 0


def test_a_reseller_s_customers_are_linked_but_write_like_everybody() -> None:
    rng = random.Random(4)
    log = people(rng) + shared("customer", 200, rng, **{"payment.fingerprint": "reseller"})
    connection = windows_of(log, hours=(24,))
    assert [len(found) for found in members(connection, "component")] == [200]
    (found,) = (row for row in rows(connection, "cluster_window") if row["cluster.key_kind"] == "component")
    assert abs(found["window.mmd_z"]) < 4
    assert found["cluster.shared_template_share"] < 0.1


def test_a_class_with_one_exercise_repeats_its_prompts() -> None:
    rng = random.Random(5)
    pupils = shared(
        "pupil",
        30,
        rng,
        **{
            "account.created": MONDAY - 30 * DAY,
            "network.ip": "10.202.0.1",
            "prompt.text": "Explain why the leaves of trees turn red in autumn",
        },
    )
    connection = windows_of(people(rng) + pupils, hours=(24,))
    (found,) = (row for row in rows(connection, "cluster_window") if row["cluster.key_kind"] == "component")
    assert found["cluster.accounts"] == 30
    assert found["cluster.repeated_prompt_share"] == 1
    assert found["cluster.link_kinds"] == 1  # the place and the hour; one and the same text is no template


def test_a_burst_of_a_client_links_and_its_steady_use_does_not() -> None:
    rng = random.Random(6)
    log = people(rng)
    steady = shared("steady", 168, rng, **{"client.fingerprint": "client-new"})
    log += [dict(one) | {"account.created": MONDAY - (int(one["account.id"][7:]) + 1) * HOUR} for one in steady]
    log += shared("burst", 40, rng, **{"client.fingerprint": "client-odd", "account.created": MONDAY - 80 * HOUR})
    (found,) = members(windows_of(log, hours=(24,)), "component")
    assert {account.split("-")[0] for account in found} == {"burst"}


def test_a_class_with_the_client_and_the_hour_of_a_burst_is_not_drawn_into_it() -> None:
    rng = random.Random(8)
    odd = {"client.fingerprint": "client-odd", "account.created": MONDAY - 80 * HOUR}
    log = (
        people(rng) + shared("burst", 40, rng, **odd) + shared("pupil", 30, rng, **odd, **{"network.ip": "10.203.0.1"})
    )
    found = members(windows_of(log, hours=(24,)), "component")
    assert sorted({account.split("-")[0] for account in one} for one in found) == [{"burst"}, {"pupil"}]


@pytest.mark.parametrize(("steady", "alone"), [(0, 6), (168, 0)])
def test_who_pays_alone_belongs_to_a_burst_whose_client_hardly_anybody_has(steady: int, alone: int) -> None:
    rng = random.Random(9)
    odd = {"client.fingerprint": "client-odd"}
    burst = shared("burst", 40, rng, **odd, **{"account.created": MONDAY - 80 * HOUR})
    log = people(rng) + [
        dict(one) | ({"payment.fingerprint": f"virtual-{number // 5}"} if number < 34 else {})
        for one in burst
        for number in [int(one["account.id"][6:])]
    ]
    others = shared("other", steady, rng, **odd)
    log += [dict(one) | {"account.created": MONDAY - (int(one["account.id"][6:]) + 1) * HOUR} for one in others]
    (found,) = members(windows_of(log, hours=(24,)), "component")
    assert {account.split("-")[0] for account in found} == {"burst"}
    assert len(found) == 34 + alone


@pytest.mark.parametrize(
    ("hours_between", "accounts_on_a_card", "place", "linked"),
    [
        (0, 4, False, True),  # four cards, all of whose accounts were opened in one hour
        (50, 4, False, False),  # each card at another time
        (0, 1, False, False),  # as many openings, everybody on a card of his own
        (0, 4, True, False),  # a class, whose place says all
    ],
)
def test_cards_whose_accounts_were_opened_in_one_hour_are_one_rush(
    hours_between: int, accounts_on_a_card: int, place: bool, linked: bool
) -> None:
    rng = random.Random(11)
    log = people(rng)
    for one in shared("rush", 16, rng):
        card = int(one["account.id"][5:]) // accounts_on_a_card
        log.append(
            dict(one)
            | {"payment.fingerprint": f"virtual-{card}", "account.created": MONDAY - (80 + hours_between * card) * HOUR}
            | ({"network.ip": "10.204.0.1"} if place else {})
        )
    connection = windows_of(log, hours=(24,))
    found = rows(connection, "cluster_window")
    sizes = [len(one) for one in members(connection, "component")]
    if place:
        assert sizes == [16]
        assert [row["cluster.link_kinds"] for row in found if row["cluster.key_kind"] == "component"] == [2]
    else:
        assert (16 in sizes) == linked


def test_what_everybody_sends_is_not_repeated_within_a_cluster() -> None:
    rng = random.Random(12)
    card = {"payment.fingerprint": "reseller"}
    log = [dict(one) | {"prompt.text": f"Hello {rng.randrange(20)}"} for one in people(rng, 400)]
    log += [dict(one) | {"prompt.text": f"Hello {rng.randrange(20)}"} for one in shared("customer", 40, rng, **card)]
    log += [
        dict(one) | {"prompt.text": f"Exercise {rng.randrange(20)}"}
        for one in shared("pupil", 40, rng, **{"payment.fingerprint": "school"})
    ]
    by_card = {row["cluster.key"]: row for row in rows(windows_of(log, hours=(24,)), "cluster_window")}
    customers, pupils = by_card["reseller"], by_card["school"]
    assert customers["cluster.repeated_prompt_share"] > 0.9
    assert customers["cluster.repeated_within_share"] == 0
    assert pupils["cluster.repeated_within_share"] > 0.9
    assert customers["window.distinct_prompt_share"] < 0.3
    assert customers["cluster.distinct_by_account_share"] > 0.9


def test_two_cards_make_two_bursts_one_and_two_places_do_not() -> None:
    def units(*numbers: int) -> set[tuple[int, int]]:
        return {(0, number) for number in numbers}

    bursts = {1: units(*range(30)), 2: units(*range(30, 60))}
    small = {3: units(0, 30, 70), 4: units(1, 31, 71)}
    places = gathered(bursts | small)
    cards = gathered(bursts | small, {3, 4})
    assert places[1] != places[2]
    assert cards[1] == cards[2]
    one_card = gathered(bursts | {3: small[3]}, {3})
    assert one_card[1] != one_card[2]


def test_two_strangers_are_no_component_and_three_are() -> None:
    rng = random.Random(7)
    two = shared("pair", 2, rng, **{"payment.fingerprint": "couple"})
    three = shared("trio", 3, rng, **{"payment.fingerprint": "friends"})
    assert members(windows_of(people(rng, 200) + two + three, hours=(24,)), "component") == [
        {"trio-0", "trio-1", "trio-2"}
    ]


def test_only_clusters_of_the_kinds_asked_for_are_built() -> None:
    rng = random.Random(4)
    log = people(rng, 300) + shared("customer", 40, rng, **{"payment.fingerprint": "reseller"})
    asked = [Demand(24, "payment"), Demand(168, "component"), Demand(168, "network")]
    connection = windows_of(log, demands=asked)
    found = {(row["window.hours"], row["cluster.key_kind"]) for row in rows(connection, "cluster_window")}
    assert found == {(24, "payment"), (168, "component"), (168, "network")}
