"""`stillwatch allow`: the accounts, organisations and networks on whom nothing is ever enforced."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from member_client.cli import output
from member_client.cli.output import HomeOption, JsonOption, open_session, say, warn
from member_client.decisions import allow_register
from member_client.decisions.allow_list import AllowKind
from member_client.decisions.presenting import allowed_document
from member_client.decisions.register import Register
from member_client.errors import InvalidInput

app = typer.Typer(help="Keep the list of those on whom nothing is ever enforced.", no_args_is_help=True)

OwnerOption = Annotated[str, typer.Option("--owner", help="Who at the lab answers for it.", show_default=False)]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why.", show_default=False)]
ExpiresOption = Annotated[
    str, typer.Option("--expires", help="The day on which it ends (UTC), such as 2027-03-01.", metavar="DAY")
]


@app.command()
def add(
    owner: OwnerOption,
    reason: ReasonOption,
    expires: ExpiresOption,
    account: Annotated[str, typer.Option(help="An account's id, as the logs write it.", metavar="ID")] = "",
    organisation: Annotated[str, typer.Option(help="An organisation's id, as the logs write it.", metavar="ID")] = "",
    network: Annotated[str, typer.Option(help="A network, such as 203.0.113.0/24.", metavar="CIDR")] = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put an account, an organisation or a network on the allow-list, or change its owner, reason and end."""
    given = [(kind, value) for kind, value in zip(AllowKind, (account, organisation, network), strict=True) if value]
    if len(given) != 1:
        raise InvalidInput("name one: --account, --organisation or --network")
    session = open_session(home)
    wish = allow_register.checked(*given[0], owner, reason, expires, session.now)
    register = Register.of(session.home)
    counts = allow_register.add(register, [wish], getpass.getuser(), session.now)
    (entry,) = (one for one in allow_register.entries(register) if (one.kind, one.id) == (wish.kind, wish.id))
    if as_json:
        output.print_json(allowed_document(entry, session.now) | counts)
    else:
        what = next(name for name, count in counts.items() if count)
        say(f"entry {entry.number} {what}: {entry.kind} {entry.id} until {entry.expires:%Y-%m-%d}", "green")


@app.command()
def remove(
    number: Annotated[int, typer.Argument(help="The entry's number, as `allow list` shows it.", show_default=False)],
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take an entry off the allow-list; decisions on it have an effect again, as far as everything else allows."""
    session = open_session(home)
    entry = allow_register.remove(Register.of(session.home), number, getpass.getuser(), reason, session.now)
    if as_json:
        output.print_json(allowed_document(entry, session.now) | {"holds": False})
    else:
        say(f"entry {entry.number} removed: {entry.kind} {entry.id}")


@app.command("list")
def list_entries(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the allow-list; expired entries no longer hold, and those that end within 14 days are pointed out."""
    session = open_session(home)
    now = session.now
    found = list(allow_register.entries(Register.of(session.home)))
    soon = [one for one in found if now < one.expires <= now + allow_register.ENDS_SOON]
    if as_json:
        numbers = {one.number for one in soon}
        output.print_json([allowed_document(one, now) | {"ends_soon": one.number in numbers} for one in found])
        return
    output.table(
        ["entry", "kind", "id", "until", "owner", "reason"],
        [
            (
                one.number,
                one.kind,
                one.id,
                f"{one.expires:%Y-%m-%d}" + (" (over)" if one.expires <= now else ""),
                one.owner,
                one.reason,
            )
            for one in found
        ],
    )
    for one in soon:
        warn(f"entry {one.number} ({one.kind} {one.id}, {one.owner}) ends on {one.expires:%Y-%m-%d}")


@app.command("import")
def import_entries(
    file: Annotated[
        str,
        typer.Argument(
            help="CSV with the columns kind, id, owner, reason, expires; or the accounts that `pattern backtest "
            "--legitimate` takes: one a line, or FILE:COLUMN.",
            show_default=False,
        ),
    ],
    owner: Annotated[str, typer.Option(help="For entries that name none.")] = "",
    reason: Annotated[str, typer.Option(help="For entries that name none.")] = "",
    expires: Annotated[str, typer.Option(help="For entries that name none.", metavar="DAY")] = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put all entries of a file on the allow-list, or none if one of them is not usable."""
    session = open_session(home)
    wishes = allow_register.wishes_of(file, owner, reason, expires, session.now)
    counts = allow_register.add(Register.of(session.home), wishes, getpass.getuser(), session.now)
    if as_json:
        output.print_json(counts)
    else:
        say(", ".join(f"{count:,} {name}" for name, count in counts.items()))
