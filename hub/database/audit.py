"""Reading everything that is stored, for `check`: in one snapshot, a piece at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Text, cast, exists, func, select, text, tuple_
from sqlalchemy.dialects.postgresql import distinct_on

from hub.database.proposal_store import StoredProposal
from hub.database.tables import (
    SEARCHED_TEXT,
    checkpoint_reports,
    checkpoints,
    cosignatures,
    forum,
    hub_binding,
    log_entries,
    log_head,
    member_keys,
    member_usage,
    members,
    proposals,
    record_heads,
    records,
    tiles,
    unproven_checkpoints,
)
from sharing_protocol.merkle import HASH_BYTES

_STREAM_ROWS = 1000


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """A row of `log_entries`."""

    index: int
    leaf_hash: bytes
    payload_sha256: bytes
    type: str
    envelope: bytes


@dataclass(frozen=True, slots=True)
class StoredReport:
    """A row of `checkpoint_reports`, or of `unproven_checkpoints`."""

    reporter: str
    tree_size: int
    note: str


@dataclass(frozen=True, slots=True)
class StoredCosignature:
    """A row of `cosignatures`, and the note of its checkpoint, None if there is none."""

    tree_size: int
    key_id: str
    timestamp: int
    line: str
    note: str | None


@dataclass(frozen=True, slots=True)
class Extent:
    """How far the stored log reaches, by different tables.

    Attributes:
        entries: one more than the highest index in `log_entries`.
        rows: of `log_entries`.
        leaves: hashes in the tiles of level 0.
        head: what `log_head` says, None if its row is gone.
    """

    entries: int
    rows: int
    leaves: int
    head: int | None
    last_membership: int | None

    @property
    def size(self) -> int:
        """Where to stop looking for entries.

        The head is believed as far as there are leaves, and one entry that stands far beyond the others does not
        make the check endless.
        """
        return min(max(self.entries, min(self.head or 0, self.leaves)), self.rows + self.leaves)


def begin_snapshot(connection: Connection) -> None:
    """Make the connection's transaction see one moment, and write nothing."""
    connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")


def read_extent(connection: Connection) -> Extent:
    """How far the stored log reaches."""
    highest, rows = connection.execute(select(func.max(log_entries.c.index), func.count())).one()
    of_leaves = select(func.coalesce(func.sum(func.octet_length(tiles.c.hashes)), 0)).where(tiles.c.level == 0)
    leaves = int(connection.execute(of_leaves).scalar_one()) // HASH_BYTES
    head = connection.execute(select(log_head.c.tree_size, log_head.c.last_membership)).one_or_none()
    return Extent(0 if highest is None else highest + 1, rows, leaves, head and head[0], head and head[1])


def read_entries(connection: Connection, start: int, end: int) -> dict[int, StoredEntry]:
    """The entries from index `start` to before `end`, as far as they are there."""
    columns = log_entries.c
    query = select(columns.index, columns.leaf_hash, columns.payload_sha256, columns.type, columns.envelope)
    rows = connection.execute(query.where(columns.index >= start, columns.index < end))
    return {row[0]: StoredEntry(*row) for row in rows}


def read_records(connection: Connection, start: int, end: int) -> dict[int, dict[str, Any]]:
    """The rows of `records` for those entries; the statement as the text of its JSON."""
    columns = [column for column in records.columns if column.name not in ("search", "statement")]
    query = select(*columns, cast(records.c.statement, Text).label("statement"))
    rows = connection.execute(query.where(records.c.entry >= start, records.c.entry < end))
    return {row["entry"]: dict(row) for row in rows.mappings()}


def altered_search(connection: Connection, start: int, end: int) -> Sequence[int]:
    """Entries of rows in `records` whose search text is not that of their title and statement."""
    within = select(records.c.entry).where(records.c.entry >= start, records.c.entry < end)
    altered = within.where(records.c.search.is_distinct_from(text(SEARCHED_TEXT))).order_by(records.c.entry)
    return connection.execute(altered).scalars().all()


def read_tiles(connection: Connection, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
    """Tiles by `(level, index)`."""
    query = select(tiles.c.level, tiles.c.index, tiles.c.hashes)
    rows = connection.execute(query.where(tuple_(tiles.c.level, tiles.c.index).in_(places)))
    return {(row[0], row[1]): row[2] for row in rows}


def read_checkpoints(connection: Connection, after: int, last: int) -> list[tuple[int, bytes, str]]:
    """`(tree_size, root, note)` of the checkpoints beyond size `after` up to `last`, in order."""
    query = select(checkpoints.c.tree_size, checkpoints.c.root, checkpoints.c.note)
    within = query.where(checkpoints.c.tree_size > after, checkpoints.c.tree_size <= last)
    return [(row[0], row[1], row[2]) for row in connection.execute(within.order_by(checkpoints.c.tree_size))]


def stray_checkpoints(connection: Connection, size: int) -> Iterator[int]:
    """Sizes of checkpoints that cover nothing, or more than there is."""
    query = select(checkpoints.c.tree_size).where((checkpoints.c.tree_size < 1) | (checkpoints.c.tree_size > size))
    yield from connection.execute(query.order_by(checkpoints.c.tree_size)).scalars()


def stray_entries(connection: Connection, size: int) -> Iterator[int]:
    """Indexes of entries beyond where the check stopped looking."""
    query = select(log_entries.c.index).where(log_entries.c.index >= size)
    yield from connection.execute(query.order_by(log_entries.c.index)).scalars()


def stray_tiles(connection: Connection, tiles_by_level: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Places of tiles that the tree, which has that many tiles on each level, does not have."""
    query = select(tiles.c.level, tiles.c.index).order_by(tiles.c.level, tiles.c.index)
    for row in _stream(connection, query):
        level, index = row[0], row[1]
        if not 0 <= level < len(tiles_by_level) or not 0 <= index < tiles_by_level[level]:
            yield level, index


def stray_records(connection: Connection, size: int) -> Iterator[int]:
    """Entries of rows in `records` that are beyond the log."""
    query = select(records.c.entry).where((records.c.entry < 0) | (records.c.entry >= size))
    yield from connection.execute(query.order_by(records.c.entry)).scalars()


def read_heads(connection: Connection) -> Iterator[dict[str, Any]]:
    """All of `record_heads`, ordered by the bytes of the id."""
    query = select(record_heads).order_by(record_heads.c.id.collate("C"))
    for row in _stream(connection, query):
        yield dict(row._mapping)


def read_membership(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """All of `forum`, `members` and `member_keys`, by table name."""
    return {
        table.name: [dict(row) for row in connection.execute(select(table)).mappings()]
        for table in (forum, members, member_keys)
    }


def read_binding(connection: Connection) -> bytes | None:
    """The fingerprint that the hub is bound to."""
    return connection.execute(select(hub_binding.c.fingerprint)).scalar_one_or_none()


def read_proposals(connection: Connection) -> Iterator[StoredProposal]:
    """All of `proposals`, in the order of their payloads' hashes."""
    columns = proposals.c
    logged = exists().where(log_entries.c.payload_sha256 == columns.payload_sha256)
    query = select(columns.payload_sha256, columns.envelope, logged, columns.dropped_because)
    for row in _stream(connection, query.order_by(columns.payload_sha256)):
        yield StoredProposal(*row)


def read_reports(connection: Connection) -> list[StoredReport]:
    """All of `checkpoint_reports`: one a member."""
    columns = checkpoint_reports.c
    query = select(columns.reporter, columns.tree_size, columns.note).order_by(columns.reporter)
    return [StoredReport(*row) for row in connection.execute(query)]


def read_unproven(connection: Connection) -> list[StoredReport]:
    """All of `unproven_checkpoints`: one a member."""
    columns = unproven_checkpoints.c
    query = select(columns.reporter, columns.tree_size, columns.note).order_by(columns.reporter)
    return [StoredReport(*row) for row in connection.execute(query)]


def read_cosignatures(connection: Connection) -> list[StoredCosignature]:
    """All of `cosignatures`: a bounded number of each witness."""
    columns = cosignatures.c
    query = select(columns.tree_size, columns.key_id, columns.timestamp, columns.line, checkpoints.c.note)
    query = query.outerjoin_from(cosignatures, checkpoints, checkpoints.c.tree_size == columns.tree_size)
    rows = connection.execute(query.order_by(columns.tree_size, columns.key_id))
    return [StoredCosignature(*row) for row in rows]


def read_usage(connection: Connection) -> dict[str, int]:
    """The newest sum of each member's bytes."""
    columns = member_usage.c
    newest = select(columns.member, columns.bytes).ext(distinct_on(columns.member))
    rows = connection.execute(newest.order_by(columns.member, columns.hour.desc()))
    return {row[0]: row[1] for row in rows}


def _stream(connection: Connection, query: Any) -> Iterator[Row[*tuple[Any, ...]]]:
    with connection.execution_options(stream_results=True, yield_per=_STREAM_ROWS).execute(query) as rows:
        yield from rows
