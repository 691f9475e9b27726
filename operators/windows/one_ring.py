"""The ring of one key and the key's row of the table, read and written entry by entry in Python's ints."""

from __future__ import annotations

__all__ = ["OneRing"]

from operators.windows import extremes, hashes
from operators.windows.frame import NOTHING
from operators.windows.layout import Layout
from state.table import KeyedTable


class OneRing:
    """`row`: the key's fields; `flat`: the arena; `kept`: entries of it as they were. Live are the positions `start` ..
    `stop`; `coming`: how many will be appended; `changed`: the lowest for `Ring.changed_from`; `is_long`: see `Rings`.
    """

    __slots__ = (
        "base", "changed", "coming", "flat", "is_long", "kept",
        "mask", "row", "slot", "start", "stop", "table", "width",
    )  # fmt: skip

    def __init__(self, table: KeyedTable, layout: Layout, slot: int, row: list[int], head: list[int]) -> None:
        self.table, self.slot, self.width = table, slot, layout.width
        self.coming = 0
        self.move(row, head)
        self.changed = self.stop
        self.is_long = self.stop - self.start > hashes.SHORT
        self.flat: memoryview[int]
        self.kept: list[tuple[int, bytes]]

    def move(self, row: list[int], head: list[int]) -> None:
        """Row and ring as they stand now."""
        self.row = row
        off, self.mask, self.start, self.stop = head
        self.base = off * self.width

    @property
    def length(self) -> int:
        """How many entries are live once those that come are appended."""
        return self.stop + self.coming - self.start

    def place(self, position: int) -> int:
        """Where the entry at `position` begins in the arena."""
        return self.base + (position & self.mask) * self.width

    def read(self, position: int, column: int) -> int:
        """A column of the entry at `position`."""
        return self.flat[self.base + (position & self.mask) * self.width + column]

    def last(self, column: int) -> int:
        """A column of the newest entry, what it holds by chance if there is none."""
        return self.flat[self.base + (self.stop - 1 & self.mask) * self.width + column]

    def append(self, entry: list[int]) -> None:
        """The next entry, for which there is room."""
        assert self.table.ring is not None
        self.table.ring.entries[self.place(self.stop) // self.width] = entry
        self.stop += 1

    def keep(self, place: int) -> None:
        """Keep the entry at a place of the arena: it is about to be changed."""
        self.kept.append((place // self.width, self.flat[place : place + self.width].tobytes()))

    def after(self, tail: int, limit: int) -> int:
        """The first position from `tail` on whose clock is above `limit`; the newest entry's is."""
        flat, base, mask, width = self.flat, self.base, self.mask, self.width
        for _ in range(4):
            if flat[base + (tail & mask) * width] > limit:
                return tail
            tail += 1
        low, step, high = tail, 1, self.stop - 1
        while (probe := low + step) < high:
            if flat[base + (probe & mask) * width] > limit:
                high = probe
                break
            low, step = probe + 1, 4 * step
        while low < high:
            middle = low + high >> 1
            if flat[base + (middle & mask) * width] > limit:
                high = middle
            else:
                low = middle + 1
        return low

    def least(self, column: int, low: int, high: int) -> int:
        """Least value of positions low .. high of an extreme's columns, NOTHING where there is none: extremes.py."""
        small, large = extremes.BLOCKS
        out = NOTHING
        while high > low:
            last = high - 1
            if last & -large >= low:
                high, level = last & -large, 2
            elif last & -small >= low:
                high, level = last & -small, 1
            else:
                high, level = last, 0
            out = min(out, self.read(last, column + level))
        return out
