"""What a shared pattern may not say: each refusal has its place, its code and a way to mend it."""

from __future__ import annotations

from typing import Any

import pytest

from sharing_protocol.pattern_logic import LogicError, compile_logic
from tests.pattern_logic.documents import correlation, issues_of, items, rule

TEXT = items(prompt_text__contains="river")


@pytest.mark.parametrize(
    ("selection", "code", "mend"),
    [
        (items(prompt_txt="x"), "unknown_field", "did you mean prompt.text?"),
        (items(window_requests=1), "unknown_field", "it exists in category account_window and cluster_window only"),
        ({"zzz": 1}, "unknown_field", "docs/log-sources.md"),
        (["river"], "keywords", "name the field"),
        ("river", "keywords", "name the field"),
        ([["river"]], "keywords", "name the field"),
        ({"|all": ["a", "b"]}, "keywords", "before the first |"),
        ([], "keywords", "name the field"),
        ({}, "no_selection", "at least one field"),
        (items(prompt_text__contians="x"), "unknown_modifier", "use one of"),
        (items(prompt_text__base64="x"), "refused_modifier", "match the text itself"),
        (items(prompt_text__contains__windash="x"), "refused_modifier", "list the spellings"),
        (items(prompt_text__expand="%x%"), "refused_modifier", "write the values"),
        (items(timestamp__hour=3), "refused_modifier", "window field"),
        (items(prompt_text__contains__contains="x"), "bad_modifiers", "docs/log-sources.md"),
        (items(prompt_text__contains__endswith="x"), "bad_modifiers", "docs/log-sources.md"),
        (items(prompt_text__i__re="x"), "bad_modifiers", "docs/log-sources.md"),
        (items(prompt_text__re__contains="x"), "bad_modifiers", "docs/log-sources.md"),
        (items(prompt_text__contains__i="x"), "bad_modifiers", "docs/log-sources.md"),
        (items(network_ip__cidr__all=["192.0.2.0/24", "192.0.2.0/25"]), "bad_modifiers", "docs/log-sources.md"),
        (items(network_ip__neq__cidr="192.0.2.0/24"), "bad_modifiers", "docs/log-sources.md"),
        (items(prompt_text__exists__neq=True), "bad_modifiers", "docs/log-sources.md"),
        (items(prompt_turns__gt__neq=1), "bad_modifiers", "docs/log-sources.md"),
        (items(prompt_text__contains__all=["x"]), "all_of_one", "drop `all`"),
        (items(prompt_text=[]), "no_value", "null"),
        (items(prompt_text=5), "wrong_type", "quotation marks"),
        (items(prompt_text__gt="x"), "wrong_type", "number field"),
        (items(prompt_turns="5"), "wrong_type", "without quotation marks"),
        (items(prompt_turns=True), "wrong_type", "without quotation marks"),
        (items(prompt_turns__contains=5), "wrong_type", "gt, gte, lt, lte or neq"),
        (items(prompt_turns__gt=[1, 2]), "too_many", "one value"),
        (items(prompt_turns__gt=2**60), "bad_number", "smaller"),
        (items(prompt_turns__gt=float("nan")), "bad_number", "smaller"),
        (items(prompt_text__contains=None), "wrong_type", "field: null"),
        (items(prompt_text__exists="yes"), "wrong_type", "true or false"),
        (items(request_batch="true"), "wrong_type", "true or false"),
        (items(timestamp="2026-01-01T00:00:00Z"), "wrong_type", "timespan"),
        (items(prompt_text__cidr="192.0.2.0/24"), "wrong_type", "network.ip"),
        (items(network_ip__cidr="192.0.2.1/24"), "bad_network", "192.0.2.0/24"),
        (items(prompt_text__fieldref="prompt.txt"), "unknown_field", "did you mean prompt.text?"),
        (items(prompt_text__fieldref="prompt.turns"), "wrong_type", "one type"),
        (items(prompt_text__contains=""), "matches_everything", "what to look for"),
        (items(prompt_text__re="x*"), "matches_everything", "necessary"),
        (items(prompt_text__re="(?=x)"), "bad_regex", "second selection"),
        (items(prompt_text__re="(?<!x)y"), "bad_regex", "second selection"),
        (items(prompt_text__re=r"(x)\1"), "bad_regex", "spell"),
        (items(prompt_text__re=r"(?P<a>x)(?P=a)"), "bad_regex", "spell"),
        (items(prompt_text__re="(((x{99}){99}){99})y"), "bad_regex", "smaller counts"),
        (items(prompt_text__re=".{999}y"), "bad_regex", "smaller counts"),
        (items(prompt_text__re="x" * 1_001), "too_long", "at most 1000"),
        (items(prompt_text__re=r"x\Cy"), "bad_regex", "s flag"),
        (items(prompt_text__re="x("), "bad_regex", "RE2"),
        (items(prompt_text__re="(" * 51 + "x" + ")" * 51), "bad_regex", "brackets that do nothing"),
        (items(prompt_text="x" * 1_001), "too_long", "at most 1000"),
        (items(prompt_text="*x" * 17), "too_many", "at most 16"),
        (items(prompt_text="\ud800"), "bad_text", "whole character"),
        (items(prompt_text=["x"] * 257), "too_many", "at most 256"),
        ([TEXT] * 33, "too_many", "at most 32"),
    ],
)
def test_a_selection_is_refused_at_its_place(selection: Any, code: str, mend: str) -> None:
    found = issues_of(rule("here and s", here=TEXT, s=selection))
    assert [issue.code for issue in found] == [code]
    assert mend in found[0].mend
    assert found[0].where.startswith("logic[0].detection.s")


def test_the_place_goes_down_to_the_value() -> None:
    found = issues_of(rule(s=[TEXT, items(prompt_text__re__i=["x", "y("])]))
    assert found[0].where == "logic[0].detection.s[1].prompt.text|re|i[1]"
    assert str(found[0]).startswith("logic[0].detection.s[1].prompt.text|re|i[1]: not a regular expression")


def test_all_issues_are_told_at_once() -> None:
    documents = [
        rule(s=items(prompt_txt="x", prompt_turns="1")),
        rule(category="account_window", name="other", s={"window.topic_spread|gte": 80}),
        correlation("value_median", "nobody"),
    ]
    with pytest.raises(LogicError) as refusal:
        compile_logic(documents)
    assert [issue.code for issue in refusal.value.issues] == [
        "unknown_field",
        "wrong_type",
        "impossible_threshold",
        "mixed_categories",
        "refused_correlation",
    ]
    assert refusal.value.code == "pattern_logic"
    assert "and 4 more" in str(refusal.value)


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        ("", "bad_condition"),
        ("s AND s", "bad_condition"),
        ("s and", "bad_condition"),
        ("t", "bad_condition"),
        ("1 of t*", "bad_condition"),
        ("2 of s*", "bad_condition"),
        ("s | count() > 5", "bad_condition"),
        ("not s", "matches_everything"),
        ("s or not s", "matches_everything"),
        (None, "no_condition"),
        ([], "no_condition"),
        (5, "wrong_type"),
        (["s", 5], "wrong_type"),
        (["s"] * 9, "too_many"),
        ("s or " * 250 + "s", "too_long"),
        ("not " * 65 + "s", "too_deep"),
        ("(" * 65 + "s" + ")" * 65, "too_deep"),
    ],
)
def test_a_condition_is_refused(condition: Any, code: str) -> None:
    assert [issue.code for issue in issues_of(rule(condition, s=TEXT))] == [code]


@pytest.mark.parametrize(
    "selection", [items(prompt_text=None), items(prompt_text__exists=False), items(prompt_text__neq="x")]
)
def test_a_rule_that_asks_for_nothing_present_is_refused(selection: dict[str, Any]) -> None:
    assert [issue.code for issue in issues_of(rule(s=selection))] == ["matches_everything"]


@pytest.mark.parametrize(
    ("change", "where", "code"),
    [
        ({"logsource": None}, "logic[0].logsource", "bad_logsource"),
        ({"logsource": {"product": "windows", "category": "request"}}, "logic[0].logsource.product", "bad_logsource"),
        ({"logsource": {"product": "llm_api"}}, "logic[0].logsource.category", "bad_logsource"),
        ({"logsource": {"product": "llm_api", "category": "dns"}}, "logic[0].logsource.category", "bad_logsource"),
        (
            {"logsource": {"product": "llm_api", "category": "request", "service": "x"}},
            "logic[0].logsource.service",
            "unknown_key",
        ),
        ({"detection": None}, "logic[0].detection", "no_selection"),
        ({"detection": {"condition": "s"}}, "logic[0].detection", "no_selection"),
        ({"detection": {"and": TEXT, "condition": "x"}}, "logic[0].detection.and", "bad_name"),
        ({"detection": {"a b": TEXT, "condition": "x"}}, "logic[0].detection.a b", "bad_name"),
        (
            {"detection": {f"s{n}": TEXT for n in range(33)} | {"condition": "1 of them"}},
            "logic[0].detection",
            "too_many",
        ),
        ({"custom": 1}, "logic[0].custom", "unknown_key"),
        ({"taxonomy": "sigma"}, "logic[0].taxonomy", "unknown_key"),
        ({"action": "global"}, "logic[0].action", "refused_document"),
        ({"filter": {}}, "logic[0].filter", "refused_document"),
        ({"name": "a b"}, "logic[0].name", "bad_name"),
        ({"name": 5}, "logic[0].name", "bad_name"),
        ({"title": None}, "logic[0]", "sigma"),
        ({"title": "x" * 257}, "logic[0]", "sigma"),
        ({"id": "not a uuid"}, "logic[0]", "sigma"),
        ({"date": "2026-13-45"}, "logic[0]", "sigma"),
        ({"tags": ["untagged"]}, "logic[0]", "sigma"),
        ({"level": "dire"}, "logic[0]", "sigma"),
    ],
)
def test_a_document_is_refused(change: dict[str, Any], where: str, code: str) -> None:
    found = issues_of({**rule(s=TEXT), **change})
    assert [(issue.where, issue.code) for issue in found] == [(where, code)]


def test_documents_must_be_a_few_maps_with_names_of_their_own() -> None:
    assert [issue.code for issue in issues_of()] == ["no_document"]
    assert [issue.code for issue in issues_of("x")][:1] == ["wrong_type"]
    assert [issue.code for issue in issues_of(*[rule(s=TEXT)] * 17)] == ["too_many"]
    assert {issue.code for issue in issues_of(rule(s=TEXT), rule(s=TEXT))} == {"duplicate_name"}


@pytest.mark.parametrize(
    ("change", "where", "code"),
    [
        ({"type": "value_percentile"}, "type", "refused_correlation"),
        ({"type": "count"}, "type", "refused_correlation"),
        ({"type": None}, "type", "refused_correlation"),
        ({"rules": None}, "rules", "bad_references"),
        ({"rules": ["base", "base"]}, "rules", "bad_references"),
        ({"rules": ["base", 5]}, "rules", "bad_references"),
        ({"rules": ["nobody"]}, "rules", "unknown_rule"),
        ({"rules": ["base"], "type": "temporal", "condition": None}, "rules", "bad_references"),
        ({"timespan": "1M"}, "timespan", "bad_timespan"),
        ({"timespan": "0h"}, "timespan", "bad_timespan"),
        ({"timespan": "91d"}, "timespan", "bad_timespan"),
        ({"timespan": None}, "timespan", "bad_timespan"),
        ({"timespan": 60}, "timespan", "bad_timespan"),
        ({"group_by": ["account"]}, "group-by", "unknown_field"),
        ({"group_by": []}, "group-by", "bad_group"),
        ({"group_by": ["account.id", "account.id"]}, "group-by", "bad_group"),
        ({"condition": None}, "condition", "bad_criteria"),
        ({"condition": {}}, "condition", "bad_criteria"),
        ({"condition": "base"}, "condition", "bad_criteria"),
        ({"condition": {"gt": 1, "lt": 5, "neq": 3}}, "condition", "bad_criteria"),
        ({"condition": {"gt": "1"}}, "condition.gt", "wrong_type"),
        ({"condition": {"gt": True}}, "condition.gt", "wrong_type"),
        ({"condition": {"gt": 1, "field": "prompt.text"}}, "condition.field", "unknown_key"),
        ({"type": "value_count", "condition": {"gt": 1}}, "condition.field", "unknown_field"),
        ({"type": "value_count", "condition": {"gt": 1, "field": ["prompt.text"]}}, "condition.field", "unknown_field"),
        ({"type": "value_sum", "condition": {"gt": 1, "field": "prompt.text"}}, "condition.field", "wrong_type"),
        ({"aliases": {"who": {"base": "account.id"}}}, "aliases", "unknown_key"),
        ({"generate": "yes"}, "generate", "wrong_type"),
        ({"window": "1h"}, "window", "unknown_key"),
    ],
)
def test_a_correlation_is_refused(change: dict[str, Any], where: str, code: str) -> None:
    part: dict[str, Any] = {"kind": "event_count", "condition": {"gt": 1}} | change
    kind = part.pop("type", part["kind"])
    part.pop("kind")
    rules = part.pop("rules", ["base"])
    document = correlation("event_count", **part)
    document["correlation"] |= {"type": kind, "rules": rules}
    assert [(issue.where, issue.code) for issue in issues_of(rule(s=TEXT), document)] == [
        (f"logic[1].correlation.{where}", code)
    ]


def test_correlations_of_correlations_are_bounded() -> None:
    base, other = rule(s=TEXT), rule(s=TEXT, name="other")
    counted = correlation("event_count", "inner", condition={"gt": 1})
    inner = correlation("temporal", "base", "other", name="inner")
    assert [issue.code for issue in issues_of(base, other, inner, counted)] == ["bad_references"]
    wider = correlation("temporal", "inner", "base", group_by=["org.id"])
    assert [issue.code for issue in issues_of(base, other, inner, wider)] == ["bad_group"]
    circle = [correlation("temporal", "base", "two", name="one"), correlation("temporal", "base", "one", name="two")]
    assert {issue.code for issue in issues_of(base, *circle)} == {"too_deep"}


def test_temporal_order_takes_no_condition() -> None:
    document = correlation("temporal_ordered", "base", "other", condition={"gte": 2})
    assert [issue.code for issue in issues_of(rule(s=TEXT), rule(s=TEXT, name="other"), document)] == ["bad_criteria"]


def test_a_record_is_bounded_as_a_whole() -> None:
    expressions = [rule(s=items(prompt_text__re=["x"] * 33), name=name) for name in ("one", "two")]
    assert [(issue.where, issue.code) for issue in issues_of(*expressions)] == [("logic", "too_many")]
    repeated = rule("1 of them or " * 70 + "s", s=items(prompt_text=["x"] * 100))
    assert [(issue.where, issue.code) for issue in issues_of(repeated)] == [("logic", "too_many")]


def test_the_largest_record_compiles_in_seconds() -> None:
    words = " or ".join(["s"] * 30)
    large = [rule(words, s=items(prompt_text__contains=[f"{n}" for n in range(20)]), name=f"r{n}") for n in range(8)]
    heavy = rule("s", s=items(prompt_text__re__i=[f"x.{{0,200}}{n}" for n in range(64)]), name="heavy")
    assert compile_logic([*large, heavy]).match_event({"prompt.text": "0"}) == tuple(f"r{n}" for n in range(8))


def test_values_at_the_bounds_compile() -> None:
    """What is checked is what is compiled: quoting and flags must not push a value over a bound."""
    event = {"prompt.text": "(" * 500 + "x" + "(" * 499}
    assert compile_logic([rule(s=items(prompt_text="(" * 500 + "?" + "(" * 499))]).match_event(event)
    assert compile_logic([rule(s=items(prompt_text__re__i__m__s="[(x]" * 250))]).match_event(event)
    no_groups = "[(x]|" + r"\(\Q((\E[](][^](][[:alpha:](]" * 25
    assert compile_logic([rule(s=items(prompt_text__re="(" * 50 + no_groups + ")" * 50))]).match_event(event)
    found = issues_of(rule(s=items(prompt_text__re__i=r"\pL{999}" * 8)))
    assert [issue.code for issue in found] == ["bad_regex"]


def test_a_correlation_that_is_no_map_or_stands_alone_is_refused() -> None:
    no_map = {"title": "C", "correlation": ["base"]}
    assert [issue.code for issue in issues_of(rule(s=TEXT), no_map)] == ["wrong_type"]
    assert [issue.code for issue in issues_of(correlation("event_count", condition={"gt": 1}))] == ["unknown_rule"]
    assert [issue.code for issue in issues_of(rule(s={f"f{n}": "x" for n in range(33)}))] == ["too_many"]


def test_a_hostile_condition_is_parsed_in_no_time() -> None:
    nested = "s"
    while len(nested) < 900 and nested.count("(") < 62:
        nested = f"(s and not {nested} or s)" if nested.count("not") < 2 else f"(s or {nested})"
    assert compile_logic([rule(nested, s=TEXT)]).match_event({"prompt.text": "river"})
