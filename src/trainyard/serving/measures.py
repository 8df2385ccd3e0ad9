"""What a server measures of itself, as Prometheus reads it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1, 2, 4, 8, 16, 32, 64)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Measures:
    """The counters of one server, in a registry of their own: a process may hold several."""

    def __init__(self) -> None:
        """Begin at nought."""
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("trainyard_requests", "Requests answered", ["model", "status"], registry=registry)
        self.inputs = Counter("trainyard_inputs", "Inputs answered", ["model"], registry=registry)
        self.seconds = Histogram(
            "trainyard_request_seconds", "From a whole request to its answer", ["model"], buckets=SECONDS, registry=registry
        )
        self.batches = Histogram(
            "trainyard_batch_inputs", "Inputs in one call of the network", ["model"], buckets=SIZES, registry=registry
        )
        self.waiting = Gauge("trainyard_waiting_inputs", "Inputs that wait for an answer", ["model"], registry=registry)
        self.refused = Counter("trainyard_refused", "Requests refused by their head or size", ["field"], registry=registry)
        self.reloads = Counter("trainyard_reloads", "Models loaded anew", ["model", "outcome"], registry=registry)
        self.models = Info("trainyard_model", "The model that answers", ["model"], registry=registry)

    def text(self) -> bytes:
        """Return all of it in Prometheus' format."""
        return generate_latest(self.registry)
