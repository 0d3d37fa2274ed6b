"""`stillwatch gossip`: comparing checkpoints with other labs, so that no hub can show each its own history."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from member_client.cli import output
from member_client.cli.output import HomeOption, JsonOption, open_session, say
from member_client.errors import InvalidInput, NotProven
from member_client.gossip import Comparison, Standing, compare, own_note
from member_client.home import write_privately

app = typer.Typer(help="Compare the log's checkpoints with other labs, by another channel.", no_args_is_help=True)

_STYLES = {
    Standing.AGREES: "green",
    Standing.CONTRADICTS: "bold red",
    Standing.UNDECIDED: "yellow",
    Standing.UNUSABLE: "yellow",
}


@app.callback()
def _group() -> None:
    pass


@app.command("export")
def export_note(
    file: Annotated[
        Path | None, typer.Argument(help="A file; by default standard output.", dir_okay=False, show_default=False)
    ] = None,
    home: HomeOption = None,
) -> None:
    """Write the newest checkpoint that this home has verified, to give to other labs; asks nobody."""
    note = own_note(open_session(home))
    if file is None:
        typer.echo(note, nl=False)
    else:
        write_privately(file, note.encode())
        say(f"Checkpoint of {note.splitlines()[1]} entries written to {file}", "green")


@app.command("compare")
def compare_notes(
    files: Annotated[
        list[Path], typer.Argument(help="Checkpoint notes from other labs, at most 100.", show_default=False)
    ],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare other labs' checkpoints with each other and with this home's log; asks nobody.

    Exits 5 if the log signed two histories, with the evidence kept; 2 if a file is no checkpoint of this forum's log.
    """
    comparison = compare(open_session(home), files)
    if as_json:
        output.print_json(
            {
                "files": [
                    {"file": found.file, "standing": found.standing.value, "size": found.size, "detail": found.told}
                    for found in comparison.files
                ],
                "evidence": [str(path) for path in comparison.evidence],
            }
        )
    else:
        _say(comparison)
    if comparison.evidence:
        raise typer.Exit(NotProven.exit_code)
    if any(found.standing is Standing.UNUSABLE for found in comparison.files):
        raise typer.Exit(InvalidInput.exit_code)


def _say(comparison: Comparison) -> None:
    for found in comparison.files:
        say(f"{found.file}: {found.standing.value}: {found.told}", _STYLES[found.standing])
    for path in comparison.evidence:
        say(f"The hub signed two histories. Evidence, for everybody: {path}", "bold red")
