"""`stillwatch forum`: forum admins manage membership, m of n."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer

from member_client.cli import output
from member_client.cli.confirming import confirm
from member_client.cli.key import registration
from member_client.cli.output import HomeOption, JsonOption, QrOption, open_session, say, say_fingerprint
from member_client.cli.sync import bring_up_to_date
from member_client.errors import HubUnreachable, InvalidInput
from member_client.forum import cards, proposals
from member_client.forum.explaining import explain, headline
from member_client.forum.proposals import Outcome, membership_statement
from member_client.home import write_privately
from member_client.named_files import read_named
from member_client.publishing import Published, first_version, next_version
from member_client.session import Session
from sharing_protocol import envelope as envelopes
from sharing_protocol import statements
from sharing_protocol.errors import ProtocolError
from sharing_protocol.keys import PublicKey
from sharing_protocol.log_keys import LogCard, mark_of
from sharing_protocol.membership import ADMIN_ROLE, Membership, after
from sharing_protocol.notes import VerifierKey
from sharing_protocol.statements import Admin, Found, MembershipStatement, new_id
from sharing_protocol.statements.header import format_timestamp
from sharing_protocol.wire import LOG_KEYS_MISSING

app = typer.Typer(help="Found the forum and manage its membership, m of n admins together.", no_args_is_help=True)

ReasonOption = Annotated[str, typer.Option(help="Why; everybody can read it.")]
LabArgument = Annotated[str, typer.Argument(help="The lab's name, or its id.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before signing.")]


@app.command()
def found(
    name: Annotated[str, typer.Option(help="The forum's name.")] = "",
    log_key: Annotated[str, typer.Option(help="The hub's log key, as its operator told you.")] = "",
    timestamp_key: Annotated[str, typer.Option(help="The hub's timestamp key, likewise.")] = "",
    admin: Annotated[list[Path] | None, typer.Option(help="An admin's card; once for each admin.")] = None,
    threshold: Annotated[int, typer.Option(min=1, help="How many admins must sign together.")] = 2,
    out: Annotated[Path, typer.Option("--output", "-o", help="The founding file to write.")] = Path("founding.json"),
    submit: Annotated[Path | None, typer.Option(help="Submit this founding file; enough admins signed it.")] = None,
    qr: QrOption = False,
    yes: YesOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write and sign a founding file; with --submit, put it into the log as entry 0.

    What it says is shown first. In between the other admins sign the file (`forum sign FILE`), and the hub's operator
    binds the hub to the forum's fingerprint (`stillwatch-hub bind`).
    """
    session = open_session(home)
    if submit is not None:
        _submit_founding(session, submit, qr, as_json)
        return
    if not (name and log_key and timestamp_key and admin):
        raise InvalidInput("--name, --log-key, --timestamp-key and --admin are needed", "or --submit FILE")
    body = {
        "name": name,
        "log": {"origin": VerifierKey.parse(log_key).name, "log_key": log_key, "timestamp_key": timestamp_key},
        "admins": [card.model_dump(mode="json") for card in _admin_cards(admin)],
        "threshold": threshold,
    }
    header = proposals.founding_header(session, new_id("forum", uuid4()))
    statement = membership_statement(header, "membership.found", body)
    _check_founding(statement)
    _show_and_confirm(statement, Membership(), yes, as_json)
    signed = envelopes.sign(statements.encode(statement), [session.signer(ADMIN_ROLE)])
    write_privately(out, signed.encode())
    if as_json:
        output.print_json({"fingerprint": signed.payload_sha256, "file": str(out)})
        return
    say(f"Signed and written to {out}. The other admins sign it: stillwatch forum sign {out}", "green")
    say(f"The forum's fingerprint: {signed.payload_sha256}")
    say_fingerprint(signed.payload_sha256, qr=qr)


def _submit_founding(session: Session, path: Path, qr: bool, as_json: bool) -> None:
    signed, statement = proposals.parse_signed(read_named(path, envelopes.MAX_ENVELOPE_BYTES))
    if not isinstance(statement, Found):
        raise InvalidInput(f"{path} is not a founding file")
    _check_founding(statement)
    published = proposals.found_forum(session, session.signer(ADMIN_ROLE), signed, statement)
    bring_up_to_date(session)
    if as_json:
        output.print_json({"fingerprint": signed.payload_sha256, "index": published.index})
        return
    say(f"{statement.body.name} is founded", "green")
    say(f"Labs pin this fingerprint: {signed.payload_sha256}")
    say_fingerprint(signed.payload_sha256, qr=qr)


def _check_founding(statement: MembershipStatement) -> None:
    try:
        after(Membership(), statement, 0, "")
    except ProtocolError as error:
        raise InvalidInput(error.detail) from error


@app.command()
def admit(
    request: Annotated[Path, typer.Argument(help="The join request that `stillwatch init` wrote at the lab.")],
    reason: ReasonOption = "the lab asked to join",
    yes: YesOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Propose to admit a lab. Compare the request's mark with the lab by another channel first."""
    session = _synced(home)
    card = cards.read(request, cards.JoinRequest)
    if session.store.head(card.member) is not None:
        raise InvalidInput(f"{card.name} ({card.member}) was admitted before", "see `stillwatch forum members`")
    header = first_version(session, "member", session.forum.id, session.now, card.member)
    body = {"name": card.name, "keys": [registration(key) for key in card.keys], "reason": reason}
    if not as_json:
        say(f"The request's mark is {mark_of(card)}")
    _propose(session, membership_statement(header, "membership.admit", body), yes, as_json)


@app.command()
def suspend(
    lab: LabArgument,
    reason: ReasonOption,
    yes: YesOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Propose to suspend a lab."""
    _change_member(home, lab, "membership.suspend", {"reason": reason}, yes, as_json)


@app.command()
def reinstate(
    lab: LabArgument,
    reason: ReasonOption,
    yes: YesOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Propose to reinstate a suspended lab."""
    _change_member(home, lab, "membership.reinstate", {"reason": reason}, yes, as_json)


@app.command()
def expel(
    lab: LabArgument,
    reason: ReasonOption,
    yes: YesOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Propose to expel a lab for good."""
    _change_member(home, lab, "membership.expel", {"reason": reason}, yes, as_json)


@app.command("add-key")
def add_key(
    lab: LabArgument,
    request: Annotated[Path, typer.Argument(help="The request that `stillwatch key new` wrote at the lab.")],
    reason: ReasonOption,
    yes: YesOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Propose to register a key for a lab that cannot do it itself."""
    card = cards.read(request, cards.KeyRequest)
    _change_member(home, lab, "membership.add_key", {"key": registration(card.key), "reason": reason}, yes, as_json)


@app.command("revoke-key")
def revoke_key(
    lab: LabArgument,
    key: Annotated[str, typer.Argument(help="The key's id, or its start.")],
    reason: ReasonOption,
    suspect_from: Annotated[
        int | None, typer.Option(min=0, help="Log index from which what it signed is suspect.")
    ] = None,
    yes: YesOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Propose to revoke a lab's key."""
    session = _synced(home)
    member = proposals.find_member(session, lab)
    key_id = proposals.find_key(session, member.id, key, revoked_too=suspect_from is not None)
    body = {"key_id": key_id, "reason": reason, "suspect_from": suspect_from}
    header = next_version(session, member.id, session.forum.id, session.now)
    _propose(session, membership_statement(header, "membership.revoke_key", body), yes, as_json)


@app.command("change-admins")
def change_admins(
    admin: Annotated[list[Path], typer.Option(help="Card of an admin of the new set; once for each, old ones too.")],
    threshold: Annotated[int, typer.Option(min=1, help="How many of them must sign together.")],
    reason: ReasonOption,
    yes: YesOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Propose another set of admins: needs the old threshold of the old and the new threshold of the new."""
    session = _synced(home)
    body = {
        "admins": [card.model_dump(mode="json") for card in _admin_cards(admin)],
        "threshold": threshold,
        "reason": reason,
    }
    header = next_version(session, session.forum.id, session.forum.id, session.now)
    _propose(session, membership_statement(header, "membership.change_admins", body), yes, as_json)


@app.command("change-log-keys")
def change_log_keys(
    card: Annotated[Path, typer.Argument(help="The card that `stillwatch-hub next-keys` wrote at the hub.")],
    reason: ReasonOption,
    yes: YesOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Propose other keys for the log. Compare the card's mark with the hub's operator by another channel first."""
    session = _synced(home)
    log = cards.read(card, LogCard)
    if log.origin != session.forum.log.origin:
        raise InvalidInput(f"{card} is of the log {log.origin}, and the forum's is {session.forum.log.origin}")
    body = {**log.model_dump(exclude={"format", "origin"}), "reason": reason}
    header = next_version(session, session.forum.id, session.forum.id, session.now)
    if not as_json:
        say(f"The card's mark is {mark_of(log)}")
    _propose(session, membership_statement(header, "membership.change_log", body), yes, as_json)


@app.command()
def pending(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the proposals that wait for signatures, each checked here."""
    session = _synced(home)
    found = proposals.pending(session)
    if as_json:
        output.print_json([_describe(session, proposal) for proposal in found])
        return
    if not found:
        say("no proposals are pending")
    for proposal in found:
        say(f"{proposal.id[:16]}  signed by {', '.join(proposal.signed_by) or 'nobody'}; {proposal.missing}", "bold")
        _explain(proposal.statement, session.membership)
        if proposal.problem:
            say(f"It cannot be logged as things stand: {proposal.problem}", "yellow")


@app.command()
def sign(
    proposal: Annotated[str, typer.Argument(help="A pending proposal's id (or its start), or a founding file.")],
    yes: YesOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show in plain words what a proposal does, and sign it."""
    path = Path(proposal)
    if path.is_file():
        _sign_file(open_session(home), path, yes, as_json)
        return
    session = _synced(home)
    chosen = proposals.find_pending(session, proposal)
    if chosen.problem:
        raise InvalidInput(f"this proposal cannot be logged as things stand: {chosen.problem}")
    _show_and_confirm(chosen.statement, session.membership, yes, as_json)
    _report(session, proposals.sign(session, chosen), as_json)


def _sign_file(session: Session, path: Path, yes: bool, as_json: bool) -> None:
    signed, statement = proposals.parse_signed(read_named(path, envelopes.MAX_ENVELOPE_BYTES))
    if not isinstance(statement, Found):
        raise InvalidInput(f"{path} is not a founding file", "other proposals are signed by their id")
    _check_founding(statement)
    signer = session.signer(ADMIN_ROLE)
    if not any(PublicKey.parse(admin.key) == signer.public_key for admin in statement.body.admins):
        raise InvalidInput("this home's admin key is not among the forum's admins", "is this the right --home?")
    _show_and_confirm(statement, Membership(), yes, as_json)
    more = signed.with_signatures(envelopes.sign(signed.payload, [signer]).signatures)
    write_privately(path, more.encode())
    session.pin(more.payload_sha256)
    missing = max(statement.body.threshold - len(more.signatures), 0)
    if as_json:
        output.print_json({"fingerprint": more.payload_sha256, "signatures": len(more.signatures), "missing": missing})
        return
    say(f"Signed: {len(more.signatures)} of {statement.body.threshold} signatures", "green")
    say(f"The forum's fingerprint: {more.payload_sha256}")
    say_fingerprint(more.payload_sha256, qr=False)


@app.command()
def members(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the forum's admins, labs and keys, as the verified log has them."""
    session = open_session(home)
    forum, membership = session.forum, session.membership
    holders = [(forum.id, forum.name, f"{forum.threshold} of {len(forum.admins)} admins")]
    holders += [(member.id, member.name, member.status.value) for member in membership.members.values()]
    document = [
        {
            "id": holder,
            "name": name,
            "status": status,
            "keys": [
                {"key_id": key.public_key.key_id, "role": key.role, "name": key.name, "revoked_at": key.revoked_at}
                for key in membership.keys.values()
                if key.holder == holder
            ],
        }
        for holder, name, status in holders
    ]
    if as_json:
        output.print_json(document)
        return
    for holder, name, status in holders:
        say(f"{name}  {status}  {holder}", "bold")
        rows = [key for key in membership.keys.values() if key.holder == holder]
        output.table(
            ["key", "role", "since", "revoked"],
            [
                (key.public_key.key_id[:16], f"{key.role} {key.name}".strip(), key.since, key.revoked_at or "")
                for key in rows
            ],
        )


@app.command()
def log(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """The forum's history: every membership entry, and who signed it."""
    session = open_session(home)
    state = Membership()
    rows: list[dict[str, Any]] = []
    for index, data in session.store.membership_log():
        signed, statement = proposals.parse_signed(data)
        before, state = state, after(state, statement, index, signed.payload_sha256)
        names = [state.name_of(signature.key_id) for signature in signed.signatures]
        rows.append(
            {
                "index": index,
                "created": format_timestamp(statement.created),
                "type": statement.type,
                "what": headline(statement, before),
                "signed_by": names,
            }
        )
    if as_json:
        output.print_json(rows)
    else:
        output.table(
            ["entry", "created", "what", "signed by"],
            [(row["index"], row["created"], row["what"], ", ".join(row["signed_by"])) for row in rows],
        )


# -- shared by the commands ------------------------------------------------------------------------------------


def _synced(home: Path | None) -> Session:
    session = open_session(home)
    try:
        bring_up_to_date(session)
    except HubUnreachable as error:
        if error.reason != LOG_KEYS_MISSING:
            raise
        output.errors.print(f"{error}: going by what this home has read before", style="yellow")
    return session


def _change_member(home: Path | None, lab: str, kind: str, body: dict[str, Any], yes: bool, as_json: bool) -> None:
    session = _synced(home)
    member = proposals.find_member(session, lab)
    header = next_version(session, member.id, session.forum.id, session.now)
    _propose(session, membership_statement(header, kind, body), yes, as_json)


def _propose(session: Session, statement: MembershipStatement, yes: bool, as_json: bool) -> None:
    proposals.check_loggable(session, statement)
    _show_and_confirm(statement, session.membership, yes, as_json)
    _report(session, proposals.propose(session, statement), as_json)


def _report(session: Session, outcome: Outcome, as_json: bool) -> None:
    published: Published | None = outcome.published
    if published is not None:
        bring_up_to_date(session)
    if as_json:
        output.print_json(
            {
                "proposal": outcome.id,
                "id": outcome.statement.id,
                "missing": outcome.missing,
                "index": published.index if published else None,
            }
        )
    elif published is not None:
        say(f"Logged as entry {published.index}, with proof", "green")
    else:
        say(f"Proposed as {outcome.id[:16]}: {outcome.missing}", "green")
        say(f"Another admin signs it: stillwatch forum sign {outcome.id[:16]}")


def _describe(session: Session, proposal: proposals.Pending) -> dict[str, Any]:
    return {
        "proposal": proposal.id,
        "type": proposal.statement.type,
        "what": explain(proposal.statement, session.membership),
        "signed_by": proposal.signed_by,
        "missing": proposal.missing,
        "problem": proposal.problem,
    }


def _explain(statement: MembershipStatement, membership: Membership) -> None:
    for line in explain(statement, membership):
        say(line)


def _show_and_confirm(statement: MembershipStatement, membership: Membership, yes: bool, as_json: bool) -> None:
    """Say what the admin would sign, and see that it is what they want."""
    if not as_json:
        _explain(statement, membership)
    confirm("Sign this?", "nothing was signed", "read what it says in a terminal", yes=yes, as_json=as_json)


def _admin_cards(paths: list[Path]) -> list[Admin]:
    return [cards.read(path, cards.AdminCard).admin for path in paths]
