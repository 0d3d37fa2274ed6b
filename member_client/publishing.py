"""Signing statements, submitting them, and holding the hub to its receipts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict
from uuid import uuid4

from member_client.errors import HubUnreachable, InvalidInput, RefusedByHub, VerificationFailed
from member_client.session import Session
from sharing_protocol import envelope as envelopes
from sharing_protocol import statements, strict_json, wire
from sharing_protocol.admission import check_dates
from sharing_protocol.content import check_clock, check_content
from sharing_protocol.envelope import Envelope
from sharing_protocol.errors import Misbehaviour, ProtocolError
from sharing_protocol.keys import PrivateKey
from sharing_protocol.log_keys import LogHistory
from sharing_protocol.statements import RecordReference, RecordStatement, Statement, new_id
from sharing_protocol.statements.header import SCHEMA, format_timestamp
from sharing_protocol.statements.membership import LogIdentity
from sharing_protocol.trust import check_receipt


@dataclass(frozen=True, slots=True)
class Published:
    """What was put into the log, proven.

    Attributes:
        index: its place in the log.
        entry: hex leaf hash of its entry.
        already_logged: it was there before; nothing was added.
    """

    id: str
    version: int
    index: int
    entry: str
    already_logged: bool

    @property
    def reference(self) -> RecordReference:
        """How other statements refer to it."""
        return RecordReference(id=self.id, version=self.version, entry=self.entry)


class HeaderFields(TypedDict):
    """A statement's header, ready for `draft`."""

    schema: int
    forum: str | None
    id: str
    version: int
    previous: str | None
    author: str
    created: str


def first_version(
    session: Session, prefix: str, author: str, created: datetime, record_id: str | None = None
) -> HeaderFields:
    """Header of version 1 of a new record: under a new id with this prefix, or under `record_id`."""
    return {
        "schema": SCHEMA,
        "forum": session.forum.fingerprint,
        "id": record_id or new_id(prefix, uuid4()),
        "version": 1,
        "previous": None,
        "author": author,
        "created": format_timestamp(created),
    }


def next_version(session: Session, record_id: str, author: str, created: datetime) -> HeaderFields:
    """Header of the next version of a record in the local store.

    Raises:
        InvalidInput: the store has no such record.
    """
    head = session.store.head(record_id)
    if head is None:
        raise InvalidInput(f"there is no record {record_id} here", "run `stillwatch sync`, or check the id")
    return {
        "schema": SCHEMA,
        "forum": session.forum.fingerprint,
        "id": record_id,
        "version": head.version + 1,
        "previous": head.entry,
        "author": author,
        "created": format_timestamp(created),
    }


def draft(header: HeaderFields, kind: str, body: dict[str, Any]) -> Statement:
    """Make a statement of JSON-like parts, checked like one that came over the wire.

    Raises:
        InvalidInput: a part is missing, unknown or wrong.
    """
    document: dict[str, Any] = {**header, "type": kind, "body": body}
    try:
        statement = statements.parse(strict_json.dumps(document))
    except ProtocolError as error:
        raise InvalidInput(error.detail) from error
    if isinstance(statement, statements.Unknown):
        raise InvalidInput(f"{kind} is not a statement type")
    return statement


def check_draft(statement: Statement, now: datetime) -> None:
    """Ask everything that the hub will ask of the content, before anything is signed.

    Raises:
        InvalidInput: what is wrong, and where.
    """
    try:
        check_clock(statement, now)
        if isinstance(statement, RecordStatement):
            check_dates(statement)
        check_content(statement)
    except ProtocolError as error:
        where = getattr(error, "where", "")
        raise InvalidInput(f"{error.detail}" + (f" (at {where})" if where else "")) from error


def publish(session: Session, statement: Statement, *roles: str) -> Published:
    """Check, sign and submit a statement, and keep the receipt that proves it was logged.

    Args:
        roles: which of this home's keys may sign, the preferred first.

    Raises:
        InvalidInput: the content would be refused.
        RefusedByHub, HubUnreachable: nothing was logged, as far as is known; submitting the same again is safe.
        VerificationFailed: the receipt does not prove what it should.
    """
    check_draft(statement, session.now)
    signer = session.signer(*roles)
    return submit(session, signer, envelopes.sign(statements.encode(statement), [signer]), statement)


def submit(session: Session, signer: PrivateKey, signed: Envelope, statement: Statement) -> Published:
    """Submit a signed statement as one of its signers, who also signs the request; see `publish`."""
    (told,) = submit_all(session, signer, [(signed, statement)])
    if not isinstance(told, Published):
        raise told
    return told


def submit_all(
    session: Session, signer: PrivateKey, signed: Sequence[tuple[Envelope, Statement]]
) -> Iterator[Published | RefusedByHub | HubUnreachable]:
    """Submit signed statements in few requests, in order; what came of each.

    Raises:
        VerificationFailed: a receipt does not prove what it should; those after it are not looked at.
    """
    entries = [envelope.encode() for envelope, _ in signed]
    with session.connect(signer) as hub:
        for told, entry, (_, statement) in zip(hub.send_entries(entries), entries, signed, strict=True):
            yield accept_receipt(session, told, entry, statement) if isinstance(told, wire.Receipt) else told


def accept_receipt(
    session: Session, receipt: wire.Receipt, entry: bytes, statement: Statement, log: LogIdentity | None = None
) -> Published:
    """Verify a receipt and keep it.

    If its checkpoint is by keys that are not known here, the log is followed first: its admins may have exchanged them
    since, or by this very statement.

    Args:
        log: the log's keys, where the store does not know them yet.

    Raises:
        VerificationFailed: it proves nothing.
        HubUnreachable: it is by unknown keys, and the log cannot be followed.
    """
    logs = LogHistory.of(log) if log is not None else session.forum.logs
    try:
        try:
            check_receipt(receipt, entry, logs)
        except Misbehaviour as misbehaviour:
            if log is not None or misbehaviour.code != "unsigned_checkpoint":
                raise
            session.catch_up()
            logs = session.forum.logs
            check_receipt(receipt, entry, logs)
    except Misbehaviour as misbehaviour:
        raise VerificationFailed(misbehaviour, session.keep_evidence(misbehaviour)) from misbehaviour
    with session.store.transaction():
        session.store.put_receipt(receipt.entry, receipt.index, receipt.model_dump_json())
    return Published(statement.id, statement.version, receipt.index, receipt.entry, receipt.already_logged)
