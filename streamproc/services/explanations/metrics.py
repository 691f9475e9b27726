"""What a follower tells of its work, in Prometheus' terms."""

from __future__ import annotations

__all__ = ["ExplanationMetrics"]

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from streamproc.clock import Clock

_SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class ExplanationMetrics:
    """All metrics of one follower: how many, and how far behind the decisions."""

    def __init__(self, registry: CollectorRegistry, clock: Clock) -> None:
        self._clock = clock
        self._at_work_ms: int | None = None
        self._waiting_ms: int | None = None
        p = "streamproc_explanation"
        self._written = Counter(p + "s", "Written, by whether it could be said", ["result"], registry=registry)
        self._lag = Histogram(
            p + "_lag_seconds", "From the decision's journal record to its explanation", buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self._waiting = Gauge(
            p + "s_waiting_partitions", "Partitions of the journal that wait for the registry", registry=registry
        )
        behind = Gauge(
            p + "s_behind_seconds", "Age of the oldest that is at work, or waits; 0: none", registry=registry
        )
        behind.set_function(self._behind)

    @contextmanager
    def at_work(self, oldest_ms: int) -> Iterator[None]:
        """While the decisions are explained of which the oldest was journaled then."""
        self._at_work_ms = oldest_ms
        yield
        self._at_work_ms = None

    def wait(self, partitions: int, oldest_ms: int | None) -> None:
        """So many wait for the registry; the oldest block of them was journaled then."""
        self._waiting.set(partitions)
        self._waiting_ms = oldest_ms

    def wrote(self, decided_ms: Sequence[int], refused: int) -> None:
        """Explanations of decisions that were journaled then; of so many it could not be said why."""
        now = self._clock.now_ms()
        for at in decided_ms:
            self._lag.observe(max(0, now - at) / 1000)
        self._written.labels("explained").inc(len(decided_ms) - refused)
        self._written.labels("refused").inc(refused)

    def _behind(self) -> float:
        oldest = min((ms for ms in (self._at_work_ms, self._waiting_ms) if ms is not None), default=None)
        return 0.0 if oldest is None else max(0, self._clock.now_ms() - oldest) / 1000
