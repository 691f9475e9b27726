"""What is told while engines make themselves ready; a worker decides before that, and need not wait for its end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from operators.block import BlockEncoder
from operators.deduplicate import Deduplicator
from operators.windows.operator import WindowOperator
from streamproc.cli.common import load_stages
from streamproc.cli.compose import build_engine
from streamproc.cli.preparing import prepare, prepare_beside
from streamproc.clock import SystemClock
from streamproc.runtime.spreading import Spreader

CONFIGS = Path(__file__).parents[2] / "configs"


class Engine:
    """Has this to do to be ready."""

    def __init__(self, *work: Callable[[], object]) -> None:
        self._work = work

    def prepare(self, enough: Callable[[], bool] = lambda: False) -> None:
        for one in self._work:
            if not enough():
                one()


def engine_of(*work: Callable[[], object]) -> Any:
    return cast(Any, Engine(*work))


class Clock(SystemClock):
    """Sleeps by giving others a turn. `slept`: how long in all, s."""

    slept = 0.0

    async def sleep(self, seconds: float) -> None:
        self.slept += seconds
        await asyncio.sleep(0)


def test_a_long_preparation_is_told_while_it_lasts() -> None:
    said: list[str] = []
    told = threading.Event()

    def tell(what: str) -> None:
        said.append(what)
        told.set()

    prepare(engine_of(told.wait), tell, patience=0.0)  # it ends when it was told
    assert said == [
        "steps make themselves ready: code is compiled for this machine where none is kept, once, about 20 s"
    ]


def test_a_short_one_is_not() -> None:
    said: list[str] = []
    before = threading.active_count()
    prepare(engine_of(lambda: None), said.append, patience=60.0)
    while threading.active_count() > before:
        pass
    assert not said


def test_an_engine_makes_steps_and_ids_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    ready: list[object] = []
    for of in (Deduplicator, WindowOperator):
        monkeypatch.setattr(of, "prepare", lambda self: ready.append(self))
    for plan in load_stages(str(CONFIGS / "bench_v1" / "pipeline.yaml")):
        build_engine(plan, bytes(32))[0].prepare()
    assert {type(one) for one in ready} == {Deduplicator, WindowOperator}


def test_an_engine_makes_its_outputs_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    ready: list[object] = []
    monkeypatch.setattr(BlockEncoder, "prepare", lambda self: ready.append(self))
    monkeypatch.setattr(Spreader, "prepare", lambda self: ready.append(self))
    (plan,) = load_stages(str(CONFIGS / "bench_v1" / "pipeline.yaml"))
    build_engine(plan, bytes(32))[0].prepare()
    assert list(map(type, ready)) == [BlockEncoder, Spreader]


async def test_nothing_is_made_ready_before_the_worker_decides() -> None:
    ready: list[str] = []
    clock, answers = Clock(), iter([False, False, True])
    engines = [engine_of(lambda: ready.append("a")), engine_of(lambda: ready.append("b"))]
    await prepare_beside(engines, lambda: next(answers), clock)
    assert ready == ["a", "b"]
    assert clock.slept == pytest.approx(0.1)


async def test_a_long_restore_goes_on_with_what_is_faster() -> None:
    ready: list[str] = []
    clock = Clock()
    await prepare_beside([engine_of(lambda: ready.append("a"))], lambda: False, clock)
    assert ready == ["a"]
    assert clock.slept == pytest.approx(2.0)


async def test_a_worker_that_stops_waits_for_one_step_at_most() -> None:
    begun, go_on, second = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        begun.set()
        go_on.wait(10)

    task = asyncio.ensure_future(prepare_beside([engine_of(first, second.set)], lambda: True, Clock()))
    assert await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    go_on.set()
    await asyncio.get_running_loop().shutdown_default_executor()
    assert not second.is_set()
