"""Real proxies before a gate, by the configurations of docs/gate, and the API behind them."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from typing_extensions import override

from tests.gate.decided import wait_until


class Api(ThreadingHTTPServer):
    """An API that answers with what it was sent."""

    daemon_threads = True

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @override
    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers.get("content-length", 0)))
        # An API's own 401 is no word of the gate's.
        status = 401 if self.path == "/unauthorised" else 200
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = json.dumps({"path": self.path, "headers": headers, "body": sent.decode()}).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST  # noqa: N815 - the base class finds its methods by these names


@contextmanager
def api() -> Iterator[Api]:
    server = Api(("127.0.0.1", 0), _Echo)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def adapted(configuration: Path, folder: Path, changes: dict[str, str]) -> Path:
    """The documented configuration, with the addresses and the paths of this test."""
    text = configuration.read_text()
    for written, ours in changes.items():
        assert written in text, f"{written} is not in {configuration}"
        text = text.replace(written, ours)
    changed = folder / configuration.name
    changed.write_text(text)
    return changed


@contextmanager
def proxy(command: Sequence[str], port: int, log: Path) -> Iterator[str]:
    """A proxy at work; gives its URL."""
    with log.open("wb") as written, subprocess.Popen(command, stdout=written, stderr=written) as process:
        try:
            wait_until(lambda: process.poll() is not None or _answers(port), "the proxy does not get ready")
            assert process.poll() is None, log.read_text()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True
