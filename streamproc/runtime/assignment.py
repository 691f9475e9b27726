"""Assignments: the log's callbacks only record what happened; the worker's loop acts on it."""

from __future__ import annotations

__all__ = ["Assignment"]

import asyncio

from streamproc.eventlog.contract import Membership, TopicPartition


class Assignment:
    """What the log last told us; callbacks only record, the worker's loop acts."""

    def __init__(self, busy: asyncio.Lock) -> None:
        self._busy = busy
        self.partitions: frozenset[TopicPartition] = frozenset()
        self.membership: Membership | None = None
        self.changed = asyncio.Event()

    @property
    def settled(self) -> bool:
        """Whether the last one is adopted, and holds."""
        return self.membership is not None and not self.changed.is_set()

    async def on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """Stop deciding; return once no transaction is open."""
        self.membership = None
        self.changed.set()
        async with self._busy:
            pass

    async def on_assigned(self, partitions: frozenset[TopicPartition], membership: Membership) -> None:
        """Remember; the loop adopts them."""
        self.partitions = partitions
        self.membership = membership
        self.changed.set()
