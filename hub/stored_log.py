"""The stored log as a state to build on, and what a decision adds to it. The caller holds its lock and commits."""

from sqlalchemy.ext.asyncio import AsyncConnection

from hub.batch import Decision, LogState
from hub.database import log_store
from hub.database.log_store import LogHead
from hub.database.membership_store import write_membership
from hub.directory import Directory
from hub.errors import LogDamaged
from hub.identity import HubIdentity
from sharing_protocol import checkpoints, notes
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.errors import ProtocolError
from sharing_protocol.membership import Membership
from sharing_protocol.tiles import GrowingTree, right_edge


async def load_log(connection: AsyncConnection, identity: HubIdentity, directory: Directory, head: LogHead) -> LogState:
    """Read the edge of the stored log, and check that it is what the newest checkpoint signs.

    Raises:
        LogDamaged: it is not, or other keys than ours signed it.
    """
    membership = await directory.at(connection, head.last_membership)
    if membership.forum is not None and membership.forum.log != identity.public:
        raise LogDamaged(f"the log in this database is kept with other keys, as {membership.forum.log.origin!r}")
    edge = right_edge(head.size)
    stored = await log_store.read_tiles(connection, [(tile.level, tile.index) for tile in edge]) if edge else {}
    tree = GrowingTree(head.size, {tile.level: stored.get((tile.level, tile.index), []) for tile in edge})
    if any(len(tree.edge[tile.level]) != tile.width for tile in edge):
        raise LogDamaged(f"a tile at the edge of the log of {head.size} entries is missing or too short")
    await _check_signed(connection, identity, tree)
    return LogState(tree, membership)


async def write_entries(connection: AsyncConnection, before: Membership, decision: Decision) -> None:
    """Write a decision's entries and all that follows from them, but neither checkpoint nor head."""
    await log_store.append(
        connection, decision.entries, decision.tiles, decision.records, decision.heads, decision.withdrawals
    )
    await write_membership(connection, before, decision.after.membership)


async def _check_signed(connection: AsyncConnection, identity: HubIdentity, tree: GrowingTree) -> None:
    newest = await log_store.read_checkpoint(connection)
    if newest is None and not tree.size:
        return
    if newest is None or newest[0] != tree.size:
        raise LogDamaged(f"the newest checkpoint is not that of the log's {tree.size} entries")
    try:
        note = notes.parse(newest[1].encode())
        signed = notes.verify(note, [identity.log_verifier])
        checkpoint = checkpoints.parse_text(note.text)
    except ProtocolError as error:
        raise LogDamaged(f"the newest checkpoint is refused: {error.detail}") from error
    if not signed or checkpoint != Checkpoint(identity.origin, tree.size, tree.root()):
        raise LogDamaged("the newest checkpoint does not sign the stored tree, or not by this hub's key")
