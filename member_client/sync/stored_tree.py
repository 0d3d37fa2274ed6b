"""The log's tree, computed from the stored leaf hashes: proofs for others, without asking the hub."""

from __future__ import annotations

from member_client.sync.store import Store
from sharing_protocol.merkle import CompactRange, inclusion_proof, node_hash, prefix_proof, range_root

_HEIGHT_AT_ONCE = 12
"""A subtree of so many levels (4,096 leaves) is read and hashed in one go; larger ones are put together from these."""


class StoredTree:
    """The tree over the first stored entries. Hashes of subtrees are computed once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[tuple[int, int], bytes] = {}

    def node(self, height: int, index: int) -> bytes:
        """See `merkle.NodeHash`; the entries below must be stored."""
        known = self._known.get((height, index))
        if known is None:
            if height > _HEIGHT_AT_ONCE:
                known = node_hash(self.node(height - 1, 2 * index), self.node(height - 1, 2 * index + 1))
            else:
                tree = CompactRange()
                for leaf in self._store.leaves(index << height, (index + 1) << height):
                    tree.append(leaf)
                known = tree.root()
            self._known[height, index] = known
        return known

    def root(self, size: int) -> bytes:
        """Root over the first `size` entries."""
        return range_root(0, size, self.node)

    def inclusion_proof(self, index: int, size: int) -> tuple[bytes, ...]:
        """See `merkle.inclusion_proof`."""
        return tuple(inclusion_proof(index, size, self.node))

    def prefix_proof(self, old: int, new: int) -> list[bytes]:
        """See `merkle.prefix_proof`."""
        return prefix_proof(old, new, self.node)
