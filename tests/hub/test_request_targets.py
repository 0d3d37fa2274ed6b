"""A signature is over one request: whoever carries it can send it to nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from hub.identity import HubIdentity
from sharing_protocol import wire
from tests.forum import running_hub, signed
from tests.hub.raw_requests import head, send_raw, signing
from tests.hub.refusals import problem_of, refused
from tests.hub.troubled_forum import TroubledForum, make_troubled_forum


@pytest.fixture(scope="module")
def forum(new_database: Callable[[], str], hub_identity: HubIdentity) -> Iterator[TroubledForum]:
    with running_hub(new_database(), hub_identity) as hub:
        yield make_troubled_forum(hub)


def test_what_is_sent_as_it_was_signed_is_answered(forum: TroubledForum) -> None:
    hub = forum.box.hub
    headers = signing(hub, forum.aurora.sync, target="/records?limit=1")
    assert send_raw(hub, head(hub, headers, target="/records?limit=1")).status_code == 200


@pytest.mark.parametrize(
    ("signed_target", "sent_target"),
    [
        ("/checkpoint", "/members"),
        ("/checkpoint", "/checkpoint/"),
        ("/checkpoint", "/%63heckpoint"),
        ("/checkpoint", "//checkpoint"),
        ("/records", "/records?limit=1"),
        ("/records?limit=1", "/records"),
        ("/records?limit=1", "/records?limit=2"),
        ("/records?limit=1&after=2", "/records?after=2&limit=1"),
        ("/records?q=a+b", "/records?q=a%20b"),
    ],
)
def test_another_path_or_query(forum: TroubledForum, signed_target: str, sent_target: str) -> None:
    hub = forum.box.hub
    headers = signing(hub, forum.aurora.sync, target=signed_target)
    problem_of(send_raw(hub, head(hub, headers, target=sent_target)), 401, "bad_request_signature")


@pytest.mark.parametrize("method", ["POST", "DELETE", "get"])
def test_another_method(forum: TroubledForum, method: str) -> None:
    hub = forum.box.hub
    response = send_raw(hub, head(hub, signing(hub, forum.aurora.sync), method))
    problem_of(response, 401, "bad_request_signature")


@pytest.mark.parametrize("base", ["http://hub.example", "http://127.0.0.1", "http://127.0.0.1:1"])
def test_another_hub(forum: TroubledForum, base: str) -> None:
    hub = forum.box.hub
    headers = signing(hub, forum.aurora.sync, base=base)
    problem_of(send_raw(hub, head(hub, headers)), 401, "bad_request_signature")


@pytest.mark.parametrize("change", [lambda body: body + b" ", lambda body: body[::-1], lambda _: b""])
def test_another_body(forum: TroubledForum, change: Callable[[bytes], bytes]) -> None:
    hub, analyst = forum.box.hub, forum.aurora.analyst
    body = signed(forum.pattern(), analyst).encode()
    headers = signing(hub, analyst, "POST", wire.ENTRIES, body)
    sent = change(body)
    request = head(hub, {**headers, "Content-Length": str(len(sent))}, "POST", wire.ENTRIES) + sent
    refused(forum.box, lambda: send_raw(hub, request), 401, "wrong_digest", says="Content-Digest")


# -- host and target that run into each other --------------------------------------------------------------------
#
# The hub puts the URL together from both. With a delimiter of the one in the other, the same URL, and so the same
# signature, would fit another path or query.


@pytest.mark.parametrize(
    ("signed_target", "host_ends_in", "sent_target"),
    [
        ("/checkpoint", "/checkpoint#", "/members"),
        ("/checkpoint", "/checkpoint?#", "/members"),
        ("/records?q=/members", "/records?q=", "/members"),
        ("/tile/0/000.p/1", "/tile", "/0/000.p/1"),
        ("/checkpoint", "\\", "/checkpoint"),
        ("/checkpoint", ",127.0.0.1", "/checkpoint"),
    ],
)
def test_a_host_that_is_more_than_a_host(
    forum: TroubledForum, signed_target: str, host_ends_in: str, sent_target: str
) -> None:
    hub = forum.box.hub
    host = urlsplit(hub.url).netloc + host_ends_in
    headers = {"Host": host, **signing(hub, forum.aurora.sync, target=signed_target)}
    problem_of(send_raw(hub, head(hub, headers, target=sent_target)), 400, "bad_request", says="Host")


def test_a_host_with_user_information(forum: TroubledForum) -> None:
    hub = forum.box.hub
    headers = {"Host": "ada@" + urlsplit(hub.url).netloc, **signing(hub, forum.aurora.sync)}
    problem_of(send_raw(hub, head(hub, headers)), 400, "bad_request", says="Host")


@pytest.mark.parametrize(
    ("signed_target", "sent_target"),
    [
        ("/checkpoint", "/checkpoint#"),
        ("/records", "/records#?limit=1"),
        ("/records?limit=1&q=a", "/records?limit=1&q=a#&limit=200"),
    ],
)
def test_a_target_with_a_fragment(forum: TroubledForum, signed_target: str, sent_target: str) -> None:
    hub = forum.box.hub
    headers = signing(hub, forum.aurora.sync, target=signed_target)
    problem_of(send_raw(hub, head(hub, headers, target=sent_target)), 400, "bad_request", says="path")


def test_a_target_that_is_no_path(forum: TroubledForum) -> None:
    hub = forum.box.hub
    address = urlsplit(hub.url)
    for method, host, sent_target in (
        ("GET", str(address.hostname), f":{address.port}/checkpoint"),
        ("GET", address.netloc, f"{hub.url}/checkpoint"),
        ("OPTIONS", address.netloc, "*"),
    ):
        headers = {"Host": host, **signing(hub, forum.aurora.sync, method)}
        problem_of(send_raw(hub, head(hub, headers, method, sent_target)), 400, "bad_request", says="path")


def test_a_submission_cannot_be_turned_into_a_proposal(forum: TroubledForum) -> None:
    hub = forum.box.hub
    document = forum.box.statement("membership.suspend", forum.boreal.id, forum.box.id, {"reason": "No reports"})
    body = signed(document, "Ada").encode()
    headers = signing(hub, "Ada", "POST", wire.ENTRIES, body)
    headers |= {"Host": urlsplit(hub.url).netloc + wire.ENTRIES + "#", "Content-Length": str(len(body))}
    request = head(hub, headers, "POST", wire.PROPOSALS) + body
    refused(forum.box, lambda: send_raw(hub, request), 400, "bad_request", says="Host")
