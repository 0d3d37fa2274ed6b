"""Values that cannot be read are told by field, by kind and with a remedy, and never shown themselves."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from member_client.detection.canonical import request_fields
from member_client.detection.log_settings import Column, Source
from member_client.detection.reading import Request, read
from member_client.detection.spark_reading import REPORT, FileReport, Reading, numbered_rows
from member_client.detection.unreadable import Implausible, Readability, Unreadable
from tests.member_client.detection_runs import pattern, run, write_json_lines
from tests.pattern_logic.documents import rule

EVERYTHING = Reading(request_fields(), since=None, needed={}, sent=request_fields())

Columns = dict[str, Column]


def readability(file: Path, columns: Columns | None = None, *names: str) -> Readability:
    """What reading the whole of a file tells."""
    found = Readability()
    fields = request_fields(names or None)
    for _ in read(Request(str(file), "", columns or {}, fields), 1, lambda _: None, readability=found):
        pass
    return found


def as_json(path: Path, field: str, value: Any) -> Path:
    return write_json_lines(path / "log.jsonl", [{field: value}, {field: value}, {}, {field: None}])


def as_parquet(path: Path, field: str, value: Any) -> Path:
    pq.write_table(pa.table({field: pa.array([value, value, None])}), path / "log.parquet")
    return path / "log.parquet"


UNIT = 'write timestamp = { column = "timestamp", unit = "%s" } in logs.toml'
CASES = [
    ("timestamp", 1_772_452_800_123, "a whole number of 13 digits", UNIT % "ms"),
    ("timestamp", 1_772_452_800_123_456, "a whole number of 16 digits", UNIT % "us"),
    ("timestamp", 1_772_452_800_123_456_789, "a whole number of 19 digits", UNIT % "ns"),
    ("timestamp", -1, "a whole number of 1 digit", "the years are 1970 to 9999"),
    ("timestamp", 1_772_452_800_123.5, "a number with a fraction", UNIT % "ms"),
    ("timestamp", "2026-03-02 09:00:00.5", "text of the form 9999-99-99 99:99:99.9", 'zone = "UTC"'),
    ("timestamp", "2026-03-02T09:00:00", "text of the form 9999-99-99T99:99:99", 'zone = "UTC"'),
    ("timestamp", "02/Mar/2026:09:00:00", "text of the form 99/aaa/9999:99:99:99", "RFC 3339 with an offset"),
    ("timestamp", "Mrs Miller's divorce", "text of 20 characters", "--map timestamp=COLUMN"),
    ("account.id", 815, "a whole number of 3 digits", 'write "account.id" = { column = "account.id", text = true }'),
    ("account.id", 1.5, "a number with a fraction", "the field takes text"),
    ("account.id", True, "a truth value", "the field takes text"),
    ("prompt.text", ["ten tasks"], "a list", "the field takes text"),
    ("prompt.turns", "5", "a number written as text", "without quotation marks"),
    ("prompt.turns", "five", "text of 4 characters", "the field takes a number"),
    ("prompt.turns", 2**53, "a whole number of 16 digits", "the field takes a number"),
    ("request.batch", 1, "a whole number of 1 digit", "the field takes true or false"),
]


@pytest.mark.parametrize(("field", "value", "kind", "hint"), CASES, ids=range(len(CASES)))
@pytest.mark.parametrize("write", [as_json, as_parquet])
def test_what_cannot_be_read_is_told_by_field(
    field: str, value: Any, kind: str, hint: str, write: Any, tmp_path: Path
) -> None:
    found = readability(write(tmp_path, field, value))
    assert list(found.unreadable) == [field]
    told = found.unreadable[field]
    assert (told.rows, told.kind) == (2, kind)
    assert hint in told.hint


@pytest.mark.parametrize(
    ("value", "kind", "hint"),
    [
        (datetime(2026, 3, 1, 9), "a timestamp without a zone", 'zone = "UTC"'),  # noqa: DTZ001 - what this is about
        (date(2026, 3, 1), "a day without a time", "RFC 3339"),
        ({"seconds": 5}, "a value of another type", "--map"),
    ],
)
def test_columns_that_only_parquet_has(value: Any, kind: str, hint: str, tmp_path: Path) -> None:
    told = readability(as_parquet(tmp_path, "timestamp", value)).unreadable["timestamp"]
    assert (told.rows, told.kind) == (2, kind)
    assert hint in told.hint


def test_of_csv_and_otlp_too(tmp_path: Path) -> None:
    log, export = tmp_path / "log.csv", tmp_path / "export.json"
    log.write_text("timestamp,prompt.turns,request.batch\n1772452800,7,true\n1772452800123,seven,yes\n,,\n")
    assert {name: told.rows for name, told in readability(log).unreadable.items()} == {
        "timestamp": 1,
        "prompt.turns": 1,
        "request.batch": 1,
    }
    attributes = [{"key": "gen_ai.request.model", "value": {"intValue": "4"}}]
    record = {"timeUnixNano": "yesterday", "attributes": attributes}
    write_json_lines(export, [{"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}])
    assert set(readability(export).unreadable) == {"timestamp", "gen_ai.request.model"}


def test_what_is_good_empty_or_not_asked_for_is_not_told(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"timestamp": "2026-03-02T09:00:00Z", "account.id": "a", "prompt.turns": 5, "request.batch": False},
        {"timestamp": "", "account.id": "", "prompt.turns": None, "org.id": 5},
        {"timestamp": 1_772_452_800, "prompt.turns": float("nan")},
    ]
    names = ("timestamp", "account.id", "prompt.turns", "request.batch")
    assert readability(write_json_lines(tmp_path / "log.jsonl", rows), None, *names).unreadable == {}
    columns = {
        "timestamp": pa.array([datetime(2026, 3, 2, tzinfo=UTC), None]),
        "account.created": pa.array(["2026-03-02T09:00:00Z", ""]),
        "prompt.turns": pa.array([float("nan"), 5.0]),
        "org.id": pa.array(["a", ""]).dictionary_encode(),
    }
    pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    assert readability(tmp_path / "log.parquet").unreadable == {}


@given(st.text(max_size=40) | st.text("0123456789-:TZ ./aé½٣", min_size=6, max_size=35))
def test_of_a_text_only_its_length_or_form_is_shown(value: str) -> None:
    (entry,) = request_fields(["timestamp"])
    found = Readability()
    found.note(entry, Column("timestamp"), value, 1)
    kind = found.unreadable["timestamp"].kind
    form = kind.removeprefix("text of the form ")
    if form != kind:
        assert set(form) <= set("9aTtZz :/.,+-_")
    else:
        assert kind in (f"text of {len(value)} character{'' if len(value) == 1 else 's'}", "a number written as text")


def test_a_column_that_is_named_and_never_met_is_told_of_files_with_rows(tmp_path: Path) -> None:
    columns = {"account.id": Column("customer"), "org.id": Column("who.org"), "request.batch": Column("", value=True)}
    log = write_json_lines(tmp_path / "log.jsonl", [{"account.id": "a"}, {"who": {"org": "b"}}])
    found = readability(log, columns)
    assert found.unmet == [("account.id", "customer")]
    assert found.unreadable == {}
    assert found.implausible == {}
    pq.write_table(pa.table({"who": [{"org": "b"}]}), tmp_path / "log.parquet")
    assert readability(tmp_path / "log.parquet", columns).unmet == [("account.id", "customer")]
    empty = write_json_lines(tmp_path / "empty.jsonl", [])
    assert readability(empty, columns).unmet == []
    found.include(Readability({}, {("account.id", "customer")}, {("account.id", "customer")}))
    assert found.unmet == []


def test_zones_and_units_that_do_not_fit_are_told_as_such(tmp_path: Path) -> None:
    log = as_json(tmp_path, "at", "2026-03-01T09:00:00Z")
    told = readability(log, {"timestamp": Column("at", zone="Z")}).unreadable["timestamp"]
    assert told.kind == "text of the form 9999-99-99T99:99:99Z"
    assert "leave zone out" in told.hint
    log = as_json(tmp_path, "at", 1_772_452_800_123_456_789)
    told = readability(log, {"timestamp": Column("at", unit="ms")}).unreadable["timestamp"]
    assert 'write timestamp = { column = "at", unit = "ns" } in logs.toml' in told.hint
    log = as_json(tmp_path, "at", 1e300)
    assert "another unit" in readability(log, {"timestamp": Column("at", unit="ms")}).unreadable["timestamp"].hint


MARCH = 1_772_452_800  # 2026


@pytest.mark.parametrize("write", [as_json, as_parquet])
@pytest.mark.parametrize(
    ("value", "unit", "year", "hint"),
    [
        (MARCH, "ms", 1970, 'write timestamp = { column = "at", unit = "s" } in logs.toml'),
        (MARCH * 1_000, "us", 1970, 'write timestamp = { column = "at", unit = "ms" } in logs.toml'),
        (MARCH * 1_000_000, "ns", 1970, 'write timestamp = { column = "at", unit = "us" } in logs.toml'),
        (0, "s", 1970, "leave the value away"),
        ("2014-12-31T23:59:59Z", "s", 2014, "leave the value away"),
        ("2126-03-02T12:00:00Z", "s", 2126, "see that unit, zone and the clock"),
        (MARCH * 1_000 * 100, "ms", 7586, "see that unit, zone and the clock"),
    ],
)
def test_times_that_cannot_be_meant_are_told_with_how_to_mend_it(
    write: Any, value: Any, unit: str, year: int, hint: str, tmp_path: Path
) -> None:
    told = readability(write(tmp_path, "at", value), {"timestamp": Column("at", unit=unit)})
    assert told.unreadable == {}
    assert (told.implausible["timestamp"].rows, told.implausible["timestamp"].year) == (2, year)
    assert hint in told.implausible["timestamp"].hint
    assert told.document()["implausible_times"][0]["field"] == "timestamp"


def test_times_from_2015_to_the_day_after_now_are_not_told(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    times = [
        "2015-01-01T00:00:00Z",
        (now + timedelta(hours=23)).isoformat(),
        None,
        (now + timedelta(days=2)).isoformat(),
    ]
    log = write_json_lines(tmp_path / "log.jsonl", [{"timestamp": time, "account.created": times[0]} for time in times])
    assert {name: one.rows for name, one in readability(log).implausible.items()} == {"timestamp": 1}


def test_a_run_tells_of_all_files_also_of_rows_left_out_as_undated(tmp_path: Path) -> None:
    found = pattern("any", rule(s={"prompt.text|contains": "tasks"}))
    row = {"timestamp": 1_772_452_800_123, "account.id": 7, "prompt.text": "ten tasks"}
    source = Source(
        tuple(str(write_json_lines(tmp_path / f"{n}.jsonl", [row])) for n in range(2)), columns={"org.id": Column("o")}
    )
    told = run(tmp_path / "runs", [found], source).result.readability
    assert {name: one.rows for name, one in told.unreadable.items()} == {"timestamp": 2, "account.id": 2}
    assert told.document()["columns_never_met"] == [{"field": "org.id", "column": "o"}]
    assert told.document()["unreadable"][0] == {
        "field": "account.id",
        "rows": 2,
        "kind": "a whole number of 1 digit",
        "hint": 'write "account.id" = { column = "account.id", text = true } in logs.toml (beside named files: --logs)',
    }


def test_a_task_of_spark_tells_the_same(tmp_path: Path) -> None:
    log, columns = as_json(tmp_path, "timestamp", "2026-03-02T09:00:00"), {"org.id": Column("o")}
    source = Source((str(log),), columns=columns)
    *_, last = numbered_rows(source, EVERYTHING, 0)
    report = FileReport(**json.loads(last.column(REPORT)[0].as_py()))
    assert report.readability == readability(log, columns)
    assert report.readability.unreadable["timestamp"].rows == 2
    columns["timestamp"] = Column("timestamp", unit="ms")
    log = as_json(tmp_path, "timestamp", MARCH)
    *_, last = numbered_rows(Source((str(log),), columns=columns), EVERYTHING, 0)
    report = FileReport(**json.loads(last.column(REPORT)[0].as_py()))
    assert report.readability == readability(log, columns)
    assert report.readability.implausible["timestamp"].rows == 2


def test_what_several_files_told_is_added(tmp_path: Path) -> None:
    one = Readability({"timestamp": Unreadable(2, "a list", "x")})
    one.include(Readability({}, implausible={"timestamp": Implausible(1, 1970, "x")}))
    one.include(Readability({}, implausible={"timestamp": Implausible(2, 1971, "y")}))
    assert one.implausible == {"timestamp": Implausible(3, 1970, "x")}
    one.include(Readability({"timestamp": Unreadable(3, "other", "y"), "org.id": Unreadable(1, "a list", "z")}))
    assert one.unreadable == {"timestamp": Unreadable(5, "a list", "x"), "org.id": Unreadable(1, "a list", "z")}
