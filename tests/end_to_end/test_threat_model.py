"""Every attack in docs/threat-model.md is mounted by a test that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

NAMED = sorted(set(re.findall(r"`(tests/\S+\.py)::(\w+)`", Path("docs/threat-model.md").read_text())))


def test_the_tables_name_tests() -> None:
    rows = [line for line in Path("docs/threat-model.md").read_text().splitlines() if "| `tests/" in line]
    assert len(rows) > 50
    assert len(NAMED) > 40


@pytest.mark.parametrize("file", sorted({file for file, _ in NAMED}))
def test_each_of_them_is_there(file: str) -> None:
    tree = ast.parse(Path(file).read_text())
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert {name for path, name in NAMED if path == file} <= defined
