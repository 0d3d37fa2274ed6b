"""A pattern that the engine cannot run is left out with a reason: asked with the others, it would stop them all."""

from __future__ import annotations

import pytest

from member_client.detection.in_force import RunnablePattern, check_runnable, why_not_runnable
from member_client.errors import InvalidInput
from sharing_protocol.pattern_logic import Logic
from sharing_protocol.pattern_logic.catalogue import Category
from sharing_protocol.pattern_logic.conditions import Condition, Not, PresenceTest, RegexTest
from sharing_protocol.pattern_logic.logic import Rule
from tests.member_client.detection_runs import pattern
from tests.pattern_logic.documents import rule


def unchecked(condition: Condition) -> RunnablePattern:
    """As if checks had let it through."""
    logic = Logic(Category.REQUEST, (Rule("r", "R", condition, True, lambda _: False),), ())
    return RunnablePattern("pattern--odd", 1, "odd", "odd", "high", logic)


def nested(depth: int) -> Condition:
    condition: Condition = PresenceTest("prompt.text", present=True)
    for _ in range(depth):
        condition = Not(condition)
    return condition


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        (RegexTest("prompt.text", "(?=x)"), "not runnable on DuckDB: Invalid Input Error: invalid perl operator"),
        (PresenceTest("prompt.nothing", present=True), 'column "prompt.nothing" not found'),
        (nested(5_001), "not runnable on DuckDB: it is nested too deeply"),
    ],
)
def test_what_the_engine_refuses_has_a_reason(condition: Condition, reason: str) -> None:
    assert reason in why_not_runnable(unchecked(condition))
    with pytest.raises(InvalidInput, match="'odd' is not runnable on DuckDB"):
        check_runnable(unchecked(condition))


@pytest.mark.parametrize(
    "category_and_field",
    [("request", "prompt.text"), ("account_window", "account.id"), ("cluster_window", "cluster.key")],
)
def test_patterns_of_every_category_can_run(category_and_field: tuple[str, str]) -> None:
    category, field = category_and_field
    plain = pattern("plain", rule(s={f"{field}|contains": "river"}, category=category))
    assert why_not_runnable(plain) == ""
    check_runnable(plain)
