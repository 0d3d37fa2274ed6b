"""A backup of the hub's database in one file, which any Postgres that the hub supports can take back.

A zip archive: a member `<table>` for each table, with its rows as COPY (FORMAT binary) writes them, and at the end
`manifest.json`, which says of what log and schema it is and has every member's SHA-256. All of it is read in one
snapshot. No superuser is needed and no program of a Postgres version, so it works on a managed server too. The keys
of the log are not in it: they lie in the home, and are kept apart.
"""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO, BinaryIO

from psycopg import sql
from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy import Connection, text

from hub.database import audit, binding_store, migrating
from hub.errors import HubError
from hub.private_files import new_private_file

FORMAT = "stillwatch-hub-backup/1"
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 1024 * 1024
_PIECE = 1024 * 1024


class BackupError(HubError):
    """A backup that cannot be made, or cannot be restored."""

    def __init__(self, detail: str) -> None:
        super().__init__("backup", detail)


class Part(BaseModel):
    """One table in a backup. `columns` are those that are stored, in the order of their bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    table: str
    columns: list[str]
    bytes: int
    sha256: str


class Manifest(BaseModel):
    """What a backup says of itself.

    Attributes:
        made_at: ISO 8601, UTC.
        version: of the program that made it.
        schema_revision: of the database.
        fingerprint: of the forum, None if none was founded.
        tree_size: entries in the log.
        root: hex, None for an empty log.
        checkpoint: the log's newest, signed; None for an empty log.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: str
    made_at: str
    version: str
    schema_revision: str
    fingerprint: str | None
    tree_size: int
    root: str | None
    checkpoint: str | None
    parts: list[Part]


def write_backup(connection: Connection, path: Path) -> Manifest:
    """Write a backup to a new private file.

    Args:
        connection: in a snapshot (`audit.begin_snapshot`).

    Raises:
        BackupError: the file exists, or cannot be written; or the log has no checkpoint.
    """
    try:
        with new_private_file(path) as file:
            return _write(connection, file)
    except FileExistsError as error:
        raise BackupError(f"{path} exists already: name a new file") from error
    except OSError as error:
        raise BackupError(f"the backup cannot be written: {error}") from error


def _write(connection: Connection, file: BinaryIO) -> Manifest:
    parts = []
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for table in user_tables(connection):
            columns = stored_columns(connection, table)
            with archive.open(table, "w", force_zip64=True) as member:
                parts.append(_copy_out(connection, table, columns, member))
        extent = audit.read_extent(connection)
        newest = audit.read_checkpoints(connection, extent.size - 1, extent.size)
        if extent.size and not newest:
            raise BackupError("the newest entries of the log are not signed for: run `stillwatch-hub check`")
        manifest = Manifest(
            format=FORMAT,
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            version=version("stillwatch"),
            schema_revision=migrating.current_revision(connection) or "",
            fingerprint=binding_store.founded_forum(connection),
            tree_size=extent.size,
            root=newest[0][1].hex() if newest else None,
            checkpoint=newest[0][2] if newest else None,
            parts=parts,
        )
        archive.writestr(MANIFEST, json.dumps(manifest.model_dump(), indent=2))
    return manifest


class OpenBackup:
    """A backup to be restored: its manifest, and its parts one by one, every byte of which is checked on the way."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.manifest = _read_manifest(archive)

    def pieces(self, part: Part) -> Iterator[bytes]:
        """The rows of one table.

        Raises:
            BackupError: they are not what the manifest says; known only after the last piece.
        """
        digest, size = hashlib.sha256(), 0
        with _readable(), self._archive.open(part.table) as member:
            while piece := member.read(_PIECE):
                digest.update(piece)
                size += len(piece)
                if size > part.bytes:
                    break
                yield piece
        if (size, digest.hexdigest()) != (part.bytes, part.sha256):
            raise BackupError(f"the backup is damaged: {part.table} is not what its manifest says")


@contextmanager
def open_backup(path: Path) -> Iterator[OpenBackup]:
    """Open a backup.

    Raises:
        BackupError: no such file; none of ours; damaged.
    """
    try:
        with _readable(), zipfile.ZipFile(path) as archive:
            yield OpenBackup(archive)
    except OSError as error:
        raise BackupError(f"the backup cannot be read: {error}") from error


def user_tables(connection: Connection) -> list[str]:
    """The tables of the database that are the hub's own, in alphabetical order; Alembic's is not among them."""
    query = text(
        "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND tablename <> 'alembic_version'"
    )
    return sorted(connection.execute(query).scalars())


def stored_columns(connection: Connection, table: str) -> list[str]:
    """The columns of a table that are not computed from others, in order."""
    query = text(
        "SELECT attname FROM pg_attribute WHERE attrelid = CAST(:table AS regclass) AND attnum > 0 "
        "AND NOT attisdropped AND attgenerated = '' ORDER BY attnum"
    )
    return list(connection.execute(query, {"table": f'"{table}"'}).scalars())


def copy_statement(table: str, columns: list[str], direction: str) -> sql.Composed:
    """`COPY … TO STDOUT` or `COPY … FROM STDIN`."""
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    return sql.SQL("COPY {} ({}) {} (FORMAT binary)").format(
        sql.Identifier(table), names, sql.SQL("TO STDOUT" if direction == "out" else "FROM STDIN")
    )


def _copy_out(connection: Connection, table: str, columns: list[str], member: IO[bytes]) -> Part:
    digest, size = hashlib.sha256(), 0
    driver = connection.connection.driver_connection
    if driver is None:
        raise TypeError("the connection is closed")
    with driver.cursor() as cursor, cursor.copy(copy_statement(table, columns, "out")) as copy:
        for piece in copy:
            data = bytes(piece)
            digest.update(data)
            size += len(data)
            member.write(data)
    return Part(table=table, columns=columns, bytes=size, sha256=digest.hexdigest())


def _read_manifest(archive: zipfile.ZipFile) -> Manifest:
    try:
        with archive.open(MANIFEST) as member:
            data = member.read(MAX_MANIFEST_BYTES + 1)
    except KeyError as error:
        raise BackupError("this is no backup of a hub: it has no manifest") from error
    if len(data) > MAX_MANIFEST_BYTES:
        raise BackupError("this is no backup of a hub: its manifest is too large")
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise BackupError(
            f"the backup's manifest is not one that this version reads (at {where or 'its top'})"
        ) from error
    names = [part.table for part in manifest.parts]
    if manifest.format != FORMAT:
        raise BackupError(f"the backup has the format {manifest.format[:60]!r}, this version reads {FORMAT!r}")
    if sorted([*names, MANIFEST]) != sorted(archive.namelist()):
        raise BackupError("the backup is damaged: its parts are not those of its manifest")
    return manifest


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    # the last is what zipfile says of a way of compressing, or encrypting, that it does not know
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise BackupError(f"the backup is damaged or cut short, or is none: {error}") from error
