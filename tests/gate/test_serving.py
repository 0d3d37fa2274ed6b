"""A gate behind real HTTP, and those who would get past it."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from member_client.gate import GateSettings, http_protocol, serving
from member_client.gate.answering import client_address
from member_client.gate.http_protocol import MAX_HEAD_BYTES
from member_client.gate.serving import GateServer, listen
from member_client.gate.settings import Address
from tests.gate.decided import (
    NOW,
    PATIENCE_SECONDS,
    Allowed,
    Answer,
    Clock,
    Effective,
    GatePolicy,
    RunningGate,
    Snapshot,
    exchange,
    gate_with,
    new_decision,
    parse,
    renew,
    served,
)

SNAPSHOT = Snapshot(
    [
        Effective("blocked"),
        Effective("slowed", "throttle", decision_id=new_decision()),
        Effective("flagged", "flag"),
        Effective("limited", models=("large-2",)),
        Effective("evil corp", kind="organisation"),
        Effective("Ö"),
    ],
    [Allowed("batch"), Allowed("192.0.2.0/24", "network")],
    synced=NOW - timedelta(seconds=7),
)
BLOCKED = ("x-account-id", "blocked")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> object:
    settings = GateSettings(trusted_hops=1)
    with served(tmp_path_factory.mktemp("gate"), SNAPSHOT, settings) as gate:
        yield gate


def test_each_action_has_its_status_and_says_what_it_rests_on(running: RunningGate) -> None:
    blocked = running.ask(BLOCKED)
    assert blocked.status == 403
    assert blocked.headers["x-stillwatch-action"] == "block"
    assert blocked.headers["x-stillwatch-decision"] == SNAPSHOT.rows[0].decision_id
    assert blocked.headers["x-stillwatch-age-seconds"] == "7"
    assert blocked.json()["instance"] == f"urn:stillwatch:{SNAPSHOT.rows[0].decision_id}"
    assert "pattern" not in blocked.body.decode()
    slowed = running.ask(("x-account-id", "slowed"))
    assert (slowed.status, slowed.action, slowed.headers["retry-after"]) == (429, "throttle", "60")
    flagged = running.ask(("x-account-id", "flagged"))
    assert (flagged.status, flagged.action, flagged.body) == (200, "flag", b"")
    known = ("x-organisation-id", "fine")
    for headers, reason in (
        ([("x-account-id", "stranger")], "no-decision"),
        ([("x-account-id", "")], "no-account"),
        ([known], "no-account"),
        ([], "no-account"),
    ):
        unknown = running.ask(*headers)
        assert (unknown.status, unknown.action, unknown.reason) == (200, "observe", reason)
        assert "x-stillwatch-decision" not in unknown.headers
    assert (
        'stillwatch_gate_answers_total{action="observe",reason="no-account"}' in running.look("/metrics").body.decode()
    )


def test_account_organisation_and_model_all_count(running: RunningGate) -> None:
    assert running.ask(("x-account-id", "stranger"), ("x-organisation-id", "evil corp")).status == 403
    assert running.ask(("x-account-id", "batch"), ("x-organisation-id", "evil corp")).reason == "allow-listed"
    assert running.ask(("x-account-id", "limited"), ("x-model", "large-2")).status == 403
    assert running.ask(("x-account-id", "limited"), ("x-model", "small-1")).status == 200
    assert running.ask(("X-ACCOUNT-ID", "  blocked\t")).status == 403
    assert running.ask(("x-account-id", "Ö")).status == 403


@pytest.mark.parametrize(
    "target", ["/healthz", "/readyz", "/metrics", "/", "//x/../healthz?a=b", "*", "/%2e%2e/readyz"]
)
def test_no_path_and_no_method_gets_past_the_judgement(running: RunningGate, target: str) -> None:
    for method in ("GET", "HEAD", "POST", "OPTIONS", "DELETE", "PROPFIND"):
        assert running.ask(BLOCKED, target=target, method=method).status in (400, 403), (method, target)


def test_the_other_socket_judges_nothing(running: RunningGate) -> None:
    assert running.look("/healthz").status == 200
    assert running.look("/check").status == 404
    assert running.look("/readyz").json()["age_seconds"] == 7


SMUGGLED = [
    [("x-account-id", "stranger"), BLOCKED],
    [BLOCKED, ("X-Account-Id", "stranger")],
    [BLOCKED, BLOCKED],
    [("x-account-id", ""), BLOCKED],
    [("x-account-id", "stranger"), ("x-organisation-id", "fine"), ("x-organisation-id", "fine")],
    [("x-account-id", "a" * 2049)],
    [("x-account-id", b"\xff\xfe")],
    [("x-model", "m" * 2049), BLOCKED],
]


@pytest.mark.parametrize("headers", SMUGGLED)
def test_claims_that_cannot_be_are_refused(running: RunningGate, headers: list[tuple[str, str | bytes]]) -> None:
    answer = running.ask(*headers)
    assert (answer.status, answer.action, answer.reason) == (403, "block", "malformed")


@pytest.mark.parametrize(
    "sent",
    [
        b"POST / HTTP/1.1\r\nhost: x\r\nx-account-id: stranger\r\n x-account-id: blocked\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\nx-account-id : blocked\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\nx-account-id: blo\0cked\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_http_is_not_let_through(running: RunningGate, sent: bytes) -> None:
    assert exchange(running.address, sent).status == 400


def test_a_head_that_never_ends_is_cut_off(running: RunningGate) -> None:
    with socket.create_connection(running.address, timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nx-long: ")
        got = b""
        try:
            for _ in range(200):
                connection.sendall(b"a" * 16_384)
            got = b"".join(iter(lambda: connection.recv(65_536), b""))
        except (BrokenPipeError, ConnectionResetError):
            return  # cut off while it was still sending: 3 MB did not get through
    assert parse(got).status == 431


@pytest.mark.parametrize("piece", [b"t: " + b"v" * 997 + b"\r\n", b"v" * 1000], ids=["many trailers", "one trailer"])
def test_trailers_that_never_end_are_cut_off(running: RunningGate, piece: bytes) -> None:
    with socket.create_connection(running.address, timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\nt: ")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        connection.settimeout(10)
        with contextlib.suppress(ConnectionError):
            connection.sendall(piece * (40 * MAX_HEAD_BYTES // len(piece)))
            assert connection.recv(65_536) == b""


def test_many_requests_at_once_are_no_long_head(running: RunningGate) -> None:
    one = b"GET / HTTP/1.1\r\nhost: x\r\nx-pad: " + b"p" * 2000 + b"\r\n\r\n"
    many = 2 * MAX_HEAD_BYTES // len(one)
    sent = one * many + one.replace(b"host: x", b"connection: close")
    with socket.create_connection(running.address, timeout=PATIENCE_SECONDS) as connection:
        for start, end in ((0, 10), (10, len(sent) - 20), (len(sent) - 20, len(sent))):
            connection.sendall(sent[start:end])
        got = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert got.count(b"HTTP/1.1 200") == many + 1


def test_a_head_of_usual_size_is_taken_in_any_pieces(running: RunningGate) -> None:
    head = b"POST / HTTP/1.1\r\nx-account-id: blocked\r\nconnection: close\r\nx-long: " + b"a" * (MAX_HEAD_BYTES // 2)
    with socket.create_connection(running.address, timeout=PATIENCE_SECONDS) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(head), 4096):
            connection.sendall(head[start : start + 4096])
        connection.sendall(b"\r\n\r\n")
        got = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert parse(got).status == 403


def test_requests_with_bodies_upgrades_and_in_a_row_are_answered_each(running: RunningGate) -> None:
    one = b"POST /v1 HTTP/1.1\r\nhost: x\r\nx-account-id: blocked\r\ncontent-length: 3\r\n\r\nabc"
    other = b"GET /v1 HTTP/1.1\r\nhost: x\r\nx-account-id: stranger\r\n"
    last = other + b"connection: upgrade, close\r\nupgrade: websocket\r\n\r\n"
    with socket.create_connection(running.address, timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(one + other + b"\r\n" + one + last)
        got = b"".join(iter(lambda: connection.recv(65_536), b""))
    statuses = [int(part[:3]) for part in got.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [403, 200, 403, 200]


def test_http_of_other_kinds_is_answered_as_it_is_meant(running: RunningGate) -> None:
    old = exchange(running.address, b"GET / HTTP/1.0\r\nconnection: keep-alive\r\nx-account-id: blocked\r\n\r\n")
    assert (old.status, old.headers["connection"]) == (403, "close")
    head = running.ask(BLOCKED, method="HEAD")
    assert (head.status, head.body) == (403, b"")
    assert int(head.headers["content-length"]) > 0
    tunnel = b"CONNECT api.example:443 HTTP/1.1\r\nhost: x\r\nx-account-id: blocked\r\n\r\nGET / HTTP/1.1\r\n\r\n"
    assert exchange(running.address, tunnel).status == 403
    expecting = b"POST / HTTP/1.1\r\nx-account-id: blocked\r\nexpect: 100-continue\r\ncontent-length: 9\r\n"
    assert exchange(running.address, expecting + b"connection: close\r\n\r\n").status == 403


def test_who_begins_and_does_not_go_on_is_hung_up_on(running: RunningGate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.02)
    with socket.create_connection(running.address, timeout=PATIENCE_SECONDS) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nx-account")
        assert slow.recv(1) == b""


def test_beyond_so_many_connections_none_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "MAX_CONNECTIONS", 2)
    with served(tmp_path, SNAPSHOT) as gate, contextlib.ExitStack() as kept:
        for _ in range(2):
            connection = kept.enter_context(socket.create_connection(gate.address, timeout=PATIENCE_SECONDS))
            connection.sendall(b"GET / HTTP/1.1\r\nx-account-id: blocked\r\n\r\n")
            assert parse(connection.recv(65_536)).status == 403
        with pytest.raises((ConnectionError, IndexError)):
            gate.ask(BLOCKED)
        connection.sendall(b"GET / HTTP/1.1\r\nx-account-id: blocked\r\n\r\n")
        assert parse(connection.recv(65_536)).status == 403


def test_only_what_a_trusted_proxy_wrote_counts_as_the_address(running: RunningGate) -> None:
    assert running.ask(BLOCKED, ("x-forwarded-for", "192.0.2.1")).reason == "allow-listed"
    assert running.ask(BLOCKED, ("x-forwarded-for", "192.0.2.1:443")).reason == "allow-listed"
    # A client writes whatever it wants, in one header or in two; the proxy adds what it saw at the end.
    for spoofed in (
        [("x-forwarded-for", "192.0.2.1, 203.0.113.9")],
        [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-for", "203.0.113.9")],
        [("x-forwarded-for", "192.0.2.1,")],
        [("x-forwarded-for", "192.0.2.1%eth0")],
        [("x-forwarded-for", "192.0.2.1," * 1000)],
        [("x-real-ip", "192.0.2.1"), ("forwarded", "for=192.0.2.1")],
    ):
        assert running.ask(BLOCKED, *spoofed).status == 403, spoofed


def test_an_address_is_not_looked_at_unless_a_proxy_is_trusted(tmp_path: Path) -> None:
    with served(tmp_path, SNAPSHOT) as running:
        assert running.ask(BLOCKED, ("x-forwarded-for", "192.0.2.1")).status == 403


def test_the_client_is_so_many_proxies_from_the_end() -> None:
    forwarded = [b"10.0.0.1, 10.0.0.2", b" 10.0.0.3 "]
    got = [client_address(forwarded, hops) for hops in range(5)]
    assert got == ["", "10.0.0.3", "10.0.0.2", "10.0.0.1", ""]


@pytest.mark.parametrize(("fail", "status"), [("open", 200), ("closed", 403)])
def test_staleness_is_told_in_answers_readiness_and_metrics(tmp_path: Path, fail: str, status: int) -> None:
    clock = Clock()
    with served(tmp_path, replace(SNAPSHOT, policy=GatePolicy(fail, 60)), clock=clock) as running:
        assert running.look("/readyz").status == 200
        clock.pass_by(54)
        answer = running.ask(BLOCKED)
        assert (answer.status, answer.reason, answer.headers["x-stillwatch-fail"]) == (status, "stale", fail)
        assert answer.headers["x-stillwatch-age-seconds"] == "61"
        ready = running.look("/readyz")
        assert (ready.status, ready.json()["stale"], ready.json()["fail"]) == (503, True, fail)
        metrics = running.look("/metrics").body.decode()
        assert "stillwatch_gate_stale 1.0" in metrics
        assert "stillwatch_gate_data_age_seconds 61.0" in metrics
        assert f'stillwatch_gate_answers_total{{action="{answer.action}",reason="stale"}} 1.0' in metrics


def test_a_failed_reload_is_told_and_changes_no_answer(tmp_path: Path) -> None:
    with served(tmp_path, SNAPSHOT) as running:
        running.decided.snapshot = None
        renew(running.gate)
        assert running.ask(BLOCKED).status == 403
        ready = running.look("/readyz")
        assert ready.status == 200
        assert ready.json()["failed_reloads"] == 1
        assert ready.json()["reload_error"] == "decisions.sqlite is no store"
        metrics = running.look("/metrics").body.decode()
        assert 'stillwatch_gate_reloads_total{outcome="failed"} 1.0' in metrics
        assert "stillwatch_gate_reload_failing 1.0" in metrics


def test_a_gate_without_any_data_says_so(tmp_path: Path) -> None:
    with served(tmp_path, None) as running:
        answer = running.ask(BLOCKED)
        assert (answer.status, answer.reason, answer.headers["x-stillwatch-fail"]) == (200, "unreadable", "open")
        assert "x-stillwatch-age-seconds" not in answer.headers
        assert running.look("/readyz").json()["rows"] is None
        assert running.look("/metrics").status == 200


def test_throttling_can_let_some_requests_pass_and_have_the_status_that_a_proxy_wants(tmp_path: Path) -> None:
    slowed = ("x-account-id", "slowed")
    settings = GateSettings(throttle_per_minute=1, throttle_status=401)
    with served(tmp_path, SNAPSHOT, settings) as running:
        answers = [running.ask(slowed) for _ in range(7)]
        assert [answer.status for answer in answers] == [200] * 5 + [401] * 2
        assert {answer.action for answer in answers} == {"throttle"}
        assert 50 < int(answers[-1].headers["retry-after"]) <= 60


def test_reloads_under_load_drop_nothing_and_never_answer_by_halves(tmp_path: Path) -> None:
    """Two snapshots in turn, in each of which the accounts are all blocked, by one pattern or by the other."""
    accounts = [f"acct-{number}" for number in range(64)]
    snapshots = [
        Snapshot([Effective(one, decision_id=new_decision()) for one in accounts], generation=str(turn))
        for turn in range(2)
    ]
    by_turn = [{row.id: row.decision_id for row in snapshot.rows} for snapshot in snapshots]
    answers: list[tuple[str, Answer]] = []
    ending = threading.Event()

    def ask_on(running: RunningGate) -> None:
        with socket.create_connection(running.address, timeout=PATIENCE_SECONDS) as connection:
            while not ending.is_set():
                for account in accounts:
                    connection.sendall(f"GET / HTTP/1.1\r\nhost: x\r\nx-account-id: {account}\r\n\r\n".encode())
                    answers.append((account, parse(connection.recv(65_536))))

    with served(tmp_path, snapshots[0]) as running:
        threads = [threading.Thread(target=ask_on, args=(running,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for turn in range(1, 11):
            running.decided.snapshot = snapshots[turn % 2]
            renew(running.gate)
        ending.set()
        for thread in threads:
            thread.join()
    assert running.gate.condition().reloads == 11
    assert len(answers) >= 128
    assert {answer.status for _, answer in answers} == {403}
    found = {answer.headers["x-stillwatch-decision"] == by_turn[0][account] for account, answer in answers}
    assert all(answer.headers["x-stillwatch-decision"] in (by_turn[0][a], by_turn[1][a]) for a, answer in answers)
    assert found == {True, False}


def test_a_unix_socket_serves_too_and_one_that_was_left_is_taken_over(tmp_path: Path) -> None:
    where = tmp_path / "gate.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(where))
    left.close()
    address = Address("", 0, str(where))
    with (
        gate_with(tmp_path / "home", SNAPSHOT) as (gate, _),
        listen(address) as asked,
        listen(Address("127.0.0.1", 0)) as watched,
    ):
        ready = threading.Event()
        server = GateServer(gate, ready.set)
        thread = threading.Thread(target=server.serve_at, args=(asked, watched))
        thread.start()
        assert ready.wait(PATIENCE_SECONDS)
        assert where.stat().st_mode & 0o777 == 0o660
        with pytest.raises(Exception, match="another process listens"):
            listen(address)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(where))
            connection.sendall(b"GET /healthz HTTP/1.1\r\nx-account-id: blocked\r\nconnection: close\r\n\r\n")
            assert parse(connection.recv(65_536)).status == 403
        server.stop()
        thread.join()
