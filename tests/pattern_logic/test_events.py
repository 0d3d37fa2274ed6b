"""Reading times, and pattern tests that are not well-formed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharing_protocol.pattern_logic import compile_logic, run_tests
from sharing_protocol.pattern_logic.events import millionths, parse_time
from tests.pattern_logic.documents import items, rule

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(
    moment=st.datetimes(),
    offset=st.integers(-1439, 1439),
    separator=st.sampled_from("Tt "),
)
def test_times_with_offset_are_read_exactly(moment: datetime, offset: int, separator: str) -> None:
    local = moment.replace(tzinfo=timezone(timedelta(minutes=offset)))
    assert parse_time(local.isoformat(separator)) == (local - EPOCH) // timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("written", "microseconds"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000),
        ("1970-01-01t00:00:01z", 1_000_000),
        ("1970-01-01T00:00:00.1234567Z", 123_456),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T23:30:00-00:30", 0),
        (1, 1_000_000),
        (0.000001, 1),
        (1_767_225_600.25, 1_767_225_600_250_000),
        (0, 0),
    ],
)
def test_times_by_example(written: object, microseconds: int) -> None:
    assert parse_time(written) == microseconds


@pytest.mark.parametrize(
    "written",
    [
        "2026-01-01T00:00:00",
        "2026-01-01",
        "2026-02-30T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T23:59:60Z",
        "2026-01-01T00:00:00+24:00",
        "2026-01-01T00:00:00+01:60",
        "2026-1-1T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "٢٠٢٦-01-01T00:00:00Z",
        "2026-01-01T00:00:00Z ",
        "1767225600",
        -1,
        1_767_225_600_000,
        float("nan"),
        float("inf"),
        True,
        None,
        ["2026-01-01T00:00:00Z"],
    ],
)
def test_what_is_no_time(written: object) -> None:
    assert parse_time(written) is None


LOGIC = compile_logic([rule(s=items(prompt_text__contains="river"))])
HIT: dict[str, Any] = {"name": "hit", "expect": "match", "events": [{"prompt.text": "a river"}]}
MISS: dict[str, Any] = {"name": "miss", "expect": "no_match", "events": [{"prompt.text": "a lake"}]}


def test_a_report_tells_each_test() -> None:
    report = run_tests(LOGIC, [HIT, MISS])
    assert report.passed
    assert [(result.name, result.got, result.detail) for result in report.results] == [
        ("hit", "match", "event 0 matches base"),
        ("miss", "no_match", "no event matches"),
    ]


def test_a_failed_test_fails_the_report() -> None:
    report = run_tests(LOGIC, [HIT, {**HIT, "name": "wrong", "expect": "no_match"}])
    assert not report.passed
    assert [result.passed for result in report.results] == [True, False]


def test_both_kinds_of_tests_are_demanded() -> None:
    assert run_tests(LOGIC, [HIT]).missing == ("no test expects no_match",)
    assert run_tests(LOGIC, []).missing == ("no test expects match", "no test expects no_match")
    assert not run_tests(LOGIC, [HIT]).passed


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"expect": "maybe"}, "expect is match or no_match"),
        ({"events": []}, "events is a list of at least one event"),
        ({"events": "x"}, "events is a list of at least one event"),
        ({"events": [{}, "x"]}, "events is a list of at least one event"),
        ({"events": [{}, {"prompt.txt": "x"}]}, "event 1: no field 'prompt.txt'; did you mean prompt.text?"),
        ({"events": [{"prompt.turns": "5"}]}, "event 0: prompt.turns must be integer"),
        ({"events": [{"timestamp": "noon"}]}, "event 0: timestamp must be time"),
    ],
)
def test_a_malformed_test_is_invalid_not_passed(change: dict[str, Any], detail: str) -> None:
    (result,) = run_tests(LOGIC, [{**MISS, **change}]).results
    assert (result.got, result.passed, result.detail) == ("invalid", False, detail)


def test_an_event_may_leave_fields_null() -> None:
    assert run_tests(LOGIC, [HIT, {**MISS, "events": [{"prompt.text": None}]}]).passed


def test_a_nameless_test_is_called_by_its_place() -> None:
    assert run_tests(LOGIC, [{"expect": "match"}]).results[0].name == "tests[0]"


@pytest.mark.parametrize(
    ("value", "present"),
    [
        (2**53 - 1, True),
        (-(2**53) + 1, True),
        (2**53, False),
        (-(2**53), False),
        (9007199254740991.5, False),  # as a double it is 2^53
        (10**400, False),
        (float("inf"), False),
        (float("nan"), False),
        (5e-324, True),
    ],
)
def test_numbers_that_doubles_do_not_hold_are_absent(value: float, present: bool) -> None:
    exists = compile_logic([rule(s={"gen_ai.usage.output_tokens|exists": True})])
    assert bool(exists.match_event({"prompt.text": "x", "gen_ai.usage.output_tokens": value})) is present


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0.1, 100_000), (-0.1, -100_000), (2.5e-7, 0), (5e-7, 1), (-5e-7, 0), (2**53 - 1, (2**53 - 1) * 10**6), (-0.0, 0)],
)
def test_millionths_are_rounded_half_up(number: float, expected: int) -> None:
    assert millionths(number) == expected
