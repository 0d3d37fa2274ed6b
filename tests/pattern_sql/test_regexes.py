"""RE2's expressions, read into trees and written for other engines, find what RE2 finds.

Python's own `re`, whose syntax is close to both, stands in for Java's engine and for Snowflake's; `make test-spark`
asks the real one of the first.
"""

from __future__ import annotations

import re
import warnings
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from member_client.pattern_sql import Unsupported
from member_client.pattern_sql.addresses import tree_of
from member_client.pattern_sql.globs import as_re2, as_tree
from member_client.pattern_sql.regex_backtracking import refuse_what_explodes
from member_client.pattern_sql.regex_printing import JAVA, POSIX, RE2
from member_client.pattern_sql.regex_syntax import parse
from member_client.pattern_sql.regex_tree import Tree
from sharing_protocol.pattern_logic.conditions import NetworkTest, TextTest, Wildcard
from sharing_protocol.pattern_logic.events import Event
from sharing_protocol.pattern_logic.predicates import build
from sharing_protocol.pattern_logic.regexes import compile_regex
from tests.pattern_sql.random_patterns import ADDRESSES, EXPRESSIONS, NEEDLES, NETWORKS, TEXTS


def by_re2(tree: Tree, text: str) -> bool:
    return re2.search(RE2.print(tree), text) is not None


def by_java(tree: Tree, text: str) -> bool:
    written = JAVA.print(tree).replace(r"\z", r"\Z")
    written = re.sub(r"\\x\{([0-9a-f]+)\}", lambda code: f"\\U{int(code[1], 16):08x}", written)
    return re.search(written, text) is not None


def by_snowflake(tree: Tree, text: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of `[[`, which may mean something else one day
        return re.fullmatch(POSIX.print(tree), text, re.DOTALL) is not None


@given(expression=EXPRESSIONS, texts=st.lists(TEXTS, min_size=10, max_size=10))
def test_expressions_mean_the_same_in_every_kind(expression: str, texts: list[str]) -> None:
    tree = parse(expression)
    search = compile_regex(expression).search
    for text in texts:
        expected = search(text.encode()) is not None
        assert by_re2(tree, text) is expected
        for by_other in (by_java, by_snowflake):
            try:
                assert by_other(tree, text) is expected, by_other
            except Unsupported:
                continue


@given(glob=st.lists(NEEDLES | st.sampled_from(Wildcard), max_size=5).map(tuple), cased=st.booleans(), text=TEXTS)
def test_globs_mean_the_same_in_every_kind(glob: tuple[str | Wildcard, ...], cased: bool, text: str) -> None:
    expected = build(TextTest("prompt.text", glob, cased), lambda _: pytest.fail("not asked"))(
        Event({"prompt.text": text})
    )
    flags, body = as_re2(glob, cased)
    assert (compile_regex(f"(?{flags}){body}" if flags else body).search(text.encode()) is not None) is expected
    assert by_java(as_tree(glob, cased), text) is expected


@settings(max_examples=40)  # each compiles an expression of some thousand instructions
@given(network=NETWORKS, text=ADDRESSES)
def test_networks_hold_the_addresses_that_they_hold(network: str, text: str) -> None:
    test = NetworkTest("network.ip", ip_network(network))
    expected = build(test, lambda _: pytest.fail("not asked"))(Event({"network.ip": text}))
    for by_one in (by_re2, by_java, by_snowflake):
        assert by_one(tree_of(test.network), text) is expected


@settings(max_examples=40)  # each compiles an expression of some thousand instructions
@given(
    number=st.integers(0, 2**128 - 1) | st.integers(0, 2**32).map(lambda low: low << 64 | low),
    length=st.integers(0, 128),
    flipped=st.integers(0, 128),
)
def test_networks_of_any_length(number: int, length: int, flipped: int) -> None:
    network = IPv6Network((number, length), strict=False)
    other = IPv6Address(number ^ ((1 << flipped) >> 1))
    for text in (str(other), other.exploded.upper()):
        assert by_re2(tree_of(network), text) is (other in network)


@given(number=st.integers(0, 2**32 - 1), length=st.integers(0, 32), flipped=st.integers(0, 32))
def test_old_networks_of_any_length(number: int, length: int, flipped: int) -> None:
    network = IPv4Network((number, length), strict=False)
    other = IPv4Address(number ^ ((1 << flipped) >> 1))
    assert by_re2(tree_of(network), str(other)) is (other in network)


@pytest.mark.parametrize(
    ("expression", "explodes"),
    [
        ("(a*)*b", True),
        ("(a?){30}a{30}", True),
        ("(?:a.?)+b", True),
        (r"(?:\w+\s*){3,}x", True),
        ("(?:a|ab|b)+c", True),
        ("(?:(?:ab)+c?)+d", True),
        ("(.*,){20}x", True),
        ("(a|a)*b", False),  # one set
        ("(a+b)+k", False),
        (r"(?:\w+\s+){3,}x", False),
        ("(?:foo|fob)+z", False),
        (r"(\d+,)*\d+", False),
        (r"(?:[^\n]*\n)+x", False),
        (r"(?:\bfoo\b\s?)+x", False),
    ],
)
def test_what_would_take_a_backtracking_engine_for_ever_is_refused(expression: str, explodes: bool) -> None:
    if explodes:
        with pytest.raises(Unsupported, match="repetition"):
            refuse_what_explodes(parse(expression))
    else:
        refuse_what_explodes(parse(expression))
