"""Waiting for the next checkpoint: who waits is told by the commit, whichever process made it, and costs little."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest

from hub.database.connections import LISTENER_NAME, plain_url
from hub.identity import HubIdentity
from hub.settings import HubSettings
from sharing_protocol import wire
from tests.forum import ForumInABox, Lab, code_of, pattern_body, running_hub
from tests.hub.stored_log import wait_until

LONG = wire.MAX_WAIT_SECONDS


@pytest.fixture
def lab(box: ForumInABox) -> Lab:
    return box.admit("Aurora")


def size_of(response: httpx.Response) -> int:
    assert response.status_code == 200, response.text
    return int(response.text.splitlines()[1])


def listeners(box: ForumInABox, ask: str = "pid") -> int:
    """How many connections listen for the log to grow; `ask` is evaluated for each of them."""
    with psycopg.connect(plain_url(box.hub.database_url), autocommit=True) as connection:
        found = connection.execute(
            f"SELECT {ask} FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s".encode(),
            [LISTENER_NAME],
        ).fetchall()
    return len(found)


@contextlib.contextmanager
def waiting(box: ForumInABox, *key_names: str) -> Iterator[list[Future[httpx.Response]]]:
    """Requests that wait for the log to grow, one for each key, seen to be waiting."""
    size = box.size()
    with ThreadPoolExecutor(len(key_names)) as threads:
        asked = [threads.submit(box.get, wire.CHECKPOINT, name, after=size, wait=LONG) for name in key_names]
        time.sleep(0.3)
        assert not any(request.done() for request in asked), [request.result().text for request in asked]
        yield asked


def test_who_waits_is_told_of_the_commit(box: ForumInABox, lab: Lab) -> None:
    size = box.size()
    with waiting(box, lab.sync, lab.analyst, "Ada") as asked:
        box.publish(lab, pattern_body())
        assert [size_of(request.result(30)) for request in asked] == [size + 1] * 3


def test_a_commit_of_another_process_is_heard(box: ForumInABox, lab: Lab, hub_identity: HubIdentity) -> None:
    size = box.size()
    with running_hub(box.hub.database_url, hub_identity) as second, waiting(box, lab.sync) as asked:
        box.hub = second
        box.publish(lab, pattern_body())
        assert size_of(asked[0].result(30)) == size + 1


@pytest.mark.parametrize("known", [0, 1, 100])
def test_who_knows_another_size_is_answered_at_once(box: ForumInABox, lab: Lab, known: int) -> None:
    """A longer one too: somebody must see that the log was rolled back."""
    assert known != box.size()
    assert size_of(box.get(wire.CHECKPOINT, lab.sync, after=known, wait=LONG)) == box.size()


def test_who_waited_long_enough_gets_what_there_is(box: ForumInABox, lab: Lab) -> None:
    size = box.size()
    assert size_of(box.get(wire.CHECKPOINT, lab.sync, after=size, wait=1)) == size
    assert size_of(box.get(wire.CHECKPOINT, lab.sync, after=size, wait=0)) == size
    assert size_of(box.get(wire.CHECKPOINT, lab.sync, after=size)) == size


@pytest.mark.parametrize(
    "parameters",
    [
        {"wait": "5"},
        {"after": "-1", "wait": "1"},
        {"after": "+1", "wait": "1"},
        {"after": "1_0", "wait": "1"},
        {"after": "٣", "wait": "1"},
        {"after": "", "wait": "1"},
        {"after": "99999999999999999999", "wait": "1"},
        {"after": "0", "wait": str(LONG + 1)},
        {"after": "0", "wait": "0.5"},
        {"after": ["0", "0"], "wait": "1"},
    ],
)
def test_a_wait_that_makes_no_sense_is_refused(box: ForumInABox, parameters: dict[str, Any]) -> None:
    response = box.get(wire.CHECKPOINT, **parameters)
    assert (response.status_code, code_of(response)) == (422, "invalid_parameter")
    assert response.json()["where"].startswith("query.")


def test_a_listener_that_was_cut_off_listens_again(box: ForumInABox, lab: Lab) -> None:
    size = box.size()
    with waiting(box, lab.sync) as asked:
        assert listeners(box, ask="pg_terminate_backend(pid)") == 1
        box.publish(lab, pattern_body())
        assert size_of(asked[0].result(30)) == size + 1
    wait_until(lambda: listeners(box) == 1, "nobody listens any more")


def test_a_hub_that_stops_lets_everybody_go(database: str, hub_identity: HubIdentity) -> None:
    with ThreadPoolExecutor(1) as threads:
        with running_hub(database, hub_identity) as hub:
            box = ForumInABox(hub)
            box.found()
            size = box.size()
            asked = threads.submit(box.get, wire.CHECKPOINT, "Ada", after=size, wait=LONG)
            time.sleep(0.3)
            assert not asked.done()
        assert size_of(asked.result(30)) == size


def test_a_member_and_a_process_have_only_so_many_followers(database: str, hub_identity: HubIdentity) -> None:
    few = HubSettings(max_followers=3, max_followers_per_member=2)
    with running_hub(database, hub_identity, settings=few) as hub:
        box = ForumInABox(hub)
        box.found()
        aurora, boreal = box.admit("Aurora"), box.admit("Boreal")
        size = box.size()
        with waiting(box, aurora.sync, aurora.analyst) as asked:
            refused = box.get(wire.CHECKPOINT, aurora.owner, after=size, wait=LONG)
            assert (refused.status_code, code_of(refused)) == (429, "too_many_followers")
            assert size_of(box.get(wire.CHECKPOINT, aurora.owner)) == size, "asking without waiting is always possible"
            with waiting(box, boreal.sync) as more:
                full = box.get(wire.CHECKPOINT, boreal.analyst, after=size, wait=LONG)
                assert (full.status_code, code_of(full)) == (503, "overloaded")
                assert int(full.headers["retry-after"]) > 0
                box.publish(boreal, pattern_body())
                assert [size_of(request.result(30)) for request in asked + more] == [size + 1] * 3
        with waiting(box, aurora.sync, boreal.analyst, boreal.sync):
            box.publish(aurora, pattern_body())


def test_who_went_away_does_not_count(database: str, hub_identity: HubIdentity) -> None:
    with running_hub(database, hub_identity, settings=HubSettings(max_followers=1)) as hub:
        box = ForumInABox(hub)
        box.found()
        lab = box.admit("Aurora")
        size = box.size()
        parameters = {"after": size, "wait": LONG}
        for _ in range(3):
            with box.client(lab.sync) as client, pytest.raises(httpx.ReadTimeout):
                client.get(wire.CHECKPOINT, params=parameters, timeout=0.3)

            def free() -> bool:
                return box.get(wire.CHECKPOINT, lab.analyst, after=size, wait=1).status_code == 200

            wait_until(free, "a follower who is gone still takes up a place")


def test_a_crowd_is_told_and_none_is_forgotten(box: ForumInABox, lab: Lab) -> None:
    size, crowd = box.size(), 120
    with ThreadPoolExecutor(crowd) as threads:
        asked = [threads.submit(box.get, wire.CHECKPOINT, lab.sync, after=size, wait=LONG) for _ in range(crowd)]
        time.sleep(1.0)
        box.publish(lab, pattern_body())
        assert {size_of(request.result(50)) for request in asked} == {size + 1}
