"""What Prometheus would read from a hub."""

from __future__ import annotations

from collections.abc import Mapping

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.forum import RunningHub
from tests.hub.stored_log import wait_until

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(hub: RunningHub) -> Samples:
    """Every sample of a hub whose settings have `metrics_port`."""
    response = httpx.get(hub.metrics_url, timeout=30)
    assert response.status_code == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def scrape_after(hub: RunningHub, before: Samples, requests: int) -> Samples:
    """Every sample, once so many more requests are counted: that comes just after their answers."""

    def answered(samples: Samples) -> float:
        return sum(value for (name, _), value in samples.items() if name == "stillwatch_requests_total")

    wait_until(lambda: answered(scrape(hub)) >= answered(before) + requests, "the requests are not counted")
    return scrape(hub)


def sample(samples: Samples, name: str, /, **labels: str) -> float | None:
    """One of them, None if it is not there."""
    return samples.get((f"stillwatch_{name}", frozenset(labels.items())))


def read(hub: RunningHub, name: str, /, **labels: str) -> float | None:
    """One sample, read now."""
    return sample(scrape(hub), name, **labels)
