"""The HTTP server process: a socket that is bound before anything else starts, and a word when it is ready."""

import logging
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from importlib.metadata import version
from typing import Protocol

import uvicorn
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from hub.errors import HubError
from hub.http_protocol import PunctualH11
from hub.settings import HubSettings

MAX_HEADER_BYTES = 16 * 1024
SHUTDOWN_SECONDS = 15
KEEP_ALIVE_SECONDS = 75
# For TLS 1.2, what has forward secrecy and authenticated encryption (RFC 9325); TLS 1.3 has nothing else.
TLS_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"

log = logging.getLogger("hub")


class Application(Protocol):
    """An ASGI application that is started before it serves, and can be told to let waiting requests go."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""

    def release(self) -> None:
        """Answer the requests that only wait."""

    @property
    def running(self) -> Callable[[], AbstractAsyncContextManager[None]]:
        """Starts the application and, at the end, stops it."""


class HubServer(uvicorn.Server):
    """A uvicorn server that says when it accepts requests, and lets those who wait go before it stops."""

    def __init__(
        self, application: Application, when_ready: Callable[[], None], settings: HubSettings | None = None
    ) -> None:
        settings = settings or HubSettings()
        super().__init__(
            uvicorn.Config(
                application,
                http=PunctualH11,  # unlike httptools, h11 bounds the size of headers
                h11_max_incomplete_event_size=MAX_HEADER_BYTES,
                ws="none",
                lifespan="off",  # `running` instead: why we cannot start is an exception, not a traceback in the log
                log_config=None,
                access_log=False,
                server_header=False,
                # Only who the address says is a proxy may say where a request really came from.
                proxy_headers=bool(settings.trusted_proxies),
                forwarded_allow_ips=list(settings.trusted_proxies),
                ssl_certfile=settings.tls_certificate,
                ssl_keyfile=settings.tls_key,
                ssl_ciphers=TLS_CIPHERS,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            )
        )
        try:
            self.config.load()
        except OSError as error:
            raise HubError("tls", f"the TLS certificate or its key cannot be used: {error}") from error
        self._application = application
        self._when_ready = when_ready
        self._running = AsyncExitStack()

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self._running.enter_async_context(self._application.running())
        await super().startup(sockets)
        if self.started and not self.should_exit:
            self._when_ready()
            addresses = [listener.getsockname()[:2] for listener in sockets or ()]
            log.info("serving", extra={"version": version("stillwatch"), "addresses": addresses})

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        log.info("stopping")
        self._application.release()
        await super().shutdown(sockets)
        if not self.force_exit:
            await self._running.aclose()
        log.info("stopped")


def listen(host: str, port: int) -> socket.socket:
    """Bind a TCP socket; port 0 takes any that is free.

    Raises:
        HubError: `cannot_listen`.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise HubError("cannot_listen", f"cannot listen on {host} port {port}: {error.strerror or error}") from error
    return listener


def url_of(listener: socket.socket, scheme: str = "http") -> str:
    """The URL of a bound socket."""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
