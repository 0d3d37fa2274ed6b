"""Sigma documents written short, for tests."""

from __future__ import annotations

from typing import Any

from sharing_protocol.pattern_logic import Logic, LogicError, LogicIssue, compile_logic

Document = dict[str, Any]


def rule(
    condition: str | list[str] = "s", *, category: str = "request", name: str = "base", **selections: Any
) -> Document:
    """A rule; each keyword is a selection."""
    return {
        "title": f"Rule {name}",
        "name": name,
        "logsource": {"product": "llm_api", "category": category},
        "detection": {**selections, "condition": condition},
    }


def items(**written: Any) -> dict[str, Any]:
    """A map of fields to values: `prompt_text__re__i="x"` is `prompt.text|re|i: x`."""
    return {key.replace("__", "|").replace("_", "."): value for key, value in written.items()}


def correlation(kind: str, *rules: str, name: str = "correlation", **part: Any) -> Document:
    """A correlation over an hour, grouped by account unless told otherwise."""
    body: Document = {"type": kind, "rules": list(rules) or ["base"], "group-by": ["account.id"], "timespan": "1h"}
    body |= {key.replace("_", "-"): value for key, value in part.items()}
    return {
        "title": f"Correlation {name}",
        "name": name,
        "correlation": {key: value for key, value in body.items() if value is not None},
    }


def matches(detection: dict[str, Any], event: dict[str, Any]) -> bool:
    """Whether a rule of one selection matches one event."""
    return bool(compile_logic([rule(s=detection)]).match_event(event))


def issues_of(*documents: Any) -> list[LogicIssue]:
    """What is wrong with the documents; fails if nothing is."""
    try:
        logic: Logic = compile_logic(list(documents))
    except LogicError as error:
        return list(error.issues)
    raise AssertionError(f"compiled: {logic.rules}")
