"""Looking at a hub's stored log from outside the hub, and holding it still."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
from sqlalchemy.engine import make_url

from hub.check import Check
from hub.database import audit, log_store
from hub.database.connections import make_command_engine, plain_url
from hub.differences import Difference

WHO_WAIT_FOR_LOG = """FROM pg_locks JOIN pg_database d ON d.oid = database
    WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()"""
"""The locks asked for by processes that want to extend the log while another does."""

_copies = itertools.count()


def connect(database_url: str) -> psycopg.Connection[tuple[Any, ...]]:
    """A connection of our own."""
    return psycopg.connect(plain_url(database_url), autocommit=True)


def rows(database_url: str, query: str) -> list[tuple[Any, ...]]:
    """What a statement finds, if it finds anything."""
    with connect(database_url) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


def number(database_url: str, query: str) -> int:
    """The one number that a query finds."""
    ((value,),) = rows(database_url, query)
    return int(value)


def differences(database_url: str, *, content: bool = False) -> list[Difference]:
    """What `stillwatch-hub check` finds."""
    engine = make_command_engine(database_url)
    try:
        with engine.connect() as connection:
            audit.begin_snapshot(connection)
            return list(Check(connection, content=content).run())
    finally:
        engine.dispose()


def copied(database_url: str) -> str:
    """A copy of a database that nobody uses at the moment: to do to it what the original is spared."""
    source = make_url(database_url)
    name = f"{source.database}_copy_{next(_copies)}"
    with connect(source.set(database="stillwatch").render_as_string(hide_password=False)) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {source.database}".encode())
    return source.set(database=name).render_as_string(hide_password=False)


def waiting_for_log(database_url: str) -> int:
    """How many processes want to extend the log while another does."""
    return number(database_url, f"SELECT count(*) {WHO_WAIT_FOR_LOG}")


@contextlib.contextmanager
def held(database_url: str) -> Iterator[None]:
    """Keep every sequencer from extending the log, as another one that is busy would. Not for as long as 15 s."""
    with connect(database_url) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [log_store._LOG_LOCK])
        yield


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Wait, but not for ever."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)
