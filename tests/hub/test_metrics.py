"""What an operator sees of a hub: numbers for Prometheus, and a line in the log for every request."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from hub.identity import HubIdentity
from hub.logs import JsonLines
from hub.settings import HubSettings
from sharing_protocol import wire
from tests.forum import ForumInABox, RunningHub, code_of, pattern_body, running_hub
from tests.hub.raw_requests import head, send_raw, signing
from tests.hub.scrape import Samples, read, sample, scrape, scrape_after
from tests.hub.stored_log import number, wait_until


@pytest.fixture
def hub(database: str, hub_identity: HubIdentity) -> Iterator[RunningHub]:
    with running_hub(database, hub_identity, settings=HubSettings(metrics_port=0)) as running:
        yield running


def grown(before: Samples, after: Samples, name: str, /, **labels: str) -> float:
    """By how much a sample has grown."""
    return (sample(after, name, **labels) or 0) - (sample(before, name, **labels) or 0)


def test_entries_batches_and_the_checkpoint(box: ForumInABox) -> None:
    lab = box.admit("Aurora")
    before = scrape(box.hub)
    assert sample(before, "checkpoint_size") == 2
    for title in ("One", "Two", "Three"):
        box.publish(lab, pattern_body(title))
    after = scrape_after(box.hub, before, 3)
    assert sample(after, "checkpoint_size") == box.size() == 5
    assert 0 <= (sample(after, "checkpoint_age_seconds") or 0) < 3600
    assert grown(before, after, "entries_appended_total") == 3
    assert grown(before, after, "batch_entries_sum") == 3
    assert grown(before, after, "batch_entries_count") == 3
    assert grown(before, after, "batch_seconds_count") == 3
    assert grown(before, after, "requests_total", method="POST", route="/entries", status="201") == 3
    assert grown(before, after, "request_seconds_count", route="/entries") == 3
    assert sample(after, "member_bytes", member=lab.id) == sample(after, "member_day_bytes", member=lab.id)
    assert sample(after, "member_bytes", member=lab.id) == number(
        box.hub.database_url, "SELECT max(bytes) FROM member_usage"
    )
    assert sample(after, "member_day_bytes_limit") == HubSettings().entry_bytes_per_day
    assert sample(after, "database_connections_limit") == HubSettings().database_connections
    assert (sample(after, "database_bytes") or 0) > 1_000_000
    assert sample(after, "ready") == 1
    assert ("process_resident_memory_bytes", frozenset()) in after


def test_how_far_members_are(box: ForumInABox) -> None:
    aurora, boreal = box.admit("Aurora"), box.admit("Boreal")
    assert sample(scrape(box.hub), "member_lag_entries", member=aurora.id) is None, "it was not seen yet"
    assert box.get("/tile/entries/000.p/2", aurora.sync).status_code == 200
    assert read(box.hub, "member_lag_entries", member=aurora.id) == 1
    assert box.get(wire.CHECKPOINT, aurora.sync, after=3).status_code == 200
    assert read(box.hub, "member_lag_entries", member=aurora.id) == 0
    box.publish(boreal, pattern_body())
    samples = scrape(box.hub)
    assert sample(samples, "member_lag_entries", member=aurora.id) == 1
    assert sample(samples, "member_lag_entries", member=boreal.id) is None
    assert (sample(samples, "member_seen_timestamp_seconds", member=boreal.id) or 0) > 1_000_000_000
    assert sample(samples, "member_info", member=boreal.id, name="Boreal", status="active") == 1
    # An admin is no member; and who asks for the impossible is not believed.
    box.get(wire.CHECKPOINT, "Ada", after=1)
    box.get(wire.CHECKPOINT, aurora.sync, after=10**12)
    members = {dict(labels)["member"] for name, labels in scrape(box.hub) if name == "stillwatch_member_lag_entries"}
    assert members == {aurora.id}
    assert read(box.hub, "member_lag_entries", member=aurora.id) == 0


def test_how_far_witnesses_are(box: ForumInABox) -> None:
    aurora, boreal = box.admit("Aurora", "witness"), box.admit("Boreal", "witness")
    assert box.witness(aurora).status_code == 200
    box.publish(boreal, pattern_body())
    assert box.witness(boreal).status_code == 200
    samples = scrape(box.hub)
    assert sample(samples, "member_cosigned_lag_entries", member=aurora.id) == 1
    assert sample(samples, "member_cosigned_lag_entries", member=boreal.id) == 0
    assert sample(samples, "member_lag_entries", member=aurora.id) == 1
    assert (sample(samples, "member_cosigned_timestamp_seconds", member=aurora.id) or 0) > 1_000_000_000


def test_refusals_and_routes_have_few_names(box: ForumInABox) -> None:
    before = scrape(box.hub)
    for number_ in range(3):
        assert box.get(f"/nothing/{number_}").status_code == 404
        send_raw(box.hub, head(box.hub, {}, f"STRANGE{number_}", f"/nothing/{number_}"))
        box.get(f"/records/pattern--0000000{number_}-0000-4000-8000-000000000000")
        box.get("/tile/entries/000.p/1")
    after = scrape_after(box.hub, before, 12)
    new = {
        (name, tuple(sorted(labels))) for name, labels in set(after) - set(before) if name.endswith("requests_total")
    }
    assert {dict(labels)["route"] for _, labels in new} == {"none", "/records/{record_id}", "/tile/{path:path}"}
    assert {dict(labels)["method"] for _, labels in new} == {"GET", "other"}
    assert grown(before, after, "requests_total", method="other", route="none", status="401") == 3
    assert grown(before, after, "refusals_total", code="unsigned_request") == 3
    assert grown(before, after, "refusals_total", code="not_found") == 6
    assert grown(before, after, "requests_total", method="GET", route="/tile/{path:path}", status="200") == 3


def test_who_waits_is_counted_apart(box: ForumInABox) -> None:
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(box.get, wire.CHECKPOINT, after=box.size(), wait=wire.MAX_WAIT_SECONDS)
        wait_until(lambda: read(box.hub, "followers") == 1, "nobody follows")
        assert read(box.hub, "requests_in_work") == 0
        box.admit("Aurora")
        assert asked.result(30).status_code == 200
    assert read(box.hub, "followers") == 0


def test_metrics_are_not_for_strangers(box: ForumInABox) -> None:
    assert code_of(httpx.get(box.hub.url + "/metrics")) == "unsigned_request"
    assert code_of(box.get("/metrics")) == "not_found"


def test_metrics_are_off_unless_asked_for(database: str, hub_identity: HubIdentity) -> None:
    with running_hub(database, hub_identity) as quiet, pytest.raises(httpx.InvalidURL):
        httpx.get(quiet.metrics_url)


# -- the log -----------------------------------------------------------------------------------------------------


def test_every_answer_has_its_line(box: ForumInABox, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "hub.access")
    hub = box.hub
    private = "/records?q=secret"
    chosen = {"X-Request-Id": "0123456789abcdef"}
    answers = [
        (box.get(wire.MEMBERS), ""),
        (box.get("/records/pattern--00000000-0000-4000-8000-000000000000"), "not_found"),
        (httpx.get(hub.url + wire.MEMBERS, headers=chosen), "unsigned_request"),
        (httpx.get(hub.url + wire.HEALTH), ""),
        (send_raw(hub, head(hub, {**signing(hub, "Ada", target=private), **chosen}, target=private)), ""),
    ]
    last = answers[-1][0].headers["x-request-id"]
    wait_until(lambda: last in {record.__dict__.get("request_id") for record in caplog.records}, "the line is missing")
    lines = {record.__dict__["request_id"]: json.loads(JsonLines().format(record)) for record in caplog.records}
    for answer, problem in answers:
        line = lines[answer.headers["x-request-id"]]
        assert (line["status"], line["problem"]) == (answer.status_code, problem)
        assert (line["message"], line["logger"], line["client"]) == ("request", "hub.access", "127.0.0.1")
    assert chosen["X-Request-Id"] not in lines, "an id is ours to give"
    assert "secret" not in caplog.text
    assert not any("secret" in json.dumps(line) for line in lines.values())


def test_an_unforeseen_error_has_the_same_id(
    box: ForumInABox, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hub.database import log_store

    monkeypatch.delattr(log_store, "read_tile")
    answer = box.get("/tile/0/000.p/1")
    assert (answer.status_code, code_of(answer)) == (500, "internal_error")
    (record,) = (record for record in caplog.records if record.getMessage() == "unforeseen error")
    line = json.loads(JsonLines().format(record))
    assert line["request_id"] == answer.headers["x-request-id"]
    assert "AttributeError" in line["traceback"]
    assert "\n" not in JsonLines().format(record)


def test_whatever_is_written_is_a_line_of_json() -> None:
    """Warnings, libraries, threads, and the end of the process included."""
    script = """
import logging, threading, warnings
from hub.logs import configure
configure()
warnings.warn("a warning", stacklevel=1)
logging.getLogger("uvicorn.error").warning("of a library\\nin two lines")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
raise RuntimeError("the end")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["level"] for line in lines] == ["warning", "warning", "critical", "critical"]
    said = [line["message"] + line.get("traceback", "") for line in lines]
    for text, line in zip(("a warning", "in two lines", "ZeroDivisionError", "the end"), said, strict=True):
        assert text in line
