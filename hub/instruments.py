"""What the hub's parts tell of their work to: counted in metrics, and traced if that is asked for."""

from dataclasses import dataclass, field

from hub.metrics import Metrics
from hub.tracing import Tracing, Untraced


@dataclass(frozen=True, slots=True)
class Instruments:
    """Metrics and traces of one hub."""

    metrics: Metrics = field(default_factory=Metrics)
    tracing: Tracing = field(default_factory=Untraced)
