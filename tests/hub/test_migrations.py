"""The hub's database through all its schemas and back, with a real forum's log in it, and several processes at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url

from hub.database import migrating
from hub.database.connections import make_command_engine
from hub.database.tables import metadata
from hub.errors import DatabaseUnusable
from hub.identity import HubIdentity
from sharing_protocol import wire
from tests.forum import ForumInABox, RunningHub, pattern_body, running_hub, sighting_body, signed
from tests.hub.hub_process import served_at_once
from tests.hub.lone_sequencer import sequence_at_once
from tests.hub.stored_log import connect, copied, differences, number, rows
from tests.hub.troubled_forum import make_troubled_forum

SCHEMA = {
    "columns": """SELECT attrelid::regclass::text, attname, format_type(atttypid, atttypmod), attnotnull,
            attgenerated::text, pg_get_expr(adbin, adrelid), col_description(attrelid, attnum)
        FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0 AND NOT attisdropped""",
    "constraints": """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace""",
    "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
}
TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
FUNCTIONS = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace"


@pytest.fixture(scope="module")
def used(new_database: Callable[[], str], hub_identity: HubIdentity) -> str:
    """The database of a hub that was used: every kind of entry, more of them than one tile holds, and a proposal."""
    database_url = new_database()
    with running_hub(database_url, hub_identity) as hub:
        forum = make_troubled_forum(hub)
        box = forum.box
        record, _ = box.publish(forum.aurora, pattern_body("Seen often"))
        pattern = box.reference(record)
        body = {"reason": "Proposed, not decided"}
        proposal = signed(box.statement("membership.suspend", forum.boreal.id, box.id, body), box.admins[0])
        proposed = box.post(wire.PROPOSALS, proposal.encode(), box.admins[0])
        assert proposed.status_code == 202, proposed.text
        sightings = [box.record(forum.aurora, sighting_body(pattern)) for _ in range(256)]
    answers = sequence_at_once(database_url, hub_identity, sightings)
    assert all(isinstance(answer, wire.Receipt) for answer in answers), answers
    assert number(database_url, "SELECT count(*) FROM tiles WHERE level = 1") == 1
    return database_url


@pytest.fixture
def engine(used: str) -> Iterator[Engine]:
    """An engine for a copy of that database."""
    made = make_command_engine(copied(used))
    yield made
    made.dispose()


def url_of(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


def contents(database_url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, in some order that stays the same."""
    return {
        name: rows(database_url, f"SELECT row::text FROM {name} AS row ORDER BY 1")
        for (name,) in rows(database_url, TABLES)
    }


def revisions() -> list[str]:
    """Oldest first."""
    scripts = ScriptDirectory(str(files("migrations")))
    return [script.revision for script in scripts.walk_revisions()][::-1]


def emptied(database_url: str, name: str) -> str:
    """A new database without anything in it."""
    with connect(database_url) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return make_url(database_url).set(database=name).render_as_string(hide_password=False)


def schema(database_url: str) -> dict[str, set[tuple[Any, ...]]]:
    return {
        what: {row for row in rows(database_url, query) if row[0] != "alembic_version"}
        for what, query in SCHEMA.items()
    }


def test_a_used_database_goes_down_and_up_again_and_says_the_same(engine: Engine) -> None:
    database_url = url_of(engine)
    assert differences(database_url) == []
    before = contents(database_url)
    assert before["proposals"]
    for revision in revisions()[-2::-1]:
        migrating.downgrade(engine, revision)
        with engine.connect() as connection:
            assert MigrationContext.configure(connection).get_current_revision() == revision
    assert contents(database_url)["log_entries"] == before["log_entries"]
    for revision in revisions():
        migrating.upgrade(engine, revision)
    assert differences(database_url) == []
    after = contents(database_url)
    assert after == before


def test_a_log_is_not_deleted_by_a_downgrade(engine: Engine) -> None:
    before = contents(url_of(engine))
    with pytest.raises(DatabaseUnusable, match=r"holds a log of 2\d\d entries"):
        migrating.downgrade(engine, "base")
    assert contents(url_of(engine)) == before
    assert differences(url_of(engine)) == []


def test_a_halt_is_not_lost_by_a_downgrade(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO log_halt (kind, reason) VALUES ('rolled back', 'it was')"))
    with pytest.raises(DatabaseUnusable, match="halted"):
        migrating.downgrade(engine, "0001")
    assert number(url_of(engine), "SELECT count(*) FROM log_halt") == 1


def test_an_empty_database_goes_down_to_nothing_and_up_again(database: str) -> None:
    before = schema(database)
    engine = make_command_engine(database)
    migrating.downgrade(engine, "base")
    assert rows(database, TABLES) == [("alembic_version",)]
    assert number(database, FUNCTIONS) == 0
    migrating.upgrade(engine)
    engine.dispose()
    assert schema(database) == before


def test_the_tables_in_the_code_are_those_of_the_migrations(database: str) -> None:
    declared = emptied(database, f"{make_url(database).database}_declared")
    for database_url in (database, declared):
        engine = make_command_engine(database_url)
        with engine.begin() as connection:
            if database_url == declared:
                metadata.create_all(connection)
            options = {"compare_type": True, "compare_server_default": True}
            assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
        engine.dispose()
    # Alembic looks at neither checks, conditions of an index, nor expressions.
    assert schema(database) == schema(declared)


def test_processes_that_start_at_once_on_an_empty_database_all_come_up(database: str, tmp_path: Path) -> None:
    empty = emptied(database, f"{make_url(database).database}_empty")
    with served_at_once(tmp_path / "home", empty, count=4) as urls:
        # One home, so one identity too: each accepts what it is sent, and its receipts are signed by the same keys.
        identity = HubIdentity.load(tmp_path / "home")
        box = ForumInABox(RunningHub(urls[0], empty, identity))
        box.found()
        for number, url in enumerate(urls):
            box.hub = RunningHub(url, empty, identity)
            box.admit(f"Lab {number}")
    assert differences(empty) == []
