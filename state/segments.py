"""The ids one task has seen lately: an append-only log of entries with a hash index over it.

    entries   id hash (2 x 64 bits), payload digest, event time, action; number n lies at (n - base) % capacity
    index     buckets of 8 slots; a hash has two buckets and lies in either: a tag byte and the entry's number (its
              low 32 bits). A slot whose number is no longer in the log is free: nothing is ever deleted

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

from state.entries import Entries, new_entries

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
_WAYS = 8
_LOW = (1 << 32) - 1
_FULL = 0.85  # of all slots: then the index doubles
_GROWTH = 1.2
_SEGMENTS = 8
BEGINNING = -(1 << 62)
UNINDEXED = -2


class _Changes:
    """What undoes one batch: where the log ended before it, and what it did to the index."""

    def __init__(self, stop: int, stream_time: int, segments: list[tuple[int, int]]) -> None:
        self.stop = stop
        self.stream_time = stream_time
        self.segments = segments
        self.written: list[I64] | None = []  # index slots taken; None: the index grew, slots have moved
        self.superseded: list[tuple[I64, I64]] = []  # index slots given to a later entry, and the numbers they held

    def wrote(self, slots: I64) -> None:
        if self.written is not None:
            self.written.append(slots)


class IdSegments:
    """The log and index of one task; `first <= number < stop` are in the log."""

    def __init__(self, horizon_ms: int) -> None:
        self.horizon = horizon_ms
        self.stream_time = BEGINNING
        self.first = self.stop = self._base = 0
        self.segments: list[tuple[int, int]] = []  # (slice of stream time, first number)
        self._width = max(1, horizon_ms // _SEGMENTS)
        self.columns = new_entries(64)
        self._tags = np.zeros(64 * _WAYS, np.uint8)  # 0: never used
        self._low = np.zeros(64 * _WAYS, np.uint32)
        self._changes: _Changes | None = None
        self._sealed: _Changes | None = None

    def __len__(self) -> int:
        return self.stop - self.first

    @property
    def bytes(self) -> int:
        """Memory in use."""
        return sum(column.nbytes for column in self.columns) + self._tags.nbytes + self._low.nbytes

    def at(self, numbers: I64) -> I64:
        """Where in `columns` entries lie."""
        return (numbers - self._base) % len(self.columns.time)

    def place(self, number: int) -> int:
        """`at` of one entry."""
        return (number - self._base) % len(self.columns.time)

    # ---- finding

    def find(self, lo: U64, hi: U64) -> tuple[I64, I64]:
        """Number of the latest entry of each hash, and its index slot; -1 where there is none."""
        found = np.full((2, len(lo)), -1, np.int64)
        buckets = self._buckets(lo, hi)
        tags = self._tags.view(np.uint64)[buckets].view(np.uint8).reshape(2, len(lo), _WAYS)
        which = np.flatnonzero(tags == _tags(hi)[:, None])
        pair = which // _WAYS
        slots = buckets.ravel()[pair] * _WAYS + which % _WAYS
        numbers = self._numbers(self._low[slots])
        row = pair % len(lo)
        at = self.at(numbers)
        hit = (numbers >= self.first) & (self.columns.lo[at] == lo[row]) & (self.columns.hi[at] == hi[row])
        row = row[hit]
        found[0, row] = numbers[hit]
        found[1, row] = slots[hit]
        return found[0], found[1]

    def find_one(self, lo: int, hi: int) -> tuple[int, int]:
        """`find` for a single hash."""
        tag = max(hi >> 56, 1)
        mask = len(self._tags) // _WAYS - 1
        for bucket in (lo & mask, hi & mask):
            base = bucket * _WAYS
            tags = self._tags[base : base + _WAYS].tobytes()
            way = tags.find(tag)
            while way >= 0:
                number = self.stop - 1 - ((self.stop - 1 - self._low.item(base + way)) & _LOW)
                if number >= self.first:
                    at = self.place(number)
                    if self.columns.lo.item(at) == lo and self.columns.hi.item(at) == hi:
                        return number, base + way
                way = tags.find(tag, way + 1)
        return -1, -1

    def _buckets(self, lo: U64, hi: U64) -> I64:
        mask = np.uint64(len(self._tags) // _WAYS - 1)
        buckets = np.empty((2, len(lo)), np.int64)
        np.bitwise_and(lo, mask, out=buckets[0].view(np.uint64))
        np.bitwise_and(hi, mask, out=buckets[1].view(np.uint64))
        return buckets

    def _numbers(self, low: npt.NDArray[np.uint32]) -> I64:
        """Entry numbers from their low 32 bits: the latest below `stop` with these bits."""
        last = self.stop - 1
        return last - ((last - low.astype(np.int64)) & _LOW)

    # ---- appending

    def begin(self) -> None:
        """Call before a batch's first change."""
        if self._changes is None:
            self._changes = _Changes(self.stop, self.stream_time, list(self.segments))

    def append(self, entries: Entries, stream: I64, slots: I64) -> I64:
        """Append entries that arrived at stream times `stream` (ascending); returns their numbers.

        `slots`: where `find` found the hash; -1 where it did not; `UNINDEXED` where a later one of `entries` has
        the same hash.
        """
        count = len(entries.lo)
        self._open_segments(stream)
        if self._reserve(count):
            slots = np.where(slots >= 0, self.find(entries.lo, entries.hi)[1], slots)
        numbers = self.stop + np.arange(count, dtype=np.int64)
        old = np.flatnonzero(slots >= 0)
        if old.size:
            self._supersede(slots[old], numbers[old])
        self._put(entries)
        new = np.flatnonzero(slots == -1)
        if len(new) < count:
            self._index(entries.lo[new], entries.hi[new], numbers[new])
        else:
            self._index(entries.lo, entries.hi, numbers)
        return numbers

    def append_one(self, lo: int, hi: int, *, digest: int, time: int, slot: int) -> None:
        """`append` for a single entry without an action yet, at the present stream time."""
        number = self.stop
        if not self.segments or self.segments[-1][0] != self.stream_time // self._width:
            self.segments.append((self.stream_time // self._width, number))
        if self._reserve(1) and slot >= 0:
            slot = self.find_one(lo, hi)[1]
        if slot >= 0:
            self._supersede(np.array([slot]), np.array([number]))
        self.stop += 1
        at = self.place(number)
        columns = self.columns
        columns.lo[at], columns.hi[at], columns.digest[at] = lo, hi, digest
        columns.time[at], columns.action[at] = time, 0
        if slot < 0:
            self._index_one(lo, hi, number)

    def _put(self, entries: Entries) -> None:
        begin, count = (self.stop - self._base) % len(self.columns.time), len(entries.lo)
        if begin + count <= len(self.columns.time):
            self.columns.put(slice(begin, begin + count), entries)
        else:
            self.columns.put(self.at(np.arange(self.stop, self.stop + count)), entries)
        self.stop += count

    def _supersede(self, slots: I64, numbers: I64) -> None:
        if self._changes is not None:
            self._changes.superseded.append((slots, self._numbers(self._low[slots])))
        self._low[slots] = (numbers & _LOW).astype(np.uint32)

    def _index_one(self, lo: int, hi: int, number: int) -> None:
        mask = len(self._tags) // _WAYS - 1
        for bucket in (lo & mask, hi & mask):
            slot = bucket * _WAYS + self._tags[bucket * _WAYS : (bucket + 1) * _WAYS].tobytes().find(0)
            if slot >= bucket * _WAYS:
                self._tags[slot] = max(hi >> 56, 1)
                self._low[slot] = number & _LOW
                if self._changes is not None:
                    self._changes.wrote(np.array([slot]))
                return
        self._index(np.array([lo], np.uint64), np.array([hi], np.uint64), np.array([number], np.int64))

    def _open_segments(self, stream: I64) -> None:
        slices = stream // self._width
        current = self.segments[-1][0] if self.segments else None
        if current is not None and int(slices[-1]) == current:
            return
        names, begins = np.unique(slices, return_index=True)
        for name, begin in zip(names.tolist(), begins.tolist(), strict=True):
            if current is None or name > current:
                self.segments.append((name, self.stop + begin))

    def _reserve(self, count: int) -> bool:
        """Room for `count` more entries; whether index slots moved."""
        need = len(self) + count
        if need > len(self.columns.time):
            self._grow(int(max(need, _GROWTH * len(self.columns.time))))
        moved = False
        while need > _FULL * len(self._tags):
            self._double()
            moved = True
        return moved

    def _grow(self, size: int) -> None:
        old, live = self.columns, len(self)
        begin = (self.first - self._base) % len(old.time)
        head = min(live, len(old.time) - begin)
        self.columns, self._base = new_entries(size), self.first
        self.columns.put(slice(0, head), old.part(begin, begin + head))
        self.columns.put(slice(head, live), old.part(0, live - head))

    def _index(self, lo: U64, hi: U64, numbers: I64) -> None:
        """Put entries into free slots of the emptier one of their two buckets."""
        while len(lo):
            buckets = self._buckets(lo, hi)
            free = self._free(buckets.ravel()).reshape(2, -1, _WAYS)
            room = free.sum(axis=2)
            second = room[1] > room[0]
            chosen = np.where(second, buckets[1], buckets[0])
            rank = _ranks(chosen)
            fits = rank < np.maximum(room[0], room[1])
            picked = free[second.astype(np.int64), np.arange(len(lo))]
            way = np.argmax(picked, axis=1)
            later = np.flatnonzero(rank)
            way[later] = np.argmax(np.cumsum(picked[later], axis=1) > rank[later, None], axis=1)
            slots = (chosen * _WAYS + way)[fits]
            self._tags[slots] = _tags(hi[fits])
            self._low[slots] = (numbers[fits] & _LOW).astype(np.uint32)
            if self._changes is not None:
                self._changes.wrote(slots)
            if not fits.any():
                self._double()
            rest = ~fits
            lo, hi, numbers = lo[rest], hi[rest], numbers[rest]

    def _free(self, buckets: I64) -> npt.NDArray[np.bool_]:
        age = np.uint32((self.stop - 1) & _LOW) - self._low.reshape(-1, _WAYS)[buckets]
        unused = self._tags.reshape(-1, _WAYS)[buckets] == 0
        free: npt.NDArray[np.bool_] = unused | (age >= np.uint32(len(self)))
        return free

    def _double(self) -> None:
        """Twice the buckets: every entry stays in its bucket or moves to that bucket's twin."""
        old = len(self._tags)
        numbers = self._numbers(self._low)
        at = self.at(numbers)
        bucket = np.arange(old, dtype=np.uint64) // np.uint64(_WAYS)
        lo = self.columns.lo[at]
        by = np.where(lo & np.uint64(old // _WAYS - 1) == bucket, lo, self.columns.hi[at])  # the word that chose it
        upper = by & np.uint64(old // _WAYS) != 0
        kept = np.where(numbers < self.first, np.uint8(0), self._tags)
        self._tags = np.concatenate((np.where(upper, np.uint8(0), kept), np.where(upper, kept, np.uint8(0))))
        self._low = np.tile(self._low, 2)
        for changes in (self._changes, self._sealed):
            if changes is not None:
                changes.written = None

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
        gone = 0
        while gone < len(segments) and final - ((segments[gone][0] + 1) * self._width - 1) > self.horizon:
            gone += 1
        if gone:
            self.first = max(self.first, segments[gone][1] if gone < len(segments) else self.stop)
            del segments[:gone]

    def undo(self) -> None:
        """Back to before the newest batch: the log is truncated."""
        changes = self._changes
        if changes is None:
            return
        self._changes = None
        if changes.written is not None:
            for slots in changes.written:
                self._tags[slots] = 0
            for slots, numbers in reversed(changes.superseded):
                self._low[slots] = (numbers & _LOW).astype(np.uint32)
            self.stop, self.stream_time, self.segments = changes.stop, changes.stream_time, changes.segments
            return
        self._tags[self._numbers(self._low) >= changes.stop] = 0
        self.stop, self.stream_time, self.segments = changes.stop, changes.stream_time, changes.segments
        lost = np.concatenate([np.empty(0, np.int64), *(numbers for _, numbers in changes.superseded)])
        lost = lost[(lost < self.stop) & (lost >= self.first)]
        final = self.stop if self._sealed is None else self._sealed.stop
        self._index_again(lost[lost < final])
        self._changes = self._sealed  # the slots of its entries go with it, if it goes
        self._index_again(lost[lost >= final])
        self._changes = None

    def _index_again(self, numbers: I64) -> None:
        at = self.at(numbers)
        self._index(self.columns.lo[at], self.columns.hi[at], numbers)

    @property
    def in_batch(self) -> bool:
        """Whether there is something to publish or undo."""
        return self._changes is not None or self._sealed is not None

    def restore(self, first: int, entries: Entries) -> None:
        """Fill an empty index with stored entries, numbered from `first` on; bounded by the horizon."""
        count = len(entries.lo)
        self.first = self.stop = self._base = first
        self.columns = new_entries(max(64, int(count * 1.1)))
        buckets = 64
        while count > _FULL / 1.3 * buckets * _WAYS:
            buckets *= 2
        self._tags, self._low = np.zeros(buckets * _WAYS, np.uint8), np.zeros(buckets * _WAYS, np.uint32)
        for begin in range(0, count, 8192):
            part = entries.part(begin, min(begin + 8192, count))
            numbers = self.stop + np.arange(len(part.lo), dtype=np.int64)
            self._put(part)
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
        self._supersede(slots[known], ordered[known])
        self._index(lo[~known], hi[~known], ordered[~known])


def _tags(hi: U64) -> npt.NDArray[np.uint8]:
    tags: npt.NDArray[np.uint8] = np.maximum(hi >> np.uint64(56), np.uint64(1)).astype(np.uint8)
    return tags


def _ranks(buckets: I64) -> I64:
    """Of each element: how many equal ones come before it."""
    order = np.argsort(buckets, kind="stable")
    ordered = buckets[order]
    begins = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    lengths = np.diff(begins, append=len(buckets))
    ranks = np.empty(len(buckets), np.int64)
    ranks[order] = np.arange(len(buckets)) - np.repeat(begins, lengths)
    return ranks
