"""What ``/metrics`` shows, in Prometheus' text form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from turnwise.errors import MissingExtraError

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """The counters of one server."""

    def __init__(self) -> None:
        """Make them, in a registry of their own.

        Raises:
            MissingExtraError: prometheus-client is not installed.
        """
        try:
            import prometheus_client as prometheus
        except ModuleNotFoundError as error:
            raise MissingExtraError("prometheus_client", "serve") from error
        self._prometheus: Any = prometheus
        self.registry: Any = prometheus.CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry}
        self._requests = prometheus.Counter(
            "turnwise_oracle_requests", "Requests, by dialect and HTTP status", ["dialect", "code"], **own
        )
        self._items = prometheus.Counter(
            "turnwise_oracle_items", "Items, by dialect and status", ["dialect", "status"], **own
        )
        self._fallbacks = prometheus.Counter(
            "turnwise_oracle_fallbacks", "Items answered with the configured fallback reward", ["dialect"], **own
        )
        self._seconds = prometheus.Histogram(
            "turnwise_oracle_request_seconds", "Time to answer a request", ["dialect"], buckets=_SECONDS, **own
        )
        self._by_label: dict[tuple[int, str, str], Any] = {}

    def request(self, dialect: str, code: int, seconds: float) -> None:
        """Count a request."""
        self._child(self._requests, dialect, str(code)).inc()
        self._child(self._seconds, dialect).observe(seconds)

    def item(self, dialect: str, status: str, count: int = 1) -> None:
        """Count items."""
        self._child(self._items, dialect, status).inc(count)

    def fallback(self, dialect: str, count: int = 1) -> None:
        """Count items that were answered with the fallback."""
        self._child(self._fallbacks, dialect).inc(count)

    def gauge(self, name: str, what: str, value: Callable[[], float]) -> None:
        """Show a number that something else keeps."""
        self._prometheus.Gauge(f"turnwise_oracle_{name}", what, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """Return everything in Prometheus' text form."""
        shown: bytes = self._prometheus.generate_latest(self.registry)
        return shown

    def _child(self, metric: Any, first: str, second: str = "") -> Any:
        key = (id(metric), first, second)
        child = self._by_label.get(key)
        if child is None:
            child = self._by_label[key] = metric.labels(*((first, second) if second else (first,)))
        return child
