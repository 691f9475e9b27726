"""A worker's steps make themselves ready beside it: it decides before that, and need not wait for it to end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import msgspec
import pytest

from operators.batch import Batch
from operators.operator import Operator, OperatorContext, OutputField
from operators.plan import Plan
from streamproc.cli.preparing import prepare_beside
from streamproc.clock import SystemClock
from streamproc.language import compile_pipeline, read_pipeline

PIPELINE = """\
pipeline: p
streams: {s: {id: i, event_time: t, fields: {i: string, t: timestamp}}}
partition_by: i
decision: {severity: [decline, approve], otherwise: approve}
"""


class Clock(SystemClock):
    """Sleeps by giving others a turn. `slept`: how long in all, s."""

    slept = 0.0

    async def sleep(self, seconds: float) -> None:
        self.slept += seconds
        await asyncio.sleep(0)


class Step(Operator):
    """Does `work` to be ready."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work

    @property
    def inputs(self) -> tuple[str, ...]:
        return ()

    @property
    def outputs(self) -> tuple[OutputField, ...]:
        return ()

    def prepare(self) -> None:
        self._work()

    def process(self, batch: Batch, context: OperatorContext) -> None:
        raise AssertionError("not asked to")


@pytest.fixture
def plan() -> Plan:
    return compile_pipeline(read_pipeline(PIPELINE, "p.yaml"))


def of_steps(plan: Plan, *work: Callable[[], object]) -> list[Plan]:
    return [msgspec.structs.replace(plan, steps=tuple(map(Step, work)))]


async def test_steps_are_not_made_ready_before_the_worker_decides(plan: Plan) -> None:
    ready: list[str] = []
    clock, answers = Clock(), iter([False, False, True])
    await prepare_beside(
        of_steps(plan, lambda: ready.append("a"), lambda: ready.append("b")), lambda: next(answers), clock
    )
    assert ready == ["a", "b"]
    assert clock.slept == pytest.approx(0.1)


async def test_a_long_restore_goes_on_with_what_is_faster(plan: Plan) -> None:
    ready: list[str] = []
    clock = Clock()
    await prepare_beside(of_steps(plan, lambda: ready.append("a")), lambda: False, clock)
    assert ready == ["a"]
    assert clock.slept == pytest.approx(2.0)


async def test_a_worker_that_stops_waits_for_one_step_at_most(plan: Plan) -> None:
    begun, go_on, second = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        begun.set()
        go_on.wait(10)

    plans = of_steps(plan, first, second.set)
    task = asyncio.ensure_future(prepare_beside(plans, lambda: True, Clock()))
    assert await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    go_on.set()
    await asyncio.get_running_loop().shutdown_default_executor()
    assert not second.is_set()
