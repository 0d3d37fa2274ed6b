"""The gate's two sockets, in one event loop, until it is told to end.

Whatever comes in at the one is judged: its method and path are never looked at, so that no path that a client sends can
be taken for another question. Health and metrics are at the other socket, which judges nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from member_client.errors import InvalidInput
from member_client.gate.answering import Answers
from member_client.gate.http_protocol import Conversation, Request
from member_client.gate.live import Gate
from member_client.gate.settings import Address

MAX_CONNECTIONS = 4096
BACKLOG = 2048
SHUTDOWN_SECONDS = 10.0

log = logging.getLogger("stillwatch.gate")


class GateServer:
    """Serves a gate; SIGHUP has it take a new table, SIGTERM and SIGINT end it."""

    def __init__(self, gate: Gate, when_ready: Callable[[], None] = lambda: None) -> None:
        self._gate, self._when_ready = gate, when_ready
        self._answers = Answers(gate)
        self._open: set[Conversation] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending = asyncio.Event()

    def serve_at(self, asked: socket.socket, watched: socket.socket) -> None:
        """Serve at two bound sockets: where gateways ask, and where one looks after the gate."""
        make_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
        with contextlib.suppress(ModuleNotFoundError):  # there is none for Windows
            from uvloop import new_event_loop

            make_loop = new_event_loop
        with asyncio.Runner(loop_factory=make_loop) as runner:
            runner.run(self._serve(asked, watched))

    def stop(self) -> None:
        """End the serving; from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._ending.set)

    async def _serve(self, asked: socket.socket, watched: socket.socket) -> None:
        self._loop = loop = asyncio.get_running_loop()

        def judge(request: Request) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
            return self._answers.judged(request.headers)

        def tell(request: Request) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
            return self._answers.status(request.target.partition(b"?")[0].decode("ascii", "replace"))

        if threading.current_thread() is threading.main_thread():
            for ending in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(ending, self._ending.set)
            loop.add_signal_handler(signal.SIGHUP, self._gate.reload)
        servers = [
            await loop.create_server(
                lambda: Conversation(judge, self._open, MAX_CONNECTIONS), sock=asked, backlog=BACKLOG
            ),
            await loop.create_server(lambda: Conversation(tell, self._open, MAX_CONNECTIONS), sock=watched),
        ]
        # What is there now stays; the collector need never walk through it under a request.
        gc.collect()
        gc.freeze()
        log.info("serving")
        self._when_ready()
        await self._ending.wait()
        log.info("stopping")
        for server in servers:
            server.close()
        closed = [conversation.closed for conversation in self._open]
        for conversation in tuple(self._open):
            conversation.close()  # what was answered is still sent
        if closed:
            await asyncio.wait(closed, timeout=SHUTDOWN_SECONDS)


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
    except (OSError, ValueError) as error:  # ValueError: a name that can be none
        why = getattr(error, "strerror", None) or error
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
