"""What hooks tell: a real web server and a real mail server, which can be slow, broken or rude."""

from __future__ import annotations

import base64
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class WebServer:
    """Answers POSTs.

    Attributes:
        answers: status and headers of the next ones; 204 when it is empty.
        before: called with each request before it is answered.
        drip: instead of a whole answer, a byte of a header every so many seconds, without end.
        large: bytes of content to answer with.
    """

    port: int = 0
    received: list[Received] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    before: Callable[[Received], None] = lambda request: None
    drip: float = 0.0
    large: int = 0

    scheme: str = "http"

    def url(self, path: str = "/hook") -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}{path}"


@contextmanager
def web_server(certificate: Path | None = None) -> Iterator[WebServer]:
    state = WebServer(scheme="http" if certificate is None else "https")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = Received(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            state.received.append(request)
            state.before(request)
            try:
                self._answer()
            except OSError:
                self.close_connection = True

        def _answer(self) -> None:
            if state.drip:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                while True:
                    self.wfile.write(b"x")
                    time.sleep(state.drip)
            status, headers = state.answers.pop(0) if state.answers else (204, {})
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(state.large))
            self.end_headers()
            for _ in range(0, state.large, 65536):
                self.wfile.write(b"x" * 65536)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    state.port = server.server_address[1]
    if certificate is not None:
        server.socket = _tls(certificate).wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    with _serving(server):
        yield state


@dataclass
class MailServer:
    """Takes mail.

    Attributes:
        certificate: with its key beside it; offers STARTTLS if there is one.
        login: `user\\0password` that it wants over TLS; "" for none.
        replies: what the next commands of a verb are answered with, instead of being done.
        flood: answers every greeting with lines without end.
        mails: what it took, with the recipients.
    """

    port: int = 0
    certificate: Path | None = None
    login: str = ""
    replies: dict[str, list[str]] = field(default_factory=dict)
    flood: bool = False
    mails: list[tuple[list[str], EmailMessage]] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)


@contextmanager
def mail_server(certificate: Path | None = None, *, implicit: bool = False, login: str = "") -> Iterator[MailServer]:
    state = MailServer(certificate=certificate, login=login)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError, ValueError):  # the client went away
                _Mailing(state, self._wrapped() if implicit else self.request, over_tls=implicit).run()

        def _wrapped(self) -> ssl.SSLSocket:
            return _tls(state.certificate).wrap_socket(self.request, server_side=True)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    server = Server(("127.0.0.1", 0), Handler)
    state.port = server.server_address[1]
    with _serving(server):
        yield state


class _Mailing:
    """One session (RFC 5321), with STARTTLS (RFC 3207) and AUTH PLAIN (RFC 4954)."""

    def __init__(self, state: MailServer, connection: Any, *, over_tls: bool) -> None:
        self.state, self.connection, self.over_tls = state, connection, over_tls
        self.file = connection.makefile("rb")
        self.recipients: list[str] = []
        self.may_send = not state.login

    def run(self) -> None:
        self.say("220 mail.example")
        if self.state.flood:
            while True:
                self.say("220-" + "x" * 500)
        while line := self.file.readline(2000):
            verb, _, rest = line.decode().strip().partition(" ")
            self.state.commands.append(verb.upper())
            if forced := self.state.replies.get(verb.upper()):
                self.say(forced.pop(0))
                continue
            if verb.upper() == "QUIT":
                self.say("221 bye")
                break
            getattr(self, f"do_{verb.lower()}")(rest)
        self.connection.close()

    def say(self, line: str) -> None:
        self.connection.sendall(f"{line}\r\n".encode())

    def do_ehlo(self, rest: str) -> None:
        offers = ["mail.example"]
        if self.state.certificate is not None and not self.over_tls:
            offers.append("STARTTLS")
        if self.state.login and self.over_tls:
            offers.append("AUTH PLAIN")
        for offer in offers[:-1]:
            self.say(f"250-{offer}")
        self.say(f"250 {offers[-1]}")

    def do_helo(self, rest: str) -> None:
        self.say("250 mail.example")

    def do_starttls(self, rest: str) -> None:
        self.say("220 go ahead")
        self.connection = _tls(self.state.certificate).wrap_socket(self.connection, server_side=True)
        self.file, self.over_tls = self.connection.makefile("rb"), True

    def do_auth(self, rest: str) -> None:
        given = base64.b64decode(rest.partition(" ")[2]).decode().strip("\0")
        self.may_send = self.over_tls and given == self.state.login
        self.say("235 welcome" if self.may_send else "535 no")

    def do_mail(self, rest: str) -> None:
        self.say("250 ok" if self.may_send else "530 log in first")

    def do_rcpt(self, rest: str) -> None:
        address = rest.partition("<")[2].partition(">")[0]
        if address.startswith("nobody"):
            self.say("550 no such mailbox")
            return
        self.recipients.append(address)
        self.say("250 ok")

    def do_data(self, rest: str) -> None:
        self.say("354 go on")
        lines = list(iter(self.file.readline, b".\r\n"))
        mail = message_from_bytes(b"".join(lines), policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.state.mails.append((self.recipients, mail))
        self.recipients = []
        self.say("250 taken")

    def do_rset(self, rest: str) -> None:
        self.recipients = []
        self.say("250 ok")


def make_certificate(folder: Path) -> Path:
    """A certificate that signed itself, for 127.0.0.1, with its key beside it."""
    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a mail server for tests")])
    made = (
        x509.CertificateBuilder(name, name, secret.public_key(), x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(secret, hashes.SHA256())
    )
    certificate = folder / "mail.pem"
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    pem = secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    certificate.with_suffix(".key").write_bytes(pem)
    return certificate


def _tls(certificate: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert certificate is not None
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    return context


@contextmanager
def _serving(server: socketserver.TCPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
