"""From a condition to a closure over one event: the reference meaning of every test.

A closure is built once a pattern and called once an event, so everything that depends only on the pattern
(folding, wildcard expressions, networks) is worked out when building.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from sharing_protocol.pattern_logic.catalogue import Field
from sharing_protocol.pattern_logic.conditions import (
    All,
    BooleanTest,
    Comparison,
    Condition,
    Either,
    Glob,
    NetworkTest,
    Not,
    NumberTest,
    PresenceTest,
    RegexTest,
    SameAs,
    TextTest,
    Wildcard,
)
from sharing_protocol.pattern_logic.events import Event, fold
from sharing_protocol.pattern_logic.regexes import compile_regex, quote

Predicate = Callable[[Event], bool]
Fields = Callable[[str], Field]

COMPARE: dict[Comparison, Callable[[float | Fraction, float | Fraction], bool]] = {
    Comparison.LT: operator.lt,
    Comparison.LTE: operator.le,
    Comparison.GT: operator.gt,
    Comparison.GTE: operator.ge,
    Comparison.EQ: operator.eq,
    Comparison.NEQ: operator.ne,
}


def build(condition: Condition, fields: Fields) -> Predicate:
    """Compile a condition whose fields and expressions have been checked.

    Args:
        condition: the tree.
        fields: the catalogue's entry of a field name.
    """
    if isinstance(condition, All):
        return _all(tuple(build(part, fields) for part in condition.parts))
    if isinstance(condition, Either):
        return _either(tuple(build(part, fields) for part in condition.parts))
    if isinstance(condition, Not):
        part = build(condition.part, fields)
        return lambda event: not part(event)
    return _build_test(condition, fields)


def _all(parts: tuple[Predicate, ...]) -> Predicate:
    def holds(event: Event) -> bool:
        for part in parts:  # noqa: SIM110 - all() over a generator takes twice as long, and this is the hot path
            if not part(event):
                return False
        return True

    return holds


def _either(parts: tuple[Predicate, ...]) -> Predicate:
    def holds(event: Event) -> bool:
        for part in parts:  # noqa: SIM110 - as above
            if part(event):
                return True
        return False

    return holds


def _build_test(
    test: TextTest | RegexTest | NumberTest | BooleanTest | NetworkTest | PresenceTest | SameAs, fields: Fields
) -> Predicate:
    name = test.field
    if isinstance(test, TextTest):
        return _text(name, test.glob, test.cased)
    if isinstance(test, RegexTest):
        return _regex(name, test.expression, Event.encoded)
    if isinstance(test, NumberTest):
        return _number(name, test.comparison, test.number)
    if isinstance(test, BooleanTest):
        value = test.value
        return lambda event: event.boolean(name) is value
    if isinstance(test, NetworkTest):
        network = test.network

        def inside(event: Event) -> bool:
            address = _address(event.text(name) or "")
            return address is not None and address in network

        return inside
    field_type = fields(name).type
    if isinstance(test, PresenceTest):
        present = test.present
        return lambda event: (event.read(name, field_type) is not None) is present
    return _same_as(name, test.other, fields)


def _text(name: str, glob: Glob, cased: bool) -> Predicate:
    read = Event.text if cased else Event.folded
    glob = glob if cased else tuple(fold(part) if isinstance(part, str) else part for part in glob)
    text = "".join(part for part in glob if isinstance(part, str))
    run = Wildcard.RUN
    if glob in ((), (text,)):
        return lambda event: read(event, name) == text
    if glob == (run, text, run):
        return lambda event: text in (read(event, name) or "")  # text is not empty here, so absent is false
    if glob == (text, run):
        return lambda event: (read(event, name) or "").startswith(text)
    if glob == (run, text):
        return lambda event: (read(event, name) or "").endswith(text)
    expression = "".join(
        quote(part) if isinstance(part, str) else {run: ".*", Wildcard.ONE: "."}[part] for part in glob
    )

    def encoded(event: Event, name: str) -> bytes | None:
        text = read(event, name)
        return None if text is None else text.encode("utf-8")

    return _regex(name, rf"(?s)\A{expression}\z", encoded)


def _regex(name: str, expression: str, read: Callable[[Event, str], bytes | None]) -> Predicate:
    search = compile_regex(expression).search

    def found(event: Event) -> bool:
        encoded = read(event, name)
        return encoded is not None and search(encoded) is not None

    return found


def _number(name: str, comparison: Comparison, wanted: int | float) -> Predicate:
    compare = COMPARE[comparison]

    def holds(event: Event) -> bool:
        number = event.number(name)
        return number is not None and compare(number, wanted)

    return holds


def _same_as(name: str, other: str, fields: Fields) -> Predicate:
    one_type, other_type = fields(name).type, fields(other).type

    def same(event: Event) -> bool:
        one, two = event.read(name, one_type), event.read(other, other_type)
        if one is None or two is None:
            return False
        if isinstance(one, str) and isinstance(two, str):
            return fold(one) == fold(two)
        return one == two

    return same


@lru_cache(maxsize=4096)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
