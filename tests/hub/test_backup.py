"""A backup comes back as it was, or not at all; so do the entries that it lacks, from a member's export."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from hub.backup import MANIFEST, BackupError, Manifest, open_backup, write_backup
from hub.database import audit
from hub.database.connections import make_command_engine, make_engine
from hub.errors import HubError
from hub.identity import HubIdentity
from hub.log_keys import LogKeys
from hub.recovering import Recovered, RecoveryError, recover
from hub.restoring import restore
from sharing_protocol.log_export import ExportHeader, encode_entry
from tests.forum import ForumInABox, Lab, make_identity, pattern_body, running_hub, sql
from tests.hub.lone_sequencer import sequence_at_once
from tests.hub.stored_log import connect, copied, differences, number, rows

EARLY, SIZE = 4, 270
"""Entries when the backup is made, and in the end: more than a tile and more than a batch."""


@dataclass(frozen=True)
class History:
    """A log that grew after a backup was made of it.

    Attributes:
        box: its forum; its hub is not running any more.
        backup: of its first entries.
        early: the database as it was then.
        database: the database as it is in the end.
    """

    box: ForumInABox
    lab: Lab
    backup: Path
    early: str
    database: str

    @property
    def identity(self) -> HubIdentity:
        return self.box.hub.identity

    def entries(self) -> list[bytes]:
        return [row[0] for row in rows(self.database, "SELECT envelope FROM log_entries ORDER BY index")]

    def note(self, size: int = SIZE) -> str:
        ((note,),) = rows(self.database, f"SELECT note FROM checkpoints WHERE tree_size = {size}")
        return str(note)


@pytest.fixture(scope="module")
def history(
    new_database: Callable[[], str], hub_identity: HubIdentity, tmp_path_factory: pytest.TempPathFactory
) -> History:
    database = new_database()
    with running_hub(database, hub_identity) as hub:
        box = ForumInABox(hub)
        box.found()
        lab = box.admit("Aurora", "witness")
        for title in ("One", "Two"):
            box.publish(lab, pattern_body(title))
        assert box.witness(lab).status_code == 200
    backup = tmp_path_factory.mktemp("backup") / "early.backup"
    back_up(database, backup)
    early = copied(database)
    made = [box.record(lab, pattern_body(f"Pattern {number}")) for number in range(EARLY, SIZE)]
    for some in (made[:200], made[200:]):
        sequence_at_once(database, hub_identity, some)
    assert number(database, "SELECT tree_size FROM log_head") == SIZE
    return History(box, lab, backup, early, database)


def back_up(database_url: str, path: Path) -> Manifest:
    engine = make_command_engine(database_url)
    try:
        with engine.connect() as connection:
            audit.begin_snapshot(connection)
            return write_backup(connection, path)
    finally:
        engine.dispose()


def take_back(database_url: str, identity: HubIdentity, path: Path) -> Manifest:
    engine = make_command_engine(database_url)
    try:
        with open_backup(path) as opened:
            return restore(engine, LogKeys(identity), opened).manifest
    finally:
        engine.dispose()


def everything(database_url: str) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table but the halt."""
    tables = [row[0] for row in rows(database_url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    return {
        table: sorted(rows(database_url, f"SELECT t::text FROM {table} t")) for table in tables if table != "log_halt"
    }


@pytest.fixture
def bare_database(postgres: str) -> Iterator[str]:
    """A database without any table, for one test."""
    with connect(postgres) as connection:
        connection.execute("CREATE DATABASE bare")
    yield make_url(postgres).set(database="bare").render_as_string(hide_password=False)
    with connect(postgres) as connection:
        connection.execute("DROP DATABASE bare WITH (FORCE)")


# -- backup and restore --------------------------------------------------------------------------------------------


def test_backup_comes_back_into_a_bare_database_as_it_was_and_is_halted(history: History, bare_database: str) -> None:
    manifest = take_back(bare_database, history.identity, history.backup)
    assert (manifest.tree_size, manifest.fingerprint) == (EARLY, history.box.fingerprint)
    assert everything(bare_database) == everything(history.early)
    assert differences(bare_database, content=True) == []
    assert rows(bare_database, "SELECT kind FROM log_halt") == [("restored",)]


def test_backup_of_a_longer_log_comes_back_too(history: History, database: str, tmp_path: Path) -> None:
    back_up(history.database, tmp_path / "late")
    take_back(database, history.identity, tmp_path / "late")
    assert everything(database) == everything(history.database)


def test_backup_is_private_and_never_takes_the_place_of_another_file(history: History, tmp_path: Path) -> None:
    path = tmp_path / "backup"
    back_up(history.early, path)
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    with pytest.raises(BackupError, match="exists already"):
        back_up(history.early, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path], "no draft is left"


def test_backup_holds_no_private_key(history: History, tmp_path: Path) -> None:
    home = tmp_path / "home"
    identity = make_identity(home)
    with zipfile.ZipFile(history.backup) as archive:
        content = b"".join(archive.read(name) for name in archive.namelist())
    for key in (history.identity.log_key, history.identity.timestamp_key, identity.log_key):
        assert key.private_key.private_bytes_raw() not in content
    assert b"PRIVATE KEY" not in content


def test_database_that_is_not_empty_is_left_alone(history: History) -> None:
    occupied = copied(history.early)
    before = everything(occupied)
    with pytest.raises(BackupError, match=r"the database is not empty \(\w+ has rows\)"):
        take_back(occupied, history.identity, history.backup)
    assert everything(occupied) == before


def test_database_that_is_bound_to_a_forum_is_not_empty(history: History, database: str) -> None:
    with connect(database) as connection:
        connection.execute("INSERT INTO hub_binding (fingerprint) VALUES ('\\x00')")
    with pytest.raises(BackupError, match=r"not empty \(hub_binding has rows\)"):
        take_back(database, history.identity, history.backup)


def test_backup_of_another_log_is_refused(history: History, database: str, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="not of the log"):
        take_back(database, make_identity(tmp_path / "same origin"), history.backup)
    with pytest.raises(BackupError, match="not of the log"):
        take_back(database, make_identity(tmp_path / "other", "other.example/log"), history.backup)


def test_backup_of_a_later_schema_is_refused(history: History, database: str, tmp_path: Path) -> None:
    damaged = rewritten(history.backup, tmp_path / "later", manifest={"schema_revision": "9999"})
    with pytest.raises(BackupError, match="run that version or a later one"):
        take_back(database, history.identity, damaged)


def rewritten(source: Path, path: Path, *, manifest: dict[str, object] | None = None, **parts: bytes | None) -> Path:
    """A backup with some parts replaced or left out (None), and some of its manifest."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content: bytes | None = parts.get(name, old.read(name))
            if name == MANIFEST:
                content = json.dumps({**json.loads(old.read(name)), **(manifest or {})}).encode()
            if content is not None:
                new.writestr(name, content)
    return path


def with_new_digest(source: Path, path: Path, table: str, content: bytes) -> Path:
    """A backup whose table has other bytes, which its manifest knows of: an attacker's, not an accident."""
    import hashlib

    with zipfile.ZipFile(source) as old:
        parts = json.loads(old.read(MANIFEST))["parts"]
    for part in parts:
        if part["table"] == table:
            part.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    return rewritten(source, path, manifest={"parts": parts}, **{table: content})


def part_of(source: Path, table: str) -> bytes:
    with zipfile.ZipFile(source) as archive:
        return archive.read(table)


def flipped(content: bytes, needle: bytes) -> bytes:
    place = content.index(needle)
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def with_other_bytes_inside(path: Path) -> bytes:
    """The archive with ten bytes flipped in the middle of its largest part; other bytes may not matter."""
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda part: part.compress_size)
    middle = largest.header_offset + 30 + len(largest.filename) + largest.compress_size // 2
    content = path.read_bytes()
    return content[:middle] + bytes(byte ^ 255 for byte in content[middle : middle + 10]) + content[middle + 10 :]


DAMAGE: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "cut short": (lambda old, new: new.write_bytes(old.read_bytes()[:-100]), "cut short"),
    "cut in half": (lambda old, new: new.write_bytes(old.read_bytes()[: old.stat().st_size // 2]), "cut short"),
    "empty": (lambda _, new: new.write_bytes(b""), "cut short"),
    "not an archive": (lambda _, new: new.write_bytes(b"PGDMP" + bytes(1000)), "or is none"),
    "missing": (lambda _, new: None, "cannot be read"),
    "no manifest": (lambda _, new: zipfile.ZipFile(new, "w").close(), "no manifest"),
    "manifest of another kind": (lambda old, new: rewritten(old, new, manifest={"parts": 1}), "at parts"),
    "another format": (lambda old, new: rewritten(old, new, manifest={"format": "x"}), "has the format 'x'"),
    "another size": (lambda old, new: rewritten(old, new, manifest={"tree_size": 3}), "not that of its manifest"),
    "another root": (lambda old, new: rewritten(old, new, manifest={"root": "x"}), "not that of its manifest"),
    "part missing": (lambda old, new: rewritten(old, new, records=None), "not those of its manifest"),
    "part altered": (
        lambda old, new: rewritten(old, new, tiles=flipped(part_of(old, "tiles"), b"\x00\x00\x00\x80")),
        "damaged",
    ),
    "bytes flipped in the file": (
        lambda old, new: new.write_bytes(with_other_bytes_inside(old)),
        "damaged",
    ),
    "entry altered with its digest": (
        lambda old, new: with_new_digest(old, new, "log_entries", flipped(part_of(old, "log_entries"), b'"payload":"')),
        "contradicts itself.*log_entries 0",
    ),
    "projection altered with its digest": (
        lambda old, new: with_new_digest(old, new, "members", part_of(old, "members").replace(b"Aurora", b"Borora")),
        "contradicts itself.*members",
    ),
    "rows that are none": (
        lambda old, new: with_new_digest(old, new, "tiles", b"nothing that COPY reads"),
        "refuses the rows of tiles",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_backup_is_refused_in_a_line_and_leaves_the_database_empty(
    history: History, database: str, tmp_path: Path, kind: str
) -> None:
    damage, complaint = DAMAGE[kind]
    path = tmp_path / "damaged"
    damage(history.backup, path)
    with pytest.raises(BackupError, match=complaint) as caught:
        take_back(database, history.identity, path)
    assert "\n" not in caught.value.detail
    tables = rows(database, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert ("log_entries",) not in tables or number(database, "SELECT count(*) FROM log_entries") == 0
    if "with_its_digest" in kind.replace(" ", "_"):
        take_back(database, history.identity, history.backup)


# -- recovering ----------------------------------------------------------------------------------------------------


def export_of(history: History, start: int = 0, end: int = SIZE, entries: list[bytes] | None = None) -> bytes:
    entries = history.entries()[start:end] if entries is None else entries
    return ExportHeader(start, history.note(end)).encode() + b"".join(map(encode_entry, entries))


def bring_back(database_url: str, identity: HubIdentity, export: bytes) -> Recovered:
    async def run() -> Recovered:
        engine = make_engine(database_url, size=1)
        try:
            return await recover(engine, LogKeys(identity), io.BytesIO(export))
        finally:
            await engine.dispose()

    return asyncio.run(run())


LOG = ("log_entries", "tiles", "records", "record_heads", "forum", "members", "member_keys", "log_head")


def log_of(database_url: str) -> dict[str, list[tuple[object, ...]]]:
    """The log and what it says; when an entry came is not part of it."""
    found = {}
    for table in LOG:
        columns = "index, leaf_hash, payload_sha256, type, envelope" if table == "log_entries" else "t::text"
        found[table] = sorted(rows(database_url, f"SELECT {columns} FROM {table} t"))
    return found


@pytest.mark.parametrize("start", [0, 1, EARLY])
def test_lost_entries_come_back_and_the_old_checkpoint_with_them(history: History, start: int) -> None:
    database = copied(history.early)
    assert bring_back(database, history.identity, export_of(history, start)) == Recovered(EARLY, SIZE)
    assert log_of(database) == log_of(history.database)
    quotas = "SELECT member, max(bytes) FROM member_usage GROUP BY member"
    assert rows(database, quotas) == rows(history.database, quotas)
    assert rows(database, f"SELECT note FROM checkpoints WHERE tree_size = {SIZE}") == [(history.note(),)]
    assert differences(database) == []
    assert rows(database, "SELECT kind FROM log_halt") == [("restored",)]


def test_whole_log_comes_back_from_an_export_alone(history: History, database: str) -> None:
    assert bring_back(database, history.identity, export_of(history)) == Recovered(0, SIZE)
    assert log_of(database) == log_of(history.database)
    assert differences(database) == []


def replaced(history: History, index: int, entry: bytes) -> bytes:
    entries = history.entries()
    entries[index] = entry
    return export_of(history, entries=entries)


EXPORTS: dict[str, tuple[Callable[[History], bytes], str]] = {
    "cut short": (lambda h: export_of(h)[:-1], "ends too early"),
    "cut in its head": (lambda h: export_of(h)[:50], "not a whole export|not a signed note"),
    "an entry too few": (lambda h: export_of(h, entries=h.entries()[:-1]), "ends too early"),
    "an entry too many": (lambda h: export_of(h) + encode_entry(h.entries()[-1]), "bytes follow"),
    "another file": (lambda _: b"PK\x03\x04" + bytes(100), "does not begin as one"),
    "empty": (lambda _: b"", "does not begin as one"),
    "no number": (lambda h: export_of(h).replace(b"1\n0\n", b"1\n+0\n", 1), "plain decimal"),
    "forged entry": (
        lambda h: replaced(h, SIZE - 1, h.box.record(h.lab, pattern_body("Never logged")).encode()),
        "not those that this log's key signed",
    ),
    "forged entry before the loss": (
        lambda h: replaced(h, 2, h.box.record(h.lab, pattern_body("Never logged")).encode()),
        "not those that this log's key signed",
    ),
    "entries in another order": (
        lambda h: export_of(h, entries=[*h.entries()[:-2], h.entries()[-1], h.entries()[-2]]),
        "not those that this log's key signed",
    ),
    "unsigned checkpoint": (
        lambda h: export_of(h).replace(h.note().split("\n\n")[1].encode()[-20:-4], b"A" * 16, 1),
        "does not hold",
    ),
    "nothing new": (lambda h: export_of(h, end=EARLY), "has nothing new"),
    "begins beyond the log": (lambda h: export_of(h, start=EARLY + 1), "begins at entry 5, and the log ends at 4"),
}


@pytest.mark.parametrize("kind", EXPORTS)
def test_export_that_is_not_the_lost_log_changes_nothing(history: History, kind: str) -> None:
    make, complaint = EXPORTS[kind]
    before = everything(history.early)
    with pytest.raises(RecoveryError, match=complaint) as caught:
        bring_back(history.early, history.identity, make(history))
    assert "\n" not in caught.value.detail
    assert everything(history.early) == before


def test_export_of_another_log_is_refused(history: History, database: str, tmp_path: Path) -> None:
    for identity in (make_identity(tmp_path / "a"), make_identity(tmp_path / "b", "other.example/log")):
        with pytest.raises(RecoveryError, match="log key did not sign"):
            bring_back(database, identity, export_of(history))


def test_log_that_went_another_way_is_not_led_to_the_export(history: History) -> None:
    database = copied(history.early)
    made = [history.box.record(history.lab, pattern_body("Another history"))]
    sequence_at_once(database, history.identity, made)
    with pytest.raises(RecoveryError, match="different histories"):
        bring_back(database, history.identity, export_of(history))


def test_log_that_was_altered_is_not_built_on(history: History) -> None:
    database = copied(history.early)
    with sql(database) as connection:
        connection.execute("UPDATE tiles SET hashes = set_byte(hashes, 40, get_byte(hashes, 40) # 1)")
    with pytest.raises(HubError):
        bring_back(database, history.identity, export_of(history))
    with sql(database) as connection:
        connection.execute("DELETE FROM tiles")
    with pytest.raises(HubError, match="tile is missing"):
        bring_back(database, history.identity, export_of(history))
