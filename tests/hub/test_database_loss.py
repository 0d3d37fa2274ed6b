"""A hub whose Postgres goes away: it says so, in the words for "try again", and is itself again when it is back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from hub import app
from hub.database import connections
from hub.database.connections import make_command_engine, make_engine, plain_url
from hub.database.embedded import EmbeddedPostgres, destroy
from hub.identity import HubIdentity
from hub.settings import HubSettings
from sharing_protocol import wire
from tests.forum import ForumInABox, code_of, migrate, pattern_body, running_hub

FAST = {"fsync": "off"}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"
    destroy(tmp_path / "home")


def told_to_come_again(response: httpx.Response) -> bool:
    """Whether a response is the one problem document for a database that does not answer."""
    if response.status_code != 503:
        return False
    assert code_of(response) == "database_unavailable"
    assert int(response.headers["retry-after"]) > 0
    assert response.headers["cache-control"] == "no-store"
    return True


def when_back(ask: Callable[[], httpx.Response]) -> httpx.Response:
    """The first answer that is no "try again"; connections that died unnoticed cost a request each, at most."""
    deadline = time.monotonic() + 60
    while told_to_come_again(response := ask()):
        assert time.monotonic() < deadline, "the hub does not recover"
        time.sleep(0.05)
    return response


def waits_for_a_lock(url: str) -> bool:
    with psycopg.connect(plain_url(url), autocommit=True) as own:
        ((count,),) = own.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).fetchall()
    return bool(count)


def expired_nonces(url: str, *, add: bool = False) -> int:
    with psycopg.connect(plain_url(url)) as own:
        if add:
            own.execute("INSERT INTO request_nonces VALUES ('some key', 'some nonce', now() - interval '1 day')")
        ((count,),) = own.execute("SELECT count(*) FROM request_nonces WHERE expires < now()").fetchall()
    return int(count)


def test_hub_without_its_database_says_try_again_and_recovers(home: Path, hub_identity: HubIdentity) -> None:
    postgres = EmbeddedPostgres.start(home, settings=FAST)
    try:
        migrate(postgres.url)
        with running_hub(postgres.url, hub_identity) as hub:
            box = ForumInABox(hub)
            box.found()
            lab = box.admit("Aurora")
            pattern, _ = box.publish(lab, pattern_body("Before"))
            before = box.checkpoint()
            lost = box.record(lab, pattern_body("During"))
            postgres.stop()
            paths = (
                *(wire.CHECKPOINT, "/tile/0/000.p/1", "/tile/entries/000.p/1", wire.MEMBERS, wire.PROPOSALS),
                *(wire.RECORDS, f"{wire.RECORDS}/{pattern}", f"{wire.RECORDS}/{pattern}/diff?from=1&to=1"),
            )
            with box.client("Ada") as client:
                assert all(told_to_come_again(client.get(path)) for path in (*paths, "/openapi.json", "/nowhere"))
                # Who is nobody's key may have been admitted by another process: that cannot be told without it either.
                assert told_to_come_again(box.get(wire.CHECKPOINT, "a stranger"))
                assert httpx.get(hub.url + wire.HEALTH).status_code == 200, "the process is well"
                assert code_of(httpx.get(hub.url + wire.CHECKPOINT)) == "unsigned_request"
                assert told_to_come_again(box.submit(lost, lab.analyst))
                assert told_to_come_again(box.post(wire.PROPOSALS, box.founding().encode(), "Ada"))

                postgres = EmbeddedPostgres.start(home, settings=FAST)
                assert all(when_back(partial(client.get, path)).status_code == 200 for path in paths)
            assert box.checkpoint() == before, "a submission that was answered 503 was not decided upon"
            assert not box.log(lost, lab.analyst).already_logged
            assert box.size() == 4

            # This time nobody asks while it is away, so the hub's connections are dead and it does not know.
            postgres.stop()
            postgres = EmbeddedPostgres.start(home, settings=FAST)
            after = box.record(lab, pattern_body("After"))
            assert when_back(lambda: box.submit(after, lab.analyst)).status_code in (200, 201)
            assert box.size() == 5
    finally:
        postgres.stop()


def test_request_that_gets_no_connection_is_told_to_come_again_and_nonces_are_still_swept(
    database: str, hub_identity: HubIdentity, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(app, "_NONCE_SWEEP_SECONDS", 0.1)
    monkeypatch.setattr(connections, "POOL_WAIT_SECONDS", 0.3)
    one = HubSettings(database_connections=1)
    with running_hub(database, hub_identity, settings=one) as hub:
        box = ForumInABox(hub)
        box.found()
        deadline = time.monotonic() + 60
        with ThreadPoolExecutor(1) as threads:
            # A request needs this table and the sweeper does not: so it is a request that holds the only connection.
            with psycopg.connect(plain_url(database)) as holder:
                holder.execute("LOCK TABLE log_head")
                first = threads.submit(box.get, wire.CHECKPOINT)
                while not waits_for_a_lock(database):
                    assert time.monotonic() < deadline, "no request holds the connection"
                    if first.done():  # the sweeper had the connection just then
                        first = threads.submit(box.get, wire.CHECKPOINT)
                    time.sleep(0.02)
                assert told_to_come_again(box.get(wire.CHECKPOINT))
                while "expired nonces stay" not in caplog.text:
                    assert time.monotonic() < deadline, "the sweeper never had to go without, or died of it"
                    time.sleep(0.02)
            assert first.result().status_code == 200
        assert when_back(lambda: box.get(wire.CHECKPOINT)).status_code == 200
        assert expired_nonces(database, add=True) == 1
        while expired_nonces(database):
            assert time.monotonic() < deadline, "nobody sweeps"
            time.sleep(0.05)


def test_database_errors_tell_no_values(database: str) -> None:
    failing, values = text("SELECT 1 / 0, CAST(:searched AS text)"), {"searched": "words of a member"}

    async def fail() -> None:
        engine = make_engine(database, size=1)
        try:
            async with engine.connect() as connection:
                await connection.execute(failing, values)
        finally:
            await engine.dispose()

    with pytest.raises(DBAPIError) as caught:
        asyncio.run(fail())
    assert values["searched"] not in str(caught.value)
    engine = make_command_engine(database)
    with engine.connect() as connection, pytest.raises(DBAPIError) as caught:
        connection.execute(failing, values)
    engine.dispose()
    assert values["searched"] not in str(caught.value)
