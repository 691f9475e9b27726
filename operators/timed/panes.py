"""Tumbling, hopping and cumulating windows of one key, kept as slices that each window holds whole or not at all.

    slices    [0,5) [5,10) [10,15) ...          a row goes into one slice, whatever the number of its windows
    windows   hop of 10 every 5: [0,10) [5,15) ...; cumulate to 15 by 5: [0,5) [0,10) [0,15) ...

No two windows of a kind end at the same time, so a window is named by its end.
"""

from __future__ import annotations

__all__ = ["Grid", "Panes", "PanesLogic"]

from collections.abc import Iterable, Iterator, Sequence
from functools import reduce

import msgspec

from operators.timed.logic import Accumulator, Fired, Missed, Said, TimedRow, added, counted, values_of
from operators.timed.spec import WindowKind, WindowSpec


class Panes(msgspec.Struct, array_like=True):
    """`slices`: begin -> what its rows come to; `told`: end of a window -> how often its result was told."""

    slices: dict[int, Accumulator] = {}
    told: dict[int, int] = {}


class Grid:
    """Where windows of one rule begin and end.

    >>> hop = Grid(WindowSpec(WindowKind.HOP, 10, (), every=5))
    >>> hop.next_end(5, 0), hop.next_end(5, 10), hop.next_end(5, 15)
    (10, 15, None)
    """

    def __init__(self, rule: WindowSpec) -> None:
        self.size, self.offset, self.slice = rule.size, rule.offset, rule.slice
        self.grows = rule.kind is WindowKind.CUMULATE
        self.every = rule.every if rule.kind is WindowKind.HOP else rule.size  # from one begin to the next
        self._ends = rule.every if self.grows else self.every  # from one end to the next
        self._first = self.offset if self.grows else self.offset + self.size  # an end

    def begin(self, time: int) -> int:
        """Where the slice begins that holds `time`."""
        return (time - self.offset) // self.slice * self.slice + self.offset

    def end_after(self, time: int) -> int:
        """The first end of any window after `time`."""
        return (time - self._first) // self._ends * self._ends + self._first + self._ends

    def next_end(self, begin: int, after: int) -> int | None:
        """The end of the first window to end after `after` that holds the slice at `begin`; None: there is none."""
        end = self.end_after(max(after, begin + self.slice - 1))
        return end if end <= self.last_end(begin) else None

    def last_end(self, begin: int) -> int:
        """The end of the last window that holds the slice at `begin`."""
        return (begin - self.offset) // self.every * self.every + self.offset + self.size

    def ends(self, begin: int) -> Iterator[int]:
        """The ends of all windows that hold the slice at `begin`, rising."""
        end = self.next_end(begin, begin)
        while end is not None:
            yield end
            end = self.next_end(begin, end)

    def start(self, end: int) -> int:
        """Where the window begins that ends at `end`."""
        if self.grows:
            return (end - 1 - self.offset) // self.size * self.size + self.offset
        return end - self.size

    def first_due(self, begins: Iterable[int], after: int) -> int | None:
        """The end of the first window to end after `after` that holds one of the slices; None: there is none."""
        end = self.end_after(after)
        start, later = self.start(end), None
        for begin in begins:
            if begin >= end:
                later = begin if later is None else min(later, begin)
            elif begin >= start:
                return end
        return None if later is None else self.next_end(later, later)


class PanesLogic:
    """See `WindowLogic`."""

    def __init__(self, rule: WindowSpec) -> None:
        self._rule = rule
        self._grid = Grid(rule)
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Panes).decode

    def new(self) -> Panes:
        """No slices."""
        return Panes()

    def load(self, stored: bytes) -> Panes:
        """From bytes."""
        return self._decode(stored)

    def store(self, state: Panes) -> bytes:
        """As bytes."""
        if not state.slices:
            return b""
        if len(state.slices) > 1 or len(state.told) > 1:
            return self._encode(Panes(dict(sorted(state.slices.items())), dict(sorted(state.told.items()))))
        return self._encode(state)

    def row(self, state: Panes, row: TimedRow, watermark: int) -> tuple[Sequence[Said], int | None]:
        """The row enters its slice, unless all windows that hold it are closed; ended ones are told anew."""
        grid, lateness = self._grid, self._rule.lateness
        self._purge(state, watermark)
        begin = grid.begin(row.time)
        if begin + grid.slice > watermark:  # none of its windows can have ended
            state.slices[begin] = counted(state.slices.get(begin), row.value)
            return (), grid.next_end(begin, watermark)
        ends = list(grid.ends(begin))
        missed = sum(end + lateness <= watermark for end in ends)
        said: list[Said] = [Missed(missed, len(ends))] if missed else []
        if missed == len(ends):
            return said, None
        state.slices[begin] = counted(state.slices.get(begin), row.value)
        for end in ends[missed:]:
            if end <= watermark:
                said += self._result(state, end)
        return said, grid.next_end(begin, watermark)

    def fire(self, state: Panes, due: int) -> Sequence[Said]:
        """The window that ends at `due`, if it has rows."""
        said = self._result(state, due)
        self._purge(state, due)
        return said

    def due(self, state: Panes, watermark: int) -> int | None:
        """The next end of a window with rows."""
        return self._grid.first_due(state.slices, watermark)

    def closes(self, state: Panes) -> int:
        """The end of the last window with rows, and its lateness."""
        return self._grid.last_end(max(state.slices)) + self._rule.lateness

    def open_windows(self, state: Panes, watermark: int) -> int:
        """See `WindowLogic`."""
        return len({end for begin in state.slices for end in self._grid.ends(begin) if end > watermark})

    def _result(self, state: Panes, end: int) -> list[Fired]:
        rule, start = self._rule, self._grid.start(end)
        parts = [found for begin, found in state.slices.items() if start <= begin < end]
        if not parts:
            return []
        revision = state.told.get(end, 0)
        if rule.lateness:
            state.told[end] = revision + 1
        found = parts[0] if len(parts) == 1 else reduce(added, parts)
        return [Fired(start, end, values_of(rule.aggregates, rule.of is None, found), revision)]

    def _purge(self, state: Panes, watermark: int) -> None:
        """Slices of closed windows only."""
        limit = watermark - self._rule.lateness
        while state.slices and self._grid.last_end(first := min(state.slices)) <= limit:
            del state.slices[first]
        if state.told:
            for end in [end for end in state.told if end <= limit]:
                del state.told[end]
