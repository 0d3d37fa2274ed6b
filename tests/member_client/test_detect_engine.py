"""The engine finds what the reference evaluator finds, whatever the rules, the events and the form of the log."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from member_client.detection.detecting import Options
from member_client.detection.findings import to_parquet
from member_client.detection.log_settings import Column, Source
from tests.member_client.detection_runs import matches, pattern, run, write_json_lines
from tests.pattern_logic.documents import correlation, rule

REFERENCE = Options(reference=True)
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def told(number: int, text: str, account: str = "a", more: dict[str, Any] | None = None) -> dict[str, Any]:
    """A request, so many minutes after noon."""
    moment = (NOON + timedelta(minutes=number)).isoformat()
    return {"timestamp": moment, "account.id": account, "prompt.text": text, **(more or {})}


WORDS = [
    "step by step",
    "Chain of thought",
    "ten diverse tasks",
    "recipe",
    "\u017ftep by \u017ftep",
    "\u017fhow your wor\u212a",
    "é中文",
]
CONDITIONS = [
    {"prompt.text|contains": ["step by step", "diverse tasks"]},
    {"prompt.text|re|i": "chain[- ]of[- ]thought"},
    {"prompt.text|contains|all": ["ten", "tasks"]},
    {"prompt.text|contains": "中文"},
    {"prompt.text|contains|cased": "Chain"},
    {"prompt.text|endswith": "work"},
    {"prompt.turns|gte": 3},
    {"prompt.turns|gte": 2, "prompt.text|contains": "recipe"},
    {"request.batch": True},
    {"prompt.system|contains": "step by step"},
    {"network.ip|cidr": "192.0.2.0/24"},
    {"prompt.text": "recipe"},
]
ROWS = st.lists(
    st.fixed_dictionaries(
        {"prompt.text": st.lists(st.sampled_from(WORDS), max_size=3).map(" ".join)},
        optional={
            "timestamp": st.integers(1_700_000_000, 1_700_009_000) | st.just("yesterday"),
            "account.id": st.sampled_from(["a", "b", 7]),
            "prompt.system": st.sampled_from(WORDS),
            "prompt.turns": st.integers(0, 4) | st.just("3") | st.just(2**60),
            "request.batch": st.booleans() | st.just("true"),
            "network.ip": st.sampled_from(["192.0.2.9", "::1", "nowhere"]),
            "org.id": st.sampled_from(["acme", 5]),
        },
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=15, deadline=None)
@given(
    ROWS,
    st.lists(st.sampled_from(CONDITIONS), min_size=2, max_size=4),
    st.sampled_from(["s0 and s1", "s0 or s1", "s0 and not s1", "1 of s*"]),
    st.sampled_from(["event_count", "value_count", "value_sum"]),
)
def test_what_the_engine_finds_is_what_the_reference_finds(
    rows: list[dict[str, Any]], chosen: list[dict[str, Any]], condition: str, kind: str
) -> None:
    selections: dict[str, Any] = {f"s{n}": one for n, one in enumerate(chosen)}
    holds = {"gte": 2} | ({"field": "prompt.turns"} if kind != "event_count" else {})
    both = [
        pattern("plain", rule(condition, **selections)),
        pattern("counted", rule(condition, **selections), correlation(kind, condition=holds, generate=True)),
    ]
    with tempfile.TemporaryDirectory() as place:
        log = write_json_lines(Path(place) / "log.jsonl", rows)
        engine = run(Path(place) / "engine", both, log)
        reference = run(Path(place) / "reference", both, log, options=REFERENCE)
    assert matches(engine.found) == matches(reference.found)
    assert engine.result.tallies == reference.result.tallies


ROWS_OF_ALL_FORMS: list[dict[str, Any]] = [
    told(0, "ten diverse tasks", more={"prompt.turns": 3, "network.ip": "192.0.2.9"}),
    told(1, 'a recipe,\n"quoted"', "b", {"prompt.turns": 1}),
    told(2, "step by step", more={"request.batch": True, "gen_ai.usage.output_tokens": 900}),
    told(3, "ten other tasks", "b", {"prompt.turns": 4, "account.created": 1_700_000_000}),
]
ALL_FORMS = [
    pattern("tasks", rule(s={"prompt.text|contains|all": ["ten", "tasks"]})),
    pattern("turns", rule(s={"prompt.turns|gte": 3})),
    pattern("batch", rule(s={"request.batch": True, "gen_ai.usage.output_tokens|gt": 899.5})),
    pattern("quoted", rule(s={"prompt.text|endswith": 'recipe,\n"quoted"'})),
    pattern("created", rule(s={"account.created|exists": True})),
    pattern("sent", rule(s={"network.ip|cidr": "192.0.2.0/24"})),
]


def as_csv(path: Path) -> None:
    names = sorted({name for row in ROWS_OF_ALL_FORMS for name in row})
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for row in ROWS_OF_ALL_FORMS:
            writer.writerow({name: str(value).lower() if value is True else value for name, value in row.items()})


def as_parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([{**dict.fromkeys(all_names()), **row} for row in ROWS_OF_ALL_FORMS]), path)


def as_parquet_with_times(path: Path) -> None:
    rows = [{**row, "timestamp": datetime.fromisoformat(row["timestamp"])} for row in ROWS_OF_ALL_FORMS]
    pq.write_table(pa.Table.from_pylist([{**dict.fromkeys(all_names()), **row} for row in rows]), path)


def all_names() -> list[str]:
    return sorted({name for row in ROWS_OF_ALL_FORMS for name in row})


def as_otlp(path: Path) -> None:
    attributes = [
        [{"key": name, "value": typed(value)} for name, value in row.items() if name != "timestamp"]
        + [{"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}}]
        for row in ROWS_OF_ALL_FORMS
    ]
    times = [int(datetime.fromisoformat(row["timestamp"]).timestamp()) * 1_000_000_000 for row in ROWS_OF_ALL_FORMS]
    path.write_text(
        "".join(
            json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"timeUnixNano": str(t), "attributes": a}]}]}]})
            + "\n"
            for t, a in zip(times, attributes, strict=True)
        )
    )


def typed(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}


@pytest.mark.parametrize(
    ("name", "write"),
    [("log.csv", as_csv), ("log", as_parquet), ("log.parquet", as_parquet_with_times), ("log.otlp", as_otlp)],
)
def test_a_log_says_the_same_in_every_form(name: str, write: Any, tmp_path: Path) -> None:
    lines = write_json_lines(tmp_path / "log.jsonl", ROWS_OF_ALL_FORMS)
    write(tmp_path / name)
    expected = run(tmp_path / "one", ALL_FORMS, lines)
    got = run(tmp_path / "two", ALL_FORMS, tmp_path / name)
    assert got.broken == []
    unplaced = [{**one, "id": "", "file": "", "line": 0} for one in got.found]
    assert unplaced == [{**one, "id": "", "file": "", "line": 0} for one in expected.found]
    assert len(got.found) == 8


def test_structured_messages_of_opentelemetry_are_prompt_system_turns_and_tools(tmp_path: Path) -> None:
    messages = [
        {"role": "user", "parts": [{"type": "text", "content": "hello"}]},
        {"role": "assistant", "parts": [{"type": "text", "content": "ten diverse tasks"}]},
        {"role": "user", "parts": [{"type": "text", "content": "one"}, {"type": "text", "content": "two"}]},
    ]
    system = {"arrayValue": {"values": [{"kvlistValue": {"values": [{"key": "content", "value": typed("Be kind.")}]}}]}}
    attributes = [
        {"key": "gen_ai.input.messages", "value": typed(json.dumps(messages))},
        {"key": "gen_ai.system_instructions", "value": system},
        {"key": "gen_ai.tool.definitions", "value": typed('[{"name": "x"}, {"name": "y"}]')},
    ]
    outer = [{"key": "client.address", "value": typed("192.0.2.9")}]
    span = {"startTimeUnixNano": "1772452800000000001", "attributes": attributes}
    other = {"startTimeUnixNano": "1772452800000000001", "attributes": outer}
    export = {"resourceSpans": [{"resource": {"attributes": outer}, "scopeSpans": [{"spans": [span, other]}]}]}
    log = tmp_path / "spans.json"
    log.write_text(json.dumps(export) + "\n")
    exact = {"prompt.text": "one\ntwo", "prompt.turns": 2, "request.tools": 2, "prompt.system": "be kind."}
    got = run(tmp_path / "runs", [pattern("all", rule(s={**exact, "network.ip": "192.0.2.9"}))], log)
    assert got.result.rows == 1
    assert [one["timestamp"] for one in got.found] == ["2026-03-02T12:00:00+00:00"]


def test_columns_of_other_names_units_and_zones_are_read_as_the_lab_says(tmp_path: Path) -> None:
    columns = {
        "prompt.text": Column("body.question"),
        "account.id": Column("customer", text=True),
        "timestamp": Column("at", unit="ms"),
        "account.created": Column("opened", zone="+02:00"),
        "request.batch": Column("", value=True),
    }
    row = {"body": {"question": "ten tasks"}, "customer": 12, "at": 1_772_452_800_123, "opened": "2026-03-01T01:00:00"}
    wanted = pattern("all", rule(s={"prompt.text": "ten tasks", "account.created|exists": True, "request.batch": True}))
    lines = write_json_lines(tmp_path / "log.jsonl", [row])
    table = tmp_path / "log.parquet"
    opened = datetime(2026, 3, 1, 1)  # noqa: DTZ001 - what this test is about
    pq.write_table(pa.Table.from_pylist([{**row, "opened": opened}]), table)
    for name in (lines, table):
        got = run(tmp_path / "runs", [wanted], Source((str(name),), columns=columns))
        assert [(one["account.id"], one["timestamp"]) for one in got.found] == [
            ("12", "2026-03-02T12:00:00.123000+00:00")
        ]
    plain = run(tmp_path / "runs", [pattern("dated", rule(s={"account.created|exists": True}))], table)
    assert plain.found == []


def test_the_name_of_a_file_is_neither_a_pattern_nor_a_column(tmp_path: Path) -> None:
    wanted = [pattern("all", rule(s={"prompt.text|contains": "tasks"}))]
    folder = tmp_path / "account.id=innocent"
    folder.mkdir()
    for name, account in (("[ab]*.parquet", "guilty"), ("a?.parquet", "other"), ("b1.parquet", "third")):
        pq.write_table(pa.table({"prompt.text": ["ten tasks"], "account.id": [account]}), folder / name)
    got = run(tmp_path / "runs", wanted, folder / "[ab]*.parquet")
    assert [one["account.id"] for one in got.found] == ["guilty"]
    strange = os.fsdecode(bytes(tmp_path / "a") + b"\xff.jsonl")
    write_json_lines(Path(strange), [{"prompt.text": "ten tasks"}])
    (found,) = run(tmp_path / "runs", wanted, strange).found
    assert found["file"].endswith("a\\xff.jsonl")


def test_broken_rows_of_csv_and_parquet_are_named_and_the_others_are_kept(tmp_path: Path) -> None:
    wanted = [pattern("all", rule(s={"prompt.text|contains": "tasks"}))]
    log = tmp_path / "log.csv"
    log.write_bytes(
        b'prompt.text,account.id\n"ten\ntasks",a\nonly one\n\xff,b\nmore tasks,c\nx,"y" z\nlast tasks,d\n"open'
    )
    got = run(tmp_path / "runs", wanted, log)
    assert [one["line"] for one in got.found] == [2, 6, 8]
    assert [row.place.line for row in got.broken] == [4, 5, 7, 9]
    cut = tmp_path / "cut.parquet"
    as_parquet(cut)
    cut.write_bytes(cut.read_bytes()[:-20])
    got = run(tmp_path / "runs", wanted, cut, log)
    assert "not Parquet" in got.broken[0].reason
    assert len(got.found) == 3


def test_a_match_names_its_numbers_its_window_and_some_of_its_requests(tmp_path: Path) -> None:
    log = write_json_lines(tmp_path / "log.jsonl", [told(n, "recipe", more={"prompt.turns": n}) for n in range(9)])
    plain = pattern("plain", rule(s={"prompt.turns|gte": 8, "prompt.text|contains": "recipe"}))
    often = pattern(
        "often",
        rule(s={"prompt.text|contains": "recipe"}),
        correlation("event_count", timespan="4m", condition={"gte": 4}),
    )
    got = run(tmp_path / "runs", [plain, often], log)
    assert got.found[0]["numbers"] == {"prompt.turns": 8}
    windows = got.found[1:]
    assert [one["line"] for one in windows] == [4, 5, 6, 7, 8, 9]
    assert windows[-1]["window"]["value"] == 4
    assert windows[-1]["window"]["group"] == {"account.id": "a"}
    assert [sample["line"] for sample in windows[-1]["samples"]] == [6, 7, 8, 9]
    assert "recipe" not in got.target.read_text()
    to_parquet(got.target, tmp_path / "found.parquet")
    table = pq.read_table(tmp_path / "found.parquet")
    assert table.column("id").to_pylist() == [one["id"] for one in got.found]
    assert (tmp_path / "found.parquet").stat().st_mode & 0o777 == 0o600


def test_requests_before_since_are_left_out(tmp_path: Path) -> None:
    log = write_json_lines(tmp_path / "log.jsonl", [told(n, "recipe") for n in range(5)] + [{"prompt.text": "recipe"}])
    since = int((NOON + timedelta(minutes=3)).timestamp()) * 1_000_000
    wanted = [pattern("plain", rule(s={"prompt.text": "recipe"}))]
    for options in (Options(since=since), Options(since=since, reference=True)):
        assert [one["line"] for one in run(tmp_path / "runs", wanted, log, options=options).found] == [4, 5]


def test_a_literal_that_most_rows_have_is_no_help_and_changes_nothing(tmp_path: Path) -> None:
    rows = [told(n % 60, f"recipe {'of tasks' if n % 7 == 0 else ''}") for n in range(30_000)]
    log = write_json_lines(tmp_path / "log.jsonl", rows)
    wanted = [
        pattern("common", rule(s={"prompt.text|re": "recipe of"})),
        pattern("rare", rule(s={"prompt.text|contains": "tasks"})),
    ]
    got = run(tmp_path / "runs", wanted, log)
    assert [tally.matches for tally in got.result.tallies] == [4_286, 4_286]


def test_fields_that_no_row_has_are_named(tmp_path: Path) -> None:
    log = write_json_lines(tmp_path / "log.jsonl", [{"prompt.text": "x"}])
    some = pattern("some", rule("s0 or s1", s0={"prompt.text": "x"}, s1={"prompt.system": "x"}))
    none = pattern("none", rule(s={"prompt.turns|gte": 1}))
    got = run(tmp_path / "runs", [some, none], log)
    assert got.result.missing == {"some": ("prompt.system",), "none": ("prompt.turns",)}
    assert got.result.hopeless == {"none"}


def test_groups_may_have_names(tmp_path: Path) -> None:
    """DuckDB's RE2 is older than the one that expressions are checked with: it knows no `(?<name>`."""
    named = [
        pattern(f"named-{n}", rule(s={"prompt.text|re|i": expression}))
        for n, expression in enumerate(["(?<x>ten) tasks", "(?P<é>ten|two) tasks", "(?P<x>TEN) [^a-f]asks"])
    ]
    log = write_json_lines(tmp_path / "log.jsonl", [told(0, "ten tasks"), told(1, "tent asks")])
    found = run(tmp_path / "run", named, log).found
    assert [(one["entry"], one["line"]) for one in found] == [("named-0", 1), ("named-1", 1), ("named-2", 1)]
