"""The seeded loop: legal orders only, and its processes pause and die as processes do."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Coroutine
from functools import partial
from typing import Any

import pytest

from tests.simulation.loop import Process, SeededLoop, SimulationError, run_in


def run(main: Coroutine[Any, Any, Any], seed: int = 1) -> tuple[Any, SeededLoop]:
    loop = SeededLoop(random.Random(seed))
    return run_in(loop, main), loop


async def _race() -> list[int]:
    order: list[int] = []

    async def note(number: int) -> None:
        await asyncio.sleep(0)
        order.append(number)

    await asyncio.gather(*(note(number) for number in range(4)))
    return order


def test_a_seed_is_an_order_and_a_trace() -> None:
    orders: dict[str, tuple[int, ...]] = {}
    for seed in range(150):
        order, loop = run(_race(), seed)
        again, same = run(_race(), seed)
        assert (order, loop.trace) == (again, same.trace)
        assert orders.setdefault(loop.trace, tuple(order)) == tuple(order)
    assert len(set(orders.values())) == 24


def _note(order: list[int], number: int, _: asyncio.Future[None]) -> None:
    order.append(number)


def test_callbacks_of_one_future_run_as_they_were_added() -> None:
    async def main() -> list[int]:
        order: list[int] = []
        future = asyncio.get_running_loop().create_future()
        for number in range(5):
            future.add_done_callback(partial(_note, order, number))
        future.set_result(None)
        await asyncio.sleep(0.001)
        return order

    assert all(run(main(), seed)[0] == [0, 1, 2, 3, 4] for seed in range(20))


def test_time_jumps_to_the_next_timer_and_a_short_one_comes_first() -> None:
    async def main() -> tuple[list[float], float]:
        done: list[float] = []

        async def sleep(seconds: float) -> None:
            await asyncio.sleep(seconds)
            done.append(seconds)

        await asyncio.gather(sleep(3600), sleep(1e-9), sleep(5))
        return done, asyncio.get_running_loop().time()

    assert run(main())[0] == ([1e-9, 5, 3600], 3600)


def test_a_deadlock_raises() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(SimulationError, match="deadlock"):
        run(main())


def test_a_loop_without_end_raises() -> None:
    async def main() -> None:
        while True:  # noqa: ASYNC110 - it is the point
            await asyncio.sleep(0)

    with pytest.raises(SimulationError, match="no end after 1001 steps"):
        run_in(SeededLoop(random.Random(0), steps_max=1_000), main())


def test_threads_are_refused() -> None:
    async def main() -> None:
        await asyncio.to_thread(threading.get_ident)

    with pytest.raises(SimulationError, match="thread"):
        run(main())


def test_a_paused_process_stands_still_and_goes_on() -> None:
    async def main() -> tuple[list[int], list[int]]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SeededLoop)
        process, beats = Process("p"), []

        async def beat() -> None:
            while True:
                await asyncio.sleep(1)
                beats.append(int(loop.time()))

        loop.start(process, beat())
        await asyncio.sleep(2.5)
        process.paused = True
        await asyncio.sleep(10)
        before = list(beats)
        loop.resume(process)
        await asyncio.sleep(1.5)
        return before, beats

    assert run(main())[0] == ([1, 2], [1, 2, 12, 13])


def test_a_dead_process_does_nothing_any_more_not_even_at_the_end() -> None:
    done: list[str] = []

    async def life() -> None:
        try:
            await asyncio.sleep(5)
            done.append("lived on")
        finally:
            await asyncio.sleep(0)
            done.append("cleaned up")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SeededLoop)
        process = Process("p")
        loop.start(process, life())
        await asyncio.sleep(1)
        process.dead = True
        await asyncio.sleep(10)

    _, loop = run(main())
    assert done == []
    assert loop.stray == []


def test_an_error_that_nobody_asks_for_is_kept() -> None:
    async def fail() -> None:
        raise ValueError("lost")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: 1 / 0)
        task = loop.create_task(fail())
        await asyncio.sleep(1)
        del task

    _, loop = run(main())
    assert any("ZeroDivisionError" in stray for stray in loop.stray)
    assert any("ValueError: lost" in stray for stray in loop.stray)
