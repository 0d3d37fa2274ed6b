"""Thousands of unremarkable accounts show together; innocent structures do not join them."""

from __future__ import annotations

import random

import duckdb
import pytest

from tests.windows.traffic import DAY, HOUR, MONDAY, Request, members, ordinary_account, rows, sentence, windows_of

CAMPAIGN = 300
ORDINARY = 5_000


def campaign(rng: random.Random, accounts: int = CAMPAIGN) -> list[Request]:
    """Accounts opened in five hours with one client, on rented networks, each asking a few templates about all things."""
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
