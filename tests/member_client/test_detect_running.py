"""Patterns over rows: what is found, what is counted, and that the one pass finds what each logic finds alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from member_client.detection.findings import Finding, Moment, Tally, detection_line
from member_client.detection.in_force import RunnablePattern
from member_client.detection.request_logs import BrokenRow
from member_client.detection.running import Detection
from member_client.detection.sighting_reports import parse_day, sighting_body
from member_client.errors import InvalidInput
from sharing_protocol.pattern_logic import MatchedWindow, compile_logic

SOURCE = {"product": "llm_api", "category": "request"}


def rule(name: str, word: str) -> dict[str, Any]:
    detection = {"selection": {"prompt.text|contains": word}, "condition": "selection"}
    return {"title": name, "name": name, "logsource": SOURCE, "detection": detection}


def pattern(entry: str, *documents: dict[str, Any]) -> RunnablePattern:
    return RunnablePattern(f"pattern--{entry}", 1, entry, f"title of {entry}", "high", compile_logic(list(documents)))


TWO_RULES = pattern("plain", rule("one", "red"), rule("two", "blue"))
COUNTED = pattern(
    "counted",
    rule("green", "green"),
    {
        "title": "often",
        "name": "often",
        "correlation": {
            "type": "event_count",
            "rules": ["green"],
            "group-by": ["account.id"],
            "timespan": "1h",
            "condition": {"gte": 2},
            "generate": True,
        },
    },
)

Found = tuple[str, str, int, MatchedWindow | None]


def detect(
    events: list[dict[str, Any]], *patterns: RunnablePattern
) -> tuple[list[Found], dict[str, Tally], Detection, list[BrokenRow]]:
    found: list[Found] = []
    broken: list[BrokenRow] = []
    detection = Detection(patterns, {}, lambda p, name, m, w: found.append((p.entry, name, m.place.line, w)))
    detection.run([("log", number, event) for number, event in enumerate(events, 1)], broken.append)
    return found, {tally.entry: tally for tally in detection.tallies}, detection, broken


WORDS = st.sampled_from(["red", "blue", "green", "red and blue", "nothing"])
EVENTS = st.lists(
    st.fixed_dictionaries(
        {"prompt.text": WORDS},
        optional={"account.id": st.sampled_from("ab"), "timestamp": st.integers(1_700_000_000, 1_700_010_000)},
    ),
    max_size=30,
)


@given(EVENTS)
def test_one_pass_finds_what_each_logic_finds_alone(events: list[dict[str, Any]]) -> None:
    found, tallies, _, _ = detect(events, TWO_RULES, COUNTED)
    for one in (TWO_RULES, COUNTED):
        alone = list(one.logic.matches(events))
        mine = [(name, line, window) for entry, name, line, window in found if entry == one.entry]
        assert sorted(mine, key=str) == sorted(((m.rule, m.index + 1, m.window) for m in alone), key=str)
        rows = {m.index for m in alone if m.window is None}
        assert tallies[one.entry].matches == len(rows) + sum(m.window is not None for m in alone)


def test_a_row_counts_once_however_many_rules_match_it() -> None:
    found, tallies, _, _ = detect([{"prompt.text": "red blue", "account.id": "a"}], TWO_RULES)
    assert [name for _, name, _, _ in found] == ["one", "two"]
    assert (tallies["plain"].matches, tallies["plain"].accounts, tallies["plain"].undated) == (1, 1, 1)


def test_first_last_and_accounts_are_those_of_the_matches() -> None:
    events: list[dict[str, Any]] = [
        {"prompt.text": "red", "account.id": "a", "timestamp": "2026-03-02T10:00:00+02:00"},
        {"prompt.text": "grey", "account.id": "z", "timestamp": "2026-01-01T00:00:00Z"},
        {"prompt.text": "red", "account.id": "b", "timestamp": "2026-03-01T23:59:59Z"},
        {"prompt.text": "red", "account.id": "a", "timestamp": "yesterday"},
        {"prompt.text": "red", "account.id": 5, "timestamp": float("nan")},
    ]
    _, tallies, _, _ = detect(events, TWO_RULES)
    tally = tallies["plain"]
    assert (tally.matches, tally.accounts, tally.undated) == (5 - 1, 2, 2)
    assert (tally.first, tally.last) == (1_772_409_599_000_000, 1_772_438_400_000_000)


def test_a_row_that_is_no_event_is_told_and_the_rest_goes_on() -> None:
    events: list[dict[str, Any]] = [{"prompt": {"text": "red"}, "prompt.text": "red"}, {"prompt": {"text": "red"}}]
    found, _, detection, broken = detect(events, TWO_RULES)
    assert [line for _, _, line, _ in found] == [2]
    assert [row.place.line for row in broken] == [1]
    assert detection.rows == 1


def test_a_pattern_whose_fields_no_row_has_is_named() -> None:
    _, _, detection, _ = detect([{"prompt": "red"}], TWO_RULES, COUNTED)
    assert detection.missing_fields() == {
        "plain": frozenset({"prompt.text"}),
        "counted": frozenset({"prompt.text", "account.id", "timestamp"}),
    }
    _, _, detection, _ = detect([{"prompt.text": None}], TWO_RULES)
    assert detection.missing_fields() == {}


def test_a_prompts_template_is_made_where_the_log_has_none_and_a_pattern_reads_it() -> None:
    same = {
        "title": "same template",
        "correlation": {
            "type": "event_count",
            "rules": ["ask"],
            "group-by": ["prompt.template"],
            "timespan": "1h",
            "condition": {"gte": 2},
        },
    }
    templated = pattern("templated", rule("ask", "tasks about"), same)
    prompts = [
        "Write 5  Tasks about\nthe sea, all easy, please: tides",
        "write 12 tasks about the sea, all easy, please",
    ]
    events = [{"prompt.text": text, "timestamp": 1_700_000_000} for text in prompts]
    found, _, _, _ = detect(events, templated)
    assert {window.group["prompt.template"] for _, _, _, window in found if window} == {
        "write 0 tasks about the sea, all easy,"
    }
    found, _, _, _ = detect([event | {"prompt.template": str(n)} for n, event in enumerate(events)], templated)
    assert found == []


def test_a_match_is_one_line_of_ascii_whatever_the_account_is_called() -> None:
    events = [{"prompt.text": "green", "account.id": "é\n\ud800", "timestamp": 1_700_000_000 + n} for n in range(2)]
    lines: list[str] = []
    detection = Detection(
        [COUNTED], {}, lambda p, n, m, w: lines.append(detection_line(Finding(p, n, m, (), window=w)))
    )
    detection.run([("log", number, event) for number, event in enumerate(events, 1)], lambda _: None)
    assert lines
    assert all(line.isascii() and line.count("\n") == 1 for line in lines)
    assert json.loads(lines[-1])["window"] == {
        "group": {"account.id": "é\n\ufffd"},
        "value": 2,
        "start": 1_700_000_001 - 3_600,
        "end": 1_700_000_001,
    }


# -- what a sighting says ------------------------------------------------------------------------------------------


def tally(**changes: Any) -> Tally:
    values: dict[str, Any] = {
        "matches": 12,
        "accounts": 3,
        "first": 1_772_409_599_000_000,
        "last": 1_772_409_600_000_000,
    }
    return Tally("pattern--x", 2, "ab" * 32, "t", "high", **(values | changes))


def test_a_sighting_says_whole_days_and_powers_of_ten() -> None:
    body = sighting_body(tally(), None, {"marking": "amber"})
    assert body == {
        "marking": "amber",
        "pattern": {"id": "pattern--x", "version": 2, "entry": "ab" * 32},
        "period_start": "2026-03-01T00:00:00Z",
        "period_end": "2026-03-03T00:00:00Z",
        "matches": "10-99",
        "accounts": "1-9",
    }
    assert sighting_body(tally(accounts=0), None, {})["accounts"] is None


def test_matches_without_a_time_need_a_period_from_the_user() -> None:
    undated = tally(undated=1)
    with pytest.raises(InvalidInput, match="1 of the 12 matches") as refused:
        sighting_body(undated, None, {})
    assert "--period" in refused.value.hint
    body = sighting_body(undated, (parse_day("2026-02-01"), parse_day("2026-02-03")), {})
    assert (body["period_start"], body["period_end"]) == ("2026-02-01T00:00:00Z", "2026-02-03T00:00:00Z")


def test_what_was_not_seen_is_not_reported() -> None:
    with pytest.raises(InvalidInput, match="not reported"):
        sighting_body(tally(matches=0), None, {})


@pytest.mark.parametrize("text", ["2026-3-1", "2026-02-30", "20260301", "today", "2026-03-01T00:00:00Z"])
def test_a_day_is_written_in_one_way(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not a day"):
        parse_day(text)


def test_a_moment_keeps_nothing_of_the_prompt() -> None:
    assert set(Moment.__slots__) == {"place", "timestamp", "time", "account", "organisation", "address"}
