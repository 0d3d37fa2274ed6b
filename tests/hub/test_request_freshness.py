"""A captured request is worth nothing: not later, not twice, not to another process, not after a restart."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from hub.app import utc_now
from hub.identity import HubIdentity
from sharing_protocol import wire
from sharing_protocol.request_signing import WINDOW_SECONDS
from tests.forum import RunningHub, at, running_hub, signed, sql
from tests.hub.raw_requests import head, send_raw, signing
from tests.hub.refusals import contents, problem_of, refused
from tests.hub.troubled_forum import TroubledForum, make_troubled_forum

NONCE = "a-nonce-of-30-letters-for-tests"
SAYS = "sign each request anew"


@pytest.fixture(scope="module")
def forum(new_database: Callable[[], str], hub_identity: HubIdentity) -> Iterator[TroubledForum]:
    with running_hub(new_database(), hub_identity) as hub:
        yield make_troubled_forum(hub)


@pytest.fixture(scope="module")
def other(forum: TroubledForum) -> Iterator[RunningHub]:
    """Another process for the same forum: it answers to the same name, as behind a proxy."""
    hub = forum.box.hub
    with running_hub(hub.database_url, hub.identity) as running:
        yield running


def submission(hub: RunningHub, forum: TroubledForum, *, created: int | None = None, nonce: str | None = None) -> bytes:
    """A good submission, signed for this hub."""
    body = signed(forum.pattern(), forum.aurora.analyst).encode()
    headers = signing(hub, forum.aurora.analyst, "POST", wire.ENTRIES, body, created=created, nonce=nonce)
    return head(hub, {**headers, "Content-Length": str(len(body))}, "POST", wire.ENTRIES) + body


# -- the time ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def noon() -> datetime:
    return utc_now().replace(microsecond=0)


@pytest.fixture(scope="module")
def stopped(forum: TroubledForum, noon: datetime) -> Iterator[RunningHub]:
    """A process for the same forum whose clock stands still."""
    with running_hub(forum.box.hub.database_url, forum.box.hub.identity, at(noon)) as hub:
        yield hub


@pytest.mark.parametrize("seconds", [-WINDOW_SECONDS, 0, WINDOW_SECONDS])
def test_within_the_window(stopped: RunningHub, noon: datetime, seconds: int) -> None:
    headers = signing(stopped, "Aurora sync", created=int(noon.timestamp()) + seconds)
    assert send_raw(stopped, head(stopped, headers)).status_code == 200


@pytest.mark.parametrize(
    ("seconds", "says"),
    [
        (-WINDOW_SECONDS - 1, "signed +61 s from the hub's clock"),
        (WINDOW_SECONDS + 1, "signed -61 s from the hub's clock"),
        (-86_400, "check this machine's clock"),
        (86_400, "check this machine's clock"),
    ],
)
def test_a_stale_or_future_request(
    forum: TroubledForum, stopped: RunningHub, noon: datetime, seconds: int, says: str
) -> None:
    request = submission(stopped, forum, created=int(noon.timestamp()) + seconds)
    refused(forum.box, lambda: send_raw(stopped, request), 401, "stale_request", says=says)


# -- the nonce ---------------------------------------------------------------------------------------------------


def test_a_replayed_request(forum: TroubledForum) -> None:
    hub = forum.box.hub
    request = submission(hub, forum)
    assert send_raw(hub, request).status_code == 201
    refused(forum.box, lambda: send_raw(hub, request), 401, "replayed_request", says=SAYS)


def test_a_nonce_of_another_request_by_the_same_key(forum: TroubledForum) -> None:
    hub = forum.box.hub
    assert send_raw(hub, head(hub, signing(hub, forum.aurora.analyst, nonce=NONCE))).status_code == 200
    request = submission(hub, forum, nonce=NONCE)
    refused(forum.box, lambda: send_raw(hub, request), 401, "replayed_request", says=SAYS)


def test_two_keys_may_happen_to_use_one_nonce(forum: TroubledForum) -> None:
    hub = forum.box.hub
    for signer in (forum.boreal.sync, forum.boreal.analyst):
        assert send_raw(hub, head(hub, signing(hub, signer, nonce=NONCE))).status_code == 200


def test_a_refused_request_uses_its_nonce_up_once_its_signature_holds(forum: TroubledForum) -> None:
    hub = forum.box.hub
    request = head(hub, signing(hub, forum.aurora.sync, target="/tile/0/999"), target="/tile/0/999")
    problem_of(send_raw(hub, request), 404, "unknown_tile")
    problem_of(send_raw(hub, request), 401, "replayed_request", says=SAYS)


def test_nobody_uses_up_the_nonce_of_a_key_that_they_do_not_hold(forum: TroubledForum) -> None:
    hub = forum.box.hub
    headers = signing(hub, forum.aurora.sync)
    problem_of(send_raw(hub, head(hub, headers, target="/members")), 401, "bad_request_signature")
    assert send_raw(hub, head(hub, headers)).status_code == 200


def test_another_process_knows_the_nonces_of_the_first(forum: TroubledForum, other: RunningHub) -> None:
    hub = forum.box.hub
    request = submission(hub, forum)
    assert send_raw(hub, request).status_code == 201
    refused(forum.box, lambda: send_raw(other, request), 401, "replayed_request", says=SAYS)
    backwards = head(hub, signing(hub, forum.aurora.sync))
    assert send_raw(other, backwards).status_code == 200
    problem_of(send_raw(hub, backwards), 401, "replayed_request", says=SAYS)


def test_of_many_copies_at_once_one_is_served(forum: TroubledForum, other: RunningHub) -> None:
    hub = forum.box.hub
    before = contents(forum.box)
    request = submission(hub, forum)
    with ThreadPoolExecutor(12) as threads:
        responses = list(threads.map(lambda number: send_raw((hub, other)[number % 2], request), range(12)))
    assert sorted(response.status_code for response in responses) == [201] + [401] * 11
    for response in responses:
        if response.status_code == 401:
            problem_of(response, 401, "replayed_request", says=SAYS)
    assert contents(forum.box).entries == before.entries + 1


def test_a_restart_forgets_no_nonce(new_database: Callable[[], str], hub_identity: HubIdentity) -> None:
    """Also one from the far end of the window, although each start throws expired nonces away."""
    database, noon = new_database(), utc_now().replace(microsecond=0)
    ahead = int(noon.timestamp()) + WINDOW_SECONDS
    with running_hub(database, hub_identity, at(noon)) as hub:
        forum = make_troubled_forum(hub)
        request = submission(hub, forum, created=ahead)
        assert send_raw(hub, request).status_code == 201
    with sql(database) as connection:
        connection.execute("INSERT INTO request_nonces VALUES ('a key', 'expired', %s)", [noon])
    with running_hub(database, hub_identity, at(noon + timedelta(seconds=2 * WINDOW_SECONDS))) as hub:
        _wait_until_expired_nonces_are_gone(database)
        forum.box.hub = hub
        refused(forum.box, lambda: send_raw(hub, request), 401, "replayed_request", says=SAYS)
    with running_hub(database, hub_identity, at(noon + timedelta(seconds=2 * WINDOW_SECONDS + 1))) as hub:
        forum.box.hub = hub
        refused(forum.box, lambda: send_raw(hub, request), 401, "stale_request")


def _wait_until_expired_nonces_are_gone(database: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        with sql(database) as connection:
            if connection.execute("SELECT FROM request_nonces WHERE nonce = 'expired'").fetchone() is None:
                return
        assert time.monotonic() < deadline, "the hub does not throw expired nonces away"
        time.sleep(0.05)


# -- what one process has not heard of yet -----------------------------------------------------------------------


def test_another_process_hears_of_a_suspension_at_once(forum: TroubledForum, other: RunningHub) -> None:
    lab = forum.box.admit("Fjord")
    assert send_raw(other, head(other, signing(other, lab.sync))).status_code == 200
    forum.box.decree("membership.suspend", lab.id, {"reason": "Under review"})
    problem_of(send_raw(other, head(other, signing(other, lab.sync))), 403, "member_suspended")
    forum.box.decree("membership.reinstate", lab.id, {"reason": "All is well"})
    assert send_raw(other, head(other, signing(other, lab.sync))).status_code == 200
