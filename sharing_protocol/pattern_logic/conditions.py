"""What a rule asks of one event, as a small tree.

This is all that an engine has to implement: the reference evaluator compiles the tree to Python closures
(`predicates`), others to SQL. pySigma's own tree stays behind the border (`sigma_rules`).

Every test is two-valued: over an absent field it is false, and `Not` of it is true (never "unknown").
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from ipaddress import IPv4Network, IPv6Network


class Wildcard(Enum):
    """The two special characters of a Sigma string."""

    RUN = "*"  # any number of characters, none included, line breaks included
    ONE = "?"  # exactly one character


Glob = tuple[str | Wildcard, ...]


class Comparison(StrEnum):
    """How numbers are compared; also the operators of a correlation's condition."""

    LT = "lt"
    LTE = "lte"
    GT = "gt"
    GTE = "gte"
    EQ = "eq"
    NEQ = "neq"


@dataclass(frozen=True, slots=True)
class All:
    """Every part holds."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """At least one part holds."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Condition


@dataclass(frozen=True, slots=True)
class TextTest:
    """The whole text fits the glob, letter case ignored unless `cased`."""

    field: str
    glob: Glob
    cased: bool


@dataclass(frozen=True, slots=True)
class RegexTest:
    """The RE2 expression is found somewhere in the text; flags are written into it as `(?ims)`."""

    field: str
    expression: str


@dataclass(frozen=True, slots=True)
class NumberTest:
    """The field is a number and compares so."""

    field: str
    comparison: Comparison
    number: int | float


@dataclass(frozen=True, slots=True)
class BooleanTest:
    """The field is this truth value."""

    field: str
    value: bool


@dataclass(frozen=True, slots=True)
class NetworkTest:
    """The field is an address inside the network, of the same IP version."""

    field: str
    network: IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class PresenceTest:
    """The field is present (`exists: true`) or absent (`exists: false`, `null`)."""

    field: str
    present: bool


@dataclass(frozen=True, slots=True)
class SameAs:
    """Both fields are present and equal, as values of their type; text without regard to case."""

    field: str
    other: str


Condition = All | Either | Not | TextTest | RegexTest | NumberTest | BooleanTest | NetworkTest | PresenceTest | SameAs


def fields_of(condition: Condition) -> frozenset[str]:
    """Every field that the condition reads."""
    if isinstance(condition, All | Either):
        return frozenset().union(*(fields_of(part) for part in condition.parts))
    if isinstance(condition, Not):
        return fields_of(condition.part)
    if isinstance(condition, SameAs):
        return frozenset({condition.field, condition.other})
    return frozenset({condition.field})
