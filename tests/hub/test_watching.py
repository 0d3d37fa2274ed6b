"""The dashboard and the alert rules that we hand out speak of what a hub really shows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hub.identity import HubIdentity
from hub.settings import HubSettings
from sharing_protocol import wire
from tests.forum import ForumInABox, pattern_body, running_hub
from tests.hub.scrape import scrape, scrape_after

DEPLOY = Path(__file__).parents[2] / "docs" / "deploy"
ALERTS = {
    *("StillwatchHubDown", "StillwatchHubNotReady", "StillwatchCheckpointOld", "StillwatchRefusalsBurst"),
    *("StillwatchQueueLong", "StillwatchDatabasePoolExhausted", "StillwatchMemberLagging", "StillwatchDiskNearlyFull"),
    "StillwatchQuotaNearlyUsed",
}
# What an expression consists of besides the names of metrics: functions, keywords, and everything in braces.
_WORDS = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_GROUPING = re.compile(r"\b(?:by|on|group_left)\s*\([^)]*\)")
_NO_METRICS = {
    *("sum", "min", "max", "rate", "time", "scalar", "histogram_quantile", "or", "and", "job"),
    "up",  # Prometheus's own
}


def metrics_in(expression: str) -> set[str]:
    plain = re.sub(r"\{[^}]*\}|\[[^]]*\]", "", _GROUPING.sub("", expression))
    return set(_WORDS.findall(re.sub(r"\b[0-9.]+\b", "", plain))) - _NO_METRICS


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load((DEPLOY / "alerts.yml").read_text())
    assert set(document) == {"groups"}
    return [rule for group in document["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    return read


@pytest.fixture(scope="module")
def shown(
    new_database: Any, hub_identity: HubIdentity, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, set[str]]]:
    """The names of a real scrape of a hub that has seen everything, with the names of their labels."""
    home = tmp_path_factory.mktemp("home")
    with running_hub(new_database(), hub_identity, settings=HubSettings(metrics_port=0), home=home) as hub:
        box = ForumInABox(hub)
        box.found()
        lab = box.admit("Aurora")
        before = scrape(hub)
        box.publish(lab, pattern_body())
        box.get(wire.CHECKPOINT, lab.sync, after=1)
        box.get("/nothing", lab.sync)
        names: dict[str, set[str]] = {}
        for name, labels in scrape_after(hub, before, 3):
            names.setdefault(name, set()).update(label for label, _ in labels)
        yield names


def test_every_metric_of_the_rules_is_there(shown: dict[str, set[str]]) -> None:
    used = set().union(*(metrics_in(rule["expr"]) for rule in rules()))
    assert len(used) > 10
    assert used <= set(shown)


def test_every_metric_of_the_dashboard_is_there(shown: dict[str, set[str]]) -> None:
    used = {metric for target in _targets() for metric in metrics_in(target["expr"])}
    assert used <= set(shown)
    # What we count, we show: a histogram by one of its parts.
    counted = {re.sub("_(bucket|sum|count)$", "", name) for name in shown if name.startswith("stillwatch_")}
    counted = {name for name in counted if not name.endswith("_created")}
    assert counted <= {re.sub("_(bucket|sum|count)$", "", name) for name in used}


def test_labels_that_are_grouped_by_are_there(shown: dict[str, set[str]]) -> None:
    labels = {"instance", "job"}.union(*shown.values())  # the first two are Prometheus's own
    for expression in [rule["expr"] for rule in rules()] + [target["expr"] for target in _targets()]:
        for grouping in re.findall(r"\b(?:by|on|group_left)\s*\(([^)]*)\)", expression):
            assert {label.strip() for label in grouping.split(",")} <= labels
        for matcher in re.findall(r"\{([^}]*)\}", expression):
            assert {part.split("=")[0].strip("!~ ") for part in matcher.split(",")} <= labels


def test_the_rules_have_the_form_that_prometheus_reads() -> None:
    found = rules()
    assert {rule["alert"] for rule in found} >= ALERTS
    assert len({rule["alert"] for rule in found}) == len(found)
    for rule in found:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch("[0-9]+[mh]", rule.get("for", "1m"))
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["expr"].count("(") == rule["expr"].count(")")


def test_the_dashboard_has_the_form_that_grafana_reads() -> None:
    read = dashboard()
    assert (read["title"], read["uid"]) == ("Stillwatch hub", "stillwatch-hub")
    assert len({panel["id"] for panel in read["panels"]}) == len(read["panels"])
    occupied: set[tuple[int, int]] = set()
    for panel in read["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & occupied
        assert max(x for x, _ in cells) < 24
        occupied |= cells
        assert panel["datasource"]["uid"] == "${datasource}"
    assert {variable["name"] for variable in read["templating"]["list"]} == {"datasource", "job"}


def _targets() -> list[dict[str, Any]]:
    return [target for panel in dashboard()["panels"] for target in panel["targets"]]
