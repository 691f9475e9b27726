"""When a task's clock goes on without rows, and when it must not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streamproc.eventlog.contract import Chunk, CommittedOffset, TopicPartition
from streamproc.runtime.ending import Leg
from streamproc.runtime.partition_task import PartitionTask, Phase, TaskHead
from streamproc.runtime.ticks import Clocks

IDLE_MS = 1000
SOURCE = TopicPartition("in", 0)
NEXT = TopicPartition("next", 0)


class Clock:
    seconds = 100.0

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None: ...


class Log:
    """The log's ends, the group's commits and the reader's positions, all in one."""

    def __init__(self) -> None:
        self.ends = {SOURCE: 5, NEXT: 3}
        self.positions = {SOURCE: 5, NEXT: 3}
        self.answered: dict[TopicPartition, int] = {}
        self.is_caught_up = self.records = True
        self.meanwhile: Callable[[], object] = lambda: None

    def admin(self) -> Log:
        return self

    def scanner(self) -> Log:
        return self

    def seek(self, source: TopicPartition, offset: int) -> None: ...

    async def poll(self, timeout_ms: int) -> list[Chunk]:
        """Of each row that is not answered."""
        waits = [(tp, at) for tp, at in self.answered.items() if self.records and at < self.ends[tp]]
        return [Chunk(tp, [at], [b""], [b""], [0], at + 1) for tp, at in waits]

    async def close(self) -> None: ...

    async def end_offsets(self, sources: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {source: self.ends[source] for source in sources}

    async def begin_offsets(self, sources: list[TopicPartition]) -> dict[TopicPartition, int]:
        self.meanwhile()
        return dict.fromkeys(sources, 0)

    async def committed(self, group: str, sources: list[TopicPartition]) -> dict[TopicPartition, CommittedOffset]:
        return {source: CommittedOffset(self.answered[source], "") for source in sources}

    def caught_up(self, source: TopicPartition) -> bool:
        return self.is_caught_up

    def position(self, source: TopicPartition) -> int:
        return self.positions[source]


class Stage:
    """One task at `position`; `waiting`: (stream time, due)."""

    partitions = 1

    def __init__(self, source: TopicPartition, idle_ms: int = IDLE_MS) -> None:
        self.topics, self.idle_ms = [source.topic], idle_ms
        self.calls: list[Leg] = []
        self.waiting: tuple[int, int] | None = (50_000, 51_500)
        self.task = PartitionTask(0, source)
        self.task.enter(Phase.RUNNING)
        self.task.advance(TaskHead(5, 0, b""), 0)
        self.tasks = self.inputs = {source: self.task}

    @property
    def way(self) -> list[Leg]:
        return [*self.calls, Leg("g", self.topics, self.inputs)]

    def waits(self, task: int) -> tuple[int, int] | None:
        return self.waiting


class Bench:
    """A worker's clocks with one stage, or two."""

    def __init__(self, *stages: Stage) -> None:
        self.clock, self.log, self.stages = Clock(), Log(), stages or (Stage(SOURCE),)
        self.clocks = Clocks(self.log, self.log, self.clock, self.stages)  # type: ignore[arg-type]

    async def after(self, seconds: float, buffered: Any = ()) -> list[tuple[TopicPartition, int | None]]:
        self.clock.seconds += seconds
        assert await self.clocks.look(buffered) == bool(self.clocks.due)
        return [(tick.source, tick.tick) for tick in self.clocks.take()]


async def test_a_task_that_rests_ticks_when_something_is_due() -> None:
    bench = Bench()
    assert await bench.after(0) == []
    assert await bench.after(0.875) == []
    assert await bench.after(0.5) == [], "it rests, but nothing is due"
    assert await bench.after(0.25) == [(SOURCE, 51_625)], "as far as its newest row, and the time since"


async def test_the_time_since_is_that_since_the_last_tick() -> None:
    bench = Bench()
    await bench.after(0)
    assert await bench.after(2) == [(SOURCE, 52_000)]
    bench.stages[0].waiting = (52_000, 52_400)
    assert await bench.after(0.25) == []
    assert await bench.after(0.25) == [(SOURCE, 52_500)]


async def test_nothing_waits() -> None:
    bench = Bench()
    bench.stages[0].waiting = None
    await bench.after(0)
    assert await bench.after(60) == []


async def test_a_stage_without_idle_never_ticks() -> None:
    bench = Bench(Stage(SOURCE, idle_ms=0))
    await bench.after(0)
    assert await bench.after(60) == []


@pytest.mark.parametrize("what", ["buffered", "moved", "restoring", "behind", "waits to be merged"])
async def test_a_task_that_does_not_rest_does_not_tick(what: str) -> None:
    bench = Bench()
    stage = bench.stages[0]
    await bench.after(0)
    if what == "moved":
        stage.task.advance(TaskHead(6, 1, b""), 1)
    if what == "restoring":
        stage.tasks = {SOURCE: PartitionTask(0, SOURCE)}
    if what == "behind":
        bench.log.ends[SOURCE] = 6
    bench.log.is_caught_up = what != "waits to be merged"
    assert await bench.after(60, {SOURCE} if what == "buffered" else ()) == []
    if what in ("behind", "waits to be merged"):
        bench.log.positions[SOURCE], bench.log.is_caught_up = 6, True
        assert await bench.after(0) == [(SOURCE, 110_000)]
    elif what != "restoring":
        assert await bench.after(0.875) == [], "it begins to rest anew"
        assert await bench.after(0.75) == [(SOURCE, 51_625)]


async def test_a_later_stage_rests_only_when_nothing_comes_from_those_before() -> None:
    bench = Bench(Stage(SOURCE, idle_ms=0), Stage(NEXT))
    await bench.after(0)
    bench.log.ends[SOURCE] = 6
    assert await bench.after(60) == []
    bench.log.positions[SOURCE] = 6
    assert await bench.after(0) == [(NEXT, 110_000)]


@pytest.mark.parametrize("what", ["handed on", "polled", "polled before", "buffered before"])
async def test_what_comes_while_it_is_looked_is_no_rest(what: str) -> None:
    """The stage before hands a row on just before it is found to have decided all; or a poll brings a row."""
    bench = Bench(Stage(SOURCE, idle_ms=0), Stage(NEXT))
    await bench.after(0)
    log = bench.log

    def meanwhile() -> None:
        if what == "handed on":
            log.ends[NEXT] = 4
        if what == "polled":
            log.ends[NEXT] = log.positions[NEXT] = 4
        if what == "polled before":
            log.ends[SOURCE] = log.positions[SOURCE] = 6

    log.meanwhile = meanwhile
    assert await bench.after(60, {SOURCE} if what == "buffered before" else ()) == []
    log.positions, log.meanwhile = dict(log.ends), lambda: None
    assert await bench.after(0) == [(NEXT, 110_000)]


async def test_a_stage_rests_only_when_what_it_waits_for_is_answered() -> None:
    asked = TopicPartition("asked", 0)
    bench = Bench(Stage(SOURCE, idle_ms=0), Stage(NEXT))
    bench.stages[1].calls = [Leg("g:call", ["asked"])]
    bench.log.ends[asked], bench.log.answered[asked] = 8, 7
    await bench.after(0)
    assert await bench.after(60) == []
    bench.log.answered[asked] = 8
    assert await bench.after(0) == [(NEXT, 110_000)]


async def test_while_the_stage_before_always_has_work_a_later_one_ticks_as_far_as_that_has_come() -> None:
    bench = Bench(Stage(SOURCE, idle_ms=0), Stage(NEXT))
    before, log = bench.stages[0].task, bench.log
    await bench.after(0)
    log.ends[SOURCE] = log.positions[SOURCE] = 7
    assert await bench.after(2, {SOURCE}) == []
    log.ends[SOURCE] = log.positions[SOURCE] = 9
    assert await bench.after(1, {SOURCE}) == [], "what was there two seconds ago is polled, and not decided"
    before.advance(TaskHead(7, 1, b""), 1)
    assert await bench.after(1, {SOURCE}) == [(NEXT, 52_000)], "until then it rested; nobody knows more"
    bench.stages[1].waiting = (52_000, 52_500)
    assert await bench.after(1, {SOURCE}) == [], "the same is asked anew: 9 is the end now"
    before.advance(TaskHead(9, 2, b""), 2)
    assert await bench.after(1, {SOURCE}) == [(NEXT, 55_000)]


@pytest.mark.parametrize("what", ["stands still", "goes on", "ends with control records"])
async def test_under_load_what_waits_for_an_answer_is_still_to_come(what: str) -> None:
    asked = TopicPartition("asked", 0)
    bench = Bench(Stage(SOURCE, idle_ms=0), Stage(NEXT))
    bench.stages[1].calls = [Leg("g:call", ["asked"])]
    log = bench.log
    log.ends[asked], log.answered[asked] = 9, 6
    await bench.after(0)
    for _ in range(8):
        if what == "goes on" and log.answered[asked] < 8:
            log.answered[asked] += 1
        assert await bench.after(1, {SOURCE}) == []
    if what == "ends with control records":
        log.records, log.positions[asked] = False, 9
    else:
        log.answered[asked], log.ends[asked] = 9, 20
    assert await bench.after(1, {SOURCE}) == [(NEXT, 52_000)]
