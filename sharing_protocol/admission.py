"""Whether an entry may be the log's next: authority, version chain, and what the statement refers to.

The hub asks this before it writes, every member before it believes; both get the same answer because both ask this
function. It needs three things of the state before the entry: the membership, the newest version of a record, and
the entry hash of a given version.

Whether a pattern's logic is sound is not asked here but in `content`: it takes a thousand times longer, depends on
nothing in the log, and members do it when they are about to use a pattern.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple, Protocol

from sharing_protocol.envelope import Envelope
from sharing_protocol.errors import Refused
from sharing_protocol.membership import (
    Membership,
    SignatureCheck,
    after,
    authorize,
    authorize_record,
    check_signature,
)
from sharing_protocol.statements import (
    Admit,
    ChangeAdmins,
    ChangeLog,
    Endorsement,
    Found,
    IncidentAction,
    Marking,
    Opinion,
    Pattern,
    RecordStatement,
    Sighting,
    Statement,
    Unknown,
    Withdrawal,
    parse,
    references_in,
    voice_id,
)
from sharing_protocol.statements.records import Named

LONGEST_VALIDITY = timedelta(days=5 * 366)
_STAYS = frozenset({"member", "forum", "withdrawal", "incident", "incident_action"})
"""What nobody withdraws: an incident is closed, and what was done about it was done."""

_Voice = Opinion | Endorsement
_OnlyOnce = Found | Admit | Withdrawal | IncidentAction


@dataclass(frozen=True, slots=True)
class Head:
    """The newest version of a record.

    Attributes:
        type: `member` or `forum`, or the statement type of a record, such as `pattern`.
        entry: hex leaf hash of the entry that holds this version.
        withdrawn: whether a withdrawal names it.
    """

    id: str
    type: str
    version: int
    entry: str
    author: str
    withdrawn: bool = False


class Records(Protocol):
    """What admission looks up in the state before the entry."""

    def head(self, record_id: str) -> Head | None:
        """The newest version of a record."""
        ...

    def entry_of(self, record_id: str, version: int) -> str | None:
        """Hex leaf hash of the entry with that version."""
        ...


class Claim(NamedTuple):
    """What a record that refers to no other says of itself, as far as its place in the log decides on it.

    Attributes:
        forum, previous, id, type, version, author: as in the statement.
        signer: id of the one key that signed it.
    """

    forum: str | None
    previous: str | None
    id: str
    type: str
    version: int
    author: str
    signer: str


_Record = Claim | RecordStatement
_Beginning = Claim | RecordStatement | Found | Admit

StatementReader = Callable[[Envelope], Statement | Unknown]


def read_statement(envelope: Envelope) -> Statement | Unknown:
    """Read what an envelope says; callers that know something of it already bring their own."""
    return parse(envelope.payload)


@dataclass(frozen=True, slots=True)
class Admission:
    """What an admitted entry changes.

    Attributes:
        statement: what it says.
        membership: the state after it.
        head: the record's new newest version.
        withdrawn: the record that it withdraws, or None.
    """

    statement: Statement
    membership: Membership
    head: Head
    withdrawn: Head | None


def admit(
    envelope: Envelope,
    index: int,
    entry: str,
    membership: Membership,
    records: Records,
    check: SignatureCheck = check_signature,
    read: StatementReader = read_statement,
) -> Admission | Unknown:
    """Decide on one entry, at log index `index`, whose hex leaf hash is `entry`.

    Returns:
        What it changes, or `Unknown` for a statement of a later schema or type, which changes nothing.

    Raises:
        Malformed, Refused: why it may not be there.
    """
    statement = read(envelope)
    if isinstance(statement, Unknown):
        return statement
    authorize(membership, statement, envelope, check)
    return consequences(statement, envelope.payload_sha256, index, entry, membership, records)


def claim_of(statement: Statement | Unknown, signer: str) -> Claim | None:
    """What a record's place decides on, once it is known that this key alone has signed it; None for what takes more.

    Together with `admit_claim` it comes to what `admit` does, but needs nothing of the log: it can be asked elsewhere.

    Raises:
        Refused: what is wrong with the record wherever it stands.
    """
    if not isinstance(statement, RecordStatement) or next(references_in(statement), None) is not None:
        return None
    _check_body(statement)
    return Claim(
        statement.forum,
        statement.previous,
        statement.id,
        statement.type,
        statement.version,
        statement.author,
        signer,
    )


def admit_claim(claim: Claim, entry: str, membership: Membership, records: Records) -> Head:
    """Decide on a record by its claim: it becomes this newest version.

    Raises:
        Refused: why it may not be there; if there is more than one reason, `admit` may give another.
    """
    authorize_record(membership, claim.forum, claim.author, claim.signer)
    return _next_head(claim, entry, records)


def consequences(
    statement: Statement, payload_sha256: str, index: int, entry: str, membership: Membership, records: Records
) -> Admission:
    """What a statement changes at this place, whoever signs it: `admit` without the signatures.

    Whoever collects signatures asks this first, so that nobody signs what the log cannot take.

    Raises:
        Refused: why it may not be there.
    """
    head = _next_head(statement, entry, records)
    withdrawn = None
    if isinstance(statement, RecordStatement):
        _check_body(statement)
        withdrawn = _check_references(statement, records)
    else:
        membership = after(membership, statement, index, payload_sha256)
    return Admission(statement, membership, head, withdrawn)


def record_type(statement: Statement | Claim) -> str:
    """The type of record that a statement is a version of; its id starts with it, `_` written as `-`."""
    if isinstance(statement, _Record):
        return statement.type
    return "forum" if isinstance(statement, Found | ChangeAdmins | ChangeLog) else "member"


def type_named_by(record_id: str) -> str:
    """The type of record that an id says."""
    return record_id.partition("--")[0].replace("-", "_")


def _next_head(statement: Statement | Claim, entry: str, records: Records) -> Head:
    kind = record_type(statement)
    if type_named_by(statement.id) != kind:
        prefix = kind.replace("_", "-")
        raise Refused("invalid_statement", f"the id of this statement starts with {prefix}--", "id")
    head = records.head(statement.id)
    _check_version(statement, head)
    author = statement.author
    if head is not None and isinstance(statement, _Record):
        if head.author != author:
            raise Refused("not_the_author", "only the lab that wrote a record can change it", "author")
        if head.withdrawn:
            raise Refused("withdrawn", "the record was withdrawn; submit a new one under a new id", "id")
    _check_first(statement)
    return Head(statement.id, kind, statement.version, entry, author)


def _check_version(statement: Statement | Claim, head: Head | None) -> None:
    newest = head.version if head else 0
    if statement.version <= newest:
        raise Refused(
            "version_conflict",
            f"version {statement.version} of {statement.id} is in the log with other bytes; the newest is {newest}",
            "version",
        )
    if statement.version != newest + 1:
        raise Refused(
            "version_gap",
            f"the next version of {statement.id} is {newest + 1}, not {statement.version}",
            "version",
        )
    if statement.previous != (head.entry if head else None):
        raise Refused("previous_mismatch", "previous must be the leaf hash of the version before", "previous")


def _check_first(statement: Statement | Claim) -> None:
    # A record begins with one type of statement only, and these begin nothing else.
    if statement.version == 1:
        if not isinstance(statement, _Beginning):
            raise Refused("unknown_member", f"{statement.id} does not exist, so nothing of it can be changed", "id")
    elif isinstance(statement, _OnlyOnce):
        raise Refused("version_conflict", f"{statement.type} is only ever version 1", "version")


def _check_body(statement: RecordStatement) -> None:
    check_dates(statement)
    if statement.body.marking is Marking.RED:
        raise Refused("red_needs_sealing", "TLP:RED is for named recipients only; use amber+strict", "body.marking")


def check_dates(statement: RecordStatement) -> None:
    """Check that a record's times can be.

    Raises:
        Refused: `invalid_dates`.
    """
    body = statement.body
    if body.valid_until <= statement.created:
        raise Refused("invalid_dates", "valid_until is not after created", "body.valid_until")
    if body.valid_until > statement.created + LONGEST_VALIDITY:
        raise Refused("invalid_dates", "valid_until is more than five years away", "body.valid_until")
    if isinstance(statement, Pattern) and statement.body.valid_from >= body.valid_until:
        raise Refused("invalid_dates", "valid_from is not before valid_until", "body.valid_from")
    if isinstance(statement, Sighting):
        start, end = statement.body.period_start, statement.body.period_end
        if start >= end or any(time.hour or time.minute or time.second for time in (start, end)):
            raise Refused("invalid_dates", "a period is of whole days and ends after it starts", "body.period_end")
        if end > statement.created + timedelta(days=1):
            raise Refused("invalid_dates", "the period ends after the sighting was written", "body.period_end")


def _check_references(statement: RecordStatement, records: Records) -> Head | None:
    if isinstance(statement, Withdrawal):
        return _withdrawn(statement, records)
    for named in references_in(statement):
        _check_exists(named, records)
    if isinstance(statement, _Voice):
        _check_voice(statement, records)
    if isinstance(statement, IncidentAction) and statement.body.incident.version != 1:
        raise Refused("unknown_record", "an incident is named by its first version", "body.incident")
    return None


def _withdrawn(statement: Withdrawal, records: Records) -> Head:
    reference = statement.body.record
    head = records.head(reference.id)
    if head is None or head.type in _STAYS:
        raise Refused("unknown_record", f"there is no record {reference.id} to withdraw", "body.record")
    if head.author != statement.author:
        raise Refused("not_the_author", "only the lab that wrote a record can withdraw it", "body.record")
    if head.withdrawn:
        raise Refused("withdrawn", "the record was withdrawn before", "body.record")
    if (reference.version, reference.entry) != (head.version, head.entry):
        raise Refused("previous_mismatch", f"the newest version is {head.version}; withdraw that one", "body.record")
    return head


def _check_exists(named: Named, records: Records) -> None:
    reference = named.reference
    is_right_type = type_named_by(reference.id) == named.type
    if not is_right_type or records.entry_of(reference.id, reference.version) != reference.entry:
        kind = named.type.replace("_", " ")
        raise Refused(
            "unknown_record",
            f"the log has no version {reference.version} of {kind} {reference.id} with that hash",
            named.where,
        )


def _check_voice(statement: _Voice, records: Records) -> None:
    pattern = statement.body.pattern
    expected = voice_id(statement.type, statement.author, pattern.entry)
    if statement.id != expected:
        raise Refused(
            "second_voice",
            f"a lab speaks of a pattern version in one {statement.type} only, which is {expected}; revise that one",
            "id",
        )
    head = records.head(pattern.id)
    # To endorse its own is how a lab brings back what a stolen key made suspect, with the hash that others rely on.
    if isinstance(statement, Opinion) and head is not None and head.author == statement.author:
        raise Refused("own_record", "a lab has no opinion of its own pattern: revise or withdraw it", "body.pattern")
