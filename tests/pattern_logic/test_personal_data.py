"""What looks like personal data is found and never shown; what only resembles it is let through."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharing_protocol.personal_data import Kind, _looks, find_personal_data

# Put together here, so that no scanner takes this file for a leak.
KEY_LIKE = {
    "AWS": "AKIA" + "Q3EXAMPLE7KEYX2Z",
    "GitHub": "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8",
    "GitHub, fine-grained": "github_pat_" + "11ABCDEFG0aBcDeFgHiJkLmNoPqRsTuV",
    "OpenAI or Anthropic": "sk-" + "ant-api03-abcDEF123456789xyz",
    "Stripe": "sk_" + "live_4eC39HqLyjWDarjtT1zdp7dc",
    "Google": "AIza" + "SyD1234567890abcdefghijklmnopqrstuv",
    "Slack": "xoxb-" + "123456789012-abcdefGHIJKL",
    "Hugging Face": "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZ012345",
    "JSON Web Token": "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmN",
    "bearer": "Authorization: Bearer " + "abcdef0123456789abcdef0123",
}


def kinds(text: str) -> list[Kind]:
    return [finding.kind for finding in find_personal_data(text)]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("write to jane.doe@mail.com soon", Kind.EMAIL),
        ("josé.garcía@correo.es", Kind.EMAIL),
        ("jane\uff20mail\uff0ecom", Kind.EMAIL),
        ("\uff14111 1111 1111 1111", Kind.CARD),
        ("4111 1111 1111 1111", Kind.CARD),
        ("5500-0000-0000-0004", Kind.CARD),
        ("amex 378282246310005.", Kind.CARD),
        ("call +44 20 7946 0958", Kind.PHONE),
        ("(+49) 30 901820 or +4930901820", Kind.PHONE),
        ("(415) 555-2671", Kind.PHONE),
        ("415-555-2671", Kind.PHONE),
        ("from 8.8.8.8 on", Kind.IP_ADDRESS),
        ("10.1.2.3", Kind.IP_ADDRESS),
        ("http://93.184.216.34/x", Kind.IP_ADDRESS),
        ("[2001:4860:4860::8888]", Kind.IP_ADDRESS),
        ("fd12:3456:789a::1", Kind.IP_ADDRESS),
        ("-----BEGIN " + "RSA PRIVATE KEY-----", Kind.PRIVATE_KEY),
        ("-----BEGIN " + "PGP PRIVATE KEY BLOCK-----", Kind.PRIVATE_KEY),
    ],
)
def test_it_is_found(text: str, kind: Kind) -> None:
    assert kind in kinds(text)


@pytest.mark.parametrize("maker", KEY_LIKE)
def test_keys_and_tokens_are_found(maker: str) -> None:
    assert kinds(f"use {KEY_LIKE[maker]} here") == [Kind.SECRET]


@pytest.mark.parametrize(
    "text",
    [
        "jane@example.com, joe@lab.example.org, x@y.test, a@b.invalid",
        "Decorate it with @property.setter",
        "me@localhost",
        "192.0.2.44 and 198.51.100.0/24 and 203.0.113.9",
        "2001:db8::1, 2001:0DB8:0:0::9, ::1 and ::",
        "127.0.0.1, 0.0.0.0 and the mask 255.255.255.0",
        "version v1.2.3.4, release 1.2.3.4.5, object 1.3.6.1.4.1.311",
        "300.1.2.3",
        "at 12:34:56 on 2026-01-01T00:10:00Z or 2026-01-01 00:10:00+00:00",
        "std::add::bed(dead::beef)",
        "arXiv 2212.10560, AML.T0024.002, https://arxiv.org/abs/2306.02707v1",
        "5638f7c0-ac70-491d-8465-2a65075e0d86",
        "5d41402abc4b2a76b9719d911017c592",
        "3.141592653589793238",
        "4111 1111 1111 1112",
        "1234567890123456",
        "0000 0000 0000 0000",
        "(415) 555-0123 and 212-555-0100",
        "the sum 415+5552671, or x=+123456789",
        "2026-03-02 and 100-200-300",
        "sk-learn-is-a-library-for-python-users",
        "Bearer of the ring and of bad news, mostly",
        "-----BEGIN PUBLIC KEY-----",
    ],
)
def test_what_only_resembles_it_is_let_through(text: str) -> None:
    assert find_personal_data(text) == []


def test_findings_tell_the_place_and_hide_the_value() -> None:
    value: Any = {"tests": [{"events": [{}, {"prompt.text": "mail jane.doe@mail.com"}]}], "8.8.4.4": [4111111111111111]}
    findings = find_personal_data(value, "body")
    assert [(finding.where, finding.kind) for finding in findings] == [
        ("body.tests[0].events[1].prompt.text", Kind.EMAIL),
        ("body.8.8.4.4", Kind.IP_ADDRESS),
        ("body.8.8.4.4[0]", Kind.CARD),
    ]
    assert findings[0].excerpt == "jan… (17 characters)"
    assert "example.com" in findings[0].mend


@given(digits=st.lists(st.integers(0, 9), min_size=11, max_size=17), separator=st.sampled_from(["", " ", "-"]))
def test_every_number_with_a_right_check_digit_is_a_card(digits: list[int], separator: str) -> None:
    body = [4, *digits]
    doubled = [sum(divmod(2 * digit, 10)) for digit in body[::-1][::2]]
    check = -(sum(doubled) + sum(body[::-1][1::2])) % 10
    number = separator.join(map(str, [*body, check]))
    wrong = separator.join(map(str, [*body, (check + 1) % 10]))
    assert Kind.CARD in kinds(f"pay with {number}, please")
    assert Kind.CARD not in kinds(f"pay with {wrong}, please")


JSON = st.recursive(
    st.none() | st.booleans() | st.text(max_size=40),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(JSON)
def test_any_json_can_be_looked_through(value: Any) -> None:
    for finding in find_personal_data(json.loads(json.dumps(value)), "x"):
        assert finding.where.startswith("x")


@given(st.ip_addresses(v=4))
def test_every_address_is_found_unless_it_is_an_example(address: Any) -> None:
    exempt = str(address).startswith(("192.0.2.", "198.51.100.", "203.0.113.", "127.")) or int(address) >= 0xF0000000
    assert (kinds(f"seen at {address}") == []) == (exempt or int(address) == 0)


def test_looking_takes_linear_time() -> None:
    hostile = "1 " * 20_000 + "a@" * 20_000 + "." * 20_000 + "+1" * 20_000 + "f:" * 20_000
    assert find_personal_data(hostile * 4, "x") == []


FRAGMENTS = (
    *(
        "4111",
        "1111 1111 1111",
        "1111",
        "jane",
        "@",
        "\uff20",
        "mail.com",
        "+44 20",
        "7946 0958",
        "8.8.8.8",
        "415-555-",
        "2671",
    ),
    *("fd12:3456:", "789a::1", "-----BEGIN", " PRIVATE KEY-----", KEY_LIKE["AWS"], "Bearer ", "a", "é", "_", " ", "\n"),
)


@given(st.lists(st.lists(st.sampled_from(FRAGMENTS), max_size=6).map("".join), max_size=6))
def test_each_string_is_judged_by_itself_whatever_stands_beside_it(texts: list[str]) -> None:
    together = find_personal_data(list[Any](texts))
    apart = [(number, finding) for number, text in enumerate(texts) for finding in find_personal_data(text)]
    assert [(found.where, found.kind, found.excerpt) for found in together] == [
        (f"[{number}]", finding.kind, finding.excerpt) for number, finding in apart
    ]


@given(st.lists(st.lists(st.sampled_from(FRAGMENTS), max_size=6).map("".join), max_size=6))
def test_what_is_passed_over_unsearched_has_nothing_to_find(texts: list[str]) -> None:
    """What no text has in it, and a full-width one becomes, are judged as if every expression had run over each."""
    searched = [
        (f"[{place}]", kind)
        for place, text in enumerate(unicodedata.normalize("NFKC", text) for text in texts)
        for kind, expression, confirm, _ in _looks()
        for match in expression.finditer(text)
        if confirm(match.group(), text[max(match.start() - 2, 0) : match.start()], text[match.end() :][:2])
    ]
    assert [(finding.where, finding.kind) for finding in find_personal_data(list[Any](texts))] == searched
