"""A pattern that the engine cannot run is left out with a reason: asked with the others, it would stop them all."""

from __future__ import annotations

from pathlib import Path

import pytest

from member_client.detection.in_force import RunnablePattern, check_runnable, select, why_not_runnable
from member_client.errors import InvalidInput
from member_client.home import Home
from member_client.patterns.trials import try_new
from member_client.session import Session
from sharing_protocol.pattern_logic import Logic
from sharing_protocol.pattern_logic.catalogue import Category
from sharing_protocol.pattern_logic.conditions import Condition, Not, PresenceTest, RegexTest
from sharing_protocol.pattern_logic.logic import Rule
from tests.forum import pattern_body
from tests.member_client.command import settle
from tests.member_client.detection_runs import pattern
from tests.member_client.follower import Lab, entries_of
from tests.member_client.lying_hub import LyingHub
from tests.pattern_logic.documents import rule
from tests.protocol.forum_log import BOREAL, forum_of_two_labs, handling, identifier, record_reference


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


def test_a_version_is_compiled_once_in_a_process_and_its_state_is_asked_each_time(tmp_path: Path) -> None:
    log = forum_of_two_labs()
    revised, withdrawn, kept = (identifier("pattern", 0x1000 + number) for number in range(3))
    for pattern_id in (revised, withdrawn, kept):
        log.say("pattern", pattern_id, BOREAL, pattern_body(), ["Boreal analyst"])
    with LyingHub(entries_of(log)) as hub:
        lab = Lab(tmp_path / "lab", hub, log.fingerprint)
        home = Home(settle(lab))
        lab.sync()
        try_new(lab.store)
        before = {one.id: one for one in select(Session(home)).runnable}
        assert set(before) == {revised, withdrawn, kept}
        assert all(one.compiled is before[one.id].compiled for one in select(Session(home)).runnable)
        log.say("pattern", revised, BOREAL, pattern_body("Another"), ["Boreal analyst"])
        body = {**handling(), "reason": "Too many false positives.", "record": record_reference(log.head(withdrawn))}
        log.say("withdrawal", identifier("withdrawal", 1), BOREAL, body, ["Boreal analyst"])
        hub.entries = entries_of(log)
        lab.sync()
        try_new(lab.store)
        lab.store.close()
    after = {one.id: one for one in select(Session(home)).runnable}
    assert set(after) == {revised, kept}
    assert (after[revised].version, after[revised].title) == (2, "Another")
    assert after[kept].compiled is before[kept].compiled
