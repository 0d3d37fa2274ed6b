"""Making of what a hub showed what proves it to others: from the store, so that the hub cannot withhold it any more."""

from __future__ import annotations

from member_client.errors import ClientError
from member_client.sync.evidence import entry_document
from member_client.sync.excerpts import Excerpts
from member_client.sync.store import RefusedEntry, Store
from sharing_protocol import strict_json
from sharing_protocol.checkpoints import parse_text
from sharing_protocol.errors import Fault, Misbehaviour, ProtocolError
from sharing_protocol.keys import encode_base64
from sharing_protocol.log_excerpt import MAX_ENTRIES, write_entries
from sharing_protocol.merkle import inclusion_proof
from sharing_protocol.notes import parse as parse_note
from sharing_protocol.tiles import VerifiedTree

MAX_ACCUSATIONS = 20
"""For one run: enough to prove what happened, too few to fill a disk."""
_BOTH = ("old_checkpoint", "new_checkpoint")


def accusations(store: Store, rejected: list[RefusedEntry]) -> list[Misbehaviour]:
    """The evidence against the hub for entries that an honest one lets in nowhere: each with its proof, and `context`,
    the entries by which it is judged, with theirs.

    While a run was interrupted the checkpoint covers more than is stored, and the proofs are left out; the next run
    that completes has them.
    """
    trusted = store.trusted()
    if trusted is None:
        return []
    size = trusted.checkpoint.size
    excerpts = Excerpts(store, size) if store.cursor == size else None
    found = []
    for entry in rejected[:MAX_ACCUSATIONS]:
        evidence = {
            **entry_document(store.entry(entry.index) or b""),
            "index": str(entry.index),
            "checkpoint": trusted.note,
        }
        if excerpts is not None:
            evidence["inclusion_proof"] = _lines(excerpts.tree.inclusion_proof(entry.index, size))
            context = excerpts.logged(excerpts.deciding(entry.index)[:MAX_ENTRIES])
            evidence["context"] = strict_json.dumps(write_entries(context)).decode()
        told = f"the hub let entry {entry.index} into the log, which has no right to be there: {entry.reason}"
        found.append(Misbehaviour(Fault.FORGE, entry.code, told, evidence))
    return found


def substantiate(store: Store, misbehaviour: Misbehaviour, tree: VerifiedTree | None) -> None:
    """Add to the evidence of a lie what makes it a proof for others, if this member has it.

    Args:
        tree: of the checkpoint that the hub showed, if it came so far.
    """
    evidence = misbehaviour.evidence
    if misbehaviour.fault is Fault.ROLL_BACK and "prefix_proof" not in evidence:
        larger, smaller = (parse_text(parse_note(evidence[name].encode()).text) for name in _BOTH)
        stored = Excerpts(store, larger.size).tree
        if 0 < smaller.size < larger.size == store.cursor and stored.root(smaller.size) != smaller.root:
            evidence["prefix_proof"] = _lines(stored.prefix_proof(smaller.size, larger.size))
    if misbehaviour.code == "wrong_forum" and "entry" in evidence and tree is not None:
        try:
            steps = inclusion_proof(0, tree.size, tree.node)
        except (ProtocolError, ClientError):
            return  # it takes tiles that this hub need not serve; what is shown already stays
        evidence |= {"index": "0", "inclusion_proof": _lines(steps)}


def _lines(steps: list[bytes] | tuple[bytes, ...]) -> str:
    return "\n".join(encode_base64(step) for step in steps)
