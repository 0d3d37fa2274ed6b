"""Reading and extending the stored log. The caller opens the transaction and commits it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy import bindparam, func, insert, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from hub.database.connections import LOG_GREW
from hub.database.tables import MEMBERSHIP_ENTRIES, checkpoints, log_entries, log_head, record_heads, records, tiles
from hub.errors import LogDamaged
from hub.projection import HeadRow, RecordRow
from sharing_protocol.admission import Head
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.errors import Malformed
from sharing_protocol.merkle import HASH_BYTES
from sharing_protocol.tiles import TILE_WIDTH, Bundle, Tile, split_hashes

# Any constant will do; advisory locks are counted for each database apart.
_LOG_LOCK = 0x5354494C4C02


@dataclass(frozen=True, slots=True)
class LogHead:
    """How long the log is, and where its newest membership entry stands (-1: nowhere).

    Attributes:
        root: of its checkpoint, b"" if there is none of that size.
    """

    size: int
    last_membership: int
    root: bytes = b""


@dataclass(frozen=True, slots=True)
class NewEntry:
    """A row of `log_entries`."""

    index: int
    leaf_hash: bytes
    payload_sha256: bytes
    type: str
    envelope: bytes


async def lock_log(connection: AsyncConnection) -> None:
    """Wait until no other process extends the log, and keep the others waiting until this transaction ends."""
    # The commit has to be durable before it is acknowledged, whatever this database's default is. "local" and
    # stronger settings are the operator's to choose.
    await connection.execute(
        text(
            "SELECT CASE current_setting('synchronous_commit') WHEN 'off' "
            "THEN set_config('synchronous_commit', 'on', true) END, pg_advisory_xact_lock(:key)"
        ),
        {"key": _LOG_LOCK},
    )


async def read_head(connection: AsyncConnection) -> LogHead:
    """The log's length as committed.

    Raises:
        LogDamaged: its row is gone.
    """
    query = select(log_head.c.tree_size, log_head.c.last_membership, func.coalesce(checkpoints.c.root, b""))
    query = query.outerjoin_from(log_head, checkpoints, checkpoints.c.tree_size == log_head.c.tree_size)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise LogDamaged("the log's head is missing")
    return LogHead(*row)


async def read_checkpoint(connection: AsyncConnection, size: int | None = None) -> tuple[int, str] | None:
    """`(size, note)` of the newest checkpoint, or of the one for `size` entries; None if there is none."""
    query = select(checkpoints.c.tree_size, checkpoints.c.note)
    if size is None:
        query = query.order_by(checkpoints.c.tree_size.desc()).limit(1)
    else:
        query = query.where(checkpoints.c.tree_size == size)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else (row[0], row[1])


async def read_tiles(
    connection: AsyncConnection, places: Collection[tuple[int, int]]
) -> dict[tuple[int, int], list[bytes]]:
    """Hashes of the tiles at these `(level, index)`, as far as they exist.

    Raises:
        LogDamaged: one does not consist of hashes.
    """
    query = select(tiles.c.level, tiles.c.index, tiles.c.hashes)
    rows = await connection.execute(query.where(tuple_(tiles.c.level, tiles.c.index).in_(list(places))))
    found = {}
    for level, index, hashes in rows:
        try:
            found[level, index] = split_hashes(hashes, len(hashes) // HASH_BYTES)
        except Malformed as error:
            raise LogDamaged(f"tile {level}/{index} does not consist of hashes") from error
    return found


async def read_tile(connection: AsyncConnection, tile: Tile) -> bytes | None:
    """A tile's bytes, or None if the published log is not that wide."""
    query = select(tiles.c.hashes).where(tiles.c.level == tile.level, tiles.c.index == tile.index)
    hashes: bytes | None = (await connection.execute(query)).scalar_one_or_none()
    # Hashes only ever follow on the right: a narrower tile is the beginning of the wider one.
    width = tile.width * HASH_BYTES
    return hashes[:width] if hashes is not None and len(hashes) >= width else None


async def read_bundle(connection: AsyncConnection, bundle: Bundle) -> list[bytes] | None:
    """A bundle's entries, or None if the published log has not that many."""
    start = bundle.index * TILE_WIDTH
    query = (
        select(log_entries.c.envelope)
        .where(log_entries.c.index >= start, log_entries.c.index < start + bundle.width)
        .order_by(log_entries.c.index)
    )
    entries = list((await connection.execute(query)).scalars())
    return entries if len(entries) == bundle.width else None


async def read_membership_entries(connection: AsyncConnection, after: int, last: int) -> list[tuple[int, bytes]]:
    """`(index, envelope)` of the membership entries beyond index `after`, up to `last`."""
    query = (
        select(log_entries.c.index, log_entries.c.envelope)
        .where(log_entries.c.index > after, log_entries.c.index <= last, text(MEMBERSHIP_ENTRIES))
        .order_by(log_entries.c.index)
    )
    return [(index, envelope) for index, envelope in await connection.execute(query)]


async def find_logged(connection: AsyncConnection, payloads: Collection[bytes]) -> dict[bytes, int]:
    """Where payloads (by raw SHA-256) are in the log, as far as they are."""
    query = select(log_entries.c.payload_sha256, log_entries.c.index)
    rows = await connection.execute(query.where(log_entries.c.payload_sha256.in_(list(payloads))))
    return {row[0]: row[1] for row in rows}


async def read_leaf_hash(connection: AsyncConnection, index: int) -> bytes:
    """The leaf hash of an entry that is in the log."""
    query = select(log_entries.c.leaf_hash).where(log_entries.c.index == index)
    leaf: bytes = (await connection.execute(query)).scalar_one()
    return leaf


async def read_entry(connection: AsyncConnection, index: int) -> bytes:
    """The envelope of an entry that is in the log."""
    envelope: bytes = (
        await connection.execute(select(log_entries.c.envelope).where(log_entries.c.index == index))
    ).scalar_one()
    return envelope


async def read_heads(connection: AsyncConnection, ids: Collection[str]) -> dict[str, Head]:
    """The newest versions of these records, as far as they exist."""
    columns = record_heads.c
    query = select(
        columns.id, columns.type, columns.version, columns.leaf_hash, columns.author, columns.withdrawn_at
    ).where(columns.id.in_(list(ids)))
    return {
        id_: Head(id_, kind, version, leaf.hex(), author, withdrawn_at is not None)
        for id_, kind, version, leaf, author, withdrawn_at in await connection.execute(query)
    }


async def read_versions(
    connection: AsyncConnection, versions: Collection[tuple[str, int]]
) -> dict[tuple[str, int], str]:
    """Hex leaf hashes of these `(record id, version)`, as far as they exist."""
    if not versions:
        return {}
    query = select(records.c.id, records.c.version, records.c.leaf_hash)
    rows = await connection.execute(query.where(tuple_(records.c.id, records.c.version).in_(list(versions))))
    return {(id_, version): leaf.hex() for id_, version, leaf in rows}


async def append(
    connection: AsyncConnection,
    entries: Sequence[NewEntry],
    changed_tiles: Mapping[tuple[int, int], Sequence[bytes]],
    record_rows: Sequence[RecordRow],
    head_rows: Sequence[HeadRow],
    withdrawals: Mapping[str, int],
) -> None:
    """Write entries, the tiles they changed, and what they say of records.

    `withdrawals` are record ids, and the index of the entry that withdraws each.
    """
    await connection.execute(
        insert(log_entries),
        [
            {
                "index": entry.index,
                "leaf_hash": entry.leaf_hash,
                "payload_sha256": entry.payload_sha256,
                "type": entry.type,
                "envelope": entry.envelope,
            }
            for entry in entries
        ],
    )
    statement = upsert(tiles)
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=[tiles.c.level, tiles.c.index], set_={"hashes": statement.excluded.hashes}
        ),
        [
            {"level": level, "index": index, "hashes": b"".join(hashes)}
            for (level, index), hashes in changed_tiles.items()
        ],
    )
    if record_rows:
        await connection.execute(insert(records), record_rows)
    heads = upsert(record_heads)
    await connection.execute(
        heads.on_conflict_do_update(
            index_elements=[record_heads.c.id],
            set_={name: heads.excluded[name] for name in ("version", "entry", "leaf_hash")},
        ),
        head_rows,
    )
    if withdrawals:
        await connection.execute(
            update(record_heads).where(record_heads.c.id == bindparam("record")).values(withdrawn_at=bindparam("at")),
            [{"record": record, "at": index} for record, index in withdrawals.items()],
        )


async def advance_head(
    connection: AsyncConnection, old: LogHead, new: LogHead, checkpoint: Checkpoint, note: str
) -> bool:
    """Store the signed checkpoint and move the head, if it is still where it was; say whether it was."""
    await connection.execute(insert(checkpoints), {"tree_size": checkpoint.size, "root": checkpoint.root, "note": note})
    moved = await connection.execute(
        update(log_head)
        .where(log_head.c.tree_size == old.size)
        .values(tree_size=new.size, last_membership=new.last_membership)
    )
    # Delivered with the commit, to whoever listens (`following`).
    await connection.execute(text("SELECT pg_notify(:channel, :size)"), {"channel": LOG_GREW, "size": str(new.size)})
    return moved.rowcount == 1


async def read_size(connection: psycopg.AsyncConnection[Any]) -> int:
    """The log's length as committed, over a plain connection."""
    row = await (await connection.execute("SELECT tree_size FROM log_head")).fetchone()
    return int(row[0]) if row is not None else 0
