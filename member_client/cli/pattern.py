"""`stillwatch pattern`: write, try, publish and look up patterns."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from member_client.cli.loading import LoadedWhenAsked

_COMMANDS = {
    "new": "pattern_writing:new",
    "starters": "pattern_writing:starters",
    "lint": "pattern_writing:lint_files",
    "test": "pattern_writing:try_files",
    "backtest": "pattern_backtest:backtest",
    "submit": "pattern_publishing:submit",
    "revise": "pattern_publishing:revise",
    "resign": "pattern_publishing:resign",
    "withdraw": "pattern_publishing:withdraw",
    "list": "pattern_viewing:list_patterns",
    "search": "pattern_viewing:search",
    "show": "pattern_viewing:show",
    "feedback": "opinion:pattern_feedback",
    "export": "pattern_viewing:export",
}


class _Group(TyperGroup):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = LoadedWhenAsked(_COMMANDS)


app = typer.Typer(cls=_Group, help="Write, test, publish and look up patterns.", no_args_is_help=True)


@app.callback()
def _patterns() -> None:
    pass
