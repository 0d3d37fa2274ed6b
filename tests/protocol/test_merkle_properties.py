"""Trees of any size, proofs of any leaf, and any tampering with them."""

from __future__ import annotations

import hashlib

import hypothesis.strategies as st
import pytest
from hypothesis import given

from sharing_protocol import merkle
from sharing_protocol.errors import Fault, Malformed, Misbehaviour
from sharing_protocol.keys import decode_base64
from sharing_protocol.merkle import CompactRange
from sharing_protocol.tiles import (
    MAX_TREE_SIZE,
    TILE_WIDTH,
    Bundle,
    GrowingTree,
    Tile,
    VerifiedTree,
    bundles_between,
    decode_bundle,
    edge_root,
    encode_bundle,
    parse_path,
    right_edge,
    split_hashes,
    tiles_per_level,
)
from tests.protocol.refusals import code_of

LEAVES = [hashlib.sha256(index.to_bytes(4, "big")).digest() for index in range(70_000)]


def plain_root(leaves: list[bytes]) -> bytes:
    """RFC 6962's MTH as its section 2.1 writes it."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + plain_root(leaves[:split]) + plain_root(leaves[split:])).digest()


def node(height: int, index: int) -> bytes:
    """The node callable of a tree that is simply there."""
    return merkle.subtree_root(LEAVES[index << height : (index + 1) << height])


def flip(data: bytes, bit: int) -> bytes:
    position = bit % (len(data) * 8)
    return (int.from_bytes(data, "big") ^ (1 << position)).to_bytes(len(data), "big")


sizes = st.one_of(st.integers(1, 20), st.integers(1, 600), st.sampled_from([255, 256, 257, 511, 512, 513, 1024]))
bits = st.integers(0, 255)


@given(st.integers(0, 600))
def test_every_way_to_a_root_leads_to_the_same(size: int) -> None:
    growing = GrowingTree()
    growing.append(LEAVES[:size])
    root = plain_root(LEAVES[:size])
    assert merkle.root_from_leaves(LEAVES[:size]) == root
    assert merkle.range_root(0, size, node) == root
    assert growing.root() == root


@given(st.integers(0, 600), st.integers(0, 600))
def test_a_compact_range_goes_on_where_it_stopped(first: int, more: int) -> None:
    begun = CompactRange()
    for leaf in LEAVES[:first]:
        begun.append(leaf)
    resumed = CompactRange(begun.size, begun.peaks)
    for leaf in LEAVES[first : first + more]:
        resumed.append(leaf)
    assert resumed.root() == plain_root(LEAVES[: first + more])
    if first:
        with pytest.raises(ValueError, match="peaks"):
            CompactRange(first, begun.peaks[1:])


@given(st.data(), sizes)
def test_inclusion_is_proven_and_no_tampering_is(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(0, size - 1))
    root, leaf = plain_root(LEAVES[:size]), LEAVES[index]
    proof = merkle.inclusion_proof(index, size, node)
    assert merkle.verify_inclusion(leaf, index, size, proof, root)
    bit = data.draw(bits)
    assert not merkle.verify_inclusion(flip(leaf, bit), index, size, proof, root)
    assert not merkle.verify_inclusion(leaf, index, size, proof, flip(root, bit))
    for step in range(len(proof)):
        altered = [*proof[:step], flip(proof[step], bit), *proof[step + 1 :]]
        assert not merkle.verify_inclusion(leaf, index, size, altered, root)
        assert not merkle.verify_inclusion(leaf, index, size, [*proof[:step], *proof[step + 1 :]], root)
        assert not merkle.verify_inclusion(
            leaf, index, size, [*proof[:step], proof[step][:-1], *proof[step + 1 :]], root
        )
    assert not merkle.verify_inclusion(leaf, index, size, [*proof, leaf], root)
    other = data.draw(st.integers(-1, size).filter(lambda wrong: wrong != index))
    assert not merkle.verify_inclusion(leaf, other, size, proof, root)
    # Another size may have the same path for this leaf; the proof then proves nothing it should not, since the size
    # is signed together with the root. What must not pass is a size that does not hold the leaf.
    assert not merkle.verify_inclusion(leaf, index, data.draw(st.integers(-1, index)), proof, root)


@given(st.data(), sizes)
def test_consistency_is_proven_and_no_tampering_is(data: st.DataObject, new: int) -> None:
    old = data.draw(st.integers(1, new))
    old_root, new_root = plain_root(LEAVES[:old]), plain_root(LEAVES[:new])
    proof = merkle.consistency_proof(old, new, node)
    assert merkle.verify_consistency(old, new, old_root, new_root, proof)
    assert merkle.verify_extension(old, new, old_root, new_root, proof)
    bit = data.draw(bits)
    assert not merkle.verify_consistency(old, new, flip(old_root, bit), new_root, proof)
    assert not merkle.verify_consistency(old, new, old_root, flip(new_root, bit), proof)
    assert not merkle.verify_consistency(old, new, old_root, new_root, [*proof, old_root])
    for step in range(len(proof)):
        altered = [*proof[:step], flip(proof[step], bit), *proof[step + 1 :]]
        assert not merkle.verify_consistency(old, new, old_root, new_root, altered)
        assert not merkle.verify_consistency(old, new, old_root, new_root, [*proof[:step], *proof[step + 1 :]])
        assert not merkle.verify_consistency(old, new, old_root, new_root, [*proof[:step], b"", *proof[step + 1 :]])
    if old != new:
        assert not merkle.verify_consistency(new, old, new_root, old_root, proof)
        assert not merkle.verify_consistency(old, new, old_root, new_root, [])
        wrong = data.draw(st.integers(1, new - 1).filter(lambda size: size != old) if new > 2 else st.just(new))
        assert not merkle.verify_consistency(wrong, new, plain_root(LEAVES[:wrong]), new_root, proof) or (
            merkle.consistency_proof(wrong, new, node) == proof
        )


@given(st.integers(0, 40), st.binary(max_size=40))
def test_growth_from_nothing_has_an_empty_proof(new: int, other: bytes) -> None:
    root = plain_root(LEAVES[:new])
    assert merkle.verify_extension(0, new, merkle.EMPTY_ROOT, root, [])
    assert not merkle.verify_extension(0, new, merkle.EMPTY_ROOT, root, [root])
    assert not merkle.verify_extension(0, new, other, root, [])
    assert not merkle.verify_extension(0, 0, merkle.EMPTY_ROOT, other, [])
    assert not merkle.verify_consistency(0, new, merkle.EMPTY_ROOT, root, [])


@pytest.mark.parametrize(("index", "size"), [(0, 0), (3, 3), (-1, 3)])
def test_there_is_no_inclusion_proof_outside_the_tree(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="not in a tree"):
        merkle.inclusion_proof(index, size, node)


@pytest.mark.parametrize(("old", "new"), [(0, 3), (4, 3), (-1, 3)])
def test_there_is_no_consistency_proof_backwards(old: int, new: int) -> None:
    with pytest.raises(ValueError, match="no consistency proof"):
        merkle.consistency_proof(old, new, node)


@given(st.data(), st.integers(2, 300))
def test_a_prefix_proof_gives_the_true_root_of_the_beginning_or_nothing(data: st.DataObject, new: int) -> None:
    old = data.draw(st.integers(1, new - 1))
    proof, root = merkle.prefix_proof(old, new, node), merkle.range_root(0, new, node)
    true = merkle.range_root(0, old, node)
    assert merkle.prefix_root(old, new, root, proof) == true
    at, bit = data.draw(st.integers(0, len(proof) - 1)), data.draw(st.integers(0, 255))
    broken = [*proof[:at], flip(proof[at], bit), *proof[at + 1 :]]
    for tampered in (broken, proof[1:], proof[:-1], [*proof, proof[-1]], proof[::-1], [], [proof[0][1:], *proof[1:]]):
        assert merkle.prefix_root(old, new, root, tampered) in (None, true)
    other = data.draw(st.integers(1, 300))
    assert merkle.prefix_root(other, new, root, proof) in (None, merkle.range_root(0, other, node))


@pytest.mark.parametrize(("old", "new"), [(0, 5), (5, 5), (6, 5), (-1, 5)])
def test_there_is_no_prefix_of_nothing_or_everything(old: int, new: int) -> None:
    with pytest.raises(ValueError, match="beginning"):
        merkle.prefix_proof(old, new, node)
    assert merkle.prefix_root(old, new, merkle.range_root(0, new, node), [node(0, 0)]) is None
    assert merkle.prefix_root(4, 4, node(2, 0), [node(2, 0)]) is None


def test_every_proof_of_every_small_tree_holds() -> None:
    # Sizes just above a power of two take branches that few random sizes take.
    roots = [plain_root(LEAVES[:size]) for size in range(36)]
    for new in range(1, 36):
        for index in range(new):
            assert merkle.verify_inclusion(
                LEAVES[index], index, new, merkle.inclusion_proof(index, new, node), roots[new]
            )
        for old in range(1, new):
            proof = merkle.consistency_proof(old, new, node)
            assert merkle.verify_consistency(old, new, roots[old], roots[new], proof)
            assert merkle.prefix_root(old, new, roots[new], merkle.prefix_proof(old, new, node)) == roots[old]


# -- tiles -------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 700), min_size=1, max_size=6))
def test_a_tree_grown_in_batches_writes_the_tiles_of_its_size(batches: list[int]) -> None:
    tree, compact, tiles = GrowingTree(), CompactRange(), dict[tuple[int, int], list[bytes]]()
    for batch in batches:
        leaves = LEAVES[tree.size : tree.size + batch]
        tiles |= tree.append(leaves)
        for leaf in leaves:
            compact.append(leaf)
        assert tree.root() == compact.root() == merkle.range_root(0, tree.size, node)
        assert tree.root() == edge_root({tile.level: tiles[tile.level, tile.index] for tile in right_edge(tree.size)})
    kept = {place: list(hashes) for place, hashes in tiles.items()}
    tree.append(LEAVES[tree.size : tree.size + 3])
    assert tiles == kept  # what a caller was given does not grow under its hands
    for (level, index), hashes in tiles.items():
        assert hashes == [node(8 * level, index * TILE_WIDTH + at) for at in range(len(hashes))]


def stored(size: int) -> dict[Tile, bytes]:
    """Every tile of a tree of this size, by place."""
    tree = GrowingTree()
    return {
        Tile(level, index, len(hashes)): b"".join(hashes)
        for (level, index), hashes in tree.append(LEAVES[:size]).items()
    }


@given(st.data(), sizes)
def test_a_verified_tree_gives_the_true_nodes(data: st.DataObject, size: int) -> None:
    tiles, asked = stored(size), list[Tile]()

    def fetch(tile: Tile) -> bytes:
        asked.append(tile)
        return tiles[tile]

    tree = VerifiedTree(size, plain_root(LEAVES[:size]), fetch)
    for _ in range(5):
        height = data.draw(st.integers(0, size.bit_length() - 1))
        index = data.draw(st.integers(0, (size >> height) - 1))
        assert tree.node(height, index) == node(height, index)
    assert len(asked) == len(set(asked))
    for bundle in bundles_between(0, size):
        start = bundle.index * TILE_WIDTH
        tree.check_leaves(bundle, LEAVES[start : start + bundle.width])


@given(st.data(), sizes, st.integers(0, 10**6))
def test_a_verified_tree_never_gives_a_wrong_node(data: st.DataObject, size: int, bit: int) -> None:
    tiles = stored(size)
    altered = data.draw(st.sampled_from(sorted(tiles, key=str)))
    tiles[altered] = flip(tiles[altered], bit)
    tree = VerifiedTree(size, plain_root(LEAVES[:size]), tiles.__getitem__)
    caught = False
    for _ in range(5):
        height = data.draw(st.integers(0, size.bit_length() - 1))
        index = data.draw(st.integers(0, (size >> height) - 1))
        try:
            assert tree.node(height, index) == node(height, index)
        except Misbehaviour as lie:
            caught = True
            assert_altered(lie)
    if altered in right_edge(size):
        assert caught


def assert_altered(lie: Misbehaviour) -> None:
    assert (lie.fault, code_of(lie)) == (Fault.ALTER, "altered_tile")
    assert lie.evidence
    for path, data in lie.evidence.items():
        assert isinstance(parse_path(path), Tile)
        decode_base64(data, "the tile")


@given(st.data(), sizes)
def test_a_tile_of_another_length_is_an_altered_one(data: st.DataObject, size: int) -> None:
    tiles = stored(size)
    cut = data.draw(st.sampled_from(right_edge(size)))
    change = data.draw(st.sampled_from([-32, -1, 1, 32]))
    tiles[cut] = tiles[cut][:change] if change < 0 else tiles[cut] + bytes(change)
    with pytest.raises(Misbehaviour) as caught:
        VerifiedTree(size, plain_root(LEAVES[:size]), tiles.__getitem__).node(0, 0)
    assert_altered(caught.value)


def test_a_tree_of_three_levels() -> None:
    size = TILE_WIDTH**2 + 300
    tiles = stored(size)
    assert {tile.level for tile in tiles} == {0, 1, 2}
    assert Tile(2, 0, 1) in tiles
    root = merkle.range_root(0, size, node)
    tree = VerifiedTree(size, root, tiles.__getitem__)
    for index in (0, 255, 256, 65_535, 65_536, size - 1):
        proof = merkle.inclusion_proof(index, size, tree.node)
        assert merkle.verify_inclusion(LEAVES[index], index, size, proof, root)
    altered = Tile(0, 7)
    tiles[altered] = flip(tiles[altered], 99)
    tree = VerifiedTree(size, root, tiles.__getitem__)
    tree.node(0, 0)
    with pytest.raises(Misbehaviour) as caught:
        tree.node(0, 7 * TILE_WIDTH)
    assert_altered(caught.value)
    assert tree.node(8, 7) == node(8, 7)


@pytest.mark.parametrize("bundle", [Bundle(0), Bundle(1), Bundle(2, 88)])
def test_entries_that_are_not_of_the_tree_are_refused(bundle: Bundle) -> None:
    size = 600
    tree = VerifiedTree(size, plain_root(LEAVES[:size]), stored(size).__getitem__)
    start = bundle.index * TILE_WIDTH
    leaves = LEAVES[start : start + bundle.width]
    tree.check_leaves(bundle, leaves)
    for wrong in ([*leaves[:-1], flip(leaves[-1], 1)], [leaves[1], leaves[0], *leaves[2:]], leaves[::-1]):
        with pytest.raises(Misbehaviour) as caught:
            tree.check_leaves(bundle, wrong)
        assert (caught.value.fault, code_of(caught.value)) == (Fault.ALTER, "altered_entries")
    for other, count in ((bundle, len(leaves) - 1), (Bundle(2), 256), (Bundle(3, 1), 1)):
        with pytest.raises(ValueError, match="are not"):
            tree.check_leaves(other, leaves[:count])


def test_an_older_partial_bundle_is_of_the_tree_too() -> None:
    tree = VerifiedTree(600, plain_root(LEAVES[:600]), stored(600).__getitem__)
    tree.check_leaves(Bundle(0, 10), LEAVES[:10])
    with pytest.raises(Misbehaviour):
        tree.check_leaves(Bundle(0, 10), LEAVES[1:11])


@pytest.mark.parametrize(("height", "index"), [(0, 600), (8, 2), (10, 0), (0, -1), (60, 0)])
def test_nodes_outside_the_tree_are_not_asked_for(height: int, index: int) -> None:
    no_tiles: dict[Tile, bytes] = {}
    tree = VerifiedTree(600, plain_root(LEAVES[:600]), no_tiles.__getitem__)
    with pytest.raises(ValueError, match="no complete subtree"):
        tree.node(height, index)


def test_a_tree_beyond_all_reason_is_refused() -> None:
    with pytest.raises(Malformed) as refused:
        VerifiedTree(MAX_TREE_SIZE + 1, merkle.EMPTY_ROOT, stored(1).__getitem__)
    assert code_of(refused.value) == "tree_too_large"


def test_the_empty_tree_has_no_tiles() -> None:
    assert right_edge(0) == []
    assert list(bundles_between(0, 0)) == []
    assert edge_root({}) == merkle.EMPTY_ROOT


def test_a_full_tile_brings_the_one_above_it() -> None:
    # C2SP tlog-tiles: at 256 entries there are the full level-0 tile and `tile/1/000.p/1`, and no empty one.
    assert [tile.path for tile in right_edge(256)] == ["tile/1/000.p/1"]
    assert [tile.path for tile in right_edge(257)] == ["tile/0/001.p/1", "tile/1/000.p/1"]
    assert [bundle.path for bundle in bundles_between(0, 256)] == ["tile/entries/000"]
    assert sorted(tile.path for tile in stored(256)) == ["tile/0/000", "tile/1/000.p/1"]
    assert tiles_per_level(256, 0) == (1, 0)
    assert tiles_per_level(256, 1) == (0, 1)


@given(st.data(), sizes)
def test_bundles_from_some_entry_on_are_those_that_hold_it_and_later_ones(data: st.DataObject, size: int) -> None:
    start = data.draw(st.integers(0, size) | st.sampled_from(range(0, size + 1, TILE_WIDTH)))
    every = bundles_between(0, size)
    later = [bundle for bundle in every if bundle.index * TILE_WIDTH + bundle.width > start]
    assert list(bundles_between(start, size)) == later


# -- paths and bundles -------------------------------------------------------------------------------------------

indices = st.one_of(st.integers(0, 2000), st.integers(0, 2**48))
widths = st.integers(1, TILE_WIDTH)
places = st.one_of(st.builds(Tile, st.integers(0, 63), indices, widths), st.builds(Bundle, indices, widths))


@given(places)
def test_a_place_has_one_path(place: Tile | Bundle) -> None:
    assert parse_path(place.path) == place
    assert place.path.endswith(f".p/{place.width}") is (place.width < TILE_WIDTH)


def test_a_path_has_at_most_100_characters() -> None:
    longest = Bundle(10**48, 1)
    assert len(longest.path) == 100
    assert parse_path(longest.path) == longest
    with pytest.raises(Malformed):
        parse_path(Bundle(10**48, 10).path)


def test_the_path_of_the_specifications_example() -> None:
    assert Tile(0, 1_234_067).path == "tile/0/x001/x234/067"
    assert parse_path("tile/entries/x001/x234/067.p/255") == Bundle(1_234_067, 255)


@pytest.mark.parametrize(
    "path",
    [
        "", "tile", "tile/", "tile/0", "tile/0/", "tile/0/0", "tile/0/00", "tile/0/0000", "tile/0/x000/001",
        "tile/64/000", "tile/00/000", "tile/-1/000", "tile/+1/000", "tile/0/000.p", "tile/0/000.p/", "tile/0/000.p/0",
        "tile/0/000.p/01", "tile/0/000.p/256", "tile/0/000.p/257", "tile/0/000.p/999", "tile/0/000.p/1000",
        "tile/0/000.p/1.p/1", "/tile/0/000", "tile/0/000/", "tile/0/000\n", "tile/0/000.p/1\n", "tile//000",
        "tile/0/x001", "tile/0/001/001", "tile/0/X001/001", "tile/0/\u0660\u0660\u0660", "tile/entries",
        "tile/entries/1", "tile/Entries/000", "tile/0/../000", "tile/0/%30%30%30",
        "tile/0/" + "x001/" * 40 + "000", "checkpoint",
    ],
)  # fmt: skip
def test_no_other_spelling_is_a_path(path: str) -> None:
    with pytest.raises(Malformed) as refused:
        parse_path(path)
    assert code_of(refused.value) == "bad_tile_path"


@given(st.text("tile/0123456789x.penrs-", max_size=40))
def test_whatever_parses_is_written_the_same(path: str) -> None:
    try:
        place = parse_path(path)
    except Malformed:
        return
    assert place.path == path


entries = st.lists(st.binary(max_size=300), max_size=TILE_WIDTH)


@given(entries)
def test_a_bundle_gives_back_its_entries(written: list[bytes]) -> None:
    assert decode_bundle(encode_bundle(written), len(written)) == written


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=20), st.data())
def test_a_bundle_is_exactly_its_entries(written: list[bytes], data: st.DataObject) -> None:
    encoded = encode_bundle(written)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    for altered, width in (
        (encoded[:cut], len(written)),
        (encoded + b"\0", len(written)),
        (encoded, len(written) + 1),
        (encoded, len(written) - 1),
    ):
        with pytest.raises(Malformed) as refused:
            decode_bundle(altered, width)
        assert code_of(refused.value) == "bad_bundle"


def test_the_largest_entry_fits_and_a_larger_one_does_not() -> None:
    assert decode_bundle(encode_bundle([bytes(65_535)]), 1) == [bytes(65_535)]
    with pytest.raises(OverflowError):
        encode_bundle([bytes(65_536)])


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_tile_has_32_bytes_a_hash(length: int) -> None:
    with pytest.raises(Malformed) as refused:
        split_hashes(bytes(length), 1)
    assert code_of(refused.value) == "bad_tile"
