"""Traces: sent to a collector if the settings say so, of requests, batches and commits, without what members send."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from hub.identity import HubIdentity
from hub.settings import HubSettings
from sharing_protocol import wire
from tests.forum import ForumInABox, key, pattern_body, running_hub


class Collector(ThreadingHTTPServer):
    """An OTLP collector that keeps what it gets."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receiver)
        self.bodies: list[bytes] = []

    def spans(self) -> list[Span]:
        requests = [ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        return [
            span
            for request in requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class _Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        yield server
        server.shutdown()
        thread.join()


def attributes(span: Span) -> dict[str, str | int]:
    return {
        pair.key: pair.value.string_value if pair.value.HasField("string_value") else pair.value.int_value
        for pair in span.attributes
    }


def test_spans_of_requests_batches_and_commits(database: str, hub_identity: HubIdentity, collector: Collector) -> None:
    with running_hub(database, hub_identity, settings=HubSettings(traces=True)) as hub:
        box = ForumInABox(hub)
        box.found()
        lab = box.admit("Aurora")
        box.publish(lab, pattern_body("A title that stays private"))
        unknown = box.get("/records/pattern--00000000-0000-4000-8000-000000000000", lab.sync)
        assert box.get(f"{wire.RECORDS}?q=searched", lab.sync).status_code == 200
    spans = collector.spans()
    by_name: dict[str, list[Span]] = {}
    for span in spans:
        by_name.setdefault(span.name, []).append(span)
    assert len(by_name["POST /entries"]) == len(by_name["commit"]) == len(by_name["sequence a batch"]) == 3
    batches = {span.span_id for span in by_name["sequence a batch"]}
    assert {span.parent_span_id for span in by_name["commit"]} == batches
    (refused,) = by_name["GET /records/{record_id}"]
    assert attributes(refused) == {
        "stillwatch.request_id": unknown.headers["x-request-id"],
        "http.request.method": "GET",
        "http.route": "/records/{record_id}",
        "http.response.status_code": 404,
        "error.type": "not_found",
    }
    assert {name for span in spans for name in attributes(span)} == {
        *("stillwatch.request_id", "http.request.method", "http.route", "http.response.status_code", "error.type"),
        *("stillwatch.submissions", "stillwatch.entries"),
    }
    sent = b"".join(collector.bodies)
    assert b"stillwatch-hub" in sent
    for private in ("stays private", "searched", key(lab.sync).public_key.key_id, lab.id, "00000000-0000-4000"):
        assert private.encode() not in sent
    assert not any(span.events for span in spans)


def test_no_traces_unless_asked_for(database: str, hub_identity: HubIdentity, collector: Collector) -> None:
    with running_hub(database, hub_identity) as hub:
        ForumInABox(hub).found()
    assert collector.bodies == []


def test_without_the_extra_the_hub_says_what_to_install() -> None:
    """In a process that cannot import OpenTelemetry's SDK, as on a machine without it."""
    script = (
        "import sys; sys.modules['opentelemetry.sdk'] = None\n"
        "from hub import tracing; from hub.errors import HubError\n"
        "try: tracing.start(True)\n"
        "except HubError as error: print(error.code, error.detail)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == (
        "traces_not_installed traces = true needs the extra `traces`: pip install 'stillwatch[hub,traces]'\n"
    )
