"""What a start does with what it finds: lost, damaged, foreign and changed state; forgotten offsets."""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from operators.plan import Plan, replay_steps
from operators.score import ScoreOperator
from state.errors import ConfigError, EventLogError
from state.manifest import Cut, Manifest
from state.memory import MemoryDisk
from state.worker_state import FlushCut
from streamproc.eventlog.contract import NO_OFFSET, Chunk, CommittedOffset, TopicPartition
from streamproc.eventlog.simulated import Faults, VirtualTimeLoop
from streamproc.language import compile_pipeline, compile_stages, load_pipeline
from streamproc.runtime import recovery, state_keeper
from streamproc.runtime.journal import JournalEntry, JournalHead, Rejected
from streamproc.runtime.partition_task import PartitionTask, Phase
from streamproc.runtime.recovery import Recovery
from streamproc.runtime.replay import SilentReplayer
from streamproc.runtime.state_keeper import StateKeeper
from streamproc.runtime.stored_state import LocalMeta, NoCheckpoints
from tests.simulation.traffic import Record, traffic
from tests.simulation.world import World

CONFIGS = Path(__file__).parents[2] / "configs"
PIPELINE = CONFIGS / "bench_v1" / "pipeline.yaml"
CARD_FRAUD = CONFIGS / "card_fraud" / "pipeline.yaml"


@pytest.fixture(scope="module")
def plan() -> Plan:
    return compile_pipeline(load_pipeline(PIPELINE))


def scenario(
    plan: Plan, between: Callable[[World], Awaitable[None]], *, seed: int = 3, cards: int = 12, batch: int = 20
) -> World:
    """Decide half of the traffic, let `between` happen, decide the rest, and compare all with the oracle."""

    async def run() -> World:
        rng = random.Random(seed)
        world = World(plan, rng, Faults(rng))
        records = traffic(rng, 300, cards)
        await world.feed(records[:150])
        assert await world.work(batch_rows_max=batch, flush_rows=1)
        await between(world)
        await world.feed(records[150:])
        assert await world.work(batch_rows_max=20)
        verdict = await world.judge()
        assert not verdict.wrong, verdict.wrong[:3]
        return world

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(run())


async def nothing(world: World) -> None:
    """A plain restart."""


async def lose_disk(world: World) -> None:
    world.disk = MemoryDisk(world.rng)


async def damage_disk(world: World) -> None:
    assert world.disk.flip_bit(0) or world.disk.flip_bit(1)


async def forget_offsets(world: World) -> None:
    """As a broker does with a group that rested for longer than its retention."""
    world.cluster.group(world.plan.pipeline).offsets.clear()


async def forget_everything(world: World) -> None:
    await lose_disk(world)
    await forget_offsets(world)


async def foreign_disk(world: World) -> None:
    """State of a longer history than the log's: it must not be believed."""
    other = World(world.plan, random.Random(9), Faults(random.Random(9)))
    await other.feed(traffic(random.Random(9), 400, 12))
    assert await other.work()
    world.disk = other.disk


@pytest.mark.parametrize("between", [nothing, lose_disk, damage_disk, forget_offsets, forget_everything, foreign_disk])
def test_no_decision_is_lost_or_made_twice(plan: Plan, between: Callable[[World], Awaitable[None]]) -> None:
    scenario(plan, between)


def refusal(plan: Plan, between: Callable[[World], Awaitable[None]]) -> str:
    with pytest.raises(ConfigError) as refused:
        scenario(plan, between)
    return str(refused.value)


def test_a_changed_plan_is_a_barrier(plan: Plan) -> None:
    async def change(world: World) -> None:
        world.plan = msgspec.structs.replace(world.plan, state_fingerprint="another")

    assert "changed since this state was written" in refusal(plan, change)


def test_without_state_and_without_the_input_it_refuses(plan: Plan) -> None:
    async def truncate(world: World) -> None:
        world.disk = MemoryDisk(world.rng)
        for partition in (0, 1):
            world.cluster.truncate(TopicPartition(world.plan.stream.topic, partition), 5)

    assert "restore the state directory from a copy" in refusal(plan, truncate)


def test_without_state_and_without_the_journals_begin_it_refuses(plan: Plan) -> None:
    async def truncate(world: World) -> None:
        world.disk = MemoryDisk(world.rng)
        for partition in (0, 1):
            world.cluster.truncate(TopicPartition(world.plan.topics.journal, partition), 4)

    assert "no longer begins at the first record" in refusal(plan, truncate)


async def outlive_retention(world: World, *topics: str) -> None:
    """Nothing came for longer than input and journal are kept: all that was decided has left the log."""
    admin = world.client().admin()
    for topic in topics or (world.plan.stream.topic, world.plan.topics.journal):
        for tp, end in (await admin.end_offsets([TopicPartition(topic, p) for p in (0, 1)])).items():
            world.cluster.truncate(tp, end)


def test_state_at_the_committed_end_needs_nothing_of_the_log(plan: Plan) -> None:
    """A partition that rested: there is nothing to replay, so nothing need be there to be replayed."""

    async def run(between: Callable[[World], Awaitable[None]]) -> list[list[tuple[int, bytes, int]]]:
        world = World(plan, random.Random(3), Faults(random.Random(3)))
        records = traffic(random.Random(3), 300, 12)
        await world.feed(records[:150])
        assert await world.work()
        await between(world)
        await world.feed(records[150:])
        assert await world.work()
        return [await world.read(plan.topics.decisions, partition) for partition in (0, 1)]

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        found, wanted = runner.run(run(outlive_retention)), runner.run(run(nothing))
    values = [[value for _, value, _ in decisions] for decisions in found]
    assert values == [[value for _, value, _ in decisions] for decisions in wanted]


@pytest.mark.parametrize("disk", [nothing, lose_disk])
@pytest.mark.parametrize("input_too", [False, True])
def test_offsets_and_journal_that_are_both_gone_are_no_fresh_start(
    plan: Plan, disk: Callable[[World], Awaitable[None]], input_too: bool
) -> None:
    """A rest longer than what brokers keep of both: what is still in the input would be decided a second time."""

    async def rest_too_long(world: World) -> None:
        await disk(world)
        await forget_offsets(world)
        await outlive_retention(world, *[world.plan.stream.topic] * input_too, world.plan.topics.journal)

    assert "the group's offset and the journal's records are gone" in refusal(plan, rest_too_long)


class Counting:
    """A replayer that only counts its slices."""

    def __init__(self) -> None:
        self.slices = 0

    def replay(self, task: int, chunks: list[Chunk], rejected: Rejected, actions: bytes, tick: int | None) -> None:
        self.slices += 1

    def coded(self, entry: JournalEntry, block: bytes) -> JournalEntry:
        return entry

    def replay_last(self, task: int, chunks: list[Chunk], entry: JournalEntry) -> bool:
        return True


class NoStates:
    """No state on disk."""

    def local_meta(self, task: int) -> bytes | None:
        return None

    async def discard(self, task: int) -> None:
        raise AssertionError

    def relief(self, task: int, meta: LocalMeta) -> None:
        """Nothing is dirty."""


@pytest.mark.parametrize("slices", [0, 3])
def test_a_restore_is_stopped_between_slices(plan: Plan, monkeypatch: pytest.MonkeyPatch, slices: int) -> None:
    monkeypatch.setattr(recovery, "_REPLAY_ROWS", 10)

    async def run() -> None:
        world = World(plan, random.Random(3), Faults(random.Random(3)))
        await world.feed(traffic(world.rng, 300, 12))
        assert await world.work(batch_rows_max=5)
        source = TopicPartition(plan.stream.topic, 0)
        log = world.client()
        committed = await log.admin().committed(plan.pipeline, [source])
        replayer, stopped = Counting(), True
        restoring = Recovery(
            log, replayer, NoStates(), asyncio.Lock(), group=plan.pipeline, journal_topic=plan.topics.journal,
            state_fingerprint=plan.state_fingerprint, partitions=2,
        )  # fmt: skip
        restoring.stopping = lambda: stopped and replayer.slices >= slices
        task = PartitionTask(0, source)
        assert not await restoring.restore(task, committed)
        assert (task.phase, replayer.slices) == (Phase.RESTORING, slices)
        stopped = False
        assert await restoring.restore(PartitionTask(0, source), committed)
        assert replayer.slices > 2 * slices + 3

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())


def test_a_replay_of_rejected_records_is_sliced_too(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have no action, and yet they are read: not all of them at once."""
    monkeypatch.setattr(recovery, "_REPLAY_ROWS", 10)
    together, replay_slice = list[int](), Recovery._slice

    async def watched(self: Recovery, task: PartitionTask, feed: Any, pending: list[Any]) -> None:
        together.append(sum(len(found.entry.rejected) for found in pending))
        await replay_slice(self, task, feed, pending)

    monkeypatch.setattr(Recovery, "_slice", watched)

    async def run() -> None:
        world = World(plan, random.Random(3), Faults(random.Random(3)))
        await world.feed([Record(f"card{n}", b"no JSON") for n in range(300)])
        assert await world.work(batch_rows_max=5)
        source, log = TopicPartition(plan.stream.topic, 0), world.client()
        committed = await log.admin().committed(plan.pipeline, [source])
        restoring = Recovery(
            log, Counting(), NoStates(), asyncio.Lock(), group=plan.pipeline, journal_topic=plan.topics.journal,
            state_fingerprint=plan.state_fingerprint, partitions=2,
        )  # fmt: skip
        assert await restoring.restore(PartitionTask(0, source), committed)
        assert sum(together) > 100
        assert max(together) <= 10 + 5

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())


@pytest.mark.parametrize("budget", [0, 1])
def test_a_long_replay_is_written_as_it_goes(plan: Plan, monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
    """Else all that it changes would be in memory at its end, and be copied at once by the first flush."""
    monkeypatch.setattr(recovery, "_REPLAY_ROWS", 10)
    monkeypatch.setattr(state_keeper, "_RELIEF_ROWS" if budget == 0 else "_RELIEF_ROWS_TIGHT", 5)
    dirty = list[int]()
    replay = SilentReplayer.replay

    def watched(self: SilentReplayer, task: int, *rest: Any) -> None:
        replay(self, task, *rest)
        dirty.append(self._engine._state.dirty_rows(task))

    monkeypatch.setattr(SilentReplayer, "replay", watched)

    async def lose_all(world: World) -> None:
        world.memory_bytes = budget
        await lose_disk(world)
        world.disk.fail_write(OSError(errno.ENOSPC, "full"))

    scenario(plan, lose_all, cards=200, batch=5)
    assert len(dirty) > 10
    assert max(dirty) < 30


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_restore_that_fails_behind_a_flush_goes_on_from_there(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """What it wrote in its midst says exactly what it holds: the next attempt replays the rest, and finds it equal."""
    monkeypatch.setattr(recovery, "_REPLAY_ROWS", 12)
    monkeypatch.setattr(state_keeper, "_RELIEF_ROWS", 1)
    relieve, run_slice, replay_from = StateKeeper._relieve, Recovery._slice, Recovery._replay_from
    replayed, begun = list[tuple[int, int]](), list[tuple[int, int] | None]()

    async def failing(self: StateKeeper, task: int, cut: FlushCut) -> None:
        await relieve(self, task, cut)
        if len(replayed) == number:
            raise EventLogError("no answer", retriable=True)

    async def sliced(self: Recovery, task: PartitionTask, feed: Any, pending: list[Any]) -> None:
        if pending:
            replayed.append((pending[-1].entry.sequence, pending[-1].entry.ranges[-1].stop))
        await run_slice(self, task, feed, pending)

    async def watched(self: Recovery, task: PartitionTask, local: LocalMeta | None, *rest: Any) -> None:
        begun.append(None if local is None else (local.sequence, local.position))
        await replay_from(self, task, local, *rest)

    monkeypatch.setattr(StateKeeper, "_relieve", failing)
    monkeypatch.setattr(Recovery, "_slice", sliced)
    monkeypatch.setattr(Recovery, "_replay_from", watched)
    with capture_logs() as logs:
        scenario(plan, lose_disk, batch=5)
    assert begun[-3:] == [None, replayed[number - 1], None]
    assert not [line for line in logs if line["event"] == "local state discarded"]


class OneCheckpoint(NoCheckpoints):
    """One that stands at a given sequence, and whether it was removed."""

    def __init__(self, sequence: int, chain: bytes = b"") -> None:
        meta = LocalMeta(sequence, chain, NO_OFFSET, 0, "", 2)
        cut = Cut(sequence=sequence, chain=chain, position=0, state_fingerprint="", meta=meta.encode())
        self.manifest = Manifest(version=1, pipeline="", task=0, name="n", cut=cut, files=())
        self.removed = False

    async def newest_first(self, task: int, go_on: Callable[[], None]) -> list[Manifest]:
        return [self.manifest]

    async def discard(self, manifest: Manifest) -> None:
        self.removed = True


def test_a_restore_is_stopped_while_a_checkpoint_is_fetched(plan: Plan) -> None:
    stopped = False

    class Fetching(OneCheckpoint):
        async def install(self, manifest: Manifest, go_on: Callable[[], None]) -> bytes | None:
            nonlocal stopped
            go_on()
            stopped = True
            go_on()
            raise AssertionError

    async def run() -> None:
        world = World(plan, random.Random(3), Faults(random.Random(3)))
        await world.feed(traffic(world.rng, 100, 12))
        assert await world.work(batch_rows_max=5)
        source, log = TopicPartition(plan.stream.topic, 0), world.client()
        committed = await log.admin().committed(plan.pipeline, [source])
        head = JournalHead.parse(committed[source].metadata)
        restoring = Recovery(
            log, Counting(), NoStates(), asyncio.Lock(), group=plan.pipeline, journal_topic=plan.topics.journal,
            state_fingerprint="", partitions=2, checkpoints=Fetching(head.sequence, head.chain),
        )  # fmt: skip
        restoring.stopping = lambda: stopped
        assert not await restoring.restore(PartitionTask(0, source), committed)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())
    assert stopped


async def committed_while_it_stood_still(
    world: World, source: TopicPartition
) -> tuple[CommittedOffset, CommittedOffset]:
    """What a process asked for before it stood still, and what is committed since."""
    records, admin = traffic(world.rng, 300, 12), world.client().admin()
    found = []
    for part in (records[:100], records[100:]):
        await world.feed(part)
        assert await world.work(batch_rows_max=5)
        found.append((await admin.committed(world.plan.pipeline, [source]))[source])
    then, now = found
    assert JournalHead.parse(now.metadata).sequence > JournalHead.parse(then.metadata).sequence
    return then, now


@pytest.mark.parametrize("offsets_forgotten", [False, True])
@pytest.mark.parametrize(("ahead", "removed"), [(0, False), (1, True)])
def test_a_process_that_stood_still_removes_no_checkpoint_of_the_tasks_new_owner(
    plan: Plan, ahead: int, removed: bool, offsets_forgotten: bool
) -> None:
    """It asked for the offsets before it stood still; only what is ahead of those of today is of another history."""

    async def run() -> None:
        world = World(plan, random.Random(3), Faults(random.Random(3)))
        source, log = TopicPartition(plan.stream.topic, 0), world.client()
        then, now = await committed_while_it_stood_still(world, source)
        if offsets_forgotten:
            await forget_offsets(world)
        checkpoints = OneCheckpoint(JournalHead.parse(now.metadata).sequence + ahead)
        restoring = Recovery(
            log, Counting(), NoStates(), asyncio.Lock(), group=plan.pipeline, journal_topic=plan.topics.journal,
            state_fingerprint="", partitions=2, checkpoints=checkpoints,
        )  # fmt: skip
        with pytest.raises(ConfigError):  # the journal is of another plan
            await restoring.restore(PartitionTask(0, source), {source: then})
        assert checkpoints.removed == removed

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())


class OneState(NoStates):
    """A state on disk, that may be thrown away."""

    def __init__(self, sequence: int) -> None:
        self.meta: bytes | None = LocalMeta(sequence, b"c" * 32, 0, 0, "", 2).encode()

    def local_meta(self, task: int) -> bytes | None:
        return self.meta

    async def discard(self, task: int) -> None:
        self.meta = None


@pytest.mark.parametrize(("ahead", "kept"), [(0, True), (1, False)])
def test_a_process_that_stood_still_throws_no_state_of_the_tasks_new_owner_away(
    plan: Plan, ahead: int, kept: bool
) -> None:
    """Workers of a pod share its disk: another one may have had the task meanwhile, and ended."""

    async def run() -> None:
        world = World(plan, random.Random(3), Faults(random.Random(3)))
        source, log = TopicPartition(plan.stream.topic, 0), world.client()
        then, now = await committed_while_it_stood_still(world, source)
        states = OneState(JournalHead.parse(now.metadata).sequence + ahead)
        restoring = Recovery(
            log, Counting(), states, asyncio.Lock(), group=plan.pipeline, journal_topic=plan.topics.journal,
            state_fingerprint="", partitions=2,
        )  # fmt: skip
        task = PartitionTask(0, source)
        if kept:
            assert not await restoring.restore(task, {source: then})
        else:
            with pytest.raises(ConfigError):  # the journal is of another plan
                await restoring.restore(task, {source: then})
        assert (states.meta is not None) == kept

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())


def test_the_offsets_metadata_names_the_journals_last_record_and_the_one_before(plan: Plan) -> None:
    """R: a restore finds the journal's end, and where to scan from, without trusting anything local."""

    async def run() -> None:
        world = World(plan, random.Random(3), Faults(random.Random(3)))
        await world.feed(traffic(world.rng, 300, 12))
        assert await world.work(batch_rows_max=7)
        for partition in (0, 1):
            source = TopicPartition(plan.stream.topic, partition)
            committed = world.cluster.group(plan.pipeline).offsets[source]
            head = JournalHead.parse(committed.metadata)
            records = await world.read(plan.topics.journal, partition)
            offsets = [offset for offset, _, _ in records]
            assert head.previous_offset == offsets[-2]
            assert head.sequence == len(records) - 1

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())


def test_replay_needs_no_model() -> None:
    """R: what later rows may see of a decision is journaled, so a restore on a pod without the model is exact."""
    steps = compile_stages(load_pipeline(CARD_FRAUD))[-1].steps
    assert any(isinstance(step, ScoreOperator) for step in steps)
    silent = replay_steps(steps)
    assert silent
    assert not any(isinstance(step, ScoreOperator) for step in silent)
