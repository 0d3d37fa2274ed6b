"""Files that a user names: what cannot be read or written there is said, with what to do about it."""

from __future__ import annotations

from pathlib import Path

from member_client.errors import InvalidInput


def read_named(file: Path, most: int) -> bytes:
    """The file's bytes; of one that is longer than `most`, one byte more, by which its reader sees that.

    Raises:
        InvalidInput: it cannot be read.
    """
    try:
        with file.open("rb") as opened:
            return opened.read(most + 1)
    except OSError as error:
        raise InvalidInput(f"cannot read {file}: {error.strerror}", "check the file's name") from error


def write_new(file: Path, text: str) -> None:
    """Write a file that is not there yet.

    Raises:
        InvalidInput: it is there, or cannot be written.
    """
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError as error:
        raise InvalidInput(f"{file} exists", "choose another name, or remove it first") from error
    except OSError as error:
        raise InvalidInput(f"cannot write {file}: {error.strerror}", "choose another --output") from error
