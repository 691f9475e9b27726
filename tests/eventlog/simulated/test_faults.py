"""Each fault at each step fires once, as planned, and has the effect it is named for."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence

import pytest

from state.errors import EventLogError, FencedError
from streamproc.eventlog.contract import CommittedOffset
from streamproc.eventlog.simulated import Crash, Fault, Faults
from streamproc.eventlog.simulated.faults import STEPS
from tests.eventlog.clients import transact
from tests.eventlog.simulated.world import IN, OTHER, OUT, Worker, World, one, settle

NEVER_DRAWN = {Fault.DELAYED_INTO_LATER, Fault.UNSTABLE_OFFSETS}
WRITING = ("open", "begin", "append", "offsets", "delivered", "commit")


class Errand:
    """One whole transaction, from `open` on."""

    def __init__(self) -> None:
        self.world = World()
        self.worker = Worker(self.world, "i0", self.world.client)

    async def prepare(self) -> None:
        await self.worker.reader.start()
        await settle(self.worker)

    async def run(self) -> None:
        await transact(
            await self.world.writer(),
            one(OUT, b"out"),
            one(OTHER, b"other"),
            offsets={IN: CommittedOffset(1, "done")},
            membership=self.worker.recorder.membership,
        )

    async def settled(self) -> bool:
        """Whether it is committed, seen by an heir; it must be whole or absent."""
        await self.world.cluster.client("heir").writer("w").open()
        seen = (await self.world.seen(OUT), await self.world.seen(OTHER))
        offsets = await self.world.cluster.client("heir").admin().committed("g", [IN])
        done = offsets == {IN: CommittedOffset(1, "done")}
        assert seen == (([b"out"], [b"other"]) if done else ([], []))
        return done


ERRORS: dict[Fault, type[BaseException]] = {
    Fault.LOST_REQUEST: EventLogError,
    Fault.LOST_REPLY: EventLogError,
    Fault.CRASH_BEFORE: Crash,
    Fault.CRASH_AFTER: Crash,
    Fault.FENCED: FencedError,
}
NEVER_FENCED = {"open", "committed"}


def cases(steps: Sequence[str], faults: Sequence[Fault]) -> list[tuple[str, Fault]]:
    return [
        (step, fault) for step in steps for fault in faults if fault is not Fault.FENCED or step not in NEVER_FENCED
    ]


@pytest.mark.parametrize(("step", "fault"), cases(WRITING, list(ERRORS)))
async def test_a_failed_step_leaves_all_or_nothing(step: str, fault: Fault) -> None:
    errand = Errand()
    await errand.prepare()
    errand.world.faults.plan(step, fault)
    with pytest.raises(ERRORS[fault]) as failure:
        await errand.run()
    assert errand.world.faults.fired == Counter({(step, fault): 1})
    assert await errand.settled() == (step == "commit" and fault in {Fault.LOST_REPLY, Fault.CRASH_AFTER})
    if fault in {Fault.LOST_REQUEST, Fault.LOST_REPLY}:
        assert isinstance(failure.value, EventLogError)
        assert failure.value.retriable


async def test_without_faults_the_errand_is_done() -> None:
    errand = Errand()
    await errand.prepare()
    await errand.run()
    assert await errand.settled()
    assert not errand.world.faults.fired


async def test_a_torn_append_writes_some() -> None:
    world = World()
    world.faults.plan("append", Fault.TORN)
    writer = await world.writer()
    await writer.begin()
    outputs = [one(OUT, b"%d" % n) for n in range(50)]
    with pytest.raises(EventLogError):
        await writer.append(outputs)
    written = world.cluster.end_offset(OUT)
    assert 0 < written < 50
    with pytest.raises(EventLogError):
        await writer.commit()
    await world.writer()
    assert await world.seen() == []


async def test_a_delayed_abort() -> None:
    world = World()
    world.faults.plan("abort", Fault.DELAYED)
    writer = await world.writer()
    await writer.begin()
    await writer.append([one(OUT, b"1")])
    with pytest.raises(EventLogError):
        await writer.abort()
    await transact(await world.writer("other"), one(OUT, b"2"))
    assert await world.seen() == []
    await world.clock.advance(3)
    assert await world.seen() == [b"2"]


@pytest.mark.parametrize(
    ("step", "fault"), cases(["poll", "committed"], [Fault.LOST_REQUEST, Fault.CRASH_BEFORE, Fault.FENCED])
)
async def test_a_failing_reader(step: str, fault: Fault) -> None:
    world = World()
    worker = Worker(world, "i0")
    await worker.reader.start()
    await settle(worker)
    worker.reader.resume(IN, 0)
    await world.client.appender().append([one(IN, b"1")])
    world.faults.plan(step, fault, client="i0")
    with pytest.raises(ERRORS[fault]):
        await (worker.reader.poll(0) if step == "poll" else worker.reader.committed([IN]))
    assert world.faults.fired == Counter({(step, fault): 1})
    if fault is Fault.LOST_REQUEST:
        assert [list(chunk.values) for chunk in await worker.reader.poll(0)] == [[b"1"]]


async def test_a_plan_names_client_and_turn() -> None:
    world = World()
    two = world.cluster.client("two")
    world.faults.plan("begin", Fault.LOST_REQUEST, client="two", skip=1)
    mine, theirs = await world.writer("mine"), await world.writer("theirs", two)
    await transact(mine)
    await transact(mine)
    await transact(theirs)
    with pytest.raises(EventLogError):
        await theirs.begin()
    for wrong in (("nothing", Fault.LOST_REPLY), ("begin", Fault.TORN), ("append", Fault.DELAYED)):
        with pytest.raises(ValueError, match="no fault"):
            world.faults.plan(*wrong)


def test_random_faults_come_from_the_seed_until_healed() -> None:
    def draws(seed: int) -> list[Fault | None]:
        faults = Faults(random.Random(seed), dict.fromkeys(Fault, 0.05))
        return [faults.draw(step, "c") for _ in range(200) for step in STEPS]

    assert draws(1) == draws(1) != draws(2)
    assert {fault for fault in draws(1) if fault} == set(Fault) - NEVER_DRAWN
    faults = Faults(random.Random(1), {Fault.LOST_REPLY: 1.0})
    faults.plan("open", Fault.CRASH_AFTER)
    faults.heal()
    assert [faults.draw(step, "c") for step in STEPS] == [None] * len(STEPS)


async def test_a_moving_coordinator_fails_all_calls_to_it_for_a_while() -> None:
    world = World()
    writer = await world.writer("mine")
    world.faults.plan("begin", Fault.COORDINATOR_MOVES)
    with pytest.raises(EventLogError, match="coordinator"):
        await writer.begin()
    with pytest.raises(EventLogError, match="coordinator"):
        await world.client.writer("theirs").open()
    await world.clock.advance(10)
    await transact(await world.writer("mine"))
    assert world.faults.fired == Counter({("begin", Fault.COORDINATOR_MOVES): 1})


async def test_an_append_that_was_not_delivered_is_told_by_delivered_alone() -> None:
    world = World()
    writer = await world.writer("mine")
    await writer.begin()
    world.faults.plan("append", Fault.UNDELIVERED)
    await writer.append([one(OUT, b"1"), one(OTHER, b"2")])
    with pytest.raises(EventLogError, match="delivered"):
        await writer.delivered()
    with pytest.raises(EventLogError):
        await writer.commit()
    assert await world.seen() == []


async def test_markers_that_lag_hold_readers_and_offsets_back() -> None:
    world = World()
    worker = Worker(world, "one")
    await worker.reader.start()
    await settle(worker)
    writer = await world.writer("mine")
    await writer.begin()
    await writer.append([one(OUT, b"1")])
    await writer.offsets({IN: CommittedOffset(1, "m")}, worker.membership)
    await writer.delivered()
    world.faults.plan("commit", Fault.MARKERS_LAG)
    await writer.commit()
    assert world.cluster.pending("g", [IN])
    asking = asyncio.ensure_future(worker.reader.committed([IN]))
    await world.clock.advance(10)
    assert await asking == {IN: CommittedOffset(1, "m")}
    assert await world.seen() == [b"1"]
    assert world.faults.fired["committed", Fault.UNSTABLE_OFFSETS] == 1
