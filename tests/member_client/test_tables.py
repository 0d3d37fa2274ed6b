"""Tables are whole lines where no terminal folds them."""

from __future__ import annotations

import pytest
from rich.console import Console

from member_client.cli import output


def test_a_table_in_a_pipe_is_a_line_a_row_and_nothing_is_folded_or_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    long, odd = "x" * 300, "a\x1b[31m\u202eb [bold]"
    output.table(["name", "title"], [(long, "one"), ("short", long), ("odd", odd)])
    header, first, second, third = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "title"]
    assert first == f"{long}  one"
    assert second == f"short{' ' * 295}  {long}"
    assert third.split(maxsplit=1) == ["odd", r"a\u001b[31m\u202eb [bold]"]


def test_on_a_terminal_it_is_folded_to_its_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "console", Console(force_terminal=True, width=40))
    output.table(["name"], [("x" * 100,)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert sum(line.count("x") for line in lines) == 100
