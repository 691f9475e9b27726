"""Follows the journal, and labels, into a `Watch`.

It has no group and writes nothing to the log: a start reads the journal, and the stream of labels, from their
beginnings, and what it says depends on what stands there alone.
"""

from __future__ import annotations

__all__ = ["Follower", "Label", "LabelStream"]

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import structlog

from models.watching.days import Rows, joined
from models.watching.watch import Watch
from operators.plan import Plan
from state.errors import StateCorruptedError
from state.hashing import stable_hashes64
from streamproc.clock import Clock
from streamproc.eventlog.contract import Chunk, EventLog, TopicPartition
from streamproc.services.watching.blocks import BlockReader

_POLL_MS = 200
_REST = 10
"""What is said anew rests for that many times as long as it took, and a second at least."""


class Label(NamedTuple):
    """`kind`: 1 fraud, 0 legitimate, -1 taken back; known since `at`, ms."""

    id: str
    kind: int
    at: int


class LabelStream(NamedTuple):
    """`read`: a record -> its label; None: it is none."""

    topic: str
    read: Callable[[bytes], Label | None]


class Follower:
    """Follows one pipeline. `ready`: what was there at the start has been read. `bad`: records that are no labels."""

    def __init__(self, plan: Plan, log: EventLog, watch: Watch, clock: Clock, labels: LabelStream | None) -> None:
        self._plan, self._log, self._watch, self._clock, self._labels = plan, log, watch, clock, labels
        self._reader = BlockReader(plan)
        self._logger = structlog.get_logger("watching").bind(pipeline=plan.pipeline)
        self.ready = False
        self.bad = 0

    async def run(self, say: Callable[[], None], *, until_end: bool) -> None:
        """Follow until cancelled, or to what is the end of both now.

        Args:
            say: called in a thread when there may be something to say, after all that was there at the start was read.
            until_end: call it once, and end.

        Raises:
            EventLogError: the log failed.
        """
        topics = [self._plan.topics.journal, *([self._labels.topic] if self._labels else [])]
        tps = [TopicPartition(topic, p) for topic in topics for p in range(await self._partitions(topic, until_end))]
        begins, ends = await self._log.admin().begin_offsets(tps), await self._log.admin().end_offsets(tps)
        scanner = self._log.scanner()
        for tp in tps:
            scanner.seek(tp, begins[tp])
        due = 0.0
        try:
            while True:
                self.ready = self.ready or all(scanner.position(tp) >= ends[tp] for tp in tps)
                if self.ready and self._clock.monotonic() >= due:
                    begun = self._clock.monotonic()
                    await asyncio.to_thread(say)
                    if until_end:
                        return
                    now = self._clock.monotonic()
                    due = now + max(1.0, _REST * (now - begun))
                chunks = await scanner.poll(_POLL_MS)
                await asyncio.to_thread(self._take, chunks)
        finally:
            await scanner.close()

    def _take(self, chunks: Sequence[Chunk]) -> None:
        rows: list[Rows] = []
        for chunk in chunks:
            if chunk.tp.topic == self._plan.topics.journal:
                rows += self._rows(chunk)
            else:
                self._label(chunk)
        for some in joined(rows):
            self._watch.add(some)

    def _rows(self, chunk: Chunk) -> list[Rows]:
        found = []
        for offset, block in zip(chunk.offsets, chunk.values, strict=True):
            if not block:
                continue
            try:
                found.append(self._reader.read(block))
            except StateCorruptedError as error:
                where = {"partition": chunk.tp.partition, "offset": offset}
                self._logger.error("a block cannot be watched", **where, error=str(error))
        return found

    def _label(self, chunk: Chunk) -> None:
        assert self._labels is not None
        read = [self._labels.read(value) for value in chunk.values if value]
        found = [label for label in read if label is not None]
        if len(found) < len(read):
            self.bad += len(read) - len(found)
            self._logger.warning("records are no labels", partition=chunk.tp.partition, records=self.bad)
        if found:
            ids, kinds, times = zip(*found, strict=True)
            self._watch.label(stable_hashes64(ids), np.array(times, np.int64), np.array(kinds, np.int8))

    async def _partitions(self, topic: str, until_end: bool) -> int:
        """Of a topic; it is waited for."""
        while True:
            count = await self._log.admin().partitions(topic)
            if count or until_end:
                return count
            await asyncio.sleep(_POLL_MS / 1000)
