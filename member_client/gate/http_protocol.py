"""HTTP/1.1 for questions without bodies that are answered at once: llhttp reads, and one write answers.

A web framework would cost several times what the verdict does. Each question is answered when its head is whole, in the
order in which they come; a body that follows is read and dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import NamedTuple

import httptools
from typing_extensions import override

MAX_HEAD_BYTES = 64 * 1024
"""As long as it comes in pieces; one that comes in one is of the size of a read, 256 kB at most."""
HEAD_SECONDS = 20.0
IDLE_SECONDS = 3700.0
"""Longer than Envoy (an hour) and nginx (a minute) keep a connection: they close it, and never under a request."""

_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_REFUSED = b"HTTP/1.1 %d %b\r\ncontent-length: 0\r\nconnection: close\r\nx-stillwatch-action: block\r\n\r\n"
_BAD_REQUEST = _REFUSED % (400, b"Bad Request")
_TOO_LARGE = _REFUSED % (431, b"Request Header Fields Too Large")


class Request(NamedTuple):
    """The head of a request; the names of headers are in lower case."""

    target: bytes
    headers: list[tuple[bytes, bytes]]


Answering = Callable[[Request], tuple[int, Iterable[tuple[bytes, bytes]], bytes]]


class Conversation(asyncio.Protocol):
    """One connection."""

    def __init__(self, answering: Answering, open_now: set[Conversation], limit: int) -> None:
        """Answer requests.

        Args:
            open_now: where connections stand while they are open; beyond `limit` of them no more is taken.
        """
        self._answering, self._open, self._limit = answering, open_now, limit
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._target, self._headers = b"", list[tuple[bytes, bytes]]()
        self._out: list[bytes] = []
        self._in_head, self._goes_on, self._grown = False, False, 0
        self._ends = False
        self._heard = 0.0
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the connection is closed."""

    def close(self) -> None:
        """Close the connection when all that was answered is sent."""
        if self._transport is not None:
            self._transport.close()

    # -- asyncio -------------------------------------------------------------------------------------------------

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # always one of these
        self._transport = transport
        if len(self._open) >= self._limit:
            transport.abort()
            return
        self._open.add(self)
        self._heard = asyncio.get_running_loop().time()
        self._watch()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self)
        self._transport = None
        self.closed.set_result(None)
        if self._timer is not None:
            self._timer.cancel()

    @override
    def data_received(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or self._ends:
            return
        self._goes_on = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._ends = True  # answered like any other, and what follows is no HTTP
        except httptools.HttpParserError:
            if not self._ends:
                self._out.append(_BAD_REQUEST)
                self._ends = True
        # The parser keeps what it has of a head, or of trailers after a body, until that is whole.
        self._grown = 0 if self._goes_on else self._grown + len(data)
        if self._grown > MAX_HEAD_BYTES:
            if self._in_head:
                self._out.append(_TOO_LARGE)
            self._ends = True
        if self._out:
            transport.write(b"".join(self._out))
            self._out.clear()
        if self._ends:
            transport.close()

    @override
    def pause_writing(self) -> None:
        # Who does not read what was answered gets nothing more answered.
        if self._transport is not None:
            self._transport.pause_reading()

    @override
    def resume_writing(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _watch(self) -> None:
        """Look from time to time whether a head was begun and does not come to its end, or nothing comes at all."""
        if self._transport is None:
            return
        loop = asyncio.get_running_loop()
        silent = loop.time() - self._heard
        if silent >= (HEAD_SECONDS if self._in_head else IDLE_SECONDS):
            self._transport.abort()
        else:
            self._timer = loop.call_later(HEAD_SECONDS, self._watch)

    # -- httptools -----------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        self._target, self._headers = b"", []
        self._in_head = self._goes_on = True
        self._heard = asyncio.get_running_loop().time()

    def on_url(self, part: bytes) -> None:
        """Its target, or a piece of it."""
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; or a trailer, which says nothing any more."""
        if self._in_head:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._in_head = False
        if self._ends:
            return  # said, before it, that it was the last
        parser = self._parser
        status, headers, body = self._answering(Request(self._target, self._headers))
        out = self._out
        out.append(_LINES[status])
        for name, value in headers:
            out += (name, b": ", value, b"\r\n")
        if not parser.should_keep_alive() or parser.get_http_version() == "1.0":
            self._ends = True
            out.append(b"connection: close\r\n")
        out.append(b"content-length: %d\r\n\r\n" % len(body))
        if body and parser.get_method() != b"HEAD":
            out.append(body)

    def on_body(self, part: bytes) -> None:  # noqa: ARG002 - it is dropped
        """A piece of the body."""
        self._goes_on = True

    def on_message_complete(self) -> None:
        """All of it has come."""
        self._goes_on = True
