"""Reading request logs: rows as events, every kind of file, and what is broken told apart from what is good."""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from member_client.detection import request_logs
from member_client.detection.canonical import BatchBuilder, request_fields
from member_client.detection.request_logs import BrokenRow, rows, total_bytes
from member_client.detection.rows import BadRow, event_fields, flatten, parse_columns
from member_client.errors import InvalidInput

LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
PARTS = st.text("abcd", min_size=1, max_size=3)
FLAT = st.dictionaries(st.lists(PARTS, min_size=1, max_size=4).map(".".join), LEAVES, max_size=8)


def without_prefixes(flat: dict[str, Any]) -> dict[str, Any]:
    """Leave out names under which another name lies: nested, one place would be a value and an object at once."""
    return {name: value for name, value in flat.items() if not any(other.startswith(f"{name}.") for other in flat)}


def nest(flat: dict[str, Any], depth_of: Callable[[str], int]) -> dict[str, Any]:
    """Write the same fields with their first dots as nested objects."""
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *folders, last = name.split(".", depth_of(name))
        inner = nested
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[last] = value
    return nested


@given(FLAT.map(without_prefixes), st.data())
def test_nested_and_dotted_names_are_the_same_fields(flat: dict[str, Any], data: st.DataObject) -> None:
    # a name is nested as deep as all names that begin like it, or one object would stand beside its own dotted names
    depth = data.draw(st.sampled_from([0, 1, 2, 9]))
    assert flatten(nest(flat, lambda _name: depth)) == flat
    assert event_fields(dict(flat), {}) == flat


def test_a_field_that_stands_there_twice_is_refused() -> None:
    with pytest.raises(BadRow, match=r"prompt\.text"):
        flatten({"prompt": {"text": "a"}, "prompt.text": "b"})


def test_a_row_may_be_nested_as_deep_as_json_goes() -> None:
    deep: dict[str, Any] = {"x": 1}
    for _ in range(400):
        deep = {"a": deep}
    assert flatten(deep) == {"a." * 400 + "x": 1}


def test_columns_are_renamed_after_flattening() -> None:
    columns = parse_columns(["prompt.text=body.user", "account.id=customer"])
    row = event_fields({"body": {"user": "hello"}, "customer": "c1"}, columns)
    assert row["prompt.text"] == "hello"
    assert row["account.id"] == "c1"
    assert event_fields({"other": 1}, columns) == {"other": 1}


@pytest.mark.parametrize(
    ("mappings", "says"),
    [
        (["prompt.text"], "not a mapping"),
        (["prompt.text="], "not a mapping"),
        (["promt.text=p"], "no field"),
        (["window.requests=n"], "no field"),
        (["prompt.text=a", "prompt.text=b"], "twice"),
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused(mappings: list[str], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        parse_columns(mappings)


# -- files ---------------------------------------------------------------------------------------------------------


def read(*files: Path | str) -> tuple[list[tuple[int, Any]], list[BrokenRow]]:
    broken: list[BrokenRow] = []
    found = [(line, row) for _, line, row in rows([str(file) for file in files], broken.append)]
    return found, broken


LOG = b'{"prompt.text": "one"}\n{"prompt.text": "two"}\n\n{"prompt.text": "three"}'
GOOD = [(1, {"prompt.text": "one"}), (2, {"prompt.text": "two"}), (4, {"prompt.text": "three"})]


@pytest.mark.parametrize(
    "packed",
    [
        LOG,
        b"\xef\xbb\xbf" + LOG,
        LOG.replace(b"\n", b"\r\n"),
        gzip.compress(LOG),
        gzip.compress(LOG[:30]) + gzip.compress(LOG[30:]),
        zstandard.compress(LOG),
        zstandard.compress(LOG[:30]) + zstandard.compress(LOG[30:]),
    ],
    ids=["plain", "byte order mark", "CRLF", "gzip", "gzip members", "zstd", "zstd frames"],
)
def test_a_log_is_read_whatever_it_is_packed_in(packed: bytes, tmp_path: Path) -> None:
    file = tmp_path / "any-name"
    file.write_bytes(packed)
    assert read(file) == (GOOD, [])


def test_standard_input_is_read_and_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BufferedReader(io.BytesIO(gzip.compress(LOG)))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
    assert read("-") == (GOOD, [])
    assert not stream.closed


BROKEN = [
    (b"{not json}", "not JSON"),
    (b'{"a": 1', "not JSON"),
    (b"[1, 2]", "not a JSON object"),
    (b'"text"', "not a JSON object"),
    (b'{"a": "\xff"}', "not UTF-8"),
    (b"[" * 100_000, "nested too deeply"),
    (b'{"a": ' + b"9" * 5_000 + b"}", "a number too long"),
]


@pytest.mark.parametrize(("line", "reason"), BROKEN, ids=range(len(BROKEN)))
def test_a_broken_row_is_named_and_the_others_are_kept(line: bytes, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_bytes(b'{"n": 1}\n' + line + b'\n{"n": 3}\n')
    good, broken = read(file)
    assert good == [(1, {"n": 1}), (3, {"n": 3})]
    (row,) = broken
    assert str(row.place) == f"{file}:2"
    assert reason in row.reason


def test_a_row_without_end_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_logs, "MAX_LINE_BYTES", 64)
    file = tmp_path / "log.jsonl"
    file.write_bytes(b'{"n": 1}\n{"n": "' + b"x" * 1000 + b'"}\n{"n": 3}\n')
    good, broken = read(file)
    assert good == [(1, {"n": 1}), (3, {"n": 3})]
    assert [(row.place.line, row.reason) for row in broken] == [(2, "the line has 64 bytes or more")]


def test_a_file_cut_off_in_the_middle_gives_what_it_has(tmp_path: Path) -> None:
    lines = b"".join(b'{"n": %d, "x": "%d"}\n' % (n, n * 7919 % 10_007) for n in range(20_000))
    file = tmp_path / "log.gz"
    packed = gzip.compress(lines)
    file.write_bytes(packed[: len(packed) // 2])
    good, broken = read(file)
    assert 1_000 < len(good) < 20_000
    assert good[-1][1]["n"] == len(good) - 1
    (row,) = broken
    assert row.place.line == len(good) + 1
    assert "damaged" in row.reason


def test_progress_ends_at_the_size_of_the_files(tmp_path: Path) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        file.write_bytes(b"".join(json.dumps({"n": n}).encode() + b"\n" for n in range(3_000)))
    told: list[int] = []
    assert sum(1 for _ in rows([str(file) for file in files], lambda _: None, told.append)) == 6_000
    assert told == sorted(told)
    assert told[-1] == total_bytes([str(file) for file in files])


def test_a_missing_file_and_one_named_twice_are_refused_before_anything_runs(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(LOG)
    with pytest.raises(InvalidInput, match="cannot read"):
        total_bytes([str(file), str(tmp_path / "none")])
    with pytest.raises(InvalidInput, match="twice"):
        total_bytes([str(file), str(file)])
    assert total_bytes([str(file), "-"]) is None


def test_a_batch_is_as_large_as_all_of_its_texts() -> None:
    builder = BatchBuilder("log.jsonl", request_fields())
    builder.add(1, {"prompt.text": "ten", "prompt.system": "x" * 1_000, "account.id": "a"})
    assert builder.size >= 1_004
