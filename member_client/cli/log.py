"""`stillwatch log`: the verified log itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from member_client.cli import output
from member_client.cli.output import HomeOption, JsonOption, open_session, say
from member_client.sync.exporting import export

app = typer.Typer(help="The verified log that this home holds.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command("export")
def export_log(
    file: Annotated[Path, typer.Argument(help="A file that does not exist yet.", dir_okay=False)],
    start: Annotated[int, typer.Option("--from", min=0, help="Index of the first entry that is wanted.")] = 0,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the log's entries and its signed checkpoint to a file; asks nobody.

    A hub that was restored from an old backup gets back from it what it lost: `stillwatch-hub recover FILE`.
    """
    session = open_session(home)
    checkpoint = export(session.store, file, start)
    if as_json:
        output.print_json(
            {"file": str(file), "bytes": file.stat().st_size, "from": start, "entries": checkpoint.size - start}
        )
    else:
        say(f"{checkpoint.size - start} entries, up to {checkpoint.size}, and their checkpoint written to {file}")
