"""All stages of a pipeline in one process, without a log: what a worker computes, and the processor time of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from operators.plan import Plan
from state.hashing import partitions_of
from state.worker_state import WorkerState
from streamproc.cli.compose import build_engine
from streamproc.cli.preparing import prepare
from streamproc.cli.replay_files import NothingStored
from streamproc.eventlog.contract import Chunk, OutputRecords, TopicPartition
from streamproc.runtime.engine import Engine
from streamproc.runtime.partition_task import PartitionTask, Phase
from streamproc.runtime.rows import TaskInput


class Chain:
    """Engines with their tasks, fed batch by batch; `cpu`: seconds that they took, all but the log's."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        self._stages = [_Stage(plan) for plan in plans]
        self.cpu = 0.0

    @property
    def states(self) -> list[WorkerState]:
        """The stages' state."""
        return [stage.state for stage in self._stages]

    def feed(self, keys: list[bytes], values: list[bytes], now_ms: int) -> None:
        """Decide records, as one batch a stage; `now_ms`: their time in the log."""
        for stage in self._stages:
            inputs = stage.inputs(keys, values, now_ms)
            begun = time.process_time()
            outputs = stage.compute(inputs, now_ms)
            self.cpu += time.process_time() - begun
            keys, values = stage.handed_on(outputs)


class _Stage:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._engine: Engine
        self._engine, self.state = build_engine(plan, bytes(32), plan.topic_partitions)
        prepare(self._engine)
        self._tasks: dict[TopicPartition, PartitionTask] = {}
        self._offsets = [0] * plan.topic_partitions
        for number in range(plan.topic_partitions):
            self.state.add_task(number, NothingStored())
            task = PartitionTask(number, TopicPartition(plan.stream.topic, number))
            task.enter(Phase.RUNNING)
            self._tasks[task.source] = task

    def inputs(self, keys: list[bytes], values: list[bytes], now_ms: int) -> list[TaskInput]:
        where = partitions_of(keys, len(self._offsets)).tolist()
        rows: list[list[int]] = [[] for _ in self._offsets]
        for row, task in enumerate(where):
            rows[task].append(row)
        return [self._input(task, mine, keys, values, now_ms) for task, mine in enumerate(rows) if mine]

    def _input(self, task: int, rows: list[int], keys: list[bytes], values: list[bytes], now_ms: int) -> TaskInput:
        begin = self._offsets[task]
        end = self._offsets[task] = begin + len(rows)
        tp = TopicPartition(self._plan.stream.topic, task)
        some_keys: list[bytes | None] = [keys[i] for i in rows]
        some_values: list[bytes | None] = [values[i] for i in rows]
        return TaskInput(task, tp, [Chunk(tp, range(begin, end), some_keys, some_values, [now_ms] * len(rows), end)])

    def compute(self, inputs: list[TaskInput], now_ms: int) -> list[OutputRecords]:
        computed = self._engine.compute(inputs, self._tasks, now_ms)
        self._engine.publish()
        self._engine.make_room()
        for source, head in computed.heads.items():
            self._tasks[source].advance(head, head.sequence)
        return computed.outputs

    def handed_on(self, outputs: Sequence[OutputRecords]) -> tuple[list[bytes], list[bytes]]:
        """Keys and values for the next stage; nothing after the last one."""
        topic = self._plan.handoff.topic if self._plan.handoff is not None else None
        mine = [output for output in outputs if output.tp.topic == topic]
        keys: list[Any] = [key for output in mine for key in output.keys]
        values: list[Any] = [value for output in mine for value in output.values]
        return keys, values


def compiled(path: Path) -> tuple[Plan, ...]:
    """The plans of a pipeline file."""
    from streamproc.cli.common import load_stages

    return load_stages(str(path))
