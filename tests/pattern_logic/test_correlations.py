"""Trailing windows: the table of kinds, and the sliding evaluator against the definition by brute force."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharing_protocol.pattern_logic import Match, compile_logic
from sharing_protocol.pattern_logic.conditions import Comparison
from sharing_protocol.pattern_logic.correlations import Correlation, Hit, evaluate
from sharing_protocol.pattern_logic.predicates import COMPARE
from tests.pattern_logic.documents import correlation, items, rule

BASE = rule(s=items(prompt_text__exists=True))


def event(
    minute: float, account: str | None = "a", text: str = "x", more: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A request so many minutes after the hour."""
    common = {"timestamp": 1_767_225_600 + minute * 60, "account.id": account, "prompt.text": text}
    return common | (more or {})


def found(documents: Sequence[dict[str, Any]], events: Sequence[dict[str, Any]]) -> list[Match]:
    return list(compile_logic(documents).matches(events))


def indices(documents: Sequence[dict[str, Any]], events: Sequence[dict[str, Any]]) -> list[int]:
    return [match.index for match in found(documents, events)]


def test_the_window_excludes_its_start_and_includes_its_end() -> None:
    documents = [BASE, correlation("event_count", condition={"gte": 2})]
    assert indices(documents, [event(0), event(60)]) == []
    assert indices(documents, [event(0), event(59.999)]) == [1]


def test_events_of_one_instant_see_each_other_in_any_order() -> None:
    documents = [BASE, correlation("event_count", condition={"gte": 2})]
    assert indices(documents, [event(5), event(5)]) == [0, 1]


def test_groups_are_exact_and_absent_keys_take_no_part() -> None:
    documents = [BASE, correlation("event_count", condition={"gte": 2})]
    events = [event(1, "a"), event(2, "A"), event(3, None), event(4, None), event(5, "a"), event(6, "")]
    assert indices(documents, events) == [4]


def test_without_group_fields_all_events_are_one_group() -> None:
    documents = [BASE, correlation("event_count", condition={"gte": 2}, group_by=None)]
    assert indices(documents, [event(1, "a"), event(2, None)]) == [1]


def test_events_without_a_readable_time_take_no_part() -> None:
    documents = [BASE, correlation("event_count", condition={"gte": 2})]
    late = [
        {**event(1), "timestamp": time} for time in (None, "yesterday", "2026-01-01T00:00:00", True, 1_767_225_600_000)
    ]
    assert indices(documents, [event(1), *late]) == []


def test_a_match_tells_group_value_and_window() -> None:
    documents = [BASE, correlation("event_count", condition={"gt": 1, "lte": 2}, name="twice")]
    (match,) = found(documents, [event(0), event(1), event(2)])
    assert (match.rule, match.title, match.index) == ("twice", "Correlation twice", 1)
    assert match.window is not None
    assert match.window.group == {"account.id": "a"}
    assert match.window.value == 2
    assert match.window.end - match.window.start == 3600 * 1_000_000
    assert match.window.end == (1_767_225_600 + 60) * 1_000_000


def test_values_are_counted_once_and_only_if_present() -> None:
    documents = [BASE, correlation("value_count", condition={"gte": 2, "field": "org.id"})]
    events = [
        event(1),
        event(2, more={"org.id": "x"}),
        event(3, more={"org.id": "x"}),
        event(4, more={"org.id": "X"}),
        event(5),
    ]
    assert indices(documents, events) == [3, 4]


def test_sums_and_averages_are_exact_and_need_a_value() -> None:
    field = "gen_ai.request.temperature"
    tenths = [event(n, more={field: 0.1}) for n in range(10)]
    # floating point would say 0.9999999999999999, and exact arithmetic on doubles a little more than 1
    assert indices([BASE, correlation("value_sum", condition={"eq": 1, "field": field})], tenths) == [9]
    assert indices([BASE, correlation("value_avg", condition={"eq": 0.1, "field": field})], tenths) == [*range(10)]
    zero = {"gte": -1, "field": field}
    assert indices([BASE, correlation("value_sum", condition=zero)], [event(1), event(2, more={field: 0})]) == [1]
    assert indices(
        [BASE, correlation("value_avg", condition={"eq": 2, "field": field})],
        [
            event(1, more={field: 1}),
            event(2),
            event(3, more={field: 3}),
            event(70, more={field: 2}),
        ],
    ) == [2, 3]


LAKE = rule(s=items(prompt_text__contains="lake"), name="lake")
RIVER = rule(s=items(prompt_text__contains="river"), name="river")


def test_temporal_needs_all_rules_in_any_order() -> None:
    documents = [LAKE, RIVER, correlation("temporal", "lake", "river")]
    assert indices(documents, [event(1, text="river"), event(2, text="lake"), event(80, text="river")]) == [1]
    assert indices(documents, [event(1, text="lake and river")]) == [0]
    assert indices(documents, [event(1, text="lake"), event(2, text="river", account="b")]) == []
    either = [LAKE, RIVER, correlation("temporal", "lake", "river", condition={"eq": 1})]
    assert indices(either, [event(1, text="lake"), event(2, text="river")]) == [0]


def test_temporal_order_is_strict() -> None:
    documents = [LAKE, RIVER, correlation("temporal_ordered", "lake", "river")]
    assert indices(documents, [event(1, text="lake"), event(2, text="river")]) == [1]
    assert indices(documents, [event(2, text="river"), event(1, text="lake")]) == [0]
    assert indices(documents, [event(1, text="river"), event(2, text="lake")]) == []
    assert indices(documents, [event(1, text="lake"), event(1, text="river")]) == []
    assert indices(documents, [event(1, text="lake and river")]) == []
    assert indices(documents, [event(1, text="lake and river"), event(2, text="lake and river")]) == [1]
    assert indices(documents, [event(0, text="lake"), event(60, text="river")]) == []


def test_only_outermost_documents_emit_unless_told_to_generate() -> None:
    counted = correlation("event_count", "lake", condition={"gte": 2})
    events = [event(1, text="lake"), event(2, text="lake river")]
    assert [(m.rule, m.index) for m in found([LAKE, RIVER, counted], events)] == [("river", 1), ("correlation", 1)]
    counted["correlation"]["generate"] = True
    rules = [(m.rule, m.index) for m in found([LAKE, counted], events)]
    assert rules == [("lake", 0), ("lake", 1), ("correlation", 1)]
    silent = correlation("event_count", "lake", condition={"gte": 9}, name="silent", generate=False)
    assert [m.rule for m in found([LAKE, counted, silent], events)] == ["correlation"]
    assert compile_logic([LAKE, silent]).match_event(events[0]) == ()


def test_a_correlation_may_follow_another() -> None:
    burst = correlation(
        "event_count", "lake", condition={"gte": 3}, timespan="5m", group_by=["account.id", "org.id"], name="burst"
    )
    then = correlation("temporal_ordered", "burst", "river", name="then")
    org = {"org.id": "o"}
    lakes = [event(n, text="lake", more=org) for n in range(3)]
    assert [(m.rule, m.index) for m in found([then, burst, LAKE, RIVER], [*lakes, event(9, text="river")])] == [
        ("then", 3)
    ]
    assert found([then, burst, LAKE, RIVER], [*lakes[:2], event(9, text="river")]) == []
    assert found([then, burst, LAKE, RIVER], [event(0, text="river"), *lakes]) == []


def test_a_match_of_a_correlation_and_of_a_rule_at_one_event_are_one_moment() -> None:
    burst = correlation("event_count", "lake", condition={"gte": 2}, name="burst")
    both = correlation("temporal", "burst", "river", name="both")
    events = [event(1, text="lake"), event(2, text="lake, river"), event(90, text="river")]
    assert [(match.rule, match.index) for match in found([LAKE, RIVER, burst, both], events)] == [("both", 1)]


def test_rules_may_be_named_by_id() -> None:
    base = {**BASE, "id": "00000000-0000-4000-8000-000000000001"}
    documents = [base, correlation("event_count", "00000000-0000-4000-8000-000000000001", condition={"gte": 1})]
    assert [match.rule for match in found(documents, [event(1)])] == ["correlation"]


def test_required_fields_of_a_correlation() -> None:
    logic = compile_logic([BASE, correlation("value_count", condition={"gte": 2, "field": "org.id"})])
    assert logic.has_correlations
    assert logic.required_fields == {"prompt.text", "timestamp", "account.id", "org.id"}


# The definition, by brute force: for each hit, the window's hits by its two inequalities, and what they amount to.


def rounded(number: float) -> Fraction:
    """To millionths; halves, which binary fractions of few digits do not have there, aside."""
    return Fraction(round(Fraction(number) * 1_000_000), 1_000_000)


def measured(kind: str, length: int, window: list[Hit]) -> int | Fraction | None:
    numbers = [rounded(hit.value) for hit in window if isinstance(hit.value, int | float)]
    if kind == "event_count":
        return len(window)
    if kind == "value_count":
        return len({hit.value for hit in window if hit.value is not None})
    if kind == "value_sum":
        return sum(numbers, Fraction(0)) if numbers else None
    if kind == "value_avg":
        return sum(numbers, Fraction(0)) / len(numbers) if numbers else None
    if kind == "temporal":
        return len(frozenset().union(*(hit.ranks for hit in window)))
    times: set[int] = {-1}
    for rank in range(length):  # times at which a chain of the rules so far may end
        times = {hit.time for hit in window if rank in hit.ranks and hit.time > min(times, default=hit.time)}
    return length if times else 0


HITS = st.builds(
    Hit,
    time=st.integers(0, 40),
    index=st.just(0),
    ranks=st.frozensets(st.integers(0, 2), min_size=1),
    group=st.sampled_from([("a",), ("b",)]),
    value=st.none() | st.integers(-3, 3) | st.integers(-200, 200).map(lambda hundredths: hundredths / 100),
)
KINDS = ["event_count", "value_count", "value_sum", "value_avg", "temporal", "temporal_ordered"]


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_sliding_windows_agree_with_the_definition(kind: str, data: st.DataObject) -> None:
    drawn = data.draw(st.lists(HITS, max_size=25))
    hits = [Hit(hit.time, index, hit.ranks, hit.group, hit.value) for index, hit in enumerate(drawn)]
    criterion = (data.draw(st.sampled_from(list(Comparison))), data.draw(st.integers(-2, 6)))
    if kind == "temporal_ordered":
        criterion = (Comparison.GTE, 3)
    timespan = data.draw(st.integers(1, 30))
    made = Correlation("c", "c", kind, ("x", "y", "z"), ("account.id",), timespan, (criterion,), "f", True)
    expected = {}
    for hit in hits:
        window = [other for other in hits if other.group == hit.group and hit.time - timespan < other.time <= hit.time]
        value = measured(kind, 3, window)
        if value is not None and COMPARE[criterion[0]](value, criterion[1]):
            expected[hit.index] = value
    shuffled = data.draw(st.permutations(hits))
    assert {firing.hit.index: firing.value for firing in evaluate(made, shuffled)} == {
        index: float(value) if isinstance(value, Fraction) else value for index, value in expected.items()
    }
