# mypy: allow-subclassing-any
"""aiokafka's group coordinator for a static member: fenced at once, stable offsets, and leaves only when told to."""

from __future__ import annotations

__all__ = ["StaticMember"]

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Any

from streamproc.eventlog.contract import CommittedOffset, TopicPartition
from streamproc.eventlog.kafka import wire
from streamproc.eventlog.kafka._aiokafka import GroupCoordinator, HeartbeatRequest
from streamproc.eventlog.kafka._aiokafka import errors as theirs
from streamproc.eventlog.kafka.assignor import TaskAssignor
from streamproc.eventlog.kafka.client import Client, read_stable
from streamproc.eventlog.kafka.errors import FencedInstanceError
from streamproc.eventlog.kafka.settings import Settings


class StaticMember(GroupCoordinator):
    """A member by its group.instance.id: a restart within the session time-out gets its partitions back at once."""

    def __init__(
        self,
        client: Client,
        subscription: Any,
        settings: Settings,
        group: str,
        instance: str,
        *,
        on_fenced: Callable[[], None],
    ) -> None:
        self.fenced = False
        self.ending = False  # joins no more
        self.leaving = False
        self._on_fenced = on_fenced
        self._assignor = TaskAssignor(instance)
        super().__init__(
            client,
            subscription,
            group_id=group,
            group_instance_id=instance,
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_interval_ms=settings.heartbeat_interval_ms,
            rebalance_timeout_ms=settings.rebalance_timeout_ms,
            retry_backoff_ms=settings.retry_backoff_ms,
            enable_auto_commit=False,
            assignors=(self._assignor,),
        )

    def snapshot(self) -> wire.Membership:
        """Who we are now; to be called while partitions are being assigned, and nowhere else."""
        return wire.Membership(self.group_id, self.generation, self.member_id, self._group_instance_id)

    def check(self) -> None:
        """Raise what the background tasks found.

        Raises:
            FencedInstanceError: another process took our place.
            KafkaError: aiokafka's other errors.
        """
        if self.fenced:
            raise FencedInstanceError
        self.check_errors()

    async def _send_req(self, request: Any) -> Any:
        if isinstance(request, HeartbeatRequest):
            request = wire.static_heartbeat(self.snapshot())
        response = await super()._send_req(request)
        if getattr(response, "error_code", 0) == wire.FENCED_INSTANCE_ID:
            # aiokafka would join again with an empty member id, and so take the place back from its new owner, in
            # the middle of that one's transaction. A fenced member stands still until it is closed.
            self.fenced = True
            self._on_fenced()
            await asyncio.wait([self._closing])
            raise FencedInstanceError
        return response

    async def _do_rejoin_group(self, subscription: Any) -> bool:
        if self.ending:  # the others would wait for us once more, and then again as we leave
            await asyncio.wait([self._closing])
            return False
        joined: bool = await super()._do_rejoin_group(subscription)
        return joined

    async def _on_join_complete(self, generation: int, *rest: Any) -> None:
        self._assignor.generation = generation
        await super()._on_join_complete(generation, *rest)

    async def _do_fetch_commit_offsets(
        self, partitions: Iterable[TopicPartition]
    ) -> dict[TopicPartition, CommittedOffset]:
        wanted = {TopicPartition(*tp) for tp in partitions}
        answer = await self._send_req(wire.stable_fetch(self.group_id, wanted))
        try:
            return read_stable(answer, wanted)
        except theirs.NotCoordinatorForGroupError:
            self.coordinator_dead()
            raise

    async def _maybe_leave_group(self) -> None:
        if self.leaving and self.generation > 0 and not self.fenced:
            with contextlib.suppress(theirs.KafkaError):  # else the session time-out does it
                await self._send_req(wire.static_leave(self.snapshot()))
        self.reset_generation()

    async def leave_unanswered(self) -> None:
        """Leave although the answer to our JoinGroup is still out: the group waits for somebody else.

        On another connection: on one the broker answers in order. Whoever has not been told a member id is known by
        the instance.
        """
        if self.coordinator_id is not None and not self.fenced:
            with contextlib.suppress(theirs.KafkaError):
                await self._client.send(self.coordinator_id, wire.static_leave(self.snapshot()))
