"""What each kind of test and modifier means, value by value."""

from __future__ import annotations

from typing import Any

import pytest

from sharing_protocol.pattern_logic import Event, compile_logic
from tests.pattern_logic.documents import items, matches, rule

LONE_SURROGATE = "\ud83d"


@pytest.mark.parametrize(
    ("detection", "text", "expected"),
    [
        (items(prompt_text="name a river"), "Name a River", True),
        (items(prompt_text="name a river"), "name a river?", False),
        (items(prompt_text=""), "", True),
        (items(prompt_text=""), " ", False),
        (items(prompt_text=["a", "b"]), "B", True),
        (items(prompt_text="name*river"), "name a\nlong RIVER", True),
        (items(prompt_text="name*river"), "name a river now", False),
        (items(prompt_text="n?me"), "nome", True),
        (items(prompt_text="n?me"), "nme", False),
        (items(prompt_text="n?me"), "n\nme", True),
        (items(prompt_text="?"), "𝄞", True),
        (items(prompt_text="*"), "", True),
        (items(prompt_text=r"100\*"), "100*", True),
        (items(prompt_text=r"100\*"), "1000", False),
        (items(prompt_text=r"a\\*"), "a\\bc", True),
        (items(prompt_text=r"c:\temp"), r"C:\Temp", True),
        (items(prompt_text__contains="river"), "a RIVER here", True),
        (items(prompt_text__contains="ri?er"), "a riser here", True),
        (items(prompt_text__contains="ri*er"), "a river\nhere, er", True),
        (items(prompt_text__startswith="a r"), "A river", True),
        (items(prompt_text__startswith="river"), "a river", False),
        (items(prompt_text__endswith="river"), "a RIVER", True),
        (items(prompt_text__endswith="a"), "a river", False),
        (items(prompt_text__contains__all=["a", "river"]), "river, a", True),
        (items(prompt_text__contains__all=["a", "river"]), "river", False),
        (items(prompt_text__contains__cased="River"), "a river", False),
        (items(prompt_text__contains__cased="River"), "a River", True),
        (items(prompt_text__contains__neq="river"), "a lake", True),
        (items(prompt_text__re="riv.r"), "a river", True),
        (items(prompt_text__re="riv.r"), "a RIVER", False),
        (items(prompt_text__re__i="riv.r"), "a RIVER", True),
        (items(prompt_text__re="^river$"), "a\nriver\nb", False),
        (items(prompt_text__re__m="^river$"), "a\nriver\nb", True),
        (items(prompt_text__re="a.river"), "a\nriver", False),
        (items(prompt_text__re__s="a.river"), "a\nriver", True),
        (items(prompt_text__re__i__all=["river", "lake"]), "Lake and River", True),
        (items(prompt_text__re__i__all=["river", "lake"]), "River", False),
        (items(prompt_text__re=r"\Ariver\z"), "river\n", False),
        # letter case by simple folding: one character to one, wherever it stands
        (items(prompt_text__contains="\u039f\u03a3"), "\u03bf\u03c3\u03bf\u03c2", True),
        (items(prompt_text__contains="\u03bf\u03c2 "), "\u039f\u03a3 \u039f", True),
        (items(prompt_text__contains="straße"), "STRASSE", False),
        (items(prompt_text__contains="STRAẞE"), "straße", True),
        (items(prompt_text__contains="kelvin"), "\u212aelvin", True),
        (items(prompt_text="i"), "İ", False),
        # half a surrogate pair is the replacement character, folded or not
        (items(prompt_text__contains="\ufffd!"), f"a{LONE_SURROGATE}!", True),
        (items(prompt_text__contains__cased="\ufffd!"), f"a{LONE_SURROGATE}!", True),
        (items(prompt_text__re="\ufffd!"), f"a{LONE_SURROGATE}!", True),
    ],
)
def test_text_compares_as_sigma_says(detection: dict[str, Any], text: str, expected: bool) -> None:
    required = {**detection, "account.id": "a"}  # `neq` alone would match an event without any field
    assert matches(required, {"prompt.text": text, "account.id": "a"}) is expected


@pytest.mark.parametrize(
    ("detection", "value", "expected"),
    [
        (items(prompt_turns=5), 5, True),
        (items(prompt_turns=5), 5.0, True),
        (items(prompt_turns=1), True, False),
        (items(prompt_turns=5), "5", False),
        (items(prompt_turns__gte=5), "9", False),
        (items(prompt_turns__gt=5), 5, False),
        (items(prompt_turns__gt=5), 5.5, True),
        (items(prompt_turns__gte=5), 5, True),
        (items(prompt_turns__lt=5), 5, False),
        (items(prompt_turns__lte=5), 5, True),
        (items(prompt_turns__lt=5), None, False),
        (items(prompt_turns__lt=5), float("nan"), False),
        (items(prompt_turns__lt=5), float("-inf"), False),
        (items(prompt_turns=[1, 3]), 3, True),
    ],
)
def test_numbers_compare_only_with_numbers(detection: dict[str, Any], value: object, expected: bool) -> None:
    assert matches(detection, {"prompt.turns": value}) is expected


def test_fractions_stay_fractions() -> None:
    detection = {"gen_ai.request.temperature|gt": 0.75}
    assert not matches(detection, {"gen_ai.request.temperature": 0.75})
    assert matches(detection, {"gen_ai.request.temperature": 0.7500001})


def test_truth_values_are_not_numbers_or_words() -> None:
    assert matches(items(request_batch=True), {"request.batch": True})
    assert not matches(items(request_batch=True), {"request.batch": 1})
    assert not matches(items(request_batch=False), {"request.batch": None})
    assert not matches(items(request_batch=False), {"request.batch": "false"})


@pytest.mark.parametrize(
    ("network", "address", "expected"),
    [
        ("192.0.2.0/24", "192.0.2.77", True),
        ("192.0.2.0/24", "192.0.3.1", False),
        ("192.0.2.0/24", "not an address", False),
        ("192.0.2.0/24", "::ffff:192.0.2.77", False),
        ("2001:db8::/32", "2001:DB8:0:0::9", True),
        ("2001:db8::/32", "192.0.2.1", False),
    ],
)
def test_addresses_lie_in_networks_of_their_version(network: str, address: str, expected: bool) -> None:
    assert matches(items(network_ip__cidr=network), {"network.ip": address}) is expected


@pytest.mark.parametrize("absent", [{}, {"prompt.system": None}, {"prompt.system": 7}, {"prompt.system": ["x"]}])
@pytest.mark.parametrize(
    ("detection", "expected"),
    [
        (items(prompt_system="*"), False),
        (items(prompt_system__neq="x"), True),
        (items(prompt_system=None), True),
        (items(prompt_system=[None, "x"]), True),
        (items(prompt_system__exists=False), True),
        (items(prompt_system__exists=True), False),
        (items(prompt_system__re="x"), False),
        (items(prompt_system__fieldref="prompt.text"), False),
        (items(prompt_system__fieldref__neq="prompt.text"), True),
    ],
)
def test_what_is_absent_matches_nothing_and_its_negation_holds(
    absent: dict[str, Any], detection: dict[str, Any], expected: bool
) -> None:
    event = {"prompt.text": "here", **absent}
    assert matches({**detection, "prompt.text": "here"}, event) is expected
    negated = compile_logic([rule("here and not s", s=detection, here=items(prompt_text="here"))])
    assert bool(negated.match_event(event)) is not expected


def test_fields_compare_with_each_other_by_their_type() -> None:
    same_text = {"gen_ai.request.model|fieldref": "gen_ai.response.model"}
    assert matches(same_text, {"gen_ai.request.model": "Model-A", "gen_ai.response.model": "model-a"})
    assert not matches(same_text, {"gen_ai.request.model": "model-a", "gen_ai.response.model": "model-b"})
    same_number = {"gen_ai.usage.output_tokens|fieldref": "gen_ai.request.max_tokens"}
    assert matches(same_number, {"gen_ai.usage.output_tokens": 64, "gen_ai.request.max_tokens": 64.0})
    same_time = {"timestamp|fieldref": "account.created"}
    assert matches(same_time, {"timestamp": "2026-01-01T01:00:00+01:00", "account.created": "2026-01-01T00:00:00Z"})


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("a and b", False),
        ("a or b", True),
        ("a and not b", True),
        ("not b and a or b", True),
        ("not (a and b) and a", True),
        ("b and a or a", True),
        ("b and (a or a)", False),
        ("1 of them", True),
        ("any of x*", True),
        ("all of them", False),
        ("all of x*", False),
        ("1 of x* and a", True),
        ("all of _h*", True),
        (["b", "a"], True),
        (["b", "b and a"], False),
    ],
)
def test_conditions_bind_as_sigma_says(condition: str | list[str], expected: bool) -> None:
    logic = compile_logic(
        [
            rule(
                condition,
                a=items(prompt_text__contains="river"),
                b=items(prompt_text__contains="lake"),
                xa=items(prompt_text__contains="river"),
                xb=items(prompt_text__contains="lake"),
                _hidden=items(prompt_text__contains="river"),
            )
        ]
    )
    assert bool(logic.match_event({"prompt.text": "a river"})) is expected


def test_a_map_means_all_and_a_list_of_maps_means_one() -> None:
    both = items(prompt_text__contains="river", prompt_turns=1)
    assert not matches(both, {"prompt.text": "river", "prompt.turns": 2})
    either = [items(prompt_text__contains="river"), items(prompt_turns=2)]
    assert compile_logic([rule(s=either)]).match_event({"prompt.text": "lake", "prompt.turns": 2}) == ("base",)


def test_one_event_may_be_asked_of_many_patterns() -> None:
    event = Event({"prompt.text": "A River"})
    first = compile_logic([rule(s=items(prompt_text__contains="river"), name="first")])
    second = compile_logic([rule(s=items(prompt_text__contains__cased="river"), name="second")])
    assert (first.match_event(event), second.match_event(event)) == (("first",), ())


def test_a_logic_tells_what_it_needs() -> None:
    logic = compile_logic(
        [rule("s or t", s=items(prompt_text="x"), t={"gen_ai.request.model|fieldref": "gen_ai.response.model"})]
    )
    assert logic.categories == {"request"}
    assert not logic.has_correlations
    assert logic.required_fields == {"prompt.text", "gen_ai.request.model", "gen_ai.response.model"}
