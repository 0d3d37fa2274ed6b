"""Membership statements that gather signatures."""

from dataclasses import dataclass

from sqlalchemy import exists, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from hub.database.tables import log_entries, proposals

MAX_PENDING = 256


@dataclass(frozen=True, slots=True)
class StoredProposal:
    """A proposal as stored.

    Attributes:
        payload_sha256: raw.
        envelope: with the signatures so far.
        logged: whether the log holds it by now.
        dropped_because: why it can never be logged any more, or None.
    """

    payload_sha256: bytes
    envelope: bytes
    logged: bool
    dropped_because: str | None


_logged = exists().where(log_entries.c.payload_sha256 == proposals.c.payload_sha256)
_columns = (proposals.c.payload_sha256, proposals.c.envelope, _logged, proposals.c.dropped_because)


async def read_pending(connection: AsyncConnection) -> list[StoredProposal]:
    """The proposals that are neither logged nor dropped, oldest first; at most `MAX_PENDING`."""
    query = (
        select(*_columns)
        .where(proposals.c.dropped_because.is_(None), ~_logged)
        .order_by(proposals.c.created_at, proposals.c.payload_sha256)
        .limit(MAX_PENDING)
    )
    return [StoredProposal(*row) for row in await connection.execute(query)]


async def read(connection: AsyncConnection, payload_sha256: bytes, *, lock: bool = False) -> StoredProposal | None:
    """One proposal; with `lock`, nobody else changes it before this transaction ends."""
    query = select(*_columns).where(proposals.c.payload_sha256 == payload_sha256)
    if lock:
        query = query.with_for_update(of=proposals)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else StoredProposal(*row)


async def count_pending(connection: AsyncConnection) -> int:
    """How many proposals are neither logged nor dropped."""
    query = select(func.count()).select_from(proposals).where(proposals.c.dropped_because.is_(None), ~_logged)
    return (await connection.execute(query)).scalar_one()


async def begin(connection: AsyncConnection, payload_sha256: bytes, envelope: bytes) -> None:
    """Store a new proposal; no effect if it is there."""
    statement = upsert(proposals).values(payload_sha256=payload_sha256, envelope=envelope)
    await connection.execute(statement.on_conflict_do_nothing())


async def put(connection: AsyncConnection, payload_sha256: bytes, envelope: bytes) -> None:
    """Store a proposal's envelope with more signatures."""
    await connection.execute(
        update(proposals).where(proposals.c.payload_sha256 == payload_sha256).values(envelope=envelope)
    )


async def drop(connection: AsyncConnection, payload_sha256: bytes, reason: str) -> None:
    """Note why a proposal can never be logged any more."""
    await connection.execute(
        update(proposals).where(proposals.c.payload_sha256 == payload_sha256).values(dropped_because=reason)
    )
