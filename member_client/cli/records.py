"""How a command is told which record of the log it is about."""

from __future__ import annotations

from typing import Annotated

import typer

IdArgument = Annotated[str, typer.Argument(help="The pattern's id, or the beginning of it.", show_default=False)]
VersionOption = Annotated[
    int | None, typer.Option("--version", min=1, help="By default the newest.", metavar="N", show_default=False)
]
