"""What look-back windows do to a row, in order: plain loops over int64 arrays, as machine code where it can be made.

The rows of a batch are sorted by key, and inside a key in order: those of `slots[k]` are `first[k]` to `first[k + 1]`,
each of them `inputs[row]` (frame.py says what stands in it). A batch takes four steps:

    1  find      where each value of a row last stood, if it is one that is looked for
    2  expire    of a key that lacks room: entries that no row can see go, so that the ring may have to grow less
    3  relinked  old entries that will learn of a later one with their value: an undo needs them as they are
    4  decide    row by row: the entry, the edges, what stands between them

Before step 3 the ring makes room. What a key remembers of its newest row are its marks, and `before` are those of the
row before:

    marks        0: one past the row's own position; the edges; totals through the row; counters of distinct values;
                 what is read from the entries at the edges
    an edge      the first position whose clock is above the row's time less an offset
    a window     the positions between two edges, or between an edge and mark 0: so edge -1 is that (NOT_DELAYED)

Rows are without a precision here, and none comes late: forward.py and late.py do those by columns.
"""

from __future__ import annotations

__all__ = ["HELPERS", "decide", "expire", "find", "relinked"]

from typing import NamedTuple

import numpy as np

from operators.windows.frame import COUNTED, I64, KNOWN, NOTHING
from operators.windows.hashes import NONE
from operators.windows.program import Program
from operators.windows.room import NEVER
from operators.windows.totals import TOTAL_MAX

_NEWEST, _DROPPED, _EDGES = 0, 1, 2  # fields of a key's row
_OFF, _MASK, _START, _STOP = 0, 1, 2, 3  # of its head
_LOW = 0xFFFF_FFFF


class Past(NamedTuple):
    """The ring of a key: the entry at a position is `entries[off + (position & mask)]`, `start` is the first."""

    entries: I64
    off: int
    mask: int
    start: int


def past_of(entries: I64, head: I64) -> Past:
    """The ring that a head says."""
    return Past(entries, head[_OFF], head[_MASK], head[_START])


def read(past: Past, position: int, column: int) -> int:
    """A column of the entry at a position."""
    value: int = past.entries[past.off + (position & past.mask), column]
    return value


# ---- 1


def find(
    p: Program, entries: I64, heads: I64, slots: I64, first: I64, inputs: I64, done: I64, found: I64
) -> None:  # fmt: skip
    """Step 1: into `found` (rows, hashes), the newest position before each row that counts its value; else NONE.

    `done` (keys): not 0 where that is known already.
    """
    for key in range(len(slots)):
        if not done[key]:
            head = heads[slots[key]]
            past, stop = past_of(entries, head), head[_STOP]
            for row in range(first[key], first[key + 1]):
                for number in range(p.hashes):
                    found[row, number] = NONE
                    if inputs[row, p.state_input + number] & KNOWN:
                        found[row, number] = last_with(p, past, stop, inputs, first[key], row, number)


def last_with(p: Program, past: Past, stop: int, inputs: I64, first: int, row: int, number: int) -> int:
    """Where a row's value of a hash column last stood: in the rows of its key from `first` on, or in the ring."""
    value = inputs[row, p.hash_input + number]
    for other in range(row - 1, first - 1, -1):
        if inputs[other, p.hash_input + number] == value and inputs[other, p.state_input + number] & COUNTED:
            return stop + other - first
    column = p.hash_column + 3 * number
    for position in range(stop - 1, past.start - 1, -1):
        if read(past, position, column) == value and read(past, position, column + 1) != NOTHING:
            return position
    return NONE


# ---- 2


def expire(p: Program, entries: I64, heads: I64, rows: I64, slots: I64, first: I64, inputs: I64) -> I64:
    """Step 2: room.py says what may go. Returns where that lies in the arena: it may be overwritten from now on."""
    most = 0
    for key in range(len(slots)):
        head = heads[slots[key]]
        if is_full(head, first[key + 1] - first[key]):
            most += head[_STOP] - head[_START]
    gone, count = np.empty(most, np.int64), 0
    for key in range(len(slots)):
        row, head = rows[slots[key]], heads[slots[key]]
        if is_full(head, first[key + 1] - first[key]):
            past = past_of(entries, head)
            new = first_needed(p, past, head[_STOP], row, inputs[first[key], 0])
            for position in range(past.start, new):
                gone[count] = past.off + (position & past.mask)
                count += 1
            if new > past.start:
                row[_DROPPED] = max(row[_DROPPED] ^ NEVER, read(past, new - 1, 0)) ^ NEVER
                for edge in range(_EDGES, _EDGES + len(p.offsets)):
                    row[edge] = max(row[edge], new)
                head[_START] = new
    return gone[:count]


def is_full(head: I64, more: int) -> bool:
    """Whether there is no room for so many entries more."""
    is_full: bool = head[_STOP] + more - head[_START] > head[_MASK] + 1
    return is_full


def first_needed(p: Program, past: Past, stop: int, row: I64, time: int) -> int:
    """The first position of a ring that a row at `time` or after it may see."""
    start = past.start
    if stop == start:
        return start
    new = first_above(past, start, stop, time - p.horizon)
    if len(p.carried):  # the newest one stays, whatever its age
        new = max(new - 1, start)
    new = max(new, stop - p.max_entries)
    if len(p.distinct):  # the counters still need what leaves the windows
        new = min(new, max(row[_EDGES + len(p.offsets) - 1], start))
    return new


def first_above(past: Past, low: int, high: int, limit: int) -> int:
    """The first position in low .. high whose clock is above a limit, `high` if there is none; nearby ones first."""
    if read(past, low, 0) > limit:
        return low
    step = 1
    while low + step < high and read(past, low + step, 0) <= limit:
        low += step
        step *= 2
    high = min(high, low + step)
    while high - low > 1:
        middle = (low + high) >> 1
        if read(past, middle, 0) > limit:
            high = middle
        else:
            low = middle
    return high


# ---- 3


def relinked(p: Program, heads: I64, flushed: I64, slots: I64, first: I64, inputs: I64, found: I64) -> I64:
    """Step 3: where they lie in the arena; `flushed` (by slot) says of each key which positions remain as stored."""
    old, count = np.empty(found.size, np.int64), 0
    for key in range(len(slots)):
        slot = slots[key]
        off, mask, start, stop = heads[slot, _OFF], heads[slot, _MASK], heads[slot, _START], heads[slot, _STOP]
        for row in range(first[key], first[key + 1]):
            for number in range(p.hashes):
                position = found[row, number]
                is_there = position != NONE and start <= position < stop
                if is_there and inputs[row, p.state_input + number] & COUNTED:
                    old[count] = off + (position & mask)
                    count += 1
                    flushed[slot] = min(flushed[slot], position)
    return old[:count]


# ---- 4


def decide(
    p: Program, entries: I64, heads: I64, rows: I64, slots: I64, first: I64, inputs: I64, found: I64, result: I64
) -> bool:  # fmt: skip
    """Step 4: into `result` (result rows, rows). False: a running total is too large; the batch is to be undone."""
    marks, before = np.zeros(p.read_mark + len(p.reads), np.int64), np.zeros(p.read_mark + len(p.reads), np.int64)
    for key in range(len(slots)):
        row, head = rows[slots[key]], heads[slots[key]]
        past = past_of(entries, head)
        marks[0] = head[_STOP]
        marks[1 : 1 + p.fields] = row[_EDGES : _EDGES + p.fields]
        for i in range(first[key], first[key + 1]):
            before[:] = marks
            if not decide_row(p, past, row, inputs[i], found[i], before, marks, result[:, i]):
                return False
            row[_NEWEST] = inputs[i, 0]
        head[_STOP] = marks[0]
        row[_EDGES : _EDGES + p.fields] = marks[1 : 1 + p.fields]
    return True


def decide_row(
    p: Program, past: Past, row: I64, inputs: I64, found: I64, before: I64, marks: I64, out: I64
) -> bool:  # fmt: skip
    """One row, the next of its key: its entry, its marks, its results."""
    time, own = inputs[0], before[0]
    entry = past.entries[past.off + (own & past.mask)]
    newest = past.entries[past.off + (own - 1 & past.mask)]  # anything, if there is none
    entry[0] = time
    marks[0] = own + 1
    if not add_up(p, inputs, entry, marks):
        return False
    fold_extremes(p, inputs, own if past.start < own else 0, newest, entry)
    carry(p, inputs, own > 0, newest, entry, out)
    link(p, past, own, inputs, found, entry)
    move_edges(p, past, row, time, before, marks, out)
    subtract(p, past, marks, out)
    for i in range(len(p.least)):
        number, low, high = lookup(p.least, i)
        out[p.least_at + i] = least(p, past, p.extreme_column + 3 * number, marks[1 + low], marks[1 + high])
    count_distinct(p, past, before, marks, out)
    for i in range(len(p.first_seen)):
        number, low, high = lookup(p.first_seen, i)
        is_new = inputs[p.state_input + number] & KNOWN and not is_within(p, past, found[number], number, marks, low, high)
        out[p.first_seen_at + i] = 1 if is_new else 0
    return True


def lookup(lookups: I64, i: int) -> tuple[int, int, int]:
    """Column number, low edge and high edge of a question."""
    return lookups[i, 0], lookups[i, 1], lookups[i, 2]


def add_up(p: Program, inputs: I64, entry: I64, marks: I64) -> bool:
    """Totals: the entry has those before the row, the marks those through it."""
    for i in range(p.prefixes):
        value, total = inputs[1 + i], marks[p.total_mark + i]
        through = total + value
        if not (-TOTAL_MAX <= value <= TOTAL_MAX and -TOTAL_MAX <= through <= TOTAL_MAX):
            return False
        entry[1 + i] = total
        marks[p.total_mark + i] = through
    for i in p.low_limbs:
        marks[p.total_mark + i - 1] += marks[p.total_mark + i] >> 32
        marks[p.total_mark + i] &= _LOW
    return True


def fold_extremes(p: Program, inputs: I64, own: int, newest: I64, entry: I64) -> None:
    """Values and their least ones since the blocks' starts (extremes.py); `own` 0: the newest entry is none of them."""
    is_in_short, is_in_long = own & (p.short_block - 1) != 0, own & (p.long_block - 1) != 0
    for i in range(p.extremes):
        column, value = p.extreme_column + 3 * i, inputs[p.extreme_input + i]
        entry[column] = value
        entry[column + 1] = min(value, newest[column + 1]) if is_in_short else value
        entry[column + 2] = min(value, newest[column + 2]) if is_in_long else value


def carry(p: Program, inputs: I64, has_newest: bool, newest: I64, entry: I64, out: I64) -> None:
    """Earlier values: what the newest entry carries is the result, and shifted by a row that passes it is carried on."""
    flags = 0
    if has_newest:
        flags = newest[p.flags_column] if p.is_flagged else -1
    bits = at = 0
    for i in range(len(p.carried)):
        depth, passing = p.carried[i, 0], p.carried[i, 1]
        passes = passing < 0 or inputs[p.passing_input + passing] != 0
        value, is_known = inputs[p.carried_input + i], inputs[p.valid_input + i]
        for _ in range(depth):
            earlier, was_known = newest[p.carried_column + at] if has_newest else 0, flags >> at & 1
            out[p.previous_at + at], out[p.valid_at + at] = earlier, was_known
            entry[p.carried_column + at] = value if passes else earlier
            bits |= (is_known if passes else was_known) << at
            value, is_known = earlier, was_known
            at += 1
    if p.is_flagged:
        entry[p.flags_column] = bits


def link(p: Program, past: Past, own: int, inputs: I64, found: I64, entry: I64) -> None:
    """Values to be counted, each with the positions of the one before and the one after (distinct.py)."""
    for number in range(p.hashes):
        column, previous = p.hash_column + 3 * number, found[number]
        entry[column] = inputs[p.hash_input + number]
        entry[column + 1], entry[column + 2] = NOTHING, NONE
        if inputs[p.state_input + number] & COUNTED:
            entry[column + 1], entry[column + 2] = previous, NOTHING
            if previous != NONE and previous >= past.start:
                past.entries[past.off + (previous & past.mask), column + 2] = own


def move_edges(p: Program, past: Past, row: I64, time: int, before: I64, marks: I64, out: I64) -> None:
    """Edges go forward, to what the newest `max_entries` are at least; windows that reach below what went are incomplete."""
    out[p.incomplete_at] = 0
    edges = len(p.offsets)
    if not edges:
        return
    own = before[0]
    floor = own + 1 - p.max_entries
    for i in range(edges):
        marks[1 + i] = max(first_above(past, before[1 + i], own, time - p.offsets[i]), floor)
    lost = row[_DROPPED] ^ NEVER
    if floor > past.start:
        lost = max(lost, read(past, floor - 1, 0))
        row[_DROPPED] = lost ^ NEVER
    if lost > time - p.offsets[edges - 1]:
        out[p.incomplete_at] = 1


def subtract(p: Program, past: Past, marks: I64, out: I64) -> None:
    """Counts, sums and sums of squares of windows."""
    for i in range(len(p.reads)):
        edge, column = p.reads[i, 0], p.reads[i, 1]
        marks[p.read_mark + i] = read(past, marks[1 + edge], column)
    for i in range(len(p.pairs)):
        out[i] = marks[p.pairs[i, 0]] - marks[p.pairs[i, 1]]


def least(p: Program, past: Past, column: int, low: int, high: int) -> int:
    """The least value of positions low .. high, by as large blocks as there are (extremes.py); NOTHING of none."""
    out = NOTHING
    while high > low:
        last = high - 1
        level, high = 0, last
        if last & -p.long_block >= low:
            level, high = 2, last & -p.long_block
        elif last & -p.short_block >= low:
            level, high = 1, last & -p.short_block
        out = min(out, read(past, last, column + level))
    return out


def count_distinct(p: Program, past: Past, before: I64, marks: I64, out: I64) -> None:
    """From one row to the next: first ones of their value enter a window, last ones leave it (distinct.py)."""
    for i in range(len(p.distinct)):
        number, low, high = lookup(p.distinct, i)
        column, count = p.hash_column + 3 * number, marks[p.counter_mark + i]
        for position in range(before[1 + high], marks[1 + high]):
            count += read(past, position, column + 1) < before[1 + low]
        for position in range(before[1 + low], marks[1 + low]):
            count -= read(past, position, column + 2) >= marks[1 + high]
        marks[p.counter_mark + i] = out[p.distinct_at + i] = count


def is_within(p: Program, past: Past, position: int, number: int, marks: I64, low: int, high: int) -> bool:
    """Whether a window has a value that stands last at `position`."""
    while position >= marks[1 + high]:
        position = read(past, position, p.hash_column + 3 * number + 1)
    return position >= marks[1 + low]


HELPERS = (
    past_of, read, last_with, is_full, first_needed, first_above, decide_row, lookup, add_up, fold_extremes, carry, link,
    move_edges, subtract, least, count_distinct, is_within,
)  # fmt: skip
