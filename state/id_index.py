"""The hash index over a log of ids: buckets of 8 slots; a hash has two buckets and lies in either.

A slot holds a tag byte and the low 32 bits of an entry's number. One whose number is no longer in the log is free:
nothing is deleted when entries expire. Of several entries with one hash only the latest is indexed.

The index grows by linear hashing, some buckets at a time: with R buckets at the round's beginning, bucket b < R is
split into b and its twin b + R, in ascending order, until there are 2 R and the next round begins. So a batch splits
about as many buckets as it needs for itself, and never waits for all.
"""

from __future__ import annotations

__all__ = ["IdIndex"]

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from state.entries import EntryLog
from state.pages import Pages

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
_WAYS = 8
_LOW = (1 << 32) - 1
_LOAD = 0.5  # of all slots: then buckets are split; those that wait are fuller by half at most, so rarely full
_BUCKETS_MIN = 64
_SPLIT_MIN = 256  # buckets: a split has a price of its own


class IdIndex:
    """Finds entries of `log` by hash. Every indexed entry must be in the log when it is found or moved."""

    def __init__(self, log: EntryLog) -> None:
        self._log = log
        self.buckets = self.round = _BUCKETS_MIN
        self._tag_pages = Pages(np.uint8, _BUCKETS_MIN * _WAYS)
        self._low_pages = Pages(np.uint32, _BUCKETS_MIN * _WAYS)
        self._tags, self._low = self._tag_pages.array, self._low_pages.array  # tag 0: never used
        self.slots: tuple[npt.NDArray[Any], ...] = self._tags, self._low

    @property
    def bytes(self) -> int:
        """Memory in use."""
        return 5 * _WAYS * self.buckets

    # ---- finding

    def find(self, lo: U64, hi: U64) -> tuple[I64, I64]:
        """Number of the latest entry of each hash, and its slot; -1 where there is none."""
        log = self._log
        found = np.full((2, len(lo)), -1, np.int64)
        buckets = self._buckets_of(lo, hi)
        tags = self._tags.view(np.uint64)[buckets].view(np.uint8).reshape(2, len(lo), _WAYS)
        which = (tags == _tags(hi)[:, None]).ravel().nonzero()[0]
        if not which.size:
            return found[0], found[1]
        pair = which // _WAYS
        slots = buckets.ravel()[pair] * _WAYS + which % _WAYS
        numbers = self._numbers(self._low[slots])
        there = np.flatnonzero(numbers >= log.first)
        numbers, slots, row = numbers[there], slots[there], pair[there] % len(lo)
        at = log.at(numbers)
        hit = (log.columns.lo[at] == lo[row]) & (log.columns.hi[at] == hi[row])
        row = row[hit]
        found[0, row] = numbers[hit]
        found[1, row] = slots[hit]
        return found[0], found[1]

    def find_one(self, lo: int, hi: int) -> tuple[int, int]:
        """`find` for a single hash."""
        log, tag = self._log, max(hi >> 56, 1)
        for word in (lo, hi):
            base = self._bucket_of(word) * _WAYS
            tags = self._tags[base : base + _WAYS].tobytes()
            way = tags.find(tag)
            while way >= 0:
                number = log.stop - 1 - ((log.stop - 1 - self._low.item(base + way)) & _LOW)
                if number >= log.first:
                    at = log.place(number)
                    if log.columns.lo.item(at) == lo and log.columns.hi.item(at) == hi:
                        return number, base + way
                way = tags.find(tag, way + 1)
        return -1, -1

    def _buckets_of(self, lo: U64, hi: U64) -> I64:
        """The two buckets of each hash, int64 (2, hashes)."""
        whole = self.buckets == self.round
        mask = np.uint64(self.round - 1 if whole else 2 * self.round - 1)
        buckets = np.empty((2, len(lo)), np.int64)
        np.bitwise_and(lo, mask, out=buckets[0].view(np.uint64))
        np.bitwise_and(hi, mask, out=buckets[1].view(np.uint64))
        if not whole:
            buckets -= (buckets >= self.buckets) * self.round  # its bucket is not split yet
        return buckets

    def _bucket_of(self, word: int) -> int:
        bucket = word & (2 * self.round - 1)
        return bucket if bucket < self.buckets else bucket - self.round

    def _numbers(self, low: npt.NDArray[np.uint32]) -> I64:
        """Entry numbers from their low 32 bits: the latest below `stop` with these bits."""
        last = self._log.stop - 1
        return last - ((last - low.astype(np.int64)) & _LOW)

    # ---- changing

    def put(self, lo: U64, hi: U64, numbers: I64) -> None:
        """Put entries into free slots of the emptier one of their two buckets."""
        while len(lo):
            buckets = self._buckets_of(lo, hi)
            free = self._free(buckets.ravel()).reshape(2, -1, _WAYS)
            room = free.sum(axis=2)
            second = room[1] > room[0]
            chosen = np.where(second, buckets[1], buckets[0])
            picked = np.where(second[:, None], free[1], free[0])
            way = picked.argmax(axis=1)
            fits = picked.any(axis=1)
            if len(set(chosen.tolist())) < len(chosen):
                rank = _ranks(chosen)
                fits = rank < np.maximum(room[0], room[1])
                later = np.flatnonzero(rank)
                way[later] = np.argmax(np.cumsum(picked[later], axis=1) > rank[later, None], axis=1)
            slots = chosen * _WAYS + way
            if fits.all():
                self._set(slots, hi, numbers)
                return
            self._set(slots[fits], hi[fits], numbers[fits])
            rest = ~fits
            lo, hi, numbers = lo[rest], hi[rest], numbers[rest]
            if not fits.any():
                self.make_room(lo.item(0), hi.item(0))

    def put_one(self, lo: int, hi: int, number: int) -> None:
        """`put` for a single entry."""
        bases = self._bucket_of(lo) * _WAYS, self._bucket_of(hi) * _WAYS
        for base in bases:
            way = self._tags[base : base + _WAYS].tobytes().find(0)
            if way >= 0:
                self._set_one(base + way, hi, number)
                return
        last, size = self._log.stop - 1, len(self._log)
        for base in bases:  # an entry that has left the log makes room, too
            for slot, low in enumerate(self._low[base : base + _WAYS].tolist(), base):
                if (last - low) & _LOW >= size:
                    self._set_one(slot, hi, number)
                    return
        self.put(np.array([lo], np.uint64), np.array([hi], np.uint64), np.array([number], np.int64))

    def _set(self, slots: I64, hi: U64, numbers: I64) -> None:
        self._tags[slots] = _tags(hi)
        self._low[slots] = (numbers & _LOW).astype(np.uint32)

    def _set_one(self, slot: int, hi: int, number: int) -> None:
        self._tags[slot] = max(hi >> 56, 1)
        self._low[slot] = number & _LOW

    def make_room(self, lo: int, hi: int) -> None:
        """Both buckets of a hash are full: one of their entries moves to its other bucket; else buckets are split."""
        log = self._log
        for base in (self._bucket_of(lo) * _WAYS, self._bucket_of(hi) * _WAYS):
            at = log.at(self._numbers(self._low[base : base + _WAYS]))
            pairs = self._buckets_of(log.columns.lo[at], log.columns.hi[at])
            others = pairs.sum(axis=0) - base // _WAYS
            room = self._free(others)
            for way in np.flatnonzero(room.any(axis=1)).tolist():
                slot = int(others[way]) * _WAYS + int(np.argmax(room[way]))
                self._tags[slot], self._low[slot] = self._tags[base + way], self._low[base + way]
                self._tags[base + way] = 0
                return
        self._split(_SPLIT_MIN)

    def supersede(self, slots: I64, numbers: I64) -> I64:
        """Other entries of the same hashes take `slots`; the numbers of those that had them."""
        before = self._numbers(self._low[slots])
        self._low[slots] = (numbers & _LOW).astype(np.uint32)
        return before

    def remove(self, slots: I64) -> None:
        """Free slots."""
        self._tags[slots] = 0

    def _free(self, buckets: I64) -> npt.NDArray[np.bool_]:
        age = np.uint32((self._log.stop - 1) & _LOW) - self._low.reshape(-1, _WAYS)[buckets]
        unused = self._tags.reshape(-1, _WAYS)[buckets] == 0
        free: npt.NDArray[np.bool_] = unused | (age >= np.uint32(len(self._log)))
        return free

    # ---- growing

    def reserve(self, count: int) -> bool:
        """Room for `count` more entries; whether slots moved."""
        size = self._log.stop - self._log.first + count
        if size <= self.buckets * _LOAD * _WAYS:
            return False
        self._split(max(math.ceil(size / (_LOAD * _WAYS)) - self.buckets, _SPLIT_MIN))
        return True

    def _split(self, count: int) -> None:
        """Split the next `count` buckets."""
        slots = (self.buckets + count) * _WAYS
        if slots > len(self._tags):
            self._tags, self._low, self.slots = self._tags[:0].copy(), self._low[:0].copy(), ()
            self._tag_pages.reserve(slots)
            self._low_pages.reserve(slots)
            self._tags, self._low = self.slots = self._tag_pages.array, self._low_pages.array
        while count:
            step = min(count, 2 * self.round - self.buckets)
            self._split_some(self.buckets - self.round, step)
            self.buckets += step
            count -= step
            if self.buckets == 2 * self.round:
                self.round = self.buckets

    def _split_some(self, begin: int, count: int) -> None:
        """Every entry stays in its bucket or moves to that bucket's twin, in the same way of it."""
        mine = slice(begin * _WAYS, (begin + count) * _WAYS)
        twins = slice((begin + self.round) * _WAYS, (begin + self.round + count) * _WAYS)
        log, tags, low = self._log, self._tags[mine].copy(), self._low[mine]
        numbers = self._numbers(low)
        used = np.flatnonzero((tags != 0) & (numbers >= log.first))
        at = log.at(numbers[used])
        lo = log.columns.lo[at]
        chose = (lo & np.uint64(self.round - 1)).view(np.int64) == begin + used // _WAYS
        word = np.where(chose, lo, log.columns.hi[at])
        moves = word & np.uint64(self.round) != 0
        for part, some in ((mine, used[~moves]), (twins, used[moves])):
            kept = np.zeros_like(tags)
            kept[some] = tags[some]
            self._tags[part] = kept
        self._low[twins] = low


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
