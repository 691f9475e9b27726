"""Rings: the recent history of each key, in one arena shared by all keys of a table.

A key's entries have positions 0, 1, 2 ... for ever; entry q lies at `off + (q & mask)` of its block, whose length
is a power of two. Live are the positions `start <= q < stop`. Where blocks come from: `state.arena`.

    off, mask   where the key's block lies (never stored)
    start, stop live positions; `start` moves when entries expire, `stop` when entries are appended

What is stored of a ring (see `state.rowformat`): positions below `flushed` are stored unchanged; full chunks of
entries numbered `chunks[slot, KEPT] .. chunks[slot, STORED] - 1` exist in the store. Who changes a live entry in
place calls `changed_from`, else the change is not flushed.

`append_room` never overwrites a live entry, and a block that had to grow is kept until `publish`: so undoing
a batch that only appended needs nothing but the old off, mask, start and stop. Who changes a live entry in place
calls `save` first. Two batches may be open (`StatePart.seal`): each keeps what the state before it needs.
"""

from __future__ import annotations

__all__ = ["Ring", "RingSpec"]

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt

from state.arena import BLOCK_MIN, Blocks

if TYPE_CHECKING:
    from state.table import KeyedTable

I64 = npt.NDArray[np.int64]
_ENTRIES_MIN = 1 << 14


class RingSpec(msgspec.Struct, frozen=True):
    """The int64 columns of an entry (`floats` names those that hold float64, by view)."""

    columns: tuple[str, ...]
    floats: tuple[str, ...] = ()


class _Changes:
    """What undoes one batch: heads and entries as they were, blocks (off, length) it replaced and took. Without heads
    there is nothing else.
    """

    def __init__(self) -> None:
        self.heads: list[tuple[I64, I64, I64]] = []
        self.images: list[tuple[I64, I64]] = []
        self.retired: list[tuple[I64, I64]] = []
        self.fresh: list[tuple[I64, I64]] = []


class Ring:
    """Ring storage of one table; `heads[slot]` is (off, mask, start, stop)."""

    OFF, MASK, START, STOP = range(4)
    KEPT, STORED = range(2)

    def __init__(self, spec: RingSpec, table: KeyedTable) -> None:
        self.spec = spec
        self.entries = np.zeros((_ENTRIES_MIN, len(spec.columns)), np.int64)
        self.heads = np.zeros((len(table.rows), 4), np.int64)
        self.flushed = np.zeros(len(table.rows), np.int64)  # positions below are stored unchanged
        self.chunks = np.zeros((len(table.rows), 2), np.int64)
        self.blocks = Blocks()
        self._changes = _Changes()
        self._sealed: _Changes | None = None

    @property
    def floats(self) -> npt.NDArray[np.float64]:
        """The arena read as float64."""
        return self.entries.view(np.float64)

    def index(self, column: str) -> int:
        """The arena column of a declared entry column."""
        return self.spec.columns.index(column)

    def reserve_slots(self, size: int) -> None:
        """Room for `size` slots."""
        for name in ("heads", "flushed", "chunks"):
            old = getattr(self, name)
            new = np.zeros((size, *old.shape[1:]), np.int64)
            new[: len(old)] = old
            setattr(self, name, new)

    def reset(self, slots: I64) -> None:
        """Empty rings without a block for new keys."""
        self.heads[slots] = (0, -1, 0, 0)
        self.flushed[slots] = 0
        self.chunks[slots] = 0

    def install(self, slots: I64, starts: I64, stops: I64) -> None:
        """Blocks for rings that are about to be filled from the store; there is room for one more entry each."""
        lengths = _block_lengths(stops - starts + 1)
        for length in np.unique(lengths).tolist():
            mine = lengths == length
            self.heads[slots[mine], self.OFF] = self._take(int(mine.sum()), length)
        self.heads[slots, self.MASK] = lengths - 1
        self.heads[slots, self.START] = starts
        self.heads[slots, self.STOP] = stops
        self.flushed[slots] = stops

    def spans(self, slots: I64, begins: I64, ends: I64) -> I64:
        """Arena indices of positions begins..ends of each of `slots`, one after the other."""
        ring, q = _positions(begins, ends)
        heads = self.heads[slots]
        spans: I64 = heads[ring, self.OFF] + (q & heads[ring, self.MASK])
        return spans

    # ---- writing

    def touch(self, slots: I64) -> None:
        """Keep the heads of `slots` (unique) for undo; call before the batch's first write."""
        self.touched(slots, self.heads[slots], self.flushed[slots])

    def touched(self, slots: I64, heads: I64, flushed: I64) -> None:
        """As `touch`, of what has been kept already."""
        self._changes.heads.append((slots, heads, flushed))

    def save(self, indices: I64) -> None:
        """Keep the entries at arena `indices` for undo; call before changing live entries in place."""
        self.save_as(indices, self.entries[indices])

    def save_as(self, indices: I64, image: I64) -> None:
        """As `save`, of entries that have been changed already: what they were."""
        self._changes.images.append((indices, image))

    def changed_from(self, slots: I64, positions: I64) -> None:
        """Entries of `slots` (unique) at or above `positions` changed in place: the next flush rewrites them."""
        self.flushed[slots] = np.minimum(self.flushed[slots], positions)

    def renew(self, slots: I64) -> None:
        """Touched keys begin anew, at position 0; what is stored of them goes with the next flush."""
        heads = self.heads[slots]
        had = heads[:, self.MASK] >= 0
        self._changes.retired.append((heads[had, self.OFF], heads[had, self.MASK] + 1))
        self.heads[slots] = (0, -1, 0, 0)
        self.flushed[slots] = 0

    def append_room(self, slots: I64, counts: I64) -> None:
        """Make room for `counts` further entries of each of `slots` (unique, touched); `stop` is not moved."""
        heads = self.heads[slots]
        need = heads[:, self.STOP] + counts - heads[:, self.START]
        small = need > heads[:, self.MASK] + 1
        if small.any():
            self._move(slots[small], need[small])

    def _move(self, slots: I64, need: I64) -> None:
        """Larger blocks of their own for rings that need so many entries."""
        lengths = _block_lengths(need)
        offs = self.blocks_of(lengths)
        old = self.heads[slots]
        self.heads[slots, self.OFF] = offs
        self.heads[slots, self.MASK] = lengths - 1
        off, mask, start, stop = old.T
        ring, q = _positions(start, stop)
        self.entries[offs[ring] + (q & lengths[ring] - 1)] = self.entries[off[ring] + (q & mask[ring])]
        had = mask >= 0
        self._changes.retired.append((off[had], mask[had] + 1))

    def blocks_of(self, lengths: I64) -> I64:
        """Where blocks of these lengths (powers of two) lie that nobody uses: rings of the batch move there."""
        some = sorted(set(lengths.tolist()))
        offs = self._take(len(lengths), some[0]) if len(some) == 1 else np.empty(len(lengths), np.int64)
        for length in some if len(some) > 1 else ():
            mine = (lengths == length).nonzero()[0]
            offs[mine] = self._take(len(mine), length)
        self._changes.fresh.append((offs, lengths))
        return offs

    def retire_replaced(self, slots: I64, offs: I64, masks: I64) -> None:
        """The blocks that slots (unique) had before, if they have others now, are not needed any more."""
        gone = ((masks >= 0) & (self.heads[slots, self.OFF] != offs)).nonzero()[0]
        if gone.size:
            self._changes.retired.append((offs[gone], masks[gone] + 1))

    def _take(self, count: int, length: int) -> I64:
        offs = self.blocks.take(count, length)
        if self.blocks.end > len(self.entries):
            self.reserve_entries(max(2 * len(self.entries), self.blocks.end))
        return offs

    def reserve_entries(self, size: int) -> None:
        """Room for `size` entries in all. Pages never written to cost address space, not memory."""
        grown = np.zeros((size, self.entries.shape[1]), np.int64)
        grown[: len(self.entries)] = self.entries
        self.entries = grown

    # ---- ending a batch

    def seal(self) -> None:
        """What changes from now on is the next batch's."""
        self._sealed, self._changes = self._changes, _Changes()

    def unseal(self) -> None:
        """The sealed batch is the newest one again."""
        assert self._sealed is not None
        self._changes, self._sealed = self._sealed, None

    def publish(self) -> None:
        """The oldest batch is final: the blocks it replaced may be reused."""
        done, self._sealed = self._sealed, None
        if done is None:
            done = self._changes
            if not done.heads:
                return
            self._changes = _Changes()
        for offs, lengths in done.retired:
            self.blocks.give(offs, lengths)

    def undo(self) -> None:
        """Put the newest batch's heads and saved entries back; blocks it took may be reused."""
        changes, self._changes = self._changes, _Changes()
        for indices, image in reversed(changes.images):
            self.entries[indices] = image
        for slots, heads, flushed in reversed(changes.heads):
            self.heads[slots] = heads
            self.flushed[slots] = np.minimum(flushed, self.flushed[slots])
        for offs, lengths in changes.fresh:
            self.blocks.give(offs, lengths)

    def release(self, slots: I64) -> None:
        """Keys go: their blocks may be reused."""
        heads = self.heads[slots]
        had = heads[:, self.MASK] >= 0
        self.blocks.give(heads[had, self.OFF], heads[had, self.MASK] + 1)
        self.heads[slots] = (0, -1, 0, 0)

    @property
    def used_bytes(self) -> int:
        """Memory of the blocks in use."""
        return (self.blocks.end - self.blocks.free) * self.entries.shape[1] * 8

    @property
    def least_bytes(self) -> int:
        """Memory of the shortest block."""
        return BLOCK_MIN * self.entries.shape[1] * 8

    def tidy(self) -> None:
        """A bounded step towards fewer, longer free blocks, where many are free; between batches."""
        if self.blocks.free > self.blocks.end // 4:
            self.blocks.merge()


def _positions(begins: I64, ends: I64) -> tuple[I64, I64]:
    """The number of each ring as often as it has positions begin..end, and these."""
    counts = ends - begins
    ring = np.arange(len(counts)).repeat(counts)
    return ring, np.arange(len(ring)) + (ends - counts.cumsum()).repeat(counts)


def _block_lengths(need: I64) -> I64:
    lengths: I64 = 1 << np.ceil(np.log2(np.maximum(need, BLOCK_MIN))).astype(np.int64)
    return lengths
