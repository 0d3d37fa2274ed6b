"""What this member knows of the log: one SQLite file, written only by verified batches.

Every entry is kept, admitted or not, with its verdict; from the admitted ones come the versions, the newest version of
each record, and (folded anew when the store is opened) the membership. A batch and the cursor after it are one
transaction, so a crash leaves the state after some batch, and the next run goes on from there.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from member_client.errors import InvalidInput
from member_client.sqlite_transaction import transaction
from member_client.sync.judged import Judged, Listing
from member_client.sync.schema import PAGE_BYTES, SCHEMA_VERSION, prepare
from sharing_protocol import envelope as envelopes
from sharing_protocol import statements
from sharing_protocol.admission import Head
from sharing_protocol.checkpoints import parse_text
from sharing_protocol.log_excerpt import LoggedEntry
from sharing_protocol.membership import Membership, after
from sharing_protocol.notes import parse as parse_note
from sharing_protocol.statements import MembershipStatement, Pattern, RecordStatement, voice_id
from sharing_protocol.statements.header import format_timestamp
from sharing_protocol.trust import TrustedCheckpoint

_OWN_ENDORSEMENTS = """coalesce((
    SELECT group_concat(e.id || ' ' || e.signer || ' ' || e.idx, ' ')
    FROM versions e JOIN heads eh ON eh.id = e.id AND eh.version = e.version AND eh.withdrawn_at IS NULL
    WHERE v.type = 'pattern' AND e.refers_to = v.id AND e.type = 'endorsement' AND e.author = v.author
), '')"""
_INSERT_VERSION = (
    f"INSERT INTO versions (idx, entry, {', '.join(Listing._fields)}) "  # noqa: S608 - fixed names
    f"VALUES (?, ?, {', '.join('?' * len(Listing._fields))})"
)
CHECKER = version_of("stillwatch")
"""Who judged a pattern: one that this version cannot compile, a later one perhaps can."""
MAX_LISTED = 100
"""Refused entries in one report: a hub that fills its log with nonsense must not fill this client's memory."""


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """One version of a record, as the log has it.

    Attributes:
        newest: version number of the record's newest version.
        withdrawn_at: log index of the record's withdrawal, or None.
        own_endorsements: by the pattern's own lab, in force: `id signer index`, one after the other.
        trial: None while this version of the client has not tried the pattern, "" when it passed, else why it did not.
        refers_to: id of the one record that it is about (`statements.is_about`), "" for none.
    """

    index: int
    id: str
    type: str
    version: int
    entry: str
    author: str
    signer: str
    created: str
    marking: str
    valid_from: str
    valid_until: str
    kind: str
    severity: str
    title: str
    techniques: tuple[str, ...]
    refers_to: str
    newest: int
    withdrawn_at: int | None
    trial: str | None
    own_endorsements: str = ""


_TECHNIQUES = [field.name for field in fields(StoredVersion)].index("techniques")


@dataclass(frozen=True, slots=True)
class RefusedEntry:
    """An entry of the log that has no effect here, and why."""

    index: int
    type: str
    verdict: str
    code: str
    reason: str


class Store:
    """The store. It is also what `judged.Judged` looks records up in."""

    def __init__(self, path: Path) -> None:
        """Open the store, making it if there is none.

        Raises:
            InvalidInput: the file is no store, or of a later version of this program.
        """
        self._membership: Membership | None = None
        self._others_wrote = 0
        try:
            self._database = sqlite3.connect(path, isolation_level=None, timeout=10.0)
            path.chmod(0o600)
            # An envelope or two fill SQLite's usual page; this counts only while the file is new.
            self._database.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            if self._database.execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:
                with self.transaction():
                    prepare(self._database, path)
        except (sqlite3.Error, OSError) as error:
            raise InvalidInput(f"{path} cannot be opened: {error}", "move it away and sync anew") from error

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing: what is written inside is there after the block, or none of it."""
        try:
            with transaction(self._database):
                yield
        except BaseException:
            self._membership = None
            raise

    # -- the log -----------------------------------------------------------------------------------------------

    @property
    def fingerprint(self) -> str | None:
        """The forum that this store is about, None while it is empty."""
        row = self._database.execute("SELECT fingerprint FROM log_state").fetchone()
        return row[0] if row else None

    @property
    def cursor(self) -> int:
        """How many entries are stored; the index of the next one."""
        row = self._database.execute("SELECT cursor FROM log_state").fetchone()
        return row[0] if row else 0

    def trusted(self) -> TrustedCheckpoint | None:
        """The newest checkpoint that this member believed."""
        row = self._database.execute("SELECT checkpoint, timestamp FROM log_state").fetchone()
        if row is None:
            return None
        return TrustedCheckpoint(parse_text(parse_note(row[0].encode()).text), row[0], row[1])

    def advance(self, fingerprint: str, trusted: TrustedCheckpoint, cursor: int) -> None:
        """Record that everything below `cursor` is stored and hashes into `trusted`."""
        self._database.execute(
            "INSERT INTO log_state VALUES (1, ?, ?, ?, ?, 0, ?) ON CONFLICT (only) DO UPDATE SET "
            "checkpoint = excluded.checkpoint, timestamp = excluded.timestamp, cursor = excluded.cursor, "
            "understands = excluded.understands",
            (fingerprint, trusted.note, trusted.timestamp, cursor, statements.understanding()),
        )

    def cut(self, cursor: int, trusted: TrustedCheckpoint | None) -> None:
        """Forget the entries from `cursor` on, and believe this checkpoint again; not what they led to."""
        self._database.execute("DELETE FROM entries WHERE idx >= ?", (cursor,))
        if trusted is None:
            self._database.execute("DELETE FROM log_state")
            return
        self._database.execute(
            "UPDATE log_state SET checkpoint = ?, timestamp = ?, cursor = ?, reported = min(reported, ?)",
            (trusted.note, trusted.timestamp, cursor, cursor),
        )

    @property
    def reported(self) -> int:
        """Up to which index, not including it, refused entries were reported to whoever runs this client."""
        row = self._database.execute("SELECT reported FROM log_state").fetchone()
        return row[0] if row else 0

    def set_reported(self, index: int) -> None:
        """Note that refused entries below `index` were reported."""
        self._database.execute("UPDATE log_state SET reported = ?", (index,))

    @property
    def is_of_other_understanding(self) -> bool:
        """Whether some verdict is by a version of this program that knew other statements, and could be another now."""
        row = self._database.execute("SELECT understands FROM log_state").fetchone()
        return row is not None and row[0] != statements.understanding() and bool(self.count_refused())

    def forget_verdicts(self) -> None:
        """Forget what was concluded from the entries, so that all of them can be judged anew."""
        for table in ("versions", "heads", "unread_records"):
            self._database.execute(f"DELETE FROM {table}")  # noqa: S608 - fixed names
        self._database.execute("UPDATE log_state SET understands = ?", (statements.understanding(),))
        self._membership = Membership()

    def leaves(self, start: int, end: int) -> list[bytes]:
        """Leaf hashes of the stored entries from `start` up to, not including, `end`."""
        rows = self._database.execute("SELECT leaf FROM entries WHERE idx >= ? AND idx < ? ORDER BY idx", (start, end))
        return [row[0] for row in rows]

    def put(self, judged: Judged) -> None:
        """Keep a batch's verdicts and what follows from them; of entries kept already only the verdicts change."""
        write = self._database.executemany
        write(
            "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (idx) DO UPDATE SET "
            "type = excluded.type, verdict = excluded.verdict, code = excluded.code, reason = excluded.reason",
            judged.entries,
        )
        write(_INSERT_VERSION, judged.versions)
        write(
            "INSERT INTO heads VALUES (?, ?, ?, ?, ?, NULL) ON CONFLICT (id) DO UPDATE SET "
            "version = excluded.version, entry = excluded.entry, author = excluded.author",
            ((head.id, head.type, head.version, head.entry, head.author) for head in judged.heads.values()),
        )
        write("UPDATE heads SET withdrawn_at = ? WHERE id = ?", ((at, id) for id, at in judged.withdrawn.items()))
        write("INSERT OR IGNORE INTO unread_records VALUES (?, ?)", judged.unread_records.items())

    def entry(self, index: int) -> bytes | None:
        """The envelope at a log index."""
        row = self._database.execute("SELECT envelope FROM entries WHERE idx = ?", (index,)).fetchone()
        return row[0] if row else None

    def entries(self, start: int, end: int) -> list[bytes]:
        """The envelopes from `start` up to, not including, `end`."""
        rows = self._database.execute(
            "SELECT envelope FROM entries WHERE idx >= ? AND idx < ? ORDER BY idx", (start, end)
        )
        return [row[0] for row in rows]

    def refused(self, start: int = 0, verdict: str = "", limit: int = MAX_LISTED) -> list[RefusedEntry]:
        """The first entries from `start` on that were refused, or have this verdict."""
        rows = self._database.execute(
            "SELECT idx, type, verdict, code, reason FROM entries "
            "WHERE verdict <> 'admitted' AND idx >= ? AND ? IN (verdict, '') ORDER BY idx LIMIT ?",
            (start, verdict, limit),
        )
        return [RefusedEntry(*row) for row in rows]

    def newest_refused(self, limit: int) -> list[RefusedEntry]:
        """The last entries that were refused."""
        rows = self._database.execute(
            "SELECT idx, type, verdict, code, reason FROM entries "
            "WHERE verdict <> 'admitted' ORDER BY idx DESC LIMIT ?",
            (limit,),
        )
        return [RefusedEntry(*row) for row in rows][::-1]

    def count_refused(self, start: int = 0) -> dict[str, int]:
        """How many entries from `start` on were refused, by verdict."""
        rows = self._database.execute(
            "SELECT verdict, count(*) FROM entries WHERE verdict <> 'admitted' AND idx >= ? GROUP BY verdict", (start,)
        )
        return dict(rows.fetchall())

    def unread(self, record_ids: Iterable[str]) -> int | None:
        """Index of the first statement that was not understood about any of these records, or None."""
        wanted = list(record_ids)
        row = self._database.execute(
            f"SELECT min(idx) FROM unread_records WHERE id IN ({', '.join('?' * len(wanted))})",  # noqa: S608 - only ?s
            wanted,
        ).fetchone()
        found: int | None = row[0]
        return found

    def integrity(self) -> str:
        """What SQLite's own check finds wrong with the file, "" for nothing."""
        found: str = self._database.execute("PRAGMA integrity_check").fetchone()[0]
        return "" if found == "ok" else found

    # -- membership --------------------------------------------------------------------------------------------

    def membership(self) -> Membership:
        """The membership after the stored entries, folded from them."""
        others_wrote = self._database.execute("PRAGMA data_version").fetchone()[0]
        if self._membership is None or others_wrote != self._others_wrote:
            self._others_wrote = others_wrote
            state = Membership()
            for index, data in self.membership_log():
                signed = envelopes.parse(data)
                statement = statements.parse(signed.payload)
                if isinstance(statement, MembershipStatement):
                    state = after(state, statement, index, signed.payload_sha256)
            self._membership = state
        return self._membership

    def set_membership(self, membership: Membership) -> None:
        """Take over the state that a batch led to; a rolled-back transaction forgets it."""
        self._membership = membership

    def membership_log(self) -> list[tuple[int, bytes]]:
        """Every admitted membership entry: index and envelope."""
        rows = self._database.execute(
            "SELECT idx, envelope FROM entries WHERE type LIKE 'membership.%' AND verdict = 'admitted' ORDER BY idx"
        )
        return [(row[0], row[1]) for row in rows]

    def forum_record(self) -> list[LoggedEntry]:
        """The forum's own admitted entries, the founding one first, without proofs: the log's keys are in them."""
        rows = self._database.execute(
            "SELECT idx, envelope FROM entries WHERE verdict = 'admitted' "
            "AND type IN ('membership.found', 'membership.change_admins', 'membership.change_log') ORDER BY idx"
        )
        return [LoggedEntry(index, data, ()) for index, data in rows]

    # -- records -----------------------------------------------------------------------------------------------

    def head(self, record_id: str) -> Head | None:
        """See `admission.Records`."""
        return self.heads([record_id]).get(record_id)

    def heads(self, record_ids: Sequence[str]) -> dict[str, Head]:
        """The newest versions of those of these records that there are."""
        rows = self._database.execute(
            "SELECT id, type, version, entry, author, withdrawn_at IS NOT NULL FROM heads "
            "WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps(record_ids),),
        )
        return {row[0]: Head(row[0], row[1], row[2], row[3], row[4], withdrawn=bool(row[5])) for row in rows}

    def entry_of(self, record_id: str, version: int) -> str | None:
        """See `admission.Records`."""
        row = self._database.execute(
            "SELECT entry FROM versions WHERE id = ? AND version = ?", (record_id, version)
        ).fetchone()
        return row[0] if row else None

    def versions(
        self,
        *,
        type: str | None = None,
        id: str | None = None,
        refers_to: str | None = None,
        search: str | None = None,
        newest_only: bool = False,
        untried_only: bool = False,
    ) -> list[StoredVersion]:
        """Record versions in log order, narrowed by whichever arguments are given."""
        conditions, values = ["1"], []
        for column, value in (("v.type", type), ("v.id", id), ("v.refers_to", refers_to)):
            if value is not None:
                conditions.append(f"{column} = ?")
                values.append(value)
        if search is not None:
            conditions.append("instr(v.searchable, ?)")
            values.append(search.casefold())
        if newest_only:
            conditions.append("v.version = h.version")
        if untried_only:
            conditions.append("t.entry IS NULL")
        rows = self._database.execute(
            "SELECT v.idx, v.id, v.type, v.version, v.entry, v.author, v.signer, v.created, v.marking, v.valid_from, "  # noqa: S608 - the conditions are fixed text, values are bound
            "v.valid_until, v.kind, v.severity, v.title, v.techniques, v.refers_to, h.version, h.withdrawn_at, "
            f"CASE WHEN t.passed = 1 THEN '' ELSE t.reason END, {_OWN_ENDORSEMENTS} "
            "FROM versions v JOIN heads h ON h.id = v.id "
            "LEFT JOIN trials t ON t.entry = v.entry AND (t.passed = 1 OR t.checker = ?) "
            f"WHERE {' AND '.join(conditions)} ORDER BY v.idx",
            [CHECKER, *values],
        )
        return [_stored_version(row) for row in rows]

    def pattern(self, version: StoredVersion) -> Pattern:
        """The statement of a stored pattern version."""
        statement = self.record(version)
        if not isinstance(statement, Pattern):
            raise InvalidInput(f"{version.id} version {version.version} is not a stored pattern")
        return statement

    def record(self, version: StoredVersion) -> RecordStatement:
        """The statement of a stored record version."""
        data = self.entry(version.index)
        statement = statements.parse(envelopes.parse(data).payload) if data else None
        if not isinstance(statement, RecordStatement):
            raise InvalidInput(f"{version.id} version {version.version} is not a stored record")
        return statement

    def latest_created(self, start: int, end: int, until: datetime) -> str:
        """The latest `created`, up to `until`, of the record versions at log indexes from `start` to before `end`.

        Returns:
            A timestamp as statements have it, "" for none.
        """
        row = self._database.execute(
            "SELECT max(created) FROM versions WHERE idx >= ? AND idx < ? AND created <= ?",
            (start, end, format_timestamp(until)),
        ).fetchone()
        return row[0] or ""

    def put_trials(self, trials: Iterable[tuple[str, bool, str, str]]) -> None:
        """Keep what trying patterns gave: entry hash, passed, code, reason. A failure holds for this version only."""
        rows = [(*trial, CHECKER) for trial in trials]
        self._database.executemany("INSERT OR REPLACE INTO trials VALUES (?, ?, ?, ?, ?)", rows)

    # -- receipts ----------------------------------------------------------------------------------------------

    def put_receipt(self, entry: str, index: int, receipt: str) -> None:
        """Keep a receipt, which proves what the hub promised."""
        self._database.execute("INSERT OR REPLACE INTO receipts VALUES (?, ?, ?, 0)", (entry, index, receipt))

    def has_receipt(self, entry: str) -> bool:
        """Whether there is a receipt for the entry with this hash."""
        return self._database.execute("SELECT 1 FROM receipts WHERE entry = ?", (entry,)).fetchone() is not None

    def unsettled_receipts(self) -> list[tuple[str, int, str]]:
        """Receipts that the log was not held to yet: entry hash, index, JSON."""
        return self._database.execute(
            "SELECT entry, idx, receipt FROM receipts WHERE NOT settled ORDER BY idx"
        ).fetchall()

    def settle_receipts(self, entries: Iterable[str]) -> None:
        """Note that the log honours the receipts for these entries."""
        self._database.executemany("UPDATE receipts SET settled = 1 WHERE entry = ?", [(entry,) for entry in entries])


def why_suspect(version: StoredVersion, membership: Membership) -> str:
    """What makes a record version suspect, in words; "" if nothing does."""
    key = membership.keys.get(version.signer)
    if key is None or not _is_suspect(version.signer, version.index, membership):
        return ""
    own = voice_id("endorsement", version.author, version.entry)
    said = version.own_endorsements.split()
    for endorsement, signer, index in zip(said[::3], said[1::3], said[2::3], strict=True):
        if endorsement == own and not _is_suspect(signer, int(index), membership):
            return ""
    return (
        f"its key {version.signer[:16]}… was reported compromised from entry {key.suspect_from} on; it is out of force "
        "until its lab signs or endorses it anew"
    )


def _is_suspect(signer: str, index: int, membership: Membership) -> bool:
    key = membership.keys.get(signer)
    return key is not None and key.suspect_from is not None and index >= key.suspect_from


def _stored_version(row: tuple[Any, ...]) -> StoredVersion:
    values = list(row)
    values[_TECHNIQUES] = tuple(json.loads(values[_TECHNIQUES]))
    return StoredVersion(*values)


def state_of(version: StoredVersion, membership: Membership, now: datetime) -> str:
    """Where a record version stands: `active`, or the one reason why it is not in force.

    `suspect` means that its key was reported compromised from an index at or below the record's.
    """
    moment = format_timestamp(now)
    reasons = (
        ("superseded", version.version < version.newest),
        ("withdrawn", version.withdrawn_at is not None),
        ("suspect", bool(why_suspect(version, membership))),
        ("expired", version.valid_until <= moment),
        ("not yet valid", version.valid_from > moment),
        ("unsound", bool(version.trial)),
    )
    return next((name for name, holds in reasons if holds), "active")
