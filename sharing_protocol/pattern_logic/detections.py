"""Checking a rule's `detection` before pySigma sees it: names, fields, modifiers, values, bounds.

pySigma accepts far more than a shared pattern may say, stops at the first error of a detection and knows no
position inside it. So this module walks the JSON itself and names each problem at its place. What passes here
pySigma parses without surprise; only the condition's grammar is left to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sharing_protocol.pattern_logic.catalogue import Category, fields_in, how_to_mend_field
from sharing_protocol.pattern_logic.issues import IssueList
from sharing_protocol.pattern_logic.values import COMPARISONS, PLACES, REGEX_FLAGS, check_values
from sharing_protocol.strict_json import Json

MAX_SELECTIONS = 32
MAX_ITEMS = 32  # fields in one map, maps in one list
MAX_CONDITIONS = 8
MAX_CONDITION_LENGTH = 1_000
MAX_CONDITION_NESTING = 64  # "not" and "(" together; pySigma's parser recurses on them

_SELECTION_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
_CONDITION_WORDS = frozenset({"and", "or", "not", "of", "all", "any", "them"})

_TEXT_MODIFIERS = PLACES | {"cased", "all", "neq"}
_LONE = frozenset({"cidr", "exists", "fieldref"})

_ENCODED = "logs hold prompts as readable text: match the text itself"
_REFUSED_MODIFIERS = {
    **dict.fromkeys(("base64", "base64offset", "wide", "utf16", "utf16le", "utf16be"), _ENCODED),
    "windash": "it is for Windows command lines: list the spellings you mean",
    "expand": "placeholders mean something else at every lab: write the values",
    **dict.fromkeys(
        ("minute", "hour", "day", "week", "month", "year"), "parts of a time depend on a time zone: use a window field"
    ),
}


@dataclass(frozen=True, slots=True)
class Extent:
    """How much work a rule makes, before anything is parsed.

    Attributes:
        expressions: how many regular expressions are to be compiled.
        tests: upper bound of the tests in the condition's tree: each of its words may stand for every value.
    """

    expressions: int
    tests: int


def extent(detection: Mapping[str, Json]) -> Extent:
    """Measure a detection, well-formed or not."""
    expressions = values = 0
    for selection in detection.values():
        for part in selection if isinstance(selection, list) else [selection]:
            for key, value in part.items() if isinstance(part, Mapping) else ():
                count = len(value) if isinstance(value, list) else 1
                values += count
                expressions += count * ("re" in key.split("|")[1:])
    condition = detection.get("condition")
    texts = condition if isinstance(condition, list) else [condition]
    words = sum(len(text.split()) for text in texts if isinstance(text, str))
    return Extent(expressions, values * words)


def check_detection(detection: Mapping[str, Json], category: Category, where: str, issues: IssueList) -> None:
    """Report everything in `detection` that a shared pattern may not say."""
    _check_conditions(detection.get("condition"), f"{where}.condition", issues)
    selections = {name: value for name, value in detection.items() if name != "condition"}
    if not selections:
        issues.add(where, "no_selection", "there is nothing to match", "add a selection: a map of field to value")
    if len(selections) > MAX_SELECTIONS:
        issues.add(where, "too_many", f"there are {len(selections)} selections", f"use at most {MAX_SELECTIONS}")
        return
    for name, selection in selections.items():
        _check_selection(name, selection, category, f"{where}.{name}", issues)


def _check_conditions(condition: Json, where: str, issues: IssueList) -> None:
    conditions = condition if isinstance(condition, list) else [condition]
    if condition is None or not conditions:
        issues.add(where, "no_condition", "the condition is missing", "name the selections, as in `selection`")
        return
    if len(conditions) > MAX_CONDITIONS:
        issues.add(where, "too_many", f"there are {len(conditions)} conditions", f"use at most {MAX_CONDITIONS}")
        return
    for position, text in enumerate(conditions):
        place = f"{where}[{position}]" if isinstance(condition, list) else where
        if not isinstance(text, str):
            issues.add(place, "wrong_type", "a condition is a string", "write it as text")
        elif len(text) > MAX_CONDITION_LENGTH:
            issues.add(
                place, "too_long", f"the condition has {len(text)} characters", f"use at most {MAX_CONDITION_LENGTH}"
            )
        elif text.count("(") + text.split().count("not") > MAX_CONDITION_NESTING:
            issues.add(place, "too_deep", "the condition is nested too deeply", "use fewer brackets and `not`s")


def _check_selection(name: str, selection: Json, category: Category, where: str, issues: IssueList) -> None:
    if not _SELECTION_NAME.fullmatch(name) or name in _CONDITION_WORDS:
        issues.add(
            where,
            "bad_name",
            f"{name[:80]!r} cannot be the name of a selection",
            "use letters, digits and _, and none of the words of the condition",
        )
    if isinstance(selection, Mapping):
        _check_map(selection, category, where, issues)
    elif isinstance(selection, list) and selection and all(isinstance(item, Mapping) for item in selection):
        if len(selection) > MAX_ITEMS:
            issues.add(where, "too_many", f"there are {len(selection)} maps", f"use at most {MAX_ITEMS}")
            return
        for position, item in enumerate(selection):
            if isinstance(item, Mapping):
                _check_map(item, category, f"{where}[{position}]", issues)
    else:
        issues.add(
            where,
            "keywords",
            "values without a field search the whole event, which means something else at every lab",
            "name the field, as in `prompt.text|contains: …`",
        )


def _check_map(items: Mapping[str, Json], category: Category, where: str, issues: IssueList) -> None:
    if not items:
        issues.add(where, "no_selection", "the map is empty", "write at least one field")
    if len(items) > MAX_ITEMS:
        issues.add(where, "too_many", f"there are {len(items)} fields", f"use at most {MAX_ITEMS}")
        return
    for key, value in items.items():
        name, *modifiers = key.split("|")
        place = f"{where}.{key}"
        if not name:
            issues.add(place, "keywords", "no field is named", "write the field before the first |")
            continue
        field = fields_in(category).get(name)
        if field is None:
            issues.add(
                place,
                "unknown_field",
                f"category {category} has no field {name[:80]!r}",
                how_to_mend_field(name, category),
            )
        if _modifiers_fit(modifiers, place, issues) and field is not None:
            check_values(field, modifiers, value, category, place, issues)


def _modifiers_fit(modifiers: list[str], where: str, issues: IssueList) -> bool:
    """Whether the modifiers are known, supported, and make sense together; reports it if not."""
    known = _TEXT_MODIFIERS | REGEX_FLAGS.keys() | COMPARISONS | _LONE | {"re"}
    for modifier in modifiers:
        if modifier in _REFUSED_MODIFIERS:
            issues.add(where, "refused_modifier", f"`{modifier}` is not supported", _REFUSED_MODIFIERS[modifier])
            return False
        if modifier not in known:
            issues.add(
                where,
                "unknown_modifier",
                f"there is no modifier {modifier[:40]!r}",
                f"use one of {', '.join(sorted(known))}",
            )
            return False
    chosen = set(modifiers)
    if len(chosen) != len(modifiers):
        problem = "a modifier is written twice"
    elif "re" in chosen and (modifiers[0] != "re" or chosen - REGEX_FLAGS.keys() - {"re", "all", "neq"}):
        problem = "`re` comes first, and only i, m, s, all and neq go with it"
    elif "re" not in chosen and chosen & REGEX_FLAGS.keys():
        problem = "i, m and s are flags of `re`"
    elif len(chosen & PLACES) > 1:
        problem = "contains, startswith and endswith exclude each other"
    elif chosen & _LONE and (modifiers[0] not in _LONE or chosen - {modifiers[0], "neq"}):
        problem = "cidr and fieldref stand alone or before neq, exists alone"
    elif "exists" in chosen and len(chosen) > 1:
        problem = "exists stands alone, and takes true or false"
    elif chosen & COMPARISONS and len(chosen) > 1:
        problem = "gt, gte, lt and lte stand alone"
    else:
        return True
    issues.add(where, "bad_modifiers", problem, "write one combination that docs/log-sources.md lists")
    return False
