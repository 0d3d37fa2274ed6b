"""Which stored entries decide about one entry, with their proofs: for whoever does not hold the log."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from member_client.sync.store import Store
from member_client.sync.stored_tree import StoredTree
from sharing_protocol import envelope as envelopes
from sharing_protocol import statements
from sharing_protocol.errors import ProtocolError
from sharing_protocol.keys import PublicKey
from sharing_protocol.log_excerpt import LoggedEntry
from sharing_protocol.statements import (
    AddKey,
    Admit,
    ChangeAdmins,
    MembershipStatement,
    RecordStatement,
    Statement,
    Unknown,
    Withdrawal,
    references_in,
)
from sharing_protocol.statements.header import comparable_name


class Excerpts:
    """Looks up what belongs to an entry, in a store that holds all entries of its checkpoint."""

    def __init__(self, store: Store, size: int) -> None:
        """Take a store and the size of the tree to prove inclusion in."""
        self._store = store
        self._size = size
        self.tree = StoredTree(store)

    def logged(self, indices: Iterable[int]) -> list[LoggedEntry]:
        """Entries with their proofs, by rising index."""
        return [
            LoggedEntry(index, self._store.entry(index) or b"", self.tree.inclusion_proof(index, self._size))
            for index in sorted(set(indices))
        ]

    def histories(self, record_ids: set[str]) -> list[int]:
        """Indices of every admitted membership entry about these records: the forum's, or labs'."""
        return [index for index, statement in self._membership if statement.id in record_ids]

    def deciding(self, index: int) -> list[int]:
        """Indices of the entries by which the entry at `index` is judged, as far as they are known here.

        The forum's history; those of the author, of the signing keys' holders and of whoever has a name or a key that
        the entry claims; and the versions and withdrawals before it of the records that it names.
        """
        signed, statement = _read(self._store.entry(index) or b"")
        if statement is None:
            return [0]
        membership = self._store.membership()
        forum = membership.forum
        records = self._records(statement, index)
        keys = [signature.key_id for signature in signed.signatures] + _claimed_keys(statement)
        ids = {forum.id if forum is not None else "", statement.author, statement.id}
        ids |= {membership.keys[key].holder for key in keys if key in membership.keys}
        ids |= {record_author for _, record_author in records}
        if isinstance(statement, Admit):
            name = comparable_name(statement.body.name)
            ids |= {member.id for member in membership.members.values() if comparable_name(member.name) == name}
        return [found for found in [*self.histories(ids), *(place for place, _ in records)] if found != index]

    def _records(self, statement: Statement, index: int) -> list[tuple[int, str]]:
        """Index and author of the record versions before `index` that decide about the statement."""
        store = self._store
        found = []
        if isinstance(statement, RecordStatement):
            near = (statement.version, statement.version - 1)
            found += [version for version in store.versions(id=statement.id) if version.version in near]
            found += store.versions(type="withdrawal", refers_to=statement.id)
        if isinstance(statement, Withdrawal):
            named = statement.body.record.id
            found += store.versions(id=named, newest_only=True) + store.versions(type="withdrawal", refers_to=named)
        elif isinstance(statement, RecordStatement):
            for reference in (other.reference for other in references_in(statement)):
                same = store.versions(id=reference.id)
                found += [version for version in same if version.version == reference.version]
        return [(version.index, version.author) for version in found if version.index < index]

    @cached_property
    def _membership(self) -> list[tuple[int, MembershipStatement]]:
        found = []
        for index, data in self._store.membership_log():
            statement = statements.parse(envelopes.parse(data).payload)
            if isinstance(statement, MembershipStatement):
                found.append((index, statement))
        return found


def _read(entry: bytes) -> tuple[envelopes.Envelope, Statement | None]:
    nothing = envelopes.Envelope(b"", "", ())
    try:
        signed = envelopes.parse(entry)
        statement = statements.parse(signed.payload)
    except ProtocolError:
        return nothing, None
    return signed, None if isinstance(statement, Unknown) else statement


def _claimed_keys(statement: Statement) -> list[str]:
    """Ids of the keys that a statement would register."""
    claimed: list[str] = []
    if isinstance(statement, Admit):
        claimed = [registration.key for registration in statement.body.keys]
    if isinstance(statement, AddKey):
        claimed = [statement.body.key.key]
    if isinstance(statement, ChangeAdmins):
        claimed = [admin.key for admin in statement.body.admins]
    found = []
    for text in claimed:
        try:
            found.append(PublicKey.parse(text).key_id)
        except ProtocolError:
            continue
    return found
