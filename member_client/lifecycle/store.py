"""What this lab remembers of the patterns it pulled: `lifecycle.sqlite` in the home.

stages      how far each pattern version had come, by entry hash
backtests   what the newest backtest of a version found here
halt        why all enforcement was halted; no row if it was not
switch      who turned the stop switch, when and why: the last row is how it is now
changes     every change of a stage, for whoever asks later

All of it bounds what patterns may do; nothing in it allows anything by itself. Without the file patterns climb anew;
but the stop switch is then off, and what people must resume goes on by itself.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple
from datetime import datetime
from pathlib import Path

from member_client.errors import InvalidInput
from member_client.lifecycle.facts import KeptBacktest, Memory, Stopped
from member_client.lifecycle.standing import Change, Stage
from member_client.sqlite_transaction import transaction
from sharing_protocol.statements.header import format_timestamp, parse_timestamp

SCHEMA_VERSION = 2

_TABLES = """
CREATE TABLE stages (
    entry TEXT PRIMARY KEY,
    stage TEXT NOT NULL,
    since TEXT,
    share INTEGER NOT NULL,
    share_since TEXT,
    halted TEXT NOT NULL,
    ceiling TEXT NOT NULL,
    counted_enforced INTEGER NOT NULL,
    counted_wrong INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE backtests (
    entry TEXT PRIMARY KEY,
    at TEXT NOT NULL,
    requests INTEGER NOT NULL,
    events INTEGER NOT NULL,
    matched INTEGER NOT NULL,
    accounts INTEGER NOT NULL,
    legitimate INTEGER,
    wrong INTEGER,
    could_match INTEGER NOT NULL,
    measured TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE TABLE halt (only INTEGER PRIMARY KEY CHECK (only = 1), why TEXT NOT NULL);
CREATE TABLE switch (number INTEGER PRIMARY KEY, stopped INTEGER NOT NULL, at TEXT NOT NULL, by TEXT NOT NULL,
    why TEXT NOT NULL);
CREATE TABLE changes (number INTEGER PRIMARY KEY, at TEXT NOT NULL, entry TEXT NOT NULL, id TEXT NOT NULL,
    version INTEGER NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL, share INTEGER NOT NULL, why TEXT NOT NULL);
CREATE INDEX changes_by_entry ON changes (entry)
"""
_UPGRADES = {1: "ALTER TABLE backtests ADD COLUMN measured TEXT NOT NULL DEFAULT ''"}
"""By the version they start from; each leads to the next."""


class LifecycleStore:
    """The file, opened. Close it."""

    def __init__(self, path: Path) -> None:
        """Open it, making it if there is none.

        Raises:
            InvalidInput: the file is no such store, or of a later version of this program.
        """
        try:
            self._database = sqlite3.connect(path, isolation_level=None, timeout=10.0)
            path.chmod(0o600)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            if self._version() != SCHEMA_VERSION:
                self._prepare(path)
        except (sqlite3.Error, OSError) as error:
            raise InvalidInput(
                f"{path} cannot be opened: {error}",
                "check the file and its permissions; without it patterns climb anew, and `policy stop` is forgotten",
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and nobody else writes meanwhile."""
        with transaction(self._database):
            yield

    # -- stages ------------------------------------------------------------------------------------------------

    def memories(self) -> dict[str, Memory]:
        """What is remembered, by entry hash."""
        rows = self._database.execute(
            "SELECT entry, stage, since, share, share_since, halted, ceiling, counted_enforced, counted_wrong "
            "FROM stages"
        )
        return {
            entry: Memory(Stage(stage), _time(since), share, _time(share_since), halted, Stage(ceiling), *counted)
            for entry, stage, since, share, share_since, halted, ceiling, *counted in rows
        }

    def remember(self, memories: Iterable[tuple[str, Memory]]) -> None:
        """Keep these, by entry hash, in place of what was kept of them."""
        self._database.executemany(
            "INSERT OR REPLACE INTO stages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    entry, one.stage, _text(one.since), one.share, _text(one.share_since), one.halted, one.ceiling,
                    one.counted_enforced, one.counted_wrong,
                )
                for entry, one in memories
            ),
        )  # fmt: skip

    def note_changes(self, changes: Iterable[Change], at: datetime) -> None:
        """Write down what changed."""
        self._database.executemany(
            "INSERT INTO changes (at, entry, id, version, before, after, share, why) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    format_timestamp(at), one.entry, one.id, one.version, one.before, one.after, one.share_after,
                    json.dumps([str(reason) for reason in one.why]),
                )
                for one in changes
            ),
        )  # fmt: skip

    def changes(self, entry: str, limit: int = 20) -> list[tuple[datetime, Stage, int, list[str]]]:
        """The last changes of a version, oldest first: when, to which stage and share, and why it fell."""
        rows = self._database.execute(
            "SELECT at, after, share, why FROM changes WHERE entry = ? ORDER BY number DESC LIMIT ?", (entry, limit)
        ).fetchall()
        return [(parse_timestamp(at), Stage(after), share, json.loads(why)) for at, after, share, why in rows[::-1]]

    # -- backtests ---------------------------------------------------------------------------------------------

    def keep_backtest(self, kept: KeptBacktest) -> None:
        """Keep a backtest, in place of the version's earlier one."""
        row = (kept.entry, format_timestamp(kept.at), *astuple(kept)[2:])
        self._database.execute("INSERT OR REPLACE INTO backtests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def backtests(self) -> dict[str, KeptBacktest]:
        """The newest backtest of each version that had one, by entry hash."""
        return {
            row[0]: KeptBacktest(
                row[0], parse_timestamp(row[1]), row[2], row[3], row[4], row[5], row[6], row[7], bool(row[8]), row[9]
            )
            for row in self._database.execute("SELECT * FROM backtests")
        }

    # -- for all patterns at once ------------------------------------------------------------------------------

    @property
    def halted(self) -> str:
        """Why all enforcement was halted; "" if it was not."""
        row = self._database.execute("SELECT why FROM halt").fetchone()
        return row[0] if row else ""

    def halt(self, why: str) -> None:
        """Halt all enforcement until a person resumes it; "" lets it go on."""
        self._database.execute("DELETE FROM halt")
        if why:
            self._database.execute("INSERT INTO halt VALUES (1, ?)", (why,))

    @property
    def stopped(self) -> Stopped | None:
        """The stop switch, while it is on."""
        row = self._database.execute("SELECT stopped, at, by, why FROM switch ORDER BY number DESC LIMIT 1").fetchone()
        return Stopped(parse_timestamp(row[1]), row[2], row[3]) if row and row[0] else None

    def switch(self, at: datetime, by: str, why: str, *, stop: bool) -> None:
        """Turn the stop switch."""
        row = (stop, format_timestamp(at), by, why)
        self._database.execute("INSERT INTO switch (stopped, at, by, why) VALUES (?, ?, ?, ?)", row)

    def _version(self) -> int:
        found: int = self._database.execute("PRAGMA user_version").fetchone()[0]
        return found

    def _prepare(self, path: Path) -> None:
        with self.transaction():
            if (version := self._version()) > SCHEMA_VERSION:
                raise InvalidInput(f"{path} was written by a later Stillwatch (version {version})", "upgrade")
            scripts = [_UPGRADES[step] for step in range(version, SCHEMA_VERSION)] if version else [_TABLES]
            for script in scripts:
                for command in script.split(";"):
                    self._database.execute(command)
            self._database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _text(time: datetime | None) -> str | None:
    return None if time is None else format_timestamp(time)


def _time(text: str | None) -> datetime | None:
    return None if text is None else parse_timestamp(text)
