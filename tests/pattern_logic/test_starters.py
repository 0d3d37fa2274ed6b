"""The starter patterns: each passes its own tests and the lint, and says what is true of it."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest
import yaml

from sharing_protocol.pattern_logic import compile_logic, run_tests
from sharing_protocol.pattern_logic.conditions import All, Condition, Either, Not, NumberTest, fields_of
from sharing_protocol.personal_data import find_personal_data

FOLDER = files("member_client.patterns").joinpath("starter")
STARTERS: dict[str, dict[str, Any]] = {
    entry.name.removesuffix(".yaml"): yaml.load(entry.read_text(encoding="utf-8"), yaml.CSafeLoader)
    for entry in sorted(FOLDER.iterdir(), key=lambda entry: entry.name)
    if entry.name.endswith(".yaml")
}
# MITRE ATLAS: Extract AI Model, AI Model Inference API Access, Establish Accounts, AI Service Proxies.
TECHNIQUES = {"AML.T0024.002", "AML.T0040", "AML.T0021", "AML.T0008.005"}
MAX_PAYLOAD = 45_000  # bytes of JSON that leave room for base64 and the envelope in a log entry


@pytest.mark.parametrize("slug", STARTERS)
def test_a_starter_passes_its_own_tests(slug: str) -> None:
    pattern = STARTERS[slug]
    report = run_tests(compile_logic(pattern["logic"]), pattern["tests"])
    assert [result for result in report.results if not result.passed] == []
    expected = [result.expected for result in report.results]
    assert expected.count("match") >= 2
    assert expected.count("no_match") >= 2


@pytest.mark.parametrize("slug", STARTERS)
def test_each_event_of_a_single_request_test_decides_alone(slug: str) -> None:
    logic = compile_logic(STARTERS[slug]["logic"])
    if logic.has_correlations:
        assert STARTERS[slug]["kind"] != "query_pattern"
        return
    for test in STARTERS[slug]["tests"]:
        for event in test["events"]:
            assert bool(logic.match_event(event)) == (test["expect"] == "match"), (test["name"], event)


@pytest.mark.parametrize("slug", STARTERS)
def test_a_starter_tells_nothing_it_must_not_and_fits_an_entry(slug: str) -> None:
    assert find_personal_data(STARTERS[slug]) == []
    assert len(json.dumps(STARTERS[slug]).encode()) < MAX_PAYLOAD
    assert set(STARTERS[slug]["techniques"]) <= TECHNIQUES
    assert "nown false positives:" in " ".join(STARTERS[slug]["description"].split())


def test_the_set_covers_all_kinds_and_categories() -> None:
    logics = [compile_logic(pattern["logic"]) for pattern in STARTERS.values()]
    assert len(STARTERS) >= 12
    assert len({pattern["title"] for pattern in STARTERS.values()}) == len(STARTERS)
    assert {pattern["kind"] for pattern in STARTERS.values()} == {
        "query_pattern",
        "behavioral_signature",
        "detection_method",
    }
    assert frozenset().union(*(logic.categories for logic in logics)) == {
        "request",
        "account_window",
        "cluster_window",
    }
    assert len({correlation.kind for logic in logics for correlation in logic.correlations}) >= 2


def numbers(condition: Condition) -> set[float]:
    """Every number that a condition compares with."""
    if isinstance(condition, All | Either):
        return set().union(*(numbers(part) for part in condition.parts))
    if isinstance(condition, Not):
        return numbers(condition.part)
    return {condition.number} if isinstance(condition, NumberTest) else set()


@pytest.mark.parametrize("slug", [slug for slug, pattern in STARTERS.items() if pattern["method"]])
def test_a_method_declares_exactly_the_features_and_thresholds_it_uses(slug: str) -> None:
    method = STARTERS[slug]["method"]
    logic = compile_logic(STARTERS[slug]["logic"])
    used = set().union(*(numbers(rule.condition) for rule in logic.rules))
    used |= {number for correlation in logic.correlations for _, number in correlation.criteria}
    assert set(method["parameters"].values()) == used
    assert set(method["features"]) == logic.required_fields - {"timestamp"}
    assert STARTERS[slug]["kind"] == "detection_method"


@pytest.mark.parametrize("slug", STARTERS)
def test_a_link_between_accounts_is_never_enough(slug: str) -> None:
    """Innocent people share payments, networks and clients; the accounts of a company are one organisation."""
    logic = compile_logic(STARTERS[slug]["logic"])
    if "cluster_window" not in logic.categories:
        return
    purpose = {"window.reasoning_elicitation_share", "window.query_pattern_share"}
    assert logic.required_fields >= purpose or "window.mmd_z" in logic.required_fields
    for rule in logic.rules:
        assert {"cluster.orgs", "cluster.units"} & fields_of(rule.condition)  # units count an organisation once
        assert len(numbers(rule.condition)) >= 4
