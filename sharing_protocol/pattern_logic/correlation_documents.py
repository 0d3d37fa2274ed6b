"""Checking a Sigma correlation as JSON, and reading its parts once it has been checked."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sharing_protocol.pattern_logic.catalogue import NUMERIC, Category, fields_in, how_to_mend_field
from sharing_protocol.pattern_logic.conditions import Comparison
from sharing_protocol.pattern_logic.issues import IssueList
from sharing_protocol.strict_json import MAX_SAFE_INTEGER, Json

MAX_REFERENCES = 8
MAX_GROUP_FIELDS = 4
MAX_CHAIN = 3  # levels of correlations above the rules
MAX_TIMESPAN = 90 * 86_400

COUNTING = frozenset({"event_count", "value_count", "value_sum", "value_avg"})
TEMPORAL = frozenset({"temporal", "temporal_ordered"})

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_TIMESPAN = re.compile(r"([1-9][0-9]{0,8})([smhd])", re.ASCII)
_KEYS = frozenset({"type", "rules", "group-by", "timespan", "condition", "generate"})
_REFUSED = {
    "aliases": (
        "aliases bridge log sources with different field names, and a pattern has one log source",
        "write the field's own name in group-by",
    ),
    "value_percentile": (
        "the specification and its engines compute percentiles differently",
        "use value_avg or value_count",
    ),
    "value_median": ("engines compute medians differently", "use value_avg or value_count"),
}

Documents = Mapping[str, Mapping[str, Json]]


def references(part: Mapping[str, Json]) -> list[str]:
    """The names that a correlation refers to (a single one may be written without a list)."""
    return _strings(part.get("rules"))


def group_fields(part: Mapping[str, Json]) -> list[str]:
    """The fields that a correlation groups by."""
    return _strings(part.get("group-by"))


def timespan_seconds(spec: Json) -> int | None:
    """Seconds of a Sigma timespan such as 90m, or None if it is not one that we take."""
    parsed = _TIMESPAN.fullmatch(spec) if isinstance(spec, str) else None
    return int(parsed[1]) * _UNIT_SECONDS[parsed[2]] if parsed else None


def criteria(part: Mapping[str, Json]) -> tuple[tuple[Comparison, int | float], ...]:
    """The comparisons of a checked correlation's condition; by default, of temporal, as many as there are rules."""
    condition = part.get("condition")
    if not isinstance(condition, Mapping):
        return ((Comparison.GTE, len(references(part))),)
    found = [(Comparison(key), value) for key, value in condition.items() if key in set(Comparison)]
    return tuple((comparison, value) for comparison, value in found if isinstance(value, int | float))


def counted_field(part: Mapping[str, Json]) -> str:
    """The field that value_count, value_sum and value_avg look at, else empty."""
    condition = part.get("condition")
    field = condition.get("field") if isinstance(condition, Mapping) else None
    return field if isinstance(field, str) else ""


def check_correlation(
    part: Json, documents: Documents, category: Category | None, where: str, issues: IssueList
) -> None:
    """Report everything wrong with the `correlation` part of a document.

    Args:
        part: the value of the key `correlation`.
        documents: all documents of the record, by what they can be referred to as.
        category: of the record's rules, None if they have none.
        where: path of the part.
        issues: where to report.
    """
    if not isinstance(part, Mapping):
        issues.add(where, "wrong_type", "a correlation is a map", "write type, rules, timespan and condition")
        return
    for key in part:
        if key not in _KEYS:
            what, mend = _REFUSED.get(key, (f"there is no {key[:80]!r} here", f"use only {', '.join(sorted(_KEYS))}"))
            issues.add(f"{where}.{key[:80]}", "unknown_key", what, mend)
    kind = part.get("type")
    if not isinstance(kind, str) or kind not in COUNTING | TEMPORAL:
        kinds = f"use one of {', '.join(sorted(COUNTING | TEMPORAL))}"
        what, mend = _REFUSED.get(str(kind), (f"there is no correlation type {str(kind)[:40]!r}", kinds))
        issues.add(f"{where}.type", "refused_correlation", what, mend)
        return
    if not isinstance(part.get("generate", False), bool):
        issues.add(f"{where}.generate", "wrong_type", "generate is a truth value", "write true or false")
    seconds = timespan_seconds(part.get("timespan"))
    if seconds is None or seconds > MAX_TIMESPAN:
        issues.add(
            f"{where}.timespan",
            "bad_timespan",
            "not a timespan of at most 90 days",
            "write a whole number and s, m, h or d (months and years have no fixed length)",
        )
    _check_references(part, kind, documents, f"{where}.rules", issues)
    if category is not None:
        _check_group(part, documents, category, f"{where}.group-by", issues)
        _check_criteria(part.get("condition"), kind, category, f"{where}.condition", issues)


def _strings(listed: Json) -> list[str]:
    return [item for item in (listed if isinstance(listed, list) else [listed]) if isinstance(item, str)]


def _is_list_of_distinct(listed: Json, least: int, most: int) -> bool:
    names = _strings(listed)
    whole = not isinstance(listed, list) or len(listed) == len(names)
    return whole and least <= len(names) <= most and len(set(names)) == len(names)


def _check_references(part: Mapping[str, Json], kind: str, documents: Documents, where: str, issues: IssueList) -> None:
    least = 2 if kind in TEMPORAL else 1
    if not _is_list_of_distinct(part.get("rules"), least, MAX_REFERENCES):
        issues.add(
            where,
            "bad_references",
            f"{kind} takes {least} to {MAX_REFERENCES} rules, each once",
            "list them by name",
        )
    for name in references(part):
        target = documents.get(name)
        if target is None:
            issues.add(where, "unknown_rule", f"no document here is called {name[:80]!r}", "use a rule's name or id")
        elif "correlation" in target and kind in COUNTING:
            issues.add(
                where,
                "bad_references",
                f"{name[:80]!r} is a correlation, which matches anew at every event of its window: that is no count",
                "refer to the rules themselves, or use temporal",
            )
    if _levels(part, documents, MAX_CHAIN) > MAX_CHAIN:
        issues.add(
            where,
            "too_deep",
            "correlations refer to each other in a circle or too deeply",
            f"use at most {MAX_CHAIN} levels",
        )


def _levels(part: Mapping[str, Json], documents: Documents, limit: int) -> int:
    """How many correlations stand above each other here; counting stops one above the limit, as circles have no end."""
    if limit == 0:
        return 1
    below = [documents.get(name, {}).get("correlation") for name in references(part)]
    return 1 + max((_levels(inner, documents, limit - 1) for inner in below if isinstance(inner, Mapping)), default=0)


def _check_group(
    part: Mapping[str, Json], documents: Documents, category: Category, where: str, issues: IssueList
) -> None:
    if "group-by" in part and not _is_list_of_distinct(part["group-by"], 1, MAX_GROUP_FIELDS):
        issues.add(where, "bad_group", "not a list of distinct fields", f"name 1 to {MAX_GROUP_FIELDS} fields")
    fields = group_fields(part)
    for name in fields:
        if name not in fields_in(category):
            what = f"category {category} has no field {name[:80]!r}"
            issues.add(where, "unknown_field", what, how_to_mend_field(name, category))
    for reference in references(part):
        inner = documents.get(reference, {}).get("correlation")
        if isinstance(inner, Mapping) and not set(fields) <= set(group_fields(inner)):
            issues.add(
                where,
                "bad_group",
                f"a match of {reference[:80]!r} carries only the fields that it groups by itself",
                "group by those, or by fewer",
            )


def _check_criteria(condition: Json, kind: str, category: Category, where: str, issues: IssueList) -> None:
    if condition is None and kind in TEMPORAL:
        return
    if kind == "temporal_ordered":
        issues.add(where, "bad_criteria", "temporal_ordered means all rules, in their order", "drop the condition")
        return
    if not isinstance(condition, Mapping):
        mend = "drop it, or write it like gte: 2" if kind in TEMPORAL else "write it like gte: 100"
        issues.add(where, "bad_criteria", "the condition is not a map of comparisons", mend)
        return
    signs = sorted(Comparison)
    allowed = {*signs, "field"} if kind.startswith("value_") else {*signs}
    for key in condition:
        if key not in allowed:
            issues.add(f"{where}.{key[:80]}", "unknown_key", "no part of this condition", f"use {', '.join(signs)}")
    thresholds = {key: condition[key] for key in signs if key in condition}
    if not 1 <= len(thresholds) <= 2:
        issues.add(where, "bad_criteria", "not one comparison or a range of two", "write gte: 100, or gt: and lte:")
    for key, value in thresholds.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MAX_SAFE_INTEGER:
            issues.add(f"{where}.{key}", "wrong_type", "a threshold is a number", "write a number")
    if "field" in allowed:
        _check_counted_field(condition.get("field"), kind, category, f"{where}.field", issues)


def _check_counted_field(name: Json, kind: str, category: Category, where: str, issues: IssueList) -> None:
    field = fields_in(category).get(name) if isinstance(name, str) else None
    if field is None:
        mend = how_to_mend_field(str(name)[:80], category)
        issues.add(where, "unknown_field", f"{kind} needs one field to look at", mend)
    elif kind != "value_count" and field.type not in NUMERIC:
        issues.add(where, "wrong_type", f"{field.name} is {field.type}, not a number", "name a number field")
