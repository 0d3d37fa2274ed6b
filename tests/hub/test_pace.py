"""Turns of followers: a few at once, a crowd no faster than the hub has time for, and nobody for nothing."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import hypothesis.strategies as st
import pytest
from hypothesis import given

from hub import pace
from hub.pace import AT_ONCE, FIRST_RATE, LATE_SECONDS, LEAST_RATE, MOST_RATE, Pace
from hub.routes import shared
from hub.routes.shared import Content, SharedAnswers
from sharing_protocol import wire
from tests.forum import ForumInABox, pattern_body
from tests.hub.test_following import LONG, size_of, waiting


def test_a_few_are_told_at_once_and_the_next_in_their_turn() -> None:
    turns = Pace(100.0)
    assert all(turns.take(100.0) for _ in range(AT_ONCE))
    assert not turns.take(100.0)
    assert not turns.take(100.0 + 0.9 / FIRST_RATE)
    assert turns.take(100.0 + 1.1 / FIRST_RATE)


def test_a_busy_hub_tells_fewer_and_an_idle_one_more() -> None:
    turns = Pace(0.0)
    turns.was_late(LATE_SECONDS * 2)
    assert LEAST_RATE <= turns.rate < FIRST_RATE
    assert [turns.take(0.0) for _ in range(2)] == [True, False], "what was saved up is no claim on a busy hub"
    for _ in range(100):
        turns.was_late(1.0)
    assert turns.rate == LEAST_RATE
    for _ in range(1000):
        turns.was_late(0.0)
    assert turns.rate == MOST_RATE


@given(st.lists(st.tuples(st.floats(0, 0.5), st.floats(0, 0.1)), max_size=200))
def test_however_it_is_asked_turns_are_bounded_and_come(asked: list[tuple[float, float]]) -> None:
    turns = Pace(0.0)
    now, taken = 0.0, 0
    for passes, late in asked:
        now += passes
        turns.was_late(late)
        taken += turns.take(now)
        assert taken <= AT_ONCE + now * MOST_RATE
    assert turns.take(now + 1.1 / LEAST_RATE), "whoever waits long enough has a turn"
    assert not turns.is_quiet(now + 1.1 / LEAST_RATE)
    assert turns.is_quiet(now + 60)


def test_who_comes_back_waits_behind_those_who_wait(box: ForumInABox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody jumps the queue by knowing less, and nobody is forgotten in it."""
    lab = box.admit("Aurora")
    for name in ("FIRST_RATE", "LEAST_RATE", "MOST_RATE"):
        monkeypatch.setattr(pace, name, 2.0)
    size = box.size()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for _ in range(AT_ONCE):  # what there is to be had at once
            assert size_of(box.get(wire.CHECKPOINT, lab.sync, after=0, wait=LONG)) == size
        time.sleep(0.1)
        with waiting(box, *[lab.sync] * 4) as asked:
            box.publish(lab, pattern_body())
            late = threads.submit(box.get, wire.CHECKPOINT, lab.sync, after=size, wait=LONG)
            while not any(one.done() for one in asked):
                time.sleep(0.01)
            assert not late.done()
            assert size_of(box.get(wire.CHECKPOINT, lab.sync)) == size + 1, "asking without waiting needs no turn"
            assert [size_of(one.result(30)) for one in [*asked, late]] == [size + 1] * 5


# -- what a crowd asks for -----------------------------------------------------------------------------------------


class Reading:
    """Something to read; counts how often it was."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.times = 0

    async def __call__(self) -> Content:
        self.times += 1
        await asyncio.sleep(0)
        if not self.data:
            raise LookupError
        return Content(self.data)


def test_a_crowd_is_answered_from_one_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> None:
        answers, reading, other = SharedAnswers(), Reading(b"tile"), Reading(b"another")
        told = await asyncio.gather(*(answers.get("a", reading) for _ in range(10)), answers.get("b", other))
        assert [one.data for one in told] == [b"tile"] * 10 + [b"another"]
        assert (reading.times, other.times) == (1, 1)
        monkeypatch.setattr(shared, "KEPT_SECONDS", 0.0)
        await answers.get("a", reading)
        assert reading.times == 2, "the database has the last word"

    asyncio.run(ask())


def test_a_failure_is_told_and_not_kept() -> None:
    async def ask() -> None:
        answers, reading = SharedAnswers(), Reading(b"")
        told = await asyncio.gather(*(answers.get("a", reading) for _ in range(3)), return_exceptions=True)
        assert [type(one) for one in told] == [LookupError] * 3
        reading.data = b"there now"
        assert (await answers.get("a", reading)).data == b"there now"

    asyncio.run(ask())


def test_who_leaves_first_takes_nothing_from_the_others() -> None:
    async def ask() -> None:
        answers, reading = SharedAnswers(), Reading(b"tile")
        first = asyncio.ensure_future(answers.get("a", reading))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(answers.get("a", reading))
        first.cancel()
        assert (await second).data == b"tile"
        assert reading.times == 1

    asyncio.run(ask())


def test_only_so_many_bytes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "MAX_BYTES", 10)

    async def ask() -> None:
        answers, reading = SharedAnswers(), Reading(b"1234")
        for name in "abcabc":
            await answers.get(name, reading)
        assert reading.times == 6
        await answers.get("c", reading)
        assert reading.times == 6

    asyncio.run(ask())
