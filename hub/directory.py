"""Who may act now: the membership as this process knows it, kept in step with the log.

Other processes may extend the log too. So the newest membership entry's index is read along with every request's
nonce (`authentication`), and when it is ahead of ours we read on.
"""

import asyncio

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hub.database import log_store
from hub.errors import LogDamaged
from sharing_protocol import envelope as envelopes
from sharing_protocol.errors import ProtocolError
from sharing_protocol.membership import ADMIN_ROLE, Membership, after, authorize
from sharing_protocol.statements import MembershipStatement, parse


class Directory:
    """The membership after the newest membership entry that this process has seen."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._lock = asyncio.Lock()
        self._reads_begun = 0
        self.membership = Membership()

    def member_of(self, key_id: str) -> str:
        """The lab whose key this is; for an admin's key, and one that is not registered, the key itself."""
        key = self.membership.keys.get(key_id)
        return key.holder if key is not None and key.role != ADMIN_ROLE else key_id

    def advance(self, membership: Membership) -> None:
        """Take over a state that was committed, unless ours is newer."""
        if membership.as_of > self.membership.as_of:
            self.membership = membership

    async def refresh(self) -> None:
        """Catch up with everything that was committed before this call.

        Many callers at once share a read, so that requests with unknown keys cost the database next to nothing.
        """
        awaited = self._reads_begun + 1
        async with self._lock:
            if self._reads_begun >= awaited:
                return
            self._reads_begun += 1
            async with self._engine.connect() as connection:
                await self.current(connection)

    async def current(self, connection: AsyncConnection) -> Membership:
        """The membership as of the newest entry that was committed, which the connection can see."""
        head = await log_store.read_head(connection)
        self.advance(await self.at(connection, head.last_membership))
        return self.membership

    async def at(self, connection: AsyncConnection, last: int) -> Membership:
        """The membership once the entry at index `last`, which is the newest of its kind, is in force.

        Raises:
            LogDamaged: a stored membership entry that the rules do not allow.
        """
        membership = self.membership
        if membership.as_of >= last:
            return membership
        for index, entry in await log_store.read_membership_entries(connection, membership.as_of, last):
            membership = _fold(membership, index, entry)
        if membership.as_of != last:
            raise LogDamaged(f"membership entry {last} is missing")
        return membership


def _fold(membership: Membership, index: int, entry: bytes) -> Membership:
    # Checked again, although it was before it was logged: what may sign next is computed from these few entries,
    # and whoever can write to the database must not be able to give rights away unnoticed.
    try:
        envelope = envelopes.parse(entry)
        statement = parse(envelope.payload)
        if not isinstance(statement, MembershipStatement):
            raise LogDamaged(f"entry {index} is not the membership statement that it is filed as")
        authorize(membership, statement, envelope)
        return after(membership, statement, index, envelope.payload_sha256)
    except ProtocolError as error:
        raise LogDamaged(f"entry {index} is not allowed where it stands: {error.detail}") from error
