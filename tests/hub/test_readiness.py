"""What probes are told: whether the process lives, and whether it can do all of its work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hub import readiness
from hub.database.embedded import EmbeddedPostgres, destroy
from hub.identity import HubIdentity
from hub.settings import HubSettings
from sharing_protocol import wire
from tests.forum import ForumInABox, RunningHub, code_of, migrate, running_hub
from tests.hub.scrape import sample, scrape
from tests.hub.stored_log import rows, wait_until

WATCHED = HubSettings(metrics_port=0)


@pytest.fixture(autouse=True)
def looking_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "_LOOK_SECONDS", 0.0)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"
    destroy(tmp_path / "home")


def ready(hub: RunningHub) -> bool:
    response = httpx.get(hub.url + wire.READY, timeout=30)
    assert response.headers["cache-control"] == "no-store"
    if response.status_code == 200:
        assert wire.Health.model_validate_json(response.content).status == "ready"
        return True
    assert (response.status_code, code_of(response)) == (503, "not_ready")
    assert int(response.headers["retry-after"]) > 0
    return False


def unready(hub: RunningHub, *reasons: str) -> None:
    """It is not ready, for just these reasons, and says so in words and in numbers; and yet it lives."""
    wait_until(lambda: not ready(hub), "it still says that it is ready")
    told = httpx.get(hub.url + wire.READY, timeout=30).json()["detail"]
    assert told == "; ".join(readiness.REASONS[reason] for reason in reasons)
    samples = scrape(hub)
    assert sample(samples, "ready") == 0
    assert {r: sample(samples, "unready", reason=r) for r in readiness.REASONS} == {
        r: float(r in reasons) for r in readiness.REASONS
    }
    assert httpx.get(hub.url + wire.HEALTH).status_code == 200


def test_without_its_database(home: Path, hub_identity: HubIdentity) -> None:
    postgres = EmbeddedPostgres.start(home, settings={"fsync": "off"})
    try:
        migrate(postgres.url)
        with running_hub(postgres.url, hub_identity, settings=WATCHED) as hub:
            wait_until(lambda: ready(hub), "it does not get ready")
            box = ForumInABox(hub)
            box.found()
            assert sample(scrape(hub), "checkpoint_size") == 1
            postgres.stop()
            wait_until(lambda: "not heard" in httpx.get(hub.url + wire.READY).text, "the listener is not missed")
            unready(hub, "database", "listener")
            samples = scrape(hub)
            assert sample(samples, "checkpoint_size") == 1, "what was known before is still shown"
            assert (sample(samples, "checkpoint_age_seconds") or 0) > 0
            postgres = EmbeddedPostgres.start(home, settings={"fsync": "off"})
            wait_until(lambda: ready(hub), "it does not get ready again")
            assert sample(scrape(hub), "ready") == 1
    finally:
        postgres.stop()


def test_with_another_schema(database: str, hub_identity: HubIdentity) -> None:
    with running_hub(database, hub_identity, settings=WATCHED) as hub:
        wait_until(lambda: ready(hub), "it does not get ready")
        rows(database, "UPDATE alembic_version SET version_num = '0001'")
        unready(hub, "schema")


def test_with_a_log_that_is_halted(database: str, hub_identity: HubIdentity) -> None:
    with running_hub(database, hub_identity, settings=WATCHED) as hub:
        wait_until(lambda: ready(hub), "it does not get ready")
        rows(database, "INSERT INTO log_halt (kind, reason) VALUES ('restored', 'a secret of the operator')")
        unready(hub, "log")
        assert "secret" not in httpx.get(hub.url + wire.READY).text
        rows(database, "DELETE FROM log_halt")
        wait_until(lambda: ready(hub), "it does not get ready again")


def test_a_crowd_that_asks_costs_one_look(
    database: str, hub_identity: HubIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_hub(database, hub_identity, settings=WATCHED) as hub:
        wait_until(lambda: ready(hub), "it does not get ready")
        monkeypatch.setattr(readiness, "_LOOK_SECONDS", 3600.0)
        assert ready(hub)
        rows(database, "UPDATE alembic_version SET version_num = '0001'")
        assert ready(hub), "it was looked at just now"
