"""The outbox of the hooks: what is to be told to whom, and what became of it. One SQLite file, `deliveries.sqlite`.

A delivery is one event by one hook, and is written down, with the very bytes that will be sent, before anything is
sent. Each try is written down before it is made, with when the next one may be, and its success after it. So whatever
ends the process, nothing is lost; what was sent and not written down is sent again, under the same key.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from member_client.errors import InvalidInput

MAX_WAITING = 1000
"""Waiting deliveries of one hook. What finds no room is not lost: the log has it, and a later run writes it down."""
MAX_ERROR_CHARACTERS = 200
WAITING, DELIVERED, GIVEN_UP = "waiting", "delivered", "given up"
IN_DIGEST = "in a digest"
"""Of an event that is not told by itself, but counted in a delivery of its own."""

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE hooks (name TEXT PRIMARY KEY, since INTEGER NOT NULL) STRICT;
CREATE TABLE deliveries (
    event TEXT NOT NULL, hook TEXT NOT NULL, key TEXT NOT NULL, kind TEXT NOT NULL, incident TEXT NOT NULL,
    idx INTEGER NOT NULL, document TEXT NOT NULL, queued REAL NOT NULL, state TEXT NOT NULL,
    tries INTEGER NOT NULL, next_try REAL NOT NULL, error TEXT NOT NULL, ended REAL,
    PRIMARY KEY (event, hook)
) STRICT;
CREATE INDEX deliveries_waiting ON deliveries (hook, next_try) WHERE state = 'waiting';
CREATE TABLE looked (only INTEGER PRIMARY KEY CHECK (only = 1), cursor INTEGER NOT NULL, hooks TEXT NOT NULL,
    again REAL NOT NULL) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event, or a digest of some, by one hook.

    Attributes:
        key: the idempotency key of all its tries.
        index: of the log entry that it is about.
        document: the JSON that is sent; "" once it has arrived, and for what is in a digest.
        queued, next_try, ended: POSIX seconds; `ended` is None while it waits.
        error: why the last try failed, or what was not well with the one that succeeded; or the digest's key.
    """

    event: str
    hook: str
    key: str
    kind: str
    incident: str
    index: int
    document: str
    queued: float
    state: str = WAITING
    tries: int = 0
    next_try: float = 0.0
    error: str = ""
    ended: float | None = None


@dataclass(frozen=True, slots=True)
class Looked:
    """When it has to be looked for new events again: once the log is longer, the hooks are others, or it is `again`."""

    cursor: int
    hooks: str
    again: float


class Deliveries:
    """The outbox."""

    def __init__(self, path: Path) -> None:
        """Open it, making it if there is none.

        Raises:
            InvalidInput: the file is no outbox, or of a later version of this program.
        """
        try:
            self._database = sqlite3.connect(path, isolation_level=None, timeout=10.0)
            path.chmod(0o600)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.execute("BEGIN IMMEDIATE")
            version = self._database.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                for statement in _SCHEMA.split(";"):
                    self._database.execute(statement)
                self._database.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            self._database.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            raise InvalidInput(
                f"{path} cannot be opened: {error}", "move it away; what is open is told anew"
            ) from error
        if version not in (0, _SCHEMA_VERSION):
            self.close()
            raise InvalidInput(f"{path} is of a later version of this program", "use that version")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    # -- what there is to tell -----------------------------------------------------------------------------------

    def since(self, hook: str, cursor: int) -> int:
        """From which log index on a hook is told of events: from the log's end when it was first seen."""
        self._database.execute("INSERT OR IGNORE INTO hooks VALUES (?, ?)", (hook, cursor))
        found: int = self._database.execute("SELECT since FROM hooks WHERE name = ?", (hook,)).fetchone()[0]
        return found

    @property
    def looked(self) -> Looked | None:
        """What was known when it was last looked for events, if everything found room."""
        row = self._database.execute("SELECT cursor, hooks, again FROM looked").fetchone()
        return Looked(*row) if row else None

    def add(self, found: Iterable[Sequence[Delivery]], looked: Looked) -> int:
        """Write down what was found in one transaction; what is there stays as it is. Gives how many are to be told.

        If some hook has no room for one of its own, it is looked for them again next time.

        Args:
            found: a delivery each, followed by those that are told in it: all of them are written down, or none.
        """
        full = False
        added = 0
        with closing(self._database.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            room = self._room()
            for one, *in_it in found:
                if self.knows(one.event, one.hook):
                    continue
                if room.get(one.hook, MAX_WAITING) <= 0:
                    full = True
                    continue
                room[one.hook] = room.get(one.hook, MAX_WAITING) - 1
                cursor.executemany(
                    "INSERT INTO deliveries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        (
                            *(new.event, new.hook, new.key, new.kind, new.incident, new.index, new.document),
                            *(new.queued, new.state, new.tries, new.next_try, new.error, new.ended),
                        )
                        for new in (one, *in_it)
                    ),
                )
                added += 1
            cursor.execute("DELETE FROM looked")
            if not full:
                cursor.execute("INSERT INTO looked VALUES (1, ?, ?, ?)", (looked.cursor, looked.hooks, looked.again))
            cursor.execute("COMMIT")
        return added

    def knows(self, event: str, hook: str) -> bool:
        """Whether it is written down that a hook is told of an event, or was."""
        row = self._database.execute("SELECT 1 FROM deliveries WHERE event = ? AND hook = ?", (event, hook))
        return row.fetchone() is not None

    def _room(self) -> dict[str, int]:
        rows = self._database.execute("SELECT hook, count(*) FROM deliveries WHERE state = 'waiting' GROUP BY hook")
        return {hook: MAX_WAITING - count for hook, count in rows}

    # -- telling it ----------------------------------------------------------------------------------------------

    def waiting(self, hook: str, now: float, furthest: float, limit: int) -> list[Delivery]:
        """What a hook is to try now, the longest waiting first.

        Args:
            furthest: what is to be tried later than this is due too: the clock was set back since.
        """
        condition = "state = 'waiting' AND hook = ? AND (next_try <= ? OR next_try > ?) ORDER BY next_try, idx"
        return self._read(condition, (hook, now, furthest), limit)

    def begin_try(self, one: Delivery, next_try: float) -> None:
        """Write down that it is tried now, and when it may be again if nothing more is heard of this try."""
        self._set(one, "tries = tries + 1, next_try = ?", (next_try,))

    def succeed(self, one: Delivery, now: float, remark: str = "") -> None:
        """Write down that it arrived."""
        self._set(one, "state = 'delivered', ended = ?, error = ?, document = ''", (now, remark[:MAX_ERROR_CHARACTERS]))

    def fail(self, one: Delivery, error: str, next_try: float | None, now: float) -> None:
        """Write down why it did not arrive, and when to try again; None for never."""
        if next_try is None:
            self._set(one, "state = 'given up', ended = ?, error = ?", (now, error[:MAX_ERROR_CHARACTERS]))
        else:
            self._set(one, "next_try = ?, error = ?", (next_try, error[:MAX_ERROR_CHARACTERS]))

    def try_all_again(self, now: float) -> int:
        """Make everything that did not arrive due now, also what was given up. Gives how many."""
        return self._database.execute(
            "UPDATE deliveries SET state = 'waiting', next_try = ?, queued = ?, ended = NULL "
            "WHERE state IN ('waiting', 'given up')",
            (now, now),
        ).rowcount

    def listed(self, limit: int) -> list[Delivery]:
        """The newest deliveries, oldest first."""
        return self._read("1 ORDER BY rowid DESC", (), limit)[::-1]

    def count(self) -> dict[str, int]:
        """How many deliveries there are, by state."""
        return dict(self._database.execute("SELECT state, count(*) FROM deliveries GROUP BY state").fetchall())

    def _read(self, condition: str, values: tuple[object, ...], limit: int) -> list[Delivery]:
        rows = self._database.execute(
            "SELECT event, hook, key, kind, incident, idx, document, queued, state, tries, next_try, error, ended "  # noqa: S608 - fixed text
            f"FROM deliveries WHERE {condition} LIMIT ?",
            (*values, limit),
        )
        return [Delivery(*row) for row in rows]

    def _set(self, one: Delivery, what: str, values: tuple[object, ...]) -> None:
        self._database.execute(
            f"UPDATE deliveries SET {what} WHERE event = ? AND hook = ?",  # noqa: S608 - fixed text
            (*values, one.event, one.hook),
        )
