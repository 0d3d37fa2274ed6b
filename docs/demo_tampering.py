"""What a dishonest operator can do who holds the hub's database and its signing keys. For the demo, on its own hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg

from hub import newest_checkpoint
from hub.database.embedded import EmbeddedPostgres
from hub.identity import HubIdentity
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.merkle import leaf_hash
from sharing_protocol.tiles import GrowingTree


def alter_entry(hub_home: Path, index: int, old: bytes, new: bytes) -> None:
    """Change the bytes of one stored entry, and nothing else."""
    with EmbeddedPostgres.start(hub_home) as server, _connect(server) as database:
        [row] = database.execute("SELECT envelope FROM log_entries WHERE index = %s", (index,)).fetchall()
        envelope: bytes = row[0]
        if old not in envelope:
            raise ValueError("nothing to alter")
        altered = envelope.replace(old, new, 1)
        database.execute("UPDATE log_entries SET envelope = %s WHERE index = %s", (altered, index))


def restore_entry(hub_home: Path, index: int, envelope: bytes) -> None:
    """Put an entry's bytes back."""
    with EmbeddedPostgres.start(hub_home) as server, _connect(server) as database:
        database.execute("UPDATE log_entries SET envelope = %s WHERE index = %s", (envelope, index))


def rewrite_history(hub_home: Path, dropped: int) -> int:
    """Take one entry out of the log as if it had never been: new tiles, new tree, properly signed.

    Returns:
        The size of the rewritten log.
    """
    identity = HubIdentity.load(hub_home)
    # An honest hub would notice by this file that its log was set back, and would sign nothing.
    (hub_home / newest_checkpoint.FILE).unlink(missing_ok=True)
    with EmbeddedPostgres.start(hub_home) as server, _connect(server) as database:
        rows = database.execute("SELECT index, envelope FROM log_entries ORDER BY index").fetchall()
        kept = [bytes(envelope) for index, envelope in rows if index != dropped]
        database.execute("DELETE FROM log_entries WHERE index = %s", (dropped,))
        database.execute("UPDATE log_entries SET index = index - 1 WHERE index > %s", (dropped,))
        tree = GrowingTree()
        database.execute("DELETE FROM tiles")
        for (level, index), hashes in tree.append(leaf_hash(entry) for entry in kept).items():
            database.execute("INSERT INTO tiles VALUES (%s, %s, %s)", (level, index, b"".join(hashes)))
        note = str(identity.sign(Checkpoint(identity.origin, tree.size, tree.root())))
        database.execute("DELETE FROM checkpoints WHERE tree_size >= %s", (tree.size,))
        database.execute("INSERT INTO checkpoints VALUES (%s, %s, %s)", (tree.size, tree.root(), note))
        database.execute(
            "UPDATE log_head SET tree_size = %s, last_membership = "
            "(SELECT max(index) FROM log_entries WHERE starts_with(type, 'membership.'))",
            (tree.size,),
        )
        return tree.size


def _connect(server: EmbeddedPostgres) -> psycopg.Connection[Any]:
    """A connection whose transaction the append-only triggers do not bind: the tables' owner can switch them off."""
    database = psycopg.connect(server.url.replace("+psycopg", ""))
    for table in ("log_entries", "checkpoints"):
        database.execute(f"ALTER TABLE {table} DISABLE TRIGGER append_only".encode())
    return database
