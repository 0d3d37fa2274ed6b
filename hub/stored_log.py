"""The stored log as a state to build on, and what a decision adds to it. The caller holds its lock and commits."""

from sqlalchemy.ext.asyncio import AsyncConnection

from hub.batch import Decision, LogState
from hub.database import log_store
from hub.database.log_store import LogHead
from hub.database.membership_store import write_membership
from hub.directory import Directory
from hub.errors import LogDamaged
from hub.log_keys import LogKeys, history_of
from sharing_protocol import checkpoints, notes
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.errors import ProtocolError
from sharing_protocol.log_keys import LogHistory
from sharing_protocol.membership import Membership
from sharing_protocol.tiles import GrowingTree, right_edge


async def load_log(connection: AsyncConnection, keys: LogKeys, directory: Directory, head: LogHead) -> LogState:
    """Read the edge of the stored log, and check that it is what the newest checkpoint signs.

    Raises:
        LogDamaged: it is not, or other keys than ours signed it.
        LogKeysMissing: the keys that it has now are not here.
    """
    membership = await directory.at(connection, head.last_membership)
    logs = history_of(membership)
    if logs is not None:
        if not keys.may_keep(logs):
            raise LogDamaged(f"the log in this database is kept with other keys, as {logs.current.origin!r}")
        keys.check_may_keep(logs)
    edge = right_edge(head.size)
    stored = await log_store.read_tiles(connection, [(tile.level, tile.index) for tile in edge]) if edge else {}
    tree = GrowingTree(head.size, {tile.level: stored.get((tile.level, tile.index), []) for tile in edge})
    if any(len(tree.edge[tile.level]) != tile.width for tile in edge):
        raise LogDamaged(f"a tile at the edge of the log of {head.size} entries is missing or too short")
    await _check_signed(connection, logs or LogHistory.of(keys.first.public), tree)
    return LogState(tree, membership)


async def write_entries(connection: AsyncConnection, before: Membership, decision: Decision) -> None:
    """Write a decision's entries and all that follows from them, but neither checkpoint nor head."""
    await log_store.append(
        connection, decision.entries, decision.tiles, decision.records, [*decision.heads.values()], decision.withdrawals
    )
    await write_membership(connection, before, decision.after.membership)


async def _check_signed(connection: AsyncConnection, logs: LogHistory, tree: GrowingTree) -> None:
    newest = await log_store.read_checkpoint(connection)
    if newest is None and not tree.size:
        return
    if newest is None or newest[0] != tree.size:
        raise LogDamaged(f"the newest checkpoint is not that of the log's {tree.size} entries")
    try:
        note = notes.parse(newest[1].encode())
        log = logs.at(tree.size)
        signed = notes.verify(note, [notes.VerifierKey.parse(log.log_key)])
        checkpoint = checkpoints.parse_text(note.text)
    except ProtocolError as error:
        raise LogDamaged(f"the newest checkpoint is refused: {error.detail}") from error
    if not signed or checkpoint != Checkpoint(log.origin, tree.size, tree.root()):
        raise LogDamaged("the newest checkpoint does not sign the stored tree, or not by this hub's key")
