"""`stillwatch key`: a lab's owner manages the lab's keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from member_client.cli import output
from member_client.cli.output import HomeOption, JsonOption, open_session, say
from member_client.cli.setup import KeysOption, PassphraseOption, RequestFileOption, key_state
from member_client.cli.sync import bring_up_to_date
from member_client.errors import InvalidInput
from member_client.forum import cards
from member_client.forum.proposals import find_key, membership_statement
from member_client.keystore import Keeper, ask_passphrase, check_keeper
from member_client.publishing import Published, next_version, publish
from member_client.session import Session
from sharing_protocol.statements import KeyRegistration, Role

app = typer.Typer(help="Make, register and revoke this lab's keys.", no_args_is_help=True)


@app.command("list")
def list_keys(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the keys in this home, and every key of the lab in the log."""
    session = open_session(home)
    here = {key.public_key.key_id: key.role for key in session.keys.stored()}
    registered = {
        key.public_key.key_id: key.role
        for key in session.membership.keys.values()
        if key.holder == session.settings.member
    }
    rows = [
        {"key_id": key_id, "role": role, "state": key_state(session, key_id), "in_this_home": key_id in here}
        for key_id, role in (registered | here).items()
    ]
    if as_json:
        output.print_json(rows)
    else:
        output.table(
            ["key", "role", "state", "here"],
            [(row["key_id"], row["role"], row["state"], "yes" if row["in_this_home"] else "no") for row in rows],
        )


@app.command()
def new(
    role: Annotated[Role, typer.Argument(help="What the key may do.")],
    passphrase: PassphraseOption = False,
    keep: KeysOption = Keeper.FILE,
    out: RequestFileOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key in this home, and the request that an owner registers it with."""
    session = open_session(home)
    member = _member(session)
    check_keeper(keep, encrypted=passphrase)
    secret = ask_passphrase("New passphrase for the key: ") if passphrase else None
    key = session.keys.create(role.value, secret, keep)
    request = cards.KeyRequest(member=member, key=cards.register(role, member, key))
    text = cards.write(request)
    if out is not None:
        out.write_text(text, "utf-8")
    if as_json:
        output.print_json(
            {"key_id": key.public_key.key_id, "role": role.value, "request": request.model_dump(mode="json")}
        )
        return
    say(f"Made {role.value} key {key.public_key.key_id}", "green")
    say(f"Request written to {out}" if out else text.rstrip())
    say("Register it where the owner key is: stillwatch key add REQUEST")


@app.command()
def add(
    request: Annotated[Path, typer.Argument(help="The request that `key new` wrote.")],
    reason: Annotated[str, typer.Option(help="Why; everybody can read it.")] = "a new key of this lab",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register a key of this lab; signed by its owner key."""
    session = open_session(home)
    card = cards.read(request, cards.KeyRequest)
    if card.member != _member(session):
        raise InvalidInput(f"{request} is a request for another lab, {card.member}")
    published = _publish(session, "membership.add_key", {"key": registration(card.key), "reason": reason})
    _report(published, "registered", as_json)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="The key's id, or its start.")],
    reason: Annotated[str, typer.Option(help="Why; everybody can read it.")],
    suspect_from: Annotated[
        int | None, typer.Option(min=0, help="Log index from which what it signed is suspect.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Revoke a key of this lab: it signs nothing from there on. Signed by the owner key.

    With --suspect-from, also of a key that was revoked before: what it signed from there on leaves force everywhere,
    until it is signed anew (`stillwatch pattern resign`).
    """
    session = open_session(home)
    bring_up_to_date(session)
    key_id = find_key(session, _member(session), key, revoked_too=suspect_from is not None)
    body = {"key_id": key_id, "reason": reason, "suspect_from": suspect_from}
    _report(_publish(session, "membership.revoke_key", body), "revoked", as_json)


def registration(key: KeyRegistration) -> dict[str, Any]:
    """A registration as a statement's body has it."""
    return key.model_dump(mode="json")


def _publish(session: Session, kind: str, body: dict[str, Any]) -> Published:
    bring_up_to_date(session)
    member = _member(session)
    header = next_version(session, member, member, session.now)
    published = publish(session, membership_statement(header, kind, body), "owner")
    bring_up_to_date(session)
    return published


def _member(session: Session) -> str:
    if session.settings.is_admin:
        raise InvalidInput("this home is a forum admin's", "admins use `stillwatch forum add-key` and `revoke-key`")
    return session.settings.member


def _report(published: Published, done: str, as_json: bool) -> None:
    if as_json:
        output.print_json({"index": published.index, "entry": published.entry})
    else:
        say(f"{done}: entry {published.index}, with proof", "green")
