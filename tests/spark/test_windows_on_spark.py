"""Patterns over windows find on Spark what they find on DuckDB, byte for byte; `make test-spark` runs it."""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, given, settings

from member_client.detection.in_force import RunnablePattern
from sharing_protocol.pattern_logic.catalogue import Category
from tests.member_client.detection_runs import pattern, write_json_lines
from tests.pattern_logic.documents import correlation, rule
from tests.spark.test_detect_on_spark import both, starters
from tests.spark.test_detect_on_spark import requests as asked_by_starters
from tests.windows.test_demand import week
from tests.windows.test_features import requests
from tests.windows.test_unlikeness import OTHER_WORDS
from tests.windows.traffic import DAY, HOUR, MONDAY, SECOND, WORDS, Request, ordinary_account, sentence

ANYTHING = [
    pattern("accounts", rule(category="account_window", s={"window.requests|gte": 1}), kind="behavioral_signature"),
    pattern("clusters", rule(category="cluster_window", s={"cluster.accounts|gte": 2}), kind="behavioral_signature"),
    pattern("unlike", rule(category="cluster_window", s={"window.mmd_z|gte": -9}), kind="detection_method"),
    pattern("share", rule(category="account_window", s={"window.query_pattern_share|gt": 0}), kind="detection_method"),
    pattern(
        "again",
        rule(category="account_window", s={"window.hours": 1, "window.requests|gte": 1}, name="busy"),
        correlation("event_count", "busy", timespan="3d", group_by=["account.id"], condition={"gte": 2}),
    ),
    pattern("asked", rule(s={"prompt.text|contains": "river"})),
    pattern(
        "often",
        rule(s={"prompt.text|contains": "stone"}, name="stone"),
        correlation("event_count", "stone", timespan="1d", condition={"gte": 2}, group_by=["account.id"]),
    ),
]
EXAMPLES = int(os.environ.get("STILLWATCH_TEST_LOGS", "3"))


def campaigns() -> list[dict[str, Any]]:
    """Some days of ordinary accounts, a pool that shares what it can, and accounts that ask for a great deal."""
    rng = random.Random(12)
    log: list[Request] = week(rng)
    log += [one for n in range(200, 320) for one in ordinary_account(n, rng, MONDAY + rng.randrange(3) * DAY)]
    for number in range(40):
        account = {
            "account.id": f"harvest-{number}",
            "account.created": MONDAY - HOUR + number * SECOND,
            "payment.fingerprint": f"bought-{number // 8}",
            "network.ip": f"198.51.{number // 20}.{number}",
            "network.asn": 64500,
            "client.fingerprint": "script",
            "gen_ai.request.model": "new",
            "gen_ai.usage.input_tokens": 300,
            "gen_ai.usage.output_tokens": 4000,
            "prompt.turns": 1,
        }
        log += [
            account
            | {
                "timestamp": MONDAY + day * DAY + rng.randrange(DAY),
                "prompt.text": "Think step by step and show your reasoning for this question: "
                + sentence(rng, OTHER_WORDS),
                "prompt.system": "You are an impartial judge.",
            }
            for day in range(3)
            for _ in range(20)
        ]
    for name, words in (("heavy", OTHER_WORDS), *((f"batch-{n}", rng.sample(WORDS, 12)) for n in range(22))):
        log += [
            {
                "timestamp": MONDAY + 60 * SECOND * n,
                "account.id": name,
                "gen_ai.request.model": "new",
                "gen_ai.usage.output_tokens": 900,
                "prompt.turns": 1,
                "prompt.text": f"Explain your full reasoning, rate the answer from 1 to 10: {sentence(rng, words, 8)}",
            }
            for n in range(220)
        ]
    log += [
        {
            "timestamp": MONDAY + rng.randrange(DAY),
            "account.id": "appetite",
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 900,
            "prompt.turns": 1,
            "prompt.text": f"Please explain step by step what is known of {''.join(rng.choices('abcdefghij', k=14))}",
        }
        for _ in range(3100)
    ]
    rng.shuffle(log)
    return [dict(one) for one in log]


def written(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As a log writes times."""
    for row in rows:
        for name in ("timestamp", "account.created"):
            if row.get(name) is not None:
                row[name] = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=row[name])).isoformat()
    return rows


def test_starters_of_all_categories_find_the_campaigns_byte_for_byte(session: Any, tmp_path: Path) -> None:
    rows = [*written(campaigns()), *asked_by_starters()]
    rows[7]["timestamp"] = "yesterday"
    rows[8]["account.id"] = None
    third = len(rows) // 3
    logs = [write_json_lines(tmp_path / f"{n}.jsonl", rows[n * third : (n + 1) * third]) for n in range(3)]
    logs[1].write_text("{\n" + logs[1].read_text())
    patterns = [*starters(), *ANYTHING]
    expected, got = both(tmp_path, session, patterns, *logs)
    category = {one.entry: one.logic.category for one in patterns}
    matched = {one["entry"] for one in got.found}
    assert {one.entry for one in ANYTHING} <= matched
    for kind in Category:
        assert any(category[entry] is kind for entry in matched - {one.entry for one in ANYTHING})
    assert any(one.get("numbers", {}).get("window.mmd_z", 0) > 3 for one in got.found)
    assert any(one.get("cluster", {}).get("key_kind") == "template" for one in got.found)
    assert len(expected.broken) == 1
    assert not any(name.suffix == ".parquet" for name in (tmp_path / "spark").rglob("*"))

    since = MONDAY + DAY + 5 * HOUR
    later, _ = both(tmp_path, session, patterns, *logs, since=since)
    assert 0 < len(later.found) < len(expected.found)
    both(tmp_path, session, patterns, *logs, since=MONDAY + 300 * DAY)


def only_windows() -> list[RunnablePattern]:
    return [one for one in ANYTHING if one.logic.category is not Category.REQUEST]


def test_patterns_over_windows_alone_run_without_any_over_requests(session: Any, tmp_path: Path) -> None:
    log = write_json_lines(tmp_path / "log.jsonl", written([dict(one) for one in week(random.Random(4))]))
    expected, got = both(tmp_path, session, only_windows(), log)
    assert {one["entry"] for one in got.found} == {"accounts", "clusters", "unlike", "again"}
    assert expected.result.missing == {}  # no query pattern is in force, which is known: the share is 0


def test_requests_without_a_time_make_no_windows(session: Any, tmp_path: Path) -> None:
    log = write_json_lines(tmp_path / "log.jsonl", [{"account.id": "a", "prompt.text": "x"}] * 3)
    _, got = both(tmp_path, session, only_windows(), log)
    assert got.result.hopeless == {one.entry for one in only_windows()}


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize="STILLWATCH_TEST_LOGS" not in os.environ,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)
@given(log=st.lists(requests, min_size=1, max_size=60), files=st.integers(1, 3), since=st.none() | st.just(MONDAY))
def test_random_requests_match_alike(
    session: Any, tmp_path_factory: Any, log: list[Request], files: int, since: int | None
) -> None:
    folder = tmp_path_factory.mktemp("random")
    rows = written([{name: value for name, value in one.items() if value is not None} for one in log])
    logs = [write_json_lines(folder / f"{n}.jsonl", rows[n::files]) for n in range(files)]
    both(folder, session, ANYTHING, *logs, since=since)
