"""Putting the command groups together, and turning errors into messages and exit codes."""

from __future__ import annotations

import sqlite3
import sys
from importlib.metadata import version
from typing import Annotated

import stamina.instrumentation
import typer
from filelock import Timeout

from member_client.cli import detect, forum, key, log, pattern, policy, setup, sighting, sync
from member_client.cli.output import report_error
from member_client.errors import ClientError, InvalidInput
from sharing_protocol.errors import ProtocolError

EXIT_CODES = """
Exit codes: 0 done; 2 usage or invalid input; 3 refused by the hub; 4 hub unreachable;
5 verification failed: the hub or an author misbehaved, evidence is kept.
"""

app = typer.Typer(
    name="stillwatch",
    help="Share attack patterns with other labs through a hub that nobody has to trust.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("init")(setup.init)
app.command("pin")(setup.pin)
app.command("status")(setup.status)
app.command("doctor")(setup.doctor)
app.command("sync")(sync.sync)
app.command("detect")(detect.detect)
app.add_typer(pattern.app, name="pattern")
app.add_typer(sighting.app, name="sighting")
app.add_typer(key.app, name="key")
app.add_typer(policy.app, name="policy")
app.add_typer(log.app, name="log")
app.add_typer(forum.app, name="forum")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"stillwatch {version('stillwatch')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit; never a traceback for a user's mistake."""
    arguments = sys.argv[1:] if arguments is None else arguments
    sys.exit(run(arguments))


def run(arguments: list[str]) -> int:
    """Run the command line and return its exit code."""
    as_json = "--json" in arguments
    stamina.instrumentation.set_on_retry_hooks([])  # what came of it, we say ourselves
    try:
        app(arguments)
    except SystemExit as exit_:
        # The command ended: normally, by typer.Exit, or in wrong usage, which has been shown.
        return exit_.code if isinstance(exit_.code, int) else 0
    except ClientError as error:
        return _fail(error, as_json)
    except ProtocolError as error:
        return _fail(InvalidInput(error.detail), as_json)
    except Timeout:
        return _fail(InvalidInput("another sync of this home is under way", "try again when it is done"), as_json)
    except (OSError, sqlite3.Error) as error:
        hint = "check the path, its permissions and the disk"
        return _fail(InvalidInput(f"this machine would not: {error}", hint), as_json)
    return 0


def _fail(error: ClientError, as_json: bool) -> int:
    report_error(error, as_json)
    return error.exit_code
