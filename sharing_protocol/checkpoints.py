"""C2SP checkpoints: a log's signed head.

A checkpoint's text is three lines: origin, tree size, base64 root hash. It carries no time, so the hub adds a
timestamped cosignature by a second key, and that is what tells how fresh it is. Source: C2SP tlog-checkpoint.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sharing_protocol import notes
from sharing_protocol.errors import Malformed
from sharing_protocol.keys import Signer, decode_base64, encode_base64
from sharing_protocol.merkle import HASH_BYTES
from sharing_protocol.tiles import MAX_TREE_SIZE

_SIZE = re.compile(r"0|[1-9][0-9]{0,14}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A log's head: whose log, how many entries, and the root hash over them."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The note text that is signed."""
        return f"{self.origin}\n{self.size}\n{encode_base64(self.root)}\n"


def parse_text(text: str) -> Checkpoint:
    """Read the text of a checkpoint note; extension lines are refused, since nobody can audit them.

    Raises:
        Malformed: `malformed_checkpoint`.
    """
    lines = text.split("\n")
    if len(lines) != 4 or not lines[0] or lines[3]:
        raise Malformed("malformed_checkpoint", "a checkpoint has three lines: origin, tree size, root hash")
    if not _SIZE.fullmatch(lines[1]) or int(lines[1]) > MAX_TREE_SIZE:
        raise Malformed("malformed_checkpoint", "the tree size is not a plain decimal number of a possible size")
    try:
        root = decode_base64(lines[2], "the root hash")
    except Malformed as error:
        raise Malformed("malformed_checkpoint", error.detail) from error
    if len(root) != HASH_BYTES:
        raise Malformed("malformed_checkpoint", "the root hash has not 32 bytes")
    return Checkpoint(lines[0], int(lines[1]), root)


def sign(checkpoint: Checkpoint, log_key: Signer) -> notes.Note:
    """Sign a checkpoint as the log: the key's name is the origin."""
    return notes.Note(checkpoint.text, (notes.sign(checkpoint.text, checkpoint.origin, log_key),))


def cosign(note: notes.Note, name: str, signer: Signer, timestamp: int) -> notes.Note:
    """Add a timestamped cosignature (POSIX seconds) to a checkpoint note."""
    return note.signed_by([notes.cosign(note.text, name, signer, timestamp)])
