"""Blocks of an arena: power-of-two lengths, taken and given back by the thousand.

Fresh blocks come from a bump pointer (`end`), aligned to their own length, at most to `ALIGN_MAX`. What is given
back waits in a pool of its length. A pool that is empty splits a larger block before the pointer moves, and `merge`
joins free halves again, a region at a time: so the free space of one length serves every other, and the arena does
not grow while a good part of it is free.
"""

from __future__ import annotations

__all__ = ["BLOCK_MIN", "Blocks"]

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
BLOCK_MIN = 4
ALIGN_MAX = 4096
_REGION = 1 << 17  # entries that one `merge` looks at


class _Pool:
    """A stack of offsets."""

    def __init__(self) -> None:
        self._items = np.empty(16, np.int64)
        self.size = 0

    def push(self, offs: I64) -> None:
        size = self.size + len(offs)
        if size > len(self._items):
            items = np.empty(max(2 * len(self._items), size), np.int64)
            items[: self.size] = self.items
            self._items = items
        self._items[self.size : size] = offs
        self.size = size

    def pop(self, count: int) -> I64:
        self.size -= count
        return self._items[self.size : self.size + count].copy()

    def take_within(self, begin: int, end: int) -> I64:
        """Take out the offsets begin <= off < end, ascending."""
        items = self.items
        inside = (items >= begin) & (items < end)
        found: I64 = np.sort(items[inside])
        if found.size:
            kept = items[~inside]
            self._items[: len(kept)] = kept
            self.size = len(kept)
        return found

    @property
    def items(self) -> I64:
        return self._items[: self.size]


class Blocks:
    """Which parts of an arena are taken.

    `end`: entries up to the last block ever taken; `free`: those of them that are not in use.
    """

    def __init__(self) -> None:
        self.end = 0
        self.free = 0
        self._pools: dict[int, _Pool] = {}
        self._region = 0

    def take(self, count: int, length: int) -> I64:
        """Offsets of `count` blocks of `length` (a power of two) entries."""
        pool = self._pools.get(length)
        if pool is None or pool.size < count:
            pool = self._split(length, count)
        reuse = min(count, pool.size)
        self.free -= reuse * length
        fresh = count - reuse
        if not fresh:
            return pool.pop(reuse)
        align = min(length, ALIGN_MAX)
        begin = -(-self.end // align) * align
        self._leave(self.end, begin)
        self.end = begin + fresh * length
        offs = np.arange(begin, self.end, length, dtype=np.int64)
        return np.concatenate((pool.pop(reuse), offs)) if reuse else offs

    def give(self, offs: I64, lengths: I64) -> None:
        """Blocks that nobody uses any more."""
        each = lengths.tolist()
        self.free += sum(each)
        some = set(each)
        if len(some) == 1:
            self._pool(each[0]).push(offs)
            return
        for length in sorted(some):
            self._pool(length).push(offs[lengths == length])

    def merge(self) -> None:
        """Join the free halves within the next region; about 1 ms."""
        begin = self._region if self._region < self.end else 0
        self._region = begin + _REGION
        length = BLOCK_MIN
        while length < ALIGN_MAX:
            pool = self._pools.get(length)
            if pool is not None and pool.size > 1:
                offs = pool.take_within(begin, begin + _REGION)
                first = np.zeros(len(offs), np.bool_)
                first[:-1] = (offs[:-1] & length == 0) & (offs[1:] == offs[:-1] + length)
                alone = ~first
                alone[1:] &= ~first[:-1]
                pool.push(offs[alone])
                self._pool(2 * length).push(offs[first])
            length *= 2

    def _pool(self, length: int) -> _Pool:
        pool = self._pools.get(length)
        if pool is None:
            pool = self._pools[length] = _Pool()
        return pool

    def _split(self, length: int, count: int) -> _Pool:
        """Cut larger free blocks until there are `count` of `length`, or none is left."""
        pool = self._pool(length)
        for larger in sorted(size for size, other in self._pools.items() if size > length and other.size):
            if pool.size >= count:
                break
            parts = larger // length
            offs = self._pools[larger].pop(min(self._pools[larger].size, -(-(count - pool.size) // parts)))
            pool.push((offs[:, None] + np.arange(parts, dtype=np.int64) * length).ravel())
        return pool

    def _leave(self, begin: int, end: int) -> None:
        """The hole that an alignment leaves is free."""
        self.free += end - begin
        while begin < end:
            length = min(begin & -begin, ALIGN_MAX)
            while begin + length > end:
                length //= 2
            self._pool(length).push(np.array([begin], np.int64))
            begin += length
