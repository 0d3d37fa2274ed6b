"""RFC 6962 proofs as transparency-dev/merkle publishes them, and a log that Tessera wrote.

The vectors for subtree proofs are not used: the protocol has no such proofs.
"""

from __future__ import annotations

import base64
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from sharing_protocol import checkpoints, merkle, notes, tiles
from sharing_protocol.notes import VerifierKey
from sharing_protocol.tiles import Bundle, Tile, VerifiedTree
from tests.protocol.outside_vectors import json_vectors, vectors

TESSERA_KEY = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx"
"""Published with Tessera's own examples; SOURCE.txt does not give it. Its id is the one in the signature lines."""
TESSERA_SIZES = range(16)


def cases(kind: str) -> list[Any]:
    """Every vector of a kind."""
    folder = vectors("merkle-rfc6962", "testdata", kind)
    return [json_vectors(str(path)) for path in sorted(folder.rglob("*.json"))]


def decoded(values: list[str] | None) -> list[bytes]:
    return [base64.b64decode(value) for value in values or []]


def test_inclusion_proofs() -> None:
    read = cases("inclusion")
    assert len(read) > 90
    for case in read:
        holds = merkle.verify_inclusion(
            base64.b64decode(case["leafHash"] or ""),
            case["leafIdx"],
            case["treeSize"],
            decoded(case["proof"]),
            base64.b64decode(case["root"] or ""),
        )
        # The vectors' library takes any bytes for a hash. Ours are 32 bytes or nothing, so two empty strings that
        # "match" are refused, which is what `wantErr` means there too.
        assert holds is not case["wantErr"], case["desc"]


def test_consistency_proofs() -> None:
    read = cases("consistency")
    assert len(read) > 90
    for case in read:
        holds = merkle.verify_consistency(
            case["size1"],
            case["size2"],
            base64.b64decode(case["root1"] or ""),
            base64.b64decode(case["root2"] or ""),
            decoded(case["proof"]),
        )
        # Two equal empty trees are consistent there. We ask for no proof from nothing: `trust` never gets there, and
        # a witness uses `verify_extension`, checked below.
        if case["size1"] == 0 and not case["wantErr"]:
            assert not holds
        else:
            assert holds is not case["wantErr"], case["desc"]


def test_growth_from_the_empty_tree_is_for_witnesses_alone() -> None:
    root = merkle.leaf_hash(b"one")
    assert merkle.verify_extension(0, 1, merkle.EMPTY_ROOT, root, [])
    assert merkle.verify_extension(0, 0, merkle.EMPTY_ROOT, merkle.EMPTY_ROOT, [])
    assert not merkle.verify_consistency(0, 1, merkle.EMPTY_ROOT, root, [])


# -- Tessera -----------------------------------------------------------------------------------------------------


def tessera() -> Path:
    return vectors("tessera-testlog", "testdata", "log")


def checkpoint(size: int) -> checkpoints.Checkpoint:
    note = notes.parse((tessera() / f"checkpoint.{size}").read_bytes())
    verified = notes.verify(note, [VerifierKey.parse(TESSERA_KEY)])
    assert [signature.key.name for signature in verified] == ["example.com/log/testdata"]
    return checkpoints.parse_text(note.text)


def fetch(tile: Tile) -> bytes:
    return (tessera() / tile.path).read_bytes()


def entries(size: int) -> list[bytes]:
    (bundle,) = tiles.bundles_between(0, size)
    return tiles.decode_bundle((tessera() / bundle.path).read_bytes(), bundle.width)


def test_tessera_checkpoints_are_signed_and_of_their_size() -> None:
    assert [checkpoint(size).size for size in TESSERA_SIZES] == list(TESSERA_SIZES)
    assert checkpoint(0).root == merkle.EMPTY_ROOT
    newest = notes.parse((tessera() / "checkpoint").read_bytes())
    assert checkpoints.parse_text(newest.text) == checkpoint(15)


def test_tessera_files_lie_where_our_paths_say() -> None:
    here = {str(path.relative_to(tessera())) for path in (tessera() / "tile").rglob("*") if path.is_file()}
    ours = {tile.path for size in TESSERA_SIZES for tile in tiles.right_edge(size)}
    ours |= {bundle.path for size in TESSERA_SIZES for bundle in tiles.bundles_between(0, size)}
    assert here == ours
    assert {tiles.parse_path(path).path for path in here} == here


@pytest.mark.parametrize("size", TESSERA_SIZES[1:])
def test_tessera_entries_hash_into_each_signed_tree(size: int) -> None:
    head = checkpoint(size)
    leaves = [merkle.leaf_hash(entry) for entry in entries(size)]
    tree = VerifiedTree(head.size, head.root, fetch)
    tree.check_leaves(Bundle(0, size), leaves)
    assert merkle.root_from_leaves(leaves) == head.root
    for index, leaf in enumerate(leaves):
        proof = merkle.inclusion_proof(index, size, tree.node)
        assert merkle.verify_inclusion(leaf, index, size, proof, head.root)


def test_tessera_trees_are_consistent_with_each_other() -> None:
    heads = [checkpoint(size) for size in TESSERA_SIZES]
    for old, new in combinations(TESSERA_SIZES[1:], 2):
        tree = VerifiedTree(new, heads[new].root, fetch)
        proof = merkle.consistency_proof(old, new, tree.node)
        assert merkle.verify_consistency(old, new, heads[old].root, heads[new].root, proof)
        assert not merkle.verify_consistency(old, new, heads[old - 1].root, heads[new].root, proof)


def test_we_write_the_tiles_and_bundles_that_tessera_wrote() -> None:
    tree = tiles.GrowingTree()
    for size in TESSERA_SIZES[1:]:
        changed = tree.append([merkle.leaf_hash(entries(size)[-1])])
        assert b"".join(changed[0, 0]) == fetch(Tile(0, 0, size))
        assert tiles.encode_bundle(entries(size)) == (tessera() / Bundle(0, size).path).read_bytes()
        assert tree.root() == checkpoint(size).root
