"""What is measured beside the hot path: times of the steps, and gauges that a slow watcher sets."""

from __future__ import annotations

__all__ = ["STEPS", "Moving", "StepTimer", "Watched", "watch_tasks"]

import asyncio
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Protocol

import structlog

from state.errors import EventLogError
from state.worker_state import WorkerState
from streamproc.clock import Clock
from streamproc.eventlog.contract import Admin, TopicPartition
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.partition_task import PartitionTask
from streamproc.runtime.transaction import COMPUTED, Probe
from streamproc.runtime.watchdog import Watchdog

STEPS = {2: "collect", 3: "decode", 4: "steps", COMPUTED: "encode", 6: "produce", 7: "deliver", 8: "commit"}
_FLIGHT = 5
_WATCH_SECONDS = 2.0
_ANSWER_SECONDS = 3.0


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
    """What a watcher asks a worker."""

    @property
    def tasks(self) -> Iterable[PartitionTask]: ...
    def waiting(self, ends: Mapping[TopicPartition, int]) -> Set[TopicPartition]: ...


class Moving(Protocol):
    """What goes through partitions without tasks: a call step."""

    @property
    def positions(self) -> Mapping[TopicPartition, int]: ...


async def watch_tasks(
    admin: Admin,
    worker: Watched,
    states: Mapping[str, WorkerState],
    *,
    metrics: WorkerMetrics,
    clock: Clock,
    watchdog: Watchdog,
    callers: Sequence[Moving] = (),
) -> None:
    """For ever: lag of each task and caller behind the log's end, and whether a task advances; keys and bytes of the
    state, which is given by stage; the hottest keys; whether the log answers.
    """
    logger = structlog.get_logger("watch")
    while True:
        await clock.sleep(_WATCH_SECONDS)
        metrics.hot_keys.look(clock.monotonic())
        for stage, state in states.items():
            metrics.state_keys.labels(stage).set(state.live_keys)
            metrics.state_bytes.labels(stage).set(state.bytes_estimate())
            metrics.state_evicted_keys.labels(stage).set(state.evicted)
        owned = {tp: task for task in worker.tasks for tp in task.inputs}
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                moving = {tp: at for caller in callers for tp, at in caller.positions.items()}
                ends = await admin.end_offsets([*owned, *moving])
            waiting = worker.waiting(ends)
        except (EventLogError, TimeoutError):
            if metrics.log_answers:
                logger.error("the log does not answer")
            metrics.log_answers = False
            continue
        if not metrics.log_answers:
            logger.info("the log answers again")
        metrics.log_answers = True
        watchdog.look(worker.tasks, waiting, ends)
        metrics.stalled_tasks.set(len(watchdog.stalled))
        metrics.lag.clear()
        moving |= {tp: task.position_of(tp) for tp, task in owned.items()}
        for tp, end in ends.items():
            metrics.lag.labels(tp.topic, str(tp.partition)).set(max(0, end - moving[tp]))
