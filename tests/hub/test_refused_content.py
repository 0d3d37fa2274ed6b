"""Records that a hub refuses for what they say: impossible dates, bad Sigma, failing tests, personal data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from hub.app import utc_now
from hub.identity import HubIdentity
from sharing_protocol.statements.header import format_timestamp
from tests.forum import Document, pattern_body, running_hub, signed
from tests.hub.refusals import refuses
from tests.hub.troubled_forum import TroubledForum, make_troubled_forum


@pytest.fixture(scope="module")
def forum(new_database: Callable[[], str], hub_identity: HubIdentity) -> Iterator[TroubledForum]:
    with running_hub(new_database(), hub_identity) as hub:
        yield make_troubled_forum(hub)


def days(count: float) -> str:
    return format_timestamp(utc_now() + timedelta(days=count))


@pytest.mark.parametrize(
    ("body", "where", "says"),
    [
        ({"valid_until": days(-2)}, "body.valid_until", "not after created"),
        ({"valid_until": days(6 * 366)}, "body.valid_until", "more than five years away"),
        ({"valid_from": days(91)}, "body.valid_from", "not before valid_until"),
    ],
)
def test_impossible_dates(forum: TroubledForum, body: Document, where: str, says: str) -> None:
    made = signed(forum.pattern(pattern_body(**body)), forum.aurora.analyst)
    refuses(forum.box, made, forum.aurora.analyst, 422, "invalid_dates", where, says)


@pytest.mark.parametrize(
    "time", ["2026-02-30T00:00:00Z", "2026-13-01T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:00:60Z",
             "2026-01-01 00:00:00Z", "2026-01-01T00:00:00+00:00", "2026-01-01T00:00:00.5Z", "1999-12-31T00:00:00Z"]
)  # fmt: skip
def test_times_that_do_not_exist_or_are_written_otherwise(forum: TroubledForum, time: str) -> None:
    for document, where in ((forum.pattern(created=time), "created"),
                            (forum.pattern(pattern_body(valid_until=time)), "body.valid_until")):  # fmt: skip
        made = signed(document, forum.aurora.analyst)
        refuses(forum.box, made, forum.aurora.analyst, 422, "invalid_statement", where)


def test_created_in_the_future(forum: TroubledForum) -> None:
    later = format_timestamp(utc_now() + timedelta(minutes=10))
    made = signed(forum.pattern(created=later), forum.aurora.analyst)
    refuses(forum.box, made, forum.aurora.analyst, 422, "invalid_dates", "created", "check this machine's clock")


def test_created_too_long_ago_for_its_validity(forum: TroubledForum) -> None:
    document = forum.pattern(created="2001-01-01T00:00:00Z")
    refuses(forum.box, signed(document, forum.aurora.analyst), forum.aurora.analyst, 422, "invalid_dates",
            "body.valid_until", "more than five years away")  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"period_start": "2026-02-02T00:00:00Z", "period_end": "2026-02-02T00:00:00Z"}, "ends after it starts"),
        ({"period_start": "2026-02-03T00:00:00Z", "period_end": "2026-02-02T00:00:00Z"}, "ends after it starts"),
        ({"period_start": "2026-02-01T00:00:01Z", "period_end": "2026-02-02T00:00:00Z"}, "whole days"),
        ({"period_end": f"{days(2)[:10]}T00:00:00Z"}, "after the sighting was written"),
    ],
)
def test_impossible_periods(forum: TroubledForum, changes: Document, says: str) -> None:
    made = signed(forum.sighting(forum.box.reference(forum.revised), **changes), forum.aurora.analyst)
    refuses(forum.box, made, forum.aurora.analyst, 422, "invalid_dates", "body.period_end", says)


def rule(**changes: Any) -> Document:
    return {**pattern_body()["logic"][0], **changes}


@pytest.mark.parametrize(
    ("logic", "where", "says"),
    [
        (rule(detection={"condition": "a"}), "detection", "add a selection"),
        (rule(detection={"a": {"prompt.text": "x"}, "condition": "a and"}), "detection.condition", "Expected"),
        (rule(detection={"a": {"prompt.text": "x"}, "condition": "b"}), "detection.condition", "'b' not defined"),
        (
            rule(detection={"a": {"prompt.text|re": "(?=x)"}, "condition": "a"}),
            "detection.a.prompt.text|re",
            "linear-time",
        ),
        (rule(detection={"a": {"price": 7}, "condition": "a"}), "detection.a.price", "no field 'price'"),
        (rule(logsource={"product": "windows"}), "logsource.product", "product: llm_api"),
        (rule(level="deadly"), "", "'deadly' is not a valid Sigma rule level"),
        (rule(respond="block"), "respond", "there is no 'respond' here"),
        ({"action": "global"}, "action", "`action` documents are not supported"),
    ],
)
def test_bad_sigma(forum: TroubledForum, logic: Document, where: str, says: str) -> None:
    made = signed(forum.pattern(pattern_body(logic=[logic])), forum.aurora.analyst)
    place = f"body.logic[0].{where}".rstrip(".")
    refuses(forum.box, made, forum.aurora.analyst, 422, "invalid_logic", place, says)


def test_a_pattern_that_fails_its_own_tests(forum: TroubledForum) -> None:
    match, no_match = pattern_body()["tests"]
    wrong = [match | {"expect": "no_match"}, no_match]
    made = signed(forum.pattern(pattern_body(tests=wrong)), forum.aurora.analyst)
    says = "fails 1 of its own 2 tests: 'a bootstrap prompt'"
    refuses(forum.box, made, forum.aurora.analyst, 422, "tests_failed", "body.tests", says)


def test_a_pattern_that_is_only_tested_one_way(forum: TroubledForum) -> None:
    match, _ = pattern_body()["tests"]
    made = signed(forum.pattern(pattern_body(tests=[match, match])), forum.aurora.analyst)
    refuses(forum.box, made, forum.aurora.analyst, 422, "tests_failed", "body.tests", "one that must not")


def test_a_method_on_a_kind_that_has_none(forum: TroubledForum) -> None:
    method = {"name": "burst", "features": ["requests"], "parameters": {"threshold": 9}}
    for body in (pattern_body(method=method), pattern_body(kind="detection_method")):
        made = signed(forum.pattern(body), forum.aurora.analyst)
        refuses(forum.box, made, forum.aurora.analyst, 422, "invalid_statement", "body.method", "has a method")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("jane.doe@acme-corp.io", "an e-mail address"),
        ("4111 1111 1111 1111", "a payment card number"),
        ("+49 30 12345678", "a phone number"),
        ("8.8.8.8", "an IP address"),
        ("sk-proj4Kf93hZq81LmX0cVb7Nt", "an API key"),
    ],
)
def test_personal_data_in_a_test_event(forum: TroubledForum, value: str, says: str) -> None:
    match, no_match = pattern_body()["tests"]
    tests = [match, no_match | {"events": [{"prompt.text": "hello"}, {"prompt.text": f"I am {value}"}]}]
    made = signed(forum.pattern(pattern_body(tests=tests)), forum.aurora.analyst)
    where = "body.tests[1].events[1].prompt.text"
    problem = refuses(forum.box, made, forum.aurora.analyst, 422, "personal_data", where, says)
    assert value not in problem.detail


def test_personal_data_in_a_withdrawal(forum: TroubledForum) -> None:
    document = forum.withdrawal(forum.box.reference(forum.revised))
    document["body"]["reason"] = "Ask jane.doe@acme-corp.io"
    made = signed(document, forum.aurora.analyst)
    refuses(forum.box, made, forum.aurora.analyst, 422, "personal_data", "body.reason", "an e-mail address")
