"""Names the task that stands still: its input waits, and its position has not moved for half a minute.

Whatever the reason: a producer that never ends its transaction, a restore that takes long, a log that answers and
delivers nothing, a mistake of ours. It only says so; what ends a worker is bounded where it happens.
"""

from __future__ import annotations

__all__ = ["Standing", "Watchdog"]

from collections.abc import Iterable, Mapping, Set
from typing import Protocol

import structlog

from streamproc.eventlog.contract import TopicPartition

_LOOKS_MAX = 15
"""Looks, not seconds: a process that was stopped has not looked. One every two seconds (observe.py)."""


class Standing(Protocol):
    """What can stand still: a task of a stage (see `PartitionTask`), a partition of a call step."""

    @property
    def source(self) -> TopicPartition: ...
    @property
    def inputs(self) -> tuple[TopicPartition, ...]: ...
    @property
    def position(self) -> int: ...
    @property
    def positions(self) -> tuple[int, ...]: ...
    @property
    def phase(self) -> str: ...
    @property
    def named(self) -> Mapping[str, object]: ...
    def position_of(self, tp: TopicPartition) -> int: ...


class Watchdog:
    """To be told at every look; `stalled` are the tasks that stand still."""

    def __init__(self) -> None:
        self.stalled: set[TopicPartition] = set()
        self._seen: dict[TopicPartition, tuple[tuple[int, ...], int]] = {}  # positions, looks that found it there
        self._logger = structlog.get_logger("watchdog")

    def look(self, tasks: Iterable[Standing], waiting: Set[TopicPartition], ends: Mapping[TopicPartition, int]) -> None:
        """`waiting`: whose input has something to decide. `ends`: where it ends."""
        seen: dict[TopicPartition, tuple[tuple[int, ...], int]] = {}
        for task in tasks:
            positions, looks = self._seen.get(task.source, (task.positions, 0))
            if not waiting.isdisjoint(task.inputs) and positions == task.positions:
                seen[task.source] = positions, looks + 1
                if looks + 1 == _LOOKS_MAX:
                    self._logger.error(
                        "a task stands still", **task.named, phase=task.phase, position=task.position,
                        end=ends.get(task.source),
                    )  # fmt: skip
            elif looks >= _LOOKS_MAX:
                self._logger.info("the task goes on", **task.named, position=task.position)
        self._seen = seen
        self.stalled = {tp for tp, (_, looks) in seen.items() if looks >= _LOOKS_MAX}
