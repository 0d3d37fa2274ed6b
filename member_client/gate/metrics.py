"""What a gate tells a Prometheus; read when asked for, so that a request pays for one addition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from member_client.gate.live import Gate


class GateCollector(Collector):
    """The metrics of one gate."""

    def __init__(self, gate: Gate, answers: Mapping[tuple[str, str], int]) -> None:
        """Report on a gate.

        Args:
            answers: how many were given, by action and reason.
        """
        self._gate, self._answers = gate, answers

    def collect(self) -> Iterator[Metric]:
        condition = self._gate.condition()
        answers = CounterMetricFamily(
            "stillwatch_gate_answers", "Requests judged, by action and reason.", labels=["action", "reason"]
        )
        for (action, reason), count in sorted(self._answers.items()):
            answers.add_metric([action, reason], count)
        yield answers
        reloads = CounterMetricFamily(
            "stillwatch_gate_reloads", "Tables taken, and tables that could not be made.", labels=["outcome"]
        )
        reloads.add_metric(["taken"], condition.reloads)
        reloads.add_metric(["failed"], condition.failures)
        yield reloads
        yield _gauge("ready", "Whether requests are judged by the decisions.", condition.ready)
        yield _gauge("stale", "Whether the data is older than the policy allows.", condition.stale)
        yield _gauge("reload_failing", "Whether the newest table could not be taken.", bool(condition.error))
        yield _gauge("reload_seconds", "How long the newest table took to make.", condition.build_seconds)
        if condition.facts is not None and condition.age is not None:
            yield _gauge("data_age_seconds", "Since the lab last learned from the forum.", condition.age)
            yield _gauge("rows", "Actions in effect, one an account or organisation.", condition.facts.rows)


def _gauge(name: str, about: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"stillwatch_gate_{name}", about, value=value)
