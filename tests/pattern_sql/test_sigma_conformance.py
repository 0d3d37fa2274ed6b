"""docs/sigma-conformance.md says of each part of Sigma what the code does with it: one case here a row there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest
from sigma.correlations import SigmaCorrelationType
from sigma.modifiers import modifier_mapping

from member_client.pattern_sql import DIALECTS, Unsupported, compile_sql
from sharing_protocol.pattern_logic import compile_logic
from tests.pattern_logic.documents import correlation, issues_of, rule
from tests.pattern_sql.engines import canonical_rows, found_by_duckdb, found_by_reference, load_duckdb

PAGE = Path(__file__).resolve().parents[2] / "docs" / "sigma-conformance.md"
BASE = rule(s={"prompt.text|exists": True})
OTHER = rule(name="other", s={"prompt.text|contains": "b"})
PRESENT: dict[str, Any] = {"prompt.text|exists": True}
START = 1_767_225_600


def one(field: str, value: Any) -> list[dict[str, Any]]:
    return [rule("p and s", p=PRESENT, s={field: value})]


def condition(text: str | list[str], *, other: Any = None) -> list[dict[str, Any]]:
    return [rule(text, sel_a={"prompt.text|contains": "a"}, sel_b=other or {"prompt.text|contains": "b"})]


def correlated(kind: str, *rules: str, **part: Any) -> list[dict[str, Any]]:
    return [BASE, OTHER, correlation(kind, *rules, **part)]


TOKENS = "gen_ai.usage.output_tokens"
SUPPORTED: dict[str, list[dict[str, Any]]] = {
    "a value": one("prompt.text", "Ab"),
    "a list of values": one("prompt.text", ["ab", "x"]),
    "`*`, `?` and their escapes": one("prompt.text", r"a*?\*"),
    "`null`": one("account.id", None),
    "numbers": one(TOKENS, 5),
    "truth values": one("request.batch", True),
    "a list of maps": [rule("s", s=[{"prompt.text": "ab"}, {"account.id": "a"}])],
    "`contains`": one("prompt.text|contains", "B"),
    "`startswith`": one("prompt.text|startswith", "A"),
    "`endswith`": one("prompt.text|endswith", "B"),
    "`all`": one("prompt.text|contains|all", ["a", "b"]),
    "`cased`": one("prompt.text|contains|cased", "b"),
    "`exists`": one("account.id|exists", True),
    "`neq`": one("prompt.text|neq", "ab"),
    "`re`": one("prompt.text|re", "^a"),
    "`i`, `ignorecase`": one("prompt.text|re|i", "^A"),
    "`m`, `multiline`": one("prompt.text|re|m", "^b$"),
    "`s`, `dotall`": one("prompt.text|re|s", "a.b"),
    "`lt`, `lte`, `gt`, `gte`": one(f"{TOKENS}|gte", 5),
    "`cidr`": one("network.ip|cidr", "192.0.2.0/24"),
    "`fieldref`": one("account.id|fieldref", "org.id"),
    "`and`, `or`, `not`, brackets": condition("sel_a and not (sel_b or sel_a and sel_b)"),
    "`1 of`, `any of`, `all of`, `them`": condition("all of sel_* or any of them"),
    "a list of conditions": condition(["sel_a", "sel_b"]),
    "`event_count`": correlated("event_count", condition={"gte": 2}),
    "`value_count`": correlated("value_count", condition={"gte": 2, "field": "org.id"}),
    "`value_sum`": correlated("value_sum", condition={"gt": 5, "field": TOKENS}),
    "`value_avg`": correlated("value_avg", condition={"lt": 5, "field": TOKENS}),
    "`temporal`": correlated("temporal", "base", "other"),
    "`temporal_ordered`": correlated("temporal_ordered", "base", "other"),
    "`group-by`": correlated("event_count", condition={"gte": 2}, group_by=["account.id", "org.id"]),
    "`timespan`": correlated("event_count", condition={"gte": 2}, timespan="10m"),
    "`gt`, `gte`, `lt`, `lte`, `eq`, `neq`, a range": correlated("event_count", condition={"gte": 2, "neq": 3}),
    "`generate`": correlated("event_count", condition={"gte": 2}, generate=True),
    "correlations of correlations": [*correlated("temporal", "base", "other", name="inner"), {}],
}
SUPPORTED["correlations of correlations"][-1] = correlation("temporal", "inner", "base", name="outer")

REFUSED: dict[str, list[dict[str, Any]]] = {
    "keywords": [rule("s", s=["ab"])],
    "`base64`, `base64offset`": one("prompt.text|base64offset|contains", "ab"),
    "`wide`, `utf16`, `utf16le`, `utf16be`": one("prompt.text|wide", "ab"),
    "`windash`": one("prompt.text|windash", "-a"),
    "`expand`": one("prompt.text|expand", "%x%"),
    "`minute`, `hour`, `day`, `week`, `month`, `year`": one("timestamp|hour", 3),
    "`fieldref` with `contains`, `startswith`, `endswith`": one("account.id|fieldref|contains", "org.id"),
    "look-around, back-references": one("prompt.text|re", "a(?=b)"),
    "`value_percentile`, `value_median`": correlated("value_percentile", condition={"gt": 5, "field": TOKENS}),
    "`aliases`": correlated("event_count", condition={"gte": 2}, aliases={"x": {"base": "org.id"}}),
    "conditions of correlations as text": correlated("temporal", "base", "other", condition="base and not other"),
    "counting the matches of a correlation": [
        *correlated("event_count", condition={"gte": 2}, name="inner"),
        correlation("event_count", "inner", name="outer", condition={"gte": 2}),
    ],
    "`filter`": [{**BASE, "filter": {"rules": ["base"], "selection": {}, "condition": "selection"}}],
    "`action`": [{**BASE, "action": "global"}],
    "`related`, `scope`, `taxonomy`": [{**BASE, "taxonomy": "sigma"}],
    "other log sources": [{**BASE, "logsource": {"product": "windows"}}],
}

UNSUPPORTED = {("`m`, `multiline`", "snowflake")}

EVENTS: list[dict[str, Any]] = [
    {"timestamp": START, "account.id": "a", "org.id": "A", "prompt.text": "ab", TOKENS: 5, "network.ip": "192.0.2.9"},
    {"timestamp": START + 1, "account.id": "a", "org.id": "A", "prompt.text": "a*xb*", TOKENS: 4.5},
    {
        "timestamp": START + 2,
        "account.id": "a",
        "org.id": "B",
        "prompt.text": "a\nb",
        TOKENS: 0.1,
        "request.batch": True,
    },
    {"timestamp": START + 2, "prompt.text": "a"},
    {"timestamp": START + 3, "account.id": "a", "org.id": "B", "prompt.text": "AB", "network.ip": "2001:db8::1"},
    {"timestamp": START + 4, "account.id": "a", "org.id": "A", "prompt.text": "axyz*"},
    {"timestamp": START + 5, "account.id": "b", "prompt.text": "q"},
    {"timestamp": START + 6, "account.id": "b"},
]


def table() -> dict[str, str]:
    """First cell to second cell of every row of the page."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {row[0]: row[1] for row in cells if row[1] in ("supported", "refused")}


def test_the_page_has_exactly_the_rows_that_are_tested() -> None:
    assert table() == dict.fromkeys(SUPPORTED, "supported") | dict.fromkeys(REFUSED, "refused")


@pytest.mark.parametrize("part", SUPPORTED)
def test_supported(part: str) -> None:
    logic = compile_logic(SUPPORTED[part])
    connection = duckdb.connect()
    load_duckdb(connection, canonical_rows(EVENTS))
    expected = found_by_reference(logic, EVENTS)
    assert 0 < len({match[1] for match in expected}) < len(EVENTS)
    assert found_by_duckdb(connection, compile_sql(logic).query) == expected
    for dialect in DIALECTS:
        if (part, dialect) in UNSUPPORTED:
            with pytest.raises(Unsupported):
                compile_sql(logic, dialect)
        else:
            assert compile_sql(logic, dialect).query


@pytest.mark.parametrize("part", REFUSED)
def test_refused(part: str) -> None:
    issues = issues_of(*REFUSED[part])
    assert all(issue.what and issue.mend for issue in issues)


def test_every_modifier_and_correlation_type_of_the_specification_has_a_row() -> None:
    named = {word.strip("` ") for cell in table() for word in cell.split(",")}
    assert {*modifier_mapping, *(kind.name.lower() for kind in SigmaCorrelationType)} <= named
