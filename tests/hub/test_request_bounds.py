"""Requests that are too large or hardly HTTP: each is answered, none holds the hub up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from http.client import HTTPResponse
from urllib.parse import urlsplit

import pytest

from hub import http_protocol
from hub.gate import MAX_BODY_BYTES, MAX_HEADERS
from hub.identity import HubIdentity
from sharing_protocol import wire
from tests.forum import RunningHub, running_hub, signed
from tests.hub.raw_requests import answer, connected, head, send_raw, signing
from tests.hub.refusals import contents, problem_of
from tests.hub.stored_log import wait_until
from tests.hub.troubled_forum import TroubledForum, make_troubled_forum

TOO_LARGE = "at most 65,535 bytes"


@pytest.fixture(scope="module")
def forum(new_database: Callable[[], str], hub_identity: HubIdentity) -> Iterator[TroubledForum]:
    with running_hub(new_database(), hub_identity) as hub:
        yield make_troubled_forum(hub)


@pytest.fixture(autouse=True)
def unharmed(forum: TroubledForum) -> Iterator[None]:
    """After each of these requests the hub answers the next one, and its log is as it was."""
    before = contents(forum.box)
    yield
    assert contents(forum.box) == before


def submission(hub: RunningHub, headers: dict[str, str]) -> bytes:
    return head(hub, headers, "POST", wire.ENTRIES)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


# -- the body ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", ["65536", "1000000000000", "9" * 20])
@pytest.mark.parametrize("target", [wire.ENTRIES, wire.PROPOSALS, wire.HEALTH, wire.CHECKPOINT])
def test_an_oversize_body_is_refused_when_it_is_announced(forum: TroubledForum, target: str, length: str) -> None:
    """Before a byte of it was sent, and whoever sends it."""
    hub = forum.box.hub
    response = send_raw(hub, head(hub, {"Content-Length": length}, "POST", target))
    problem_of(response, 413, "envelope_too_large", says=TOO_LARGE)


@pytest.mark.parametrize("size", [1, 1024, MAX_BODY_BYTES + 1])
def test_an_oversize_body_is_refused_while_it_streams_in(forum: TroubledForum, size: int) -> None:
    """In chunks, so that nothing announces it; the hub does not wait for an end that may never come."""
    hub = forum.box.hub
    with connected(hub) as connection:
        connection.sendall(submission(hub, {"Transfer-Encoding": "chunked"}))
        whole, rest = divmod(MAX_BODY_BYTES + 1, size)
        stream = chunk(b"A" * size) * whole + (chunk(b"A" * rest) if rest else b"")
        connection.sendall(stream)
        problem_of(answer(connection), 413, "envelope_too_large", says=TOO_LARGE)


def test_a_body_in_chunks_is_a_body(forum: TroubledForum) -> None:
    """A streamed submission of the right size gets as far as any other: here, to the log's own rules."""
    hub, analyst = forum.box.hub, forum.aurora.analyst
    body = signed(forum.revision(version=9), analyst).encode()
    headers = {**signing(hub, analyst, "POST", wire.ENTRIES, body), "Transfer-Encoding": "chunked"}
    parts = [chunk(body[start : start + 1000]) for start in range(0, len(body), 1000)]
    response = send_raw(hub, submission(hub, headers), *parts, b"0\r\n\r\n")
    problem_of(response, 409, "version_gap", "version")


def test_a_body_that_is_longer_than_announced(forum: TroubledForum) -> None:
    """The rest is no second request: what the hub would make of it, nobody signed."""
    hub, analyst = forum.box.hub, forum.aurora.analyst
    body = signed(forum.pattern(), analyst).encode()
    headers = {**signing(hub, analyst, "POST", wire.ENTRIES, body), "Content-Length": str(len(body) - 1)}
    problem_of(send_raw(hub, submission(hub, headers), body), 401, "wrong_digest")


def test_a_client_that_leaves_in_the_middle(forum: TroubledForum) -> None:
    hub = forum.box.hub
    with connected(hub) as connection:
        connection.sendall(submission(hub, {"Content-Length": "1000"}) + b'{"payload"')


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Length": "-1"},
        {"Content-Length": "1e3"},
        {"Content-Length": "5, 6"},
        {"Content-Length": "9" * 5000},
        {"Transfer-Encoding": "gzip"},
        {"Transfer-Encoding": "chunked, chunked"},
    ],
)
def test_a_length_that_is_none(forum: TroubledForum, headers: dict[str, str]) -> None:
    hub = forum.box.hub
    assert send_raw(hub, submission(hub, headers), b"hello").status_code == 400


# -- the head ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Long": "a" * 20_000},
        {f"X-Many-{number}": "a" for number in range(1500)},
        {"Signature-Input": f'a=("{"b" * 20_000}")', "Signature": "a=:AA==:"},
    ],
)
def test_oversize_headers(forum: TroubledForum, headers: dict[str, str]) -> None:
    hub = forum.box.hub
    with connected(hub) as connection:
        # Without the end of the head: the hub has had enough before it comes.
        connection.sendall(head(hub, headers).removesuffix(b"\r\n"))
        assert answer(connection).status_code == 400


def test_an_oversize_head_that_is_there_at_once(forum: TroubledForum) -> None:
    """The server only bounds a head that comes in pieces."""
    hub = forum.box.hub
    many = {f"X-Many-{number}": "a" for number in range(MAX_HEADERS)}
    problem_of(send_raw(hub, head(hub, many)), 431, "head_too_large", says=f"{MAX_HEADERS} headers")
    # One of 20,000 bytes may arrive at once or in pieces.
    assert send_raw(hub, head(hub, {"X-Long": "a" * 20_000})).status_code in (400, 431)
    problem_of(send_raw(hub, head(hub, {"X-Many-1": "a", "X-Many-2": "a"})), 401, "unsigned_request")


def test_a_head_that_does_not_come(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.2)
    request = head(hub, {}, target=wire.HEALTH)
    for beginning in (b"", b"G", request[:-2]):
        with connected(hub) as connection:
            connection.sendall(beginning)
            assert connection.recv(100) == b"", "the hub hangs up"


def test_a_head_that_trickles_in(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends a little now and then is hung up on all the same."""
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.3)
    with connected(hub) as connection:
        connection.sendall(head(hub, {}, target=wire.HEALTH)[:-2] + b"X-Long: ")
        connection.settimeout(0.05)

        def hung_up() -> bool:
            try:
                connection.sendall(b"a")
                return connection.recv(100) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        wait_until(hung_up, "the hub is still patient")


def test_who_is_idle_between_requests_is_not_hung_up_on(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.2)
    request = head(hub, {"Connection": "keep-alive"}, target=wire.HEALTH)
    with connected(hub) as connection:
        for _ in range(3):
            connection.sendall(request)
            response = HTTPResponse(connection)
            response.begin()
            assert (response.status, response.read()[:1]) == (200, b"{")
            time.sleep(0.6)


def test_an_oversize_target(forum: TroubledForum) -> None:
    hub = forum.box.hub
    with connected(hub) as connection:
        connection.sendall(f"GET /records?q={'a' * 20_000}".encode())
        assert answer(connection).status_code == 400


def test_two_host_headers(forum: TroubledForum) -> None:
    hub = forum.box.hub
    headers = signing(hub, forum.aurora.sync)
    for second in ("hub.example", urlsplit(hub.url).netloc):
        request = head(hub, headers).replace(b"\r\nConnection", f"\r\nHost: {second}\r\nConnection".encode(), 1)
        assert send_raw(hub, request).status_code == 400


def test_no_host_header(forum: TroubledForum) -> None:
    hub = forum.box.hub
    lines = [line for line in head(hub, signing(hub, forum.aurora.sync)).split(b"\r\n") if b"Host" not in line]
    assert send_raw(hub, b"\r\n".join(lines)).status_code == 400
    # HTTP/1.0 can do without; the signature cannot.
    lines[0] = lines[0].replace(b"1.1", b"1.0")
    problem_of(send_raw(hub, b"\r\n".join(lines)), 400, "bad_request", says="exactly one Host header")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\r\n\r\n",
        b"GET /checkpoint\r\n\r\n",
        b"GET  /checkpoint HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40,
        b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    ],
)
def test_what_is_no_http(forum: TroubledForum, request_bytes: bytes) -> None:
    assert send_raw(forum.box.hub, request_bytes).status_code == 400


def test_a_websocket_is_no_way_in(forum: TroubledForum) -> None:
    hub = forum.box.hub
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
               "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}  # fmt: skip
    problem_of(send_raw(hub, head(hub, headers)), 401, "unsigned_request")
