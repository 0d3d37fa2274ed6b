"""C2SP tlog-proof: what is written is read, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharing_protocol import merkle, tlog_proof
from sharing_protocol.errors import Malformed
from sharing_protocol.keys import encode_base64
from sharing_protocol.tlog_proof import MAX_STEPS, TlogProof
from tests.protocol.excerpts import Tree
from tests.protocol.forum_log import forum_of_two_labs
from tests.protocol.refusals import code_of

NOTE = Tree.of(forum_of_two_labs()).note()
HASHES = st.binary(min_size=32, max_size=32)


@given(index=st.integers(0, 10**15 - 1), steps=st.lists(HASHES, max_size=MAX_STEPS))
def test_what_is_written_is_read(index: int, steps: list[bytes]) -> None:
    proof = TlogProof(index, tuple(steps), NOTE)
    assert tlog_proof.parse(str(proof).encode()) == proof


def test_a_proof_of_the_deepest_tree_is_read() -> None:
    proof = TlogProof(10**15 - 1, (bytes(32),) * MAX_STEPS, NOTE)
    assert tlog_proof.parse(str(proof).encode()) == proof


def test_it_reads_as_the_specification_has_it() -> None:
    tree = Tree.of(forum_of_two_labs())
    [entry] = tree.logged([1])
    written = str(TlogProof(1, entry.steps, tree.note()))
    header, index, first, second, empty, origin, size, *_ = written.split("\n")
    assert (header, index, empty, origin, size) == ("c2sp.org/tlog-proof@v1", "index 1", "", "forum.example/log", "3")
    assert (first, second) == tuple(map(encode_base64, entry.steps))
    assert merkle.verify_inclusion(tree.leaves[1], 1, 3, entry.steps, merkle.root_from_leaves(tree.leaves))


STEP = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
REFUSED = {
    "nothing": "",
    "another header": f"c2sp.org/tlog-proof@v2\nindex 0\n\n{NOTE}",
    "extra data": f"c2sp.org/tlog-proof@v1\nextra AAAA\nindex 0\n\n{NOTE}",
    "no index": f"c2sp.org/tlog-proof@v1\n\n{NOTE}",
    "an index with a zero before it": f"c2sp.org/tlog-proof@v1\nindex 01\n\n{NOTE}",
    "a negative index": f"c2sp.org/tlog-proof@v1\nindex -1\n\n{NOTE}",
    "an index in other digits": f"c2sp.org/tlog-proof@v1\nindex \u0661\n\n{NOTE}",
    "an endless index": f"c2sp.org/tlog-proof@v1\nindex {'9' * 16}\n\n{NOTE}",
    "a hash without padding": f"c2sp.org/tlog-proof@v1\nindex 0\n{STEP[:-1]}\n\n{NOTE}",
    "a hash with stray bits": f"c2sp.org/tlog-proof@v1\nindex 0\n{STEP[:-2]}B=\n\n{NOTE}",
    "a short hash": f"c2sp.org/tlog-proof@v1\nindex 0\nAAAA\n\n{NOTE}",
    "carriage returns": f"c2sp.org/tlog-proof@v1\r\nindex 0\r\n\r\n{NOTE}",
    "too many hashes": "c2sp.org/tlog-proof@v1\nindex 0\n" + f"{STEP}\n" * (MAX_STEPS + 1) + f"\n{NOTE}",
    "too long": f"c2sp.org/tlog-proof@v1\nindex 0\n\n{NOTE}" + "x" * tlog_proof.MAX_BYTES,
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(Malformed) as refused:
        tlog_proof.parse(text.encode())
    assert code_of(refused.value) == "malformed_tlog_proof"


def test_without_its_checkpoint_it_is_none() -> None:
    for tail in ("\n", "\nforum.example/log\n"):
        with pytest.raises(Malformed) as refused:
            tlog_proof.parse(f"c2sp.org/tlog-proof@v1\nindex 0\n{tail}".encode())
        assert code_of(refused.value) == "malformed_note"
