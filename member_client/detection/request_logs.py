"""Request logs as streams of rows: plain, gzip or zstd JSON lines, from files or standard input, in bounded memory.

A log of millions of rows has a few broken ones, and a file may end in the middle of one. Each is reported with its
file, its line and the reason, and the rows around it are kept.
"""

from __future__ import annotations

import gzip
import io
import json
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard
from typing_extensions import Buffer, override

from member_client.detection.rows import Fields
from member_client.errors import InvalidInput

MAX_LINE_BYTES = 16 * 1024 * 1024
MAX_ZSTD_WINDOW = 2**27
STDIN = "-"

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_PARQUET = b"PAR1"
_BUFFER = 1024 * 1024
_MARK = b"\xef\xbb\xbf"
_DAMAGED = (EOFError, OSError, zlib.error, zstandard.ZstdError)

Progress = Callable[[int], None]
"""Told how many bytes of the files, as they lie on disk, have been read so far."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands: the file as the user named it, and the line from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A row that was left out, and why."""

    place: Place
    reason: str


Row = tuple[str, int, Fields]
"""File, line, and the parsed object. A plain tuple: one is made for every row of a log."""


def total_bytes(files: Sequence[str]) -> int | None:
    """The size of all files on disk, None when standard input is among them.

    Raises:
        InvalidInput: a file is missing, no file, or named twice.
    """
    if len(set(files)) != len(files):
        raise InvalidInput("a file is named twice", "name each once, or every row in it counts twice")
    total = 0
    for name in files:
        if name != STDIN:
            try:
                with Path(name).open("rb"):
                    total += Path(name).stat().st_size
            except OSError as error:
                raise InvalidInput(f"cannot read {name}: {error.strerror}", "check the file's name") from error
    return None if STDIN in files else total


def rows(files: Sequence[str], broken: Callable[[BrokenRow], None], progress: Progress | None = None) -> Iterator[Row]:
    """Every good row of every file, in order.

    Args:
        broken: told of each row that is left out.
        progress: told now and then.
    """
    done = 0
    for name in files:
        with opened(name) as (raw, source):
            for number, line, _ in numbered(name, source, broken):
                if progress is not None and number % 1024 == 0:
                    progress(done + bytes_read(raw))
                try:
                    # decoded first: json.loads guesses the encoding of bytes, which takes longer than decoding
                    value: Any = json.loads(line.decode())
                except (ValueError, RecursionError) as error:
                    if not line.isspace():
                        broken(BrokenRow(Place(name, number), why_not_json(error)))
                    continue
                if type(value) is dict:
                    yield name, number, value
                else:
                    broken(BrokenRow(Place(name, number), "not a JSON object"))
            done += bytes_read(raw)
        if progress is not None:
            progress(done)


class Content(io.RawIOBase):
    """Bytes from a reader, up to where it fails.

    A buffer over a failing decompressor would lose what it had read ahead; over this one it sees an end, and asks for
    the reason afterwards. Closing it leaves the stream open: standard input is not ours to close.

    Attributes:
        damage: why the bytes ended early, or an empty string.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self.damage = ""

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Buffer, /) -> int:
        space = memoryview(buffer)
        try:
            data = self._read(len(space))
        except _DAMAGED as error:
            self.damage = str(error)
            return 0
        space[: len(data)] = data
        return len(data)


@contextmanager
def opened(name: str, offset: int = 0) -> Iterator[tuple[io.BufferedReader, Content]]:
    """The file as it lies on disk, and its decompressed content; what it is, its first bytes tell.

    A file that is not compressed is read from `offset` on; of a compressed one that must be 0.

    `read1`, because a call that goes on reading after it has got something loses that when it then fails.
    """
    with ExitStack() as stack:
        stored = _standard_input() if name == STDIN else stack.enter_context(Path(name).open("rb"))
        start = stored.peek(4)[:4]
        if start.startswith(_GZIP):
            yield stored, Content(gzip.GzipFile(fileobj=stored).read1)
        elif start == _ZSTD:
            decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW)
            yield stored, Content(decompressor.stream_reader(stored, read_across_frames=True).read1)
        else:
            if offset:
                stored.seek(offset)
            yield stored, Content(stored.read1)


def is_compressed(name: str) -> bool:
    """Whether the file's first bytes are those of gzip or zstd.

    Raises:
        InvalidInput: it cannot be read.
    """
    start = first_bytes(name)
    return start.startswith(_GZIP) or start == _ZSTD


def is_parquet(name: str) -> bool:
    """Whether the file begins as Parquet does."""
    return name != STDIN and first_bytes(name) == _PARQUET


def first_bytes(name: str) -> bytes:
    """The first four bytes of a file as it lies on disk; of standard input without taking them.

    Raises:
        InvalidInput: it cannot be read.
    """
    if name == STDIN:
        return _standard_input().peek(4)[:4]
    try:
        with Path(name).open("rb") as file:
            return file.read(4)
    except OSError as error:
        raise InvalidInput(f"cannot read {name}: {error.strerror}", "check the file's name") from error


def numbered(
    name: str, source: Content, broken: Callable[[BrokenRow], None], number: int = 0, end: int = 0
) -> Iterator[tuple[int, bytes, int]]:
    """Lines with their numbers and the offsets where they end.

    One that is too long is skipped to its end, and damage ends the file.

    Args:
        number, end: of the last line before the first one that `source` gives.
    """
    read = io.BufferedReader(source, _BUFFER).readline
    while line := read(MAX_LINE_BYTES):
        number += 1
        end += len(line)
        if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            broken(BrokenRow(Place(name, number), f"the line has {MAX_LINE_BYTES:,} bytes or more"))
            while rest := read(MAX_LINE_BYTES):
                end += len(rest)
                if rest.endswith(b"\n"):
                    break
        elif source.damage and not line.endswith(b"\n"):
            number -= 1  # the beginning of a row whose end is lost
        else:
            yield number, line.removeprefix(_MARK) if number == 1 else line, end
    if source.damage:
        broken(BrokenRow(Place(name, number + 1), f"the file is damaged from here on: {source.damage}"))


def _standard_input() -> io.BufferedReader:
    stream = sys.stdin.buffer
    if not isinstance(stream, io.BufferedReader):
        raise InvalidInput("standard input cannot be read", "name a file, or connect a pipe")
    return stream


def bytes_read(raw: io.BufferedReader) -> int:
    """How far the file on disk has been read; 0 of a pipe."""
    try:
        return raw.tell()
    except OSError:
        return 0  # a pipe has no position


def why_not_json(error: ValueError | RecursionError) -> str:
    """What is the matter with a line, in some words."""
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg} (column {error.colno})"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 (byte {error.start})"
    return "not JSON that can be read: nested too deeply, or a number too long"
