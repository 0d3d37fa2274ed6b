"""Reading and extending the stored log. The caller opens the transaction and commits it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import orjson
import psycopg
from sqlalchemy import bindparam, select, text, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from hub.database.connections import LOG_GREW
from hub.database.tables import MEMBERSHIP_ENTRIES, checkpoints, log_entries, record_heads, tiles
from hub.errors import LogDamaged
from hub.projection import HeadRow, RecordRow
from sharing_protocol.admission import Head
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.errors import Malformed
from sharing_protocol.merkle import HASH_BYTES
from sharing_protocol.tiles import TILE_WIDTH, Bundle, Tile, split_hashes

# Any constant will do; advisory locks are counted for each database apart.
_LOG_LOCK = 0x5354494C4C02

# What every batch says to the database is said in SQL that is made once: putting an expression together and rendering
# it took longer than the database did. A batch's rows go as arrays, one statement for all of them.
#
# The commit has to be durable before it is acknowledged, whatever this database's default is. "local" and stronger
# settings are the operator's to choose.
_LOCK = text("""
    SELECT CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', true) END,
        pg_advisory_xact_lock(:key)
""")
_HEAD = text("""
    SELECT log_head.tree_size, last_membership, coalesce(root, '')
    FROM log_head LEFT JOIN checkpoints ON checkpoints.tree_size = log_head.tree_size
""")
# What `look` reads, at one moment and in one round trip.
_LOOK = text("""
    SELECT log_head.tree_size, last_membership, coalesce(root, ''),
        EXISTS (SELECT FROM log_halt),
        (
            SELECT jsonb_agg(jsonb_build_array(encode(payload_sha256, 'hex'), "index"))
            FROM log_entries WHERE payload_sha256 = ANY(CAST(:payloads AS bytea[]))
        ),
        (
            SELECT jsonb_agg(
                jsonb_build_array(id, type, version, encode(leaf_hash, 'hex'), author, withdrawn_at IS NOT NULL)
            )
            FROM record_heads WHERE id = ANY(CAST(:ids AS text[]))
        ),
        (
            SELECT jsonb_agg(jsonb_build_array(records.id, records.version, encode(leaf_hash, 'hex')))
            FROM unnest(CAST(:version_ids AS text[]), CAST(:versions AS integer[])) AS asked (id, version)
            JOIN records ON records.id = asked.id AND records.version = asked.version
        )
    FROM log_head LEFT JOIN checkpoints ON checkpoints.tree_size = log_head.tree_size
""")
_BUNDLE = b'SELECT envelope FROM log_entries WHERE "index" >= %s AND "index" < %s ORDER BY "index"'
_LOGGED = text('SELECT payload_sha256, "index" FROM log_entries WHERE payload_sha256 = ANY(CAST(:payloads AS bytea[]))')
_HEADS = text("""
    SELECT id, type, version, leaf_hash, author, withdrawn_at FROM record_heads WHERE id = ANY(CAST(:ids AS text[]))
""")
_APPEND = text("""
    WITH entries AS (
        INSERT INTO log_entries ("index", leaf_hash, payload_sha256, type, envelope)
        SELECT * FROM unnest(
            CAST(:entries AS bigint[]), CAST(:leaves AS bytea[]), CAST(:payloads AS bytea[]), CAST(:types AS text[]),
            CAST(:envelopes AS bytea[])
        )
    ), changed AS (
        INSERT INTO tiles (level, "index", hashes)
        SELECT * FROM unnest(CAST(:levels AS smallint[]), CAST(:places AS bigint[]), CAST(:hashes AS bytea[]))
        ON CONFLICT (level, "index") DO UPDATE SET hashes = excluded.hashes
    ), versions AS (
        INSERT INTO records (
            entry, leaf_hash, type, id, version, author, created, kind, title, techniques, severity, marking,
            valid_until, refers_to, signer, statement
        )
        SELECT * FROM jsonb_to_recordset(CAST(:records AS jsonb)) AS record (
            entry bigint, leaf_hash bytea, type text, id text, version integer, author text, created timestamptz,
            kind text, title text, techniques text[], severity text, marking text, valid_until timestamptz,
            refers_to text, signer text, statement jsonb
        )
    )
    INSERT INTO record_heads (id, type, version, entry, leaf_hash, author, withdrawn_at)
    SELECT * FROM jsonb_to_recordset(CAST(:heads AS jsonb)) AS head (
        id text, type text, version integer, entry bigint, leaf_hash bytea, author text, withdrawn_at bigint
    )
    ON CONFLICT (id) DO UPDATE SET version = excluded.version, entry = excluded.entry, leaf_hash = excluded.leaf_hash
""")
_ADVANCE = text("""
    WITH signed AS (
        INSERT INTO checkpoints (tree_size, root, note) VALUES (:size, :root, :note)
    ), moved AS (
        UPDATE log_head SET tree_size = :size, last_membership = :last_membership WHERE tree_size = :old
        RETURNING tree_size
    )
    SELECT (SELECT count(*) FROM moved), pg_notify(:channel, CAST(:size AS text))
""")


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


@dataclass(frozen=True, slots=True)
class Known:
    """What the log knows of a batch.

    Attributes:
        halted: whether the log must not be extended (`halt_store`).
        logged: indices of its payloads (raw SHA-256) that are logged.
        heads: newest versions of the records that it mentions, by id.
        versions: hex leaf hashes of the `(record id, version)` that it mentions.
    """

    head: LogHead
    halted: bool
    logged: dict[bytes, int]
    heads: dict[str, Head]
    versions: dict[tuple[str, int], str]


async def look(
    connection: AsyncConnection,
    payloads: Collection[bytes],
    ids: Collection[str],
    versions: Collection[tuple[str, int]],
) -> Known:
    """Read what a batch has to know, in one round trip.

    Raises:
        LogDamaged: the log's head is gone.
    """
    asked = {
        "payloads": list(payloads),
        "ids": list(ids),
        "version_ids": [id_ for id_, _ in versions],
        "versions": [version for _, version in versions],
    }
    row = (await connection.execute(_LOOK, asked)).one_or_none()
    if row is None:
        raise LogDamaged("the log's head is missing")
    size, last_membership, root, halted, logged, heads, leaves = row
    return Known(
        LogHead(size, last_membership, root),
        halted,
        {bytes.fromhex(payload): index for payload, index in logged or []},
        {head[0]: Head(*head) for head in heads or []},
        {(id_, version): leaf for id_, version, leaf in leaves or []},
    )


async def lock_log(connection: AsyncConnection) -> None:
    """Wait until no other process extends the log, and keep the others waiting until this transaction ends."""
    await connection.execute(_LOCK, {"key": _LOG_LOCK})


async def read_head(connection: AsyncConnection) -> LogHead:
    """The log's length as committed.

    Raises:
        LogDamaged: its row is gone.
    """
    row = (await connection.execute(_HEAD)).one_or_none()
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
    # Past SQLAlchemy, which can only ask for text: twice the bytes, and more than twice the work for both sides.
    driver = cast("psycopg.AsyncConnection[Any]", (await connection.get_raw_connection()).driver_connection)
    start = bundle.index * TILE_WIDTH
    async with driver.cursor(binary=True) as cursor:
        await cursor.execute(_BUNDLE, (start, start + bundle.width))
        entries = [row[0] for row in await cursor.fetchall()]
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
    rows = await connection.execute(_LOGGED, {"payloads": list(payloads)})
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
    return {
        id_: Head(id_, kind, version, leaf.hex(), author, withdrawn_at is not None)
        for id_, kind, version, leaf, author, withdrawn_at in await connection.execute(_HEADS, {"ids": list(ids)})
    }


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
        _APPEND,
        {
            "entries": [entry.index for entry in entries],
            "leaves": [entry.leaf_hash for entry in entries],
            "payloads": [entry.payload_sha256 for entry in entries],
            "types": [entry.type for entry in entries],
            "envelopes": [entry.envelope for entry in entries],
            "levels": [level for level, _ in changed_tiles],
            "places": [index for _, index in changed_tiles],
            "hashes": [b"".join(hashes) for hashes in changed_tiles.values()],
            "records": orjson.dumps(record_rows, default=_as_postgres).decode(),
            "heads": orjson.dumps(head_rows, default=_as_postgres).decode(),
        },
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
    # The notification is delivered with the commit, to whoever listens (`following`).
    values = {
        "size": new.size,
        "root": checkpoint.root,
        "note": note,
        "last_membership": new.last_membership,
        "old": old.size,
        "channel": LOG_GREW,
    }
    moved, _ = (await connection.execute(_ADVANCE, values)).one()
    return bool(moved == 1)


async def read_size(connection: psycopg.AsyncConnection[Any]) -> int:
    """The log's length as committed, over a plain connection."""
    row = await (await connection.execute("SELECT tree_size FROM log_head")).fetchone()
    return int(row[0]) if row is not None else 0


def _as_postgres(value: object) -> str:
    """What JSON has no type for, as Postgres reads it from a string."""
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    raise TypeError(f"no column takes a {type(value).__name__}")
