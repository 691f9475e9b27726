"""The group reader of a simulated process: follows its group's rebalances from within `poll`."""

from __future__ import annotations

__all__ = ["SimulatedReader"]

import asyncio
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from state.errors import ConfigError, EventLogError
from streamproc.eventlog.contract import AssignmentListener, Chunk, CommittedOffset, TopicPartition
from streamproc.eventlog.simulated.faults import Fault
from streamproc.eventlog.simulated.group import SimulatedMembership

if TYPE_CHECKING:
    from streamproc.eventlog.simulated.client import SimulatedEventLog


class SimulatedReader:
    """See `contract.GroupReader`. A member that was thrown out joins again by itself, unless it is fenced."""

    def __init__(
        self,
        client: SimulatedEventLog,
        group: str,
        topics: tuple[str, ...],
        listener: AssignmentListener,
        instance: str,
    ) -> None:
        self._client = client
        self._cluster = client.cluster
        self._group = client.cluster.group(group)
        self._topics = topics
        self._listener = listener
        self._instance = instance
        self._scanner = client.scanner()
        self._member_id: int | None = None
        self._known: SimulatedMembership | None = None
        self._assigned: frozenset[TopicPartition] = frozenset()
        self._losses = 0
        self._telling: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._client.call(self._join)

    async def poll(self, timeout_ms: int) -> list[Chunk]:
        clock = self._cluster.clock
        deadline = clock.monotonic() + timeout_ms / 1000
        if not self._client.is_cut_off:
            await self._client.step("poll", lambda: None, takeover=self._steal)
        while True:
            if not self._client.is_cut_off and await self._follow():
                return []
            chunks = self._scanner.collect()
            left = deadline - clock.monotonic()
            if chunks or left <= 0:
                return chunks
            await self._cluster.wait(left)

    async def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, CommittedOffset]:
        deadline = self._cluster.clock.monotonic() + self._cluster.timeouts.call_s
        await self._client.step("committed", lambda: None, takeover=self._steal)
        if self._cluster.pending(self._group.name, partitions):
            self._cluster.faults.fired["committed", Fault.UNSTABLE_OFFSETS] += 1
        while self._cluster.pending(self._group.name, partitions):
            left = deadline - self._cluster.clock.monotonic()
            if left <= 0:
                raise EventLogError("committed: offsets stayed pending", retriable=True)
            await self._cluster.wait(left)
            self._client.alive()
        return self._cluster.committed(self._group.name, partitions)

    def resume(self, tp: TopicPartition, offset: int) -> None:
        if tp in self._assigned:
            self._scanner.seek(tp, offset)

    def pause(self, tp: TopicPartition) -> None:
        self._scanner.stop(tp)

    def position(self, tp: TopicPartition) -> int:
        return self._scanner.where(tp)

    def caught_up(self, tp: TopicPartition) -> bool:
        return self._scanner.caught_up(tp)

    async def close(self, *, leave: bool = False) -> None:
        await self._scanner.close()
        if self._telling is not None:
            self._telling.cancel()
        if leave and not self._client.is_cut_off and self._member_id is not None:
            self._leave(self._member_id)
        self.lose_session()
        self._member_id = None

    def lose_session(self) -> None:
        """Nobody sends heartbeats for this member any more, unless the network comes back in time."""
        if (member_id := self._member_id) is not None:
            self._losses += 1
            losses = self._losses
            self._cluster.after(self._cluster.timeouts.session_s, lambda: self._session_over(member_id, losses))

    def forget(self) -> bool:
        """The group gives the place away; whether there was one."""
        if self._member_id is None:
            return False
        self._leave(self._member_id)
        return True

    def _session_over(self, member_id: int, losses: int) -> None:
        if losses == self._losses and (self._member_id != member_id or not self._client.reachable):
            self._leave(member_id)

    def _leave(self, member_id: int) -> None:
        try:
            self._group.leave(self._instance, member_id)
        except EventLogError:
            return  # a successor has the place

    def _join(self) -> None:
        for topic in self._topics:
            if not self._cluster.partitions(topic):
                raise ConfigError(f"the event log has no topic {topic}", hint="create it first")
        self._member_id = self._group.join(self._instance, self._topics)
        self._known = None

    def _steal(self) -> None:
        """Another process joins in our place, and stays."""
        self._group.join(self._instance, self._topics)

    async def _follow(self) -> bool:
        """Keep up with the group, one change a call; whether there was one."""
        if self._telling is None:
            self._telling = self._next_change()
        if (telling := self._telling) is None:
            return False
        try:
            await asyncio.shield(telling)
        finally:
            if telling.done():
                self._telling = None
        return True

    def _next_change(self) -> asyncio.Task[None] | None:
        if self._member_id is None:
            raise EventLogError("the reader is not started")
        group, instance = self._group, self._instance
        if not group.holds(instance, self._member_id):
            return self._tell(self._rejoin_after_loss())
        if group.awaits(instance):
            return self._tell(self._give_up())
        current = SimulatedMembership(group.name, group.generation, instance, self._member_id)
        if group.preparing or self._known == current:
            return None
        self._known = current
        self._assigned = group.assignment(instance)
        return self._tell(self._listener.on_assigned(self._assigned, current))

    def _tell(self, change: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(change)

    async def _give_up(self) -> None:
        await self._revoke()
        self._group.rejoin(self._instance)

    async def _rejoin_after_loss(self) -> None:
        await self._revoke()
        self._join()

    async def _revoke(self) -> None:
        revoked = self._assigned
        if revoked:
            await self._listener.on_revoked(revoked)
        self._assigned = frozenset()
        await self._scanner.close()
