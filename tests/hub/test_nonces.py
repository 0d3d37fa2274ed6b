"""Nonces that come at the same time are stored together: each is new once, and a fault harms nobody for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from hub.app import utc_now
from hub.database.connections import NO_ANSWER, make_engine
from hub.database.nonce_store import Nonce
from hub.nonces import MOST_IN_GROUP, Nonces, Novelty
from tests.forum import sql


def nonce(name: str, key_id: str = "a" * 64) -> Nonce:
    return Nonce(key_id, name, utc_now() + timedelta(minutes=2))


async def remembered(engine: AsyncEngine, nonces: Sequence[Nonce], processes: int = 1) -> list[Novelty]:
    """What each is told, if all come at once to each of so many processes."""
    keepers = [Nonces(engine) for _ in range(processes)]
    return list(await asyncio.gather(*(keeper.remember(one) for keeper in keepers for one in nonces)))


@pytest.mark.parametrize("processes", [1, 3])
def test_of_many_copies_one_is_new(database: str, processes: int) -> None:
    names = [f"nonce number {number:03}" for number in range(MOST_IN_GROUP)]

    async def ask() -> list[list[Novelty]]:
        engine = make_engine(database, size=8)
        try:
            # In another order each time: whoever waits for whom, nobody waits in a circle.
            come = [nonce(name) for name in (*names, *reversed(names), *names)]
            return [await remembered(engine, come, processes), await remembered(engine, come[:3])]
        finally:
            await engine.dispose()

    told, again = asyncio.run(ask())
    assert len(told) == processes * 3 * MOST_IN_GROUP
    assert sum(one.fresh for one in told) == len(names)
    assert not any(one.fresh for one in again)
    with sql(database) as connection:
        assert connection.execute("SELECT count(*) FROM request_nonces").fetchone() == (len(names),)


def test_the_same_nonce_of_another_key_is_another_one(database: str) -> None:

    async def ask() -> list[Novelty]:
        engine = make_engine(database, size=2)
        try:
            return await remembered(
                engine, [nonce("the same for both", "a" * 64), nonce("the same for both", "b" * 64)]
            )
        finally:
            await engine.dispose()

    assert [one.fresh for one in asyncio.run(ask())] == [True, True]


def test_a_fault_is_told_to_who_waits_and_to_nobody_after(database: str) -> None:

    async def ask() -> tuple[list[Novelty | BaseException], Novelty]:
        engine, operator = make_engine(database, size=2), make_engine(database, size=1)
        try:
            nonces = Nonces(engine)
            await nonces.remember(nonce("before the fault"))
            async with operator.connect() as connection:
                ending = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                await connection.exec_driver_sql(ending + "AND datname = current_database()")
            waiting = [nonces.remember(nonce(f"in the fault {number}")) for number in range(5)]
            told = list(await asyncio.gather(*waiting, return_exceptions=True))
            return told, await nonces.remember(nonce("after the fault"))
        finally:
            await engine.dispose()
            await operator.dispose()

    told, after = asyncio.run(ask())
    assert any(isinstance(one, NO_ANSWER) for one in told)
    assert all(isinstance(one, NO_ANSWER) or (isinstance(one, Novelty) and one.fresh) for one in told)
    assert after.fresh
