"""Spark says of random patterns and events what the reference evaluator says; `make test-spark` runs it."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from member_client.errors import InvalidInput
from member_client.pattern_sql import Unsupported, compile_sql
from member_client.pattern_sql.spark import run_on_spark
from sharing_protocol.pattern_logic import Event, Logic, compile_logic
from tests.pattern_logic.documents import rule
from tests.pattern_sql.engines import canonical_rows, column_types, found_by_reference, found_in_rows
from tests.pattern_sql.random_patterns import CORRELATED_EVENTS, EVENTS, correlated_logics, plain_logics

EXAMPLES = int(os.environ.get("STILLWATCH_TEST_PATTERNS", "12"))
AGREEING = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize="STILLWATCH_TEST_PATTERNS" not in os.environ,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)
SPARK_TYPES = {"VARCHAR": "STRING"}


def load(session: Any, events: list[dict[str, Any]]) -> None:
    schema = ", ".join(f"`{name}` {SPARK_TYPES.get(kind, kind)}" for name, kind in column_types().items())
    session.createDataFrame(canonical_rows(events), schema).createOrReplaceTempView("requests")


@AGREEING
@given(patterns=st.lists(plain_logics(), min_size=8, max_size=8), events=st.lists(EVENTS, min_size=5, max_size=40))
def test_rules_agree(session: Any, patterns: list[Logic], events: list[dict[str, Any]]) -> None:
    load(session, events)
    asked: list[tuple[str, list[bool]]] = []
    for logic in patterns:
        try:
            compiled = compile_sql(logic, "spark")
        except Unsupported:
            continue
        asked += [
            (done.where, [rule.holds(Event(event)) for event in events])
            for rule, done in zip(logic.rules, compiled.rules, strict=True)
        ]
    if not asked:
        return
    columns = ", ".join(where for where, _ in asked)
    answers = session.sql(f"SELECT {columns} FROM requests ORDER BY `event.id`").collect()
    for position, (where, expected) in enumerate(asked):
        assert [answer[position] for answer in answers] == expected, where


@AGREEING
@given(logic=correlated_logics(), events=st.lists(CORRELATED_EVENTS, min_size=10, max_size=40))
def test_correlations_agree(session: Any, logic: Logic, events: list[dict[str, Any]]) -> None:
    load(session, events)
    matches = run_on_spark(session, logic)
    assert found_in_rows(matches.columns, matches.collect()) == found_by_reference(logic, events)


def test_a_session_that_reads_constants_otherwise_is_refused(session: Any) -> None:
    logic = compile_logic([rule(s={"prompt.text|contains": "a"})])
    session.conf.set("spark.sql.parser.escapedStringLiterals", "true")
    try:
        with pytest.raises(InvalidInput, match="backslash"):
            run_on_spark(session, logic)
    finally:
        session.conf.unset("spark.sql.parser.escapedStringLiterals")
