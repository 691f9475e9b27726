"""When a stream's records happened, before they are decoded: what merging goes by."""

from __future__ import annotations

__all__ = ["UNREADABLE", "EventTimes"]

import numpy as np
import numpy.typing as npt

from operators.decode import RecordDecoder
from operators.schema import StreamSchema
from operators.values import TIME_MAX
from streamproc.eventlog.contract import Chunk

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
