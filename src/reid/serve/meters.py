"""What the service counts of itself, for Prometheus. No name of a person, picture or caller is a label."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

SIZES = (1, 2, 4, 8, 16, 32, 64)


class Meters:
    """Counters and histograms of one service."""

    def __init__(self) -> None:
        self._registry = here = CollectorRegistry()
        ProcessCollector(registry=here)
        PlatformCollector(registry=here)
        labels = ("method", "route", "status")
        self._requests = Counter("reid_requests", "Requests answered.", labels, registry=here)
        self._seconds = Histogram(
            "reid_request_seconds", "From a request's head to its answer.", ("route",), registry=here
        )
        self._batches = Histogram("reid_batch_items", "Items in one batch.", ("work",), registry=here, buckets=SIZES)
        self._expired = Counter("reid_expired_rows", "Rows erased because they were older than is kept.", registry=here)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def batch(self, work: str) -> Callable[[int], None]:
        """To be told how many items each batch of that work has."""
        return self._batches.labels(work).observe

    def expired(self, rows: int) -> None:
        """Rows were erased because of their age."""
        self._expired.inc(rows)

    def watch(self, name: str, about: str, value: Callable[[], float]) -> None:
        """A value that is asked for whenever the meters are read."""
        Gauge(name, about, registry=self._registry).set_function(value)

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self._registry)
