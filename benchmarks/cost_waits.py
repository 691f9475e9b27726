"""Samples of what waits: for time, with its results told, for further rows, and for services that are asked."""

from __future__ import annotations

__all__ = ["calls", "patterns", "timed"]

import time
from collections.abc import Iterator

import numpy as np

from benchmarks.calls import asked_us, http_spec, queried, served, sql_spec
from benchmarks.cost_samples import CARDS, NOW, Sample
from benchmarks.machine import Cores
from benchmarks.patterns import PATTERNS, measure
from operators.batch import Batch, Column, TaskRows
from operators.operator import BOOL, INT64, STRING
from operators.timed.alerts import AlertEncoder
from operators.timed.operator import TimedOperator
from operators.timed.spec import AbsenceSpec, AlertSpec, TimedAggregate, TimedSpec, WindowKind, WindowSpec
from state.worker_state import WorkerState
from streamproc.language.costing import BATCH
from streamproc.language.costing.timed import timed_units
from streamproc.language.costing.units import Units

HOUR, DAY = 3_600_000, 86_400_000
_TUMBLE, _HOP, _GROW, _SESSION = WindowKind.TUMBLE, WindowKind.HOP, WindowKind.CUMULATE, WindowKind.SESSION
_WINDOWS = (
    (_TUMBLE, HOUR, 0), (_TUMBLE, DAY, 0), (_TUMBLE, 10 * DAY, 0),
    (_HOP, 8 * HOUR, HOUR), (_HOP, 2 * DAY, 4 * HOUR), (_HOP, 10 * DAY, DAY),
    (_GROW, DAY, 6 * HOUR), (_GROW, 10 * DAY, DAY),
    (_SESSION, HOUR, 0), (_SESSION, 5 * HOUR, 0), (_SESSION, DAY, 0),
)  # fmt: skip
"""A key of the samples has a row in five and a half hours."""
_AGGREGATES = (TimedAggregate.COUNT, TimedAggregate.SUM, TimedAggregate.MAX)
RATE = 86_400 / CARDS
"""Rows of a key a day: one of any key a second."""


def timed() -> Iterator[Sample]:
    """Windows and absences over rows of CARDS keys; each result is told."""
    rules: list[WindowSpec | AbsenceSpec] = [
        WindowSpec(kind, size, _AGGREGATES, every=every, of="value", type=INT64) for kind, size, every in _WINDOWS
    ]
    rules += [AbsenceSpec("after", "without", within) for within in (HOUR, 5 * HOUR, DAY)]
    for rule in rules:
        spec = TimedSpec("w", "key", "key", rule, 60_000, "id")
        run = _Run(spec)
        run.us(BATCH, 6 * CARDS // BATCH)
        full = run.us(BATCH, 20)
        yield Sample(timed_units(spec, RATE), run.us(1, 400), full)


class _Run:
    def __init__(self, spec: TimedSpec) -> None:
        self._operator, self._alerts = TimedOperator(spec), AlertEncoder([spec], [AlertSpec("w", "w")])
        self._state = WorkerState(self._operator.tables)
        self._rng, self._clock = np.random.default_rng(1), NOW
        self._keys = np.array([f"card-{i:012d}" for i in range(CARDS)], np.object_)

    def us(self, size: int, times: int) -> float:
        """Processor microseconds a row: all of them, since windows of all keys end at once."""
        seconds = 0.0
        for _ in range(times):
            batch = self._batch(size)
            begun = time.thread_time()
            self._operator.process(batch, self._state)
            if batch.emitted:
                self._alerts.encode(batch)
                self._alerts.digest(batch.emitted)
            self._state.publish()
            seconds += time.thread_time() - begun
        return seconds / times / size * 1e6

    def _batch(self, size: int) -> Batch:
        """A third of the rows begin waits of absences, another third end them."""
        rng, at = self._rng, self._clock + 1_000 * np.arange(size)
        self._clock += 1_000 * size
        part = rng.integers(0, 3, size)
        columns = {
            "key": Column(STRING, self._keys[rng.integers(0, CARDS, size)]),
            "id": Column(STRING, np.array([f"t{time:015d}" for time in at.tolist()], np.object_)),
            "value": Column(INT64, rng.integers(0, 10_000, size)),
            "after": Column(BOOL, part == 0),
            "without": Column(BOOL, part == 1),
        }
        return Batch(size, (TaskRows(0, 0, size),), at, [""] * size, columns)


def patterns() -> Iterator[Sample]:
    """One pattern of a key, and ten that begin with the same rows."""
    for texts in (PATTERNS["A{3,} B C D"], PATTERNS["ten of A{3,} B C D"]):
        alone, full = (min(measure(texts, size, alone=True) for _ in range(5)) for size in (1, BATCH))
        yield Sample(Units({"pattern": 1, "pattern:each": len(texts)}), alone, full)


def calls() -> Iterator[Sample]:
    """A call at a time, and a thousand in flight (of a database: ten); the services are processes of their own."""
    others = Cores.of_machine().others
    with served(others, 0.0) as port:
        yield Sample({"call:http": 1}, *asked_us(http_spec(port)))
    with queried(others) as url:
        yield Sample({"call:sql": 1}, *asked_us(sql_spec(url)))
