"""What calls out measure, in Prometheus' terms."""

from __future__ import annotations

__all__ = ["CallMetrics", "CallRegistry"]

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 5)


class CallRegistry:
    """The metrics of all call steps of a worker; each has a label `call`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        p, each = "streamproc_call", ["call"]
        self.results = Counter(p + "s", "Rows, by how they were answered", [*each, "result"], registry=registry)
        self.seconds = Histogram(p + "_seconds", "Of a call, retries too", each, buckets=_SECONDS, registry=registry)
        self.retries = Counter(p + "_retries", "Attempts after the first", each, registry=registry)
        self.in_flight = Gauge(p + "s_in_flight", "Calls not answered yet", each, registry=registry)
        self.breaker_open = Gauge(p + "_breaker_open", "1: the service is left alone", each, registry=registry)
        self.waiting = Gauge(p + "_rows_waiting", "Rows read and not handed on", each, registry=registry)

    def of(self, call: str) -> CallMetrics:
        """Those of one step."""
        return CallMetrics(self, call)


class CallMetrics:
    """The metrics of one call step."""

    def __init__(self, steps: CallRegistry, call: str) -> None:
        self._results, self._call = steps.results, call
        self.seconds, self.retries = steps.seconds.labels(call), steps.retries.labels(call)
        self.in_flight, self.breaker_open = steps.in_flight.labels(call), steps.breaker_open.labels(call)
        self.waiting = steps.waiting.labels(call)

    def count(self, result: str) -> None:
        """A row was answered so."""
        self._results.labels(self._call, result).inc()
