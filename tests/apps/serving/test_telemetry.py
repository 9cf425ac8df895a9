"""What OpenTelemetry is told of requests, by way of its exporter that keeps all in memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from kzoo.errors import KzooError
from tests.apps.conftest import wait_until
from tests.apps.serving.conftest import running
from tests.optional import require

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def kept() -> Any:
    """The exporter."""
    require("fastapi")
    return require("opentelemetry.sdk.trace.export.in_memory_span_exporter").InMemorySpanExporter()


@pytest.fixture
def url(shelf, kept) -> Iterator[str]:
    """The address of a service that reports to it."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    with running([shelf["topic"]], telemetry=provider) as server:
        yield server.url


def spans_of(kept: Any, count: int) -> dict[str, Any]:
    """Return the spans by name, once there are so many: they come after the answer."""
    wait_until(lambda: len(kept.get_finished_spans()) >= count)
    found = kept.get_finished_spans()
    assert len(found) == count
    return {span.name: span for span in found}


def test_a_request_is_a_span_of_the_callers_trace_with_its_stages_in_order(url, kept):
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "mine"}
    body = {"inputs": ["secret goal", "bank"]}
    assert httpx.post(url + "classify", json=body, headers=headers).status_code == 200
    spans = spans_of(kept, 5)
    request = spans.pop("POST /classify")
    assert format(request.context.trace_id, "032x") == TRACE
    assert format(request.parent.span_id, "016x") == PARENT
    attributes = dict(request.attributes)
    assert attributes.pop("kzoo.tokens") > 4
    assert attributes == {
        "http.request.method": "POST",
        "http.route": "/classify",
        "http.response.status_code": 200,
        "kzoo.request_id": "mine",
        "kzoo.model": "topic",
        "kzoo.items": 2,
    }
    assert list(spans) == ["read", "queue", "compute", "write"]
    at = request.start_time
    for stage in spans.values():
        assert stage.parent.span_id == request.context.span_id
        assert at == stage.start_time <= stage.end_time <= request.end_time
        at = stage.end_time
    assert at == request.end_time
    assert not any("secret" in span.to_json() for span in (request, *spans.values()))


def test_what_was_refused_or_failed_is_told_without_what_the_client_wrote(url, kept):
    httpx.get(url + "nowhere/my secret")
    httpx.request("SECRET", url + "classify")
    httpx.post(url + "classify", json={"inputs": []}, headers={"traceparent": "no trace"})
    spans = spans_of(kept, 3)
    assert {name: span.attributes["http.response.status_code"] for name, span in spans.items()} == {
        "GET": 404,
        "_OTHER /classify": 405,
        "POST /classify": 422,
    }
    assert all(span.parent is None for span in spans.values())
    assert not any("ecret" in span.to_json() for span in spans.values())


def test_without_opentelemetry_the_extra_is_named(monkeypatch):
    require("fastapi")
    from kzoo.apps import serve

    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(KzooError, match=r"pip install 'kzoo\[telemetry\]'"):
        serve([], port=0, gallery=False, telemetry=True)
