"""What a machine of a lab's Spark makes of a file for windows; no Spark is needed to say so."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from member_client.detection.canonical import request_fields
from member_client.detection.log_settings import Source
from member_client.detection.spark_reading import (
    DISTILLED,
    REPORT,
    TEXTS,
    Reading,
    numbered_rows,
    picked,
    unpacked,
)
from member_client.windows.distilling import Text
from tests.member_client.detection_runs import write_json_lines
from tests.windows.test_demand import week
from tests.windows.traffic import MONDAY

BOTH = (Text.TEMPLATE, Text.EXCERPT)


def read(log: Path, number: int = 3, **changed: Any) -> list[dict[str, Any]]:
    """The rows that Spark is given of a file."""
    settings: dict[str, Any] = {"since": None, "needed": {}, "sent": request_fields(["timestamp"]), "asked": False}
    settings |= {"fields": request_fields(), "distils": True, "texts": BOTH} | changed
    batches = list(numbered_rows(Source((str(log),)), Reading(**settings), number))
    return [row for batch in batches for row in batch.to_pylist()]


def log_of(folder: Path) -> tuple[Path, list[dict[str, Any]]]:
    rows = [dict(one) | {"timestamp": one["timestamp"] // 1_000_000} for one in week(random.Random(5))]
    for row in rows:
        del row["account.created"]
    rows[0]["timestamp"] = None
    return write_json_lines(folder / "log.jsonl", rows), rows


def test_a_file_becomes_packed_rows_and_a_report_and_nothing_else(tmp_path: Path) -> None:
    log, rows = log_of(tmp_path)
    *packed, report = read(log)
    assert report[REPORT]
    assert all(row[REPORT] is None for row in packed)
    narrow = pa.concat_tables([unpacked(row[DISTILLED]) for row in packed]).to_pylist()
    assert [row["event.line"] for row in narrow] == list(range(2, len(rows) + 1))  # the first has no time
    assert {row["event.file"] for row in narrow} == {str(log)}
    assert narrow[0]["event.id"] == (3 << 40) + 1
    assert [row["account.id"] for row in narrow] == [row["account.id"] for row in rows[1:]]
    assert sum(len(row[DISTILLED]) for row in packed) == int(report[REPORT].split('"distilled": ')[1].split(",")[0])


def test_no_prompt_is_in_the_packed_rows(tmp_path: Path) -> None:
    secret = "the word is heliotrope and nobody else says it in this log"
    log = write_json_lines(
        tmp_path / "log.jsonl",
        [{"timestamp": 1, "account.id": "a", "prompt.text": secret, "prompt.system": secret}],
    )
    packed, _ = read(log)
    (row,) = unpacked(packed[DISTILLED]).to_pylist()
    assert "heliotrope" not in str(row)
    assert "heliotrope" in str(unpacked(packed[TEXTS]).to_pylist())


def test_texts_are_found_by_event_and_only_those_that_are_asked_for(tmp_path: Path) -> None:
    log, rows = log_of(tmp_path)
    packed = read(log)[:-1]
    wanted = np.array([0, 5, (3 << 40) + 7, (3 << 40) + 1000, 9 << 40])
    found = [one for row in packed for one in picked(row[TEXTS], Text.EXCERPT.name, wanted)]
    assert found == [((3 << 40) + 7, rows[7]["prompt.text"]), *found[1:]]
    assert len(found) == 1 + (len(rows) > 1000)
    assert read(log, texts=())[0][TEXTS] is None


def test_what_was_sent_too_early_is_not_distilled(tmp_path: Path) -> None:
    log, rows = log_of(tmp_path)
    since = MONDAY + 86_400_000_000
    *packed, _ = read(log, since=since)
    kept = sum(unpacked(row[DISTILLED]).num_rows for row in packed)
    assert kept == sum(1 for row in rows if row["timestamp"] is not None and row["timestamp"] * 1_000_000 >= since)
    assert 0 < kept < len(rows)


def test_rows_go_to_spark_only_where_rules_ask_about_them(tmp_path: Path) -> None:
    log, rows = log_of(tmp_path)
    assert len([row for row in read(log, asked=True) if row[DISTILLED] is None and row[REPORT] is None]) == len(rows)
    assert len(read(log, distils=False)) == 1
