"""What one member may have of a hub, and what all strangers together: whoever takes more waits, and nobody else."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import pytest

from hub import gate
from hub.identity import HubIdentity
from hub.settings import HubSettings
from sharing_protocol import wire
from tests.forum import ForumInABox, Lab, code_of, pattern_body, running_hub, sighting_body
from tests.hub.raw_requests import answer, connected, head, send_raw, signing
from tests.hub.refusals import problem_of
from tests.hub.scrape import read
from tests.hub.stored_log import held, wait_until

LONG = wire.MAX_WAIT_SECONDS


@contextlib.contextmanager
def forum(database: str, identity: HubIdentity, **settings: float) -> Iterator[tuple[ForumInABox, Lab, Lab]]:
    """A hub with these settings, and a forum of two labs."""
    given = HubSettings.model_validate({"metrics_port": 0, **settings})
    with running_hub(database, identity, settings=given) as hub:
        box = ForumInABox(hub)
        box.found()
        yield box, box.admit("Aurora"), box.admit("Boreal")


def refused(response: httpx.Response, status: int, code: str) -> bool:
    """Whether it is; then it says when to come again."""
    if response.status_code != status:
        return False
    assert code_of(response) == code
    assert 1 <= int(response.headers["retry-after"]) <= 60
    return True


def refusals(box: ForumInABox) -> float:
    """How many requests were too many so far."""
    return read(box.hub, "refusals_total", code="too_many_requests") or 0


def until_refused(ask: Iterator[httpx.Response], allowed: int) -> httpx.Response:
    """The refusal that comes once `allowed` requests were served; the window slides, so perhaps some later."""
    for number, response in enumerate(ask):
        if response.status_code == 429:
            assert number >= allowed
            return response
        assert response.status_code in (200, 201), response.text
        assert number < 3 * allowed, "never refused"
    raise AssertionError("nobody asked")


# -- in a time ---------------------------------------------------------------------------------------------------


def test_a_member_sends_so_many_requests_a_minute_whichever_of_its_keys_asks(
    database: str, hub_identity: HubIdentity
) -> None:
    with forum(database, hub_identity, requests_per_minute=12) as (box, aurora, boreal):
        names = (name for _ in range(100) for name in (aurora.sync, aurora.analyst, aurora.owner))
        last = until_refused((box.get(wire.MEMBERS, name) for name in names), 12)
        assert refused(last, 429, "too_many_requests")
        assert "12 requests a minute" in last.text
        assert box.get(wire.MEMBERS, boreal.sync).status_code == 200
        assert box.get(wire.MEMBERS, "Ada").status_code == 200
        assert httpx.get(box.hub.url + wire.HEALTH).status_code == 200


def test_a_member_submits_so_much_a_minute_and_reads_on(database: str, hub_identity: HubIdentity) -> None:
    with forum(database, hub_identity, submissions_per_minute=5) as (box, aurora, boreal):
        pattern, _ = box.publish(aurora, pattern_body())
        size = box.size()

        def submissions() -> Iterator[httpx.Response]:
            while True:
                yield box.submit(box.record(aurora, sighting_body(box.reference(pattern))), aurora.analyst)

        last = until_refused(submissions(), 4)
        assert refused(last, 429, "too_many_requests")
        assert "5 submissions a minute" in last.text
        assert box.size() >= size + 4
        assert box.get(wire.RECORDS, aurora.analyst).status_code == 200
        box.publish(boreal, pattern_body("Another's"))


def test_what_strangers_send_in_a_members_name_counts_for_nothing(database: str, hub_identity: HubIdentity) -> None:
    with forum(database, hub_identity, requests_per_minute=8) as (box, aurora, _):
        hub = box.hub
        captured = head(hub, signing(hub, aurora.sync))
        assert send_raw(hub, captured).status_code == 200
        forged = signing(hub, aurora.sync)
        forged["Signature"] = signing(hub, "a stranger")["Signature"]
        for _ in range(20):
            problem_of(send_raw(hub, captured), 401, "replayed_request")
            problem_of(send_raw(hub, head(hub, forged)), 401, "bad_request_signature")
        assert [box.get(wire.MEMBERS, aurora.sync).status_code for _ in range(7)] == [200] * 7
        refusal = until_refused((box.get(wire.MEMBERS, aurora.sync) for _ in range(100)), 0)
        assert refused(refusal, 429, "too_many_requests")


# -- at a time ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def in_work(box: ForumInABox, *labs: Lab) -> Iterator[list[Future[httpx.Response]]]:
    """Submissions, one for each lab, that cannot be answered until the end of this."""
    made = [(box.record(lab, pattern_body(f"In work {number}")), lab.analyst) for number, lab in enumerate(labs)]
    with ThreadPoolExecutor(len(labs)) as threads:
        with held(box.hub.database_url):
            submitted = [threads.submit(box.submit, *one) for one in made]
            wait_until(lambda: read(box.hub, "requests_in_work") == len(labs), "the submissions are not in work")
            yield submitted
        assert [one.result(30).status_code for one in submitted] == [201] * len(labs)


def test_a_member_has_so_many_requests_in_work(database: str, hub_identity: HubIdentity) -> None:
    with forum(database, hub_identity, max_at_once_per_member=2) as (box, aurora, boreal):
        with in_work(box, aurora, aurora):
            assert refused(box.get(wire.MEMBERS, aurora.sync), 429, "too_many_requests")
            assert box.get(wire.MEMBERS, boreal.sync).status_code == 200
        assert box.get(wire.MEMBERS, aurora.sync).status_code == 200


def test_a_process_has_so_many_requests_in_work(database: str, hub_identity: HubIdentity) -> None:
    with forum(database, hub_identity, max_at_once=2) as (box, aurora, boreal):
        with in_work(box, aurora, boreal):
            assert refused(box.get(wire.MEMBERS, boreal.sync), 503, "overloaded")
            assert httpx.get(box.hub.url + wire.HEALTH).status_code == 200
            assert httpx.get(box.hub.url + wire.READY).status_code == 200
        assert box.get(wire.MEMBERS, boreal.sync).status_code == 200


def test_the_last_places_are_for_submissions(database: str, hub_identity: HubIdentity) -> None:
    """Whatever else is asked for, the log can grow."""
    with forum(database, hub_identity, max_at_once=8) as (box, aurora, boreal), ThreadPoolExecutor(1) as threads:
        with in_work(box, *[aurora, boreal] * 3, aurora):
            assert refused(box.get(wire.MEMBERS, boreal.sync), 503, "overloaded")
            last = threads.submit(box.submit, box.record(boreal, pattern_body("The last place")), boreal.analyst)
            wait_until(lambda: read(box.hub, "requests_in_work") == 8, "the submission has no place")
            full = box.submit(box.record(boreal, pattern_body("No place")), boreal.analyst)
            assert refused(full, 503, "overloaded")
        assert last.result(30).status_code == 201


def test_one_member_floods_and_the_other_is_served(database: str, hub_identity: HubIdentity) -> None:
    few = {"max_at_once": 10, "max_at_once_per_member": 8, "database_connections": 4}
    with forum(database, hub_identity, **few) as (box, aurora, boreal):
        flooding = threading.Event()
        flooding.set()

        def flood(_: int) -> set[int]:
            seen = set()
            while flooding.is_set():
                seen.add(box.submit(box.record(aurora, pattern_body("Flood")), aurora.analyst).status_code)
            return seen

        with ThreadPoolExecutor(14) as threads:
            floods = [threads.submit(flood, number) for number in range(14)]
            try:
                wait_until(lambda: refusals(box) > 5, "the flood is no flood", 60)
                for number in range(4):
                    box.publish(boreal, pattern_body(f"In the flood {number}"))
                    assert box.get(wire.RECORDS, boreal.sync).status_code == 200
            finally:
                flooding.clear()
        assert set().union(*(one.result() for one in floods)) <= {201, 429}


# -- who only waits ----------------------------------------------------------------------------------------------


def test_followers_take_up_no_place_and_their_time_stands_still(database: str, hub_identity: HubIdentity) -> None:
    few = {"max_at_once": 2, "max_at_once_per_member": 1, "request_timeout": 2.0}
    with forum(database, hub_identity, **few) as (box, aurora, boreal):
        size = box.size()
        with ThreadPoolExecutor(5) as threads:
            asked = []
            for number in range(5):
                name = (aurora.sync, boreal.sync)[number % 2]
                asked.append(threads.submit(box.get, wire.CHECKPOINT, name, after=size, wait=LONG))
                wait_until(lambda: read(box.hub, "followers") == len(asked), "nobody follows")
            assert read(box.hub, "requests_in_work") == 0
            # Longer than a request may take, by itself and for those who wait beside it.
            patient = box.get(wire.CHECKPOINT, aurora.analyst, after=size, wait=3)
            assert (patient.status_code, patient.text.splitlines()[1]) == (200, str(size))
            box.publish(aurora, pattern_body())
            assert [one.result(60).status_code for one in asked] == [200] * 5
        wait_until(lambda: read(box.hub, "requests_in_work") == 0, "a place is lost")
        assert read(box.hub, "followers") == 0


# -- strangers, and the slow -------------------------------------------------------------------------------------


def test_strangers_together_have_a_share_that_members_do_not_need(database: str, hub_identity: HubIdentity) -> None:
    with forum(database, hub_identity, max_at_once=16) as (box, aurora, _), contextlib.ExitStack() as stack:
        hub = box.hub
        for _ in range(2):
            slow = stack.enter_context(connected(hub))
            slow.sendall(head(hub, {"Content-Length": "100"}, "POST", wire.ENTRIES) + b"{")
        wait_until(lambda: read(hub, "strangers_in_work") == 2, "the strangers are not in work")
        assert refused(httpx.get(hub.url + wire.MEMBERS), 503, "overloaded")
        assert refused(box.get(wire.MEMBERS, "a stranger"), 503, "overloaded")
        assert [box.get(wire.MEMBERS, aurora.sync).status_code for _ in range(20)] == [200] * 20
        box.publish(aurora, pattern_body())
        assert httpx.get(hub.url + wire.HEALTH).status_code == 200
        stack.close()
        wait_until(lambda: read(hub, "strangers_in_work") == 0, "who left is still counted")
        assert code_of(httpx.get(hub.url + wire.MEMBERS)) == "unsigned_request"


def test_a_slow_stranger_is_not_waited_for(
    database: str, hub_identity: HubIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "STRANGER_SECONDS", 0.2)
    with forum(database, hub_identity) as (box, _, _), connected(box.hub) as slow:
        slow.sendall(head(box.hub, {"Content-Length": "100"}, "POST", wire.ENTRIES) + b"{")
        problem_of(answer(slow), 408, "request_timeout")


def test_a_slow_member_is_not_waited_for(database: str, hub_identity: HubIdentity) -> None:
    with forum(database, hub_identity, request_timeout=0.5) as (box, aurora, _), connected(box.hub) as slow:
        body = box.record(aurora, pattern_body()).encode()
        signed = signing(box.hub, aurora.analyst, "POST", wire.ENTRIES, body)
        slow.sendall(head(box.hub, {**signed, "Content-Length": str(len(body))}, "POST", wire.ENTRIES) + body[:100])
        problem_of(answer(slow), 408, "request_timeout")
        assert read(box.hub, "requests_in_work") == 0
