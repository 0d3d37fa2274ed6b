"""Drafting membership statements, and carrying them to m of n signatures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from member_client.errors import HubUnreachable, InvalidInput
from member_client.publishing import HeaderFields, Published, accept_receipt, draft
from member_client.session import Session
from sharing_protocol import envelope as envelopes
from sharing_protocol import statements, wire
from sharing_protocol.envelope import Envelope
from sharing_protocol.errors import ProtocolError
from sharing_protocol.keys import PrivateKey
from sharing_protocol.membership import ADMIN_ROLE, Member, after
from sharing_protocol.statements import ChangeAdmins, Found, MembershipStatement
from sharing_protocol.statements.header import SCHEMA, format_timestamp
from sharing_protocol.statements.parsing import Statement


@dataclass(frozen=True, slots=True)
class Pending:
    """A proposal as this client checked it itself.

    Attributes:
        id: hex SHA-256 of the payload, recomputed here.
        signed_by: names of the admins whose signatures hold.
        missing: what the hub says is still needed.
        problem: why it could not be logged even with every signature, or "".
    """

    id: str
    statement: MembershipStatement
    envelope: Envelope
    signed_by: list[str]
    missing: str
    problem: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What proposing or signing led to: `published` is None while signatures are missing."""

    id: str
    statement: MembershipStatement
    missing: str
    published: Published | None


def membership_statement(header: HeaderFields, kind: str, body: dict[str, Any]) -> MembershipStatement:
    """Draft a membership statement; see `publishing.draft`."""
    return _membership(draft(header, kind, body))


def founding_header(session: Session, forum_id: str) -> HeaderFields:
    """Header of a founding statement, which names no forum: its hash will be the forum's fingerprint."""
    return {
        "schema": SCHEMA,
        "forum": None,
        "id": forum_id,
        "version": 1,
        "previous": None,
        "author": forum_id,
        "created": format_timestamp(session.now),
    }


def parse_signed(data: bytes) -> tuple[Envelope, MembershipStatement]:
    """Read an envelope that carries a membership statement.

    Raises:
        InvalidInput: it is none.
    """
    try:
        signed = envelopes.parse(data)
        return signed, _membership(statements.parse(signed.payload))
    except ProtocolError as error:
        raise InvalidInput(f"not a signed membership statement: {error.detail}") from error


def find_member(session: Session, wanted: str) -> Member:
    """A lab by name, id, or the start of its id.

    Raises:
        InvalidInput: none, or more than one.
    """
    members = list(session.membership.members.values())
    found = [member for member in members if wanted.casefold() == member.name.casefold()]
    if not found:
        found = [
            member
            for member in members
            if member.id.removeprefix("member--").startswith(wanted.removeprefix("member--"))
        ]
    if len(found) != 1 or not wanted:
        known = ", ".join(sorted(member.name for member in members)) or "none"
        raise InvalidInput(
            f"{wanted!r} names {len(found)} labs", f"known labs: {known}; or run `stillwatch sync` first"
        )
    return found[0]


def find_key(session: Session, holder: str, wanted: str, *, revoked_too: bool = False) -> str:
    """The id of a holder's key in force, by the start of its id.

    Args:
        revoked_too: also among keys that are not in force any more: one may turn out to have been stolen before.

    Raises:
        InvalidInput: none, or more than one.
    """
    membership = session.membership
    known_keys = membership.keys.values() if revoked_too else membership.keys_of(holder)
    ids = [key.public_key.key_id for key in known_keys if key.holder == holder]
    found = [key_id for key_id in ids if wanted and key_id.startswith(wanted.lower())]
    if len(found) != 1:
        known = ", ".join(key_id[:16] for key_id in ids)
        raise InvalidInput(
            f"{wanted!r} names {len(found)} keys{'' if revoked_too else ' in force'}", f"known key ids: {known}"
        )
    return found[0]


def check_loggable(session: Session, statement: MembershipStatement) -> None:
    """See that a membership statement could be logged next, with every signature.

    Raises:
        InvalidInput: it could not, and why.
    """
    if problem := _problem(session, statement, ""):
        raise InvalidInput(problem)


def propose(session: Session, statement: MembershipStatement) -> Outcome:
    """Sign a membership statement as an admin and hand it to the hub, which gathers the other signatures.

    Raises:
        InvalidInput: it could not be logged even with every signature.
        RefusedByHub, HubUnreachable, VerificationFailed: as for `publishing.publish`.
    """
    check_loggable(session, statement)
    signer = session.signer(ADMIN_ROLE)
    return _hand_in(session, signer, envelopes.sign(statements.encode(statement), [signer]), statement)


def sign(session: Session, pending: Pending) -> Outcome:
    """Add this admin's signature to a proposal."""
    signer = session.signer(ADMIN_ROLE)
    return _hand_in(session, signer, envelopes.sign(pending.envelope.payload, [signer]), pending.statement)


def pending(session: Session) -> list[Pending]:
    """Every proposal that waits for signatures, each checked here."""
    with session.connect() as hub:
        page = hub.read(wire.PROPOSALS, wire.ProposalPage)
    return [_check(session, proposal) for proposal in page.proposals]


def find_pending(session: Session, wanted: str) -> Pending:
    """One proposal, by the start of its id.

    Raises:
        InvalidInput: none, or more than one.
    """
    found = [proposal for proposal in pending(session) if wanted and proposal.id.startswith(wanted.lower())]
    if len(found) != 1:
        raise InvalidInput(
            f"{wanted!r} names {len(found)} pending proposals",
            "see `stillwatch forum pending`; what has all its signatures is in `stillwatch forum log`",
        )
    return found[0]


def found_forum(session: Session, signer: PrivateKey, signed: Envelope, statement: Found) -> Published:
    """Submit a founding statement, verify the receipt by the log keys in it, and pin the forum."""
    entry = signed.encode()
    with session.connect(signer) as hub:
        receipt = hub.send(wire.ENTRIES, entry, wire.Receipt)
    published = accept_receipt(session, receipt, entry, statement, statement.body.log)
    session.pin(signed.payload_sha256)
    return published


def _hand_in(session: Session, signer: PrivateKey, signed: Envelope, statement: MembershipStatement) -> Outcome:
    with session.connect(signer) as hub:
        proposal = hub.send(wire.PROPOSALS, signed.encode(), wire.Proposal)
    logged, _ = parse_signed(proposal.envelope.encode())
    if {proposal.id, logged.payload_sha256} != {signed.payload_sha256}:
        raise HubUnreachable("the hub answered about another proposal than the one it was given")
    published = None
    if proposal.receipt is not None:
        published = accept_receipt(session, proposal.receipt, proposal.envelope.encode(), statement)
    return Outcome(proposal.id, statement, proposal.missing, published)


def _check(session: Session, proposal: wire.Proposal) -> Pending:
    membership = session.membership
    signed, statement = parse_signed(proposal.envelope.encode())
    names = []
    for signature in signed.signatures:
        key = membership.keys.get(signature.key_id)
        if key is not None and key.public_key.verifies(signed.signed_message, signature.value):
            names.append(key.name or key.role)
        elif key is None and isinstance(statement, ChangeAdmins):
            names.append(f"a new admin ({signature.key_id[:8]}…)")
    problem = _problem(session, statement, signed.payload_sha256)
    return Pending(signed.payload_sha256, statement, signed, names, proposal.missing, problem)


def _problem(session: Session, statement: MembershipStatement, payload_sha256: str) -> str:
    try:
        after(session.membership, statement, session.store.cursor, payload_sha256)
    except ProtocolError as error:
        return error.detail
    return ""


def _membership(statement: Statement | statements.Unknown) -> MembershipStatement:
    if not isinstance(statement, MembershipStatement):
        raise InvalidInput("this is not a membership statement")
    return statement
