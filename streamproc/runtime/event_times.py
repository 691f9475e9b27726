"""When a stream's records happened, before they are decoded: what merging goes by."""

from __future__ import annotations

__all__ = ["UNREADABLE", "EventTimes", "PartTimes"]

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from operators.decode import RecordDecoder
from operators.handoff import read_part
from operators.schema import StreamSchema
from operators.values import TIME_MAX
from streamproc.eventlog.contract import Chunk, TopicPartition
from streamproc.runtime.merging_reader import HANDED_ON_SECONDS

UNREADABLE = -1
"""The time of a record that will be refused for its time, or cannot be read: it waits for nothing."""

_ALONE_MS = int(HANDED_ON_SECONDS * 1000)
"""A refusal counts once no part has followed it for so long, and at the latest after twice that."""


class EventTimes:
    """Reads the event times of one stream's records and nothing else of them."""

    def __init__(self, decoder: RecordDecoder, stream: StreamSchema) -> None:
        self._decoder = decoder.only(())
        self._max_ahead_ms = stream.max_ahead_ms

    def of(self, chunk: Chunk) -> npt.NDArray[np.int64]:
        """Int64 (records,), ms; UNREADABLE where there is none."""
        times = self._decoder.times(list(chunk.values))
        if times is None:
            alone = [self._decoder.times([value]) for value in chunk.values]
            times = np.array([UNREADABLE if time is None else time[0] for time in alone], np.int64)
        logged = np.asarray(chunk.timestamps, np.int64)
        wrong = (times < 0) | (times > TIME_MAX) | ((times > logged + self._max_ahead_ms) & (logged >= 0))
        return np.where(wrong, UNREADABLE, times)


class PartTimes:
    """The same of a topic of rows in parts: up to which time all branches have come, by the records so far. What is
    merged with it comes before rows that are whole later, not before the first parts of such rows.

    A refusal says nothing of that: an early stage of a branch may tell of it while rows before are on their way to the
    last. Only a branch that has sent nothing else for long has come as far: else it would hold back what is merged.

    Args:
        times: of the records themselves.
        parts: how many a row has.
    """

    def __init__(self, times: Callable[[Chunk], npt.NDArray[np.int64]], parts: int) -> None:
        self._times, self._parts = times, parts
        self._branches: dict[TopicPartition, list[_Branch]] = {}
        self._next: dict[TopicPartition, int] = {}

    def of(self, chunk: Chunk) -> npt.NDArray[np.int64]:
        """Int64 (records,), ms; each partition's chunks in order. Where reading went back, nothing is known before."""
        if chunk.offsets[0] < self._next.get(chunk.tp, 0):
            del self._branches[chunk.tp]
        self._next[chunk.tp] = chunk.next_offset
        branches = self._branches.setdefault(chunk.tp, [_Branch() for _ in range(self._parts)])
        out = np.empty(len(chunk.offsets), np.int64)
        times = self._times(chunk).tolist()
        for i, (value, logged, time) in enumerate(zip(chunk.values, chunk.timestamps, times, strict=True)):
            part = read_part(value)
            if part is not None and 0 <= part.number < self._parts:
                if part.refused:
                    branches[part.number].refuse(time, logged)
                else:
                    branches[part.number].send(time)
            out[i] = min(branch.reached for branch in branches)
        return out


class _Branch:
    """How far a branch has come in one partition, ms of event time."""

    def __init__(self) -> None:
        self.reached = UNREADABLE
        self._refused = self._refused_before = UNREADABLE
        self._since = 0

    def send(self, time: int) -> None:
        """Its last stage has sent a part."""
        self.reached = max(self.reached, time)
        self._refused = self._refused_before = UNREADABLE

    def refuse(self, time: int, logged: int) -> None:
        """One of its stages has refused a row, and said so at the log's time `logged`."""
        if logged - self._since >= _ALONE_MS:
            self.reached = max(self.reached, self._refused_before)
            self._refused_before, self._refused, self._since = self._refused, UNREADABLE, logged
        self._refused = max(self._refused, time)
