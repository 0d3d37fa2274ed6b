"""Requests that no HTTP library would send: signed for one thing and sent as another, or hardly HTTP at all."""

from __future__ import annotations

import contextlib
import http.client
import secrets
import socket
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

import httpx

from sharing_protocol.request_signing import sign_request
from tests.forum import RunningHub, key


def signing(
    hub: RunningHub,
    signer: str,
    method: str = "GET",
    target: str = "/checkpoint",
    body: bytes = b"",
    *,
    created: int | None = None,
    nonce: str | None = None,
    base: str | None = None,
) -> dict[str, str]:
    """The headers that sign a request; it need not be the one that is sent."""
    created = int(hub.clock().timestamp()) if created is None else created
    url = (base or hub.url) + target
    return dict(sign_request(method, url, body, key(signer), created, nonce or secrets.token_urlsafe(18)))


@contextlib.contextmanager
def connected(hub: RunningHub) -> Iterator[socket.socket]:
    """A plain connection to the hub."""
    address = urlsplit(hub.url)
    assert address.hostname is not None
    with socket.create_connection((address.hostname, address.port or 80), timeout=30) as connection:
        yield connection


def head(hub: RunningHub, headers: Mapping[str, str], method: str = "GET", target: str = "/checkpoint") -> bytes:
    """A request's head; a `Host` among the headers replaces the true one."""
    lines = {"Host": urlsplit(hub.url).netloc, "Connection": "close", **headers}
    fields = [f"{name}: {value}" for name, value in lines.items()]
    return "\r\n".join([f"{method} {target} HTTP/1.1", *fields, "\r\n"]).encode("latin-1")


def answer(connection: socket.socket) -> httpx.Response:
    """Wait for the answer to what was sent."""
    response = http.client.HTTPResponse(connection)
    try:
        response.begin()
        return httpx.Response(response.status, headers=response.getheaders(), content=response.read())
    finally:
        response.close()


def send_raw(hub: RunningHub, *parts: bytes) -> httpx.Response:
    """Send these bytes, and return the answer."""
    with connected(hub) as connection:
        connection.sendall(b"".join(parts))
        return answer(connection)
