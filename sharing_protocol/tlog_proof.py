"""C2SP tlog-proof: that an entry is in a log, as one text that is checked offline.

    c2sp.org/tlog-proof@v1
    index <zero-based index of the entry, decimal>
    <base64 hashes of the inclusion proof, leaf to root, a line each>
    <an empty line>
    <the signed checkpoint, verbatim>

The format allows a second line `extra <base64>`, which nothing vouches for. What we write has none, and what has one is
refused. Source: C2SP tlog-proof.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sharing_protocol import notes
from sharing_protocol.errors import Malformed
from sharing_protocol.keys import decode_base64, encode_base64
from sharing_protocol.merkle import HASH_BYTES

HEADER = "c2sp.org/tlog-proof@v1"
MAX_STEPS = 64
"""Above the depth of any tree that a checkpoint can be of."""
MAX_BYTES = 8 * 1024 + notes.MAX_NOTE_BYTES

_INDEX = re.compile(r"index (0|[1-9][0-9]{0,14})")


@dataclass(frozen=True, slots=True)
class TlogProof:
    """An inclusion proof with its checkpoint; whoever reads it verifies both.

    Attributes:
        index: the entry's place, from 0.
        steps: hashes of 32 bytes, leaf to root.
        checkpoint: the signed note.
    """

    index: int
    steps: tuple[bytes, ...]
    checkpoint: str

    def __str__(self) -> str:
        lines = [HEADER, f"index {self.index}", *map(encode_base64, self.steps)]
        return "\n".join(lines) + f"\n\n{self.checkpoint}"


def parse(data: bytes) -> TlogProof:
    """Read a proof.

    Raises:
        Malformed: `malformed_tlog_proof`; `malformed_note` for its checkpoint.
    """
    if len(data) > MAX_BYTES:
        raise _malformed(f"it has at most {MAX_BYTES} bytes")
    head, _, checkpoint = data.partition(b"\n\n")
    try:
        header, index, *steps = head.decode("ascii").split("\n")
    except ValueError as error:  # not ASCII, or fewer than two lines
        raise _malformed("it begins with a header line and an index line") from error
    number = _INDEX.fullmatch(index)
    if header != HEADER or number is None:
        raise _malformed(f"its first lines are {HEADER!r} and 'index <number>', with nothing between them")
    return TlogProof(int(number[1]), decode_steps(steps), str(notes.parse(checkpoint)))


def decode_steps(lines: list[str]) -> tuple[bytes, ...]:
    """Read the hashes of an inclusion proof.

    Raises:
        Malformed: `malformed_tlog_proof`.
    """
    if len(lines) > MAX_STEPS:
        raise _malformed(f"an inclusion proof has at most {MAX_STEPS} hashes")
    try:
        steps = tuple(decode_base64(line, "a hash of the inclusion proof") for line in lines)
    except Malformed as error:
        raise _malformed(error.detail) from error
    if any(len(step) != HASH_BYTES for step in steps):
        raise _malformed("a hash has 32 bytes")
    return steps


def _malformed(reason: str) -> Malformed:
    return Malformed("malformed_tlog_proof", f"not a tlog-proof: {reason}")
