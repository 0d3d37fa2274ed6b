"""Literals that a condition cannot hold without: whatever the reference evaluator finds has one of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from member_client.detection.literals import FOLDED_TO_ASCII, all_required, needed_by_expression, required
from sharing_protocol.pattern_logic import LogicError, compile_logic
from sharing_protocol.pattern_logic.regexes import BadRegex, compile_regex
from tests.pattern_logic.documents import rule


@pytest.mark.parametrize(
    ("expression", "literals"),
    [
        ("chain of thought", {"chain of thought"}),
        ("(?i)step[- ]by[- ]step", {"step-by-step", "step by step", "step-by step", "step by-step"}),
        ("show (all )?your work", {"your work"}),
        ("x.*abc(def|ghi)", {"abcdef", "abcghi"}),
        ("x(.*abc)", {"abc"}),
        ("(abc|.*d)efg", {"abcefg", "defg"}),
        ("hello+ world", {" world"}),
        ("(ten){2}", {"ten"}),
        (r"\bgive me [0-9]+ tasks\b", {"give me "}),
        (r"[[:alpha:]]loud", {"loud"}),
        (r"\p{Greek}loud\.", {"loud."}),
        ("a{,5}b", {"a{,5}b"}),
        ("x{\u0661}yz", {"x{\u0661}yz"}),
        (".*", set()),
        ("(abc)?", set()),
        ("(abc)*", set()),
        (r"\Qabc\E", set()),
        (r"\x41bcd", set()),
        ("(" * 400 + "abc" + ")" * 400, set()),
    ],
)
def test_what_an_expression_needs(expression: str, literals: set[str]) -> None:
    assert needed_by_expression(expression) == literals


ATOMS = st.sampled_from(
    ["a", "b", "ab", "S", "k", "é", ".", "[ab]", "[^a]", "[a-c]", r"\d", r"\.", "^", "$", r"\b", "中文"]
)
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4).map("".join),
        st.lists(inner, min_size=1, max_size=3).map("|".join).map("({})".format),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{0,2}", "{1}", "+?"])).map(
            lambda part: f"(?:{part[0]}){part[1]}"
        ),
    ),
    max_leaves=10,
)
TEXTS = st.text("abcSsKk.é中文 1\u017f\u212a", max_size=14)


@given(EXPRESSIONS, st.booleans(), st.lists(TEXTS, min_size=1, max_size=8))
def test_whatever_an_expression_finds_has_one_of_its_literals(
    expression: str, caseless: bool, texts: list[str]
) -> None:
    try:
        compiled = compile_regex(f"(?i){expression}" if caseless else expression)
    except BadRegex:
        return
    needed = needed_by_expression(expression)
    for text in texts:
        if needed and compiled.search(text.encode()) is not None and not any(odd in text for odd in FOLDED_TO_ASCII):
            # cased letters beyond ASCII are cut off a literal before it is looked for
            assert any(one.lower() in text.lower() for one in needed)


VALUES = st.one_of(
    st.text("abSk é*?中", min_size=1, max_size=8).map(lambda text: {"prompt.text": text}),
    st.text("abSk é", min_size=1, max_size=8).map(lambda text: {"prompt.text|contains": text}),
    st.text("abSk é", min_size=1, max_size=8).map(lambda text: {"prompt.text|endswith|cased": text}),
    st.lists(st.text("abk", min_size=3, max_size=5), min_size=2, max_size=3).map(lambda t: {"prompt.text|contains": t}),
    st.lists(st.text("abk", min_size=3, max_size=5), min_size=2, max_size=3).map(
        lambda t: {"prompt.text|contains|all": t}
    ),
    st.just({"prompt.turns|gte": 2}),
)


@given(
    st.lists(VALUES, min_size=3, max_size=3),
    st.sampled_from(["s0 and s1", "s0 or s1", "s0 and not s1", "(s0 or s1) and s2", "1 of s*"]),
    st.lists(st.text("abSskK é中\u017f", max_size=12), min_size=1, max_size=10),
)
def test_whatever_a_rule_matches_has_one_of_all_its_literals(
    selections: list[dict[str, Any]], condition: str, texts: list[str]
) -> None:
    try:
        named: dict[str, Any] = {f"s{n}": one for n, one in enumerate(selections)}
        logic = compile_logic([rule(condition, **named)])
    except LogicError:
        return
    (compiled,) = logic.rules
    needed = all_required(compiled.condition)
    best = required(compiled.condition)
    assert best in needed if needed else best is None
    for text in [*texts, *(str(value) for one in selections for value in one.values())]:
        matched = logic.match_event({"prompt.text": text, "prompt.turns": len(text) % 4})
        if matched and not any(odd in text for odd in FOLDED_TO_ASCII):
            folded = text.encode().lower()
            assert all(any(literal in folded for literal in one.literals) for one in needed)
