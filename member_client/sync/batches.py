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

    Raises:
        Misbehaviour: `ALTER`, `WITHHOLD`.
        InvalidInput: the store does not hold what was verified when it was written.
    """
    cursor = store.cursor
    fetched = _fetch_ahead(hub, bundles_between(cursor, tree.size))
    for group in _in_batches(_checked(tree, fetched), bundles_per_batch):
        start = group[0][0].index * TILE_WIDTH
        entries = [entry for _, bundled in group for entry in bundled]
        leaves = [leaf_hash(entry) for entry in entries]
        known = max(cursor - start, 0)
        if store.leaves(start, cursor) != leaves[:known]:
            raise InvalidInput(
                "the local store does not match the log it was verified against", "it is damaged; sync anew"
            )
        yield Batch(start + known, entries[known:], leaves[known:])


_Entries = tuple[Bundle, list[bytes]]


def _in_batches(bundles: Iterable[_Entries], most: int) -> Iterator[list[_Entries]]:
    batch: list[_Entries] = []
    held = 0
    for bundle in bundles:
        batch.append(bundle)
        held += sum(map(len, bundle[1]))
        if len(batch) >= most or held >= BATCH_BYTES:
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


def _checked(tree: VerifiedTree, fetched: Iterable[tuple[Bundle, bytes, int]]) -> Iterator[_Entries]:
    for bundle, content, width in fetched:
        yield bundle, _check_bundle(tree, bundle, content, width)


def _check_bundle(tree: VerifiedTree, bundle: Bundle, content: bytes, width: int) -> list[bytes]:
    evidence = {"path": bundle.path, "bundle": encode_base64(content)}
    try:
        entries = decode_bundle(content, width)[: bundle.width]
    except Malformed as error:
        raise Misbehaviour(Fault.ALTER, error.code, f"{bundle.path}: {error.detail}", evidence) from error
    try:
        tree.check_leaves(bundle, [leaf_hash(entry) for entry in entries])
    except Misbehaviour as error:
        if error.code == "altered_entries":
            error.evidence.update(evidence)
        raise
    return entries
