"""Counters for Prometheus, in a registry of their own, since one process may run two services."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Metrics"]

SECONDS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20)


class Metrics:
    """Counters of requests and predictions."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        named: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("bundle_requests", "Requests by route and status", ["route", "status"], **named)
        self.seconds = Histogram("bundle_request_seconds", "Response time", ["route"], buckets=SECONDS, **named)
        self.bytes = Counter("bundle_received_bytes", "Bytes of requests", **named)
        self.waiting = Gauge("bundle_waiting", "Scans that wait or are processed", **named)
        self.refused = Counter("bundle_refused", "Refused scans", ["code"], **named)
        self.states = Counter("bundle_predictions", "Predictions by their state", ["state"], **named)

    def request(self, route: str, status: int, seconds: float, received: int) -> None:
        """Count one request."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)
        self.bytes.inc(received)

    def text(self) -> bytes:
        """All counters in Prometheus' text format."""
        return generate_latest(self.registry)
