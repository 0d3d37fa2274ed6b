"""Matches, standings and rules made up for tests of decisions, without a forum and without logs."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from member_client.decisions.allow_list import AllowList
from member_client.decisions.deciding import Decided, decide
from member_client.decisions.in_effect import effects
from member_client.decisions.lab_policy import LabPolicy
from member_client.decisions.matches import Gathered, Match, SeenPattern
from member_client.decisions.model import Action, Subject, SubjectKind
from member_client.decisions.register import Register, Wanted
from member_client.decisions.rules import Rules
from member_client.lifecycle.standing import Stage, Standing
from sharing_protocol.statements.handling import Severity

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
BLOCKING = Rules({Severity.HIGH: Action.BLOCK, Severity.LOW: Action.THROTTLE}, {})
"""No approval is needed."""
BOLD = """
highest_stage = "enforce"
[backtest]
required = false
[shadow]
hours = 0
[flag]
hours = 0
[enforce]
endorsements = 0
precision = 0.0
[rollout]
steps = [100]
[false_positives]
budget = 1.0
total_budget = 1.0
"""
"""A policy.toml under which a pattern enforces at once, what a person has approved."""


@contextmanager
def temporary_register() -> Iterator[Register]:
    """A register of its own for a part of a test."""
    with tempfile.TemporaryDirectory() as folder:
        register = Register(Path(folder) / "decisions.sqlite")
        try:
            yield register
        finally:
            register.close()


def digest(name: str) -> str:
    """A hex entry hash."""
    return hashlib.sha256(name.encode()).hexdigest()


def seen(name: str = "p", version: int = 1, severity: Severity = Severity.HIGH) -> SeenPattern:
    """A pattern version that matched."""
    return SeenPattern(digest(f"{name}{version}"), f"pattern--{name}", version, f"title of {name}", severity)


def standing(pattern: SeenPattern, stage: Stage = Stage.ENFORCE, share: int = 100) -> Standing:
    """Where it stands."""
    return Standing(pattern.id, pattern.version, pattern.entry, stage, share if stage is Stage.ENFORCE else 0, ())


def lab(*standings: Standing, rules: Rules = BLOCKING) -> LabPolicy:
    """The lab's policy, with these patterns."""
    return LabPolicy(rules, {one.entry: one for one in standings})


def gathered(
    pattern: SeenPattern,
    account: str,
    at: Mapping[str, datetime] | Iterable[str] = ("m",),
    cluster: Iterable[str] = (),
    numbers: Mapping[str, float] | None = None,
) -> Gathered:
    """Matches on an account, or on a cluster of accounts; by name, and when they were."""
    times = at if isinstance(at, Mapping) else dict.fromkeys(at, START)
    kind = SubjectKind.CLUSTER if cluster else SubjectKind.ACCOUNT
    found = Gathered(pattern, Subject(kind, account), accounts=set(cluster))
    for name, time in times.items():
        number = bytes.fromhex(digest(f"{pattern.entry} {account} {name}")[:32])
        moment = int(time.timestamp()) * 1_000_000
        found.matches[number] = Match(number, moment, moment, numbers or {})
    return found


def make(
    register: Register,
    *found: Gathered,
    rules: Rules = BLOCKING,
    allowed: AllowList | None = None,
    now: datetime = START,
) -> Decided:
    """Decide on them."""
    return decide(register, found, rules, allowed or AllowList(), now, "somebody", "a run")


def acting(
    register: Register, policy: LabPolicy, allowed: AllowList | None = None, now: datetime = START
) -> list[tuple[str, str]]:
    """Whom something is in effect upon, and what."""
    return [(one.id, one.action.value) for one in effects(register, policy, allowed or AllowList(), now)]


def all_of(register: Register, rules: Rules = BLOCKING, now: datetime = START) -> list[Any]:
    """All decisions, in an order of their own."""
    return sorted(register.find(Wanted(), rules, now), key=lambda one: one.id)


def write_lines(path: Path, *lines: Mapping[str, Any]) -> Path:
    """A detections file."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def line(pattern: SeenPattern, name: str, **more: Any) -> dict[str, Any]:
    """A line of a detections file; what it says of whom is in `more`."""
    return {
        "id": digest(name)[:32],
        "pattern": pattern.id,
        "version": pattern.version,
        "entry": pattern.entry,
        "title": pattern.title,
        "severity": pattern.severity.value,
        "rule": "a rule",
        "timestamp": START.isoformat(),
        "account.id": None,
        "file": "log.jsonl",
        "line": 1,
        **more,
    }
