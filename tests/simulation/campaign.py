"""One seed: faults while the records come, then all heals and everything must be decided, within a bound, as if
nothing had happened.
"""

from __future__ import annotations

__all__ = ["Outcome", "reproduction", "simulate"]

import asyncio
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import structlog

from operators.plan import Plan
from state.hashing import partition_of
from state.memory import MemoryBlobs, MemoryDisk
from streamproc.eventlog.contract import OutputRecords, TopicPartition, TopicSpec
from streamproc.eventlog.simulated import SimulatedCluster, VirtualClock, Without
from streamproc.runtime import candidates, recovery, state_keeper
from tests.simulation.calls import calls_behind
from tests.simulation.committed import digest, input_end
from tests.simulation.fleet import dealt_out_apart
from tests.simulation.judge import judge
from tests.simulation.loop import PROCESS, STEPS_MAX, SeededLoop, SimulationError, run_in
from tests.simulation.nemesis import Nemesis
from tests.simulation.pod import Pod, Shared, place
from tests.simulation.scenario import MORE, Scenario
from tests.simulation.tally import among_stages
from tests.simulation.traffic import staged_traffic, traffic, trouble
from tests.simulation.variants import plans_of_a_process, simulated_plans

CONVERGE_S = 90.0
"""Virtual seconds from the heal until everything is decided (I8)."""
STOP_S = 30.0
"""For up to three stages: a stop writes what all of them have."""
DAMAGE = {"bit_flip_row", "bit_flip_blob", "torn_write", "torn_blob"}
MILD = {"markers_lag", "unstable_offsets"}
"""What a log does now and then without any fault."""
LOUD = {
    "local state discarded", "checkpoint passed over: it is damaged", "checkpoints cannot be read",
    "checkpoint removed: it is ahead of the committed offsets, so of another history",
    "checkpoint passed over: the journal does not have, or not any more, what it is of",
}  # fmt: skip
"""What a worker says of state that is not what it should be: never without damage from outside."""
NEVER = "the last transaction's decisions come out otherwise here, on equal exact state: decided is as it was"
"""All workers have the same rules, models and numerics."""
EARLY_MS = 18 * 3_600_000
"""So far ahead are the first records of staged traffic dated: many more come near the bound of a day, and a few are
beyond it. A later stage, on a machine whose clock is behind, must not judge that anew.
"""
_LOOK_S = 0.2
_MEMORY = Path("/dev/shm")
Told = Callable[[float, str, str], None]


class Outcome(msgspec.Struct):
    """What one seed came to; nothing `wrong` is the only good one. `trace`: digests of all steps, and of the log."""

    seed: int
    records: int
    wrong: list[str]
    fired: dict[str, int]
    seen: dict[str, int]
    trace: str
    steps: int
    virtual_s: float


def reproduction(seed: int, more: frozenset[str] | None = None) -> str:
    """The line that runs a seed again; `more`: see `run_seed`."""
    return f"python -m tests.simulation --seed {seed}" + ("" if more is None else f" --more={','.join(sorted(more))}")


def simulate(scenario: Scenario, *, told: Told | None = None, without: frozenset[Without] = frozenset()) -> Outcome:
    """Run it; `told` hears of every step and every line of the log."""
    seed = scenario.seed
    loop = SeededLoop(random.Random(f"loop {seed}"), told, steps_max=scenario.stages * STEPS_MAX)
    seen: Counter[str] = Counter()
    with ExitStack() as more, _directory() as directory, _logs(loop, seen, told), _small(seed):
        if scenario.apart:
            more.enter_context(dealt_out_apart(seed))
        world = _World(scenario, loop, directory, without)
        try:
            wrong = run_in(loop, world.play())
        except SimulationError as error:
            wrong = [str(error)]
        except Exception as error:  # whoever haunts or judges fell over what it met: the seed is still to be named
            wrong = [f"{type(error).__name__}: {error} at {place(error)}"]
    wrong += [f"nobody asked for: {stray}" for stray in loop.stray]
    wrong += [f"the log says: {NEVER}"] * (seen[NEVER] > 0)
    fired = world.fired()
    if not DAMAGE & fired.keys():
        wrong += [f"nothing was damaged, but the log says: {said}" for said in sorted(LOUD & seen.keys())]
    if fired.keys() <= MILD:
        wrong.append("no fault has fired")
    seen += world.shared.reached + world.fed
    seen[f"worlds of {scenario.stages}"] += 1
    seen.update(f"worlds with a {what}" for what in scenario.more)
    seen["worlds with all of these"] += scenario.more == MORE.keys()
    if scenario.stages > 1:
        seen["worlds of stages apart"] += scenario.apart
        for kind, count in fired.items():
            seen[among_stages(kind)] += count
    trace = f"{loop.trace}-{digest(world.shared.cluster)}"
    return Outcome(seed, world.fed["records"], wrong, dict(fired), dict(seen), trace, loop.steps, loop.time())


class _World:
    def __init__(self, scenario: Scenario, loop: SeededLoop, directory: Path, without: frozenset[Without]) -> None:
        self.scenario, self.loop = scenario, loop
        plans = self._partitioned(simulated_plans(scenario.more)[scenario.stages])
        clock = VirtualClock()
        cluster = SimulatedCluster(
            clock, random.Random(f"cluster {scenario.seed}"),
            scenario.faults(random.Random(f"faults {scenario.seed}")),
            timeouts=scenario.timeouts, poll_bytes_max=scenario.poll_bytes_max,
            without=without,
        )  # fmt: skip
        blobs = MemoryBlobs(random.Random(f"blobs {scenario.seed}"))
        fresh = self._fresh if "table" in scenario.more else None
        self.shared = Shared(plans, scenario, loop, cluster, blobs, directory, fresh)
        self.disks: list[MemoryDisk] = []
        self.fed: Counter[str] = Counter()

    def _partitioned(self, plans: Sequence[Plan]) -> list[Plan]:
        return [msgspec.structs.replace(plan, topic_partitions=self.scenario.partitions) for plan in plans]

    def _fresh(self) -> list[Plan]:
        return self._partitioned(plans_of_a_process(self.scenario.stages, self.scenario.more, len(self.shared.runs)))

    def fired(self) -> Counter[str]:
        """Faults by kind."""
        fired = self.shared.fired + self.shared.blobs.fired
        for (_, fault), count in self.shared.cluster.faults.fired.items():
            fired[fault.name.lower()] += count
        for disk in self.disks:
            fired += disk.fired
        return +fired

    async def play(self) -> list[str]:
        """Everything, in order; what is wrong."""
        scenario, shared = self.scenario, self.shared
        specs = [TopicSpec(shared.plans[0].stream.topic, scenario.partitions)]
        shared.cluster.ensure_topics(specs)
        pods = self._pods()
        nemesis = Nemesis(shared, pods)
        haunting = asyncio.ensure_future(nemesis.haunt())
        changing = asyncio.ensure_future(self._change_limits())
        await self._feed()
        while self.fired().keys() <= MILD:  # noqa: ASYNC110 - virtual time is cheap
            await asyncio.sleep(_LOOK_S)
        if haunting.done():
            haunting.result()  # before `cancel`, which would forget its error
        haunting.cancel()
        nemesis.heal()
        changing.cancel()
        late = await self._converged(pods)
        if late or shared.wrong:
            return shared.wrong + late
        return await self._ended(pods)

    def _pods(self) -> list[Pod]:
        scenario, shared = self.scenario, self.shared
        rng = random.Random(f"disks {scenario.seed}")
        pods = []
        for number in range(scenario.pods):
            if not (self.disks and scenario.one_machine):
                self.disks.append(MemoryDisk(rng))
            pods.append(Pod(f"pod-{number}", shared, self.disks[-1], sync=rng.random() < 0.3))
        return pods

    async def _feed(self) -> None:
        scenario, shared = self.scenario, self.shared
        rng = random.Random(f"traffic {scenario.seed}")
        records = traffic(rng, scenario.records, scenario.cards)
        if scenario.stages > 1:
            records = staged_traffic(rng, scenario.records, scenario.cards, shared.cluster.clock.now_ms() + EARLY_MS)
        self.fed = trouble(records)
        topic = shared.plans[0].stream.topic
        while records:
            count = rng.choice((1, 5, 20, 60))
            now_ms = shared.cluster.clock.now_ms()
            for record in records[:count]:
                key = record.card.encode()
                tp = TopicPartition(topic, partition_of(key, scenario.partitions))
                shared.cluster.append([OutputRecords(tp, [key], [record.value], now_ms)], None)
            del records[:count]
            await asyncio.sleep(rng.expovariate(16 / scenario.feed_s))

    async def _change_limits(self) -> None:
        scenario = self.scenario
        rng = random.Random(f"limits {scenario.seed}")
        while "table" in scenario.more:
            self.shared.limits.change(rng, scenario.cards)
            await asyncio.sleep(rng.expovariate(20 / scenario.feed_s))

    async def _converged(self, pods: list[Pod]) -> list[str]:
        """I8: lag 0, and all workers ready, within a bound."""
        deadline = self.loop.time() + CONVERGE_S
        while lag := self._behind(pods):
            if self.loop.time() > deadline:
                return [f"not converged {CONVERGE_S:.0f} virtual seconds after the heal: {lag}"]
            if self.shared.wrong:
                return []
            await asyncio.sleep(_LOOK_S)
            self.shared.cluster.tick()
        return []

    def _behind(self, pods: list[Pod]) -> dict[str, Any]:
        shared = self.shared
        offsets = shared.cluster.group(shared.pipeline).offsets
        lag: dict[str, Any] = {}
        for plan in shared.plans:
            for task in range(self.scenario.partitions):
                tp = TopicPartition(plan.stream.topic, task)
                end = input_end(shared.cluster, tp)
                if end and (tp not in offsets or offsets[tp].offset < end):
                    lag[f"{shared.name(plan)} {task}"] = (offsets.get(tp), end)
                lag |= calls_behind(shared.cluster, plan, task)
        for pod in pods:
            if pod.run is None or not pod.run.worker.ready:
                lag[pod.name] = "not ready"
            elif not shared.limits.followed(pod.run.plans):
                lag[pod.name] = "has old tables"
        return lag

    async def _ended(self, pods: list[Pod]) -> list[str]:
        shared = self.shared
        runs = await asyncio.gather(*(pod.stop(STOP_S * max(1.0, len(shared.plans) / 3)) for pod in pods))
        wrong = [f"{pod.name} did not stop" for pod, run in zip(pods, runs, strict=True) if run is None]
        await asyncio.sleep(self.scenario.timeouts.transaction_s)
        shared.cluster.tick()
        return wrong + shared.wrong + judge(shared, list(dict.fromkeys(pod.disk for pod in pods)))


@contextmanager
def _small(seed: int) -> Iterator[None]:
    """Sizes at which a restore does what only long ones do: slices, flushes in its midst, checkpoints before near
    local state.
    """
    rng = random.Random(f"sizes {seed}")
    relief = rng.choice((1, 10, 200_000))
    with (
        mock.patch.multiple(recovery, _REPLAY_ROWS=rng.choice((7, 30, 8192))),
        mock.patch.multiple(candidates, _NEAR_ROWS=rng.choice((0, 40, 100_000))),
        mock.patch.multiple(state_keeper, _RELIEF_ROWS=relief, _RELIEF_ROWS_TIGHT=relief),
    ):
        yield


@contextmanager
def _directory() -> Iterator[Path]:
    """For snapshots; in memory if possible."""
    path = Path(tempfile.mkdtemp(prefix="simulation-", dir=_MEMORY if _MEMORY.is_dir() else None))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _logs(loop: SeededLoop, seen: Counter[str], told: Told | None) -> Iterator[None]:
    """Count what the workers log instead of writing it."""

    def note(_: Any, level: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        process = PROCESS.get()
        said = {"by": process.name if process else "-", "event": event.pop("event")}
        seen[said["event"]] += 1
        if told is not None:
            told(loop.time(), f"log {level}", " ".join(f"{key}={value}" for key, value in {**said, **event}.items()))
        raise structlog.DropEvent

    processors = structlog.get_config()["processors"]
    before = list(processors)
    processors[:] = [note]
    try:
        yield
    finally:
        processors[:] = before
