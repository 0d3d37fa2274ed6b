"""How the hub reaches its Postgres: URLs, engines, and what it asks of the server."""

from typing import Any

import psycopg
from psycopg.types.array import ListBinaryDumper
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.event import listen
from sqlalchemy.exc import ArgumentError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from hub.errors import DatabaseUnusable

OLDEST_SERVER = 150_000  # PostgreSQL 15
LOG_GREW = "stillwatch_log_grew"
LISTENER_NAME = "stillwatch-hub listener"

# Nothing answers, or it answers "not now" (a standby after a failover says `InternalError`): what was asked may well
# succeed later. Any other error of the database is a flaw of ours. Whoever talks to the driver itself hears it from
# there.
NO_ANSWER = (
    *(OperationalError, InterfaceError, InternalError, PoolTimeout),
    *(psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError),
)
POOL_WAIT_SECONDS = 10

# A process that hangs in a transaction must not hold up the others for ever: the server ends its session, and with
# it the lock on the log.
_SESSION = "-c statement_timeout=30s -c lock_timeout=15s -c idle_in_transaction_session_timeout=30s -c timezone=UTC"


def parse_url(url: str) -> URL:
    """Read any spelling of a Postgres URL, for psycopg 3.

    Raises:
        DatabaseUnusable: not a Postgres URL. The message does not repeat it, since it may hold a password.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    if parsed is None or parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise DatabaseUnusable(
            "the database URL is not a Postgres URL; it reads postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        )
    return parsed.set(drivername="postgresql+psycopg")


def make_engine(url: str, *, size: int) -> AsyncEngine:
    """An engine for the server's event loop, with at most `size` connections."""
    engine = create_async_engine(
        parse_url(url),
        pool_size=size,
        max_overflow=0,
        pool_timeout=POOL_WAIT_SECONDS,
        pool_recycle=3600,
        hide_parameters=True,  # errors are logged, and what members send has no place in a log
        connect_args=_connect_arguments(),
    )
    listen(engine.sync_engine, "connect", _send_lists_as_they_are)
    return engine


def _send_lists_as_they_are(connection: DBAPIConnection, _: object) -> None:
    # Written as text, a list of entries is twice as long, and each is searched for what to escape.
    connection.driver_connection.adapters.register_dumper(list, ListBinaryDumper)


def make_command_engine(url: str, *, statement_timeout: str = "30s") -> Engine:
    """An engine for a command: synchronous, one connection."""
    arguments = _connect_arguments()
    arguments["options"] += f" -c statement_timeout={statement_timeout}"
    return create_engine(parse_url(url), pool_size=1, max_overflow=1, hide_parameters=True, connect_args=arguments)


def plain_url(url: str) -> str:
    """The URL as libpq takes it."""
    return parse_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


async def listen_for_growth(url: str) -> psycopg.AsyncConnection[Any]:
    """A connection that hears `LOG_GREW`, whose payload is the log's new size.

    Args:
        url: as `plain_url` writes it.
    """
    arguments = {**_connect_arguments(), "application_name": LISTENER_NAME}
    connection = await psycopg.AsyncConnection.connect(
        url, autocommit=True, keepalives_idle=30, keepalives_interval=10, keepalives_count=3, **arguments
    )
    try:
        await connection.execute(f"LISTEN {LOG_GREW}".encode())
    except BaseException:
        await connection.close()
        raise
    return connection


def check_server(connection: Connection) -> list[str]:
    """Refuse a server that is too old; return warnings about settings that make a commit less than durable.

    Raises:
        DatabaseUnusable: older than PostgreSQL 15.
    """
    version, fsync, commit = connection.execute(
        text(
            "SELECT current_setting('server_version_num')::int, current_setting('fsync'), "
            "current_setting('synchronous_commit')"
        )
    ).one()
    if version < OLDEST_SERVER:
        raise DatabaseUnusable(f"the hub needs PostgreSQL 15 or later; this server is {version // 10_000}")
    warnings = []
    if fsync == "off":
        warnings.append("fsync is off: after a power failure the log may be shorter than what was acknowledged")
    if commit == "off":
        warnings.append("synchronous_commit is off; the hub turns it on for what it acknowledges")
    return warnings


def _connect_arguments() -> dict[str, Any]:
    return {"options": _SESSION, "connect_timeout": 10, "application_name": "stillwatch-hub"}
