"""Following the log from keys that are known to keys that are not: the admins exchanged them since we last looked.

A checkpoint by unknown keys proves nothing. So its size and root are taken as a claim, and the entries that hash into
that very root, and lead on from the root last believed, are read for the admins' statement that names those keys.
Nothing is stored meanwhile, and if the statement is not there, the checkpoint is refused as what it seemed: forged.

The keys that the log gave up are not needed for this, so it does not matter whether they are lost, or who has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from member_client.sync.batches import verified_stretches
from member_client.sync.reading_ahead import ReadingAhead
from member_client.sync.store import Store
from sharing_protocol.checkpoints import Checkpoint, parse_text
from sharing_protocol.errors import Fault, Misbehaviour
from sharing_protocol.log_excerpt import LoggedEntry
from sharing_protocol.log_keys import LogHistory
from sharing_protocol.notes import parse as parse_note
from sharing_protocol.statements import ChangeLog
from sharing_protocol.tiles import VerifiedTree
from sharing_protocol.trust import RETIRED_KEY, TrustedCheckpoint, check_consistency, open_checkpoint

if TYPE_CHECKING:
    from member_client.hub_connection import HubConnection

_UNSIGNED = "unsigned_checkpoint"


@dataclass(frozen=True, slots=True)
class Opened:
    """A checkpoint, the keys by which it was opened, and the forum's own entries, which name them."""

    trusted: TrustedCheckpoint
    logs: LogHistory
    record: Sequence[LoggedEntry]


def open_newest(
    data: bytes, logs: LogHistory, record: Sequence[LoggedEntry], store: Store, hub: HubConnection, fingerprint: str
) -> Opened:
    """Open the hub's checkpoint by the log's keys, or by keys that the log turns out to have now.

    Args:
        logs: the log's keys as of the store, or of the founding statement.
        record: the forum's own entries up to there.
        fingerprint: the pinned forum.

    Raises:
        Misbehaviour: `FORGE`.
        HubUnreachable, RefusedByHub: no usable answer.
    """
    try:
        return Opened(open_checkpoint(data, logs), logs, record)
    except Misbehaviour as misbehaviour:
        if misbehaviour.code != _UNSIGNED:
            raise
        refusal = misbehaviour
    claimed = parse_text(parse_note(data).text)
    try:
        found = _find_keys(data, claimed, store, hub, fingerprint)
    except Misbehaviour as misbehaviour:
        # Whatever is wrong with its tree, nobody whom we know has signed it.
        raise Misbehaviour(
            refusal.fault,
            refusal.code,
            f"{refusal.detail}, and it does not lead to an exchange of keys: {misbehaviour.detail}",
            {**misbehaviour.evidence, **refusal.evidence},
        ) from misbehaviour
    if found is None:
        raise refusal
    return found


def _find_keys(data: bytes, claimed: Checkpoint, store: Store, hub: HubConnection, fingerprint: str) -> Opened | None:
    tree = VerifiedTree(claimed.size, claimed.root, hub.tile)
    check_consistency(store.trusted(), TrustedCheckpoint(claimed, data.decode(), 0), tree)
    reading = ReadingAhead(store)
    record = store.forum_record()
    with closing(verified_stretches(store, hub, tree)) as stretches:
        for stretch in stretches:
            for index, (entry, leaf) in enumerate(zip(stretch.entries, stretch.leaves, strict=True), stretch.start):
                statement = reading.take(index, entry, leaf)
                forum = reading.membership.forum
                if forum is None or forum.fingerprint != fingerprint:
                    raise Misbehaviour(Fault.FORGE, "wrong_forum", "entry 0 does not found the pinned forum")
                if statement is not None and statement.id == forum.id:
                    record.append(LoggedEntry(index, entry, ()))
                if isinstance(statement, ChangeLog):
                    try:
                        return Opened(open_checkpoint(data, forum.logs), forum.logs, record)
                    except Misbehaviour as misbehaviour:
                        if misbehaviour.code not in (_UNSIGNED, RETIRED_KEY):
                            raise
    return None
