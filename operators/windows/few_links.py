"""Distinct values and first_seen of a row, and its links to the entries of the same hash: distinct.py for few rows."""

from __future__ import annotations

__all__ = ["Link", "distinct", "found_in", "link", "links_of"]

from typing import NamedTuple

from operators.windows.frame import COUNTED, I64, KNOWN, NOTHING
from operators.windows.hashes import NONE, keep_index, take_index
from operators.windows.layout import NOT_DELAYED, Layout, Window
from operators.windows.one_ring import OneRing


class Link(NamedTuple):
    """A row's value in one hash column: `column` of the arena; `previous`: the newest position before that has it."""

    column: int
    counted: bool
    known: bool
    previous: int


def found_in(layout: Layout, ring: OneRing, inputs: list[int]) -> list[int]:
    """The newest counted position of a row's value in each hash column, NONE where there is none."""
    values = _hashes(layout, inputs)
    return _look_up(layout, ring, values) if ring.is_long else _compare(layout, ring, values)


def links_of(
    layout: Layout, ring: OneRing, inputs: list[int], entry: list[int], dropped: list[int] | None
) -> list[Link]:  # fmt: skip
    """The links of a row that is about to be appended; its hash columns are put into the entry.

    `dropped`: what `found_in` said before entries were taken out for this batch: links may lead to them.
    """
    count = len(layout.hashes)
    found = found_in(layout, ring, inputs)
    values, at = _hashes(layout, inputs), 1 + len(layout.prefixes) + len(layout.extremes) + count
    out = []
    for number, (value, state) in enumerate(zip(values, inputs[at : at + count], strict=True)):
        known, counted = bool(state & KNOWN), bool(state & COUNTED)
        previous = found[number]
        if previous == NONE and dropped is not None:
            previous = dropped[number]
        if not known:
            previous = NONE
        out.append(Link(layout.hash_column + 3 * number, counted, known, previous))
        entry += (value, previous, NOTHING) if counted else (value, NOTHING, NONE)
    if ring.is_long:
        _add(ring, values, out, inputs[0])
    return out


def link(ring: OneRing, links: list[Link]) -> None:
    """Old entries learn of the one that was appended."""
    start, new = ring.start, ring.stop - 1
    for column, counted, _, previous in links:
        if counted and previous >= start and previous >= 0:
            at = ring.place(previous)
            ring.keep(at)
            ring.flat[at + column + 2] = new
            ring.changed = min(ring.changed, previous)


def distinct(
    ring: OneRing, found: Link, window: Window, own: int, *, before: list[int], edges: list[int]
) -> int:  # fmt: skip
    """By how much a window's number of distinct values changed from the key's row before to this one, at `own`."""
    old_low, new_low = before[window.lo], edges[window.lo]
    if window.hi == NOT_DELAYED:
        new_high = own + 1
        change = int(found.counted and found.previous < old_low)
    else:
        new_high, change = edges[window.hi], 0
        for position in range(before[window.hi], new_high):
            change += ring.read(position, found.column + 1) < old_low
    for position in range(old_low, new_low):
        change -= ring.read(position, found.column + 2) >= new_high
    return change


def _compare(layout: Layout, ring: OneRing, values: list[int]) -> list[int]:
    """Newest counted positions of `values`, by entries."""
    arena = ring.table.ring
    assert arena is not None
    if ring.stop == ring.start:
        return [NONE] * len(values)
    off, end = ring.base // ring.width, (ring.stop - 1 & ring.mask) + 1
    parts = [(max(0, end - (ring.stop - ring.start)), end)]
    if (begin := ring.start & ring.mask) >= end:  # they go round
        parts.append((begin, ring.mask + 1))
    blocks = [(arena.entries[off + begin : off + end], end) for begin, end in parts]
    newest, last, flat = [], ring.stop - 1, ring.flat
    at = ring.place(last) + layout.hash_column
    for number, value in enumerate(values):
        if flat[at] == value and flat[at + 1] != NOTHING:  # the same as in the row before
            newest.append(last)
        else:
            place = _newest(blocks, layout.hash_column + 3 * number, value)
            newest.append(NONE if place < 0 else last - (last - place & ring.mask))
        at += 3
    return newest


def _newest(blocks: list[tuple[I64, int]], column: int, value: int) -> int:
    """The last place of a counted entry with `value` in parts (entries, their end) of a block; NONE: there is none."""
    for block, end in blocks:
        for place in (block[:, column] == value).nonzero()[0][::-1].tolist():
            if block.item(place, column + 1) != NOTHING:
                return end - len(block) + int(place)
    return NONE


def _hashes(layout: Layout, inputs: list[int]) -> list[int]:
    at = 1 + len(layout.prefixes) + len(layout.extremes)
    return inputs[at : at + len(layout.hashes)]


def _index(ring: OneRing, column: int) -> dict[int, int]:
    return take_index(
        ring.table, ring.slot, column, off=ring.base // ring.width, mask=ring.mask, start=ring.start, stop=ring.stop,
        newest=ring.row[Layout.NEWEST],
    )  # fmt: skip


def _look_up(layout: Layout, ring: OneRing, values: list[int]) -> list[int]:
    """As `_compare`, by the indices of a long ring."""
    newest, length = [], ring.stop - ring.start
    for column, value in enumerate(values):
        at = layout.hash_column + 3 * column
        index = _index(ring, at)
        position = index.get(value, NONE)
        newest.append(position if position >= ring.start else NONE)
        keep_index(
            ring.table, ring.slot, at, index, length=length, stop=ring.stop, newest=ring.row[Layout.NEWEST]
        )  # fmt: skip
    return newest


def _add(ring: OneRing, values: list[int], links: list[Link], time: int) -> None:
    """The indices of a long ring learn of the row that comes next, at `time`."""
    length = ring.stop + 1 - ring.start
    for value, one in zip(values, links, strict=True):
        index = _index(ring, one.column)
        if one.counted:
            index[value] = ring.stop
        keep_index(ring.table, ring.slot, one.column, index, length=length, stop=ring.stop + 1, newest=time)
