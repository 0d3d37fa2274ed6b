"""What witnesses have cosigned: of the newest cosigned checkpoints everything, and of each witness its newest.

The caller commits.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import RowMapping, func, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from hub.database.tables import checkpoints, cosignatures

KEPT_CHECKPOINTS = 32

_PRUNE = """
    DELETE FROM cosignatures AS old
    WHERE tree_size < (
        SELECT min(tree_size) FROM (SELECT DISTINCT tree_size FROM cosignatures ORDER BY 1 DESC LIMIT :kept) AS newest
    ) AND EXISTS (
        SELECT FROM cosignatures AS newer WHERE newer.key_id = old.key_id AND newer.tree_size > old.tree_size
    )
"""


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A witness's newest cosignature of one checkpoint: its line, with its newline, and the time that it says."""

    size: int
    key_id: str
    timestamp: int
    line: str


async def put(connection: AsyncConnection, given: Sequence[Cosignature]) -> None:
    """Keep cosignatures, each unless a later one of the same witness and checkpoint is kept; forget old ones."""
    statement = upsert(cosignatures)
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=[cosignatures.c.tree_size, cosignatures.c.key_id],
            set_={name: statement.excluded[name] for name in ("timestamp", "line")},
            where=statement.excluded.timestamp > cosignatures.c.timestamp,
        ),
        [{"tree_size": one.size, "key_id": one.key_id, "timestamp": one.timestamp, "line": one.line} for one in given],
    )
    await connection.execute(text(_PRUNE), {"kept": KEPT_CHECKPOINTS})


async def read(connection: AsyncConnection, size: int) -> list[Cosignature]:
    """The cosignatures of one checkpoint, the newest first."""
    query = select(cosignatures).where(cosignatures.c.tree_size == size)
    rows = await connection.execute(query.order_by(cosignatures.c.timestamp.desc(), cosignatures.c.key_id))
    return [_cosignature(row) for row in rows.mappings()]


async def read_by(connection: AsyncConnection, key_ids: Collection[str]) -> list[tuple[str, Cosignature]]:
    """What these witnesses cosigned, with the notes that the log signed: the largest checkpoint first, of each the
    newest cosignature first.
    """
    query = select(checkpoints.c.note, cosignatures).join_from(
        cosignatures, checkpoints, checkpoints.c.tree_size == cosignatures.c.tree_size
    )
    query = query.where(cosignatures.c.key_id.in_(list(key_ids)))
    order = (cosignatures.c.tree_size.desc(), cosignatures.c.timestamp.desc(), cosignatures.c.key_id)
    return [(row["note"], _cosignature(row)) for row in (await connection.execute(query.order_by(*order))).mappings()]


async def read_newest(connection: AsyncConnection) -> dict[str, tuple[int, int]]:
    """By witness key: entries in the largest checkpoint that it cosigned, and when it cosigned last."""
    columns = cosignatures.c
    query = select(columns.key_id, func.max(columns.tree_size), func.max(columns.timestamp)).group_by(columns.key_id)
    return {row[0]: (row[1], row[2]) for row in await connection.execute(query)}


def _cosignature(row: RowMapping) -> Cosignature:
    return Cosignature(row["tree_size"], row["key_id"], row["timestamp"], row["line"])
