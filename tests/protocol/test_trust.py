"""Whether to believe the next checkpoint: every lie by its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest
from typing_extensions import override

from sharing_protocol import checkpoints, merkle, notes
from sharing_protocol import envelope as envelopes
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.errors import Fault, Misbehaviour
from sharing_protocol.keys import encode_base64
from sharing_protocol.notes import Note, NoteSignature
from sharing_protocol.statements.membership import LogIdentity
from sharing_protocol.tiles import GrowingTree, Tile, VerifiedTree, right_edge
from sharing_protocol.trust import (
    MAX_SKEW_SECONDS,
    TrustedCheckpoint,
    check_consistency,
    check_freshness,
    check_receipt,
    open_checkpoint,
)
from sharing_protocol.wire import Receipt
from tests.protocol.forum_log import LOG, LOG_KEY, ORIGIN, TIMESTAMP_KEY, key
from tests.protocol.refusals import code_of

NOON = 1_772_366_400


@dataclass
class Hub:
    """A hub that may lie: a tree of made-up entries, and its tiles at every size."""

    history: str = "true"
    tiles: dict[tuple[int, int], list[bytes]] = field(default_factory=dict)
    tree: GrowingTree = field(default_factory=GrowingTree)
    roots: list[bytes] = field(default_factory=lambda: [merkle.EMPTY_ROOT])

    def entry(self, index: int) -> bytes:
        return f"{self.history} {index}".encode()

    def grow(self, count: int) -> Hub:
        for index in range(self.tree.size, self.tree.size + count):
            self.tiles |= self.tree.append([merkle.leaf_hash(self.entry(index))])
            self.roots.append(self.tree.root())
        return self

    def fetch(self, tile: Tile) -> bytes:
        return b"".join(self.tiles[tile.level, tile.index][: tile.width])

    def note(self, size: int, time: int = NOON) -> Note:
        head = Checkpoint(ORIGIN, size, self.roots[size])
        return checkpoints.cosign(checkpoints.sign(head, LOG_KEY), ORIGIN, TIMESTAMP_KEY, time)

    def trusted(self, size: int, time: int = NOON) -> TrustedCheckpoint:
        return open_checkpoint(str(self.note(size, time)).encode(), LOG)

    def verified(self, size: int) -> VerifiedTree:
        return VerifiedTree(size, self.roots[size], self.fetch)

    def receipt(self, index: int, size: int) -> Receipt:
        proof = merkle.inclusion_proof(index, size, self.verified(size).node)
        return Receipt(
            index=index,
            entry=merkle.leaf_hash(self.entry(index)).hex(),
            inclusion_proof=[encode_base64(step) for step in proof],
            checkpoint=str(self.note(size)),
            already_logged=False,
        )


def lie(
    fault: Fault, code: str, evidence: Sequence[str], told: Callable[..., object], *arguments: object
) -> Misbehaviour:
    """`told(*arguments)` must be caught as this lie, with this evidence."""
    with pytest.raises(Misbehaviour) as caught:
        told(*arguments)
    assert (caught.value.fault, code_of(caught.value)) == (fault, code)
    assert list(caught.value.evidence) == list(evidence)
    return caught.value


def forged(code: str, note: Note | str | bytes, log: LogIdentity = LOG) -> None:
    data = note if isinstance(note, bytes) else str(note).encode()
    caught = lie(Fault.FORGE, code, ["checkpoint"], open_checkpoint, data, log)
    assert caught.evidence["checkpoint"] == data.decode("utf-8", "replace")


# -- step 1 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 300])
def test_an_honest_checkpoint_is_believed(size: int) -> None:
    hub = Hub().grow(300)
    trusted = hub.trusted(size)
    assert trusted.checkpoint == Checkpoint(ORIGIN, size, hub.roots[size])
    assert trusted.timestamp == NOON
    assert notes.parse(trusted.note.encode()) == hub.note(size)


def test_a_checkpoint_of_another_log_is_refused() -> None:
    other = Checkpoint("other.example/log", 0, merkle.EMPTY_ROOT)
    named_as_ours = notes.sign(other.text, ORIGIN, LOG_KEY)
    note = checkpoints.cosign(Note(other.text, (named_as_ours,)), ORIGIN, TIMESTAMP_KEY, NOON)
    forged("wrong_origin", note)


def test_a_checkpoint_by_another_key_of_the_same_name_is_refused() -> None:
    head = Checkpoint(ORIGIN, 0, merkle.EMPTY_ROOT)
    by_another = checkpoints.sign(head, key("another log key"))
    forged("unsigned_checkpoint", by_another)
    forged("unsigned_checkpoint", checkpoints.cosign(by_another, ORIGIN, TIMESTAMP_KEY, NOON))


def test_a_checkpoint_without_a_time_is_refused() -> None:
    untimed = checkpoints.sign(Checkpoint(ORIGIN, 0, merkle.EMPTY_ROOT), LOG_KEY)
    forged("untimed_checkpoint", untimed)
    forged("untimed_checkpoint", checkpoints.cosign(untimed, ORIGIN, key("witness"), NOON))
    forged("untimed_checkpoint", checkpoints.cosign(untimed, "witness.example", TIMESTAMP_KEY, NOON))


def test_a_bad_signature_by_a_known_key_refuses_the_whole() -> None:
    note = Hub().grow(3).note(3)
    for position in (0, 1):
        lines = list(note.signatures)
        value = bytearray(lines[position].value)
        value[-1] ^= 1
        lines[position] = replace(lines[position], value=bytes(value))
        forged("bad_note_signature", Note(note.text, tuple(lines)))
        forged("bad_note_signature", Note(note.text, (*note.signatures, lines[position])))


def test_a_cosignature_of_the_wrong_length_is_a_bad_one() -> None:
    note = Hub().grow(3).note(3)
    short = replace(note.signatures[1], value=note.signatures[1].value[:-1])
    forged("bad_note_signature", Note(note.text, (note.signatures[0], short)))


def test_signatures_by_unknown_keys_are_ignored() -> None:
    hub = Hub().grow(3)
    strangers = [NoteSignature("stranger.example", b"abcd", b"anything"), NoteSignature(ORIGIN, b"abcd", bytes(72))]
    note = Note(hub.note(3).text, (strangers[0], *hub.note(3).signatures, strangers[1]))
    assert open_checkpoint(str(note).encode(), LOG).timestamp == NOON


def test_the_newest_cosignature_counts() -> None:
    note = Hub().grow(3).note(3)
    for times in ((NOON + 60, NOON + 30), (NOON - 60, NOON + 60)):
        later = note
        for time in times:
            later = checkpoints.cosign(later, ORIGIN, TIMESTAMP_KEY, time)
        assert open_checkpoint(str(later).encode(), LOG).timestamp == NOON + 60


def test_the_empty_tree_has_one_root() -> None:
    note = checkpoints.sign(Checkpoint(ORIGIN, 0, bytes(32)), LOG_KEY)
    forged("wrong_empty_root", checkpoints.cosign(note, ORIGIN, TIMESTAMP_KEY, NOON))


def test_what_is_no_checkpoint_is_refused() -> None:
    note = Hub().grow(3).note(3)
    forged("malformed_note", b"\xff")
    forged("malformed_note", "")
    forged("malformed_note", "<html>Bad gateway</html>\n")
    forged("malformed_checkpoint", notes.Note("two\nlines\n", note.signatures))
    forged("malformed_checkpoint", notes.Note(note.text + "extension\n", note.signatures))


# -- step 2 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("age", [-MAX_SKEW_SECONDS, 0, 3600])
def test_a_fresh_checkpoint_passes(age: int) -> None:
    check_freshness(Hub().trusted(0), NOON + age, 3600)


def test_a_stale_checkpoint_is_a_freeze() -> None:
    frozen = Hub().trusted(0)
    caught = lie(
        Fault.FREEZE, "stale_checkpoint", ["checkpoint", "local_time"], check_freshness, frozen, NOON + 3601, 3600
    )
    assert caught.evidence["local_time"] == str(NOON + 3601)


def test_a_checkpoint_from_the_future_is_a_freeze() -> None:
    lie(
        Fault.FREEZE,
        "checkpoint_from_the_future",
        ["checkpoint", "local_time"],
        check_freshness,
        Hub().trusted(0),
        NOON - MAX_SKEW_SECONDS - 1,
        3600,
    )


# -- step 3 ------------------------------------------------------------------------------------------------------

SIZES = [0, 1, 2, 3, 7, 8, 255, 256, 257, 511, 512, 600]
BOTH = ["old_checkpoint", "new_checkpoint"]


def test_a_log_that_grew_is_consistent() -> None:
    hub = Hub().grow(600)
    for new in SIZES:
        check_consistency(None, hub.trusted(new), hub.verified(new))
        for old in [size for size in SIZES if size <= new]:
            check_consistency(hub.trusted(old), hub.trusted(new), hub.verified(new))


def test_a_rolled_back_log_is_refused() -> None:
    hub = Hub().grow(600)
    for old, new in ((1, 0), (256, 255), (600, 257)):
        lie(
            Fault.ROLL_BACK,
            "rolled_back",
            BOTH,
            check_consistency,
            hub.trusted(old),
            hub.trusted(new),
            hub.verified(new),
        )


def test_two_trees_of_one_size_are_a_fork() -> None:
    hub, other = Hub().grow(300), Hub("other").grow(300)
    for size in (1, 256, 300):
        lie(Fault.FORK, "forked", BOTH, check_consistency, hub.trusted(size), other.trusted(size), other.verified(size))


def test_a_larger_tree_with_another_beginning_is_a_fork() -> None:
    hub, other = Hub().grow(300), Hub("other").grow(600)
    for old, new in ((1, 2), (3, 600), (256, 257), (300, 512)):
        caught = lie(
            Fault.FORK,
            "forked",
            [*BOTH, "prefix_proof"],
            check_consistency,
            hub.trusted(old),
            other.trusted(new),
            other.verified(new),
        )
        assert caught.evidence["old_checkpoint"] == str(hub.note(old))
        assert caught.evidence["new_checkpoint"] == str(other.note(new))


def test_the_honest_tree_over_a_forged_past_is_a_fork() -> None:
    hub, other = Hub().grow(600), Hub("other").grow(300)
    lie(
        Fault.FORK,
        "forked",
        [*BOTH, "prefix_proof"],
        check_consistency,
        other.trusted(300),
        hub.trusted(600),
        hub.verified(600),
    )


@pytest.mark.parametrize("size", [3, 256, 300, 600])
def test_altered_tiles_are_not_taken_for_a_fork(size: int) -> None:
    hub = Hub().grow(600)
    for altered in right_edge(size):

        def fetch(tile: Tile, altered: Tile = altered) -> bytes:
            data = bytearray(hub.fetch(tile))
            if tile == altered:
                data[-1] ^= 1
            return bytes(data)

        tree = VerifiedTree(size, hub.roots[size], fetch)
        served = {tile.path: encode_base64(fetch(tile)) for tile in right_edge(size)}
        caught = lie(
            Fault.ALTER, "altered_tile", list(served), check_consistency, hub.trusted(1), hub.trusted(size), tree
        )
        assert caught.evidence == served


# -- receipts ----------------------------------------------------------------------------------------------------


class HubOfEnvelopes(Hub):
    """Its entries are envelopes, each signed by two."""

    @override
    def entry(self, index: int) -> bytes:
        return envelopes.sign(super().entry(index), [key("Ada"), key("Ben")]).encode()


def test_a_receipt_proves_its_entry() -> None:
    hub = Hub().grow(300)
    for index, size in ((0, 1), (0, 300), (255, 256), (299, 300), (100, 257)):
        trusted = check_receipt(hub.receipt(index, size), hub.entry(index), LOG)
        assert trusted.checkpoint.size == size


def test_receipts_that_prove_nothing_are_refused() -> None:
    hub = Hub().grow(300)
    good, entry = hub.receipt(100, 300), hub.entry(100)
    other = hub.receipt(101, 300)
    refused = {
        "another index": good.model_copy(update={"index": 101}),
        "beyond the tree": good.model_copy(update={"index": 300}),
        "another entry's hash": good.model_copy(update={"entry": other.entry}),
        "another entry's proof": good.model_copy(update={"inclusion_proof": other.inclusion_proof}),
        "a proof cut short": good.model_copy(update={"inclusion_proof": good.inclusion_proof[:-1]}),
        "a proof with more": good.model_copy(update={"inclusion_proof": [*good.inclusion_proof, good.entry]}),
        "no base64": good.model_copy(update={"inclusion_proof": ["!", *good.inclusion_proof[1:]]}),
        "steps of another size": good.model_copy(update={"inclusion_proof": ["AA==", *good.inclusion_proof[1:]]}),
        "another tree": good.model_copy(update={"checkpoint": str(hub.note(299))}),
        "upper case": good.model_copy(update={"entry": good.entry.upper()}),
    }
    for name, receipt in refused.items():
        caught = lie(Fault.FORGE, "bad_receipt", ["receipt", "entry"], check_receipt, receipt, entry, LOG)
        assert name
        assert caught.evidence["entry"] == entry.decode()
    lie(Fault.FORGE, "bad_receipt", ["receipt", "entry"], check_receipt, good, entry + b"!", LOG)


def test_a_receipt_may_prove_another_envelope_of_the_payload() -> None:
    hub = HubOfEnvelopes().grow(300)
    logged = hub.entry(100)
    sent = envelopes.sign(envelopes.parse(logged).payload, [key("Cleo"), key("Ben")]).encode()
    shown = hub.receipt(100, 300).model_copy(update={"envelope": logged.decode()})
    assert check_receipt(shown, sent, LOG).checkpoint.size == 300
    refused = {
        "it is not shown": (hub.receipt(100, 300), sent),
        "of another payload": (shown, hub.entry(101)),
        "another than the one that is proven": (shown.model_copy(update={"envelope": sent.decode()}), sent),
        "no envelope": (shown.model_copy(update={"envelope": "{}"}), sent),
    }
    for name, (receipt, entry) in refused.items():
        caught = lie(Fault.FORGE, "bad_receipt", ["receipt", "entry"], check_receipt, receipt, entry, LOG)
        assert name
        assert caught.evidence["entry"] == entry.decode()


def test_a_receipt_with_a_forged_checkpoint_is_refused() -> None:
    hub = Hub().grow(300)
    unsigned = Note(hub.note(300).text, hub.note(300).signatures[1:])
    receipt = hub.receipt(100, 300).model_copy(update={"checkpoint": str(unsigned)})
    lie(Fault.FORGE, "unsigned_checkpoint", ["checkpoint"], check_receipt, receipt, hub.entry(100), LOG)
