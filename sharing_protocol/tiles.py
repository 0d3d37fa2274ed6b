"""C2SP tlog-tiles: paths, tile and bundle encodings, and a tree that believes no tile it has not checked.

A tile holds up to 256 consecutive hashes of one level; level L's hashes are roots of 256**L leaves. Only the
rightmost tile of a level can be partial. A bundle holds the entries themselves, 256 to a bundle, each
framed by a 16-bit big-endian length. Source: C2SP tlog-tiles.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sharing_protocol.envelope import MAX_ENVELOPE_BYTES
from sharing_protocol.errors import Fault, Malformed, Misbehaviour
from sharing_protocol.keys import encode_base64
from sharing_protocol.merkle import HASH_BYTES, fold_peaks, peak_positions, subtree_root

TILE_HEIGHT = 8
TILE_WIDTH = 256
MAX_TILE_BYTES = TILE_WIDTH * HASH_BYTES
MAX_BUNDLE_BYTES = TILE_WIDTH * (2 + MAX_ENVELOPE_BYTES)
MAX_TREE_SIZE = 2**48
"""Far above any log of ours; bounds what a lying size can make a client compute."""

_INDEX = re.compile(r"(?:x[0-9]{3}/)*[0-9]{3}")
_PATH = re.compile(r"tile/(?P<level>entries|[0-9]|[1-5][0-9]|6[0-3])/(?P<rest>.+)")
_PARTIAL = re.compile(r"(?P<index>.+)\.p/(?P<width>[1-9][0-9]{0,2})")


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile's place: `level` 0 to 63, `index` from the left, `width` hashes (256 when full)."""

    level: int
    index: int
    width: int = TILE_WIDTH

    @property
    def path(self) -> str:
        """Its path below the log's prefix."""
        return f"tile/{self.level}/{_index_path(self.index)}{_partial_suffix(self.width)}"


@dataclass(frozen=True, slots=True)
class Bundle:
    """One entry bundle's place: `index` from the left, `width` entries (256 when full)."""

    index: int
    width: int = TILE_WIDTH

    @property
    def path(self) -> str:
        """Its path below the log's prefix."""
        return f"tile/entries/{_index_path(self.index)}{_partial_suffix(self.width)}"


def parse_path(path: str) -> Tile | Bundle:
    """Read a tile's or bundle's path, in its one form.

    Raises:
        Malformed: `bad_tile_path`.
    """
    refused = Malformed("bad_tile_path", f"{path[:100]!r} is not the path of a tile or an entry bundle")
    match = _PATH.fullmatch(path)
    if match is None or len(path) > 100:
        raise refused
    rest, width = match["rest"], TILE_WIDTH
    if partial := _PARTIAL.fullmatch(rest):
        rest, width = partial["index"], int(partial["width"])
    if not _INDEX.fullmatch(rest):
        raise refused
    index = int(rest.replace("x", "").replace("/", ""))
    place = Bundle(index, width) if match["level"] == "entries" else Tile(int(match["level"]), index, width)
    if width > TILE_WIDTH or place.path != path:
        raise refused
    return place


def _index_path(index: int) -> str:
    digits = f"{index % 1000:03d}"
    while index >= 1000:
        index //= 1000
        digits = f"x{index % 1000:03d}/{digits}"
    return digits


def _partial_suffix(width: int) -> str:
    return "" if width == TILE_WIDTH else f".p/{width}"


def tiles_per_level(size: int, level: int) -> tuple[int, int]:
    """`(full, partial_width)`: how many full tiles level `level` has at `size` leaves, and the width of the next."""
    hashes = size >> (TILE_HEIGHT * level)
    return hashes // TILE_WIDTH, hashes % TILE_WIDTH


def right_edge(size: int) -> list[Tile]:
    """The partial tiles of a tree of `size` leaves, lowest level first; together they determine its root."""
    edge = []
    level = 0
    while size >> (TILE_HEIGHT * level):
        full, width = tiles_per_level(size, level)
        if width:
            edge.append(Tile(level, full, width))
        level += 1
    return edge


def bundles_between(start: int, size: int) -> Iterator[Bundle]:
    """The bundles that hold entries `start` to `size` of a tree of `size` leaves, one by one: there may be 2**40."""
    full, width = tiles_per_level(size, 0)
    yield from map(Bundle, range(start // TILE_WIDTH, full))
    if width and start < size:
        yield Bundle(full, width)


def encode_bundle(entries: Iterable[bytes]) -> bytes:
    """Frame entries as a bundle: each a 16-bit big-endian length and the bytes."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def decode_bundle(data: bytes, width: int) -> list[bytes]:
    """Split a bundle into exactly `width` entries.

    Raises:
        Malformed: `bad_bundle`: truncated, or with more entries or other bytes after them.
    """
    entries: list[bytes] = []
    position = 0
    for number in range(width):
        start = position + 2
        end = start + int.from_bytes(data[position:start], "big")
        if end > len(data):
            raise Malformed("bad_bundle", f"the bundle ends before its entry {number} does, {width} were asked for")
        entries.append(data[start:end])
        position = end
    if position != len(data):
        raise Malformed("bad_bundle", f"{len(data) - position} bytes follow the bundle's last entry")
    return entries


def split_hashes(data: bytes, width: int) -> list[bytes]:
    """Split a tile into its `width` hashes.

    Raises:
        Malformed: `bad_tile`: another length than 32 * `width` bytes.
    """
    if len(data) != width * HASH_BYTES:
        raise Malformed("bad_tile", f"a tile of {width} hashes has {width * HASH_BYTES} bytes, not {len(data)}")
    return [data[i : i + HASH_BYTES] for i in range(0, len(data), HASH_BYTES)]


@dataclass(slots=True)
class GrowingTree:
    """The right edge of a log that is being written: enough to append, in memory logarithmic in its size.

    Attributes:
        size: leaves so far.
        edge: by level, the hashes of that level's partial tile.
    """

    size: int = 0
    edge: dict[int, list[bytes]] = field(default_factory=dict)

    def append(self, leaves: Iterable[bytes]) -> dict[tuple[int, int], list[bytes]]:
        """Add leaf hashes; return every tile that changed, `(level, index)` → all its hashes."""
        changed: dict[tuple[int, int], list[bytes]] = {}
        for leaf in leaves:
            self._add(0, self.size, leaf, changed)
            self.size += 1
        # Copies: the edge's own lists go on growing, and what a caller still holds must not.
        return {place: list(hashes) for place, hashes in changed.items()}

    def _add(self, level: int, position: int, value: bytes, changed: dict[tuple[int, int], list[bytes]]) -> None:
        tile = self.edge.setdefault(level, [])
        tile.append(value)
        index = position // TILE_WIDTH
        changed[level, index] = tile
        if len(tile) == TILE_WIDTH:
            self.edge[level] = []
            self._add(level + 1, index, subtree_root(tile), changed)

    def root(self) -> bytes:
        """Root hash at the present size."""
        return edge_root(self.edge)


def edge_root(edge: Mapping[int, Sequence[bytes]]) -> bytes:
    """Root of the tree whose partial tiles, by level, hold these hashes."""
    peaks = []
    for level in sorted(edge, reverse=True):
        hashes = edge[level]
        for height, index in peak_positions(0, len(hashes)):
            peaks.append(subtree_root(hashes[index << height : (index + 1) << height]))
    return fold_peaks(peaks)


FetchTile = Callable[[Tile], bytes]


class VerifiedTree:
    """A tree of a signed size and root, read through tiles that somebody else serves.

    Every tile is checked before any of its hashes is used: the partial tiles together hash to the root, and a
    full tile hashes to its place in the tile above it. So `node` never returns a hash that is not in the
    signed tree, and proofs computed from it need no further trust.
    """

    def __init__(self, size: int, root: bytes, fetch: FetchTile) -> None:
        """Take what a verified checkpoint says, and a way to fetch tiles.

        `fetch` returns the tile's bytes; it is called at most once a tile.

        Raises:
            Malformed: `tree_too_large` beyond 2**48 leaves.
        """
        if size > MAX_TREE_SIZE:
            raise Malformed("tree_too_large", f"a tree of {size} leaves is beyond what this client reads")
        self.size = size
        self.root = root
        self._fetch = fetch
        self._tiles: dict[tuple[int, int], list[bytes]] = {}
        self._edge_checked = False

    def node(self, height: int, index: int) -> bytes:
        """Hash of the complete subtree of `2**height` leaves at `index` (see `merkle.NodeHash`).

        Raises:
            Misbehaviour: `ALTER`, if a tile does not belong to the signed tree.
            ValueError: the tree has no such complete subtree.
        """
        if index < 0 or (index + 1) << height > self.size:
            raise ValueError(f"a tree of {self.size} leaves has no complete subtree {index} of height {height}")
        level, within = divmod(height, TILE_HEIGHT)
        first = index << within
        hashes = self._tile(level, first // TILE_WIDTH)
        start = first % TILE_WIDTH
        return subtree_root(hashes[start : start + (1 << within)])

    def check_leaves(self, bundle: Bundle, leaves: Sequence[bytes]) -> None:
        """Check that `leaves` are the leaf hashes of `bundle` in the signed tree.

        Raises:
            Misbehaviour: `ALTER`, if they are not.
            ValueError: the bundle is not of this tree, or not of as many leaves.
        """
        if bundle.index * TILE_WIDTH + bundle.width > self.size or len(leaves) != bundle.width:
            raise ValueError(f"{len(leaves)} leaves are not {bundle.path} of a tree of {self.size}")
        if bundle.width == TILE_WIDTH:
            genuine = subtree_root(leaves) == self.node(TILE_HEIGHT, bundle.index)
        else:
            genuine = list(leaves) == self._tile(0, bundle.index)[: bundle.width]
        if not genuine:
            raise Misbehaviour(
                Fault.ALTER,
                "altered_entries",
                f"the entries of {bundle.path} do not hash into the signed tree of {self.size} entries",
            )

    def _tile(self, level: int, index: int) -> list[bytes]:
        self._check_edge()
        known = self._tiles.get((level, index))
        if known is None:
            tile = Tile(level, index)
            data = self._fetch(tile)
            known = self._split(tile, data)
            if subtree_root(known) != self.node(TILE_HEIGHT * (level + 1), index):
                raise self._altered({tile: data})
            self._tiles[level, index] = known
        return known

    def _check_edge(self) -> None:
        if self._edge_checked:
            return
        served = {tile: self._fetch(tile) for tile in right_edge(self.size)}
        edge = {(tile.level, tile.index): self._split(tile, data) for tile, data in served.items()}
        if edge_root({level: hashes for (level, _), hashes in edge.items()}) != self.root:
            raise self._altered(served)
        self._tiles.update(edge)
        self._edge_checked = True

    def _split(self, tile: Tile, data: bytes) -> list[bytes]:
        try:
            return split_hashes(data, tile.width)
        except Malformed as error:
            raise self._altered({tile: data}) from error

    def _altered(self, served: Mapping[Tile, bytes]) -> Misbehaviour:
        paths = ", ".join(tile.path for tile in served)
        return Misbehaviour(
            Fault.ALTER,
            "altered_tile",
            f"{paths}: this does not hash into the signed tree of {self.size} entries",
            {tile.path: encode_base64(data) for tile, data in served.items()},
        )
