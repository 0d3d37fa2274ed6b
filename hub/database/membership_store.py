"""Writing the membership's projection."""

from sqlalchemy import Table
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from hub.database.tables import forum, member_keys, members
from hub.projection import forum_rows, key_rows, member_rows
from sharing_protocol.membership import Membership


async def write_membership(connection: AsyncConnection, before: Membership, now: Membership) -> None:
    """Store what differs between two states. Nothing is ever deleted: keys and labs only change their status."""
    if now is before:
        return
    for table, old, new in (
        (forum, forum_rows(before), forum_rows(now)),
        (members, member_rows(before), member_rows(now)),
        (member_keys, key_rows(before), key_rows(now)),
    ):
        (key,) = (column.name for column in table.primary_key)
        rows = [dict(row) for row in old]
        known = {row[key]: row for row in rows}
        changed = [row for row in map(dict, new) if known.get(row[key]) != row]
        if changed:
            await _put(connection, table, key, changed)


async def _put(connection: AsyncConnection, table: Table, key: str, rows: list[dict[str, object]]) -> None:
    statement = upsert(table)
    values = {column.name: statement.excluded[column.name] for column in table.columns if column.name != key}
    await connection.execute(statement.on_conflict_do_update(index_elements=[key], set_=values), rows)
