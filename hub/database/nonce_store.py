"""Remembering the nonces of requests, so that none is accepted twice by any process."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, text
from sqlalchemy.ext.asyncio import AsyncConnection

from hub.database.tables import request_nonces

# Durably, although relaxed commits would be faster: after a crash Postgres may have lost the last relaxed ones, and
# the requests they belong to could be replayed. (`pg_postmaster_start_time` would not tell: a crashed backend makes
# the server recover without a new postmaster.)
_REMEMBER = text("""
    WITH added AS (
        INSERT INTO request_nonces (key_id, nonce, expires)
        SELECT * FROM unnest(
            CAST(:key_ids AS text[]), CAST(:nonces AS text[]), CAST(:expirations AS timestamptz[])
        )
        ON CONFLICT DO NOTHING
        RETURNING key_id, nonce
    )
    SELECT
        (SELECT coalesce(array_agg(ARRAY[key_id, nonce]), '{}') FROM added),
        (SELECT last_membership FROM log_head),
        EXISTS (SELECT FROM log_halt)
""")


@dataclass(frozen=True, slots=True, order=True)
class Nonce:
    """A nonce of a key, and when no request can carry it any more."""

    key_id: str
    nonce: str
    expires: datetime


@dataclass(frozen=True, slots=True)
class Remembered:
    """What storing nonces showed.

    Attributes:
        fresh: `(key id, nonce)` of those that were new.
        last_membership: index of the newest membership entry at that time, -1 for none.
        halted: whether the log is.
    """

    fresh: frozenset[tuple[str, str]]
    last_membership: int
    halted: bool


async def remember(connection: AsyncConnection, nonces: Sequence[Nonce]) -> Remembered:
    """Store nonces, in one round trip and one commit."""
    # In one order: two processes that are sent the same requests must not wait for each other.
    ordered = sorted(nonces)
    given = {
        "key_ids": [one.key_id for one in ordered],
        "nonces": [one.nonce for one in ordered],
        "expirations": [one.expires for one in ordered],
    }
    added, last_membership, halted = (await connection.execute(_REMEMBER, given)).one()
    return Remembered(frozenset((key_id, nonce) for key_id, nonce in added), last_membership, halted)


async def forget_expired(connection: AsyncConnection, now: datetime) -> int:
    """Delete the nonces that no request can carry any more; return how many."""
    deleted = await connection.execute(delete(request_nonces).where(request_nonces.c.expires < now))
    return deleted.rowcount
