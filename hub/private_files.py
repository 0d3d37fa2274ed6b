"""Files for the operator's eyes alone, which a crash leaves whole or not at all."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def write_privately(path: Path, data: bytes) -> None:
    """Write a file with mode 0600 in place of any other; durable when this returns."""
    with _draft(path) as (draft, file):
        file.write(data)
        _flush(file)
        draft.replace(path)
    flush_folder(path.parent)


@contextlib.contextmanager
def new_private_file(path: Path) -> Iterator[BinaryIO]:
    """A new file with mode 0600, to be written and read; it has its name, durably, once the block is left in peace.

    Raises:
        FileExistsError: there is something of that name; it stays as it is.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists already")
    with _draft(path) as (draft, file):
        yield file
        _flush(file)
        os.link(draft, path)  # unlike a rename, this never takes the place of another file
    flush_folder(path.parent)


@contextlib.contextmanager
def _draft(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.draft")
    try:
        with open(draft, "x+b", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            yield draft, file
    finally:
        draft.unlink(missing_ok=True)


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Make what was renamed in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
