"""Entries from the cursor on, fetched ahead and proven to be in the signed tree, batch by batch.

What is held at once is bounded in bytes and in bundles, whatever size of tree a hub signs and whatever it serves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from member_client.errors import InvalidInput
from member_client.hub_connection import HubConnection
from member_client.sync.store import Store
from sharing_protocol.errors import Fault, Malformed, Misbehaviour
from sharing_protocol.keys import encode_base64
from sharing_protocol.merkle import leaf_hash
from sharing_protocol.tiles import TILE_WIDTH, Bundle, VerifiedTree, bundles_between, decode_bundle

BUNDLES_PER_BATCH = 8
BATCH_BYTES = 8 * 1024 * 1024
"""A batch is closed once it holds so much; one bundle can hold twice that."""
BUNDLES_AHEAD = 6


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive entries of the log, and their leaf hashes, which are in the signed tree."""

    start: int
    entries: list[bytes]
    leaves: list[bytes]


def verified_batches(
    store: Store, hub: HubConnection, tree: VerifiedTree, bundles_per_batch: int = BUNDLES_PER_BATCH
) -> Iterator[Batch]:
    """Entries from the store's cursor on; bundles are fetched ahead while the ones before are judged.

    The store is asked now, and not again: the batches may be drawn in another thread.

    Raises:
        Misbehaviour: `ALTER`, `WITHHOLD`.
        InvalidInput: the store does not hold what was verified when it was written.
    """
    cursor = store.cursor
    return _batches(cursor, store.leaves(cursor - cursor % TILE_WIDTH, cursor), hub, tree, bundles_per_batch)


def _batches(cursor: int, stored: list[bytes], hub: HubConnection, tree: VerifiedTree, most: int) -> Iterator[Batch]:
    fetched = _fetch_ahead(hub, bundles_between(cursor, tree.size))
    for group in _in_batches(_checked(tree, fetched), most):
        start = group[0].bundle.index * TILE_WIDTH
        entries = [entry for checked in group for entry in checked.entries]
        leaves = [leaf for checked in group for leaf in checked.leaves]
        known = max(cursor - start, 0)
        if known and stored != leaves[:known]:
            raise InvalidInput(
                "the local store does not match the log it was verified against", "it is damaged; sync anew"
            )
        yield Batch(start + known, entries[known:], leaves[known:])


@dataclass(frozen=True, slots=True)
class _Checked:
    """A bundle's entries and their leaf hashes, which are in the signed tree."""

    bundle: Bundle
    entries: list[bytes]
    leaves: list[bytes]


def _in_batches(bundles: Iterable[_Checked], most: int) -> Iterator[list[_Checked]]:
    batch: list[_Checked] = []
    held = 0
    for checked in bundles:
        batch.append(checked)
        held += sum(map(len, checked.entries))
        # The log's first bundle stands alone: who joined there is known when the next signatures are looked at.
        if len(batch) >= most or held >= BATCH_BYTES or checked.bundle.index == 0:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _fetch_ahead(hub: HubConnection, bundles: Iterator[Bundle]) -> Iterator[tuple[Bundle, bytes, int]]:
    pending: deque[tuple[Bundle, Future[tuple[bytes, int]]]] = deque()
    with ThreadPoolExecutor(max_workers=2) as fetchers:
        try:
            while True:
                while len(pending) < BUNDLES_AHEAD and (bundle := next(bundles, None)) is not None:
                    pending.append((bundle, fetchers.submit(hub.bundle, bundle)))
                if not pending:
                    return
                bundle, fetched = pending.popleft()
                content, width = fetched.result()
                yield bundle, content, width
        finally:
            for _, fetched in pending:
                fetched.cancel()


def _checked(tree: VerifiedTree, fetched: Iterable[tuple[Bundle, bytes, int]]) -> Iterator[_Checked]:
    for bundle, content, width in fetched:
        yield _check_bundle(tree, bundle, content, width)


def _check_bundle(tree: VerifiedTree, bundle: Bundle, content: bytes, width: int) -> _Checked:
    try:
        entries = decode_bundle(content, width)[: bundle.width]
    except Malformed as error:
        evidence = {"path": bundle.path, "bundle": encode_base64(content)}
        raise Misbehaviour(Fault.ALTER, error.code, f"{bundle.path}: {error.detail}", evidence) from error
    leaves = [leaf_hash(entry) for entry in entries]
    try:
        tree.check_leaves(bundle, leaves)
    except Misbehaviour as error:
        if error.code == "altered_entries":
            error.evidence.update(path=bundle.path, bundle=encode_base64(content))
        raise
    return _Checked(bundle, entries, leaves)
