"""What a task is behind the log's end, as the metrics say it: records, and no marks of transactions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import pytest

from streamproc.clock import Clock
from streamproc.eventlog.contract import Admin, TopicPartition
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.observe import watch_tasks
from streamproc.runtime.partition_task import PartitionTask
from streamproc.runtime.watchdog import Watchdog

TP = TopicPartition("hop", 0)
END = 100


class World:
    """A log, a clock that ends with the second look, and a worker of one task."""

    def __init__(self, position: int, *, waits: bool) -> None:
        task = PartitionTask(0, TP)
        task.begin_at([position])
        self.tasks: Iterable[PartitionTask] = [task]
        self._waits, self._looks = waits, 0

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, END)

    def waiting(self, ends: Mapping[TopicPartition, int]) -> set[TopicPartition]:
        return {TP} if self._waits else set()

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self._looks += 1
        if self._looks > 1:
            raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("position", "waits", "lag"), [(END, False, 0), (END - 1, False, 0), (END - 1, True, 1), (END - 50, False, 50)]
)
async def test_marks_behind_what_is_decided_are_no_lag(position: int, waits: bool, lag: int) -> None:
    world, metrics = World(position, waits=waits), WorkerMetrics()
    with contextlib.suppress(asyncio.CancelledError):
        await watch_tasks(
            cast(Admin, world), cast(Any, world), {}, metrics=metrics, clock=cast(Clock, world), watchdog=Watchdog()
        )
    said = metrics.registry.get_sample_value("streamproc_lag_records", {"topic": "hop", "partition": "0"})
    assert said == lag
