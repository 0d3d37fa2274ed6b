"""Writing the verified log to a file (`sharing_protocol.log_export`): a hub that lost entries gets them back from it.

What is written is hashed on the way, and compared with the checkpoint last believed: a store that is damaged is found
here, not at the hub.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from member_client.errors import InvalidInput
from member_client.sync.store import Store
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.log_export import ExportHeader, encode_entry
from sharing_protocol.merkle import CompactRange, leaf_hash

_ENTRIES_AT_A_TIME = 256


def export(store: Store, path: Path, start: int = 0) -> Checkpoint:
    """Write the entries from index `start` on, and the checkpoint that covers them, to a new private file.

    Raises:
        InvalidInput: there is such a file; nothing was synced; a sync was interrupted; the store is damaged.
    """
    trusted = store.trusted()
    if trusted is None:
        raise InvalidInput("nothing is known of the log yet", "run `stillwatch sync` first")
    size = trusted.checkpoint.size
    if store.cursor != size:
        raise InvalidInput(
            f"{store.cursor} of {size} entries are stored: the last sync was interrupted", "run `stillwatch sync`"
        )
    if start > size:
        raise InvalidInput(f"the log has {size} entries, none from {start} on")
    with _new_private_file(path) as file:
        file.write(ExportHeader(start, trusted.note).encode())
        tree = CompactRange()
        for begin in range(0, size, _ENTRIES_AT_A_TIME):
            end = min(begin + _ENTRIES_AT_A_TIME, size)
            for index, entry in enumerate(store.entries(begin, end), begin):
                tree.append(leaf_hash(entry))
                if index >= start:
                    file.write(encode_entry(entry))
        if (tree.size, tree.root()) != (size, trusted.checkpoint.root):
            raise InvalidInput(
                "the stored entries do not hash to the stored checkpoint", "move store.sqlite away and sync anew"
            )
    return trusted.checkpoint


@contextlib.contextmanager
def _new_private_file(path: Path) -> Iterator[BinaryIO]:
    """A file with mode 0600 that has its name, durably, only once the block ends well; never in place of another."""
    taken = InvalidInput(f"{path} exists already", "name another file")
    if path.exists():
        raise taken
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(draft, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError as error:
        raise taken from error
    finally:
        draft.unlink(missing_ok=True)
