"""What Prometheus reads from the gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from equipoise.guard.check_pool import CheckPool

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class GatewayMetrics:
    """Counters, gauges and histograms of one gateway, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        space, into = "equipoise", self.registry
        self.requests = Counter("requests", "Requests answered.", ["route", "status"], space, registry=into)
        self.decisions = Counter("decisions", "What was decided.", ["rail", "action", "by"], space, registry=into)
        self.receipts = Counter("receipts", "Parts of requests and replies.", ["outcome"], space, registry=into)
        self.rail = Histogram("rail_seconds", "Of one check.", ["rail"], space, registry=into, buckets=SECONDS)
        text = "Characters that left though a check then found harm."
        self.leaked = Counter("leaked_characters", text, namespace=space, registry=into)
        text = "From a stream's first word to the first that left."
        self.delay = Histogram("first_text_delay_seconds", text, namespace=space, registry=into, buckets=SECONDS)
        text = "Answers withheld as they could not be recorded."
        self.unrecorded = Counter("record_failures", text, namespace=space, registry=into)
        text = "Changes of policy or keys, taken or broken."
        self.reloads = Counter("reloads", text, ["result"], space, registry=into)
        text = "Worker processes that can check now."
        self._workers = Gauge("check_workers_ready", text, namespace=space, registry=into)
        text = "Worker processes that died, or were ended because they hung."
        self._deaths = Gauge("check_worker_deaths", text, namespace=space, registry=into)

    def watch_workers(self, pool: CheckPool) -> None:
        """Show the processes of checks; without any, both numbers are 0."""
        self._workers.set_function(lambda: pool.ready)
        self._deaths.set_function(lambda: pool.deaths)

    def text(self) -> bytes:
        """In Prometheus' form."""
        return generate_latest(self.registry)
