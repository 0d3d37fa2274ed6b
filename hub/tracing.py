"""OpenTelemetry traces, if the settings ask for them: of requests, of batches, and of the log's commits.

Spans carry ids, routes, statuses and counts. What members send, who they are, and anything secret stays out of them.
Where they go is set by OpenTelemetry's own environment variables (OTEL_EXPORTER_OTLP_ENDPOINT, …). A `traceparent`
that comes with a request is not followed: strangers send requests too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from hub.errors import HubError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as OtelSpan

Attributes = Mapping[str, str | int]


class Span(Protocol):
    """A piece of work that is being traced."""

    def note(self, attributes: Attributes) -> None:
        """Say more about it."""

    def rename(self, name: str) -> None:
        """Call it by a better name."""


class Tracing(Protocol):
    """Traces pieces of work."""

    def span(self, name: str, attributes: Attributes) -> AbstractContextManager[Span]:
        """Trace what happens inside; spans that are opened there are its children."""

    def stop(self) -> None:
        """Send what is not sent yet. Blocks."""


class Untraced:
    """Traces nothing, at next to no cost."""

    def note(self, attributes: Attributes) -> None:
        """Forget it."""

    def rename(self, name: str) -> None:
        """Forget it."""

    def span(self, name: str, attributes: Attributes) -> AbstractContextManager[Span]:  # noqa: ARG002 - Tracing's
        """Do nothing."""
        return contextlib.nullcontext(self)

    def stop(self) -> None:
        """Do nothing."""


class _Span:
    def __init__(self, span: OtelSpan) -> None:
        self._span = span

    def note(self, attributes: Attributes) -> None:
        self._span.set_attributes(dict(attributes))

    def rename(self, name: str) -> None:
        self._span.update_name(name)


class _Otlp:
    """Sends spans by OTLP over HTTP, in batches, from a thread of its own."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("stillwatch-hub")

    @contextlib.contextmanager
    def span(self, name: str, attributes: Attributes) -> Iterator[Span]:
        # An exception's text may repeat what a member sent.
        with self._tracer.start_as_current_span(
            name, attributes=dict(attributes), record_exception=False, set_status_on_exception=False
        ) as span:
            yield _Span(span)

    def stop(self) -> None:
        self._provider.shutdown()


def start(enabled: bool) -> Tracing:
    """Tracing as the settings have it.

    Raises:
        HubError: `traces_not_installed`.
    """
    if not enabled:
        return Untraced()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise HubError(
            "traces_not_installed", "traces = true needs the extra `traces`: pip install 'stillwatch[hub,traces]'"
        ) from error
    named = Resource({SERVICE_NAME: "stillwatch-hub"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=named)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return _Otlp(provider)
