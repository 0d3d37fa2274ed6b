"""`detect` on Spark writes what it writes on DuckDB, byte for byte; `make test-spark` runs it."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from hub.identity import HubIdentity
from member_client.detection.detecting import Options
from member_client.detection.in_force import RunnablePattern, Selection
from member_client.detection.log_settings import Column, Source
from member_client.detection.request_logs import BrokenRow
from member_client.detection.spark_engine import SparkEngine, only_on_spark
from member_client.detection.state import State
from member_client.errors import InvalidInput
from member_client.patterns import library
from sharing_protocol.pattern_logic.catalogue import Category
from tests.forum import ForumInABox, pattern_body, running_hub
from tests.member_client.detection_runs import Run, pattern, run, write_json_lines
from tests.member_client.lab_homes import Client, make_home
from tests.pattern_logic.documents import correlation, rule

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def starters() -> list[RunnablePattern]:
    """The starter patterns, as if they were in force."""
    read = {name: yaml.safe_load(library.starter(name).text) for name in library.starter_names()}
    return [pattern(name, *document["logic"], kind=document["kind"]) for name, document in read.items()]


def over_requests() -> list[RunnablePattern]:
    """Those over requests."""
    return [one for one in starters() if one.logic.category is Category.REQUEST]


NAMELESS = r"it's a \n title"
CORRELATED = [
    pattern(
        "often",
        rule(s={"prompt.text|exists": True}),
        correlation("event_count", timespan="20m", condition={"gte": 6}, generate=True),
    ),
    pattern(
        "summed",
        rule(s={"gen_ai.usage.output_tokens|gt": 0}, name="tokens"),
        {key: value for key, value in rule(s={"prompt.turns": 3}).items() if key != "name"} | {"title": NAMELESS},
        correlation(
            "value_sum",
            "tokens",
            group_by=["org.id", "request.batch"],
            condition={"gte": 300, "field": "gen_ai.usage.output_tokens"},
        ),
        correlation(
            "value_avg",
            "tokens",
            name="average",
            group_by=None,
            condition={"lt": 40.5, "field": "gen_ai.usage.output_tokens"},
        ),
    ),
    pattern(
        "one after the other",
        rule(s={"prompt.turns|gte": 2}, name="long"),
        rule(s={"request.batch": True}, name="batch"),
        correlation("temporal_ordered", "long", "batch", timespan="10m", generate=True),
        correlation("value_count", "long", name="spread", condition={"gte": 3, "field": "network.ip"}),
    ),
]


def requests() -> list[dict[str, Any]]:
    """What the starters' own tests send, over some accounts and two hours; also what is no value."""
    tests = [yaml.safe_load(library.starter(one.entry).text)["tests"] for one in over_requests()]
    events = [event for some in tests for test in some for event in test["events"]]
    rows = []
    for number, event in enumerate(events * 2):
        row = {
            "timestamp": (NOON + timedelta(seconds=97 * (number % 150), microseconds=number)).isoformat(),
            "account.id": f"account {number % 7}",
            "org.id": f"organisation {number % 3}",
            "network.ip": f"192.0.2.{number % 11}",
            "prompt.turns": number % 4,
            "request.batch": number % 5 == 0,
            "gen_ai.usage.output_tokens": number % 90,
        }
        rows.append(row | event)
    rows[3]["timestamp"] = "yesterday"
    rows[5]["account.id"] = 7
    rows[8]["prompt.turns"] = 2**60
    rows[9]["prompt.text"] = "half a pair \ud800, a NUL \0, and é"
    return rows


def both(folder: Path, session: Any, patterns: list[RunnablePattern], *logs: Any, **options: Any) -> tuple[Run, Run]:
    """The same run on DuckDB and on Spark."""
    expected = run(folder / "duckdb", patterns, *logs, options=Options(**options))
    got = run(folder / "spark", patterns, *logs, options=Options(spark=session, **options))
    assert got.target.read_text() == expected.target.read_text()
    assert (got.result, got.broken) == (expected.result, expected.broken)
    return expected, got


def test_starters_and_correlations_find_the_same_row_for_row(session: Any, tmp_path: Path) -> None:
    rows = requests()
    third = len(rows) // 3
    plain = write_json_lines(tmp_path / "a.jsonl", rows[:third])
    packed = tmp_path / "b.jsonl.gz"
    packed.write_bytes(gzip.compress(write_json_lines(tmp_path / "b.jsonl", rows[third : 2 * third]).read_bytes()))
    table = tmp_path / "c.parquet"
    names = sorted({name for row in rows for name in row})
    pq.write_table(pa.Table.from_pylist([{**dict.fromkeys(names), **row} for row in rows[2 * third :]]), table)
    patterns = [*over_requests(), *CORRELATED]
    expected, got = both(tmp_path, session, patterns, plain, packed, table)
    matched = {one["entry"] for one in expected.found}
    assert {one.entry for one in patterns} == matched
    assert {"base", "correlation", "average", "spread", "batch", NAMELESS} <= {one["rule"] for one in got.found}
    assert got.result.rows == len(rows)
    assert any("samples" in one for one in got.found)


def test_broken_rows_other_columns_and_since_are_the_same(session: Any, tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    with log.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "account.id", "at"])
        writer.writerows(["ten\ntasks", f"account {n}", 1_772_452_800_000 + n * 60_000] for n in range(40))
        file.write('one cell\nx,"y" z,1\n')
    cut = tmp_path / "cut.parquet"
    pq.write_table(pa.table({"question": ["tasks"] * 9}), cut)
    cut.write_bytes(cut.read_bytes()[:-20])
    lines = tmp_path / "lines.jsonl"
    lines.write_text("\n".join(["{"] * 130 + [json.dumps({"question": "no tasks", "at": 1_772_460_000_000})]))
    columns = {"prompt.text": Column("question"), "timestamp": Column("at", unit="ms")}
    patterns = [
        pattern("tasks", rule(s={"prompt.text|contains": "tasks"})),
        pattern("turns", rule(s={"prompt.turns|gte": 1})),
    ]
    sources = [Source((str(name),), columns=columns) for name in (log, cut)]
    since = int((NOON + timedelta(minutes=30)).timestamp()) * 1_000_000
    _, got = both(tmp_path, session, patterns, *sources, since=since)
    assert (got.result.rows, len(got.found), len(got.broken)) == (10, 10, 3)
    assert got.result.missing == {"turns": ("prompt.turns",)}
    many = run(tmp_path / "many", patterns, Source((str(lines),), columns=columns), options=Options(spark=session))
    assert (len(many.broken), len(many.found)) == (130, 1)
    assert [row.place.line for row in many.broken] == [*range(1, 101), *[0] * 30]


def test_what_spark_cannot_say_is_left_out_with_the_reason_and_what_rests_on_it_too() -> None:
    endless = rule(s={"prompt.text|re": "(?:a.?)+b"})
    selection = only_on_spark(Selection((*starters(), pattern("endless", endless, kind="behavioral_signature")), ()))
    assert [one.id for one in selection.left_out] == ["pattern--endless"]
    assert "not runnable on Spark" in selection.left_out[0].reason
    share = rule(category="account_window", s={"window.query_pattern_share|gte": 0.5})
    selection = only_on_spark(Selection((*starters(), pattern("share", share), pattern("endless", endless)), ()))
    reasons = {one.id: one.reason for one in selection.left_out}
    assert {"pattern--share", "pattern--endless"} <= reasons.keys()
    assert "a query pattern in force cannot run there" in reasons["pattern--share"]
    assert any(one.logic.category is not Category.REQUEST for one in selection.runnable)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    made = State(tmp_path / "state", lasting=False, memory="500MB")
    yield made
    made.close()


@pytest.mark.parametrize("patterns", [CORRELATED, starters()], ids=["requests", "windows"])
def test_a_log_that_a_worker_cannot_see_is_named(
    session: Any, state: State, tmp_path: Path, patterns: list[RunnablePattern]
) -> None:
    engine = SparkEngine(session, state, patterns)
    with pytest.raises(InvalidInput, match=r"cannot read .*gone\.jsonl") as refused:
        engine.read([Source((str(tmp_path / "gone.jsonl"),))], list[BrokenRow]().append)
    assert "all of them must see the logs" in refused.value.hint


def test_spark_that_fails_is_one_line(session: Any, state: State, tmp_path: Path) -> None:
    log = write_json_lines(tmp_path / "log.jsonl", [{"prompt.text": "x"}])
    engine = SparkEngine(session, state, CORRELATED)
    engine.read([Source((str(log),))], list[BrokenRow]().append)
    for table in session.catalog.listTables():
        session.catalog.dropTempView(table.name)
    with pytest.raises(InvalidInput, match=r"Spark failed: .*TABLE_OR_VIEW_NOT_FOUND") as refused:
        list(engine.found())
    assert "\n" not in str(refused.value)


def test_the_command_finds_on_spark_what_it_finds_on_duckdb(
    session: Any,
    new_database: Callable[[], str],
    hub_identity: HubIdentity,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with running_hub(new_database(), hub_identity) as hub:
        box = ForumInABox(hub)
        box.found()
        box.publish(box.admit("Aurora"), pattern_body())
        boreal = Client(make_home(tmp_path / "boreal", box, box.admit("Boreal")), capsys)
        boreal.run("sync")
    texts = ["Please come up with 20 diverse tasks.", "What is 3?"]
    log = write_json_lines(tmp_path / "log.jsonl", [{"prompt.text": text} for text in texts * 5])
    for engine in ("duckdb", "spark"):
        summary = boreal.json("detect", str(log), "--engine", engine, "-o", str(tmp_path / engine))
        assert summary["rows"] == 10
        assert summary["patterns"][0]["matches"] == 5
    assert (tmp_path / "spark").read_text() == (tmp_path / "duckdb").read_text()
    assert session.range(1).count() == 1  # a session that was there is left running
