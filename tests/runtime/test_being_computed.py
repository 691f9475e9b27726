"""What is being computed is not done yet: others look at the worker between two pieces of a batch."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from streamproc.eventlog.contract import GroupReader, TopicPartition
from streamproc.eventlog.simulated import VirtualClock, VirtualTimeLoop
from streamproc.runtime import worker as runtime
from streamproc.runtime.settings import WorkerSettings
from streamproc.runtime.stage import Stage, merging
from tests.runtime.chain_world import ROWS, fed_chain, worker_of
from tests.runtime.test_until_end import PIPELINE


def test_rows_that_are_computed_are_neither_done_nor_is_their_stage_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else another stream of the next stage would not wait for them (merging_reader.py)."""
    unlike, busy = list[str](), list[Callable[[], bool]]()

    def spied(reader: GroupReader, stages: Sequence[Stage], clock: Any, asked: Any, gave_up: Any) -> GroupReader:
        busy.append(lambda: asked(stages[:1]))
        return merging(reader, stages, clock, asked, gave_up)

    async def run() -> None:
        rng, clock, looks = random.Random(1), VirtualClock(), 0
        plans, log = await fed_chain(PIPELINE, rng, clock)
        worker = worker_of(plans, log, rng, WorkerSettings(until_end=True))
        ends = {TopicPartition(plans[0].stream.topic, partition): ROWS // 2 for partition in range(2)}

        def look() -> None:
            nonlocal looks
            inputs = {tp: task for task in worker.tasks for tp in task.inputs}
            undecided = {tp for tp, end in ends.items() if inputs[tp].position_of(tp) < end}
            looks += bool(undecided)
            if not undecided <= worker.waiting(ends):
                unlike.append("they do not wait")
            if undecided and not busy[0]():
                unlike.append("nobody is busy")

        def work(_: VirtualClock) -> float:
            asyncio.get_running_loop().call_soon(look)  # between this piece and the next
            return 0.0

        monkeypatch.setattr(VirtualClock, "work", work)
        await worker.run()
        await log.close()
        assert looks

    monkeypatch.setattr(runtime, "merging", spied)
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())
    assert unlike == []
