"""Remembering the nonces of requests, so that none is accepted twice by any process."""

from datetime import datetime

from sqlalchemy import delete, exists, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from hub.database.tables import log_halt, log_head, request_nonces


async def remember(connection: AsyncConnection, key_id: str, nonce: str, expires: datetime) -> tuple[bool, int, bool]:
    """Store a nonce, in one round trip.

    Returns:
        Whether it was new, the index of the newest membership entry at that time (-1: none), and whether the log
        is halted.
    """
    # Durably, although relaxed commits would be faster: after a crash Postgres may have lost the last relaxed ones,
    # and the requests they belong to could be replayed. (`pg_postmaster_start_time` would not tell: a crashed
    # backend makes the server recover without a new postmaster.) Concurrent requests share their flushes.
    added = (
        upsert(request_nonces)
        .values(key_id=key_id, nonce=nonce, expires=expires)
        .on_conflict_do_nothing()
        .returning(request_nonces.c.nonce)
        .cte("added")
    )
    query = select(
        exists(select(added.c.nonce)),
        select(log_head.c.last_membership).scalar_subquery(),
        exists(select(log_halt.c.single)),
    )
    fresh, last_membership, halted = (await connection.execute(query)).one()
    return fresh, last_membership, halted


async def forget_expired(connection: AsyncConnection, now: datetime) -> int:
    """Delete the nonces that no request can carry any more; return how many."""
    deleted = await connection.execute(delete(request_nonces).where(request_nonces.c.expires < now))
    return deleted.rowcount
