"""The log read from its beginning: who belonged, and which records there were, after each entry.

The same rules as at the time (`admission.admit`), every signature checked. The records seen so far are kept in a
temporary SQLite file, so that a long log needs little memory.
"""

import sqlite3
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from hub.projection import HeadRow
from sharing_protocol import envelope as envelopes
from sharing_protocol.admission import Admission, Head, admit
from sharing_protocol.envelope import Envelope
from sharing_protocol.membership import Membership
from sharing_protocol.statements import RecordStatement, Unknown

_SCHEMA = """
CREATE TABLE heads (
    id TEXT PRIMARY KEY, type TEXT, version INTEGER, entry INTEGER, leaf_hash BLOB, author TEXT, withdrawn_at INTEGER
) WITHOUT ROWID;
CREATE TABLE versions (id TEXT, version INTEGER, leaf_hash BLOB, PRIMARY KEY (id, version)) WITHOUT ROWID;
"""


class Replay:
    """Folds entries, in order; also the `admission.Records` that it asks itself.

    Attributes:
        membership: after the entries so far.
    """

    def __init__(self) -> None:
        # An empty name is a file that SQLite deletes by itself; it may be lost at any time, so it is never synced.
        self._records = sqlite3.connect("", isolation_level=None)
        self._records.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _SCHEMA)
        self.membership = Membership()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._records.close()

    def apply(self, index: int, leaf_hash: bytes, entry: bytes) -> tuple[Envelope, Admission | Unknown]:
        """Take an entry, if the rules allow it where it stands; if not, nothing changes.

        Raises:
            ProtocolError: why they do not.
        """
        envelope = envelopes.parse(entry)
        admission = admit(envelope, index, leaf_hash.hex(), self.membership, self)
        if isinstance(admission, Admission):
            self._store(index, leaf_hash, admission)
            self.membership = admission.membership
        return envelope, admission

    def head(self, record_id: str) -> Head | None:
        """The newest version of a record."""
        row = self._records.execute(
            "SELECT id, type, version, leaf_hash, author, withdrawn_at FROM heads WHERE id = ?", (record_id,)
        ).fetchone()
        return None if row is None else Head(row[0], row[1], row[2], row[3].hex(), row[4], row[5] is not None)

    def entry_of(self, record_id: str, version: int) -> str | None:
        """Hex leaf hash of the entry with that version."""
        row = self._records.execute(
            "SELECT leaf_hash FROM versions WHERE id = ? AND version = ?", (record_id, version)
        ).fetchone()
        return None if row is None else row[0].hex()

    def head_rows(self) -> Iterator[HeadRow]:
        """What `record_heads` should hold, ordered by the bytes of the id."""
        query = "SELECT id, type, version, entry, leaf_hash, author, withdrawn_at FROM heads ORDER BY id"
        for id_, kind, version, entry, leaf_hash, author, withdrawn_at in self._records.execute(query):
            yield {
                "id": id_,
                "type": kind,
                "version": version,
                "entry": entry,
                "leaf_hash": leaf_hash,
                "author": author,
                "withdrawn_at": withdrawn_at,
            }

    def _store(self, index: int, leaf_hash: bytes, admission: Admission) -> None:
        head = admission.head
        self._records.execute(
            "INSERT INTO heads VALUES (?, ?, ?, ?, ?, ?, NULL) ON CONFLICT (id) DO UPDATE SET "
            "version = excluded.version, entry = excluded.entry, leaf_hash = excluded.leaf_hash",
            (head.id, head.type, head.version, index, leaf_hash, head.author),
        )
        if isinstance(admission.statement, RecordStatement):
            self._records.execute("INSERT INTO versions VALUES (?, ?, ?)", (head.id, head.version, leaf_hash))
        if admission.withdrawn is not None:
            self._records.execute("UPDATE heads SET withdrawn_at = ? WHERE id = ?", (index, admission.withdrawn.id))
