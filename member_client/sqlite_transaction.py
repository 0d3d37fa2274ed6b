"""One transaction of a SQLite file of the home."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal


@contextmanager
def transaction(
    database: sqlite3.Connection, how: Literal["IMMEDIATE", "DEFERRED"] = "IMMEDIATE", *, keep: bool = True
) -> Iterator[None]:
    """All or nothing: what is written inside is there after the block, or none of it.

    Args:
        database: with `isolation_level=None`, so that no statement begins a transaction by itself.
        how: DEFERRED to read what is of one moment; else nobody else writes meanwhile.
        keep: False to see what would be written, and write nothing.
    """
    database.execute(f"BEGIN {how}")
    try:
        yield
        database.execute("COMMIT" if keep else "ROLLBACK")
    except BaseException:
        if database.in_transaction:  # a full disk has rolled it back already
            database.execute("ROLLBACK")
        raise
