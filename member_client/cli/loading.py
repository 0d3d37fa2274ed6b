"""Commands that are loaded when somebody asks for them: a run uses one, and each loads much that others do not need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from functools import cache
from importlib import import_module
from typing import Any

import typer


class LoadedWhenAsked(MutableMapping[str, Any]):
    """The commands and groups of commands of a group, by name."""

    def __init__(self, where: Mapping[str, str]) -> None:
        """Find them there: `module:attribute` of each in `member_client.cli`, a function or a Typer application."""
        self._where = dict(where)
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = _load(name, self._where[name])
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._where[name], self._loaded[name] = "", command

    def __delitem__(self, name: str) -> None:
        del self._where[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)


@cache
def _load(name: str, where: str) -> Any:
    """The command, made once a process: Typer takes some milliseconds for each, and nothing of a run is kept in it."""
    module, _, attribute = where.partition(":")
    found = getattr(import_module(f"member_client.cli.{module}"), attribute)
    around = typer.Typer(add_completion=False, rich_markup_mode=None)
    around.callback()(_group)
    if isinstance(found, typer.Typer) and [one.name for one in found.registered_commands] == [name]:
        around.registered_commands.extend(found.registered_commands)  # a command with a class of its own
    elif isinstance(found, typer.Typer):
        around.add_typer(found, name=name)
    else:
        around.command(name)(found)
    return typer.main.get_group(around).commands[name]


def _group() -> None:
    """What makes Typer take one command as a group."""
