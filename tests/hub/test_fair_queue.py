"""Turns in the sequencer's queue: each share has its own, and what was taken comes in the order of arrival."""

from __future__ import annotations

import asyncio

import pytest

from hub.errors import OverLimit, Overloaded
from hub.fair_queue import FairQueue


def filled(*items: str, most: int = 100, most_each: int = 50) -> FairQueue[str]:
    """Items whose first letter is their share."""
    queue = FairQueue[str](most, most_each)
    for item in items:
        queue.put(item[0], item)
    return queue


def taken(queue: FairQueue[str], most: int) -> list[str]:
    return asyncio.run(queue.take(most))


def test_what_all_fits_comes_as_it_arrived() -> None:
    assert taken(filled("a1", "b1", "a2", "c1", "a3"), 10) == ["a1", "b1", "a2", "c1", "a3"]


def test_a_flood_waits_for_itself() -> None:
    queue = filled(*(f"a{number}" for number in range(40)), "b1", "c1", "b2")
    assert taken(queue, 4) == ["a0", "a1", "b1", "c1"]
    assert taken(queue, 4) == ["a2", "a3", "a4", "b2"]
    assert len(queue) == 35


def test_a_share_and_the_whole_are_bounded() -> None:
    queue = filled("a1", "a2", "b1", most=4, most_each=2)
    with pytest.raises(OverLimit) as refused:
        queue.put("a", "a3")
    assert refused.value.code == "too_many_requests"
    queue.put("b", "b2")
    with pytest.raises(Overloaded):
        queue.put("c", "c1")
    assert taken(queue, 1) == ["a1"]
    queue.put("c", "c1")


def test_a_closed_queue_hands_out_the_rest() -> None:
    queue = filled("a1", "b1")
    queue.close()
    with pytest.raises(Overloaded):
        queue.put("a", "a2")
    assert taken(queue, 10) == ["a1", "b1"]
    assert taken(queue, 10) == []


def test_who_takes_waits_for_something() -> None:
    async def wait() -> list[list[str]]:
        queue = FairQueue[str](10, 10)
        taking = asyncio.ensure_future(queue.take(10))
        await asyncio.sleep(0)
        assert not taking.done()
        queue.put("a", "a1")
        first = await taking
        rest = asyncio.ensure_future(queue.take(10))
        await asyncio.sleep(0)
        queue.close()
        return [first, await rest]

    assert asyncio.run(wait()) == [["a1"], []]
