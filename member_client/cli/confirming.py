"""Asking a person before something is done in their name that cannot be taken back."""

from __future__ import annotations

import sys

import typer

from member_client.errors import InvalidInput


def confirm(question: str, undone: str, look: str, *, yes: bool, as_json: bool) -> None:
    """Go on if a person says yes, or has said so with --yes.

    Args:
        question: about what was shown just before.
        undone: what did not happen without a yes, such as "nothing was published".
        look: where somebody who cannot be asked here sees first what --yes would do.

    Raises:
        InvalidInput: they say no, or nobody can be asked: a script reads, or no terminal is there.
    """
    if yes:
        return
    if as_json or not sys.stdin.isatty():
        raise InvalidInput(f"{undone}: nobody confirmed it", f"{look}, then pass --yes")
    try:
        confirmed = typer.confirm(question)
    except typer.Abort:  # Ctrl-C, or the end of what is typed
        confirmed = False
    if not confirmed:
        raise InvalidInput(undone)
