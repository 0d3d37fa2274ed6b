"""`logs.toml`, folders and globs; and Parquet's times, which SQL reads as the reference evaluator does."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from member_client.cli.reading_logs import sources_of
from member_client.detection.canonical import request_fields
from member_client.detection.log_settings import Column, Source, expanded, read_settings
from member_client.detection.parquet_rows import parquet_batches
from member_client.detection.unreadable import Readability
from member_client.errors import InvalidInput
from member_client.home import Home
from sharing_protocol.pattern_logic.events import parse_time

WHOLE = """
[[source]]
files = ["logs/*.jsonl", "archive"]
[source.fields]
account.id = "customer"
"org.id" = { column = "org_number", text = true }
timestamp = { column = "sent", unit = "ms" }
"account.created" = { column = "opened", zone = "UTC" }
"request.batch" = { value = false }

[[source]]
files = "more.csv"
format = "csv"
"""


def test_settings_say_files_formats_and_columns(tmp_path: Path) -> None:
    (tmp_path / "logs.toml").write_text(WHOLE)
    first, second = read_settings(tmp_path / "logs.toml")
    assert first.columns == {
        "account.id": Column("customer"),
        "org.id": Column("org_number", text=True),
        "timestamp": Column("sent", unit="ms"),
        "account.created": Column("opened", zone="Z"),
        "request.batch": Column("", value=False),
    }
    assert (second.files, second.format) == ((str(tmp_path / "more.csv"),), "csv")
    for name in ("logs/b.jsonl", "logs/a.jsonl", "archive/deep/c.parquet", "archive/d.csv.gz", "archive/read.me"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [str(Path(name).relative_to(tmp_path)) for name in expanded(first).files]
    assert found == ["logs/a.jsonl", "logs/b.jsonl", "archive/d.csv.gz", "archive/deep/c.parquet"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[source", "is not TOML"),
        ("", r"no \[\[source\]\]"),
        ("sources = 1", "unknown key 'sources'"),
        ("[[source]]\nfile = 'x'", "source 1: unknown key 'file'"),
        ("[[source]]\nfiles = []", "files is a list"),
        ("[[source]]\nfiles = 'x'\nformat = 'xml'", "no format 'xml'"),
        ("@fields promt.text = 'p'", "source 1, promt.text: there is no such field"),
        ("@fields prompt.text = 1", "not a column"),
        ("@fields prompt.text = { column = 'x', unit = 'ms' }", "no unit 'ms'"),
        ("@fields timestamp = { column = 'x', unit = 'min' }", "no unit 'min'"),
        (
            "@fields timestamp = { column = 'x', zone = 'CET' }",
            "'CET' is not the zone",
        ),
        (
            "@fields prompt.turns = { column = 'x', text = true }",
            "text is true or false",
        ),
        ("@fields prompt.text = { value = [1] }", "value is text"),
        (
            "@fields prompt.text = { value = 1, column = 'x' }",
            "either column or value",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_at_its_place(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "logs.toml").write_text(text.replace("@fields ", "[[source]]\nfiles = 'x'\n[source.fields]\n"))
    with pytest.raises(InvalidInput, match=says):
        read_settings(tmp_path / "logs.toml")


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no file is called"):
        expanded(Source((str(tmp_path / "*.jsonl"),)))
    with pytest.raises(InvalidInput, match="no logs in"):
        expanded(Source((str(tmp_path),)))
    with pytest.raises(InvalidInput, match="cannot read"):
        read_settings(tmp_path / "none.toml")


def test_named_files_take_the_columns_of_the_source_that_lists_them_or_of_the_only_one(tmp_path: Path) -> None:
    settings = tmp_path / "logs.toml"
    settings.write_text(WHOLE)
    for name in ("logs/a.jsonl", "archive/deep/c.csv", "more.csv", "other.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    home = Home(tmp_path / "nothing here")

    def read(*names: str, mappings: tuple[str, ...] = ()) -> list[Source]:
        return sources_of(home, [str(tmp_path / name) for name in names], settings, mappings)

    customers = [one.columns.get("account.id") for one in read("more.csv", "logs/a.jsonl", "archive/deep/c.csv")]
    assert customers == [None, Column("customer"), Column("customer")]
    (mapped,) = read("logs/a.jsonl", mappings=("account.id=buyer",))
    assert (mapped.columns["account.id"], mapped.columns["timestamp"].unit) == (Column("buyer"), "ms")
    with pytest.raises(InvalidInput, match="2 sources, and none of them lists"):
        read("other.jsonl")
    settings.write_text(WHOLE.partition('[[source]]\nfiles = "more')[0])
    assert [one.columns["account.id"] for one in read("other.jsonl")] == [Column("customer")]
    assert sources_of(home, ["-"], settings, [])[0].columns["account.id"] == Column("customer")


def read_by_sql(values: list[Any], kind: pa.DataType, column: Column) -> list[int | None]:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "times.parquet"
        pq.write_table(pa.table({"timestamp": pa.array(values, kind)}), path)
        fields = request_fields(["timestamp"])
        batches = list(parquet_batches(str(path), {"timestamp": column}, fields, 1, 0, lambda _: None, Readability()))
    return [time for batch, _, _ in batches for time in batch.column("timestamp").to_pylist()]


DIGITS = st.sampled_from(["00", "01", "12", "23", "24", "28", "29", "30", "31", "59", "60", "99"])
TIMES = st.one_of(
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    st.builds(
        "{}-{}-{}{}{}:{}:{}{}{}".format,
        st.sampled_from(["0000", "0001", "1969", "2024", "2026", "9999"]),
        DIGITS, DIGITS, st.sampled_from("Tt _"), DIGITS, DIGITS, DIGITS,
        st.sampled_from(["", ".5", ".1234567", ".123456789012", ".1234567890123"]),
        st.sampled_from(["Z", "z", "", "+00:00", "-23:59", "+24:00", "+05:60", " Z", "Z\n"]),
    ),
)  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(st.lists(TIMES, min_size=50, max_size=80))
@example(["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59.999999Z"])
@example(["2026-03-02T23:59:60Z", "2026-02-29T00:00:00Z", "2024-02-29T00:00:00.9999999+14:00", "", "\u0661"])
def test_texts_of_times_are_read_as_the_reference_reads_them(texts: list[str]) -> None:
    assert read_by_sql(texts, pa.string(), Column("timestamp")) == [parse_time(text) for text in texts]


NUMBERS = st.floats(0, 253_402_300_900) | st.floats() | st.floats(1.6e9, 1.9e9)


@settings(max_examples=20, deadline=None)
@given(st.lists(NUMBERS, min_size=20, max_size=40), st.lists(st.integers(-5, 2**62), min_size=1, max_size=20))
def test_numbers_of_times_are_read_as_the_reference_reads_them(floats: list[float], whole: list[int]) -> None:
    assert read_by_sql(floats, pa.float64(), Column("timestamp")) == [parse_time(number) for number in floats]
    assert read_by_sql(whole, pa.int64(), Column("timestamp")) == [parse_time(number) for number in whole]
    column = Column("timestamp", unit="ns")
    assert read_by_sql(whole, pa.int64(), column) == [parse_time(column.convert(number)) for number in whole]
