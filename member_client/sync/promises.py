"""Holding the hub to its receipts.

A receipt's checkpoint is a signed head of the log like any other, and its entry was proven to be in that tree when it
came. So one question is enough: does the log that is shown now extend the one that was promised then?
"""

from __future__ import annotations

from member_client.sync.store import Store
from sharing_protocol.errors import Fault, Misbehaviour
from sharing_protocol.log_keys import LogHistory
from sharing_protocol.tiles import VerifiedTree
from sharing_protocol.trust import TrustedCheckpoint, check_consistency, open_checkpoint
from sharing_protocol.wire import Receipt

BROKEN = "broken_promise"


def check_promises(store: Store, trusted: TrustedCheckpoint, tree: VerifiedTree, logs: LogHistory) -> list[str]:
    """Check that `trusted` extends the checkpoint of every receipt that was not settled yet.

    Args:
        tree: over `trusted`'s size and root.
        logs: the log's keys; a receipt is checked by those of its time.

    Returns:
        The entry hashes of these receipts, to be settled once `trusted` is believed.

    Raises:
        Misbehaviour: `ROLL_BACK`, `FORK`, with both checkpoints; `ALTER`.
    """
    kept = []
    for entry, index, text in store.unsettled_receipts():
        promised = open_checkpoint(Receipt.model_validate_json(text).checkpoint.encode(), logs)
        try:
            check_consistency(promised, trusted, tree)
        except Misbehaviour as misbehaviour:
            if misbehaviour.fault not in (Fault.ROLL_BACK, Fault.FORK):
                raise
            raise Misbehaviour(
                misbehaviour.fault,
                BROKEN,
                f"the hub acknowledged entry {index} with a receipt that it does not honour: {misbehaviour.detail}",
                {"receipt": text, **misbehaviour.evidence},
            ) from misbehaviour
        kept.append(entry)
    return kept
