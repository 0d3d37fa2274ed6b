"""A run of patterns over files, without a forum: what it writes, what it says, and what it leaves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from member_client.detection.detecting import Options, Place, Result, detect
from member_client.detection.in_force import RunnablePattern
from member_client.detection.log_settings import Source, expanded
from member_client.detection.request_logs import BrokenRow
from sharing_protocol.pattern_logic import compile_logic

_numbers = count(1)


def pattern(entry: str, *documents: dict[str, Any], kind: str = "query_pattern") -> RunnablePattern:
    """A pattern in force, of these Sigma documents."""
    logic = compile_logic(list(documents))
    return RunnablePattern(f"pattern--{entry}", 1, entry, f"title of {entry}", "high", logic, kind)


@dataclass
class Run:
    """What a run came to."""

    result: Result
    found: list[dict[str, Any]]
    broken: list[BrokenRow]
    target: Path
    kept: list[dict[str, Any]] = field(default_factory=list)


def run(
    folder: Path,
    patterns: Sequence[RunnablePattern],
    *files: Path | str | Source,
    options: Options = Options(),  # noqa: B008 - immutable
) -> Run:
    """Run patterns over files; the state lies in `folder`."""
    folder.mkdir(exist_ok=True)
    sources = [expanded(one if isinstance(one, Source) else Source((str(one),))) for one in files]
    name = f"run-{next(_numbers):04d}"
    target = folder / f"{name}.jsonl"
    broken: list[BrokenRow] = []
    kept: list[dict[str, Any]] = []
    place = Place(folder, target, name, kept.append)
    result = detect(sources, patterns, options, place, broken.append, lambda _: {"run": name})
    found = [json.loads(line) for line in target.read_text().splitlines()]
    return Run(result, found, broken, target, kept)


def matches(found: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What two engines must agree on, in an order of its own."""
    return sorted(
        (
            (
                *(one["entry"], one["rule"], one["line"], one["timestamp"], json.dumps(one.get("window"))),
                *(one.get(name) for name in ("account.id", "org.id", "network.ip")),
            )
            for one in found
        ),
        key=str,
    )


def write_json_lines(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """A log of these requests."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
