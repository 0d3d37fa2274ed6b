"""RFC 6962 Merkle trees: hashes, roots, and inclusion and consistency proofs.

All hashes are 32-byte SHA-256 values. Proofs are computed from a callable that yields the hash of a complete
subtree, so the same code serves a hub that reads tiles from a database and a member that reads verified ones.
Sources: RFC 6962, section 2.1; RFC 9162, section 2.1 (verification algorithms).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

NodeHash = Callable[[int, int], bytes]
"""`(height, index)` → hash of the complete subtree of `2**height` leaves that starts at `index * 2**height`."""


def leaf_hash(entry: bytes) -> bytes:
    """Hash of one log entry: SHA-256(0x00 || entry)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node: SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def subtree_root(hashes: Sequence[bytes]) -> bytes:
    """Root of the perfect tree over `hashes`, whose count is a power of two."""
    level = list(hashes)
    while len(level) > 1:
        level = [node_hash(level[i], level[i + 1]) for i in range(0, len(level), 2)]
    return level[0]


class CompactRange:
    """The root of a growing tree, in memory logarithmic in its size.

    Attributes:
        size: leaves so far.
        peaks: roots of the perfect subtrees that make up the tree, largest first.
    """

    def __init__(self, size: int = 0, peaks: Iterable[bytes] = ()) -> None:
        self.size = size
        self.peaks = list(peaks)
        if len(self.peaks) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} peaks, not {len(self.peaks)}")

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash on the right."""
        node, size = leaf, self.size
        while size & 1:
            node = node_hash(self.peaks.pop(), node)
            size >>= 1
        self.peaks.append(node)
        self.size += 1

    def root(self) -> bytes:
        """Root hash at the present size."""
        return fold_peaks(self.peaks)


def fold_peaks(peaks: Sequence[bytes]) -> bytes:
    """Root of the tree whose perfect subtrees, largest first, have these roots."""
    if not peaks:
        return EMPTY_ROOT
    root = peaks[-1]
    for peak in reversed(peaks[:-1]):
        root = node_hash(peak, root)
    return root


def root_from_leaves(leaves: Iterable[bytes]) -> bytes:
    """Root over leaf hashes, in order."""
    tree = CompactRange()
    for leaf in leaves:
        tree.append(leaf)
    return tree.root()


def peak_positions(start: int, end: int) -> list[tuple[int, int]]:
    """`(height, index)` of the perfect subtrees that exactly cover leaves `start` to `end`, left to right.

    `start` must be a multiple of the largest power of two not above `end - start`, which holds for every
    range that a proof asks for.
    """
    positions = []
    while start < end:
        height = (end - start).bit_length() - 1
        positions.append((height, start >> height))
        start += 1 << height
    return positions


def range_root(start: int, end: int, node: NodeHash) -> bytes:
    """Root of the tree over leaves `start` to `end` (RFC 6962's MTH(D[start:end]))."""
    return fold_peaks([node(height, index) for height, index in peak_positions(start, end)])


def inclusion_proof(index: int, size: int, node: NodeHash) -> list[bytes]:
    """RFC 6962 audit path of leaf `index` in the tree of `size` leaves, leaf to root.

    Raises:
        ValueError: `index` is not in the tree.
    """
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size}")
    path = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(range_root(middle, end, node))
            end = middle
        else:
            path.append(range_root(start, middle, node))
            start = middle
    return path[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Check an inclusion proof (RFC 9162, section 2.1.3.2)."""
    if not 0 <= index < size or any(len(value) != HASH_BYTES for value in (leaf, root, *proof)):
        return False
    fn, sn, result = index, size - 1, leaf
    for step in proof:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            result = node_hash(step, result)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            result = node_hash(result, step)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and result == root


def consistency_proof(old: int, new: int, node: NodeHash) -> list[bytes]:
    """RFC 6962 consistency proof between the trees of `old` and `new` leaves; empty for equal sizes.

    Raises:
        ValueError: unless `0 < old <= new`.
    """
    if not 0 < old <= new:
        raise ValueError(f"no consistency proof from {old} to {new} leaves")
    path = []
    start, end, complete = 0, new, True
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(range_root(middle, end, node))
            end = middle
        else:
            path.append(range_root(start, middle, node))
            start, complete = middle, False
    if not complete:
        path.append(range_root(start, end, node))
    return path[::-1]


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Check a consistency proof (RFC 9162, section 2.1.4.2).

    A proof from the empty tree says nothing and is refused here, as the RFC 6962 vectors have it; a witness
    that starts from nothing uses `verify_extension`.
    """
    if any(len(value) != HASH_BYTES for value in proof) or old < 1 or new < old:
        return False
    if old == new:
        return not proof and old_root == new_root
    steps = list(proof)
    if old & (old - 1) == 0:
        steps.insert(0, old_root)
    return prefix_root(old, new, new_root, steps) == old_root


def prefix_proof(old: int, new: int, node: NodeHash) -> list[bytes]:
    """What shows which root the first `old` of `new` leaves have: see `prefix_root`.

    It is a consistency proof whose first hash is never left out: RFC 6962 leaves it out where `old` is a power of two,
    since it is then the old root, if the trees agree. Where they do not agree, it is what shows that.

    Raises:
        ValueError: unless `0 < old < new`.
    """
    if not 0 < old < new:
        raise ValueError(f"{old} leaves are not the beginning of {new}")
    proof = consistency_proof(old, new, node)
    return [range_root(0, old, node), *proof] if old & (old - 1) == 0 else proof


def prefix_root(old: int, new: int, new_root: bytes, proof: Sequence[bytes]) -> bytes | None:
    """Root of the first `old` leaves of the tree with `new_root`, as the proof shows, or None if it shows nothing.

    The computation is that of RFC 9162, section 2.1.4.2: the same hashes lead to both roots.
    """
    if not 0 < old < new or not proof or any(len(value) != HASH_BYTES for value in proof):
        return None
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    first = second = proof[0]
    for step in proof[1:]:
        if sn == 0:
            return None
        if fn & 1 or fn == sn:
            first, second = node_hash(step, first), node_hash(step, second)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            second = node_hash(second, step)
        fn, sn = fn >> 1, sn >> 1
    return first if sn == 0 and second == new_root else None


def verify_extension(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Like `verify_consistency`, but accepts growth from the empty tree with an empty proof (C2SP tlog-witness)."""
    if old == 0:
        empty_stays_empty = new > 0 or new_root == EMPTY_ROOT
        return not proof and old_root == EMPTY_ROOT and empty_stays_empty
    return verify_consistency(old, new, old_root, new_root, proof)


def _split(size: int) -> int:
    """The largest power of two below `size` (RFC 6962, section 2.1)."""
    return 1 << (size - 1).bit_length() - 1
