"""Entries from the cursor on, fetched ahead and proven to be in the signed tree, bundle by bundle.

What is held at once is bounded in bundles, whatever size of tree a hub signs and whatever it serves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from member_client.errors import InvalidInput
from member_client.sync.store import Store
from sharing_protocol.errors import Fault, Malformed, Misbehaviour
from sharing_protocol.keys import encode_base64
from sharing_protocol.merkle import leaf_hash
from sharing_protocol.tiles import TILE_WIDTH, Bundle, VerifiedTree, bundles_between, decode_bundle

if TYPE_CHECKING:
    from member_client.hub_connection import HubConnection

BUNDLES_AHEAD = 6

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive entries of the log, and their leaf hashes, which are in the signed tree."""

    start: int
    entries: list[bytes]
    leaves: list[bytes]


def verified_stretches(store: Store, hub: HubConnection, tree: VerifiedTree) -> Generator[Stretch]:
    """Entries from the store's cursor on, a bundle's at a time, fetched ahead.

    The store is asked now, and not again: the rest may be done in another thread.

    Raises:
        Misbehaviour: `ALTER`, `WITHHOLD`.
        InvalidInput: the store does not hold what was verified when it was written.
    """
    cursor = store.cursor
    stored = store.leaves(cursor - cursor % TILE_WIDTH, cursor)
    return _verified(hub, tree, cursor, stored)


def ahead(items: Iterator[_T], count: int) -> Generator[_T]:
    """The same items, of which at most `count` are drawn ahead, in a thread of its own."""
    with ThreadPoolExecutor(max_workers=1) as drawing:
        drawn: deque[Future[_T | None]] = deque(drawing.submit(next, items, None) for _ in range(count))
        try:
            while (item := drawn.popleft().result()) is not None:
                drawn.append(drawing.submit(next, items, None))
                yield item
        finally:
            for future in drawn:
                future.cancel()


def _verified(hub: HubConnection, tree: VerifiedTree, cursor: int, stored: list[bytes]) -> Generator[Stretch]:
    for bundle, content, width in _fetch_ahead(hub, bundles_between(cursor, tree.size)):
        whole = _check_bundle(tree, bundle, content, width)
        known = max(cursor - whole.start, 0)
        if known and stored != whole.leaves[:known]:
            raise InvalidInput(
                "the local store does not match the log it was verified against", "it is damaged; sync anew"
            )
        yield Stretch(whole.start + known, whole.entries[known:], whole.leaves[known:])


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


def _check_bundle(tree: VerifiedTree, bundle: Bundle, content: bytes, width: int) -> Stretch:
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
    return Stretch(bundle.index * TILE_WIDTH, entries, leaves)
