"""The same examples on every run, as for the reference evaluator; STILLWATCH_TEST_PATTERNS asks for more of them."""

from __future__ import annotations

from tests.pattern_logic import conftest

__all__ = ["conftest"]
