"""HTTP with next to no cost on the client's side, so that it is the hub that is measured.

Requests are signed before the clock starts; what is left is to send bytes and to read as many as the answer announces.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self
from urllib.parse import urlsplit

from sharing_protocol.keys import PrivateKey
from sharing_protocol.request_signing import sign_request
from sharing_protocol.wire import BULK_ENTRIES, ENTRIES, ENVELOPE_MEDIA_TYPE
from tests.bench.figures import BenchFailed

PATIENCE_SECONDS = 90.0
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


def request(
    method: str, url: str, target: str, signer: PrivateKey, content: bytes = b"", accept: str = "identity"
) -> bytes:
    """A signed request, ready to be sent within the next minute."""
    nonce = secrets.token_urlsafe(18)
    headers = dict(sign_request(method, url + target, content, signer, int(time.time()), nonce))
    headers |= {"Host": urlsplit(url).netloc, "Accept-Encoding": accept}
    if content:
        headers |= {"Content-Length": str(len(content)), "Content-Type": ENVELOPE_MEDIA_TYPE}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + content


def submission(url: str, entry: bytes, signer: PrivateKey) -> bytes:
    """The request that submits an envelope."""
    return request("POST", url, ENTRIES, signer, entry)


def bulk_submission(url: str, entries: Sequence[bytes], signer: PrivateKey) -> bytes:
    """The request that submits many envelopes."""
    return request("POST", url, BULK_ENTRIES, signer, b"\n".join(entries))


class Connection:
    """One keep-alive connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def exchange(self, sent: bytes) -> tuple[int, bytes]:
        """Status and body."""
        self._socket.sendall(sent)
        got = b""
        while (end := got.find(b"\r\n\r\n")) < 0:
            got += self._receive()
        status, length = _head(got[: end + 2])
        while len(got) < end + 4 + length:
            got += self._receive()
        return status, got[end + 4 :]

    def submit(self, sent: bytes) -> None:
        """Send a submission that must be taken."""
        status, body = self.exchange(sent)
        if status != 201:
            raise BenchFailed(f"the hub answered {status}: {body[:300].decode(errors='replace')}")

    def submit_all(self, sent: bytes) -> None:
        """Send a bulk submission of which every envelope must be taken."""
        status, body = self.exchange(sent)
        if status != 200 or any(one.get("already_logged") is not False for one in json.loads(body)):
            raise BenchFailed(f"the hub answered {status}: {body[-300:].decode(errors='replace')}")

    def _receive(self) -> bytes:
        if not (part := self._socket.recv(65_536)):
            raise BenchFailed("the hub closed the connection")
        return part


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body, off a stream."""
    status, length = _head(await reader.readuntil(b"\r\n\r\n"))
    return status, await reader.readexactly(length)


def _head(head: bytes) -> tuple[int, int]:
    length = _LENGTH.search(head)
    if length is None:
        raise BenchFailed("the hub's answer has no Content-Length")
    return int(head[9:12]), int(length[1])


Worker = Callable[[threading.Barrier], None]
"""Prepares itself, waits at the barrier, and works."""


def at_once(workers: Sequence[Worker]) -> float:
    """Let workers begin together, a thread each; gives the seconds until the last has ended."""
    barrier = threading.Barrier(len(workers) + 1, timeout=PATIENCE_SECONDS)
    with ThreadPoolExecutor(len(workers)) as threads:
        working = [threads.submit(worker, barrier) for worker in workers]
        barrier.wait()
        begun = time.perf_counter()
        for one in working:
            one.result()
        return time.perf_counter() - begun
