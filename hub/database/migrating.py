"""Bringing a database to the schema that this version speaks, one process at a time."""

from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from hub.database.connections import check_server
from hub.errors import DatabaseUnreachable, DatabaseUnusable

# Any constant will do; advisory locks are counted for each database apart.
_MIGRATION_LOCK = 0x5354494C4C01


def upgrade(engine: Engine, revision: str = "head") -> list[str]:
    """Run the missing migrations; processes that start together wait for the first.

    Returns:
        Warnings about the server (`connections.check_server`).

    Raises:
        DatabaseUnusable: unreachable, too old, migrated by a later version of the hub, or not ours to change.
    """
    try:
        with engine.connect() as connection:
            warnings = check_server(connection)
            _locked(connection)
            _refuse_later_schema(connection)
            command.upgrade(_configuration(connection), revision)
            connection.commit()
    except (OperationalError, InterfaceError) as error:
        raise unreachable(error) from error
    except DBAPIError as error:
        raise DatabaseUnusable(f"the database refuses the hub's tables: {in_its_words(error)}") from error
    return warnings


def require_current(engine: Engine) -> None:
    """Refuse a database whose schema is not this version's, without changing it.

    Raises:
        DatabaseUnusable: empty, older or later; or unreachable.
    """
    try:
        with engine.connect() as connection:
            head = ScriptDirectory.from_config(_configuration(connection)).get_current_head()
            current = MigrationContext.configure(connection).get_current_revision()
    except OperationalError as error:
        raise unreachable(error) from error
    if current != head:
        raise DatabaseUnusable(f"this database has schema {current or 'none'}, not {head}: start the hub on it first")


def newest_revision() -> str:
    """The schema of this version."""
    revision = ScriptDirectory.from_config(_configuration()).get_current_head()
    if revision is None:
        raise DatabaseUnusable("this installation of Stillwatch has no migrations")
    return revision


async def read_revision(connection: AsyncConnection) -> str | None:
    """The schema that a database has, None for none."""
    return await connection.run_sync(current_revision)


def current_revision(connection: Connection) -> str | None:
    """The revision of the database's schema, None if it has none."""
    return MigrationContext.configure(connection).get_current_revision()


def is_known(revision: str) -> bool:
    """Whether this version of the hub has the migrations up to `revision`."""
    return revision in {script.revision for script in ScriptDirectory.from_config(_configuration()).walk_revisions()}


def begin(connection: Connection) -> None:
    """Make ready to `move` the schema within a transaction of the caller's own; nobody else does so until it ends.

    Raises:
        DatabaseUnusable: too old, or migrated by a later version of the hub.
    """
    check_server(connection)
    _locked(connection)
    _refuse_later_schema(connection)


def move(connection: Connection, revision: str) -> None:
    """Bring the schema to a revision: down to "base", up to any other; the caller has called `begin`, and commits.

    Raises:
        DatabaseUnusable: going down would delete what cannot be derived again.
    """
    (command.downgrade if revision == "base" else command.upgrade)(_configuration(connection), revision)


def downgrade(engine: Engine, revision: str) -> None:
    """Undo migrations down to `revision` ("base": all of them), before an older version of the hub is started.

    Raises:
        DatabaseUnusable: a migration would delete what cannot be derived again; nothing was changed.
    """
    with engine.connect() as connection:
        _locked(connection)
        command.downgrade(_configuration(connection), revision)
        connection.commit()


def unreachable(error: DBAPIError) -> DatabaseUnreachable:
    """The error for a server that does not answer, or does not let us in."""
    return DatabaseUnreachable(f"the database does not answer: {in_its_words(error)}")


def in_its_words(error: DBAPIError) -> str:
    """What the server or its driver said, in one line; never our statement."""
    return " ".join(str(error.orig).split())


def _locked(connection: Connection) -> None:
    # For the transaction, in which all migrations run: either all of them happen or none.
    # A table that somebody uses is waited for briefly; then we fail and leave everything as it was.
    connection.execute(text("SET LOCAL statement_timeout = '10min'"))
    connection.execute(text("SET LOCAL lock_timeout = '60s'"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
    connection.execute(text("SET LOCAL lock_timeout = '5s'"))


def _configuration(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("migrations")).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _refuse_later_schema(connection: Connection) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(_configuration(connection)).walk_revisions()}
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in known:
        raise DatabaseUnusable(
            f"this database has schema {current}, which a later version of Stillwatch made; run that version"
        )
