"""`stillwatch-hub backup`, `restore`, `recover` and `resume`: before and after a disaster (docs/operations.md)."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from hub.backup import BackupError, open_backup, write_backup
from hub.check import Check
from hub.command_line import (
    AsJson,
    ConfigFile,
    DatabaseUrl,
    Home,
    OptionalHome,
    migrate,
    open_database,
    progress_bar,
    say,
)
from hub.database import audit, migrating
from hub.database.connections import make_command_engine, make_engine
from hub.identity import HubIdentity
from hub.log_keys import LogKeys
from hub.recovering import RecoveryError
from hub.recovering import recover as recover_entries
from hub.restoring import restore as restore_backup
from hub.resuming import Standing, examine, refuse_if_behind
from hub.resuming import resume as lift_halt
from hub.settings import read_settings

T = TypeVar("T")

_UNBOUNDED = "0"  # a statement here may read or write a whole table


def attach(commands: typer.Typer) -> None:
    """Add the commands to `stillwatch-hub`."""
    for command in (backup, restore, recover, resume):
        commands.command()(command)


def backup(
    file: Annotated[Path, typer.Argument(help="A file that does not exist yet.", dir_okay=False)],
    home: OptionalHome = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Write the whole database to one file, while the hub runs. The log's keys are not in it: keep the home apart."""
    with open_database(home, read_settings(home, config, database_url=database_url)) as url:
        engine = make_command_engine(url, statement_timeout=_UNBOUNDED)
        try:
            migrating.require_current(engine)
            with engine.connect() as connection:
                audit.begin_snapshot(connection)
                manifest = write_backup(connection, file)
        finally:
            engine.dispose()
    size = file.stat().st_size
    if as_json:
        say(json.dumps({"file": str(file), "bytes": size, **manifest.model_dump(exclude={"parts"})}))
    else:
        say(f"{manifest.tree_size} entries and all else of the database written to {file}: {size} bytes")


def restore(
    file: Annotated[Path, typer.Argument(help="What `backup` wrote.", dir_okay=False)],
    home: Home,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Take a backup into an empty database, check it, and leave the log halted until `resume`."""
    keys = LogKeys(HubIdentity.load(home), home)
    with (
        open_backup(file) as opened,
        open_database(home, read_settings(home, config, database_url=database_url)) as url,
        progress_bar("checking") as progress,
    ):
        engine = make_command_engine(url, statement_timeout=_UNBOUNDED)
        try:
            restored = restore_backup(engine, keys, opened, progress)
        finally:
            engine.dispose()
    manifest = restored.manifest
    if as_json:
        say(json.dumps({"records": restored.records, **manifest.model_dump(exclude={"parts"})}))
        return
    say(
        f"restored and checked: {manifest.tree_size} entries, as they were at {manifest.made_at}\n"
        "The log is halted. Start the hub, so that members can show what they know; then `stillwatch-hub resume`."
    )


def recover(
    file: Annotated[Path, typer.Argument(help="What a member's `stillwatch log export` wrote.", dir_okay=False)],
    home: Home,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Bring back entries that were lost with an old backup, from a member's export; the log stays halted."""
    keys = LogKeys(HubIdentity.load(home), home)
    with open_database(home, read_settings(home, config, database_url=database_url)) as url:
        migrate(url)
        try:
            with file.open("rb") as export, progress_bar("recovering") as progress:
                recovered = _run(url, lambda engine: recover_entries(engine, keys, export, progress))
        except OSError as error:
            raise RecoveryError(f"the export cannot be read: {error}") from error
    if as_json:
        say(json.dumps(asdict(recovered)))
        return
    say(
        f"{recovered.after - recovered.before} entries came back: the log has {recovered.after}\n"
        "The log is halted. `stillwatch-hub resume` says whether that was all."
    )


def resume(
    home: Home,
    confirm: Annotated[
        bool,
        typer.Option("--confirm", help="Let the log go on: every member that can be reached has shown what it knows."),
    ] = False,
    despite_unknown_keys: Annotated[
        bool,
        typer.Option(
            "--despite-unknown-keys",
            help="With --confirm: the admins say that what unknown keys signed is no checkpoint of this log.",
        ),
    ] = False,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Show what is known to be published of the log; with --confirm, let it go on, if it extends all of that."""
    keys = LogKeys(HubIdentity.load(home), home)
    with open_database(home, read_settings(home, config, database_url=database_url)) as url:
        migrate(url)
        standing = _run(url, lambda engine: _examine(engine, keys, home))
        _show(standing, as_json)
        if not confirm and standing.halt is not None and not as_json:
            say("Once every member that can be reached has shown what it knows, and nothing is ahead: --confirm.")
        if not confirm or standing.halt is None:
            return
        refuse_if_behind(standing, despite_unknown=despite_unknown_keys)
        _check(url)
        _run(url, lambda engine: _resume(engine, keys, home, despite_unknown=despite_unknown_keys))
    if not as_json:
        say("The log goes on.")


def _show(standing: Standing, as_json: bool) -> None:
    halt = standing.halt
    if as_json:
        claims = [asdict(claim) for claim in standing.claims]
        halted = {"kind": halt.kind, "reason": halt.reason, "since": halt.since.isoformat()} if halt else None
        say(json.dumps({"entries": standing.size, "halt": halted, "known": claims}))
        return
    say(f"the log has {standing.size} entries; it is {f'halted: {halt.reason}' if halt else 'not halted'}")
    for claim in standing.claims:
        if claim.unknown_key:
            say(f"  {claim.size:>10}  UNKNOWN {claim.who}: signed by {claim.unknown_key}, a key that is not here")
        else:
            say(f"  {claim.size:>10}  {'ok     ' if claim.holds else 'AHEAD  '} {claim.who}")


def _check(url: str) -> None:
    engine = make_command_engine(url)
    try:
        with engine.connect() as connection, progress_bar("checking") as progress:
            audit.begin_snapshot(connection)
            first = next(Check(connection, progress=progress).run(), None)
    finally:
        engine.dispose()
    if first is not None:
        raise BackupError(f"the log does not go on as it is: {first}; run `stillwatch-hub check`")


async def _examine(engine: AsyncEngine, keys: LogKeys, home: Path) -> Standing:
    async with engine.connect() as connection:
        return await examine(connection, keys, home)


async def _resume(engine: AsyncEngine, keys: LogKeys, home: Path, *, despite_unknown: bool) -> Standing:
    async with engine.connect() as connection:
        return await lift_halt(connection, keys, home, despite_unknown=despite_unknown)


def _run(url: str, work: Callable[[AsyncEngine], Coroutine[Any, Any, T]]) -> T:
    async def run() -> T:
        engine = make_engine(url, size=1)
        try:
            return await work(engine)
        finally:
            await engine.dispose()

    return asyncio.run(run())
