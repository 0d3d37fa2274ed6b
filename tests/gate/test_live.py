"""A gate that stays up: reloads, failures, staleness, clocks that somebody sets."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from member_client.errors import InvalidInput
from member_client.gate import Gate, GateSettings, Verdict, live
from member_client.gate.building import ChildBuilder
from member_client.gate.settings import Address, read_settings
from member_client.gate.sources import Sources
from member_client.gate.table import Table, Unusable, draft_of
from sharing_protocol.trust import MAX_SKEW_SECONDS
from tests.gate.decided import (
    NOW,
    PATIENCE_SECONDS,
    Allowed,
    Clock,
    Decided,
    Effective,
    GatePolicy,
    Snapshot,
    gate_with,
    home_in,
    renew,
    wait_until,
)

BLOCKED = Snapshot([Effective("a")])


def test_a_snapshot_that_cannot_be_had_leaves_the_last_good_table(tmp_path: Path) -> None:
    with gate_with(tmp_path, BLOCKED) as (gate, decided):
        decided.snapshot = None
        renew(gate)
        condition = gate.condition()
        assert (condition.reloads, condition.failures, condition.ready) == (1, 1, True)
        assert "decisions.sqlite is no store" in condition.error
        assert gate.check("a").action == "block"
        decided.snapshot = Snapshot()
        renew(gate)
        assert gate.check("a").action == "observe"
        assert not gate.condition().error


def test_what_killed_builders_left_is_removed_at_the_start_and_nothing_else(tmp_path: Path) -> None:
    with gate_with(tmp_path, BLOCKED) as (gate, _):
        folder, kept = gate.path.parent, Table.load(gate.path).facts
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    of_another_gate, aged = draft_of(gate.path, os.getppid()), draft_of(gate.path, 1)
    for draft in (of_another_gate, aged, draft_of(gate.path, ended.pid), draft_of(gate.path, 2**70)):
        draft.write_bytes(b"half a table")
    os.utime(aged, (1, 1))
    (folder / ".table.note").touch()
    with gate_with(tmp_path, None) as (gate, _):
        assert {path.name for path in folder.iterdir()} == {"table", ".table.note", of_another_gate.name}
        facts = gate.condition().facts
        assert facts is not None
        assert facts == kept


def test_a_corrupted_table_is_never_taken(tmp_path: Path) -> None:
    with gate_with(tmp_path, BLOCKED) as (gate, decided):
        decided.snapshot, decided.spoils = Snapshot(), b"\xff"
        renew(gate)
        assert gate.check("a").action == "block"
        assert gate.condition().failures == 1
        # Nor by the gate that comes after this one.
        with pytest.raises(Unusable):
            Table.load(gate.path)
    with gate_with(tmp_path, None) as (gate, _):
        assert gate.check("a") == Verdict("observe", "unreadable")


def test_a_gate_that_is_started_again_goes_by_the_last_table_at_once(tmp_path: Path) -> None:
    with gate_with(tmp_path, BLOCKED):
        pass
    with gate_with(tmp_path, None) as (gate, _):
        assert gate.check("a").action == "block"
        assert gate.condition().failures == 1


@pytest.mark.parametrize(("fail", "action"), [("open", "observe"), ("closed", "block")])
def test_without_any_table_the_settings_say_what_happens(tmp_path: Path, fail: str, action: str) -> None:
    with gate_with(tmp_path, None, GateSettings(without_data=fail)) as (gate, _):
        assert gate.check("a") == Verdict(action, "unreadable")
        assert not gate.condition().ready


@pytest.mark.parametrize(("fail", "action"), [("open", "observe"), ("closed", "block")])
def test_with_stale_data_the_policy_says_what_happens(tmp_path: Path, fail: str, action: str) -> None:
    snapshot = Snapshot(
        [Effective("a"), Effective("b", action="flag")],
        [Allowed("c"), Allowed("192.0.2.0/24", "network")],
        GatePolicy(fail, stale_after=60),
    )
    clock = Clock()
    with gate_with(tmp_path, snapshot, clock=clock) as (gate, _):
        clock.pass_by(60)
        assert gate.check("a").action == "block"
        clock.pass_by(0.5)
        for account in ("a", "b", "stranger"):
            assert gate.check(account)[:2] == (action, "stale")
        assert gate.check("c").action == gate.check("a", address="192.0.2.9").action == "observe"
        assert gate.condition().stale
        assert not gate.condition().ready
        assert gate.check("a").age == 60.5


def test_what_has_expired_stays_so_when_the_clock_is_set_back(tmp_path: Path) -> None:
    clock = Clock()
    snapshot = Snapshot([Effective("a", expires=NOW + timedelta(seconds=100))], policy=GatePolicy(stale_after=10**6))
    with gate_with(tmp_path, snapshot, clock=clock) as (gate, _):
        clock.pass_by(99)
        assert gate.check("a").action == "block"
        clock.wall -= 86_400
        assert gate.check("a").action == "block"
        clock.pass_by(1)
        assert gate.check("a").action == "observe"
        assert gate.check("a").age == 100


def test_what_has_expired_by_a_clock_that_jumped_stays_so_while_its_table_is_in_force(tmp_path: Path) -> None:
    clock = Clock()
    snapshot = Snapshot([Effective("a", expires=NOW + timedelta(seconds=100))], policy=GatePolicy(stale_after=10**6))
    with gate_with(tmp_path, snapshot, clock=clock) as (gate, _):
        clock.wall += 200
        assert gate.check("a").action == "observe"
        clock.wall -= 200
        assert gate.check("a").action == "observe"
        clock.pass_by(50)
        assert gate.check("a").age == 250
        renew(gate)
        assert gate.check("a").action == "block"


def test_a_clock_that_ran_ahead_does_not_do_so_beyond_the_next_table(tmp_path: Path) -> None:
    clock = Clock()
    with gate_with(tmp_path, BLOCKED, clock=clock) as (gate, _):
        clock.wall += 10**8
        assert gate.check("a").reason == "stale"
        clock.wall -= 10**8
        renew(gate)
        assert gate.check("a").action == "block"


def test_a_table_that_was_made_long_before_the_last_sync_is_stale(tmp_path: Path) -> None:
    """By a clock that was set back, and for which no sync will go through for as long."""
    ahead = replace(BLOCKED, synced=NOW + timedelta(seconds=MAX_SKEW_SECONDS))
    with gate_with(tmp_path, ahead) as (gate, decided):
        assert gate.check("a").action == "block"
        decided.snapshot = replace(BLOCKED, synced=NOW + timedelta(days=1))
        renew(gate)
        assert gate.check("a").reason == "stale"
        assert gate.condition().stale


def test_a_table_from_the_future_is_young_and_not_older_than_nothing(tmp_path: Path) -> None:
    later = NOW + timedelta(days=1)
    with gate_with(tmp_path, replace(BLOCKED, as_of=later, synced=later)) as (gate, _):
        assert gate.check("a") == Verdict(
            "block", "decision", Effective("a").decision_id, Effective("a").pattern_id, 0.0
        )


def test_an_id_that_no_decision_can_have_is_refused(tmp_path: Path) -> None:
    with gate_with(tmp_path, BLOCKED) as (gate, _):
        assert gate.check("a" * 2049)[:2] == gate.check("b", "é" * 1025)[:2] == ("block", "malformed")


def test_a_change_of_any_source_has_a_new_table_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(live, "REST", 0)
    with gate_with(tmp_path, BLOCKED) as (gate, _):
        for reloads, name in enumerate(("policy.toml", "decisions.sqlite", "lifecycle.sqlite", "store.sqlite"), 2):
            if name.endswith(".toml"):
                (tmp_path / name).write_text("stop = true\n")
            else:
                sqlite3.connect(tmp_path / name).executescript("CREATE TABLE t (x)").close()
            wait_until(lambda n=reloads: gate.condition().reloads >= n, f"{name} changed and nothing happened")


def test_who_reads_changes_nothing_and_who_writes_does(tmp_path: Path) -> None:
    store = tmp_path / "decisions.sqlite"
    writer = sqlite3.connect(store, isolation_level=None)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("CREATE TABLE t (x)")
    sources = Sources(home_in(tmp_path))
    before = sources.look()
    for _ in range(3):
        reader = sqlite3.connect(store)
        reader.execute("SELECT * FROM t").fetchall()
        reader.close()
    assert sources.look() == before
    writer.execute("INSERT INTO t VALUES (1)")
    changed = sources.look()
    assert changed != before
    writer.close()
    store.rename(tmp_path / "away")
    assert sources.look() != changed
    (tmp_path / "decisions.sqlite").write_bytes(b"no store")
    assert sources.look() == sources.look()
    sources.close()


def test_a_child_that_fails_or_hangs_is_told_of_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for program, told in (
        ("import sys; sys.exit('the stage is not known')", "the stage is not known"),
        ("import os; os.kill(os.getpid(), 9)", "status -9"),
    ):
        with pytest.raises(Unusable, match=told):
            ChildBuilder([sys.executable, "-c", program]).build(tmp_path / "table")
    with pytest.raises(Unusable, match="no process"):
        ChildBuilder([str(tmp_path / "nothing")]).build(tmp_path / "table")
    monkeypatch.setattr("member_client.gate.building.BUILD_SECONDS", 0.05)
    with pytest.raises(Unusable, match="within"):
        ChildBuilder([sys.executable, "-c", "import time; time.sleep(60)"]).build(tmp_path / "table")
    stopped = ChildBuilder([sys.executable, "-c", ""])
    stopped.stop()
    with pytest.raises(Unusable, match="ending"):
        stopped.build(tmp_path / "table")
    assert list(tmp_path.iterdir()) == []


def test_a_gate_that_ends_ends_its_build(tmp_path: Path) -> None:
    home = home_in(tmp_path)
    begun = tmp_path / "begun"
    program = f"import pathlib, time; pathlib.Path({str(begun)!r}).touch(); time.sleep(600)"
    gate = Gate(home, builder=ChildBuilder([sys.executable, "-c", program]))
    with gate:
        wait_until(begun.exists, "no build began")
    assert gate.condition().failures == 0


def test_a_fault_of_the_builder_does_not_end_the_watching(tmp_path: Path) -> None:
    class Faulty(Decided):
        def build(self, path: Path) -> str:
            if self.snapshot is None:
                raise RuntimeError("a fault of ours")
            return super().build(path)

    decided = Faulty(None)
    with Gate(home_in(tmp_path), builder=decided, wall=lambda: NOW.timestamp()) as gate:
        assert gate.wait(1, PATIENCE_SECONDS)
        assert "a fault of ours" in gate.condition().error
        decided.snapshot = BLOCKED
        renew(gate)
        assert gate.check("a").action == "block"


def test_settings_are_read_and_what_is_wrong_with_them_is_said(tmp_path: Path) -> None:
    path = tmp_path / "gate.toml"
    assert read_settings(path) == GateSettings()
    path.write_text('listen = "unix:/run/gate.sock"\nstatus = "[::1]:9000"\ntrusted_hops = 1\n')
    read = read_settings(path, status="127.0.0.1:9001")
    assert (str(read.listen), read.status, read.trusted_hops) == ("unix:/run/gate.sock", Address("127.0.0.1", 9001), 1)
    assert str(read_settings(path).status) == "[::1]:9000"
    for wrong, told in {
        "trusted_hop = 1": "unknown setting",
        "trusted_hops = true": "whole number",
        "trusted_hops = 17": "between 0 and 16",
        'account_header = "X-Account"': "lower case",
        'account_header = "x-model"': "the same",
        'listen = "8480"': "HOST:PORT",
        'listen = "unix:gate.sock"': "absolute",
        'listen = "127.0.0.1:8481"': "a port each",
        "throttle_status = 500": "throttle_status",
        'without_data = "ajar"': "without_data",
        "listen = ": "not usable",
        "#" + "x" * 70_000: "larger",
        "listen = " + "[" * 5_000: "not usable",
    }.items():
        path.write_text(wrong)
        with pytest.raises(InvalidInput, match=told):
            read_settings(path)


def test_a_folder_that_is_no_home_gets_no_gate(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="not a Stillwatch home"):
        Gate(type(home_in(tmp_path / "other"))(tmp_path))
    assert not (tmp_path / "gate").exists()


def test_before_the_first_table_the_policy_says_whether_requests_pass(tmp_path: Path) -> None:
    home = home_in(tmp_path)
    closed = '[gate]\nfail = "closed"\n'

    def allowed(settings: GateSettings | None = None) -> bool:
        return Gate(home, settings, Decided(None)).check("a").allowed

    assert allowed()
    home.lifecycle_policy.write_text(closed)
    assert not allowed()
    assert allowed(GateSettings(without_data="open"))
    home.lifecycle_policy.write_text("[gate")
    assert allowed()
    (tmp_path / "gate").mkdir()
    (tmp_path / "gate" / "policy.toml").write_text(closed)
    assert not allowed()
    # It is asked for anew as long as there is none.
    with Gate(home, builder=Decided(None)) as gate:
        assert gate.wait(1, PATIENCE_SECONDS)
        home.lifecycle_policy.write_text("[gate]\n")
        renew(gate)
        assert gate.check("a").allowed
