"""Checking the values that a rule compares a field with: their type, their size, and whether they can ever match."""

from __future__ import annotations

from ipaddress import ip_network

from sharing_protocol.pattern_logic.catalogue import NUMERIC, Category, Field, FieldType, fields_in, how_to_mend_field
from sharing_protocol.pattern_logic.issues import IssueList
from sharing_protocol.pattern_logic.regexes import BadRegex, compile_regex, with_flags
from sharing_protocol.strict_json import MAX_SAFE_INTEGER, Json

MAX_VALUES = 256
MAX_VALUE_LENGTH = 1_000
MAX_WILDCARDS = 16

PLACES = frozenset({"contains", "startswith", "endswith"})
COMPARISONS = frozenset({"lt", "lte", "gt", "gte"})
REGEX_FLAGS = {"i": "i", "ignorecase": "i", "m": "m", "multiline": "m", "s": "s", "dotall": "s"}


def check_values(
    field: Field, modifiers: list[str], value: Json, category: Category, where: str, issues: IssueList
) -> None:
    """Report what is wrong with the value, or list of values, of one field.

    Args:
        field: the catalogue's entry of the field.
        modifiers: known ones that fit together.
        value: as written.
        category: of the rule, whose fields a `fieldref` may name.
        where: path of the item.
        issues: where to report.
    """
    values = value if isinstance(value, list) else [value]
    if not values:
        issues.add(where, "no_value", "the list of values is empty", "write the values, or `null` for an absent field")
        return
    if len(values) > MAX_VALUES:
        issues.add(where, "too_many", f"there are {len(values)} values", f"use at most {MAX_VALUES}")
        return
    if "all" in modifiers and len(values) == 1:
        issues.add(where, "all_of_one", "`all` over one value says nothing", "drop `all`, or write several values")
    if len(values) > 1 and (COMPARISONS | {"exists"}) & set(modifiers):
        issues.add(where, "too_many", f"`{modifiers[-1]}` takes one value", "write one value")
        return
    for position, one in enumerate(values):
        place = f"{where}[{position}]" if isinstance(value, list) else where
        if "exists" in modifiers:
            if not isinstance(one, bool):
                issues.add(place, "wrong_type", "`exists` takes true or false", "write true or false")
        elif one is None:
            if set(modifiers) - {"neq"}:
                issues.add(place, "wrong_type", "null takes no modifier", "write `field: null`")
        elif "fieldref" in modifiers:
            _check_reference(field, one, category, place, issues)
        else:
            _check_value(field, modifiers, one, place, issues)


def _check_value(field: Field, modifiers: list[str], value: Json, where: str, issues: IssueList) -> None:
    if field.type in (FieldType.TEXT, FieldType.ADDRESS):
        _check_text(field, modifiers, value, where, issues)
    elif field.type in NUMERIC:
        _check_number(field, modifiers, value, where, issues)
    elif field.type is FieldType.BOOLEAN:
        if not isinstance(value, bool) or set(modifiers) - {"neq"}:
            issues.add(where, "wrong_type", f"{field.name} is true or false", "write true or false, without modifier")
    else:
        issues.add(
            where,
            "wrong_type",
            f"{field.name} is a time, and rules are not bound to dates",
            "use `exists`, a window field, or a correlation's timespan",
        )


def _check_text(field: Field, modifiers: list[str], value: Json, where: str, issues: IssueList) -> None:
    if not isinstance(value, str):
        issues.add(where, "wrong_type", f"{field.name} is text", "write the value in quotation marks")
        return
    if set(modifiers) & COMPARISONS:
        issues.add(where, "wrong_type", f"{field.name} is text and has no order", "compare a number field")
    elif len(value) > MAX_VALUE_LENGTH:
        issues.add(where, "too_long", f"the value has {len(value)} characters", f"use at most {MAX_VALUE_LENGTH}")
    elif any("\ud800" <= character <= "\udfff" for character in value):
        issues.add(where, "bad_text", "the value has half a surrogate pair", "write the whole character")
    elif "re" in modifiers:
        _check_regex(value, modifiers, where, issues)
    elif "cidr" in modifiers:
        _check_network(field, value, where, issues)
    elif not value and set(modifiers) & PLACES:
        issues.add(where, "matches_everything", "every text contains the empty one", "write what to look for")
    elif value.count("*") + value.count("?") > MAX_WILDCARDS:
        issues.add(where, "too_many", "the value has too many wildcards", f"use at most {MAX_WILDCARDS}, or `re`")


def _check_regex(expression: str, modifiers: list[str], where: str, issues: IssueList) -> None:
    flags = {REGEX_FLAGS[modifier] for modifier in modifiers if modifier in REGEX_FLAGS}
    try:
        compiled = compile_regex(with_flags(expression, flags))
    except BadRegex as bad:
        issues.add(where, "bad_regex", bad.what, bad.mend)
        return
    if compiled.search(b"") is not None:
        issues.add(
            where,
            "matches_everything",
            "the expression is found in every text, the empty one included",
            "make at least one character necessary",
        )


def _check_network(field: Field, value: str, where: str, issues: IssueList) -> None:
    if field.type is not FieldType.ADDRESS:
        issues.add(where, "wrong_type", f"{field.name} is not an address", "use `cidr` with network.ip")
        return
    try:
        ip_network(value)
    except ValueError as error:
        issues.add(where, "bad_network", f"not a network ({error})", "write it like 192.0.2.0/24")


def _check_number(field: Field, modifiers: list[str], value: Json, where: str, issues: IssueList) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        issues.add(where, "wrong_type", f"{field.name} is a number", "write a number without quotation marks")
        return
    if set(modifiers) - COMPARISONS - {"neq"}:
        issues.add(where, "wrong_type", f"{field.name} is a number, not text", "use gt, gte, lt, lte or neq")
    elif not abs(value) <= MAX_SAFE_INTEGER:
        issues.add(where, "bad_number", "the number is too large to be exact everywhere", "use a smaller one")
    elif field.type is FieldType.SHARE and not 0 <= value <= 1:
        issues.add(where, "impossible_threshold", f"{field.name} is a share from 0 to 1", "write 80 % as 0.8")


def _check_reference(field: Field, value: Json, category: Category, where: str, issues: IssueList) -> None:
    other = fields_in(category).get(value) if isinstance(value, str) else None
    if other is None:
        issues.add(where, "unknown_field", "`fieldref` names no field", how_to_mend_field(str(value)[:80], category))
    elif (field.type in NUMERIC) != (other.type in NUMERIC) or (
        field.type not in NUMERIC and field.type is not other.type
    ):
        issues.add(
            where,
            "wrong_type",
            f"{field.name} is {field.type}, {other.name} is {other.type}",
            "compare fields of one type",
        )
