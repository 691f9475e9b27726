"""Reads committed decisions back while they come, and keeps what the summary needs of each."""

from __future__ import annotations

__all__ = ["DecisionReader", "Seen"]

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from streamproc.clock import Clock
from streamproc.eventlog.contract import Chunk, EventLog, TopicPartition

if TYPE_CHECKING:
    from operators.plan import Plan

_POLL_MS = 200


class Seen(msgspec.Struct, gc=False):
    """A decision as it was read."""

    transaction_id: str
    decision: str
    reasons: list[str]
    shadow: list[str] = []


class DecisionReader:
    """`seen` by transaction id; `arrived`: when each was read (monotonic seconds); `refused`: dead letters."""

    def __init__(self, log: EventLog, plan: Plan, clock: Clock) -> None:
        self._log = log
        self._topics = (plan.topics.decisions, plan.topics.dead_letters)
        self._clock = clock
        self._scanner = log.scanner()
        self._decode = msgspec.json.Decoder(Seen).decode
        self._lines: list[bytes] = []
        self._more = asyncio.Event()
        self.seen: dict[str, Seen] = {}
        self.arrived: dict[str, float] = {}
        self.actions: Counter[str] = Counter()
        self.decisions = 0
        self.refused = 0

    def begin(self, partitions: int) -> None:
        """Read from the beginning."""
        for tp in self._partitions(partitions):
            self._scanner.seek(tp, 0)

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            self._take(await self._scanner.poll(_POLL_MS))

    async def finish(self, partitions: int) -> None:
        """Once nobody writes any more: read what is left, so that a surplus decision would be seen."""
        ends = await self._log.admin().end_offsets(self._partitions(partitions))
        while any(end and self._scanner.position(tp) < end for tp, end in ends.items()):
            self._take(await self._scanner.poll(_POLL_MS))

    async def until(self, count: int, patience: float) -> bool:
        """Whether `count` records are decided or refused; False after `patience` seconds without any."""
        while self.decisions + self.refused < count:
            self._more.clear()
            try:
                async with asyncio.timeout(patience):
                    await self._more.wait()
            except TimeoutError:
                return False
        return True

    def write(self, path: Path) -> None:
        """The decisions, one a line, in the order they were read."""
        with open(path, "wb") as file:
            file.writelines(line + b"\n" for line in self._lines)

    def _partitions(self, count: int) -> list[TopicPartition]:
        return [TopicPartition(topic, p) for topic in self._topics for p in range(count)]

    def _take(self, chunks: Sequence[Chunk]) -> None:
        now = self._clock.monotonic()
        for chunk in chunks:
            values = [value for value in chunk.values if value]
            if chunk.tp.topic != self._topics[0]:
                self.refused += len(values)
                continue
            found = list(map(self._decode, values))
            self._lines += values
            self.decisions += len(found)
            for decision in found:
                self.seen.setdefault(decision.transaction_id, decision)
                self.arrived.setdefault(decision.transaction_id, now)
            self.actions.update([decision.decision for decision in found])
        if chunks:
            self._more.set()
