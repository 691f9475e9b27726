"""What a worker measures, in Prometheus' terms. One registry a worker: nothing is global."""

from __future__ import annotations

__all__ = ["LatencyHistogram", "WorkerMetrics"]

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from operators.patterns.operator import dropped_runs
from streamproc.runtime.hot_keys import HotKeys
from streamproc.runtime.results import Judged, OfStage

_LATENCY_BOUNDS_MS = (
    1,
    2,
    3,
    4,
    5,
    6,
    8,
    10,
    12,
    15,
    20,
    25,
    30,
    40,
    50,
    65,
    80,
    100,
    150,
    250,
    500,
    1000,
    5000,
    60000,
)
_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1, 5)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)


class LatencyHistogram(Collector):
    """Counts a whole batch of latencies at once; bounds in ms, exported in seconds."""

    def __init__(self, name: str, documentation: str) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds = np.array(_LATENCY_BOUNDS_MS, np.float64)
        self._counts = np.zeros(len(self._bounds) + 1, np.int64)
        self._sum_ms = 0.0

    def observe(self, latencies_ms: npt.NDArray[np.int64]) -> None:
        """Add latencies, int64 (rows,), in ms."""
        places = np.searchsorted(self._bounds, latencies_ms)
        self._counts += np.bincount(places, minlength=len(self._counts))
        self._sum_ms += float(latencies_ms.sum())

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """For the registry."""
        total = np.cumsum(self._counts)
        bounds = [*(str(bound / 1000) for bound in _LATENCY_BOUNDS_MS), "+Inf"]
        family = HistogramMetricFamily(self._name, self._documentation)
        family.add_metric([], list(zip(bounds, total.astype(float).tolist(), strict=True)), self._sum_ms / 1000)
        yield family

    def describe(self) -> Iterable[HistogramMetricFamily]:
        """For the registry, without collecting."""
        return [HistogramMetricFamily(self._name, self._documentation)]


class WorkerMetrics:
    """All metrics of one worker. `digest_key` keys the names of hot keys."""

    def __init__(self, digest_key: bytes = b"") -> None:
        self.registry = registry = CollectorRegistry()
        p = "streamproc_"
        self.records = Counter(p + "records", "Records decided, or that statements saw", registry=registry)
        self.handed_on = Counter(p + "handed_on", "Records handed on to the next stage", ["stage"], registry=registry)
        self.state_records = Counter(p + "state_records", "Of streams not decided", ["topic"], registry=registry)
        self.gave_up_waiting = Counter(p + "gave_up_waiting", "A stream lagged longer than its wait", registry=registry)
        self.dead_letters = Counter(p + "dead_letters", "Records refused", ["reason"], registry=registry)
        self.late_answers = Counter(p + "late_answers", "Decided past their deadline", registry=registry)
        self.duplicates = Counter(p + "duplicates", "Records that repeat an id", registry=registry)
        self.decisions = Counter(p + "decisions", "Decisions", ["decision"], registry=registry)
        self.alerts = Counter(p + "alerts", "Alerts told, windows and absences", ["alert"], registry=registry)
        self.late_rows = Counter(p + "late_rows", "Records too late for a window", ["window"], registry=registry)
        self.statement_rows = Counter(p + "statement_rows", "Of SQL statements", ["statement"], registry=registry)
        self.dropped_runs = Counter(p + "dropped_runs", "A key had too many", ["pattern"], registry=registry)
        self.clock_ticks = Counter(p + "clock_ticks", "Of partitions whose input rests", registry=registry)
        self.unknown_fields = Counter(p + "records_with_unknown_fields", "Estimated above one half", registry=registry)
        self.failed_transactions = Counter(p + "failed_transactions", "Settled after a failure", registry=registry)
        self.batch_rows = Histogram(p + "batch_rows", "Records a transaction", buckets=_ROWS, registry=registry)
        self.failed_tasks = Counter(p + "failed_tasks", "Cannot be restored, paused", registry=registry)
        self.retention_too_short = Gauge(p + "retention_too_short", "1: a replay may lack records", registry=registry)
        self.stalled_tasks = Gauge(p + "stalled_tasks", "Input waits, position stands still", registry=registry)
        self.batches_ahead = Counter(
            p + "batches_ahead", "Batches computed while the one before was in flight", registry=registry
        )
        self.shortcut_records = Counter(
            p + "shortcut_records", "Handed on and taken by the next stage in one transaction", registry=registry
        )
        self.out_of_step = Counter(
            p + "out_of_step", "Times a partition that is behind was waited for no longer", registry=registry
        )
        self.transaction_seconds = Histogram(
            p + "transaction_seconds", "Steps 5-7", buckets=_SECONDS, registry=registry
        )
        self.step_seconds = Histogram(
            p + "step_seconds", "Time of a step of a batch", ["step"], buckets=_SECONDS, registry=registry
        )
        self.latency = LatencyHistogram(p + "latency_seconds", "From the record's log time to the commit")
        registry.register(self.latency)
        self.lag = Gauge(
            p + "lag_records", "Records behind the end of the log", ["topic", "partition"], registry=registry
        )
        self.hot_keys = HotKeys(registry, digest_key)
        self.loop_lag_seconds = Gauge(p + "loop_lag_seconds", "Longest recent delay of the loop", registry=registry)
        self._add_state(registry)
        self._add_tables(registry)
        self.log_answers, self._seconds_per_row = True, 0.0

    def _add_state(self, registry: CollectorRegistry) -> None:
        """Metrics of the tasks' state, and of its copies."""
        p = "streamproc_"
        self.checkpoint_seconds = Histogram(
            p + "checkpoint_seconds", "Sending a checkpoint", ["stage"], buckets=_SECONDS, registry=registry
        )
        self.checkpoint_bytes = Counter(p + "checkpoint_bytes", "Sent for checkpoints", ["stage"], registry=registry)
        self.failed_checkpoints = Counter(p + "failed_checkpoints", "To be tried again", ["stage"], registry=registry)
        self.restored_tasks = Counter(p + "restored_tasks", "Taken over and restored", ["stage"], registry=registry)
        self.state_keys = Gauge(p + "state_keys", "Keys in memory", ["stage"], registry=registry)
        self.state_bytes = Gauge(p + "state_bytes", "Memory of the state, estimated", ["stage"], registry=registry)
        self.state_evicted_keys = Gauge(
            p + "state_evicted_keys", "Keys that left memory so far", ["stage"], registry=registry
        )

    def _add_tables(self, registry: CollectorRegistry) -> None:
        """Metrics of the tables that come from topics."""
        p = "streamproc_"
        self.table_rows = Gauge(p + "table_rows", "Rows of a table", ["table"], registry=registry)
        self.table_versions = Counter(p + "table_versions", "Times a table has changed", ["table"], registry=registry)
        self.shed_shadow_rows = Counter(
            p + "shed_shadow_rows", "Rows decided without a shadow's score, for want of time", ["model", "version"],
            registry=registry,
        )  # fmt: skip
        self.refused_table_records = Counter(
            p + "refused_table_records", "Records that are none of the table's", ["table"], registry=registry
        )

    def totals(self) -> dict[str, int]:
        """What this worker has decided."""
        found = {"decided": 0, "dead_letters": 0, "duplicates": 0}
        for family in (self.records, self.dead_letters, self.duplicates):
            for sample in next(iter(family.collect())).samples:
                name = sample.name.removeprefix("streamproc_").removesuffix("_total").replace("records", "decided")
                if name in found:
                    found[name] += int(sample.value)
        return found

    def computed(self, rows: int) -> None:
        """A batch was computed: rows of all stages."""
        self.batch_rows.observe(rows)

    def committed(
        self, decided: Sequence[OfStage], handed_on: Sequence[OfStage], undecided: Sequence[OfStage], seconds: float,
        now_ms: int,
    ) -> None:  # fmt: skip
        """A transaction was published: rows by what the stages made of them (stage.by_fate), with names of stages."""
        self.transaction_seconds.observe(seconds)
        for _, judged in (*decided, *undecided):
            self._timed(judged)
            self._taken(judged, now_ms)
        for _, judged in decided:
            for code, count in enumerate(np.bincount(judged.actions).tolist()):
                if count:
                    self.decisions.labels(judged.decided.action_names[code]).inc(count)
        for stage, judged in handed_on:
            self._timed(judged)
            self.handed_on.labels(stage).inc(judged.rows.size)
            self._refused(judged)
        for stage, judged in (*decided, *handed_on, *undecided):
            self.hot_keys.note(stage, judged.rows.keys)
            if judged.merged is not None and judged.merged.rows.streams is not None:
                counts = np.bincount(judged.merged.rows.streams).tolist()
                for topic, count in zip(judged.merged.rows.topics[1:], counts[1:], strict=False):
                    self.state_records.labels(topic).inc(count)

    def _refused(self, judged: Judged) -> None:
        for letter in (*judged.rows.refused, *judged.rows.given_up):
            self.dead_letters.labels(letter.reason).inc()

    def _timed(self, judged: Judged) -> None:
        self.clock_ticks.inc(len(judged.ran.ticks))
        for pattern, count in dropped_runs(judged.ran).items():
            self.dropped_runs.labels(pattern).inc(count)
        counters = {"alert": self.alerts, "late": self.late_rows, "row": self.statement_rows}
        for (name, what), count in judged.told.items():
            counters[what].labels(name).inc(count)

    def _taken(self, judged: Judged, now_ms: int) -> None:
        self.records.inc(judged.rows.size)
        self._refused(judged)
        self.duplicates.inc(judged.rows.size - len(judged.fresh))
        self.unknown_fields.inc(judged.rows.extras)
        if judged.batch.late is not None:
            self.late_answers.inc(int(judged.batch.late.sum()))
        self.latency.observe(now_ms - judged.rows.timestamps)
