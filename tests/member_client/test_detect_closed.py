"""Patterns are other people's: what they say is compared with requests, and reaches no file of the lab."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from member_client.detection import in_force
from member_client.detection.detecting import Options, opened_state
from member_client.detection.parquet_rows import literal
from tests.member_client.detection_runs import pattern, run, write_json_lines
from tests.pattern_logic.documents import rule


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.txt"
    path.write_text("the lab's own")
    return path


@pytest.fixture(params=["once", "following", "binding"])
def connection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Each connection that patterns' SQL runs on."""
    if request.param == "binding":
        # the cached one; a cursor is how it is used
        with in_force._empty_tables().cursor() as cursor:
            yield cursor
        return
    folder = tmp_path / "it's a home"
    folder.mkdir()
    with opened_state(folder, Options(follow=request.param == "following")) as state:
        yield state.connection


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_text('{secret}')",
        "SELECT * FROM '{secret}'",
        "SELECT * FROM read_csv('{secret}')",
        "SELECT * FROM glob('{folder}/*')",
        "COPY (SELECT 1) TO '{folder}/stolen.csv'",
        "ATTACH '{folder}/other.duckdb'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET allowed_directories = ['/']",
    ],
)
def test_no_statement_reaches_a_file(connection: duckdb.DuckDBPyConnection, statement: str, secret: Path) -> None:
    with pytest.raises(duckdb.Error):
        connection.execute(statement.format(secret=secret, folder=secret.parent)).fetchall()
    assert sorted(path.name for path in secret.parent.iterdir() if path.is_file()) == ["secret.txt"]


def test_a_text_that_looks_like_sql_is_a_text(secret: Path, tmp_path: Path) -> None:
    texts = [
        f"x' OR (SELECT count(*) FROM read_text('{secret}')) > 0 OR 'a' = '",
        f"'); COPY (SELECT 1) TO '{secret}'; --",
    ]
    rows = [{"prompt.text": text, "account.id": str(n)} for n, text in enumerate([*texts, "an innocent question"])]
    rules = [
        pattern(f"{kind}{n}", rule(s={f"prompt.text{kind}": text}))
        for n, text in enumerate(texts)
        for kind in ("", "|contains", "|startswith")
    ]
    got = run(tmp_path / "runs", rules, write_json_lines(tmp_path / "log.jsonl", rows))
    assert {(one["entry"][-1], one["account.id"]) for one in got.found} == {("0", "0"), ("1", "1")}
    assert len(got.found) == len(rules)
    assert secret.read_text() == "the lab's own"


def test_what_does_not_fit_into_memory_is_still_spilled(tmp_path: Path) -> None:
    with opened_state(tmp_path, Options(memory="60MB")) as state:
        state.connection.execute("CREATE TEMP TABLE big AS SELECT hash(range)::VARCHAR AS a FROM range(2_000_000)")
        ((count,),) = state.connection.execute("SELECT count(*) FROM (FROM big ORDER BY a LIMIT 1_500_000)").fetchall()
        assert count == 1_500_000


@pytest.mark.parametrize("name", ["home", "./home", "it's home", "linked"])
def test_a_homes_own_segments_are_read_whatever_the_home_is_called(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "elsewhere")
    folder = Path(name)
    with opened_state(folder, Options(follow=True)) as state:
        pq.write_table(pa.table({"a": [1]}), folder / "segment.parquet")
        place = literal(str(state.folder / "segment.parquet"))
        assert state.connection.execute(f"SELECT a FROM read_parquet([{place}])").fetchall() == [(1,)]
