"""Which forum may be founded on this hub: the operator says so, before anyone founds it."""

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from hub.database.tables import forum, hub_binding


async def read_binding(connection: AsyncConnection) -> str | None:
    """The fingerprint (hex) that the hub is bound to, None for none."""
    fingerprint: bytes | None = (await connection.execute(select(hub_binding.c.fingerprint))).scalar_one_or_none()
    return None if fingerprint is None else fingerprint.hex()


def founded_forum(connection: Connection) -> str | None:
    """The fingerprint (hex) of the forum that the log belongs to already, None while it is empty."""
    fingerprint: bytes | None = connection.execute(select(forum.c.fingerprint)).scalar_one_or_none()
    return None if fingerprint is None else fingerprint.hex()


def bind(connection: Connection, fingerprint: str) -> None:
    """Bind the hub to a forum, in place of any that it was bound to."""
    statement = upsert(hub_binding).values(fingerprint=bytes.fromhex(fingerprint))
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[hub_binding.c.single],
            set_={"fingerprint": statement.excluded.fingerprint, "bound_at": statement.excluded.bound_at},
        )
    )
