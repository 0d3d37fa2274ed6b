"""Putting the command groups together, and turning errors into messages and exit codes."""

from __future__ import annotations

import atexit
import gc
import sqlite3
import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from member_client.cli.loading import LoadedWhenAsked
from member_client.errors import ClientError, InvalidInput
from sharing_protocol.errors import ProtocolError

EXIT_CODES = """
Exit codes: 0 done; 2 usage or invalid input; 3 refused by the hub; 4 hub unreachable;
5 verification failed: the hub or an author misbehaved, evidence is kept; or a file to be checked does not hold.
"""

_COMMANDS = {
    "init": "setup:init",
    "pin": "setup:pin",
    "status": "setup:status",
    "doctor": "setup:doctor",
    "sync": "sync:sync",
    "detect": "detect:detect",
    "decide": "decide:decide",
    "decisions": "decisions:app",
    "allow": "allow:app",
    "appeal": "appeal:app",
    "evaluate": "evaluate:app",
    "gate": "gate:gate",
    "compile": "compile:compile_pattern",
    "prove": "proof:prove",
    "verify-proof": "proof:verify_proof",
    "verify-evidence": "proof:verify_evidence",
    "pattern": "pattern:app",
    "sighting": "sighting:app",
    "opinion": "opinion:app",
    "endorse": "opinion:endorse",
    "campaign": "campaign:app",
    "playbook": "playbook:app",
    "incident": "incident:app",
    "referral": "referral:app",
    "revocation": "revocation:app",
    "key": "key:app",
    "policy": "policy:app",
    "witness": "witness:app",
    "log": "log:app",
    "gossip": "gossip:app",
    "forum": "forum:app",
}
"""Where the commands and the groups of commands are, in the order of the help."""


class _Program(TyperGroup):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = LoadedWhenAsked(_COMMANDS)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            # What reads options names the kind of its own exception first, which tells a user nothing.
            error.message = error.message.removeprefix("Value error, ")
            raise


app = typer.Typer(
    name="stillwatch",
    cls=_Program,
    help="Share attack patterns with other labs through a hub that nobody has to trust.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
    # The memory ends with the process: to look through it for garbage first would take a quarter of a command's time.
    atexit.register(gc.freeze)
    sys.exit(run(arguments))


def run(arguments: list[str]) -> int:
    """Run the command line and return its exit code."""
    as_json = "--json" in arguments
    try:
        app(arguments)
    except SystemExit as exit_:
        # The command ended: normally, by typer.Exit, or in wrong usage, which has been shown.
        return exit_.code if isinstance(exit_.code, int) else 0
    except ClientError as error:
        return _fail(error, as_json)
    except ProtocolError as error:
        return _fail(InvalidInput(error.detail), as_json)
    except UnicodeEncodeError:
        # Python keeps what is no UTF-8 as half surrogate pairs, which nothing that we write or send may hold.
        return _fail(InvalidInput("an argument, or a file's name, is not UTF-8 text", "write it in UTF-8"), as_json)
    except (OSError, sqlite3.Error) as error:
        if busy := _busy(error):
            return _fail(InvalidInput(busy, "try again when it is done"), as_json)
        hint = "check the path, its permissions and the disk"
        return _fail(InvalidInput(f"this machine would not: {error}", hint), as_json)
    return 0


def _busy(error: Exception) -> str:
    """What else is under way in this home and keeps us waiting, "" if that is not what is wrong."""
    if isinstance(error, sqlite3.OperationalError):
        return "another command of this home is writing" if error.sqlite_errorcode == sqlite3.SQLITE_BUSY else ""
    from filelock import Timeout

    return "another sync of this home is under way" if isinstance(error, Timeout) else ""


def _fail(error: ClientError, as_json: bool) -> int:
    from member_client.cli.output import report_error

    report_error(error, as_json)
    return error.exit_code
