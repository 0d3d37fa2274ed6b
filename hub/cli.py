"""`stillwatch-hub`: run the hub, bind it to a forum, check its log."""

import json
import logging
import secrets
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from hub import backup_commands
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
from hub.database import audit, binding_store, migrating
from hub.database.connections import make_command_engine
from hub.errors import DatabaseUnreachable, HubError
from hub.identity import HubIdentity, folder_of, further_pairs, make_further
from hub.logs import configure
from hub.settings import read_settings
from sharing_protocol.errors import Malformed
from sharing_protocol.fingerprints import parse_fingerprint
from sharing_protocol.log_keys import mark_of

EXIT_CODES = """
Exit codes: 0 done; 1 `check` found a difference; 2 usage or settings; 3 the hub cannot, and says in one line why and
how to mend it; 4 the database does not answer: try again later.
"""

commands = typer.Typer(
    help="Run a Stillwatch hub: the log that a forum of labs shares, on Postgres.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_log = logging.getLogger("hub")


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"stillwatch-hub {version('stillwatch')}")
        raise typer.Exit


@commands.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


@commands.command()
def serve(
    home: Home,
    host: Annotated[str | None, typer.Option(help="Address to listen on; by default 127.0.0.1.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on, by default 8470; 0 takes any that is free.")
    ] = None,
    database_url: DatabaseUrl = None,
    origin: Annotated[str | None, typer.Option(help="The log's name, for ever; at the first start only.")] = None,
    public_url: Annotated[
        str | None, typer.Option(help="How clients reach the hub, if a proxy stands before it.")
    ] = None,
    port_file: Annotated[Path | None, typer.Option(help="Write the port here once requests are accepted.")] = None,
    config: ConfigFile = None,
) -> None:
    """Run the hub until it is interrupted. The first start makes its keys and its database."""
    from hub.app import create_app  # the web server takes a second to load, and no other command has one
    from hub.serving import HubServer, listen, url_of

    settings = read_settings(home, config, host=host, port=port, database_url=database_url, public_url=public_url)
    configure(settings.log_level)
    identity = HubIdentity.load_or_make(home, origin)
    with listen(settings.host, settings.port) as listener, open_database(home, settings) as url:
        migrate(url)
        port_number = listener.getsockname()[1]
        scheme = "https" if settings.tls_certificate else "http"

        def ready() -> None:
            _print_identity(identity, as_json=False)
            print(f"URL            {url_of(listener, scheme)}", flush=True)  # noqa: T201 - what the operator asked for
            if port_file is not None:
                try:
                    draft = port_file.with_name(f"{port_file.name}.{secrets.token_hex(4)}")
                    draft.write_text(f"{port_number}\n", encoding="ascii")
                    draft.replace(port_file)
                except OSError as error:
                    raise HubError("port_file", f"cannot write the port's file: {error}") from error

        HubServer(create_app(url, identity, settings, home=home), ready, settings).run(sockets=[listener])


@commands.command()
def config(
    home: OptionalHome = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Print the settings in force, as TOML, with what each is for; secrets stay hidden."""
    settings = read_settings(home, config)
    say(json.dumps(settings.shown(), indent=2) if as_json else settings.as_toml())


@commands.command()
def bind(
    fingerprint: Annotated[
        list[str], typer.Argument(help="The forum's fingerprint, as its admins read it to you: hex digits or 24 words.")
    ],
    home: OptionalHome = None,
    database_url: DatabaseUrl = None,
    config: ConfigFile = None,
) -> None:
    """Say which forum may be founded on this hub, while its log is empty."""
    try:
        named = parse_fingerprint(" ".join(fingerprint))
    except Malformed as error:
        raise typer.BadParameter(error.detail, param_hint="FINGERPRINT") from error
    with open_database(home, read_settings(home, config, database_url=database_url)) as url:
        migrate(url)
        engine = make_command_engine(url)
        try:
            with engine.begin() as connection:
                founded = binding_store.founded_forum(connection)
                if founded is None:
                    binding_store.bind(connection, named)
        finally:
            engine.dispose()
    if founded is not None and founded != named:
        raise HubError("already_founded", f"this hub's log belongs to the forum {founded} for ever")
    say(f"bound to the forum {named}" if founded is None else "that forum is founded here already")


@commands.command()
def init(
    home: Home,
    origin: Annotated[str | None, typer.Option(help="The log's name, for ever; by default one is derived.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make the log's keys and print them, without a database: on a machine that is offline, say. Once done, done."""
    _print_identity(HubIdentity.load_or_make(home, origin), as_json)


@commands.command()
def identity(home: Home, as_json: AsJson = False, config: ConfigFile = None) -> None:
    """Print the log's origin and its two verifier keys, which the founding statement names; then further pairs.

    With the URL that members type, if the settings have a public one.
    """
    first = HubIdentity.load(home)
    others = [pair for pair in further_pairs(home, first.origin) if pair.public != first.public]
    _print_identity(first, as_json, others, read_settings(home, config).public_url)


@commands.command("next-keys")
def next_keys(
    home: Home,
    origin: Annotated[
        str | None, typer.Option(help="The log's name; only in a new home, for a log whose keys are lost.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--output", "-o", help="Write the admins' card to a new file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a pair of keys to follow the log's present one, and the card by which the admins put it in force.

    Nothing changes until their statement is in the log (`stillwatch forum change-log-keys`).
    """
    if out is not None:
        try:
            out.touch(exist_ok=False)
        except FileExistsError as error:
            raise typer.BadParameter(f"{out} exists already", param_hint="--output") from error
        except OSError as error:
            raise HubError("card", f"no keys were made, for the card cannot be written: {error}") from error
    try:
        card = make_further(home, origin).card
    except BaseException:
        if out is not None:
            out.unlink()
        raise
    text = json.dumps(card.model_dump(mode="json"), indent=2)
    if out is not None:
        try:
            out.write_text(text + "\n", "utf-8")
        except OSError as error:
            raise HubError("card", f"the keys are made, but the card cannot be written: {error}") from error
    if as_json:
        say(json.dumps({"mark": mark_of(card), "card": card.model_dump(mode="json")}))
        return
    say(text if out is None else f"card written to {out}")
    say(f"mark           {mark_of(card)}")
    say("Copy keys/ to every home of this hub; then hand the card to the admins, and read them its mark.")


@commands.command()
def check(
    home: OptionalHome = None,
    database_url: DatabaseUrl = None,
    content: Annotated[
        bool, typer.Option("--content", help="Also compile every pattern and run its own tests (slow).")
    ] = False,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Derive everything again from the log's entries; name every difference to what is stored. Exit code 1 if any."""
    with open_database(home, read_settings(home, config, database_url=database_url)) as url:
        engine = make_command_engine(url)
        try:
            migrating.require_current(engine)
            with engine.connect() as connection, progress_bar("checking") as progress:
                audit.begin_snapshot(connection)
                run = Check(connection, content=content, progress=progress)
                differences = []
                for difference in run.run():
                    differences.append(difference)
                    if not as_json:
                        say(str(difference))
        finally:
            engine.dispose()
    if as_json:
        found = [asdict(difference) for difference in differences]
        say(json.dumps({"checked": asdict(run.counts), "differences": found}))
    else:
        counts = run.counts
        say(
            f"{counts.entries} entries, {counts.tiles} tiles, {counts.checkpoints} checkpoints and {counts.records} "
            f"records checked: {len(differences) or 'no'} difference{'' if len(differences) == 1 else 's'}"
        )
    if differences:
        raise typer.Exit(1)


backup_commands.attach(commands)


def main() -> None:
    """The console script: runs a command; what the user can mend is said in one line."""
    try:
        commands(standalone_mode=True, prog_name="stillwatch-hub")
    except HubError as error:
        _fail(error)
    except (OperationalError, InterfaceError, InternalError) as error:
        _fail(migrating.unreachable(error))
    except PoolTimeout:
        _fail(DatabaseUnreachable("the database does not answer"))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def _print_identity(
    identity: HubIdentity, as_json: bool, others: Sequence[HubIdentity] = (), public_url: str | None = None
) -> None:
    public = identity.public
    if as_json:
        further = [{**pair.public.model_dump(exclude={"origin"}), "folder": folder_of(pair)} for pair in others]
        document = {"version": version("stillwatch"), **public.model_dump()}
        more = {"further": further, "public_url": public_url}
        say(json.dumps(document | {name: value for name, value in more.items() if value}))
        return
    say(f"origin         {public.origin}\nlog key        {public.log_key}\ntimestamp key  {public.timestamp_key}")
    for pair in others:
        say(f"further pair   {pair.public.log_key}\n               {pair.public.timestamp_key}")
        say(f"               in {folder_of(pair)}")
    if public_url:
        say(f"public URL     {public_url}")


def _fail(error: HubError) -> None:
    print(f"stillwatch-hub: {' '.join(error.detail.split())}", file=sys.stderr)  # noqa: T201 - a command's answer
    sys.exit(error.exit_code)
