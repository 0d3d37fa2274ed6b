"""How commands report: for people through rich, for scripts as JSON, one document on standard output.

What comes from the log, or from a lab's own rows, is other people's text. It is always shown as plain text, never as
markup, and what could drive a terminal or hide in a line is written as an escape, for scripts as JSON's own.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from member_client.errors import ClientError, InvalidInput, RefusedByHub, VerificationFailed
from member_client.home import locate
from member_client.session import Session
from sharing_protocol.errors import Malformed
from sharing_protocol.fingerprints import parse_fingerprint, words_of
from sharing_protocol.statements.header import show_hidden

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", envvar="STILLWATCH_HOME", help="Whose client this is: its folder.", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Report as JSON on standard output.")]

_NO_WIDTH = 1_000_000
"""Columns of a file or a pipe."""

QrOption = Annotated[bool, typer.Option("--qr", help="Show the forum's fingerprint as a QR code too.")]

console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def open_session(home: Path | None) -> Session:
    """The session of `--home`, `STILLWATCH_HOME` or the default folder."""
    return Session(locate(home))


def print_json(document: Any, *, one_line: bool = False) -> None:
    """One JSON document on standard output; one that others follow is a line."""
    # Such characters stand in strings only, where the escape means the same.
    typer.echo(show_hidden(json.dumps(document, ensure_ascii=False, indent=None if one_line else 2)))


def one_line(text: str) -> str:
    """Other people's text for a line of ours: it must not begin another, which we would seem to have written."""
    return show_hidden(text).replace("\n", "\\n").replace("\t", "\\t")


def say(text: str, style: str = "") -> None:
    """A text for people, of one line or several."""
    console.print(Text(show_hidden(text), style=style))


def say_line(text: str, style: str = "") -> None:
    """One line for people, whatever is in it: customers choose their ids."""
    say(one_line(text), style)


def warn(text: str, style: str = "yellow") -> None:
    """One line for people on standard error, whatever is in it: what a hub answers may be there."""
    errors.print(Text(one_line(text), style=style))


def say_fingerprint(forum: str, *, qr: bool) -> None:
    """A forum's fingerprint as words to read aloud and, if asked for, as a QR code to scan."""
    say(f"In words: {words_of(forum)}")
    if qr:
        import segno  # every command would pay for it

        segno.make(forum, micro=False).terminal(out=sys.stdout, compact=True)


def typed_fingerprint(text: str) -> str:
    """The fingerprint that a person typed, as hex digits or as words.

    Raises:
        InvalidInput: it is none.
    """
    try:
        return parse_fingerprint(text)
    except Malformed as error:
        raise InvalidInput(
            error.detail, "64 hexadecimal digits, or 24 words as `stillwatch status` shows them"
        ) from error


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table for people; cells are plain text, folded to a terminal's width and whole in a file or a pipe."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*(Text(one_line(str(cell))) for cell in row))
    if console.is_terminal:
        console.print(shown)
        return
    wide = Console(file=io.StringIO(), width=_NO_WIDTH, color_system=None)
    with wide.capture() as captured:
        wide.print(shown)
    for line in captured.get().splitlines():
        console.print(Text(line.rstrip()))


def report_error(error: ClientError, as_json: bool, *, one_line: bool = False) -> None:
    """Say what went wrong, and what to do about it."""
    if as_json:
        document: dict[str, Any] = {"error": error.code, "message": str(error), "hint": error.hint}
        if isinstance(error, RefusedByHub):
            document["problem"] = error.problem.model_dump()
        if isinstance(error, VerificationFailed):
            document["fault"] = error.misbehaviour.fault.value
            document["evidence"] = str(error.evidence)
        print_json(document, one_line=one_line)
        return
    warn(f"error: {error}", "bold red")
    if error.hint:
        warn(f"hint: {error.hint}", "")
