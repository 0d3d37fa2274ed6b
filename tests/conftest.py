"""Fixtures for every test that needs a database or a hub: one Postgres a session, one database a module."""

from __future__ import annotations

import atexit
import contextlib
import gc
import itertools
from collections.abc import Callable, Iterator

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy.engine import make_url

from hub.database.connections import plain_url
from hub.database.embedded import EmbeddedPostgres, destroy
from hub.database.embedded_place import EmbeddedPostgresError
from hub.identity import HubIdentity
from tests.forum import ForumInABox, RunningHub, make_identity, migrate, running_hub

# How fast examples are made says nothing of our code: the first text of a fresh checkout takes seconds.
settings.register_profile("any machine", suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

QUICK = {
    "fsync": "off",
    "max_connections": "200",
    "scram_iterations": "1",  # of a password of 32 random bytes; each connection takes 4,096 of them otherwise
    "autovacuum": "off",  # hundreds of databases, each of which lives for a second
}
_TEMPLATE = "template_migrated"
_numbers = itertools.count()

# Importing the tests makes hundreds of thousands of objects, and none of them is garbage: not then, and not later.
gc.disable()
atexit.register(gc.freeze)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Look for garbage from now on, and only in what the tests make."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def no_database_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Delete every database that a test's hub made: as root they lie outside of the tests' folder and would stay."""
    yield
    for note in tmp_path_factory.getbasetemp().rglob("postgres.location"):
        with contextlib.suppress(EmbeddedPostgresError):
            destroy(note.parent)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server for this session, with one migrated database that is never used, only copied.

    Nothing here survives a power failure, nor has to: the tests that are about durability start servers of their own.
    """
    home = tmp_path_factory.mktemp("postgres")
    with EmbeddedPostgres.start(home, settings=QUICK) as server:
        with _maintenance(server.url) as connection:
            connection.execute(f"CREATE DATABASE {_TEMPLATE}".encode())
        migrate(_database_url(server.url, _TEMPLATE))
        yield server.url


@pytest.fixture(scope="session")
def new_database(postgres: str) -> Iterator[Callable[[], str]]:
    """Makes migrated databases; gives their URLs."""
    with _maintenance(postgres) as connection:

        def make() -> str:
            name = f"hub_{next(_numbers)}"
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE} STRATEGY FILE_COPY".encode())
            return _database_url(postgres, name)

        yield make


@pytest.fixture
def database(new_database: Callable[[], str]) -> str:
    """A migrated, empty database for one test."""
    return new_database()


@pytest.fixture(scope="session")
def hub_identity(tmp_path_factory: pytest.TempPathFactory) -> HubIdentity:
    """The hub's keys."""
    return make_identity(tmp_path_factory.mktemp("identity"))


@pytest.fixture
def hub(database: str, hub_identity: HubIdentity) -> Iterator[RunningHub]:
    """A hub with an empty log, for one test."""
    with running_hub(database, hub_identity) as running:
        yield running


@pytest.fixture
def box(hub: RunningHub) -> ForumInABox:
    """A founded forum without labs, for one test."""
    made = ForumInABox(hub)
    made.found()
    return made


def _maintenance(url: str) -> psycopg.Connection[tuple[object, ...]]:
    plain = plain_url(url)
    return psycopg.connect(plain, autocommit=True)


def _database_url(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)
