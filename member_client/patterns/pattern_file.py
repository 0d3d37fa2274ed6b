"""The format of a pattern file: which keys there are, and what they become in a statement's body.

`docs/pattern-format.md` is the same for readers. A file says less than a statement: dates may be given as days,
what is empty may be left out, and every test is synthetic by definition.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from sharing_protocol.statements.header import format_timestamp
from sharing_protocol.strict_json import Json

MAX_DAYS = 5 * 366

HELP: Mapping[str, str] = {
    "kind": "write query_pattern, behavioral_signature or detection_method",
    "title": "write one line of at most 200 characters",
    "description": "write what it finds, why, and what innocent use looks alike; up to 8,000 characters",
    "techniques": "list MITRE ATLAS ids, such as AML.T0024.002",
    "marking": "write clear, green, amber or amber+strict (TLP 2.0)",
    "severity": "write informational, low, medium, high or critical",
    "confidence": "write a whole number from 0 to 100",
    "purpose": "write in one line what the record may be used for",
    "legal_basis": "write in one line on what basis it is shared",
    "valid_from": "write a day such as 2026-03-01, or a time such as 2026-03-01T00:00:00Z",
    "valid_until": "write a day such as 2026-09-01, or a time such as 2026-09-01T00:00:00Z",
    "valid_for_days": f"write a whole number of days, from 1 to {MAX_DAYS}",
    "references": "list public sources, each with a title and a url",
    "references[].title": "write one line of at most 200 characters",
    "references[].url": "write an http or https address of printable ASCII, at most 500 characters",
    "method": "for a detection_method write name, features and parameters; leave it out otherwise",
    "method.name": "write one line of at most 200 characters",
    "method.features": "list what the method reads, one line each",
    "method.parameters": "map each parameter's name to a number",
    "logic": "list Sigma documents: rules and, if any, correlations",
    "tests": "list from 2 to 32 tests: at least one must match and one must not",
    "tests[].name": "write one line of at most 200 characters",
    "tests[].expect": "write match or no_match",
    "tests[].events": "list from 1 to 200 events, each a map of field to value",
    "tests[].synthetic": "leave it out: a shared test event is never a real one",
    "measured": "leave it out, or write events, match_rate, false_positive_rate, false_positive_interval, method",
    "measured.events": "write a bucket: 1-9, 10-99, 100-999, 1000-9999, 10000-99999, 100000-999999 or 1000000+",
    "measured.match_rate": "write the share of rows that matched, from 0 to 1",
    "measured.false_positive_rate": "write a share from 0 to 1, or null if nobody has looked",
    "measured.false_positive_interval": "write its 95 % interval as [low, high], or null",
    "measured.method": "write in one line how it was measured",
    "playbook": "leave it out, or write the playbook's id",
}
"""Every key, by its path without positions, with what to write there."""

_FILE_ONLY = "valid_for_days"
_DAY = re.compile(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}")
_POSITIONS = re.compile(r"\[[0-9]+\]")


def help_for(path: str) -> str:
    """What to write at a path, or at the nearest key above it that has its own advice."""
    general = _POSITIONS.sub("[]", path)
    while general and general not in HELP:
        general = general[: max(general.rfind("."), general.rfind("["), 0)]
    return HELP.get(general, "docs/pattern-format.md lists the keys")


def unknown_keys(document: Mapping[str, Json]) -> Iterator[tuple[str, str, str]]:
    """Keys that the format does not have, in the file's own part of it (logic and events have their own checks).

    Yields:
        Path, name, and what to write instead.
    """
    for prefix, part in _parts(document):
        general = _POSITIONS.sub("[]", prefix)
        allowed = [key.removeprefix(general).lstrip(".") for key in HELP if _parent(key) == general]
        for name in part:
            if name not in allowed:
                near = difflib.get_close_matches(name, allowed, n=1, cutoff=0.6)
                mend = f"did you mean {near[0]}?" if near else f"use only {', '.join(allowed)}"
                yield (f"{prefix}.{name}" if prefix else name), name, mend


def body_of(document: Mapping[str, Json], now: datetime) -> dict[str, Json]:
    """The body of the statement that a file stands for, not yet checked.

    Args:
        now: in UTC; a pattern without `valid_from` holds from the start of this day.
    """
    body: dict[str, Json] = {"references": [], "method": None, "measured": None, "playbook": None}
    # a block of text (`|`) ends with a line break that nobody means
    texts = {key: value.strip() if isinstance(value, str) else value for key, value in document.items()}
    body |= {key: value for key, value in texts.items() if key != _FILE_ONLY}
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    start = moment_of(document.get("valid_from", format_timestamp(today)))
    body["valid_from"] = start
    if "valid_until" in document:
        body["valid_until"] = moment_of(document["valid_until"])
    elif (end := after_days(start, document.get(_FILE_ONLY))) is not None:
        body["valid_until"] = end
    tests = body.get("tests")
    if isinstance(tests, list):
        body["tests"] = [{"synthetic": True, **test} if isinstance(test, dict) else test for test in tests]
    return body


def problem_with_dates(document: Mapping[str, Json]) -> tuple[str, str] | None:
    """Path and problem, where the file does not say once and clearly until when the pattern holds."""
    days = document.get(_FILE_ONLY)
    if "valid_until" in document and _FILE_ONLY in document:
        return _FILE_ONLY, "both valid_until and valid_for_days are given"
    if "valid_until" not in document and _FILE_ONLY not in document:
        return "valid_until", "neither valid_until nor valid_for_days is given"
    if _FILE_ONLY in document and (type(days) is not int or not 1 <= days <= MAX_DAYS):
        return _FILE_ONLY, "this is not a number of days"
    return None


def _parts(document: Mapping[str, Json]) -> Iterator[tuple[str, Mapping[str, Json]]]:
    yield "", document
    for name in ("method", "measured"):
        part = document.get(name)
        if isinstance(part, dict):
            yield name, part
    for name in ("references", "tests"):
        items = document.get(name)
        for position, item in enumerate(items if isinstance(items, list) else []):
            if isinstance(item, dict):
                yield f"{name}[{position}]", item


def _parent(key: str) -> str:
    return key.rpartition(".")[0]


def moment_of(value: Json) -> Json:
    """A day is taken as its start; everything else is left for the statement's own check."""
    return f"{value}T00:00:00Z" if isinstance(value, str) and _DAY.fullmatch(value) else value


def after_days(start: Json, days: Json) -> str | None:
    """The time so many days after a time; None if either is not what it should be."""
    if not isinstance(start, str) or type(days) is not int or not 1 <= days <= MAX_DAYS:
        return None
    try:
        return format_timestamp(datetime.fromisoformat(start) + timedelta(days=days))
    except (ValueError, OverflowError):
        return None
