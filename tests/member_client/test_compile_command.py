"""`stillwatch compile`: SQL that says which pattern it is, or the reason why there is none."""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb
import pytest

from member_client.cli.main import run
from member_client.patterns import library
from sharing_protocol.statements import PatternKind
from tests.member_client.command import Command


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


def test_what_is_no_file_and_no_id_has_a_hint(command: Command, tmp_path: Path) -> None:
    said = command("compile", "self-instruct-bootstrapping", code=2)
    assert "pattern new --from self-instruct-bootstrapping -o self-instruct-bootstrapping.yaml" in said
    assert "is no file, and no record's id" in command("compile", "minee", code=2)
    file = tmp_path / "mine.yaml"
    said = command("detect", "log.jsonl", "--pattern", file, "--home", tmp_path, code=2)
    assert f"`stillwatch pattern backtest {file} LOGS`" in said
    assert "it is a starter" in command("detect", "log.jsonl", "--pattern", "self-chat-scripts", code=2)


def test_what_could_drive_a_terminal_is_written_as_an_escape_there_and_exactly_in_a_file(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "odd.yaml"
    text = library.template(PatternKind.QUERY_PATTERN)
    hostile = "a\u202eb\u200bc"
    odd.write_text(text.replace("          - continue the list of tasks", f"          - {hostile}"), encoding="utf-8")
    piped = command("compile", odd)
    assert hostile in piped
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    shown = command("compile", odd)
    assert r"a\u202eb\u200bc" in shown
    assert not set(shown) & {"\u202e", "\u200b", "\x1b"}
    out = tmp_path / "odd.sql"
    assert "written to" in command("compile", odd, "--output", out)
    assert out.read_text(encoding="utf-8") == piped


def test_what_stands_for_the_table_is_never_more_than_a_name(command: Command, pattern: Path) -> None:
    text = command("compile", pattern, "--table", "requests; DROP TABLE x\nSELECT 1")
    assert len(duckdb.connect().extract_statements(text)) == 1
