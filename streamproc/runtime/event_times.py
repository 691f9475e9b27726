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

UNREADABLE = -1
"""The time of a record that will be refused for its time, or cannot be read: it waits for nothing."""


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
    """The same of a topic of rows in parts: up to which time all its stages have come, by the records so far. What is
    merged with it comes before rows that are whole later, not before the first parts of such rows.

    Args:
        times: of the records themselves.
        parts: how many a row has.
    """

    def __init__(self, times: Callable[[Chunk], npt.NDArray[np.int64]], parts: int) -> None:
        self._times, self._parts = times, parts
        self._reached: dict[TopicPartition, list[int]] = {}
        self._next: dict[TopicPartition, int] = {}

    def of(self, chunk: Chunk) -> npt.NDArray[np.int64]:
        """Int64 (records,), ms; each partition's chunks in order. Where reading went back, nothing is known before."""
        if chunk.offsets[0] < self._next.get(chunk.tp, 0):
            del self._reached[chunk.tp]
        self._next[chunk.tp] = chunk.next_offset
        reached = self._reached.setdefault(chunk.tp, [UNREADABLE] * self._parts)
        out = np.empty(len(chunk.offsets), np.int64)
        for i, (value, time) in enumerate(zip(chunk.values, self._times(chunk).tolist(), strict=True)):
            part = read_part(value)
            if part is not None and 0 <= part.number < self._parts:
                reached[part.number] = max(reached[part.number], time)
            out[i] = min(reached)
        return out
