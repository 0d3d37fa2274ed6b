"""Bringing back entries that were lost with an old backup, from a member's export (`sharing_protocol.log_export`).

The exporting member is not trusted. The entries must extend the stored log into exactly the tree of a checkpoint that
this log's own key has signed; that very checkpoint is published again, and nothing new is signed. First the whole
file is hashed, then the entries go through the rules of admission once more and in, in one transaction. The log stays
halted: whether this was all, `stillwatch-hub resume` finds out.
"""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import BinaryIO

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hub.batch import Appended, Candidate, KnownRecords, LogState, decide, mentioned
from hub.check import Progress, silent
from hub.database import binding_store, halt_store, log_store, usage_store
from hub.database.log_store import LogHead
from hub.directory import Directory
from hub.errors import HubError, LogDamaged
from hub.log_keys import LogKeys, history_of
from hub.proofs import TileHashes, tiles_for_peaks
from hub.quotas import Allowance
from hub.stored_log import load_log, write_entries
from sharing_protocol import envelope as envelopes
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.errors import ProtocolError
from sharing_protocol.log_export import ExportHeader, read_entries, read_header
from sharing_protocol.log_keys import LogHistory
from sharing_protocol.merkle import CompactRange, leaf_hash, peak_positions
from sharing_protocol.statements import Found, Unknown, parse

_ENTRIES_AT_A_TIME = 256


class RecoveryError(HubError):
    """An export that does not bring back what is missing."""

    def __init__(self, detail: str) -> None:
        super().__init__("recovery", detail)


@dataclass(frozen=True, slots=True)
class Recovered:
    """How long the log was, and is."""

    before: int
    after: int


async def recover(engine: AsyncEngine, keys: LogKeys, file: BinaryIO, progress: Progress = silent) -> Recovered:
    """Append what the log lacks of an export.

    Args:
        file: the export, from its beginning; it can be sought.

    Raises:
        RecoveryError: not a whole export; of another log; altered; or the log does not lead to it.
        LogDamaged: the stored log contradicts itself.
    """
    try:
        header = read_header(file.read)
        async with engine.connect() as connection:
            logs = history_of(await Directory(engine).current(connection))
            signed, note = keys.own_checkpoint(logs, header.note.encode())
            head = await log_store.read_head(connection)
            _check_extent(header, signed.size, head.size)
            hashes = await _stored_hashes(connection, {*tiles_for_peaks(header.start), *tiles_for_peaks(head.size)})
        # Without a transaction: a long file takes longer to hash than the server lets one idle.
        try:
            _check_export(file, header, hashes, head.size, signed)
        except IndexError as error:
            raise LogDamaged("a stored tile is too short") from error
        file.seek(0)
        entries = itertools.islice(read_entries(file.read, read_header(file.read)), head.size - header.start, None)
        async with engine.connect() as connection:
            await log_store.lock_log(connection)
            if await log_store.read_head(connection) != head:
                raise RecoveryError("the log was extended meanwhile: stop the hub's processes and try again")
            state = await load_log(connection, keys, Directory(engine), head)
            state = await _append(connection, keys, state, entries, lambda done: progress(done, signed.size))
            if (state.size, state.tree.root()) != (signed.size, signed.root):
                raise RecoveryError("the export changed while it was read")
            keys.own_checkpoint(history_of(state.membership), note.encode())
            await _publish(connection, head, state, signed, note)
    except ProtocolError as error:
        raise RecoveryError(error.detail) from error
    return Recovered(head.size, signed.size)


async def _publish(connection: AsyncConnection, head: LogHead, state: LogState, signed: Checkpoint, note: str) -> None:
    after = LogHead(state.size, max(head.last_membership, state.membership.as_of))
    if not await log_store.advance_head(connection, head, after, signed, note):
        raise LogDamaged("the log's head moved although we hold its lock")
    if head.size == 0 and state.membership.forum is not None:
        fingerprint = state.membership.forum.fingerprint
        await connection.run_sync(lambda sync: binding_store.bind(sync, fingerprint))
    await halt_store.halt(connection, "restored", f"{state.size - head.size} entries came back from a member's export")
    # If we stop before this, nothing has changed.
    await connection.commit()


def _check_extent(header: ExportHeader, end: int, size: int) -> None:
    if end <= size:
        raise RecoveryError(f"the export has nothing new: it ends at {end} entries, the log has {size}")
    if header.start > size:
        raise RecoveryError(f"the export begins at entry {header.start}, and the log ends at {size}")


def _check_export(file: BinaryIO, header: ExportHeader, hashes: TileHashes, size: int, signed: Checkpoint) -> None:
    """See that the entries, with those of the log before them, are the signed tree; and the log is its beginning."""
    stored = CompactRange(size, [hashes(height, index) for height, index in peak_positions(0, size)]).root()
    tree = CompactRange(header.start, [hashes(height, index) for height, index in peak_positions(0, header.start)])
    meets = tree.size == size
    for entry in read_entries(file.read, header):
        tree.append(leaf_hash(entry))
        if tree.size == size:
            meets = tree.root() == stored
    if tree.root() != signed.root:
        raise RecoveryError("the export's entries are not those that this log's key signed: it was altered")
    if not meets:
        raise RecoveryError("the log does not lead to the export: the two have different histories")


async def _stored_hashes(connection: AsyncConnection, places: set[tuple[int, int]]) -> TileHashes:
    tiles = await log_store.read_tiles(connection, places) if places else {}
    missing = places - tiles.keys()
    if missing:
        raise LogDamaged(f"a tile is missing: {sorted(missing)[0]}")
    return TileHashes(tiles)


async def _append(
    connection: AsyncConnection,
    keys: LogKeys,
    state: LogState,
    entries: Iterable[bytes],
    progress: Callable[[int], None],
) -> LogState:
    """Write entries and all that follows from them, by the rules by which they were admitted the first time."""
    remaining = iter(entries)
    while some := list(itertools.islice(remaining, _ENTRIES_AT_A_TIME)):
        candidates = [_candidate(entry, index, keys) for index, entry in enumerate(some, state.size)]
        ids, versions = mentioned([candidate.statement for candidate in candidates])
        known = await log_store.look(connection, [one.payload_sha256 for one in candidates], ids, versions)
        allowance = Allowance()
        decision = decide(candidates, state, KnownRecords(known.heads, known.versions), known.logged, allowance)
        for index, outcome in enumerate(decision.outcomes, state.size):
            if not isinstance(outcome, Appended):
                raise _not_admissible(index, outcome)
        await write_entries(connection, state.membership, decision)
        await usage_store.add_earlier(connection, allowance.added)
        state = decision.after
        progress(state.size)
    return state


def _candidate(entry: bytes, index: int, keys: LogKeys) -> Candidate:
    try:
        envelope = envelopes.parse(entry)
        statement = parse(envelope.payload)
    except ProtocolError as error:
        raise _not_admissible(index, error) from error
    if isinstance(statement, Unknown):
        raise RecoveryError(
            f"entry {index} is a statement of type {statement.type[:80]!r}, which this version does not know: run the "
            "version that admitted it"
        )
    if isinstance(statement, Found) and not keys.may_keep(LogHistory.of(statement.body.log)):
        raise RecoveryError("the export's forum was founded on another log than the one that this home keeps")
    return Candidate(envelope, entry, statement, frozenset())


def _not_admissible(index: int, outcome: object) -> RecoveryError:
    return RecoveryError(
        f"entry {index} was admitted once and would not be by this version ({outcome}): run the version that did"
    )
