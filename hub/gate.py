"""What every request passes before a route sees it: an id, bounds of size, time and number, and authentication.

Nothing but `/healthz` and `/readyz` is answered to a stranger, and that holds for routes that somebody adds later
too: the gate stands before the router. It is the outermost layer, so every error, ours or theirs, leaves as a problem
document.

The id is the gate's own. An `X-Request-Id` that comes in is ignored, whoever sends it: a log line whose id a client
may choose proves nothing. A proxy can log the one in the answer.
"""

import asyncio
import logging
import math
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub import problems
from hub.authentication import Authenticator, Caller, Request
from hub.database.connections import NO_ANSWER
from hub.directory import Directory
from hub.errors import DatabaseSilent, Denied, HubError
from hub.instruments import Instruments
from hub.limits import Limits, Place
from hub.metrics import UNROUTED
from hub.settings import HubSettings
from hub.tracing import Span
from sharing_protocol.envelope import MAX_ENVELOPE_BYTES
from sharing_protocol.errors import Malformed, ProtocolError
from sharing_protocol.wire import BULK_ENTRIES, ENTRIES, HEALTH, MAX_BULK_BYTES, PROPOSALS, READY

MAX_BODY_BYTES = MAX_ENVELOPE_BYTES
MAX_HEAD_BYTES = 16 * 1024
MAX_HEADERS = 100
STRANGER_SECONDS = 10.0
"""For the body of a request whose sender is not known yet."""

_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")

_access = logging.getLogger("hub.access")
_log = logging.getLogger(__name__)


class _Exchange:
    """One request and what is known of its response."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope = scope
        self.state: dict[str, Any] = scope.setdefault("state", {})
        self.request_id = secrets.token_hex(8)
        self.begun = time.perf_counter()
        self.caller: Caller | None = None
        self.place: Place | None = None
        self.status = 0
        self.sent_bytes = 0
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)["X-Request-Id"] = self.request_id
        elif message["type"] == "http.response.body":
            self.sent_bytes += len(message.get("body", b""))
        await self._send(message)

    @property
    def problem(self) -> str:
        """Code of the problem that it is answered with, "" for none; routes leave it in the state."""
        code: str = self.state.get("problem", "")
        return code

    @property
    def seconds(self) -> float:
        """How long it took, waiting for the log to grow not counted."""
        return time.perf_counter() - self.begun - (self.place.waited if self.place else 0.0)

    def log(self) -> None:
        _access.info(
            "request",
            extra={
                "request_id": self.request_id,
                "method": self.scope["method"],
                "path": self.scope["path"],
                "status": self.status,
                "problem": self.problem,
                "key_id": self.caller.key_id[:16] if self.caller else "",
                "client": self.scope["client"][0] if self.scope.get("client") else "",
                "bytes": self.sent_bytes,
                "milliseconds": round(self.seconds * 1000, 1),
                "waited": round(self.place.waited, 1) if self.place else 0.0,
            },
        )


class Gate:
    """Wraps the application.

    Args:
        routes: the templates of the paths of plain routes, by endpoint; FastAPI's say their own.
    """

    def __init__(
        self,
        application: ASGIApp,
        authenticator: Authenticator,
        directory: Directory,
        limits: Limits,
        instruments: Instruments,
        settings: HubSettings,
        routes: Mapping[object, str],
    ) -> None:
        self._application = application
        self._authenticator = authenticator
        self._directory = directory
        self._limits = limits
        self._metrics, self._tracing = instruments.metrics, instruments.tracing
        self._timeout = settings.request_timeout
        self._public = urlsplit(settings.public_url.rstrip("/")) if settings.public_url else None
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no websockets here; the server refuses the upgrade by itself
        exchange = _Exchange(scope, send)
        exchange.state["request_id"] = exchange.request_id
        with self._tracing.span("request", {"stillwatch.request_id": exchange.request_id}) as span:
            try:
                await self._answer(exchange, receive)
            finally:
                self._tell(exchange, span)

    async def _answer(self, exchange: _Exchange, receive: Receive) -> None:
        try:
            async with asyncio.timeout(self._timeout) as ends:
                await self._serve(exchange, receive, ends)
        except TimeoutError:
            await self._fail(exchange, Denied("request_timeout", "the request took too long to come, or to serve"))
        except (ProtocolError, HubError) as error:
            await self._fail(exchange, error)
        except NO_ANSWER as error:
            _log.error("the database does not answer: %s", error, extra={"request_id": exchange.request_id})
            await self._fail(exchange, DatabaseSilent())
        except Exception as error:  # noqa: BLE001 - the outermost layer: nothing unforeseen may leave as it is
            if exchange.state.get("answered") is error:
                return  # the application logged and answered it, and raised it again
            _log.exception("unforeseen error", extra={"request_id": exchange.request_id})
            await self._fail(exchange, error)

    async def _serve(self, exchange: _Exchange, receive: Receive, ends: asyncio.Timeout) -> None:
        scope = exchange.scope
        headers = Headers(scope=scope)
        most = MAX_BULK_BYTES if _is_bulk(scope) else MAX_BODY_BYTES
        size = _refuse_large(scope, headers, most)
        if scope["path"] in (HEALTH, READY):
            exchange.state["body"] = b""
            await self._application(scope, receive, exchange.send)
            return
        head = self._request(scope)
        recognised = self._authenticator.recognise(head)
        submits = head.method == "POST" and head.path in (ENTRIES, BULK_ENTRIES, PROPOSALS)
        # A place is worth the memory of the largest envelope.
        places = max(1, math.ceil(size / MAX_BODY_BYTES))
        if recognised is None:
            with self._limits.stranger(places):
                async with asyncio.timeout(STRANGER_SECONDS):
                    body = await _read_body(receive, most)
                exchange.caller = await self._authenticator.authenticate(replace(head, body=body), None)
            member = self._directory.member_of(exchange.caller.key_id)
            self._limits.check_rates(member, submits=submits)
        else:
            member = self._directory.member_of(recognised.signed.key_id)
            self._limits.check_rates(member, submits=submits)
        with self._limits.at_work(member, ends, submits=submits, places=places) as place:
            exchange.place = exchange.state["place"] = place
            if recognised is not None:
                body = await _read_body(receive, most)
                exchange.caller = await self._authenticator.authenticate(replace(head, body=body), recognised)
            self._limits.count(member, submits=submits)
            self._metrics.saw(member)
            exchange.state["caller"], exchange.state["body"] = exchange.caller, body
            await self._application(scope, _replay(body, receive), exchange.send)

    def _tell(self, exchange: _Exchange, span: Span) -> None:
        """Log, count and trace a request that is over."""
        exchange.log()
        scope = exchange.scope
        route: str = getattr(scope.get("route"), "path", None) or self._routes.get(scope.get("endpoint"), UNROUTED)
        method: str = scope["method"]
        self._metrics.answered(method, route, exchange.status, exchange.problem, exchange.seconds)
        span.rename(f"{method} {route}" if route != UNROUTED else method)
        span.note({"http.request.method": method, "http.route": route, "http.response.status_code": exchange.status})
        if exchange.problem:
            span.note({"error.type": exchange.problem})

    def _request(self, scope: Scope) -> Request:
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        hosts = [value for name, value in headers if name.lower() == "host"]
        if len(hosts) != 1:
            raise Malformed("bad_request", "a request has exactly one Host header")
        # As it was sent: the signature covers these very characters, before any decoding.
        target = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode("latin-1")
        # The signature is checked against the URL that host and target make together. A delimiter of the one in the
        # other ("hub/checkpoint#" and "/members") would let a signature for one target pass for another.
        if not target.startswith("/") or "#" in target:
            raise Malformed("bad_request", "a request's target is a path and perhaps a query, nothing else")
        if self._public is not None:
            prefix = f"{self._public.scheme}://{self._public.netloc}{self._public.path}"
        elif not _HOST.fullmatch(hosts[0]):
            raise Malformed("bad_request", "a Host header is a host and perhaps a port, nothing else")
        else:
            prefix = f"{scope['scheme']}://{hosts[0]}"
        return Request(scope["method"], prefix + target, scope["path"], headers)

    async def _fail(self, exchange: _Exchange, error: Exception) -> None:
        problem = problems.problem_of(error, exchange.request_id)
        exchange.state["problem"] = problem.code
        if exchange.status:
            _log.warning("response broken off", extra={"request_id": exchange.request_id, "problem": problem.code})
            return
        response = problems.respond(error, exchange.request_id)
        await response(exchange.scope, _nothing, exchange.send)


def _is_bulk(scope: Scope) -> bool:
    return (scope["method"], scope["path"]) == ("POST", BULK_ENTRIES)


def _too_large(most: int) -> Malformed:
    code = "envelope_too_large" if most == MAX_BODY_BYTES else "bulk_too_large"
    return Malformed(code, f"a request carries at most {most:,} bytes here")


def _refuse_large(scope: Scope, headers: Headers, most: int) -> int:
    """Refuse what is announced to be too large; gives the bytes to expect of the body at the most.

    A Content-Length is only believed when it is bad news, or when the server counts the body by it.
    """
    # The server bounds a head that comes in pieces, but not one that is there all at once.
    size = len(scope["raw_path"]) + len(scope["query_string"])
    size += sum(len(name) + len(value) + 4 for name, value in scope["headers"])
    if size > MAX_HEAD_BYTES or len(scope["headers"]) > MAX_HEADERS:
        raise Denied(
            "head_too_large", f"a request has at most {MAX_HEADERS} headers, and {MAX_HEAD_BYTES:,} bytes of them"
        )
    announced = headers.get("content-length", "0")
    if not announced.isascii() or not announced.isdigit() or "transfer-encoding" in headers:
        return most
    if int(announced) > most:
        raise _too_large(most)
    return int(announced)


async def _read_body(receive: Receive, most: int) -> bytes:
    """Collect the body, counting what really comes."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Malformed("bad_request", "the client went away")
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise _too_large(most)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the collected body once more, and then what the client does next."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
