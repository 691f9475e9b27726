"""What look-back windows do to a row, in order: plain loops over int64 arrays, as machine code where it can be made.

The rows of a batch are sorted by key, and inside a key in order. A batch takes four steps:

    1  find      where each value of a row last stood, if it is one that is looked for
    2  expire    of a key that lacks room: entries that no row can see go, so that the ring may have to grow less
       and the ring makes room
    3  relinked  old entries that will learn of a later one with their value: an undo needs them as they are
    4  decide    row by row: the entry, the edges, what stands between them

What a key remembers of its newest row are its marks, and `before` are those of the row before:

    marks        0: one past the row's own position; the edges; totals through the row; counters of distinct values;
                 what is read from the entries at the edges
    an edge      the first position whose clock is above the row's time less an offset
    a window     the positions between two edges, or between an edge and mark 0: that is edge -1, NOT_DELAYED

Rows are without a precision here, and none comes late: forward.py and late.py do those by columns.
"""

from __future__ import annotations

__all__ = ["HELPERS", "Batch", "State", "decide", "expire", "find", "relinked"]

from typing import NamedTuple

import numpy as np

from operators.windows.frame import COUNTED, I64, KNOWN, NOTHING
from operators.windows.hashes import NONE
from operators.windows.program import Program
from operators.windows.room import NEVER
from operators.windows.totals import TOTAL_MAX

_NEWEST, _DROPPED, _EDGES = 0, 1, 2  # fields of a key
_OFF, _MASK, _START, _STOP = 0, 1, 2, 3  # of its head
_LOW = 0xFFFF_FFFF


class State(NamedTuple):
    """Of a table: its arena, and by slot the heads of rings, the fields, and below which positions all is as stored."""

    entries: I64
    heads: I64
    fields: I64
    flushed: I64


class Batch(NamedTuple):
    """Rows of the key at `slots[k]` are `first[k]` to `first[k + 1]`; of each row `inputs` (rows, inputs; frame.py says
    which), and `found` (rows, hashes): the newest position before it that counts its value, or NONE.
    """

    slots: I64
    first: I64
    inputs: I64
    found: I64


class Past(NamedTuple):
    """The ring of a key: the entry at a position is `entries[off + (position & mask)]`, live are `start` .. `stop`."""

    entries: I64
    off: int
    mask: int
    start: int
    stop: int


class Row(NamedTuple):
    """A row, what was found for it, the marks of the row before and its own, and its column of the results."""

    inputs: I64
    found: I64
    before: I64
    marks: I64
    out: I64


def past_of(state: State, slot: int) -> Past:
    """The ring of a key as it is now."""
    head = state.heads[slot]
    return Past(state.entries, head[_OFF], head[_MASK], head[_START], head[_STOP])


def at(past: Past, position: int) -> int:
    """Where the entry at a position lies in the arena."""
    return past.off + (position & past.mask)


def read(past: Past, position: int, column: int) -> int:
    """A column of the entry at a position."""
    value: int = past.entries[at(past, position), column]
    return value


# ---- 1


def find(p: Program, state: State, batch: Batch, done: I64) -> None:
    """Step 1: fill `batch.found`, but of the keys that are `done` (keys: 0 or 1)."""
    for key in range(len(batch.slots)):
        if not done[key]:
            past, first = past_of(state, batch.slots[key]), batch.first[key]
            for row in range(first, batch.first[key + 1]):
                for number in range(p.hashes):
                    position = NONE
                    if batch.inputs[row, p.state_input + number] & KNOWN:
                        other = row_with(p, batch, first, row, number)
                        position = past.stop + other - first
                        if other < first:
                            position = position_with(p, past, number, batch.inputs[row, p.hash_input + number])
                    batch.found[row, number] = position


def row_with(p: Program, batch: Batch, first: int, row: int, number: int) -> int:
    """The last row before a row that counts its value of a hash column, down to `first`; below it if there is none."""
    value = batch.inputs[row, p.hash_input + number]
    other = row - 1
    while other >= first:
        if (
            batch.inputs[other, p.hash_input + number] == value
            and batch.inputs[other, p.state_input + number] & COUNTED
        ):
            break
        other -= 1
    return other


def position_with(p: Program, past: Past, number: int, value: int) -> int:
    """The newest position of a ring that counts a value of a hash column; NONE if there is none."""
    column = p.hash_column + 3 * number
    for position in range(past.stop - 1, past.start - 1, -1):
        if read(past, position, column) == value and read(past, position, column + 1) != NOTHING:
            return position
    return NONE


# ---- 2


def expire(p: Program, state: State, batch: Batch) -> I64:
    """Step 2: room.py says what may go. Returns where that lies in the arena: it may be overwritten from now on."""
    most = 0
    for key in range(len(batch.slots)):
        past = past_of(state, batch.slots[key])
        if is_full(past, batch.first[key + 1] - batch.first[key]):
            most += past.stop - past.start
    gone, count = np.empty(most, np.int64), 0
    for key in range(len(batch.slots)):
        slot, first = batch.slots[key], batch.first[key]
        past, fields = past_of(state, slot), state.fields[slot]
        if is_full(past, batch.first[key + 1] - first):
            new = first_needed(p, past, fields, batch.inputs[first, 0])
            for position in range(past.start, new):
                gone[count] = at(past, position)
                count += 1
            if new > past.start:
                fields[_DROPPED] = max(fields[_DROPPED] ^ NEVER, read(past, new - 1, 0)) ^ NEVER
                for edge in range(_EDGES, _EDGES + len(p.offsets)):
                    fields[edge] = max(fields[edge], new)
                state.heads[slot, _START] = new
    return gone[:count]


def is_full(past: Past, more: int) -> bool:
    """Whether there is no room for so many entries more."""
    return past.stop + more - past.start > past.mask + 1


def first_needed(p: Program, past: Past, fields: I64, time: int) -> int:
    """The first position of a ring that a row at `time` or after it may see."""
    if past.stop == past.start:
        return past.start
    new = first_above(past, past.start, past.stop, time - p.horizon)
    if len(p.carried):  # the newest one stays, whatever its age
        new = max(new - 1, past.start)
    new = max(new, past.stop - p.max_entries)
    if len(p.distinct):  # the counters still need what leaves the windows
        new = min(new, max(fields[_EDGES + len(p.offsets) - 1], past.start))
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


def relinked(p: Program, state: State, batch: Batch) -> I64:
    """Step 3: where they lie in the arena. What is stored of them is to be written anew."""
    old, count = np.empty(batch.found.size, np.int64), 0
    for key in range(len(batch.slots)):
        slot = batch.slots[key]
        past = past_of(state, slot)
        for row in range(batch.first[key], batch.first[key + 1]):
            for number in range(p.hashes):
                position = batch.found[row, number]
                is_live = position != NONE and past.start <= position < past.stop
                if is_live and batch.inputs[row, p.state_input + number] & COUNTED:
                    old[count] = at(past, position)
                    count += 1
                    state.flushed[slot] = min(state.flushed[slot], position)
    return old[:count]


# ---- 4


def decide(p: Program, state: State, batch: Batch, result: I64) -> bool:
    """Step 4: into `result` (result rows, rows). False: a running total is too large; the batch is to be undone."""
    marks, before = np.zeros(p.read_mark + len(p.reads), np.int64), np.zeros(p.read_mark + len(p.reads), np.int64)
    for key in range(len(batch.slots)):
        slot = batch.slots[key]
        past, fields = past_of(state, slot), state.fields[slot]
        marks[0] = past.stop
        marks[1 : 1 + p.fields] = fields[_EDGES : _EDGES + p.fields]
        for i in range(batch.first[key], batch.first[key + 1]):
            before[:] = marks
            if not decide_row(p, past, fields, Row(batch.inputs[i], batch.found[i], before, marks, result[:, i])):
                return False
        fields[_EDGES : _EDGES + p.fields] = marks[1 : 1 + p.fields]
        state.heads[slot, _STOP] = marks[0]
    return True


def decide_row(p: Program, past: Past, fields: I64, row: Row) -> bool:
    """One row, the next of its key: its entry, its marks, its results."""
    own = row.before[0]
    entry = past.entries[at(past, own)]
    newest = past.entries[at(past, own - 1)]  # anything, if there is none
    entry[0] = fields[_NEWEST] = row.inputs[0]
    row.marks[0] = own + 1
    if not add_up(p, row, entry):
        return False
    fold_extremes(p, row, own if past.start < own else 0, newest, entry)
    carry(p, row, newest, entry)
    link(p, past, row, entry)
    move_edges(p, past, fields, row)
    subtract(p, past, row)
    for i in range(len(p.least)):
        number, low, high = lookup(p.least, i)
        column = p.extreme_column + 3 * number
        row.out[p.least_at + i] = least(p, past, column, row.marks[1 + low], row.marks[1 + high])
    count_distinct(p, past, row)
    for i in range(len(p.first_seen)):
        number, low, high = lookup(p.first_seen, i)
        position = before_window(p, past, number, row.found[number], row.marks[1 + high])
        is_new = position < row.marks[1 + low] and row.inputs[p.state_input + number] & KNOWN != 0
        row.out[p.first_seen_at + i] = 1 if is_new else 0
    return True


def lookup(lookups: I64, i: int) -> tuple[int, int, int]:
    """Column number, low edge and high edge of a question."""
    return lookups[i, 0], lookups[i, 1], lookups[i, 2]


def add_up(p: Program, row: Row, entry: I64) -> bool:
    """Totals: the entry has those before the row, the marks those through it."""
    for i in range(p.prefixes):
        value, total = row.inputs[1 + i], row.marks[p.total_mark + i]
        through = total + value
        if not (-TOTAL_MAX <= value <= TOTAL_MAX and -TOTAL_MAX <= through <= TOTAL_MAX):
            return False
        entry[1 + i] = total
        row.marks[p.total_mark + i] = through
    for i in p.low_limbs:
        row.marks[p.total_mark + i - 1] += row.marks[p.total_mark + i] >> 32
        row.marks[p.total_mark + i] &= _LOW
    return True


def fold_extremes(p: Program, row: Row, own: int, newest: I64, entry: I64) -> None:
    """Values and their least ones since the blocks' starts (extremes.py); `own` 0: the newest entry is none of them."""
    is_in_short, is_in_long = own & (p.short_block - 1) != 0, own & (p.long_block - 1) != 0
    for i in range(p.extremes):
        column, value = p.extreme_column + 3 * i, row.inputs[p.extreme_input + i]
        entry[column] = value
        entry[column + 1] = min(value, newest[column + 1]) if is_in_short else value
        entry[column + 2] = min(value, newest[column + 2]) if is_in_long else value


def carry(p: Program, row: Row, newest: I64, entry: I64) -> None:
    """Earlier values: what the newest entry carries is the result; the entry carries it on, behind the row's own if
    that passes.
    """
    is_first, flags = row.before[0] == 0, 0
    if not is_first:
        flags = newest[p.flags_column] if p.is_flagged else -1
    bits = bit = 0
    for i in range(len(p.carried)):
        depth, passing = p.carried[i, 0], p.carried[i, 1]
        passes = passing < 0 or row.inputs[p.passing_input + passing] != 0
        value, is_known = row.inputs[p.carried_input + i], row.inputs[p.valid_input + i]
        for _ in range(depth):
            earlier, was_known = 0 if is_first else newest[p.carried_column + bit], flags >> bit & 1
            row.out[p.previous_at + bit], row.out[p.valid_at + bit] = earlier, was_known
            entry[p.carried_column + bit] = value if passes else earlier
            bits |= (is_known if passes else was_known) << bit
            value, is_known = earlier, was_known
            bit += 1
    if p.is_flagged:
        entry[p.flags_column] = bits


def link(p: Program, past: Past, row: Row, entry: I64) -> None:
    """Values to be counted, each with the positions of the one before and the one after (distinct.py)."""
    for number in range(p.hashes):
        column, previous = p.hash_column + 3 * number, row.found[number]
        entry[column] = row.inputs[p.hash_input + number]
        entry[column + 1], entry[column + 2] = NOTHING, NONE
        if row.inputs[p.state_input + number] & COUNTED:
            entry[column + 1], entry[column + 2] = previous, NOTHING
            if previous != NONE and previous >= past.start:
                past.entries[at(past, previous), column + 2] = row.before[0]


def move_edges(p: Program, past: Past, fields: I64, row: Row) -> None:
    """Edges go forward, at least to the newest `max_entries`; windows that reach below what is gone are incomplete."""
    row.out[p.incomplete_at] = 0
    edges, own, time = len(p.offsets), row.before[0], row.inputs[0]
    if not edges:
        return
    floor = own + 1 - p.max_entries
    for i in range(edges):
        row.marks[1 + i] = max(first_above(past, row.before[1 + i], own, time - p.offsets[i]), floor)
    lost = fields[_DROPPED] ^ NEVER
    if floor > past.start:
        lost = max(lost, read(past, floor - 1, 0))
        fields[_DROPPED] = lost ^ NEVER
    if lost > time - p.offsets[edges - 1]:
        row.out[p.incomplete_at] = 1


def subtract(p: Program, past: Past, row: Row) -> None:
    """Counts, sums and sums of squares of windows."""
    for i in range(len(p.reads)):
        edge, column = p.reads[i, 0], p.reads[i, 1]
        row.marks[p.read_mark + i] = read(past, row.marks[1 + edge], column)
    for i in range(len(p.pairs)):
        row.out[i] = row.marks[p.pairs[i, 0]] - row.marks[p.pairs[i, 1]]


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


def count_distinct(p: Program, past: Past, row: Row) -> None:
    """From one row to the next: first ones of their value enter a window, last ones leave it (distinct.py)."""
    before, marks = row.before, row.marks
    for i in range(len(p.distinct)):
        number, low, high = lookup(p.distinct, i)
        column, count = p.hash_column + 3 * number, marks[p.counter_mark + i]
        for position in range(before[1 + high], marks[1 + high]):
            count += read(past, position, column + 1) < before[1 + low]
        for position in range(before[1 + low], marks[1 + low]):
            count -= read(past, position, column + 2) >= marks[1 + high]
        marks[p.counter_mark + i] = row.out[p.distinct_at + i] = count


def before_window(p: Program, past: Past, number: int, position: int, high: int) -> int:
    """From a position of a value to the newest one below `high` (NONE: there is none)."""
    while position >= high:
        position = read(past, position, p.hash_column + 3 * number + 1)
    return position


HELPERS = (
    past_of, at, read, row_with, position_with, is_full, first_needed, first_above, decide_row, lookup, add_up,
    fold_extremes, carry, link, move_edges, subtract, least, count_distinct, before_window,
)  # fmt: skip
