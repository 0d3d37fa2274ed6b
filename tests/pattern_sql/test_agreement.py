"""DuckDB says of random patterns and events what the reference evaluator says, match by match."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from member_client.pattern_sql import DIALECTS, Unsupported, compile_sql, correlation_query
from sharing_protocol.pattern_logic import Event, Logic
from tests.pattern_sql.engines import canonical_rows, found_by_duckdb, found_by_reference, load_duckdb
from tests.pattern_sql.random_patterns import CORRELATED_EVENTS, EVENTS, correlated_logics, plain_logics

EXAMPLES = int(os.environ.get("STILLWATCH_TEST_PATTERNS", "12"))
AGREEING = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize="STILLWATCH_TEST_PATTERNS" not in os.environ,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],  # making an example smaller takes longer than a test may
)


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    made = duckdb.connect()
    made.execute("SET threads = 1")
    return made


@AGREEING
@given(
    patterns=st.lists(plain_logics(), min_size=8, max_size=8),
    events=st.lists(EVENTS, min_size=1, max_size=40),
)
def test_rules_agree(
    connection: duckdb.DuckDBPyConnection, patterns: list[Logic], events: list[dict[str, Any]]
) -> None:
    load_duckdb(connection, canonical_rows(events))
    wheres = [
        (rule, compiled.where)
        for logic in patterns
        for rule, compiled in zip(logic.rules, compile_sql(logic).rules, strict=True)
    ]
    answers = connection.execute(
        f'SELECT {", ".join(where for _, where in wheres)} FROM requests ORDER BY "event.id"'
    ).fetchall()
    for position, (rule, where) in enumerate(wheres):
        expected = [rule.holds(Event(event)) for event in events]
        assert [answer[position] for answer in answers] == expected, where


@AGREEING
@given(logic=correlated_logics(), events=st.lists(CORRELATED_EVENTS, min_size=10, max_size=40))
def test_correlations_agree(connection: duckdb.DuckDBPyConnection, logic: Logic, events: list[dict[str, Any]]) -> None:
    load_duckdb(connection, canonical_rows(events))
    compiled = compile_sql(logic)
    assert found_by_duckdb(connection, compiled.query) == found_by_reference(logic, events)


@AGREEING
@given(logic=correlated_logics(), events=st.lists(CORRELATED_EVENTS, min_size=10, max_size=40))
def test_correlations_over_hits_agree(
    connection: duckdb.DuckDBPyConnection, logic: Logic, events: list[dict[str, Any]]
) -> None:
    load_duckdb(connection, canonical_rows(events))
    hits = " UNION ALL ".join(
        f'SELECT "event.id" AS event_id, ${place} AS rule, * FROM requests WHERE {rule.where}'
        for place, rule in enumerate(compile_sql(logic).rules, 1)
    )
    connection.execute(f"CREATE OR REPLACE TABLE hits AS {hits}", [rule.name for rule in logic.rules])
    expected = {match for match in found_by_reference(logic, events) if match[3] is not None}
    assert found_by_duckdb(connection, correlation_query(logic, "hits")) == expected


@AGREEING
@given(plain=plain_logics(), correlated=correlated_logics(), dialect=st.sampled_from(sorted(DIALECTS)))
def test_every_dialect_reads_back_what_is_printed(plain: Logic, correlated: Logic, dialect: str) -> None:
    """`compile_sql` compares what it prints with what sqlglot reads of it, and fails where they differ."""
    assert "fired_0" in compile_sql(correlated, dialect, "lab.requests").query
    with suppress(Unsupported):
        assert "lab" in compile_sql(plain, dialect, "lab.requests").query
