"""Partitions of the journal whose next block names a model that the registry does not give now."""

from __future__ import annotations

__all__ = ["AGAIN_S", "Stuck", "Waiting", "rest_of"]

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from models.registry import OutOfReachError
from streamproc.clock import Clock
from streamproc.eventlog.contract import Chunk, TopicPartition

AGAIN_S = 5.0


class Stuck(NamedTuple):
    """What has been read of a partition, from the block on that cannot be explained; `why` not."""

    chunks: list[Chunk]
    why: OutOfReachError


class Waiting:
    """What waits for the registry. What stands in the log behind it is read again when its turn has come."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stuck: dict[TopicPartition, Stuck] = {}
        self._due = 0.0

    def __contains__(self, tp: TopicPartition) -> bool:
        return tp in self._stuck

    def __len__(self) -> int:
        return len(self._stuck)

    @property
    def oldest_ms(self) -> int | None:
        """When the oldest block that waits was journaled; None: none waits."""
        return min((stuck.chunks[0].timestamps[0] for stuck in self._stuck.values()), default=None)

    def add(self, stuck: Mapping[TopicPartition, Stuck]) -> None:
        """These wait, too; behind those that do."""
        self._stuck |= stuck
        now = self._clock.monotonic()
        if stuck and now >= self._due:
            self._due = now + AGAIN_S

    def turn(self) -> list[Chunk]:
        """What the partition has that waits longest, if it is time to try; it waits no more, unless it is added again.

        One at a time: a registry that gives no answer keeps nobody longer than it takes to ask once.
        """
        if not self._stuck or self._clock.monotonic() < self._due:
            return []
        return self._stuck.pop(next(iter(self._stuck))).chunks

    def check(self) -> None:
        """Raises OutOfReachError if something waits."""
        for stuck in self._stuck.values():
            raise stuck.why


def rest_of(chunk: Chunk, row: int) -> Chunk:
    """Its records from that one on."""
    return msgspec.structs.replace(
        chunk, offsets=chunk.offsets[row:], keys=chunk.keys[row:], values=chunk.values[row:],
        timestamps=chunk.timestamps[row:], headers=chunk.headers and chunk.headers[row:],
    )  # fmt: skip
