"""Calling the lab's other systems: to which URLs, and for how long at most."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx

LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_LABEL = r"[A-Za-z0-9_-]{1,63}"
HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*|[0-9a-f:.]{{2,45}}", re.ASCII)
_TARGET = re.compile(rb"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")


def check_webhook_url(url: str) -> str:
    """A webhook's URL in its one form: https, or http to this machine.

    Raises:
        ValueError: it is none, or has a secret where other users of the machine would see it.
    """
    try:
        parts = httpx.URL(url)
        named = HOST.fullmatch(parts.host)
    except (httpx.InvalidURL, UnicodeError):
        raise ValueError("url is not a URL") from None
    if parts.userinfo or parts.fragment or not named or (parts.port or 1) > 65535:
        raise ValueError("url is an absolute URL without user and fragment")
    if not _TARGET.fullmatch(parts.raw_path):
        raise ValueError("url has characters that have to be percent-encoded")
    if parts.scheme != "https" and (parts.scheme, parts.host in LOCAL) != ("http", True):
        raise ValueError("url begins with https://, or with http:// and is of this machine")
    return f"{parts.scheme}://{(parts.netloc + parts.raw_path).decode()}"


class Watch:
    """Holds the socket that a deadline shuts down."""

    expired = False
    _socket: socket.socket | None = None

    def hold(self, held: socket.socket) -> None:
        """Take the socket of the call."""
        self._socket = held
        if self.expired:
            self.shut()

    def shut(self) -> None:
        """The time is over."""
        self.expired = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def trace(self, event: str, details: dict[str, Any]) -> None:
        """What httpx calls as its extension `trace`: takes the socket of each connection."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self.hold(details["return_value"].get_extra_info("socket"))


@contextlib.contextmanager
def cut_off(seconds: float) -> Iterator[Watch]:
    """Shut the socket down after so many seconds; whoever waits for it gets the end of the stream."""
    watch = Watch()
    timer = threading.Timer(seconds, watch.shut)
    timer.daemon = True
    timer.start()
    try:
        yield watch
    finally:
        timer.cancel()
