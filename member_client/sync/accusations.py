"""What proves that a hub let an entry into its log that no honest hub admits: the entry, its proof, the signed head."""

from __future__ import annotations

from member_client.sync.evidence import entry_document
from member_client.sync.store import RefusedEntry, Store
from sharing_protocol.errors import Fault, Misbehaviour
from sharing_protocol.keys import encode_base64
from sharing_protocol.merkle import CompactRange, NodeHash, inclusion_proof

MAX_ACCUSATIONS = 20
"""For one run: enough to prove what happened, too few to fill a disk."""
_LEAVES_AT_A_TIME = 4096


def accusations(store: Store, rejected: list[RefusedEntry]) -> list[Misbehaviour]:
    """The evidence against the hub for these entries, from the store alone: the hub cannot withhold it any more.

    While a run was interrupted the checkpoint covers more than is stored, and the proof is left out; the next run that
    completes has it.
    """
    trusted = store.trusted()
    if trusted is None:
        return []
    size = trusted.checkpoint.size
    node = _stored_nodes(store)
    found = []
    for entry in rejected[:MAX_ACCUSATIONS]:
        evidence = {
            **entry_document(store.entry(entry.index) or b""),
            "index": str(entry.index),
            "checkpoint": trusted.note,
        }
        if store.cursor == size:
            proof = inclusion_proof(entry.index, size, node)
            evidence["inclusion_proof"] = "\n".join(encode_base64(step) for step in proof)
        told = f"the hub let entry {entry.index} into the log, which has no right to be there: {entry.reason}"
        found.append(Misbehaviour(Fault.FORGE, entry.code, told, evidence))
    return found


def _stored_nodes(store: Store) -> NodeHash:
    """Hashes of complete subtrees, computed from the stored leaves; each once."""
    known: dict[tuple[int, int], bytes] = {}

    def node(height: int, index: int) -> bytes:
        if (height, index) not in known:
            tree = CompactRange()
            end = (index + 1) << height
            for start in range(index << height, end, _LEAVES_AT_A_TIME):
                for leaf in store.leaves(start, min(start + _LEAVES_AT_A_TIME, end)):
                    tree.append(leaf)
            known[height, index] = tree.root()
        return known[height, index]

    return node
