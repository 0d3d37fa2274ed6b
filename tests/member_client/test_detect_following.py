"""Following logs: each row is read once, each match told once, whatever happens to the files and to the run."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from member_client.detection import detecting, reading
from member_client.detection.detecting import Options
from member_client.detection.runs import read_detections
from member_client.detection.state import State
from member_client.errors import InvalidInput
from tests.member_client.detection_runs import matches, pattern, run, write_json_lines
from tests.pattern_logic.documents import correlation, rule

ROOT = Path(__file__).resolve().parents[2]
FOLLOW = Options(follow=True)
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
RECIPES = pattern("plain", rule(s={"prompt.text|contains": "recipe"}))
OFTEN = pattern("often", rule(s={"prompt.text|contains": "recipe"}), correlation("event_count", condition={"gte": 3}))


def request(number: int, account: str = "a") -> dict[str, Any]:
    return {
        "timestamp": (NOON + timedelta(minutes=number)).isoformat(),
        "account.id": account,
        "prompt.text": f"recipe number {number}",
    }


def append(path: Path, *rows: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def lines_of(got: Any, entry: str = "plain") -> list[int]:
    return [one["line"] for one in got.found if one["entry"] == entry]


def test_a_second_run_reads_only_what_is_new_and_tells_nothing_twice(tmp_path: Path) -> None:
    log, state = write_json_lines(tmp_path / "log.jsonl", [request(n) for n in range(4)]), tmp_path / "state"
    first = run(state, [RECIPES, OFTEN], log, options=FOLLOW)
    assert (first.result.rows, lines_of(first), lines_of(first, "often")) == (4, [1, 2, 3, 4], [3, 4])
    second = run(state, [RECIPES, OFTEN], log, options=FOLLOW)
    assert (second.result.rows, second.found, second.result.files_unchanged) == (0, [], 1)
    append(log, request(4))
    third = run(state, [RECIPES, OFTEN], log, options=FOLLOW)
    # the window reaches back to what earlier runs read
    assert (third.result.rows, lines_of(third), lines_of(third, "often")) == (1, [5], [5])
    assert third.found[-1]["window"]["value"] == 5
    whole = run(tmp_path / "whole", [RECIPES, OFTEN], log)
    assert matches([*first.found, *third.found]) == matches(whole.found)
    assert state.joinpath("state.duckdb").stat().st_mode & 0o777 == 0o600


def test_half_a_row_is_left_for_the_next_run(tmp_path: Path) -> None:
    log, state = write_json_lines(tmp_path / "log.jsonl", [request(0)]), tmp_path / "state"
    row = json.dumps(request(1))
    with log.open("a") as file:
        file.write(row[:30])
    first = run(state, [RECIPES], log, options=FOLLOW)
    assert (lines_of(first), first.broken) == ([1], [])
    with log.open("a") as file:
        file.write(row[30:] + "\n")
    second = run(state, [RECIPES], log, options=FOLLOW)
    assert (second.result.rows, lines_of(second)) == (1, [2])


@pytest.mark.parametrize("packed", [False, True])
def test_a_rotated_log_is_known_by_its_content(packed: bool, tmp_path: Path) -> None:
    log, state = write_json_lines(tmp_path / "log.jsonl", [request(n) for n in range(3)]), tmp_path / "state"
    run(state, [RECIPES], log, options=FOLLOW)
    append(log, request(3))
    old = tmp_path / ("log.jsonl.1.gz" if packed else "log.jsonl.1")
    old.write_bytes(gzip.compress(log.read_bytes()) if packed else log.read_bytes())
    write_json_lines(log, [request(n) for n in range(10, 12)])
    got = run(state, [RECIPES], log, old, options=FOLLOW)
    assert [(Path(one["file"]).name, one["line"]) for one in got.found] == [
        ("log.jsonl", 1),
        ("log.jsonl", 2),
        (old.name, 4),
    ]
    assert run(state, [RECIPES], log, old, options=FOLLOW).result.rows == 0


def test_a_log_that_begins_like_another_is_read_from_its_beginning(tmp_path: Path) -> None:
    one = write_json_lines(tmp_path / "one.jsonl", [request(n) for n in range(3)])
    other = tmp_path / "other.jsonl.gz"
    other.write_bytes(gzip.compress(b"".join(json.dumps(request(n)).encode() + b"\n" for n in (0, 7, 8, 9))))
    state = tmp_path / "state"
    run(state, [RECIPES], one, options=FOLLOW)
    got = run(state, [RECIPES], one, other, options=FOLLOW)
    assert got.result.rows == 4
    assert lines_of(got) == [2, 3, 4]  # the first is the very same request, at the same place


def test_a_run_that_is_killed_between_legs_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = [write_json_lines(tmp_path / f"log-{n}.jsonl", [request(10 * n + m) for m in range(3)]) for n in range(3)]
    state = tmp_path / "state"
    real = reading.read

    def failing(request: Any, *arguments: Any) -> Any:
        if request.file.endswith("log-2.jsonl"):
            raise MemoryError
        return real(request, *arguments)

    monkeypatch.setattr(detecting, "read", failing)
    with pytest.raises(MemoryError):
        run(state, [RECIPES, OFTEN], *logs, options=FOLLOW)
    monkeypatch.undo()
    assert list(state.glob("*.jsonl")) == []
    got = run(state, [RECIPES, OFTEN], *logs, options=FOLLOW)
    assert got.result.rows == 3
    assert matches(got.found) == matches(run(tmp_path / "whole", [RECIPES, OFTEN], *logs).found)


def test_a_run_that_is_killed_before_its_file_has_its_name_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, state = write_json_lines(tmp_path / "log.jsonl", [request(0)]), tmp_path / "state"
    whole = Path.replace

    def dying(path: Path, target: Path) -> Path:
        if target.name.startswith("run-"):
            raise KeyboardInterrupt
        return whole(path, target)

    monkeypatch.setattr(Path, "replace", dying)
    with pytest.raises(KeyboardInterrupt):
        run(state, [RECIPES], log, options=FOLLOW)
    monkeypatch.undo()
    got = run(state, [RECIPES], log, options=FOLLOW)
    assert got.found == []
    assert len(got.kept) == 2
    (before,) = [path for path in state.glob("run-*.jsonl") if path != got.target]
    assert [json.loads(line)["line"] for line in before.read_text().splitlines()] == [1]


KILLED = """
import os, signal, sys
from pathlib import Path
from member_client.detection import detecting, reading
from member_client.detection.engine import Engine
from tests.member_client.test_detect_following import FOLLOW, OFTEN, RECIPES
from tests.member_client.detection_runs import run

reading.BATCH_ROWS, detecting.LEG_ROWS = 50, 100
settle, legs = Engine.settle, []

def dying(engine):
    settle(engine)
    legs.append(engine)
    if len(legs) == 3:
        os.kill(os.getpid(), signal.SIGKILL)

Engine.settle = dying
run(Path(sys.argv[1]), [RECIPES, OFTEN], sys.argv[2], options=FOLLOW)
"""


def test_kill_9_loses_no_match_and_doubles_none(tmp_path: Path) -> None:
    log, state = write_json_lines(tmp_path / "log.jsonl", [request(n % 500) for n in range(1_000)]), tmp_path / "state"
    command = [sys.executable, "-c", KILLED, str(state), str(log)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == -9, done.stderr
    got = run(state, [RECIPES, OFTEN], log, options=FOLLOW)
    assert got.result.rows == 800  # two legs of a hundred were certain
    assert matches(got.found) == matches(run(tmp_path / "whole", [RECIPES, OFTEN], log).found)
    assert len({one["id"] for one in got.found}) == len(got.found)


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    log = write_json_lines(tmp_path / "log.jsonl", [request(0)])
    script = (
        "import sys; from pathlib import Path; from member_client.detection.state import State\n"
        "state = State(Path(sys.argv[1]), lasting=True, memory='100MB'); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(state)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(InvalidInput, match="cannot be opened"):
            run(state, [RECIPES], log, options=FOLLOW)
        other.communicate()
    assert run(state, [RECIPES], log, options=FOLLOW).result.rows == 1


def test_what_nothing_reaches_back_to_is_forgotten(tmp_path: Path) -> None:
    log, folder = write_json_lines(tmp_path / "log.jsonl", [request(n) for n in range(3)]), tmp_path / "state"
    run(folder, [RECIPES, OFTEN], log, options=FOLLOW)
    append(log, request(60 * 24 * 200))
    run(folder, [RECIPES, OFTEN], log, options=FOLLOW)
    state = State(folder, lasting=True, memory="100MB")
    try:
        assert state.connection.execute("SELECT count(*) FROM hit").fetchone() == (2,)
        assert state.connection.execute("SELECT count(*) FROM told").fetchone() == (1,)
    finally:
        state.close()


# -- windows -------------------------------------------------------------------------------------------------------

POOL = pattern(
    "pool",
    rule(category="cluster_window", s={"cluster.key_kind": "payment", "cluster.accounts|gte": 3, "window.hours": 24}),
    kind="behavioral_signature",
)
HEAVY = pattern(
    "heavy", rule(category="account_window", s={"window.requests|gte": 4, "window.hours": 1}), kind="detection_method"
)


def pooled(number: int, account: str) -> dict[str, Any]:
    return {**request(number, account), "payment.fingerprint": "card-1", "account.created": NOON.isoformat()}


def test_windows_of_accounts_and_clusters_name_account_numbers_and_samples(tmp_path: Path) -> None:
    rows = [pooled(n, f"pool-{n % 3}") for n in range(9)] + [request(n, "heavy") for n in range(4)]
    rows[4]["org.id"], rows[7]["org.id"], rows[5]["network.ip"] = "acme", "acme", "203.0.113.5"
    log = write_json_lines(tmp_path / "log.jsonl", rows)
    got = run(tmp_path / "runs", [POOL, HEAVY], log)
    (cluster,) = [one for one in got.found if one["entry"] == "pool"]
    assert cluster["cluster"] == {
        "key_kind": "payment",
        "key": "card-1",
        "accounts": ["pool-0", "pool-1", "pool-2"],
    }
    assert cluster["whose"] == [
        {"account.id": "pool-1", "org.id": ["acme"], "network.ip": []},
        {"account.id": "pool-2", "org.id": [], "network.ip": ["203.0.113.5"]},
    ]
    assert cluster["numbers"]["cluster.accounts"] == 3
    assert cluster["timestamp"] == "2026-03-03T00:00:00+00:00"
    assert [sample["line"] for sample in cluster["samples"]] == [1, 2, 3, 4, 5]
    (account,) = [one for one in got.found if one["entry"] == "heavy"]
    assert (account["account.id"], account["numbers"]) == ("heavy", {"window.hours": 1, "window.requests": 4})
    assert [sample["line"] for sample in account["samples"]] == [10, 11, 12, 13]
    assert "whose" not in account
    assert {tally.entry: tally.accounts for tally in got.result.tallies} == {"pool": 3, "heavy": 1}
    # the day of the window is the day that a sighting would name, not the one that begins at its end
    assert got.result.tallies[0].last == int(datetime(2026, 3, 3, tzinfo=UTC).timestamp()) * 1_000_000 - 1
    assert sorted(map(str, read_detections(got.target))) == sorted(map(str, got.result.tallies))
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [got.target.name]


def test_a_window_that_fills_over_several_runs_is_told_once(tmp_path: Path) -> None:
    log, state = (
        write_json_lines(tmp_path / "log.jsonl", [pooled(n, f"pool-{n}") for n in range(2)]),
        tmp_path / "state",
    )
    assert run(state, [POOL, HEAVY], log, options=FOLLOW).found == []
    append(log, pooled(2, "pool-2"))
    assert [one["entry"] for one in run(state, [POOL, HEAVY], log, options=FOLLOW).found] == ["pool"]
    append(log, pooled(3, "pool-3"))
    assert run(state, [POOL, HEAVY], log, options=FOLLOW).found == []
    kept = list(state.glob("*.parquet"))
    assert len(kept) == 3
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}
    append(log, pooled(60 * 24 * 40, "later"))
    run(state, [POOL, HEAVY], log, options=FOLLOW)
    assert len(list(state.glob("*.parquet"))) == 1
