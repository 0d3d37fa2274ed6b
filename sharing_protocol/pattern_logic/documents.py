"""Checking Sigma documents as JSON: which keys, which log source, how they are called.

A record is a list of Sigma documents about *one* category of events. Everything that Sigma has and a shared
pattern may not use is refused with its reason, so that no engine ever gives it a meaning of its own.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

from sharing_protocol.pattern_logic.catalogue import PRODUCT, Category
from sharing_protocol.pattern_logic.correlation_documents import check_correlation
from sharing_protocol.pattern_logic.detections import check_detection, extent
from sharing_protocol.pattern_logic.issues import IssueList
from sharing_protocol.strict_json import Json

MAX_DOCUMENTS = 16
MAX_EXPRESSIONS = 64
MAX_TESTS = 20_000

_META = frozenset({"title", "id", "name", "status", "description", "references", "author", "date", "modified"}) | {
    "tags",
    "level",
    "falsepositives",
    "fields",
    "license",
}
_RULE_KEYS = _META | {"logsource", "detection"}
_CORRELATION_KEYS = _META | {"correlation"}
_LOGSOURCE_KEYS = frozenset({"product", "category", "definition"})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)


def label(document: Mapping[str, Json]) -> str:
    """What a document is called in matches and references: its name, else its id, else its title."""
    for key in ("name", "id", "title"):
        value = document.get(key)
        if isinstance(value, str) and value:
            return value
    return ""


def check_documents(documents: Sequence[object], issues: IssueList) -> None:
    """Report everything wrong with the documents, short of the grammar of conditions."""
    if not documents:
        issues.add("logic", "no_document", "there is no rule", "write at least one Sigma rule")
    if len(documents) > MAX_DOCUMENTS:
        issues.add("logic", "too_many", f"there are {len(documents)} documents", f"use at most {MAX_DOCUMENTS}")
        return
    maps: dict[str, Mapping[str, Json]] = {}
    for index, document in enumerate(documents):
        if isinstance(document, Mapping):
            maps[f"logic[{index}]"] = document
        else:
            issues.add(f"logic[{index}]", "wrong_type", "a Sigma document is a map", "write title, logsource, …")
    if not _is_bounded(maps.values(), issues):
        return
    _check_labels(maps, issues)
    category = _check_rules(maps, issues)
    by_reference = {label(document): document for document in maps.values()}
    by_reference |= {str(document["id"]): document for document in maps.values() if "id" in document}
    for where, document in maps.items():
        if "correlation" in document:
            _check_keys(document, _CORRELATION_KEYS, where, issues)
            check_correlation(document["correlation"], by_reference, category, f"{where}.correlation", issues)


def _is_bounded(documents: Iterable[Mapping[str, Json]], issues: IssueList) -> bool:
    """Whether all rules together are small enough to look at closer; reports it if not."""
    detections = [document.get("detection") for document in documents]
    extents = [extent(detection) for detection in detections if isinstance(detection, Mapping)]
    before = len(issues)
    expressions = sum(each.expressions for each in extents)
    if expressions > MAX_EXPRESSIONS:
        mend = f"use at most {MAX_EXPRESSIONS}; `contains` serves for plain text"
        issues.add("logic", "too_many", f"there are {expressions} regular expressions", mend)
    tests = sum(each.tests for each in extents)
    if tests > MAX_TESTS:
        mend = f"keep words of conditions x values below {MAX_TESTS}"
        issues.add("logic", "too_many", f"the conditions may stand for {tests} tests", mend)
    return len(issues) == before


def _check_labels(maps: Mapping[str, Mapping[str, Json]], issues: IssueList) -> None:
    seen: dict[str, str] = {}
    for where, document in maps.items():
        name = document.get("name")
        if name is not None and not (isinstance(name, str) and _NAME.fullmatch(name)):
            issues.add(f"{where}.name", "bad_name", "not a name", "use up to 64 letters, digits, _, . and -")
        for key in ("name", "id", "title"):
            value = document.get(key)
            if isinstance(value, str) and seen.setdefault(value, where) != where:
                issues.add(
                    f"{where}.{key}", "duplicate_name", f"{seen[value]} is called the same", "give each its own name"
                )


def _check_rules(maps: Mapping[str, Mapping[str, Json]], issues: IssueList) -> Category | None:
    """Check all plain rules; returns the category that they share (the first one met, if they differ)."""
    categories: dict[Category, str] = {}
    for where, document in maps.items():
        if "correlation" not in document:
            category = _check_rule(document, where, issues)
            if category is not None:
                categories.setdefault(category, where)
    if len(categories) > 1:
        first, second, *_ = categories
        issues.add(
            f"{categories[second]}.logsource.category",
            "mixed_categories",
            f"{second} and {first} in one pattern: their events are different tables with different times",
            "make two patterns",
        )
    return next(iter(categories), None)


def _check_rule(document: Mapping[str, Json], where: str, issues: IssueList) -> Category | None:
    for key, mend in (("filter", "write the exception into the rule's own condition"), ("action", "repeat the text")):
        if key in document:
            issues.add(f"{where}.{key}", "refused_document", f"Sigma's `{key}` documents are not supported", mend)
            return None
    _check_keys(document, _RULE_KEYS, where, issues)
    category = _check_logsource(document.get("logsource"), f"{where}.logsource", issues)
    detection = document.get("detection")
    if not isinstance(detection, Mapping):
        issues.add(f"{where}.detection", "no_selection", "there is no detection", "write selections and a condition")
    elif category is not None:
        check_detection(detection, category, f"{where}.detection", issues)
    return category


def _check_logsource(logsource: Json, where: str, issues: IssueList) -> Category | None:
    mend = f"write product: {PRODUCT} and category: {', '.join(Category)} (one of these)"
    if not isinstance(logsource, Mapping):
        issues.add(where, "bad_logsource", "there is no log source", mend)
        return None
    _check_keys(logsource, _LOGSOURCE_KEYS, where, issues)
    if logsource.get("product") != PRODUCT:
        issues.add(f"{where}.product", "bad_logsource", "not a log source of ours", mend)
        return None
    category = logsource.get("category")
    if not isinstance(category, str) or category not in set(Category):
        issues.add(f"{where}.category", "bad_logsource", "not a category of ours", mend)
        return None
    return Category(category)


def _check_keys(document: Mapping[str, Json], allowed: frozenset[str], where: str, issues: IssueList) -> None:
    for key in document:
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, n=1)
            hint = f"did you mean {near[0]}?" if near else f"use only {', '.join(sorted(allowed))}"
            issues.add(f"{where}.{key[:80]}", "unknown_key", f"there is no {key[:80]!r} here", hint)
