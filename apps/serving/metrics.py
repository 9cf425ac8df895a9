"""What the service counts and measures, in the form that Prometheus reads."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from kzoo.apps.serving.scheduler import BatchReport

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ITEMS = (1, 2, 4, 8, 16, 32, 64, 128)
_TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


class Metrics:
    """The figures of one service, in a registry of their own."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()

        def histogram(name: str, what: str, labels: list[str], buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, what, labels, buckets=buckets, registry=self._registry)

        def counter(name: str, what: str, labels: list[str]) -> Counter:
            return Counter(name, what, labels, registry=self._registry)

        self._requests = counter("kzoo_requests", "Requests answered", ["route", "status"])
        self._refusals = counter("kzoo_refusals", "Requests refused", ["reason"])
        self._items = counter("kzoo_items", "Texts and images asked for", ["model"])
        self._tokens = counter("kzoo_tokens", "Tokens of these, without padding", ["model"])
        self._seconds = histogram("kzoo_request_seconds", "From arrival to answer", ["route"], _SECONDS)
        self._stages = histogram(
            "kzoo_stage_seconds", "Where requests spent it", ["model", "stage"], _SECONDS
        )
        self._batch_items = histogram("kzoo_batch_items", "Items that ran together", ["model"], _ITEMS)
        self._batch_tokens = histogram("kzoo_batch_tokens", "Tokens that ran together", ["model"], _TOKENS)
        self._batch_seconds = histogram("kzoo_batch_seconds", "How long a batch took", ["model"], _SECONDS)
        self._queue = Gauge("kzoo_queue_items", "Items that wait", ["model"], registry=self._registry)

    def watch_queue(self, model: str, waiting: Callable[[], float]) -> None:
        """Have the length of a bundle's queue asked for whenever the figures are."""
        self._queue.labels(model).set_function(waiting)

    def batch(self, model: str, report: BatchReport) -> None:
        """Note a batch."""
        self._batch_items.labels(model).observe(report.items)
        self._batch_tokens.labels(model).observe(report.tokens)
        self._batch_seconds.labels(model).observe(report.seconds)

    def asked(self, model: str, items: int, tokens: int) -> None:
        """Note what a request asks of a bundle."""
        self._items.labels(model).inc(items)
        self._tokens.labels(model).inc(tokens)

    def stage(self, model: str, stage: str, seconds: float) -> None:
        """Note how long a request was in one of its stages."""
        self._stages.labels(model, stage).observe(seconds)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Note an answer."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def refused(self, reason: str) -> None:
        """Note a request that was not done, and why."""
        self._refusals.labels(reason).inc()

    def text(self) -> bytes:
        """Return all figures."""
        return generate_latest(self._registry)
