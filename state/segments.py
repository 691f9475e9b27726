"""The ids one task has seen lately: an append-only log (`state.entries`) with a hash index (`state.id_index`).

Of several entries with one hash the latest counts, and only that one is indexed: so a reused id needs no change in
the log, and undo is truncation. The log is cut into segments of `horizon / 8` of stream time (the running maximum of
event time, row by row); an entry's time is at most the stream time at its arrival, so when the stream is `horizon`
past a segment's end, all of it has expired, and the segment goes whole. That cannot be observed.

Stored: a state row, and chunks of entries as they were appended, one or more a flush, never a row an id.
"""

from __future__ import annotations

__all__ = ["UNINDEXED", "IdSegments"]

import numpy as np
import numpy.typing as npt

from state.entries import Entries, EntryLog
from state.id_index import IdIndex
from state.id_loop import (
    BEFORE,
    BEGIN,
    BUCKETS,
    END,
    FIRST,
    HORIZON,
    MADE,
    NEXT,
    NUMBERS,
    ORIGIN,
    ROUND,
    STOP,
    STREAM,
    THEN,
    TOOK,
    Arrays,
    Judge,
)

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
_SEGMENTS = 8
_RESTORED = 8192  # entries indexed at once
BEGINNING = -(1 << 62)
UNINDEXED = -2


class _Changes:
    """What undoes one batch: where the log ended before it, and which entries it superseded."""

    def __init__(self, stop: int, stream_time: int, segments: list[tuple[int, int]]) -> None:
        self.stop = stop
        self.stream_time = stream_time
        self.segments = segments
        self.superseded: list[tuple[I64, I64]] = []  # numbers of later entries, and those indexed before them


class IdSegments:
    """The log and index of one task; `first <= number < stop` are in the log."""

    def __init__(self, horizon_ms: int) -> None:
        self.horizon = horizon_ms
        self.stream_time = BEGINNING
        self.segments: list[tuple[int, int]] = []  # (slice of stream time, first number)
        self._width = max(1, horizon_ms // _SEGMENTS)
        self._log = EntryLog()
        self._index = IdIndex(self._log)
        self._numbers = np.zeros(NUMBERS, np.int64)  # what a loop is told, and tells, of these
        self._numbers[HORIZON] = horizon_ms
        self._changes: _Changes | None = None
        self._sealed: _Changes | None = None

    def __len__(self) -> int:
        return len(self._log)

    @property
    def first(self) -> int:
        """Number of the oldest entry."""
        return self._log.first

    @property
    def stop(self) -> int:
        """Number of the next entry."""
        return self._log.stop

    @property
    def columns(self) -> Entries:
        """Where entries lie (`at`); do not hold it over an append."""
        return self._log.columns

    @property
    def bytes(self) -> int:
        """Memory in use."""
        return self._log.bytes + self._index.bytes

    def at(self, numbers: I64) -> I64:
        """Where in `columns` entries lie."""
        return self._log.at(numbers)

    def place(self, number: int) -> int:
        """`at` of one entry."""
        return self._log.place(number)

    def find(self, lo: U64, hi: U64) -> tuple[I64, I64]:
        """Number of the latest entry of each hash, and its index slot; -1 where there is none."""
        return self._index.find(lo, hi)

    def find_one(self, lo: int, hi: int) -> tuple[int, int]:
        """`find` for a single hash."""
        return self._index.find_one(lo, hi)

    # ---- appending

    def begin(self) -> None:
        """Call before a batch's first change."""
        if self._changes is None:
            self._changes = _Changes(self._log.stop, self.stream_time, self.segments.copy())

    def append(self, entries: Entries, stream: I64, slots: I64) -> I64:
        """Append entries that arrived at stream times `stream` (ascending); returns their numbers.

        `slots`: where `find` found the hash; -1 where it did not; `UNINDEXED` where a later one of `entries` has
        the same hash.
        """
        count = len(entries.lo)
        self._open_segments(stream, self.stop)
        self._log.reserve(count)
        if self._index.reserve(count):
            slots = np.where(slots >= 0, self.find(entries.lo, entries.hi)[1], slots)
        numbers = self.stop + np.arange(count, dtype=np.int64)
        old = np.flatnonzero(slots >= 0)
        if old.size:
            self._supersede(slots[old], numbers[old])
        self._log.put(entries)
        new = np.flatnonzero(slots == -1)
        if len(new) < count:
            self._index.put(entries.lo[new], entries.hi[new], numbers[new])
        else:
            self._index.put(entries.lo, entries.hi, numbers)
        return numbers

    def append_one(self, lo: int, hi: int, *, digest: int, time: int, slot: int) -> None:
        """`append` for a single entry without an action yet, at the present stream time."""
        number = self.stop
        if not self.segments or self.segments[-1][0] != self.stream_time // self._width:
            self.segments.append((self.stream_time // self._width, number))
        self._log.reserve(1)
        if self._index.reserve(1) and slot >= 0:
            slot = self.find_one(lo, hi)[1]
        if slot >= 0:
            self._supersede(np.array([slot]), np.array([number]))
        self._log.put_one(lo, hi, digest, time)
        if slot < 0:
            self._index.put_one(lo, hi, number)

    def judge(self, loop: Judge, rows: I64, span: tuple[int, int], verdicts: Arrays, made: I64, *, done: int) -> int:
        """Judge the rows of `span` by a loop, see `id_loop.judge`, and remember those that are no duplicates.

        These are put into `made`, from column `done` on; returns where they end.
        """
        log, index, numbers = self._log, self._index, self._numbers
        start, stop = span
        log.reserve(stop - start)
        index.reserve(stop - start)
        begin = numbers[STOP] = numbers[BEGIN] = log.stop
        numbers[FIRST], numbers[ORIGIN], numbers[STREAM] = log.first, log.origin, self.stream_time
        numbers[NEXT], numbers[END], numbers[MADE], numbers[TOOK] = start, stop, done, 0
        numbers[BUCKETS], numbers[ROUND] = index.buckets, index.round
        while not loop((numbers, *log.arrays, *index.slots), rows, verdicts, made):
            log.stop = numbers.item(STOP)
            row = rows[:2, numbers[NEXT]].view(np.uint64)
            index.make_room(row.item(0), row.item(1))
            numbers[BUCKETS], numbers[ROUND] = index.buckets, index.round
        log.stop, self.stream_time = numbers.item(STOP), numbers.item(STREAM)
        end = done + log.stop - begin
        if end > done and (not self.segments or self.segments[-1][0] != self.stream_time // self._width):
            self._open_segments(made[THEN, done:end], begin)
        if numbers.item(TOOK) and self._changes is not None:
            before = made[BEFORE, done:end]
            taken = (before >= 0).nonzero()[0]
            self._changes.superseded.append((begin + taken, before[taken]))
        return end

    def _supersede(self, slots: I64, numbers: I64) -> None:
        before = self._index.supersede(slots, numbers)
        if self._changes is not None:
            self._changes.superseded.append((numbers, before))

    def _open_segments(self, stream: I64, number: int) -> None:
        """For entries from `number` on, which arrived at stream times `stream`."""
        slices = stream // self._width
        current = self.segments[-1][0] if self.segments else None
        if current is not None and int(slices[-1]) == current:
            return
        names, begins = np.unique(slices, return_index=True)
        for name, begin in zip(names.tolist(), begins.tolist(), strict=True):
            if current is None or name > current:
                self.segments.append((name, number + begin))

    # ---- ending a batch

    def seal(self) -> None:
        """What changes from now on is the next batch's."""
        self.begin()
        self._sealed, self._changes = self._changes, None

    def unseal(self) -> None:
        """The sealed batch is the newest one again."""
        self._changes, self._sealed = self._sealed, None

    def publish(self) -> None:
        """The oldest batch is final: segments that had wholly expired by its end go."""
        if self._sealed is None:
            self._changes = None
        self._sealed = None
        self.expire()

    def expire(self) -> None:
        """Drop the segments whose entries have all expired, as of the last batch that is final."""
        final = (self._sealed or self._changes or self).stream_time
        segments = self.segments
        if not segments or final - ((segments[0][0] + 1) * self._width - 1) <= self.horizon:
            return
        gone = 1
        while gone < len(segments) and final - ((segments[gone][0] + 1) * self._width - 1) > self.horizon:
            gone += 1
        self._log.drop(max(self.first, segments[gone][1] if gone < len(segments) else self.stop))
        del segments[:gone]

    def undo(self) -> None:
        """Back to before the newest batch: the log is truncated, what it superseded counts again."""
        changes, self._changes = self._changes, None
        if changes is None:
            return
        for numbers, before in reversed(changes.superseded):
            there = np.flatnonzero(before >= self.first)
            self._index.supersede(self._indexed(numbers[there])[1], before[there])
        found, slots = self._indexed(np.arange(changes.stop, self.stop))
        self._index.remove(slots[found >= changes.stop])
        self._log.truncate(changes.stop)
        self.stream_time, self.segments = changes.stream_time, changes.segments

    def _indexed(self, numbers: I64) -> tuple[I64, I64]:
        """`find` for the hashes of entries."""
        at = self.at(numbers)
        return self.find(self.columns.lo[at], self.columns.hi[at])

    @property
    def in_batch(self) -> bool:
        """Whether there is something to publish or undo."""
        return self._changes is not None or self._sealed is not None

    def restore(self, first: int, entries: Entries) -> None:
        """Fill an empty index with stored entries, numbered from `first` on; bounded by the horizon."""
        self._log = EntryLog(first)
        self._index = IdIndex(self._log)
        count = len(entries.lo)
        self._log.reserve(count)
        self._index.reserve(count)
        for begin in range(0, count, _RESTORED):
            part = entries.part(begin, min(begin + _RESTORED, count))
            numbers = self.stop + np.arange(len(part.lo), dtype=np.int64)
            self._log.put(part)
            self._index_latest(part, numbers)

    def _index_latest(self, part: Entries, numbers: I64) -> None:
        """Index stored entries: of each hash the last one only."""
        order = np.lexsort((numbers, part.hi, part.lo))
        lo, hi, ordered = part.lo[order], part.hi[order], numbers[order]
        last = np.ones(len(lo), np.bool_)
        last[:-1] = (lo[1:] != lo[:-1]) | (hi[1:] != hi[:-1])
        lo, hi, ordered = lo[last], hi[last], ordered[last]
        found, slots = self.find(lo, hi)
        known = found >= 0
        self._index.supersede(slots[known], ordered[known])
        self._index.put(lo[~known], hi[~known], ordered[~known])
