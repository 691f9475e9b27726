"""What look-back windows do to a row, in order: plain loops over int64 arrays, as machine code where it can be made.

Rows have been arranged by key (arrange.py). They go through two steps, in one call unless rings grow between these:

    1  ready     find      where each value of a row last stood, if it is one that is looked for
                 expire    of a key that lacks room: entries that no row can see go, so that the ring may grow less
                 and keep  what an undo needs as it is: such entries, and those that will learn of a later value
    2  go on     row by row: the entry, the edges, what stands between them

What a key remembers of its newest row are its marks; `before` are those of the row before:

    marks        0: one past the row's own position; the edges; totals through the row; counters of distinct values;
                 what is read from the entries at the edges
    an edge      the first position whose clock is above the row's time less an offset
    a window     the positions between two edges, or between an edge and mark 0: that is edge -1, NOT_DELAYED
"""

from __future__ import annotations

__all__ = ["HELPERS", "decide"]

import numpy as np

from operators.windows.frame import COUNTED, I64, KNOWN, NOTHING
from operators.windows.hashes import NONE
from operators.windows.program import Keys, Packed, Past, Program, Row, Rows, State, StateArrays
from operators.windows.room import NEVER
from operators.windows.totals import TOTAL_MAX

_NEWEST, _DROPPED, _EDGES = 0, 1, 2  # fields of a key
_OFF, _MASK, _START, _STOP = 0, 1, 2, 3  # of its head
_LOW = 0xFFFF_FFFF
_LONG, _LEFT = 1, 2  # marks of a key


def decide(step: int, packed: Packed, state: StateArrays, batch: tuple[I64, I64], out: tuple[I64, I64, I64]) -> int:
    """Rows in order from a `step` on.

    Args:
        step: 1, or what was returned once what it waits for has been done.
        packed: `Program`.
        state: `State` as a plain tuple.
        batch: `Rows`; `found` is filled of keys whose rings are long.
        out: `Keys`, arranged, one a row; to be filled: what an undo needs of this, entries, each behind its place (any
            number, 1 + columns); results (result rows, rows).

    Returns:
        What comes next: 1: the same, with as many places for entries as `counts` says; 2: keys with `lengths` wait for
        blocks (`offs`); 3: all is done; 0: a running total is too large and the batch is to be undone.
    """
    work, kept, result = out
    p, now, rows = unpacked(packed), State(*state), Rows(*batch)
    keys = Keys(work[0], work[1], work[2], work[3], work[4], work[5], work[6], work[7])
    if step == 1:
        keys.counts[4] = rows.found.size + most_gone(p, now, rows.inputs, keys)
        if keys.counts[4] > len(kept):
            return 1
        if ready(p, now, rows, keys, kept):
            return 2
    else:
        move(now, keys)
    return 3 if go_on(p, now, rows, keys, result) else 0


def unpacked(packed: Packed) -> Program:
    """A program as program.py packed it."""
    numbers, tables = packed
    n = numbers[0]
    return Program(
        n.horizon, n.max_entries, n.least_block, n.short_block, n.long_block, n.prefixes, n.extremes, n.hashes,
        n.fields, n.is_flagged, n.extreme_input, n.hash_input, n.state_input, n.carried_input, n.valid_input,
        n.passing_input, n.extreme_column, n.hash_column, n.carried_column, n.flags_column, n.total_mark,
        n.counter_mark, n.read_mark, n.least_at, n.distinct_at, n.first_seen_at, n.previous_at, n.valid_at,
        n.incomplete_at, *tables,
    )  # fmt: skip


def past_of(entries: I64, head: I64) -> Past:
    """The ring of a key as it is now."""
    return Past(entries, head[_OFF], head[_MASK], head[_START], head[_STOP])


def at(past: Past, position: int) -> int:
    """Where the entry at a position lies in the arena."""
    return past.off + (position & past.mask)


def read(past: Past, position: int, column: int) -> int:
    """A column of the entry at a position."""
    return int(past.entries[at(past, position), column])


# ---- 1


def most_gone(p: Program, now: State, inputs: I64, keys: Keys) -> int:
    """How many entries go."""
    entries, heads, fields, marks, order, most = now.entries, now.heads, now.fields, keys.marks, keys.order, 0
    for key in range(keys.counts[0]):  # a helper that is given tuples of many arrays counts references to all of them
        slot, first, end = keys.slots[key], keys.first[key], keys.first[key + 1]
        is_full = heads[slot, _STOP] + end - first - heads[slot, _START] > heads[slot, _MASK] + 1
        if is_full and marks[key] != _LEFT:
            past = past_of(entries, heads[slot])
            most += first_needed(p, past, fields[slot], inputs[order[first], 0]) - past.start
    return most


def ready(p: Program, now: State, rows: Rows, keys: Keys, kept: I64) -> bool:
    """Step 1, into `kept`. Whether keys need other blocks."""
    inputs, found = rows.inputs, rows.found
    entries, heads, fields, flushed = now.entries, now.heads, now.fields, now.flushed
    slots, firsts, orders, marks, lengths = keys.slots, keys.first, keys.order, keys.marks, keys.lengths
    count, moves = 0, False
    for key in range(keys.counts[0]):
        lengths[key] = 0
        if marks[key] == _LEFT:
            continue
        slot, first, end = slots[key], firsts[key], firsts[key + 1]
        past = past_of(entries, heads[slot])
        start, need = past.start, past.stop + end - first
        if need - start > past.mask + 1:
            start = first_needed(p, past, fields[slot], inputs[orders[first], 0])
            for position in range(past.start, start):
                keep(past, position, kept[count])
                count += 1
        for i in range(first, end if p.hashes else first):
            row = orders[i]
            for number in range(p.hashes):
                if marks[key] != _LONG:
                    found[row, number] = find(p, past, inputs, orders[first : i + 1], number)
                position = found[row, number]
                if start <= position < past.stop and inputs[row, p.state_input + number] & COUNTED:
                    keep(past, position, kept[count])
                    count += 1
                    flushed[slot] = min(flushed[slot], position)
        if start > past.start:
            fields[slot, _DROPPED] = max(fields[slot, _DROPPED] ^ NEVER, read(past, start - 1, 0)) ^ NEVER
            for edge in range(_EDGES, _EDGES + len(p.offsets)):
                fields[slot, edge] = max(fields[slot, edge], start)
            heads[slot, _START] = start
        if need - start > past.mask + 1:
            lengths[key], moves = p.least_block, True
            while lengths[key] < need - start:
                lengths[key] *= 2
    keys.counts[4] = count
    return moves


def keep(past: Past, position: int, out: I64) -> None:
    """An entry as it is, behind its place."""
    place = at(past, position)
    out[0] = place
    for i in range(past.entries.shape[1]):  # several times as fast as to assign slices
        out[1 + i] = past.entries[place, i]


def find(p: Program, past: Past, inputs: I64, order: I64, number: int) -> int:
    """The newest position before the last of a key's rows that counts its value of a hash column; NONE: none does, or
    it is not asked.
    """
    own = len(order) - 1
    row = inputs[order[own]]
    if not row[p.state_input + number] & KNOWN:
        return NONE
    value = row[p.hash_input + number]
    for other in range(own - 1, -1, -1):
        row = inputs[order[other]]
        if row[p.hash_input + number] == value and row[p.state_input + number] & COUNTED:
            return past.stop + other
    column = p.hash_column + 3 * number
    for position in range(past.stop - 1, past.start - 1, -1):
        if read(past, position, column) == value and read(past, position, column + 1) != NOTHING:
            return position
    return NONE


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


# ---- 2


def move(now: State, keys: Keys) -> None:
    """Rings that grow move to their new blocks."""
    entries, heads, slots, lengths, offs = now.entries, now.heads, keys.slots, keys.lengths, keys.offs
    for key in range(keys.counts[0]):
        if lengths[key]:
            head, off, mask = heads[slots[key]], offs[key], lengths[key] - 1
            past = past_of(entries, head)
            for position in range(past.start, past.stop):
                place, new = at(past, position), off + (position & mask)
                for i in range(entries.shape[1]):
                    entries[new, i] = entries[place, i]
            head[_OFF], head[_MASK] = off, mask


def go_on(p: Program, now: State, rows: Rows, keys: Keys, result: I64) -> bool:
    """Step 2, into `result` (result rows, rows). False: a running total is too large; the batch is to be undone."""
    inputs, found, entries, heads, all_fields = rows.inputs, rows.found, now.entries, now.heads, now.fields
    slots, firsts, orders, key_marks = keys.slots, keys.first, keys.order, keys.marks
    marks, before = np.zeros(p.read_mark + len(p.reads), np.int64), np.zeros(p.read_mark + len(p.reads), np.int64)
    for key in range(keys.counts[0]):
        if key_marks[key] == _LEFT:
            continue
        slot = slots[key]
        past, fields = past_of(entries, heads[slot]), all_fields[slot]
        marks[0] = past.stop
        marks[1 : 1 + p.fields] = fields[_EDGES : _EDGES + p.fields]
        for i in range(firsts[key], firsts[key + 1]):
            before[:] = marks
            number = orders[i]
            row = Row(inputs[number], found[number], before, marks, result[:, number])
            if not decide_row(p, past, fields, row):
                return False
        fields[_EDGES : _EDGES + p.fields] = marks[1 : 1 + p.fields]
        heads[slot, _STOP] = marks[0]
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
        number, low, high = p.least[i, 0], p.least[i, 1], p.least[i, 2]
        column = p.extreme_column + 3 * number
        row.out[p.least_at + i] = least(p, past, column, row.marks[1 + low], row.marks[1 + high])
    count_distinct(p, past, row)
    for i in range(len(p.first_seen)):
        number, low, high = p.first_seen[i, 0], p.first_seen[i, 1], p.first_seen[i, 2]
        position = before_window(p, past, number, row.found[number], row.marks[1 + high])
        is_new = position < row.marks[1 + low] and row.inputs[p.state_input + number] & KNOWN != 0
        row.out[p.first_seen_at + i] = 1 if is_new else 0
    return True


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
        number, low, high = p.distinct[i, 0], p.distinct[i, 1], p.distinct[i, 2]
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
    unpacked, past_of, at, read, most_gone, ready, keep, find, first_needed, first_above,
    move, go_on, decide_row, add_up, fold_extremes, carry, link, move_edges, subtract, least, count_distinct,
    before_window,
)  # fmt: skip
