"""Taking a backup back into an empty database, and checking it as `stillwatch-hub check` does.

    migrate to the backup's schema → load, and mark the log as restored → migrate up → check

All of it is one transaction: if anything is wrong, or we stop on the way, the database is as it was. And no hub ever
sees what was restored without its mark.
"""

from dataclasses import dataclass

import psycopg
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from hub.backup import BackupError, Manifest, OpenBackup, Part, copy_statement, stored_columns, user_tables
from hub.check import Check, Progress, silent
from hub.database import audit, halt_store, migrating
from hub.errors import DatabaseUnusable
from hub.log_keys import LogKeys
from sharing_protocol import checkpoints, notes
from sharing_protocol.errors import ProtocolError, Refused

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Restored:
    """What is in the database now."""

    manifest: Manifest
    records: int


def restore(engine: Engine, keys: LogKeys, backup: OpenBackup, progress: Progress = silent) -> Restored:
    """Restore a backup into an empty database.

    Raises:
        BackupError: damaged; of another log; made by a later version; or the database is not empty.
        DatabaseUnusable: unreachable or too old.
    """
    manifest = backup.manifest
    _check_identity(manifest, keys)
    if not migrating.is_known(manifest.schema_revision):
        raise BackupError(
            f"the backup has schema {manifest.schema_revision[:40]!r}, which version {manifest.version[:40]} made: "
            "run that version or a later one"
        )
    try:
        with engine.begin() as connection:
            migrating.begin(connection)
            connection.execute(text("SET LOCAL statement_timeout = 0"))  # for it reads and writes whole tables
            _require_empty(connection)
            migrating.move(connection, "base")
            migrating.move(connection, manifest.schema_revision)
            _load(connection, backup)
            halt_store.halt_restored(connection, f"the database was restored from a backup of {manifest.made_at}")
            migrating.move(connection, "head")
            return Restored(manifest, _check(connection, manifest, progress))
    except OperationalError as error:
        raise migrating.unreachable(error) from error


def _check_identity(manifest: Manifest, keys: LogKeys) -> None:
    if manifest.checkpoint is None:
        return
    try:
        if keys.first.is_further:
            # Its present keys are lost, so they cannot be compared. That the backup is signed by the keys that its own
            # log had, `_check` sees; and that ours may go on from there, the admins say.
            checkpoint = checkpoints.parse_text(notes.parse(manifest.checkpoint.encode()).text)
            if checkpoint.origin != keys.origin:
                raise Refused("foreign_checkpoint", "it is of another log")
        else:
            checkpoint, _ = keys.own_checkpoint(None, manifest.checkpoint.encode())
    except ProtocolError as error:
        raise BackupError(
            f"the backup is not of the log {keys.origin!r} that this home keeps, as far as its keys tell: none of them "
            "signed its checkpoint. If the log's keys were exchanged, bring keys/ of a home that has them, too"
        ) from error
    if (checkpoint.size, checkpoint.root.hex()) != (manifest.tree_size, manifest.root):
        raise BackupError("the backup is damaged: its checkpoint is not that of its manifest")


def _require_empty(connection: Connection) -> None:
    """Nothing but what a first start leaves: tables without rows."""
    for table in user_tables(connection):
        rows = 1 if table == "log_head" and _log_is_empty(connection) else 0
        found = connection.execute(text(f'SELECT count(*) FROM (SELECT 1 FROM "{table}" LIMIT 2) AS found'))  # noqa: S608 - a name from the catalogue
        if found.scalar_one() > rows:
            raise BackupError(f"the database is not empty ({table} has rows): restore into a new one")


def _log_is_empty(connection: Connection) -> bool:
    size: int = connection.execute(text("SELECT coalesce(max(tree_size), 0) FROM log_head")).scalar_one()
    return size == 0


def _load(connection: Connection, backup: OpenBackup) -> None:
    parts = {part.table: part for part in backup.manifest.parts}
    tables = user_tables(connection)
    if sorted(parts) != tables:
        raise BackupError("the backup is damaged: its tables are not those of its schema")
    connection.execute(text("DELETE FROM log_head"))  # the migration has made the row of an empty log
    for table in tables:
        columns = stored_columns(connection, table)
        if parts[table].columns != columns:
            raise BackupError(f"the backup is damaged: the columns of {table} are not those of its schema")
        _copy_in(connection, backup, parts[table])


def _copy_in(connection: Connection, backup: OpenBackup, part: Part) -> None:
    driver = connection.connection.driver_connection
    if driver is None:
        raise TypeError("the connection is closed")
    try:
        with driver.cursor() as cursor, cursor.copy(copy_statement(part.table, part.columns, "in")) as copy:
            for piece in backup.pieces(part):
                copy.write(piece)
    except psycopg.OperationalError as error:
        raise DatabaseUnusable(f"the database does not answer: {str(error).strip()}") from error
    except psycopg.Error as error:
        raise BackupError(
            f"the backup is damaged: the database refuses the rows of {part.table}: {str(error).splitlines()[0]}"
        ) from error


def _check(connection: Connection, manifest: Manifest, progress: Progress) -> int:
    extent = audit.read_extent(connection)
    newest = audit.read_checkpoints(connection, extent.size - 1, extent.size)
    note = newest[0][2] if newest else None
    if (extent.size, note) != (manifest.tree_size, manifest.checkpoint):
        raise BackupError("the backup is damaged: its log is not the one that its manifest says")
    check = Check(connection, progress=progress)
    # What members had shown is compared by `resume`, when the log is as whole as it will get.
    found = [difference for difference in check.run() if difference.table != "checkpoint_reports"]
    if found:
        shown = "; ".join(map(str, found[:_SHOWN]))
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise BackupError(f"the backup contradicts itself, and was not restored: {shown}{more}")
    return check.counts.records
