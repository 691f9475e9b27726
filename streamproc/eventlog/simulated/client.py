"""One simulated process's connection to the cluster: every call passes here, and may fail here."""

from __future__ import annotations

__all__ = ["SimulatedEventLog"]

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from state.errors import ConfigError, EventLogError
from streamproc.eventlog.contract import (
    NO_OFFSET,
    AssignmentListener,
    Chunk,
    CommittedOffset,
    OutputRecords,
    Retention,
    TopicPartition,
    TopicSpec,
)
from streamproc.eventlog.simulated.cluster import SimulatedCluster
from streamproc.eventlog.simulated.faults import Crash, Fault
from streamproc.eventlog.simulated.reader import SimulatedReader
from streamproc.eventlog.simulated.writer import SimulatedWriter, checked

R = TypeVar("R")
_NO_COORDINATOR = {"append", "delivered", "poll"}


class SimulatedEventLog:
    """See `contract.EventLog`; `crash`, `pause`, `resume`, `forget`, `cut_off`, `heal`, `died` are for the harness."""

    def __init__(self, cluster: SimulatedCluster, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.is_cut_off = False
        self.is_paused = False
        self.died: Callable[[], None] = lambda: None
        """Called at a crash, before the process notices."""
        self._crashed = False
        self._closed = False
        self._readers: list[SimulatedReader] = []

    # -- the contract

    @property
    def url(self) -> str:
        return f"simulated:{self.name}"

    def reader(
        self, group: str, topics: Sequence[str], listener: AssignmentListener, *, instance: str, index: int, count: int
    ) -> SimulatedReader:
        if not 0 <= index < count:
            raise ConfigError(f"worker {index} of {count}", hint="workers count from 0")
        reader = SimulatedReader(self, group, tuple(topics), listener, instance)
        self._readers.append(reader)
        return reader

    def writer(self, transactional_id: str) -> SimulatedWriter:
        return SimulatedWriter(self, transactional_id)

    def appender(self) -> SimulatedAppender:
        return SimulatedAppender(self)

    def scanner(self) -> SimulatedScanner:
        return SimulatedScanner(self)

    def admin(self) -> SimulatedAdmin:
        return SimulatedAdmin(self)

    async def close(self) -> None:
        """Sessions end without a farewell."""
        self._closed = True
        self._lose_sessions()

    # -- faults

    def crash(self) -> None:
        """Kill -9: every call raises Crash from now on; members stay until their sessions are over, an open
        transaction until its id is opened again or its time is over."""
        if self._crashed:
            return
        self._crashed = True
        self._lose_sessions()
        self.died()
        self.cluster.changed()

    def pause(self) -> None:
        """SIGSTOP: sessions run out; that nothing else happens is the harness's part."""
        self.is_paused = True
        self._lose_sessions()

    def resume(self) -> None:
        """SIGCONT."""
        self.is_paused = False
        self.cluster.changed()

    def forget(self) -> bool:
        """The group takes the process for dead, which learns it at its next call; whether it was a member."""
        return sum(reader.forget() for reader in self._readers) > 0

    def cut_off(self) -> None:
        """The network to this process is down: calls fail, polls bring nothing, sessions run out."""
        self.is_cut_off = True
        self._lose_sessions()

    def heal(self) -> None:
        """The network is back."""
        self.is_cut_off = False
        self.cluster.changed()

    @property
    def reachable(self) -> bool:
        """Whether heartbeats arrive."""
        return not (self._crashed or self._closed or self.is_cut_off or self.is_paused)

    def alive(self) -> None:
        """Raise Crash if the process is dead."""
        if self._crashed:
            raise Crash(self.name)

    async def call(self, effect: Callable[[], R]) -> R:
        """A request that only a crash or a cut can fail."""
        await self._arrive()
        return effect()

    async def step(
        self,
        step: str,
        effect: Callable[[], R],
        *,
        takeover: Callable[[], object] = lambda: None,
        part: Callable[[], object] = lambda: None,
        later: Callable[[float], None] = lambda seconds: None,
        otherwise: Mapping[Fault, Callable[[], R]] = MappingProxyType({}),
    ) -> R:
        """A request that the plan may fail.

        Args:
            step: its name in the plan.
            effect: what it does when it arrives.
            takeover: what another process does to us, in FENCED.
            part: does a part of it, in TORN.
            later: lets it happen in so many seconds, in DELAYED.
            otherwise: what takes the effect's place in MARKERS_LAG and UNDELIVERED.
        """
        await self._arrive()
        fault = self.cluster.faults.draw(step, self.name)
        self._before(fault, takeover, part, later)
        if step not in _NO_COORDINATOR and self.cluster.coordinator_moves:
            raise EventLogError(f"{step}: the coordinator moves", retriable=True)
        if fault in {Fault.LOST_REQUEST, Fault.TORN, Fault.DELAYED}:
            raise await self._timed_out(step)
        result = effect() if fault is None else otherwise.get(fault, effect)()
        if fault is Fault.CRASH_AFTER:
            self.crash()
            self.alive()
        if fault is Fault.LOST_REPLY:
            raise await self._timed_out(step)
        return result

    def _before(
        self,
        fault: Fault | None,
        takeover: Callable[[], object],
        part: Callable[[], object],
        later: Callable[[float], None],
    ) -> None:
        if fault is Fault.CRASH_BEFORE:
            self.crash()
            self.alive()
        elif fault is Fault.FENCED:
            takeover()
        elif fault is Fault.TORN:
            part()
        elif fault is Fault.DELAYED:
            later(self.cluster.faults.delay())
        elif fault is Fault.COORDINATOR_MOVES:
            self.cluster.move_coordinator()

    async def _arrive(self) -> None:
        self.alive()
        await self.cluster.clock.sleep(self.cluster.faults.latency())
        self.alive()
        self.cluster.tick()
        if self.is_cut_off:
            raise await self._timed_out("the network is down")

    async def _timed_out(self, what: str) -> EventLogError:
        await self.cluster.clock.sleep(self.cluster.faults.timeout_s)
        self.alive()
        return EventLogError(f"{what}: no answer", retriable=True)

    def _lose_sessions(self) -> None:
        for reader in self._readers:
            reader.lose_session()


class SimulatedAppender:
    """See `contract.Appender`."""

    def __init__(self, client: SimulatedEventLog) -> None:
        self._client = client

    async def append(self, outputs: Sequence[OutputRecords]) -> None:
        outputs = checked(outputs)
        await self._client.call(lambda: self._client.cluster.append(outputs, None))

    async def close(self) -> None:
        """Nothing is held."""


class SimulatedScanner:
    """See `contract.Scanner`."""

    def __init__(self, client: SimulatedEventLog) -> None:
        self._client = client
        self._positions: dict[TopicPartition, int] = {}
        self._reached: dict[TopicPartition, int] = {}

    async def poll(self, timeout_ms: int) -> list[Chunk]:
        clock = self._client.cluster.clock
        deadline = clock.monotonic() + timeout_ms / 1000
        while not (chunks := self.collect()) and (left := deadline - clock.monotonic()) > 0:
            await self._client.cluster.wait(left)
        return chunks

    def collect(self) -> list[Chunk]:
        """What is there now; positions move on, past markers and aborted records too."""
        self._client.alive()
        self._client.cluster.tick()
        if self._client.is_cut_off:
            return []
        chunks = []
        self._reached = {}
        for tp, position in self._positions.items():
            chunk, following = self._client.cluster.read(tp, position)
            self._positions[tp] = following
            if chunk is not None:
                chunks.append(chunk)
            if chunk is None or self._client.cluster.read(tp, following) == (None, following):
                self._reached[tp] = following
        return chunks

    def caught_up(self, tp: TopicPartition) -> bool:
        """Whether it is read, and was at its end when it was read last."""
        return tp in self._positions and self._positions[tp] == self._reached.get(tp)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._positions[tp] = offset
        self._client.cluster.changed()

    def position(self, tp: TopicPartition) -> int:
        return self._positions[tp]

    def where(self, tp: TopicPartition) -> int:
        """The position, or NO_OFFSET if it is not read."""
        return self._positions.get(tp, NO_OFFSET)

    def stop(self, tp: TopicPartition) -> None:
        """Read it no more."""
        self._positions.pop(tp, None)

    async def close(self) -> None:
        self._positions = {}


class SimulatedAdmin:
    """See `contract.Admin`."""

    def __init__(self, client: SimulatedEventLog) -> None:
        self._client = client
        self._cluster = client.cluster

    async def ensure_topics(self, specs: Sequence[TopicSpec]) -> None:
        await self._client.call(lambda: self._cluster.ensure_topics(specs))

    async def partitions(self, topic: str) -> int:
        return await self._client.call(lambda: self._cluster.partitions(topic))

    async def retention(self, topics: Sequence[str]) -> dict[str, Retention]:
        return await self._client.call(lambda: {topic: self._cluster.retention(topic) for topic in topics})

    async def begin_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return await self._client.call(lambda: {tp: self._cluster.begin_offset(tp) for tp in partitions})

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return await self._client.call(lambda: {tp: self._cluster.end_offset(tp) for tp in partitions})

    async def committed(
        self, group: str, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, CommittedOffset]:
        return await self._client.call(lambda: self._cluster.committed(group, partitions))
