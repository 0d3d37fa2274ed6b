"""The store's tables, and how a store of an earlier version is brought up to date.

log_state        the newest checkpoint believed, how far entries are stored, and up to where refusals were reported
entries          every entry of the log, with its verdict
versions, heads  the admitted record versions, and the newest of each record
unread_records   records of which a statement was not understood: what rests on them cannot be judged either
trials           whether a pattern passes its own tests here
receipts         what the hub acknowledged; `settled` once the log that members see was found to honour it
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from member_client.errors import InvalidInput

SCHEMA_VERSION = 4
PAGE_BYTES = 16_384

_TABLES = """
CREATE TABLE log_state (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    fingerprint TEXT NOT NULL,
    checkpoint TEXT NOT NULL,
    timestamp INTEGER NOT NULL,
    cursor INTEGER NOT NULL,
    reported INTEGER NOT NULL DEFAULT 0,
    understands TEXT NOT NULL DEFAULT ''
);
CREATE TABLE entries (
    idx INTEGER PRIMARY KEY,
    leaf BLOB NOT NULL,
    envelope BLOB NOT NULL,
    type TEXT NOT NULL,
    verdict TEXT NOT NULL CHECK (verdict IN ('admitted', 'not understood', 'rejected')),
    code TEXT NOT NULL,
    reason TEXT NOT NULL
);
CREATE INDEX membership_entries ON entries (idx) WHERE type LIKE 'membership.%';
CREATE INDEX refused_entries ON entries (idx) WHERE verdict <> 'admitted';
CREATE TABLE versions (
    idx INTEGER PRIMARY KEY REFERENCES entries (idx),
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    version INTEGER NOT NULL,
    entry TEXT NOT NULL,
    author TEXT NOT NULL,
    signer TEXT NOT NULL,
    created TEXT NOT NULL,
    marking TEXT NOT NULL,
    valid_until TEXT NOT NULL,
    valid_from TEXT NOT NULL,
    kind TEXT NOT NULL,
    severity TEXT NOT NULL,
    title TEXT NOT NULL,
    techniques TEXT NOT NULL,
    searchable TEXT NOT NULL,
    refers_to TEXT NOT NULL,
    UNIQUE (id, version)
);
CREATE INDEX versions_by_reference ON versions (refers_to) WHERE refers_to <> '';
CREATE INDEX IF NOT EXISTS endorsements_by_author ON versions (refers_to, author) WHERE type = 'endorsement';
CREATE TABLE heads (
    id TEXT PRIMARY KEY,
    type TEXT NOT NULL,
    version INTEGER NOT NULL,
    entry TEXT NOT NULL,
    author TEXT NOT NULL,
    withdrawn_at INTEGER
) WITHOUT ROWID;
CREATE TABLE trials (
    entry TEXT PRIMARY KEY,
    passed INTEGER NOT NULL,
    code TEXT NOT NULL,
    reason TEXT NOT NULL,
    checker TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE TABLE receipts (
    entry TEXT PRIMARY KEY,
    idx INTEGER NOT NULL,
    receipt TEXT NOT NULL,
    settled INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE unread_records (
    id TEXT PRIMARY KEY,
    idx INTEGER NOT NULL
) WITHOUT ROWID;
"""

_UPGRADES = {
    1: """
ALTER TABLE log_state ADD COLUMN reported INTEGER NOT NULL DEFAULT 0;
ALTER TABLE log_state ADD COLUMN understands TEXT NOT NULL DEFAULT '';
ALTER TABLE trials ADD COLUMN checker TEXT NOT NULL DEFAULT '';
ALTER TABLE receipts ADD COLUMN settled INTEGER NOT NULL DEFAULT 0;
CREATE TABLE unread_records (
    id TEXT PRIMARY KEY,
    idx INTEGER NOT NULL
) WITHOUT ROWID;
""",
    2: """
DROP INDEX entries_by_leaf;
""",
    3: """
CREATE INDEX IF NOT EXISTS endorsements_by_author ON versions (refers_to, author) WHERE type = 'endorsement';
""",
}
"""By the version they start from; each leads to the next."""


def prepare(database: sqlite3.Connection, path: Path) -> None:
    """Make the tables, or bring those of an earlier version up to date; inside the caller's transaction.

    Raises:
        InvalidInput: the store is of a later version of this program.
    """
    version: int = database.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise InvalidInput(f"{path} was written by a later Stillwatch (store version {version})", "upgrade")
    scripts = [_UPGRADES[step] for step in range(version, SCHEMA_VERSION)] if version else [_TABLES]
    for script in scripts:
        for command in script.split(";"):
            database.execute(command)
    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
