"""Whether what a gate's table is made of has changed: two stores and two files, looked at every second."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from member_client.home import Home

Look = tuple[object, ...]


def stores_of(home: Home) -> tuple[Path, ...]:
    """The SQLite files: what was decided, at which stage the patterns are, and what the log says of them."""
    return home.path / "decisions.sqlite", home.path / "lifecycle.sqlite", home.store


def files_of(home: Home) -> tuple[Path, ...]:
    """What people write."""
    return (home.path / "policy.toml",)


class Sources:
    """Looks at the files of a home; to be used by one thread."""

    def __init__(self, home: Home) -> None:
        self._stores = [_WatchedStore(path) for path in stores_of(home)]
        self._files = files_of(home)

    def look(self) -> Look:
        """Something that is equal to what it was before if nothing has changed."""
        return (*(store.look() for store in self._stores), *(_stamp(path) for path in self._files))

    def close(self) -> None:
        """Let go of the files."""
        for store in self._stores:
            store.close()


class _WatchedStore:
    """One SQLite file.

    Its `data_version` tells what other processes committed, and not that they read: a build that opens and closes the
    same file in WAL mode may change its times, and a gate that went by these would build for ever.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: sqlite3.Connection | None = None
        self._opened: object = None

    def look(self) -> object:
        try:
            found = self._path.stat()
        except OSError:
            self.close()
            return None
        which = (found.st_dev, found.st_ino)
        if self._database is None or which != self._opened:
            self.close()
            with contextlib.suppress(sqlite3.Error):
                self._database = sqlite3.connect(
                    f"{self._path.absolute().as_uri()}?mode=ro", uri=True, timeout=0.2, check_same_thread=False
                )
                self._opened = which
        try:
            if self._database is not None:
                (version,) = self._database.execute("PRAGMA data_version").fetchone()
                return which, version
        except sqlite3.Error:
            self.close()  # locked, or no store: its size and time will do
        return _stamp(self._path)

    def close(self) -> None:
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
        self._database = None


def _stamp(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
