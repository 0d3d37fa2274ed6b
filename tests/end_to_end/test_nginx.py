"""Two hubs behind a real nginx with TLS, set up by docs/deploy/nginx.conf; one is killed, and the forum goes on."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from typing_extensions import override

from hub.app import utc_now
from hub.identity import HubIdentity
from hub.settings import HubSettings
from member_client.hub_connection import HubConnection
from member_client.patterns.library import starter
from sharing_protocol import checkpoints, notes, wire
from sharing_protocol.envelope import MAX_ENVELOPE_BYTES
from tests.forum import ForumInABox, Lab, RequestSigning, RunningHub, code_of, key, pattern_body
from tests.hub.hub_process import HubProcess, hub_processes
from tests.member_client.lab_homes import Client, make_home

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
CONFIGURATION = Path("docs/deploy/nginx.conf")
CONNECTIONS = Path("/proc/net/tcp")

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed on this machine")


class ForumBehindTls(ForumInABox):
    """A forum whose members trust the proxy's certificate."""

    trusted: ssl.SSLContext

    @override
    def client(self, key_name: str, **signing: Any) -> httpx.Client:
        signed_by = RequestSigning(key(key_name), **signing)
        return httpx.Client(base_url=self.hub.url, auth=signed_by, timeout=60, verify=self.trusted)


@dataclass(frozen=True)
class Site:
    """What stands at `box.hub.url`."""

    box: ForumBehindTls
    lab: Lab
    hubs: list[HubProcess]
    certificate: Path


def make_certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that no machine trusts by itself, and its key beside it."""
    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test's own authority")])
    made = (
        x509.CertificateBuilder(name, name, secret.public_key(), x509.random_serial_number())
        .not_valid_before(utc_now() - timedelta(days=1))
        .not_valid_after(utc_now() + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(secret, hashes.SHA256())
    )
    pem = secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "tls-key.pem").write_bytes(pem)
    certificate = folder / "tls.pem"
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    return certificate


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def adapt(folder: Path, port: int, hubs: list[HubProcess]) -> Path:
    """The documented configuration, with the addresses and the paths of this test."""
    changes = {f"hub-{number}:8470": hub.url.removeprefix("http://") for number, hub in enumerate(hubs, 1)}
    changes |= {
        "/etc/nginx/tls": str(folder),
        "/run/nginx.pid": str(folder / "nginx.pid"),
        "/var/log/nginx/error.log": str(folder / "error.log"),
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "worker_processes auto": "worker_processes 2",
        "hub.example": "127.0.0.1",
    }
    text = CONFIGURATION.read_text()
    for written, ours in changes.items():
        assert text.count(written) >= 1, f"{written} is not in {CONFIGURATION}"
        text = text.replace(written, ours)
    # Where a distribution's nginx keeps bodies is for root alone.
    built = subprocess.run([str(NGINX), "-V"], capture_output=True, text=True, check=True, timeout=60).stderr
    kinds = ["client_body", "proxy"]
    kinds += [kind for kind in ("fastcgi", "uwsgi", "scgi") if f"--without-http_{kind}_module" not in built]
    places = "".join(f"  {kind}_temp_path {folder / kind};\n" for kind in kinds)
    adapted = folder / "nginx.conf"
    adapted.write_text(text.replace("http {\n", f"http {{\n{places}", 1))
    return adapted


@pytest.fixture(scope="module")
def site(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder, database = tmp_path_factory.mktemp("site"), new_database()
    certificate = make_certificate(folder)
    port, home = free_port(), folder / "home"
    home.mkdir(mode=0o700)
    url = f"https://127.0.0.1:{port}"
    (home / "hub.toml").write_text(f'public_url = "{url}"\ntrusted_proxies = ["127.0.0.1"]\n')
    identity = HubIdentity.load_or_make(home, "forum.example/log")
    with hub_processes(home, database, count=2) as hubs:
        adapted = adapt(folder, port, hubs)
        command = [str(NGINX), "-p", str(folder), "-c", str(adapted), "-g", "daemon off;"]
        tested = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False, timeout=60)
        assert tested.returncode == 0, tested.stderr
        assert "[warn]" not in tested.stderr, tested.stderr
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as nginx:
            try:
                wait_for_port(port, nginx)
                box = ForumBehindTls(RunningHub(url, database, identity))
                box.trusted = ssl.create_default_context(cafile=str(certificate))
                box.found()
                yield Site(box, box.admit("Aurora"), hubs, certificate)
            finally:
                nginx.terminate()


def wait_for_port(port: int, nginx: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except OSError:
            assert nginx.poll() is None, "nginx ended"
            assert time.monotonic() < deadline, "nginx does not get ready"
            time.sleep(0.02)


def size_of(note: bytes) -> int:
    return checkpoints.parse_text(notes.parse(note).text).size


def test_a_lab_submits_and_syncs_through_the_proxy(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = site.box.size()
    aurora = Client(make_home(tmp_path / "aurora", site.box, site.lab), capsys)
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(variable, raising=False)
    assert "CERTIFICATE_VERIFY_FAILED" in aurora.json("sync", code=4)["message"]
    monkeypatch.setenv("SSL_CERT_FILE", str(site.certificate))
    file = tmp_path / "pattern.yaml"
    file.write_text(starter("self-instruct-bootstrapping").text)
    aurora.json("pattern", "submit", str(file))
    assert aurora.json("sync")["entries"] == site.box.size() == before + 1


def test_what_is_too_large_is_refused_by_the_hub_in_its_own_words(site: Site) -> None:
    refused = site.box.post("/entries", b" " * (MAX_ENVELOPE_BYTES + 1), site.lab.analyst)
    assert code_of(refused) == "envelope_too_large"
    with site.box.client("Ada") as client:
        refused = client.get("/checkpoint", headers={"x-much": "a" * 16_000, "x-more": "a" * 4_000})
    assert code_of(refused) == "head_too_large"


def test_the_targets_that_members_sign_pass_unchanged(site: Site) -> None:
    for target in ("/members//x", "/tile/%65ntries/000", "/x?a=%2F&b=+", "/x%2F..%2Fy"):
        response = site.box.get(target)
        assert code_of(response) != "bad_request_signature", target


@pytest.mark.skipif(not CONNECTIONS.exists(), reason="only Linux lists its TCP connections in a file")
def test_a_killed_hub_costs_no_member_a_request(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(site.certificate))
    url, before = site.box.hub.url, site.box.size()
    with ThreadPoolExecutor(8) as pool:

        def follow(_: int) -> int:
            with HubConnection(url, key(site.lab.sync)) as connection:
                return size_of(connection.next_checkpoint(after=before, wait=50))

        following = [pool.submit(follow, number) for number in range(8)]
        deadline = time.monotonic() + 60
        while sum(connections(hub) for hub in site.hubs) < 8 or not all(connections(hub) for hub in site.hubs):
            assert time.monotonic() < deadline, "the followers are not with both hubs"
            time.sleep(0.05)
        site.hubs[0].kill()
        with HubConnection(url, key(site.lab.analyst)) as connection:
            for _ in range(20):
                assert size_of(connection.checkpoint()) == before
            made = site.box.record(site.lab, pattern_body())
            receipt = connection.send(wire.ENTRIES, made.encode(), wire.Receipt)
        assert receipt.index == before
        assert [one.result(timeout=60) for one in following] == [before + 1] * 8


def connections(hub: HubProcess) -> int:
    """How many requests nginx has under way with a hub, or kept open to it."""
    port = int(hub.url.rpartition(":")[2])
    hexadecimal = f"0100007F:{port:04X}"
    rows = [line.split() for line in CONNECTIONS.read_text().splitlines()[1:]]
    return sum(row[1] == hexadecimal and row[3] == "01" for row in rows)


def test_the_proxy_waits_longer_than_the_hub() -> None:
    text = CONFIGURATION.read_text()
    found = re.search(r"proxy_read_timeout (\d+)s;", text)
    assert found
    assert int(found[1]) > max(wire.MAX_WAIT_SECONDS, HubSettings().request_timeout) + 10
