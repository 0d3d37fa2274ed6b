"""Derives everything again from the log's entries, and names every difference to what is stored.

    log_entries ──┬── leaf hashes ── tiles ── roots of all checkpoints, and their signatures
                  └── admission of each entry by the rules ── records, heads, forum, members, keys

What the log does not fill has to go with it all the same (`check_unlogged`).

One pass in log order, 256 entries at a time. An entry that is wrong is named once: the tree goes on with the hash
that it had, so that its tile and every later checkpoint are not named for it again. They are if they differ
themselves.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from hub.check_unlogged import (
    compare_binding,
    compare_cosignatures,
    compare_long_report,
    compare_proposals,
    compare_report,
    compare_unproven,
    compare_usage,
    open_note,
)
from hub.database import audit
from hub.database.audit import Extent, StoredEntry, StoredReport
from hub.differences import Difference, compare_keyed, compare_sorted
from hub.projection import forum_rows, key_rows, member_rows, record_row
from hub.replay import Replay
from sharing_protocol.admission import Admission
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.content import check_content
from sharing_protocol.errors import ProtocolError
from sharing_protocol.merkle import EMPTY_ROOT, HASH_BYTES, CompactRange, leaf_hash
from sharing_protocol.statements import Unknown
from sharing_protocol.tiles import TILE_WIDTH, GrowingTree, tiles_per_level

Progress = Callable[[int, int], None]
"""Called with entries done and entries in all."""


def silent(_done: int, _total: int) -> None:
    """Report no progress."""


@dataclass(slots=True)
class Counts:
    """What was looked at."""

    entries: int = 0
    tiles: int = 0
    checkpoints: int = 0
    records: int = 0


@dataclass(slots=True)
class Check:
    """One run over a stored log.

    Attributes:
        connection: in a snapshot (`audit.begin_snapshot`).
        content: also compile every pattern's logic and run its own tests, which takes long.
        counts: what was looked at so far.
    """

    connection: Connection
    content: bool = False
    progress: Progress = silent
    counts: Counts = field(default_factory=Counts)
    _tree: GrowingTree = field(default_factory=GrowingTree)
    _root: CompactRange = field(default_factory=CompactRange)
    _gap: int | None = None
    """Where a run of missing entries began, if we are in one."""
    _bytes: Counter[str] = field(default_factory=Counter)
    """Of entries, by author."""
    _unread: bool = False
    """Whether an entry is missing or refused, so that nobody's bytes are known."""
    _shown: dict[int, list[StoredReport]] = field(default_factory=dict)
    """Checkpoints that members have shown, by their sizes."""

    def run(self) -> Iterator[Difference]:
        """Every difference, as it is found."""
        extent = audit.read_extent(self.connection)
        for report in audit.read_reports(self.connection):
            self._shown.setdefault(report.tree_size, []).append(report)
        with Replay() as replay:
            for start in range(0, extent.size, TILE_WIDTH):
                end = min(start + TILE_WIDTH, extent.size)
                yield from self._entries(replay, start, end)
                self.progress(end, extent.size)
            yield from self._gap_ends(extent.size)
            yield from self._edge(extent)
            yield from self._projections(replay, extent)
            yield from self._unlogged(replay, extent)

    # -- one run of entries ------------------------------------------------------------------------------------

    def _entries(self, replay: Replay, start: int, end: int) -> Iterator[Difference]:
        stored = audit.read_entries(self.connection, start, end)
        stored_tile = audit.read_tiles(self.connection, [(0, start // TILE_WIDTH)]).get((0, start // TILE_WIDTH), b"")
        notes_by_size = {row[0]: row for row in audit.read_checkpoints(self.connection, start, end)}
        records: dict[int, Mapping[str, Any]] = {}
        full: dict[tuple[int, int], list[bytes]] = {}
        for index in range(start, end):
            entry = stored.get(index)
            leaf = _hash_at(stored_tile, index % TILE_WIDTH)
            if entry is None:
                self._gap = index if self._gap is None else self._gap
                self._unread = True
            else:
                self.counts.entries += 1
                yield from self._gap_ends(index)
                # Of three copies, the two that agree.
                leaf = leaf if leaf == leaf_hash(entry.envelope) else entry.leaf_hash
                yield from self._entry(replay, entry, leaf, records)
            changed = self._tree.append([leaf])
            full.update({place: hashes for place, hashes in changed.items() if len(hashes) == TILE_WIDTH})
            self._root.append(leaf)
            if index + 1 in notes_by_size:
                yield from self._checkpoint(replay, *notes_by_size[index + 1])
            for report in self._shown.pop(index + 1, ()):
                yield from compare_report(replay, report, self._root.root())
        yield from self._tiles(full)
        yield from compare_keyed("records", records, audit.read_records(self.connection, start, end))
        for altered in audit.altered_search(self.connection, start, end):
            yield Difference("records", str(altered), "search: not made of the record's own text")

    def _gap_ends(self, end: int) -> Iterator[Difference]:
        """Name the missing entries before index `end`, if there are any."""
        if self._gap is not None:
            alone = self._gap == end - 1
            row = str(self._gap) if alone else f"{self._gap} to {end - 1}"
            yield Difference("log_entries", row, "is missing" if alone else "are missing")
            self._gap = None

    def _entry(
        self, replay: Replay, entry: StoredEntry, leaf: bytes, records: dict[int, Mapping[str, Any]]
    ) -> Iterator[Difference]:
        row = str(entry.index)
        if leaf != entry.leaf_hash:
            yield Difference("log_entries", row, "leaf_hash is not that of the envelope")
        elif leaf != leaf_hash(entry.envelope):
            yield Difference("log_entries", row, "the envelope does not hash to leaf_hash: one of them was altered")
        try:
            envelope, admission = replay.apply(entry.index, leaf, entry.envelope)
        except ProtocolError as error:
            self._unread = True
            yield Difference("log_entries", row, f"may not be in the log where it is: {error.detail} ({error.code})")
            return
        if envelope.payload_sha256 != entry.payload_sha256.hex():
            yield Difference("log_entries", row, "payload_sha256 is not that of the payload")
        kind = admission.type if isinstance(admission, Unknown) else admission.statement.type
        if kind != entry.type:
            yield Difference("log_entries", row, f"type is {entry.type!r}, the statement says {kind!r}")
        if isinstance(admission, Unknown):
            yield Difference("log_entries", row, f"is of the type {kind!r}, which this version does not know")
            return
        self._bytes[admission.statement.author] += len(entry.envelope)
        yield from self._content(row, admission)
        derived = record_row(entry.index, admission, envelope)
        if derived is not None:
            records[entry.index] = {**derived, "statement": envelope.payload.decode()}
            self.counts.records += 1

    def _content(self, row: str, admission: Admission) -> Iterator[Difference]:
        if not self.content:
            return
        try:
            check_content(admission.statement)
        except ProtocolError as error:
            yield Difference("log_entries", row, f"its content is not sound: {error.detail} ({error.code})")

    # -- the tree ----------------------------------------------------------------------------------------------

    def _tiles(self, expected: Mapping[tuple[int, int], list[bytes]]) -> Iterator[Difference]:
        stored = audit.read_tiles(self.connection, list(expected)) if expected else {}
        for (level, index), hashes in sorted(expected.items()):
            self.counts.tiles += 1
            found = stored.get((level, index))
            if found is None:
                yield Difference("tiles", f"{level}/{index}", "is missing")
            elif found != b"".join(hashes):
                yield Difference("tiles", f"{level}/{index}", _first_difference(found, hashes))

    def _checkpoint(self, replay: Replay, size: int, root: bytes, text: str) -> Iterator[Difference]:
        self.counts.checkpoints += 1
        genuine, row = self._root.root(), str(size)
        if root != genuine:
            yield Difference("checkpoints", row, "root is not that of the entries")
        forum = replay.membership.forum
        if forum is None:
            yield Difference("checkpoints", row, "cannot be checked: no founding statement names the log's key")
            return
        try:
            checkpoint = open_note(forum, text)
        except ProtocolError as error:
            yield Difference("checkpoints", row, f"the note is refused: {error.detail}")
            return
        if checkpoint != Checkpoint(forum.log.origin, size, genuine):
            yield Difference("checkpoints", row, "the note signs another origin, size or root than the entries have")

    def _edge(self, extent: Extent) -> Iterator[Difference]:
        """What is left of the tree once all entries are in: partial tiles, and rows that belong to nothing."""
        size = self._tree.size
        edge = {(level, tiles_per_level(size, level)[0]): hashes for level, hashes in self._tree.edge.items() if hashes}
        yield from self._tiles(edge)
        counts: list[int] = []
        while size >> (8 * len(counts)):
            whole, width = tiles_per_level(size, len(counts))
            counts.append(whole + (width > 0))
        for level, index in audit.stray_tiles(self.connection, counts):
            yield Difference("tiles", f"{level}/{index}", "belongs to no part of the log")
        for stray in audit.stray_checkpoints(self.connection, size):
            yield Difference("checkpoints", str(stray), "covers entries that are not there")
        for stray_entry in audit.stray_entries(self.connection, extent.size):
            yield Difference("log_entries", str(stray_entry), "stands far beyond the others, where there is no tree")
        if extent.head != extent.entries:
            what = "its row is missing" if extent.head is None else f"tree_size is {extent.head}"
            yield Difference("log_head", "", f"{what}, the log has {extent.entries} entries")
        newest = audit.read_checkpoints(self.connection, extent.size - 1, extent.size)
        if extent.size and not newest:
            yield Difference("checkpoints", str(extent.size), "is missing: the newest entries are not signed for")

    # -- the projections ---------------------------------------------------------------------------------------

    def _projections(self, replay: Replay, extent: Extent) -> Iterator[Difference]:
        membership = replay.membership
        if extent.last_membership is not None and extent.last_membership != membership.as_of:
            what = f"last_membership is {extent.last_membership}, the newest membership entry is {membership.as_of}"
            yield Difference("log_head", "", what)
        for stray in audit.stray_records(self.connection, extent.size):
            yield Difference("records", str(stray), "belongs to no entry")
        yield from compare_sorted("record_heads", replay.head_rows(), audit.read_heads(self.connection))
        stored = audit.read_membership(self.connection)
        derived: tuple[tuple[str, str, Iterable[Mapping[str, Any]]], ...] = (
            ("forum", "id", forum_rows(membership)),
            ("members", "id", member_rows(membership)),
            ("member_keys", "key_id", key_rows(membership)),
        )
        for table, key, rows in derived:
            yield from compare_keyed(table, {row[key]: row for row in rows}, {row[key]: row for row in stored[table]})

    # -- what is not logged ------------------------------------------------------------------------------------

    def _unlogged(self, replay: Replay, extent: Extent) -> Iterator[Difference]:
        yield from compare_binding(self.connection, replay)
        for size, reports in self._shown.items():
            for report in reports:
                if size == 0:
                    yield from compare_report(replay, report, EMPTY_ROOT)
                else:
                    yield from compare_long_report(replay, report, extent.size)
        yield from compare_unproven(self.connection)
        yield from compare_cosignatures(self.connection, replay)
        yield from compare_proposals(self.connection, replay, extent.size)
        if not self._unread:
            yield from compare_usage(self.connection, self._bytes)


def _hash_at(tile: bytes, position: int) -> bytes:
    stored = tile[position * HASH_BYTES : (position + 1) * HASH_BYTES]
    return stored if len(stored) == HASH_BYTES else bytes(HASH_BYTES)


def _first_difference(found: bytes, hashes: list[bytes]) -> str:
    if len(found) != len(hashes) * HASH_BYTES:
        return f"holds {len(found) / HASH_BYTES:g} hashes, the log has {len(hashes)}"
    position = next(i for i, value in enumerate(hashes) if _hash_at(found, i) != value)
    return f"hash {position} is not that of the entries"
