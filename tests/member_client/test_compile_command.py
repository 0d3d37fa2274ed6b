"""`stillwatch compile`: SQL that says which pattern it is, or the reason why there is none."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from member_client.cli.main import run
from member_client.patterns import library
from tests.member_client.command import Command


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


@pytest.fixture
def pattern(tmp_path: Path) -> Path:
    path = tmp_path / "sweep.yaml"
    path.write_text(library.starter("self-instruct-bootstrapping").text, encoding="utf-8")
    return path


def test_the_query_runs_and_its_header_says_what_it_is(command: Command, pattern: Path, tmp_path: Path) -> None:
    out = tmp_path / "pattern.sql"
    command("compile", pattern, "--output", out, "--table", "lab_requests")
    text = out.read_text(encoding="utf-8")
    header = [line for line in text.splitlines() if line.startswith("--")]
    assert "SHA-256" in header[1]
    assert "lab_requests" in header[2]
    assert "prompt.text" in header[3]
    connection = duckdb.connect()
    columns = command.json("compile", pattern)["columns"]
    connection.execute(
        'CREATE TABLE lab_requests ("event.id" BIGINT, "timestamp" BIGINT, '
        + ", ".join(f'"{name}" VARCHAR' for name in columns if name != "timestamp")
        + ")"
    )
    assert connection.execute(text).fetchall() == []


def test_json_has_rules_and_query(command: Command, pattern: Path) -> None:
    document = command.json("compile", pattern, "--target", "bigquery")
    assert document["target"] == "bigquery"
    assert "prompt_text" in document["query"]
    assert all(rule["where"] for rule in document["rules"])


def test_what_an_engine_cannot_say_exits_2_with_the_reason(
    pattern: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    odd = tmp_path / "odd.yaml"
    text = pattern.read_text(encoding="utf-8")
    assert "prompt.text|re" in text
    odd.write_text(text, encoding="utf-8")
    assert run(["compile", str(odd), "--target", "snowflake"]) == 2
    assert "Snowflake" in capsys.readouterr().err


def test_a_version_of_a_file_and_a_missing_file_exit_2(command: Command, pattern: Path) -> None:
    assert "versions" in command("compile", pattern, "--version", "1", code=2)
    assert "cannot read" in command("compile", "nothing.yaml", code=2)


def test_what_stands_for_the_table_is_never_more_than_a_name(command: Command, pattern: Path) -> None:
    text = command("compile", pattern, "--table", "requests; DROP TABLE x\nSELECT 1")
    assert len(duckdb.connect().extract_statements(text)) == 1
