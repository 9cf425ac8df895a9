"""Spans of requests for OpenTelemetry: what was asked of which bundle and how long each stage took, without texts."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers
from starlette.types import Scope

from kzoo import __version__
from kzoo.errors import MissingDependencyError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from kzoo.apps.serving.state import Note

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE")


def export_spans() -> TracerProvider:
    """Return what sends spans to the collector that OpenTelemetry's own variables name.

    Raises:
        MissingDependencyError: if OpenTelemetry is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise MissingDependencyError(
            "Telemetry needs OpenTelemetry, which is not installed: pip install 'kzoo[telemetry]'"
        ) from None
    # What is given here would win over the variable.
    named = {} if "OTEL_SERVICE_NAME" in os.environ else {"service.name": "kzoo"}
    provider = TracerProvider(resource=Resource.create({**named, "service.version": __version__}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class Spans:
    """Records a span for each request, with a child for each of its stages.

    A request that brings a `traceparent` is recorded as a part of that trace.

    Args:
        provider: where spans go.
    """

    def __init__(self, provider: TracerProvider):
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("kzoo", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def record(self, scope: Scope, note: Note, route: str | None, status: int) -> None:
        """Record a request that is over."""
        from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context

        ended = time.time_ns()
        began = ended - _nanoseconds(time.monotonic() - note.arrived)
        # Methods too may be anything.
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        span = self._tracer.start_span(
            f"{method} {route}" if route else method,
            context=self._propagator.extract(dict(Headers(scope=scope))),
            kind=SpanKind.SERVER,
            attributes=_attributes(note, method, route, status),
            start_time=began,
        )
        if status >= 500:
            span.set_status(StatusCode.ERROR)
        within = set_span_in_context(span)
        at = began
        for stage, seconds in note.stages.items():
            child = self._tracer.start_span(stage, context=within, start_time=at)
            at = min(ended, at + _nanoseconds(seconds))
            child.end(at)
        if note.stages:
            self._tracer.start_span("write", context=within, start_time=at).end(ended)
        span.end(ended)

    def close(self) -> None:
        """Send what was not sent yet."""
        self._provider.shutdown()


def _attributes(note: Note, method: str, route: str | None, status: int) -> dict[str, Any]:
    """Return what is known of a request, under OpenTelemetry's names where it has some."""
    known = {
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": status,
        "kzoo.request_id": note.id,
        "kzoo.model": note.model,
        "kzoo.items": note.items if note.model else None,
        "kzoo.tokens": note.tokens if note.model else None,
    }
    return {name: value for name, value in known.items() if value is not None}


def _nanoseconds(seconds: float) -> int:
    return max(0, round(1e9 * seconds))
