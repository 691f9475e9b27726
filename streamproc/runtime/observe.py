"""What is measured beside the hot path: times of the steps, and gauges that a slow watcher sets."""

from __future__ import annotations

__all__ = ["STEPS", "StepTimer", "Watched", "watch_tasks"]

import asyncio
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Protocol

import structlog

from state.errors import EventLogError
from state.worker_state import WorkerState
from streamproc.clock import Clock
from streamproc.eventlog.contract import Admin, TopicPartition
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.transaction import COMPUTED, Probe
from streamproc.runtime.watchdog import Standing, Watchdog

STEPS = {2: "collect", 3: "decode", 4: "steps", COMPUTED: "encode", 6: "produce", 7: "deliver", 8: "commit"}
_FLIGHT = 5
_WATCH_SECONDS = 2.0
_ANSWER_SECONDS = 3.0
_MARKS_MAX = 8
"""So few offsets behind a task for which nothing waits are transactions' marks."""


class StepTimer:
    """A probe that observes how long each numbered step took, and passes the call on.

    At step n it knows how long the step before it took: `STEPS` names that one. Steps 1-4 of a batch may fall
    between the steps 5-8 of the one before it, so either half has a clock of its own.
    """

    def __init__(self, metrics: WorkerMetrics, clock: Clock, inner: Probe | None = None) -> None:
        self._clock = clock
        self._inner = inner
        self._last = [clock.monotonic()] * 2
        self._histograms = {step: metrics.step_seconds.labels(name) for step, name in STEPS.items()}

    def __call__(self, step: int) -> None:
        """Step `step` begins."""
        now = self._clock.monotonic()
        histogram = self._histograms.get(step)
        half = step >= _FLIGHT
        if histogram is not None:
            histogram.observe(now - self._last[half])
        self._last[half] = now
        if self._inner is not None and step != COMPUTED:
            self._inner(step)


class Watched(Protocol):
    """What a watcher asks a worker, and a call step beside it."""

    @property
    def tasks(self) -> Iterable[Standing]: ...
    def waiting(self, ends: Mapping[TopicPartition, int]) -> Set[TopicPartition]: ...


async def watch_tasks(
    admin: Admin,
    worker: Watched,
    states: Mapping[str, WorkerState],
    *,
    metrics: WorkerMetrics,
    clock: Clock,
    watchdog: Watchdog,
    callers: Sequence[Watched] = (),
) -> None:
    """For ever: lag of each task and caller behind the log's end, and whether it advances; keys and bytes of the state,
    which is given by stage; the hottest keys; whether the log answers.
    """
    logger = structlog.get_logger("watch")
    watched = (worker, *callers)
    while True:
        await clock.sleep(_WATCH_SECONDS)
        metrics.hot_keys.look(clock.monotonic())
        for stage, state in states.items():
            metrics.state_keys.labels(stage).set(state.live_keys)
            metrics.state_bytes.labels(stage).set(state.bytes_estimate())
            metrics.state_evicted_keys.labels(stage).set(state.evicted)
        tasks = [task for one in watched for task in one.tasks]
        owned = {tp: task for task in tasks for tp in task.inputs}
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                ends = await admin.end_offsets(list(owned))
            waiting = {tp for one in watched for tp in one.waiting(ends)}
        except (EventLogError, TimeoutError):
            if metrics.log_answers:
                logger.error("the log does not answer")
            metrics.log_answers = False
            continue
        if not metrics.log_answers:
            logger.info("the log answers again")
        metrics.log_answers = True
        watchdog.look(tasks, waiting, ends)
        metrics.stalled_tasks.set(len(watchdog.stalled))
        metrics.lag.clear()
        for tp, end in ends.items():
            behind = max(0, end - owned[tp].position_of(tp))
            marks = tp not in waiting and behind <= _MARKS_MAX
            metrics.lag.labels(tp.topic, str(tp.partition)).set(0 if marks else behind)
