"""What looks like personal data or a secret in a record, so that it is not shared by mistake.

A pattern's strings (descriptions, expressions, test events) are our own words; an address or a key in them has
slipped in from a log. The author's client warns, the hub refuses. This is a net for slips, not a proof: it looks
for what has a recognisable form, and prefers to miss a doubtful case over refusing honest text.

Expressions run in RE2, in linear time, over text of others. Reserved examples are let through: domains of RFC 2606
and RFC 6761, addresses of RFC 5737, RFC 3849 and RFC 9637, loopback, and the North American numbers 555-0100 to 0199.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from ipaddress import ip_address, ip_network
from typing import Any

import re2

from sharing_protocol.strict_json import Json


class Kind(StrEnum):
    """What it looks like; the value completes "this looks like …"."""

    EMAIL = "an e-mail address"
    CARD = "a payment card number"
    PHONE = "a phone number"
    IP_ADDRESS = "an IP address"
    SECRET = "an API key or access token"  # noqa: S105 - the name of a kind of secret, not one
    PRIVATE_KEY = "a private key"


_MEND = {
    Kind.EMAIL: "use an address at example.com, or leave it out",
    Kind.CARD: "leave it out, or write words instead of digits",
    Kind.PHONE: "use a number from 555-0100 to 555-0199, or leave it out",
    Kind.IP_ADDRESS: "use a documentation address such as 192.0.2.1, 198.51.100.7 or 2001:db8::1",
    Kind.SECRET: "revoke it if it is real, and leave it out",
    Kind.PRIVATE_KEY: "revoke it if it is real, and leave it out",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One place that looks like personal data or a secret.

    Attributes:
        where: path to the string, such as `body.tests[0].events[1].prompt.text`.
        kind: what it looks like.
        excerpt: its first characters and its length, never the whole.
        mend: what to write instead.
    """

    where: str
    kind: Kind
    excerpt: str
    mend: str


def find_personal_data(value: Json, path: str = "") -> list[Finding]:
    """Look through every string of a JSON value, names of members included.

    Args:
        value: any JSON value.
        path: what the findings' paths start with.
    """
    # An expression looks no further than a word's border around its match, so what it finds in a string it also finds
    # in all of them together: most find nothing there, and need not be asked about each string.
    together = _plain("\n".join(_texts(value, [])))
    looks = [look for look in _looks() if look[3] in together and look[1].search(together)]
    if not looks:
        return []
    return [
        Finding(where, kind, _mask(found), _MEND[kind])
        for where, text in _strings(value, path)
        for kind, found in _find(_plain(text), looks)
    ]


def _plain(text: str) -> str:
    """Full-width digits and letters are digits and letters; nothing joins a line's end."""
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


def _texts(value: Json, found: list[str]) -> list[str]:
    """What `_strings` gives, without the places, added to what was found: many times faster."""
    if isinstance(value, str):
        found.append(value)
    elif isinstance(value, dict):
        found += value
        for member in value.values():
            _texts(member, found)
    elif isinstance(value, list):
        for item in value:
            _texts(item, found)
    elif _is_long(value):
        found.append(str(value))
    return found


def _strings(value: Json, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for name, member in value.items():
            where = f"{path}.{name}" if path else name
            yield where, name
            yield from _strings(member, where)
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from _strings(item, f"{path}[{position}]")
    elif _is_long(value):
        yield path, str(value)


def _is_long(value: Json) -> bool:
    """Whether it is long enough for a card number that was written as a number."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 10**14


def _mask(text: str) -> str:
    return f"{text[: min(3, len(text) // 4)]}… ({len(text)} characters)"


@cache  # compiled when first needed: half of what importing the protocol would take otherwise
def _compile(expression: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    return re2.compile(expression, options=options)


_EMAIL = r"[\pL\pN._%+-]{1,64}@(?:[\pL\pN-]{1,63}\.)+\pL{2,24}"
_EMAIL_EXAMPLE = r"(?i)[@.]example\.(?:com|net|org)\z|\.(?:example|test|invalid|localhost)\z"
_DIGITS = r"\b[0-9](?:[ -]?[0-9]){12,18}\b"
_PHONE = (
    r"\+[1-9](?:[ ().-]{0,2}[0-9]){8,14}\b"
    r"|(?:\([2-9][0-9]{2}\) ?|\b[2-9][0-9]{2}[-. ])[2-9][0-9]{2}[-.][0-9]{4}\b"
)
_PHONE_EXAMPLE = r"555[-. ]?01[0-9]{2}\z"
_IPV4 = r"\b[0-9]{1,3}(?:\.[0-9]{1,3}){3}\b"
_IPV6 = r"\b[0-9A-Fa-f]{1,4}:[0-9A-Fa-f:]{2,}(?:\.[0-9.]+)?\b|\b[0-9A-Fa-f]{1,4}::"
_PRIVATE_KEY = r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\bAGE-SECRET-KEY-1[0-9A-Z]{20,}"
_SECRETS = "|".join(
    (
        r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",  # AWS
        r"\bgh[oprsu]_[A-Za-z0-9]{30,}",  # GitHub
        r"\bgithub_pat_[A-Za-z0-9_]{30,}",
        r"\bglpat-[A-Za-z0-9_-]{20,}",  # GitLab
        r"\bsk-[A-Za-z0-9_-]{20,}",  # OpenAI, Anthropic and others
        r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}",  # Stripe
        r"\bAIza[A-Za-z0-9_-]{35}",  # Google
        r"\bxox[abeprs]-[A-Za-z0-9-]{10,}",  # Slack
        r"\bhf_[A-Za-z0-9]{30,}",  # Hugging Face
        r"\bnpm_[A-Za-z0-9]{36}",
        r"\bpypi-[A-Za-z0-9_-]{50,}",
        r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",  # JSON Web Token
        r"\b[Bb]earer [A-Za-z0-9._~+/-]{20,}",
    )
)

_EXAMPLE_NETWORKS = tuple(
    ip_network(network)
    for network in (
        "192.0.2.0/24",  # RFC 5737
        "198.51.100.0/24",
        "203.0.113.0/24",
        "2001:db8::/32",  # RFC 3849
        "3fff::/20",  # RFC 9637
        "127.0.0.0/8",
        "0.0.0.0/32",
        "240.0.0.0/4",  # reserved: netmasks, broadcast
    )
)
# Only these can be somebody's IPv6 address; `dead::beef` and `std::add` in a program text are not among them.
_IPV6_IN_USE = tuple(ip_network(network) for network in ("2000::/3", "fc00::/7", "fe80::/10"))


_Look = tuple[Kind, Any, Callable[[str, str, str], bool], str]
"""What it is, how it looks, and whether it is that: told the match and the two characters before and after it.

Last, what every match has in it: looking for an address in a text without @ took three quarters of the whole search.
"""


@cache
def _looks() -> tuple[_Look, ...]:
    return (
        (Kind.EMAIL, _compile(_EMAIL), _is_email, "@"),
        (Kind.CARD, _compile(_DIGITS), _is_card, ""),
        (Kind.PHONE, _compile(_PHONE), _is_phone, ""),
        (Kind.IP_ADDRESS, _compile(_IPV4), _is_ipv4, ""),
        (Kind.IP_ADDRESS, _compile(_IPV6), _is_ipv6, ""),
        (Kind.PRIVATE_KEY, _compile(_PRIVATE_KEY), _is_anything, ""),
        (Kind.SECRET, _compile(_SECRETS), _is_secret, ""),
    )


def _find(text: str, looks: Iterable[_Look]) -> Iterator[tuple[Kind, str]]:
    """Everything in one string, as its kind and the text found."""
    for kind, expression, confirm, part in looks:
        for match in expression.finditer(text) if part in text else ():
            found = match.group()
            if confirm(found, text[max(match.start() - 2, 0) : match.start()], text[match.end() : match.end() + 2]):
                yield kind, found


def _is_anything(_found: str, _before: str, _after: str) -> bool:
    return True


def _is_email(found: str, _before: str, _after: str) -> bool:
    return _compile(_EMAIL_EXAMPLE).search(found) is None


def _is_card(found: str, before: str, after: str) -> bool:
    """ISO/IEC 7812: a known issuer's first digits, and Luhn's check digit."""
    digits = [int(character) for character in found if character.isdigit()]
    if before[-1:] in ("-", ".", "/") or after[:1] in ("-", "/") or len(set(digits)) < 2:
        return False  # part of an identifier or a path, or a row of one digit
    prefix = int("".join(map(str, digits[:4])))
    if not (3400 <= prefix < 3500 or 3528 <= prefix < 3800 or 4000 <= prefix < 7000 or 2221 <= prefix <= 2720):
        return False
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _is_phone(found: str, before: str, _after: str) -> bool:
    # "a+12345678" is a sum, base64 or a version; a number is written after a space, a bracket or a colon
    attached = before[-1:].isalnum() or before[-1:] in ("+", "-", "/", "=", "_", "\\", ".", "*")
    return not attached and _compile(_PHONE_EXAMPLE).search(found) is None


def _is_ipv4(found: str, before: str, after: str) -> bool:
    if before[-1:] == "." or (after[:1] == "." and after[1:].isdigit()):
        return False  # five parts or more: a version or an object identifier
    return _is_real_address(found)


def _is_ipv6(found: str, before: str, _after: str) -> bool:
    return before[-1:] != ":" and _is_real_address(found)


def _is_real_address(text: str) -> bool:
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if any(address in network for network in _EXAMPLE_NETWORKS if network.version == address.version):
        return False
    return address.version == 4 or any(address in network for network in _IPV6_IN_USE)


def _is_secret(found: str, _before: str, _after: str) -> bool:
    # keys have digits and a mix of letters; `sk-very-long-hyphenated-word` has not
    return any(character.isdigit() for character in found) and len(set(found)) > 9
