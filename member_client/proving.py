"""Making a proof of a record for somebody outside, from the verified log alone."""

from __future__ import annotations

from member_client.errors import InvalidInput
from member_client.patterns.finding import resolve
from member_client.patterns.presenting import choose
from member_client.session import Session
from member_client.sync.excerpts import Excerpts
from sharing_protocol import envelope as envelopes
from sharing_protocol import statements
from sharing_protocol.record_proof import ProvenStatement, RecordProof, own_signatures, verify
from sharing_protocol.statements import MembershipStatement
from sharing_protocol.tlog_proof import TlogProof

_MEMBERSHIP = ("forum", "member")


def prove(session: Session, record: str, version: int | None = None) -> tuple[bytes, ProvenStatement]:
    """Make the proof file of a record's version, and check it as its reader will.

    Args:
        record: the record's id, or the beginning of one; a pattern's unless it names another type.
        version: by default the newest.

    Raises:
        InvalidInput: there is no such record; nothing was synced, or not all of it.
        Malformed: `not_a_proof`: it would be too large.
        Unproven: the store is damaged.
    """
    store, forum = session.store, session.forum
    trusted = store.trusted()
    if trusted is None or store.cursor != trusted.checkpoint.size:
        raise InvalidInput("not all of the log is stored here: the last sync was interrupted", "run `stillwatch sync`")
    index, lab = _find(session, record, version)
    excerpts = Excerpts(store, trusted.checkpoint.size)
    [proven] = excerpts.logged([index])
    path = excerpts.logged(place for place in excerpts.histories({forum.id, lab}) if place != index)
    proof = TlogProof(index, proven.steps, own_signatures(trusted.note, forum.logs.at(trusted.checkpoint.size)))
    data = RecordProof(proven.entry, proof, tuple(path)).encode()
    return data, verify(data, forum.fingerprint)


def _find(session: Session, record: str, version: int | None) -> tuple[int, str]:
    """Log index of a record's version, and whose history decides whether it could be said."""
    kind, separator, _ = record.partition("--")
    if kind in _MEMBERSHIP and separator:
        return _find_membership(session, record, version), record
    found = choose(resolve(session.store, record, kind.replace("-", "_") if separator else "pattern"), version)
    return found.index, found.author


def _find_membership(session: Session, record: str, version: int | None) -> int:
    found = {}
    for index, data in session.store.membership_log():
        statement = statements.parse(envelopes.parse(data).payload)
        if isinstance(statement, MembershipStatement) and statement.id == record:
            found[statement.version] = index
    if not found:
        raise InvalidInput(f"there is no {record} here", "give the whole id; run `stillwatch sync`, or check it")
    if version is not None and version not in found:
        raise InvalidInput(f"{record} has the versions 1 to {max(found)}")
    return found[version or max(found)]
