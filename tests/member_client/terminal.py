"""A terminal at which somebody types."""

from __future__ import annotations

import io

import pytest


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def type_in(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """Let these lines be what commands read on a terminal from now on, and then its end."""
    monkeypatch.setattr("sys.stdin", _Terminal("".join(f"{line}\n" for line in lines)))
