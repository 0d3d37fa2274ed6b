"""`stillwatch gate` before a lab's own decisions: a real process, on what other commands of the same home leave."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hub.identity import HubIdentity
from member_client.decisions import register
from member_client.gate import Gate
from member_client.gate.__main__ import ends_of_patterns, main
from member_client.gate.building import MADE_WITH_FAULT
from member_client.gate.table import Table, encode
from member_client.home import Home
from member_client.session import Session
from sharing_protocol.statements.header import parse_timestamp
from tests.forum import ForumInABox, Lab, pattern_body, running_hub, withdrawal_body
from tests.gate.decided import PATIENCE_SECONDS, Answer, Effective, Snapshot, exchange, home_in, renew, wait_until
from tests.member_client.lab_homes import Client, make_home
from tests.member_client.test_decisions import UNAPPROVED, be_bold, found_in, log_of


@pytest.fixture(scope="module")
def forum(new_database: Callable[[], str], hub_identity: HubIdentity) -> Iterator[tuple[ForumInABox, Lab, Lab]]:
    with running_hub(new_database(), hub_identity) as hub:
        box = ForumInABox(hub)
        box.found()
        yield box, box.admit("Aurora"), box.admit("Boreal")


def place(written: str) -> tuple[str, int]:
    host, _, port = written.rpartition(":")
    return host, int(port)


def test_a_decision_reaches_the_gateway_and_leaves_it_when_the_pattern_is_withdrawn(
    forum: tuple[ForumInABox, Lab, Lab], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    box, aurora, lab = forum
    pattern, _ = box.publish(aurora, pattern_body())
    boreal = Client(make_home(tmp_path / "boreal", box, lab), capsys)
    boreal.run("sync")
    command = [str(Path(sys.executable).with_name("stillwatch")), "gate", "--home", str(boreal.home), "--json"]
    command += ["--listen", "127.0.0.1:0", "--status", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())

            def answer() -> Answer:
                head = b"POST /v1 HTTP/1.1\r\nx-account-id: c-1\r\nconnection: close\r\n\r\n"
                return exchange(place(ready["listen"]), head)

            wait_until(lambda: answer().reason == "no-decision", "the first table is not taken")
            be_bold(boreal, UNAPPROVED)
            found_in(boreal, log_of(tmp_path / "a.jsonl", "c-1"))
            boreal.run("decide")
            wait_until(lambda: answer().status != 200, "the decision does not reach the gate")
            acting = answer()
            assert acting.reason == "decision"
            (listed,) = boreal.json("decisions", "list", "--subject", "c-1")
            assert acting.headers["x-stillwatch-decision"] == listed["id"]
            box.submit(box.record(aurora, withdrawal_body(box.reference(pattern))), aurora.analyst)
            boreal.run("sync")
            wait_until(lambda: answer().status == 200, "the withdrawal does not reach the gate")
            # With what cannot be read the policy before it is followed, and that is told.
            (boreal.home / "policy.toml").write_text("highest_stage = ")
            process.send_signal(signal.SIGHUP)
            wait_until(lambda: "policy.toml" in str(health(ready)["reload_error"]), "the fault is not told")
            assert answer().status == 200
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0


def health(ready: dict[str, str]) -> dict[str, object]:
    got = exchange(place(ready["status"]), b"GET /readyz HTTP/1.1\r\nconnection: close\r\n\r\n")
    return got.json()


def test_who_is_writing_a_policy_keeps_neither_lifts_nor_the_stop_switch_from_the_gate(
    forum: tuple[ForumInABox, Lab, Lab], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    box, aurora, lab = forum
    box.publish(aurora, pattern_body())
    boreal = Client(make_home(tmp_path / "boreal", box, lab), capsys)
    boreal.run("sync")
    be_bold(boreal, UNAPPROVED)
    found_in(boreal, log_of(tmp_path / "a.jsonl", "c-1", "c-2", "c-3"))
    boreal.run("decide")
    until = "2099-01-01"
    with Gate(Home(boreal.home)) as gate:
        assert gate.wait(1, PATIENCE_SECONDS)
        assert [gate.check(one).allowed for one in ("c-1", "c-2")] == [False, False]
        (boreal.home / "policy.toml").write_text("highest_stage = ")
        boreal.run("allow", "add", "--account", "c-1", "--owner", "Ada", "--reason", "Batch", "--expires", until)
        renew(gate)
        assert [gate.check(one).allowed for one in ("c-1", "c-2")] == [True, False]
        assert "policy.toml: line 1" in gate.condition().error
        boreal.run("policy", "stop", "Too many complaints")
        renew(gate)
        assert gate.check("c-2").reason == "no decision"
    # A home whose policy never could be followed has no table.
    (boreal.home / "gate" / "policy.toml").unlink()
    (boreal.home / "gate" / "table").unlink()
    with Gate(Home(boreal.home)) as gate:
        assert gate.wait(1, PATIENCE_SECONDS)
        assert gate.condition().facts is None


def test_a_gateway_in_python_asks_a_gate_of_its_own(
    forum: tuple[ForumInABox, Lab, Lab], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    box, _, lab = forum
    boreal = Client(make_home(tmp_path / "boreal", box, lab), capsys)
    boreal.run("sync")
    with Gate(Home(boreal.home)) as gate:
        assert gate.wait(1, PATIENCE_SECONDS)
        assert not gate.condition().error
        assert gate.check(account="c-1").action == "observe"
        renew(gate)
        assert gate.condition().reloads == 2


def test_no_action_outlasts_its_pattern_however_long_a_table_is_in_force(
    forum: tuple[ForumInABox, Lab, Lab], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    box, aurora, lab = forum
    record_id, _ = box.publish(aurora, pattern_body())
    boreal = Client(make_home(tmp_path / "boreal", box, lab), capsys)
    boreal.run("sync")
    session = Session(Home(boreal.home))
    ends = ends_of_patterns(session)
    (version,) = session.store.versions(id=record_id)
    end = parse_timestamp(version.valid_until)
    assert ends[record_id] == end
    lasting = Effective("a", pattern_id=record_id, expires=end.replace(year=end.year + 1))
    table = Table(b"".join(encode(Snapshot([lasting]), ends)))
    assert table.first("account", b"a", None, end.timestamp() - 1) is not None
    assert table.first("account", b"a", None, end.timestamp()) is None


def test_what_is_wrong_is_said_before_anything_listens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = home_in(tmp_path / "home")
    client = Client(home.path, capsys)
    assert "not a Stillwatch home" in Client(tmp_path, capsys).json("gate", code=2)["message"]
    (home.path / "gate.toml").write_text("trusted_hop = 1\n")
    assert "unknown setting 'trusted_hop'" in client.json("gate", code=2)["message"]
    (home.path / "gate.toml").unlink()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert "cannot listen" in client.json("gate", "--listen", f"127.0.0.1:{port}", code=2)["message"]
    for wrong in ("a" * 300 + ":80", "a..b:80"):
        assert "cannot listen" in client.json("gate", "--listen", wrong, code=2)["message"]
    assert not (home.path / "gate").exists()


def test_a_table_is_made_also_while_somebody_else_writes_decisions(
    forum: tuple[ForumInABox, Lab, Lab],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    box, aurora, lab = forum
    box.publish(aurora, pattern_body())
    boreal = Client(make_home(tmp_path / "boreal", box, lab), capsys)
    boreal.run("sync")
    be_bold(boreal, UNAPPROVED)
    found_in(boreal, log_of(tmp_path / "a.jsonl", "c-1"))
    boreal.run("policy", "stop", "A test")
    boreal.run("decide")  # nobody feels it yet
    boreal.run("policy", "start", "A test")
    file = tmp_path / "table"
    monkeypatch.setattr(register, "WAIT_SECONDS", 0.05)
    with closing(sqlite3.connect(boreal.home / "decisions.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        capsys.readouterr()
        assert main([str(boreal.home), str(file)]) == MADE_WITH_FAULT
        assert "database is locked" in capsys.readouterr().err
        assert Table.load(file).first("account", b"c-1", None, 0.0) is not None
        told = boreal.json("allow", "remove", "1", code=2)
        assert told["message"] == "another command of this home is writing"
    assert main([str(boreal.home), str(file)]) == 0
