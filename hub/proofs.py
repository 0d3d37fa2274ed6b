"""Proofs from stored tiles: which tiles one needs, and the proof once they are here."""

from collections.abc import Mapping, Sequence

from sharing_protocol.merkle import consistency_proof, inclusion_proof, node_hash, range_root
from sharing_protocol.tiles import TILE_HEIGHT, TILE_WIDTH

Tiles = Mapping[tuple[int, int], Sequence[bytes]]
"""Hashes of tiles, by `(level, index)`. A tile may be wider than the tree in question: more only follows."""


class TileHashes:
    """A `merkle.NodeHash` over tiles. It remembers inner nodes, as the proofs of one batch share most of them."""

    def __init__(self, tiles: Tiles) -> None:
        self._tiles = tiles
        self._nodes: dict[tuple[int, int], bytes] = {}

    def __call__(self, height: int, index: int) -> bytes:
        """Hash of the complete subtree; KeyError or IndexError if its tile is not here."""
        level, within = divmod(height, TILE_HEIGHT)
        if within == 0:
            return self._tiles[level, index // TILE_WIDTH][index % TILE_WIDTH]
        known = self._nodes.get((height, index))
        if known is None:
            known = node_hash(self(height - 1, 2 * index), self(height - 1, 2 * index + 1))
            self._nodes[height, index] = known
        return known


def tiles_for_proof(index: int, size: int) -> set[tuple[int, int]]:
    """`(level, index)` of the tiles that the inclusion proof of entry `index` is computed from."""
    places = _Places()
    # The same walk that makes the proof, over placeholders.
    inclusion_proof(index, size, places)
    return places.seen


def tiles_for_consistency(old: int, new: int) -> set[tuple[int, int]]:
    """`(level, index)` of the tiles that the consistency proof between two sizes is computed from."""
    places = _Places()
    consistency_proof(old, new, places)
    return places.seen


def tiles_for_peaks(size: int) -> set[tuple[int, int]]:
    """`(level, index)` of the tiles that hold the perfect subtrees which make up the tree of `size` leaves."""
    places = _Places()
    range_root(0, size, places)
    return places.seen


class _Places:
    def __init__(self) -> None:
        self.seen: set[tuple[int, int]] = set()

    def __call__(self, height: int, index: int) -> bytes:
        level, within = divmod(height, TILE_HEIGHT)
        self.seen.add((level, (index << within) // TILE_WIDTH))
        return b""
