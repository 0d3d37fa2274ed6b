"""A log in one file: what a member that holds every entry gives to an operator who lost some.

    stillwatch log export 1
    <index of the first entry, decimal>
    <length of the note, decimal>
    <the signed checkpoint, that many bytes>
    <the entries from that index up to the checkpoint's size, framed as in a bundle: 16-bit length, bytes>

There is no checksum: the entries are genuine if, after those before the first, they hash to the signed root.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sharing_protocol import checkpoints, notes
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.errors import Malformed
from sharing_protocol.tiles import encode_bundle

MAGIC = b"stillwatch log export 1\n"
_LINE = re.compile(rb"(?:0|[1-9][0-9]{0,14})\n")

Read = Callable[[int], bytes]
"""Up to that many bytes, fewer only at the end, as a file's `read` does."""


@dataclass(frozen=True, slots=True)
class ExportHeader:
    """What stands before the entries.

    Attributes:
        start: index of the first entry in the file.
        note: the checkpoint; whoever reads the file verifies it.
    """

    start: int
    note: str

    @property
    def checkpoint(self) -> Checkpoint:
        """What the note says, signed or not."""
        return checkpoints.parse_text(notes.parse(self.note.encode()).text)

    def encode(self) -> bytes:
        """The bytes of the header."""
        note = self.note.encode()
        return MAGIC + f"{self.start}\n{len(note)}\n".encode() + note


def encode_entry(entry: bytes) -> bytes:
    """The bytes of one entry."""
    return encode_bundle([entry])


def read_header(read: Read) -> ExportHeader:
    """Read the header.

    Raises:
        Malformed: `not_an_export`: another file, or one that ends here.
    """
    if read(len(MAGIC)) != MAGIC:
        raise _not_an_export("it does not begin as one")
    start, length = _number(read), _number(read)
    if length > notes.MAX_NOTE_BYTES:
        raise _not_an_export(f"a note has at most {notes.MAX_NOTE_BYTES} bytes")
    try:
        header = ExportHeader(start, _exactly(read, length).decode())
        if start > header.checkpoint.size:
            raise _not_an_export("its first entry is beyond its checkpoint")
    except UnicodeDecodeError as error:
        raise _not_an_export("its checkpoint is not UTF-8") from error
    return header


def read_entries(read: Read, header: ExportHeader) -> Iterator[bytes]:
    """The entries, in order, from `header.start` up to the checkpoint's size; one in memory at a time.

    Raises:
        Malformed: `not_an_export`: fewer than that, or bytes after the last.
    """
    for _ in range(header.start, header.checkpoint.size):
        yield _exactly(read, int.from_bytes(_exactly(read, 2), "big"))
    if read(1):
        raise _not_an_export("bytes follow its last entry")


def _exactly(read: Read, length: int) -> bytes:
    data = read(length)
    if len(data) != length:
        raise _not_an_export("it ends too early")
    return data


def _number(read: Read) -> int:
    line = b""
    while not line.endswith(b"\n") and len(line) < 17 and (byte := read(1)):
        line += byte
    if not _LINE.fullmatch(line):
        raise _not_an_export("a number in its head is not a plain decimal number")
    return int(line)


def _not_an_export(reason: str) -> Malformed:
    return Malformed("not_an_export", f"not a whole export of a log: {reason}")
