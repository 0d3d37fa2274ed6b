"""Random patterns and events that are hard on an engine: odd letters, absent and wrong values, equal times."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import reject
from hypothesis import strategies as st

from sharing_protocol.pattern_logic import Logic, LogicError, compile_logic

LONG_S, KELVIN, DOTTED_I, DOTLESS_I, FINAL_SIGMA = "\u017f", "\u212a", "\u0130", "\u0131", "\u03c2"
ALPHABET = (
    f"aAbBkK{KELVIN}sS{LONG_S}iI{DOTTED_I}{DOTLESS_I}σΣ{FINAL_SIGMA}ßẞµμéÉǅ𐐀𐐨𝄞中"
    "09 _-.,:%!'\"\\*?+()[]{}|^$&~#\n\r\t\x00\u0085\u2028\ufffd\U0010ffff"
)
TEXTS = st.text(ALPHABET, max_size=12) | st.text("ab\n", max_size=6) | st.just("")
NEEDLES = st.text(ALPHABET, min_size=1, max_size=3) | st.sampled_from(["a", "b", "s", "k", "ab", "i"])
TEXT_FIELDS = ("prompt.text", "account.id", "org.id")
NUMBER_FIELDS = ("gen_ai.usage.output_tokens", "gen_ai.request.temperature", "network.asn")
NUMBERS = st.sampled_from(
    [0, 1, 2, -1, 3.5, 0.1, 0.2, -0.0, 1e-7, -2.5e-7, 2**53 - 1, -(2**53) + 1, 5e-324, 1234567.891, 0.30000000000000004]
)
_ADDRESSES = """192.0.2.1 192.0.2.64 192.0.2.255 198.51.100.7 192.0.2.01 192.0.2 192.0.2.1.1 ::1 :: 2001:db8::1
    2001:DB8:0:0::1 2001:0db8:00:0::1%eth0 2001:db8::192.0.2.1 ::ffff:192.0.2.1 2001:db8:1:2:3:4:5:6 1::2::3
    2001:db8:1:2:3:4:5:: 2001:db8::12345 ::192.0.2.1 2001:db8:%x 2001:db8::%a%b fe80::1%"""
ADDRESSES = st.sampled_from(_ADDRESSES.split())
_NETWORKS = """192.0.2.0/24 192.0.2.64/26 192.0.2.1/32 0.0.0.0/0 192.0.0.0/9 2001:db8::/32 2001:db8::/33 ::/0 ::1/128
    ::/96 2001:db8::c000:200/120 2001:db8:0:0:8000::/65 ::ffff:0:0/96"""
NETWORKS = st.sampled_from(_NETWORKS.split())
_EXPRESSIONS = r"""a (?i)k (?i)ß [^a] (?i)[^k] ^a a$ (?m)^b$ (?m)a$ a.b (?s)a.b \bs k\B \Bb \d\s \w+\W [[:alpha:]]-
    \pL\pN
    [\p{Greek}x]a \P{L}a (?i)\p{Lu}b \Qa.b\E a{2} a{1,2}b (a|b)*c?k (?:ab|a)(?:b|)$ a|b| \x41|\x{3c3} \x{10FFFF}
    (?i:s)S (?P<n>a)b a*?b+? (?U)a+b [\]\\^-] []a] [^]a] [a^]k \Aa\z a\n (?i)\x{17f} \.\* [!-~]{3} (?-s).k \101 \x00
    (?i)(?-i)k (a)(b) [\d.]+\s (?:a+b)+k $ (?m)$. \t|\r [^\x00-\x{7f}] (?i)[a-k]9 a||b ()a (?:) \pZ [\PL]
    (?i:a)b|[b-] [\w-]k (?i)[[:upper:]]9 \Q.\Ea (?m)^\z [a-]b [^\n]\r a+|\Bb (?s:.)b (?i)\x{3c3} [[:^alpha:]b]
    a.*b a.*?b.*k (?:a.?)+b (?i)(?:ab|b.)+ \A[^a]*k \A.?\z"""
EXPRESSIONS = st.sampled_from(_EXPRESSIONS.split())


def escaped(text: str) -> str:
    """A Sigma value that means this text literally."""
    return re.sub(r"[\\*?]", lambda found: "\\" + found[0], text)


GLOBS = st.lists(NEEDLES.map(escaped) | st.sampled_from("**?"), min_size=1, max_size=5).map("".join)


@st.composite
def _items(draw: st.DrawFn) -> dict[str, Any]:
    field = draw(st.sampled_from(TEXT_FIELDS))
    number = draw(st.sampled_from(NUMBER_FIELDS))
    kind = draw(
        st.sampled_from(["place", "glob", "glob", "all", "re", "number", "cidr", "same", "exists", "null", "flag"])
    )
    cased = draw(st.sampled_from(["", "|cased"]))
    if kind == "place":
        place = draw(st.sampled_from(["contains", "startswith", "endswith"]))
        needles = st.lists(NEEDLES.map(escaped), min_size=1, max_size=4)
        return {f"{field}|{place}{cased}": draw(needles)}
    if kind == "glob":
        return {f"{field}{cased}": draw(st.lists(GLOBS | st.just(""), min_size=1, max_size=3))}
    if kind == "all":
        return {f"{field}|contains|all{cased}": draw(st.lists(NEEDLES.map(escaped), min_size=2, max_size=2))}
    if kind == "re":
        flags = draw(st.sampled_from(["", "|i", "|m", "|s", "|i|s"]))
        return {f"{field}|re{flags}": draw(EXPRESSIONS)}
    if kind == "number":
        sign = draw(st.sampled_from(["", "|lt", "|lte", "|gt", "|gte", "|neq"]))
        return {f"{number}{sign}": draw(NUMBERS)}
    if kind == "cidr":
        return {"network.ip|cidr": draw(NETWORKS)}
    if kind == "same":
        one, other = draw(st.sampled_from([(TEXT_FIELDS[:2]), NUMBER_FIELDS[:2], ("timestamp", "account.created")]))
        return {f"{one}|fieldref{draw(st.sampled_from(['', '|neq']))}": other}
    if kind == "exists":
        return {f"{draw(st.sampled_from([field, number, 'timestamp']))}|exists": draw(st.booleans())}
    if kind == "null":
        return {draw(st.sampled_from([field, number, "request.batch"])): None}
    return {"request.batch": draw(st.booleans())}


CONDITIONS = [
    "a",
    "a and b",
    "a or b",
    "a and not b",
    "not (a or b) and c",
    "not a and (b or not c)",
    "1 of them",
    "all of them",
]


@st.composite
def _rule(draw: st.DrawFn, name: str) -> dict[str, Any]:
    chosen = draw(st.sampled_from(CONDITIONS))
    present = {"prompt.text|exists": True} if draw(st.booleans()) else {"account.id|exists": True}
    return {
        "title": f"Rule '{name}'",
        "name": name,
        "logsource": {"product": "llm_api", "category": "request"},
        "detection": {
            **{selection: draw(_items()) for selection in "abc"},
            "_there": present,
            "condition": f"_there and ({chosen})" if draw(st.integers(0, 3)) else chosen,
        },
    }


@st.composite
def _correlation(draw: st.DrawFn, name: str, rules: list[str], inner: dict[str, list[str]]) -> dict[str, Any]:
    kind = draw(
        st.sampled_from(
            ["event_count", "value_count", "value_sum", "value_avg", "temporal", "temporal_ordered", "temporal"]
        )
    )
    temporal = kind.startswith("temporal")
    known = rules + list(inner) if temporal else rules
    least = 2 if temporal else 1
    chosen = draw(st.lists(st.sampled_from(known), min_size=least, max_size=3, unique=True))
    groups = draw(
        st.sampled_from([[], ["account.id"], ["account.id", "network.asn"], ["request.batch"], ["account.created"]])
    )
    for reference in chosen:
        if reference in inner:
            groups = [field for field in groups if field in inner[reference]]
    part: dict[str, Any] = {"type": kind, "rules": chosen, "timespan": draw(st.sampled_from(["1s", "3s", "1m", "90d"]))}
    if groups:
        part["group-by"] = groups
    if draw(st.booleans()):
        part["generate"] = True
    if kind != "temporal_ordered" and not (temporal and draw(st.booleans())):
        signs = draw(
            st.lists(st.sampled_from(["lt", "lte", "gt", "gte", "eq", "neq"]), min_size=1, max_size=2, unique=True)
        )
        part["condition"] = {sign: draw(st.sampled_from([0, 1, 2, 3, 0.5, 0.1, -1, 0.3])) for sign in signs}
        if kind == "value_count":
            part["condition"]["field"] = draw(st.sampled_from(["org.id", "network.asn", "account.created"]))
        elif kind.startswith("value"):
            part["condition"]["field"] = draw(st.sampled_from(NUMBER_FIELDS))
    return {"title": f"Correlation {name}", "name": name, "correlation": part}


OFTEN = st.sampled_from(
    [
        {"prompt.text|exists": True},
        {"prompt.text|contains": "a"},
        {"prompt.text|contains": ["b", "k"]},
        {"account.id": ["a", "b"]},
        {"gen_ai.usage.output_tokens|lt": 3},
    ]
)


def _compiled(documents: list[dict[str, Any]]) -> Logic:
    try:
        return compile_logic(documents)
    except LogicError as error:
        if all(issue.code in ("matches_everything", "bad_regex") for issue in error.issues):
            reject()
        raise


@st.composite
def plain_logics(draw: st.DrawFn) -> Logic:
    """A pattern of rules that ask all sorts of things."""
    return _compiled([draw(_rule(f"r{number}")) for number in range(draw(st.integers(1, 3)))])


@st.composite
def correlated_logics(draw: st.DrawFn) -> Logic:
    """A pattern of correlations over rules that match often, and over each other."""
    names = ["r0", "r'1", "r2"][: draw(st.integers(2, 3))]
    source = {"product": "llm_api", "category": "request"}
    documents = [
        {"title": name, "logsource": source, "detection": {"s": draw(OFTEN), "condition": "s"}} for name in names
    ]
    inner: dict[str, list[str]] = {}
    for name in ("c0", "c1", "c2")[: draw(st.integers(1, 3))]:
        document = draw(_correlation(name, names, inner))
        inner[name] = document["correlation"].get("group-by", [])
        documents.append(document)
    return _compiled(documents)


MOMENTS = st.sampled_from([1_767_225_600 + offset for offset in (0, 0.5, 1, 1, 2, 3, 3.000001, 4, 60, 61)])


EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "timestamp": MOMENTS | st.sampled_from(["2026-01-01T00:00:01Z", "nonsense", None, True]),
        "account.created": MOMENTS | st.none(),
        "account.id": st.sampled_from(["a", "A", "b", ""]) | TEXTS | st.sampled_from([None, 5]),
        "org.id": st.sampled_from(["x", "y", "z"]) | TEXTS | st.none(),
        "prompt.text": TEXTS | TEXTS | st.sampled_from([None, 1, True, "a\ud800", "\udfffb"]),
        "network.ip": ADDRESSES | st.none(),
        "network.asn": st.sampled_from([0, 1, 2, -0.0]) | NUMBERS | st.sampled_from([None, "1", True]),
        "gen_ai.usage.output_tokens": NUMBERS | st.sampled_from([None, 2**53, float("inf"), float("nan"), "7"]),
        "gen_ai.request.temperature": NUMBERS,
        "request.batch": st.sampled_from([True, False, None, 0, "true"]),
    },
)

CORRELATED_EVENTS = st.fixed_dictionaries(
    {"timestamp": MOMENTS},
    optional={
        "account.created": MOMENTS,
        "account.id": st.sampled_from(["a", "a", "A", "b", ""]),
        "org.id": st.sampled_from(["x", "X", "y", "z"]),
        "prompt.text": st.sampled_from(["a", "b", "ab", "k", ""]),
        "network.asn": st.sampled_from([0, 1, 2, -0.0]),
        "gen_ai.usage.output_tokens": NUMBERS,
        "gen_ai.request.temperature": st.sampled_from([0.1, 0.2, 0.3, -0.1, 1]),
        "request.batch": st.booleans(),
    },
)
