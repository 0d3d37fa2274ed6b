"""The gate behind a real nginx, set up by docs/gate/nginx.conf."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from member_client.gate import GateSettings
from tests.gate.decided import Allowed, Effective, RunningGate, Snapshot, new_decision, renew, served
from tests.gate.proxies import adapted, api, free_port, proxy

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
CONFIGURATION = Path("docs/gate/nginx.conf")
SETTINGS = GateSettings(trusted_hops=1, throttle_status=401)
SNAPSHOT = Snapshot(
    [Effective("bad"), Effective("slow", "throttle", decision_id=new_decision()), Effective("odd", "flag")]
)
KEYS = {"key-bad": "bad", "key-slow": "slow", "key-odd": "odd", "key-good": "good"}

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed on this machine")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGate]:
    with served(tmp_path_factory.mktemp("gate"), SNAPSHOT, SETTINGS) as gate:
        yield gate


@pytest.fixture(scope="module")
def nginx(running: RunningGate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    yield from _nginx(tmp_path_factory.mktemp("nginx"), f"127.0.0.1:{running.address[1]}")


def _nginx(folder: Path, gate: str) -> Iterator[httpx.Client]:
    port = free_port()
    keys = folder / "accounts.map"
    keys.write_text("".join(f'"{key}" "{account}";\n' for key, account in KEYS.items()))
    with api() as behind:
        built = subprocess.run([str(NGINX), "-V"], capture_output=True, text=True, check=True, timeout=60).stderr
        kinds = ["client_body", "proxy"]
        kinds += [kind for kind in ("fastcgi", "uwsgi", "scgi") if f"--without-http_{kind}_module" not in built]
        # Where a distribution's nginx keeps bodies is for root alone.
        places = "".join(f"  {kind}_temp_path {folder / kind};\n" for kind in kinds)
        changes = {
            "127.0.0.1:8480": gate,
            "127.0.0.1:8000": behind.place,
            "listen 80;": f"listen 127.0.0.1:{port};",
            "/run/nginx.pid": str(folder / "nginx.pid"),
            "/var/log/nginx/error.log": str(folder / "error.log"),
            "/etc/nginx/accounts.map": str(keys),
            "worker_processes auto": "worker_processes 1",
            "proxy_connect_timeout 100ms": "proxy_connect_timeout 30s",  # here others use the machine too
            "proxy_read_timeout 250ms": "proxy_read_timeout 30s",
            "http {\n": f"http {{\n{places}",
        }
        configuration = adapted(CONFIGURATION, folder, changes)
        command = [str(NGINX), "-p", str(folder), "-c", str(configuration), "-g", "daemon off;"]
        tested = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False, timeout=60)
        assert tested.returncode == 0, tested.stderr
        assert "[warn]" not in tested.stderr, tested.stderr
        with proxy(command, port, folder / "output") as url, httpx.Client(base_url=url, timeout=60) as client:
            yield client


def ask(client: httpx.Client, key: str, **more: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in more.items()}
    return client.post("/v1/messages?a=b", content=b"hello", headers={"x-api-key": key, **names})


def test_who_may_pass_reaches_the_api_with_all_that_was_sent(nginx: httpx.Client) -> None:
    good = ask(nginx, "key-good", x_stillwatch_action="block", x_account_id="somebody")
    assert good.status_code == 200
    got = good.json()
    assert (got["path"], got["body"]) == ("/v1/messages?a=b", "hello")
    assert got["headers"]["x-account-id"] == "good"
    assert got["headers"]["x-stillwatch-action"] == "observe"
    assert ask(nginx, "key-odd").json()["headers"]["x-stillwatch-action"] == "flag"
    assert ask(nginx, "no key").status_code == 200


def test_who_is_blocked_is_told_by_which_decision(nginx: httpx.Client) -> None:
    bad = ask(nginx, "key-bad")
    assert bad.status_code == 403
    assert bad.headers["x-stillwatch-decision"] == SNAPSHOT.rows[0].decision_id


def test_nothing_that_a_client_claims_gets_it_past_nginx(nginx: httpx.Client) -> None:
    for claimed in (
        {"x_account_id": "good"},
        {"x_forwarded_for": "192.0.2.1"},
        {"x_original_url": "/healthz"},
        {"upgrade": "websocket", "connection": "upgrade"},
        {"x_long": "a" * 7000},
    ):
        assert ask(nginx, "key-bad", **claimed).status_code == 403, claimed
    for path in ("/healthz", "/readyz", "/check", "/a/%2e%2e/healthz", "/a//b/../.."):
        assert nginx.get(path, headers={"x-api-key": "key-bad"}).status_code == 403, path
    assert nginx.get("/_stillwatch", headers={"x-api-key": "key-good"}).status_code == 404


def test_who_is_throttled_passes_seldom(nginx: httpx.Client) -> None:
    answers = [ask(nginx, "key-slow") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 3 + [429] * 3
    assert answers[0].json()["headers"]["x-stillwatch-action"] == "throttle"
    assert answers[0].json()["body"] == "hello"


def test_a_401_of_the_api_stays_one(nginx: httpx.Client) -> None:
    assert nginx.get("/unauthorised", headers={"x-api-key": "key-good"}).status_code == 401


def test_a_network_is_allow_listed_by_the_address_that_nginx_saw(nginx: httpx.Client, running: RunningGate) -> None:
    running.decided.snapshot = Snapshot(SNAPSHOT.rows, [Allowed("127.0.0.0/8", "network")])
    renew(running.gate)
    try:
        assert ask(nginx, "key-bad", x_forwarded_for="203.0.113.1").status_code == 200
    finally:
        running.decided.snapshot = SNAPSHOT
        renew(running.gate)
    assert ask(nginx, "key-bad").status_code == 403


def test_a_gate_that_is_down_stops_nobody(tmp_path: Path) -> None:
    for client in _nginx(tmp_path, f"127.0.0.1:{free_port()}"):
        assert ask(client, "key-bad").status_code == 200
