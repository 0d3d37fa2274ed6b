"""Requests sent to the byte: an HTTP library tidies a target up, and the hub has to stand what nobody tidied."""

from __future__ import annotations

import http.client
import secrets
from datetime import datetime
from urllib.parse import urlsplit

import httpx

from hub.app import utc_now
from sharing_protocol.request_signing import sign_request
from tests.forum import ForumInABox, key


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = utc_now().replace(microsecond=0)

    def __call__(self) -> datetime:
        return self.now


def ask(
    box: ForumInABox, target: str, method: str = "GET", headers: tuple[tuple[str, str], ...] = ()
) -> httpx.Response:
    """Send a request signed by Ada, for exactly this target and with exactly these other headers."""
    created, nonce = int(box.hub.clock().timestamp()), secrets.token_urlsafe(18)
    signing = sign_request(method, box.hub.url + target, b"", key("Ada"), created, nonce)
    connection = http.client.HTTPConnection(urlsplit(box.hub.url).netloc, timeout=30)
    try:
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in (*signing.items(), *headers):
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return httpx.Response(answer.status, headers=answer.getheaders(), content=answer.read())
    finally:
        connection.close()
