"""Reading the membership ahead, from entries that are verified but not stored: nothing of it is kept."""

from __future__ import annotations

from member_client.sync.store import Store
from sharing_protocol import envelope as envelopes
from sharing_protocol.admission import Admission, Head, admit
from sharing_protocol.errors import ProtocolError
from sharing_protocol.membership import Membership
from sharing_protocol.statements import MembershipStatement


class ReadingAhead:
    """Folds the membership statements of the entries behind the store; also the `admission.Records` for it.

    Attributes:
        membership: the state after the entries taken so far.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._heads: dict[str, Head] = {}
        self.membership: Membership = store.membership()

    def take(self, index: int, entry: bytes, leaf: bytes) -> MembershipStatement | None:
        """Take one entry; give what it says, if it is an admitted membership statement. All else changes nothing."""
        try:
            signed = envelopes.parse(entry)
            # Most entries are records. A type can hide from this only behind escapes.
            if b"membership." not in signed.payload and b"\\u" not in signed.payload:
                return None
            admission = admit(signed, index, leaf.hex(), self.membership, self)
        except ProtocolError:
            return None
        if not isinstance(admission, Admission) or not isinstance(admission.statement, MembershipStatement):
            return None
        self.membership = admission.membership
        self._heads[admission.head.id] = admission.head
        return admission.statement

    def head(self, record_id: str) -> Head | None:
        """See `admission.Records`."""
        return self._heads.get(record_id) or self._store.head(record_id)

    def entry_of(self, record_id: str, version: int) -> str | None:
        """See `admission.Records`; no membership statement refers to a version."""
        return self._store.entry_of(record_id, version)
