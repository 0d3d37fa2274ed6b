"""The gate behind HTTP, for Envoy's ext_authz (HTTP service) and nginx's auth_request.

Whatever comes in at the one socket is judged: its method and path are never looked at, so that no path that a client
sends can be taken for another question. Health and metrics are at the other socket, which judges nothing.

What a request claims is believed as the gateway wrote it. One that says two things at once (a header twice), or what no
id can be, is refused: the gateway has let a client's header through.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import math
import signal
import socket
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from pathlib import Path
from typing import Any

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from member_client.errors import InvalidInput
from member_client.gate.live import Gate
from member_client.gate.metrics import GateCollector
from member_client.gate.pace import Pace
from member_client.gate.settings import Address
from member_client.gate.table import MAX_ID_BYTES
from member_client.gate.verdict import BLOCK, MALFORMED, STALE, THROTTLE, UNREADABLE, Verdict

MAX_HEAD_BYTES = 64 * 1024
MAX_CONNECTIONS = 4096
KEEP_ALIVE_SECONDS = 3700
"""Longer than Envoy (an hour) and nginx (a minute) keep a connection: they close it, and never under a request."""
SHUTDOWN_SECONDS = 10
MAX_ADDRESS_BYTES = 4096

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

log = logging.getLogger("stillwatch.gate")

_OVERSIZED = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n"
    b"x-stillwatch-action: block\r\nx-stillwatch-reason: malformed\r\n\r\n"
)
_DETAILS = {
    BLOCK: "Access is suspended.",
    THROTTLE: "Too many requests.",
}


class Application:
    """The raw ASGI application of both sockets."""

    def __init__(self, gate: Gate) -> None:
        settings = gate.settings
        self.gate = gate
        self.answers: Counter[tuple[str, str]] = Counter()
        self._settings = settings
        self._names = {
            settings.account_header.encode(): 0,
            settings.organisation_header.encode(): 1,
            settings.model_header.encode(): 2,
        }
        self._address_header = settings.address_header.encode() if settings.trusted_hops else b""
        self._pace = Pace(settings.throttle_per_minute)
        self._registry = CollectorRegistry()
        self._registry.register(GateCollector(gate, self.answers))
        self.status_socket: str | int = 0
        """By which requests at the socket for health and metrics are known: its port, or its path."""

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Serve one request."""
        host, port = scope["server"] or ("", 0)
        if (port or host) == self.status_socket:
            status, headers, body = self._status(scope["path"])
        else:
            status, headers, body = self.answer(scope["headers"])
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def answer(self, headers: Iterable[tuple[bytes, bytes]]) -> tuple[int, Headers, bytes]:
        """Judge a request by its headers."""
        verdict = self._judge(headers)
        self.answers[verdict.action, verdict.reason] += 1
        told: Headers = [
            (b"x-stillwatch-action", verdict.action.encode()),
            (b"x-stillwatch-reason", verdict.reason.replace(" ", "-").encode()),
        ]
        if verdict.age is not None:
            told.append((b"x-stillwatch-age-seconds", b"%d" % verdict.age))
        if verdict.decision:
            told.append((b"x-stillwatch-decision", verdict.decision.encode()))
        if verdict.reason in (STALE, UNREADABLE):
            told.append((b"x-stillwatch-fail", b"closed" if verdict.action == BLOCK else b"open"))
        if verdict.allowed:
            told.append((b"content-length", b"0"))
            return 200, told, b""
        status = 403
        if verdict.action == THROTTLE:
            wait = self._pace.wait(verdict.decision, asyncio.get_running_loop().time())
            status = self._settings.throttle_status if wait else 200
            if wait:
                told.append((b"retry-after", b"%d" % math.ceil(wait)))
        if status == 200:
            told.append((b"content-length", b"0"))
            return 200, told, b""
        body = _problem(status, verdict)
        told += [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body))]
        return status, told, body

    def _judge(self, headers: Iterable[tuple[bytes, bytes]]) -> Verdict:
        """What the headers claim, and the verdict on it."""
        claims: list[bytes | None] = [None, None, None]
        forwarded: list[bytes] = []
        for name, value in headers:
            place = self._names.get(name)
            if place is not None:
                if claims[place] is not None or len(value) > MAX_ID_BYTES:
                    return self._malformed()
                claims[place] = value.strip(b" \t")
            elif name == self._address_header:
                forwarded.append(value)
        try:
            account, organisation, model = ((claim or b"").decode() for claim in claims)
        except UnicodeDecodeError:
            return self._malformed()
        address = client_address(forwarded, self._settings.trusted_hops) if forwarded else ""
        return self.gate.check(account, organisation, address, model)

    def _malformed(self) -> Verdict:
        return Verdict(BLOCK, MALFORMED, age=self.gate.condition().age)

    def _status(self, path: str) -> tuple[int, Headers, bytes]:
        kind = b"text/plain; charset=utf-8"
        if path == "/healthz":
            status, body = 200, b"ok\n"
        elif path == "/readyz":
            status, body = self._readiness()
            kind = b"application/json"
        elif path == "/metrics":
            status, body, kind = 200, generate_latest(self._registry), CONTENT_TYPE_LATEST.encode()
        else:
            status, body = 404, b"there are /healthz, /readyz and /metrics\n"
        return status, [(b"content-type", kind), (b"content-length", b"%d" % len(body))], body

    def _readiness(self) -> tuple[int, bytes]:
        """503 as long as requests are not judged by the decisions; a failed reload alone does not make it so."""
        condition = self.gate.condition()
        facts = condition.facts
        document: dict[str, Any] = {
            "ready": condition.ready,
            "age_seconds": None if condition.age is None else int(condition.age),
            "stale": condition.stale,
            "fail": facts.fail if facts else self._settings.without_data,
            "stale_after_seconds": facts.stale_after if facts else None,
            "rows": facts.rows if facts else None,
            "generation": facts.generation if facts else None,
            "reloads": condition.reloads,
            "failed_reloads": condition.failures,
            "reload_error": condition.error or None,
        }
        return 200 if condition.ready else 503, json.dumps(document).encode() + b"\n"


def client_address(forwarded: Iterable[bytes], trusted_hops: int) -> str:
    """The client's address as the outermost proxy that can be believed wrote it, "" if there is none.

    Args:
        forwarded: the values of the header, in their order. What a client sent stands on the left of what proxies add.
    """
    whole = b",".join(forwarded)
    if not trusted_hops or len(whole) > MAX_ADDRESS_BYTES:
        return ""
    entries = whole.split(b",")
    if len(entries) < trusted_hops:
        return ""
    return entries[-trusted_hops].strip(b" \t").decode("ascii", "replace")


def _problem(status: int, verdict: Verdict) -> bytes:
    """RFC 9457. It names the decision, so that a customer can appeal, and nothing of what led to it."""
    title = "Too Many Requests" if verdict.action == THROTTLE else "Forbidden"
    document = {"type": "about:blank", "title": title, "status": status, "detail": _DETAILS[verdict.action]}
    if verdict.decision:
        document["instance"] = f"urn:stillwatch:{verdict.decision}"
    return json.dumps(document).encode()


class _BoundedHead(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 by httptools, with a bound that it lacks: on how long the head of a request may grow."""

    _in_head = True
    _grown = 0

    @override
    def data_received(self, data: bytes) -> None:
        # What comes while a head is not whole is more of it, to the last byte unless it ends in there.
        growing = self._in_head
        super().data_received(data)
        if growing and self._in_head:
            self._grown += len(data)
            if self._grown > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.transport.write(_OVERSIZED)
                self.transport.close()

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    @override
    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._in_head, self._grown = False, 0

    @override
    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head = True


class GateServer(uvicorn.Server):
    """Serves a gate at its two sockets until it is told to end; SIGHUP has it take a new table."""

    def __init__(self, gate: Gate, when_ready: Callable[[], None] = lambda: None) -> None:
        self._application = Application(gate)
        self._gate, self._when_ready = gate, when_ready
        super().__init__(
            uvicorn.Config(
                self._application,
                http=_BoundedHead,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                limit_concurrency=MAX_CONNECTIONS,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            )
        )

    def serve_at(self, listening: socket.socket, status: socket.socket) -> None:
        """Serve at two bound sockets."""
        name = status.getsockname()
        self._application.status_socket = name if isinstance(name, str) else name[1]
        self.run([listening, status])

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._gate.reload)
        # What is there now stays; the collector need never walk through it under a request.
        gc.collect()
        gc.freeze()
        self._when_ready()


def listen(address: Address) -> socket.socket:
    """Bind a socket; one of the Unix kind may be used by the user and the group.

    Raises:
        InvalidInput: that cannot be had.
    """
    try:
        if address.path:
            return _listen_unix(Path(address.path))
        family, kind, protocol, _, where = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(where)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        why = error.strerror or error
        raise InvalidInput(f"cannot listen on {address}: {why}", "choose another address") from error
    return listener


def address_of(listener: socket.socket) -> str:
    """A bound socket's address, as `Address` writes it."""
    name = listener.getsockname()
    return str(Address("", 0, name) if isinstance(name, str) else Address(*name[:2]))


def _listen_unix(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            try:
                listener.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()  # left by a gate that was killed
            else:
                raise OSError("another process listens there")
        listener.bind(str(path))
        path.chmod(0o660)
    except OSError:
        listener.close()
        raise
    return listener
