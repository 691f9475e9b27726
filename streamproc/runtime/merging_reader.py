"""A group reader that merges the streams of a stage: a task's records come in the order of merging.

What is polled is held by task and stream until its place is certain: until each of the task's streams has a record
buffered, or is known to be caught up with the log, or has been waited for as long as its `wait:` says. Only then it is
delivered, cut into runs of one stream. Who reads on from a position forgets what is held of it.

What an earlier stage hands on is caught up only once that stage is: else a later stage's other streams would run ahead
of all that is still on its way. That is known of this worker's share alone; the others are about as far.
"""

from __future__ import annotations

__all__ = ["HANDED_ON_SECONDS", "MergedStage", "MergingReader"]

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import structlog

from streamproc.clock import Clock
from streamproc.eventlog.contract import NO_OFFSET, Chunk, CommittedOffset, GroupReader, TopicPartition
from streamproc.runtime.chunks import rows_of
from streamproc.runtime.merge import Lane, blocked_by, merge_heads

_LOOK_MS = 10
"""While something is held: whether a stream has caught up is looked at so often."""
_HELD_ROWS_MAX = 50_000
"""Of one stream of a task; beyond, no more of it is read until others come."""
_SETTLED_SECONDS = 0.2
"""The stages before have had nothing to do for so long: what they handed on has been read, or is known to be there."""
HANDED_ON_SECONDS = 30.0
"""How long what is handed on is waited for while the stages before are at work."""
Times = Callable[[Chunk], npt.NDArray[np.int64]]


class MergedStage(NamedTuple):
    """The streams of one stage, in the order that decides between equal times, by topic: how their records' event times
    are read (ms), and how long (seconds) others wait for them. `busy`: whether the stages before it have work, which
    hand on the first of its streams; None: there are none.
    """

    times: Mapping[str, Times]
    waits: Mapping[str, float]
    busy: Callable[[], bool] | None = None


class _Upstream:
    """The stages before a merged one."""

    def __init__(self, busy: Callable[[], bool] | None) -> None:
        self._busy = busy
        self._idle_since: float | None = None

    def look(self, now: float) -> None:
        """Before each poll."""
        if self._busy is not None and self._busy():
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now

    def settled(self, now: float) -> bool:
        """Whether all that they have handed on is there."""
        idle_since = self._idle_since
        return self._busy is None or (idle_since is not None and now - idle_since >= _SETTLED_SECONDS)


class _Buffer:
    """What is held of one partition of one stream."""

    def __init__(self, tp: TopicPartition, times: Times, wait_s: float, upstream: _Upstream | None) -> None:
        self.tp, self._wait_s, self._upstream = tp, wait_s, upstream
        self._times_of = times
        self._chunks: deque[Chunk] = deque()
        self.times = np.empty(0, np.int64)
        self.waited_since: float | None = None
        self.given_up = False
        self.resume_at: int | None = None
        """Where reading goes on, if too much is held for now."""

    @property
    def first(self) -> int | None:
        """The first offset that is held."""
        return self._chunks[0].offsets[0] if self._chunks else None

    @property
    def rows(self) -> int:
        """Records that are held."""
        return len(self.times)

    def is_behind(self, now: float) -> bool:
        """Whether more of it is on its way from stages before."""
        return self._upstream is not None and not self._upstream.settled(now)

    def has_waited(self, now: float) -> bool:
        """Asked while nothing of it is there: whether the others have waited for it long enough."""
        if self.waited_since is None:
            self.waited_since = now
        wait_s = max(self._wait_s, HANDED_ON_SECONDS) if self.is_behind(now) else self._wait_s
        return now - self.waited_since >= wait_s

    def add(self, chunk: Chunk) -> None:
        """Hold it, too."""
        self._chunks.append(chunk)
        self.times = np.concatenate((self.times, self._times_of(chunk)))

    def take(self, rows: int) -> list[Chunk]:
        """The first `rows` records."""
        taken: list[Chunk] = []
        self.times = self.times[rows:]
        while rows:
            chunk = self._chunks.popleft()
            size = len(chunk.offsets)
            if rows < size:
                self._chunks.appendleft(rows_of(chunk, rows, size))
                chunk, size = rows_of(chunk, 0, rows), rows
            taken.append(chunk)
            rows -= size
        return taken

    def forget(self) -> None:
        """Reading goes on elsewhere."""
        self._chunks.clear()
        self.times = np.empty(0, np.int64)
        self.waited_since = self.resume_at = None
        self.given_up = False


class MergingReader:
    """Keeps the contract's `GroupReader` over another one; topics of no merged stage pass as they are."""

    def __init__(
        self, reader: GroupReader, stages: Sequence[MergedStage], clock: Clock,
        gave_up: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """`gave_up`: told of each stream of a task that is not waited for any longer."""
        self._reader, self._clock, self._gave_up = reader, clock, gave_up
        self._stages = {topic: stage for stage in stages for topic in stage.times}
        self._upstreams = {id(stage): _Upstream(stage.busy) for stage in stages}
        self._tasks: dict[tuple[int, int], list[_Buffer]] = {}
        self._buffers: dict[TopicPartition, _Buffer] = {}

    async def start(self) -> None:
        await self._reader.start()

    async def poll(self, timeout_ms: int) -> list[Chunk]:
        deadline = self._clock.monotonic() + timeout_ms / 1000
        while True:
            left_ms = max(0, math.ceil((deadline - self._clock.monotonic()) * 1000))
            held = any(buffer.rows for buffer in self._buffers.values())
            for upstream in self._upstreams.values():
                upstream.look(self._clock.monotonic())
            out = [
                chunk
                for chunk in await self._reader.poll(min(left_ms, _LOOK_MS) if held else left_ms)
                if not self._hold(chunk)
            ]
            for buffers in self._tasks.values():
                if any(buffer.rows for buffer in buffers):
                    out += self._release(buffers)
            if out or self._clock.monotonic() >= deadline:
                return out

    async def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, CommittedOffset]:
        return await self._reader.committed(partitions)

    def resume(self, tp: TopicPartition, offset: int) -> None:
        self._forget(tp)
        self._reader.resume(tp, offset)

    def pause(self, tp: TopicPartition) -> None:
        self._forget(tp)
        self._reader.pause(tp)

    def position(self, tp: TopicPartition) -> int:
        buffer = self._buffers.get(tp)
        if buffer is not None and (buffer.first is not None or buffer.resume_at is not None):
            return buffer.first if buffer.first is not None else buffer.resume_at or 0
        return self._reader.position(tp)

    def caught_up(self, tp: TopicPartition) -> bool:
        buffer = self._buffers.get(tp)
        return self._reader.caught_up(tp) and (buffer is None or not buffer.rows)

    async def close(self, *, leave: bool = False) -> None:
        await self._reader.close(leave=leave)

    # ---- what is held

    def _forget(self, tp: TopicPartition) -> None:
        if tp in self._buffers:
            self._buffers[tp].forget()

    def _hold(self, chunk: Chunk) -> bool:
        """Whether the chunk has to find its place."""
        stage = self._stages.get(chunk.tp.topic)
        if stage is None:
            return False
        if chunk.tp not in self._buffers:
            self._open(stage, chunk.tp.partition)
        buffer = self._buffers[chunk.tp]
        buffer.add(chunk)
        if buffer.rows > _HELD_ROWS_MAX and buffer.resume_at is None:
            buffer.resume_at = chunk.next_offset
            self._reader.pause(chunk.tp)
        return True

    def _open(self, stage: MergedStage, partition: int) -> None:
        upstreams: list[_Upstream | None] = [self._upstreams[id(stage)], *[None] * (len(stage.times) - 1)]
        buffers = [
            _Buffer(TopicPartition(topic, partition), times, stage.waits[topic], upstream)
            for (topic, times), upstream in zip(stage.times.items(), upstreams, strict=True)
        ]
        self._tasks[id(stage), partition] = buffers
        self._buffers |= {buffer.tp: buffer for buffer in buffers}

    def _release(self, buffers: Sequence[_Buffer]) -> list[Chunk]:
        """What is certain of a task, in order."""
        if all(self._reader.position(buffer.tp) == NO_OFFSET and buffer.resume_at is None for buffer in buffers):
            for buffer in buffers:  # not ours any more
                buffer.forget()
            return []
        now = self._clock.monotonic()
        lanes = [Lane(buffer.times, self._is_open(buffer, now)) for buffer in buffers]
        blocked = blocked_by(lanes)
        for number, buffer in enumerate(buffers):
            if number not in blocked:
                buffer.waited_since, buffer.given_up = None, False
            elif buffer.has_waited(now):
                lanes[number] = lanes[number]._replace(open=False)
                self._give_up(buffer)
        taken = [chunk for lane, rows in merge_heads(lanes) for chunk in buffers[lane].take(rows)]
        for buffer in buffers:
            if buffer.resume_at is not None and buffer.rows <= _HELD_ROWS_MAX // 2:
                self._reader.resume(buffer.tp, buffer.resume_at)
                buffer.resume_at = None
        return taken

    def _give_up(self, buffer: _Buffer) -> None:
        if not buffer.given_up:
            buffer.given_up = True
            self._gave_up()
            topic, partition = buffer.tp
            structlog.get_logger("merge").warning(
                "not waited for any longer: the stream lags", topic=topic, partition=partition
            )

    def _is_open(self, buffer: _Buffer, now: float) -> bool:
        """Whether more of it may come that is to be waited for."""
        return buffer.resume_at is not None or buffer.is_behind(now) or not self._reader.caught_up(buffer.tp)
