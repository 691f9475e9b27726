"""A batch's rows made ready for the loops of loop.py: their inputs, as frame.py has them, and which are of one key.

Columns of the batch --one copy--> raw (columns, rows) --loop--> inputs (rows, inputs). Slots of the rows --loop-->
keys, by slot: neighbours in the tables. A key is left to columns if a row of it comes late, or finds that one before it
in the batch has expired. Of others what an undo needs is kept; they count as dirty, and as new if they have expired.
"""

from __future__ import annotations

__all__ = ["HELPERS", "Raw", "arrange"]

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from operators.batch import Batch
from operators.schema import DataType, Kind
from operators.windows.frame import COUNTED, I64, KNOWN, NOTHING, SQUARE_MAX, text_hashes
from operators.windows.layout import Layout
from operators.windows.program import Keys, State, StateArrays
from operators.windows.room import NEVER
from state.errors import RecordError

_VALUE, _HIGH, _LOW, _FLOAT, _HASH, _LEAST, _LARGEST, _LEAST_FLOAT, _LARGEST_FLOAT = range(9)  # kinds
_PARTS = {"count": _VALUE, "sum": _VALUE, "high": _HIGH, "low": _LOW}
_NEWEST = 0  # field of a key
_MASK, _START, _STOP = 1, 2, 3  # of its head
_LONG, _LEFT = 1, 2  # marks of a key
_Draft = tuple[
    int, str | None, str | None, str | None
]  # kind, columns: values, whose NULLs and which bools do not count


class Raw:
    """Which columns of a batch a layout's inputs are made of, and how.

    `fills` (inputs, 5): kind; number of the raw column of values (-1: all are 1), and of those that are 0 where a row
    does not count: by the value's NULLs, the bool, and its NULLs (-1: none).
    """

    def __init__(self, layout: Layout) -> None:
        self._types: dict[str | None, DataType | None] = {f.of: f.type for f in layout.features}
        self._types |= {p.of: p.type for p in layout.previous}
        drafts = list(self._drafts(layout))
        values = dict.fromkeys(name for _, of, _, where in drafts for name in (of, where) if name)
        valid = dict.fromkeys(name for _, _, *names in drafts for name in names if name)
        self._numbers = [name for name in values if self._kind(name) not in (Kind.FLOAT64, Kind.STRING)]
        self._floats = [name for name in values if self._kind(name) is Kind.FLOAT64]
        self._texts = [name for name in values if self._kind(name) is Kind.STRING]
        self._valid = list(valid)
        order = [*self._numbers, *self._floats, *self._texts]
        value_at = {name: 1 + i for i, name in enumerate(order)}
        valid_at = {name: 1 + len(order) + i for i, name in enumerate(valid)}
        self.fills: I64 = np.array(
            [
                (kind, value_at.get(of or "", -1), valid_at.get(known or "", -1), value_at.get(where or "", -1),
                 valid_at.get(where or "", -1))
                for kind, of, known, where in drafts
            ], np.int64,
        ).reshape(-1, 5)  # fmt: skip
        sources = [prefix.source for prefix in layout.prefixes] + [source for source, _ in layout.extremes]
        sure = [source.of for source in (*sources, *layout.hashes) if source.of and not source.nullable]
        self._sure = list(dict.fromkeys([*sure, *(c.of for c in layout.carried if not c.nullable)]))

    def _drafts(self, layout: Layout) -> Iterator[_Draft]:
        """Of each input but the time."""
        for part, source in layout.prefixes:
            yield _PARTS[part], None if part == "count" else source.of, source.of, source.where
        for source, largest in layout.extremes:
            is_float = self._kind(source.of) is Kind.FLOAT64
            kind = (_LEAST_FLOAT if is_float else _LEAST) + largest
            yield kind, source.of, source.of, source.where
        for source in layout.hashes:
            yield _FLOAT if self._kind(source.of) is Kind.FLOAT64 else _VALUE, source.of, None, None
        for source in layout.hashes:
            yield _HASH, None, source.of, source.where
        for carried in layout.carried:
            yield _VALUE, carried.of, None, None
        for carried in layout.carried:
            yield _VALUE, None, carried.of, None
        for name in layout.filters:
            yield _VALUE, None, None, name

    def _kind(self, name: str | None) -> Kind | None:
        type_ = self._types.get(name)
        return None if type_ is None else type_.kind

    def of(self, batch: Batch, keyed: npt.NDArray[np.intp] | None) -> I64:
        """The raw columns (columns, rows): event time, values, and where these are not NULL.

        `keyed`: the rows with a key, None: all.

        Raises:
            RecordError: NULL where declared never NULL.
        """
        columns, all_valid = batch.columns, np.empty(batch.size, np.bool_)
        all_valid.fill(True)
        for name in self._sure:
            valid = columns[name].valid
            if valid is not None and not (valid if keyed is None else valid[keyed]).all():
                raise RecordError("null", f"{name} was declared never NULL")
        parts = [batch.event_time, *[columns[name].values for name in self._numbers]]
        parts += [columns[name].values.view(np.int64) for name in self._floats]
        parts += text_hashes(batch, self._texts)
        parts += [all_valid if (valid := columns[name].valid) is None else valid for name in self._valid]
        return np.concatenate(parts).reshape(-1, batch.size)  # bools become int64


def arrange(
    how: tuple[I64, I64], rows: tuple[I64, I64], limits: tuple[int, int], state: StateArrays, out: tuple[I64, I64, I64]
) -> bool:
    """Inputs of all rows, and what is to be done with each key.

    Args:
        how: `Raw.fills`; raw columns (columns, rows).
        rows: the slot of each, -1 of one without a key; stream time, ms, empty without a ttl.
        limits: the ttl, ms; the longest ring that is no long one.
        state: `State` as a plain tuple.
        out: to be filled: inputs (rows, inputs); `Keys`, one a row; keys as they were (keys, 6 + fields; `touch`).

    Returns:
        False: a value is too large for an exact sum of squares; then nothing has changed.
    """
    fills, raw = how
    slots, stream = rows
    inputs, work, before = out
    inputs[:, 0] = raw[0]
    for i in range(len(fills)):
        if not fill(fills[i], raw, slots, inputs[:, 1 + i]):
            return False
    keys = Keys(work[0], work[1], work[2], work[3], work[4], work[5], work[6], work[7])
    find_keys(slots, keys, sort_by_slot(slots, keys.order))
    look(State(*state), keys, (inputs[:, 0], stream), limits, before)
    return True


# ---- inputs


def fill(how: I64, raw: I64, slots: I64, out: I64) -> bool:
    """An input of all rows with a key. False: a value is too large for an exact sum of squares."""
    kind, value_at, known_at = how[0], how[1], how[2]
    for row in range(len(slots)):
        if slots[row] < 0:
            continue
        is_known = known_at < 0 or raw[known_at, row] != 0
        counts = is_known and (how[3] < 0 or (raw[how[3], row] != 0 and raw[how[4], row] != 0))
        value = raw[value_at, row] if value_at >= 0 else 1
        if kind == _HASH:
            out[row] = (KNOWN if is_known else 0) | (COUNTED if counts else 0)
        elif not counts:
            out[row] = NOTHING if kind >= _LEAST else 0
        elif kind == _VALUE:
            out[row] = value
        elif kind in (_HIGH, _LOW):
            if not -SQUARE_MAX <= value <= SQUARE_MAX:
                return False
            out[row] = limb(abs(value), kind)
        else:
            out[row] = formed(value, kind)
    return True


def formed(value: int, kind: int) -> int:
    """A float's bits with one zero only; what is to be the least in the order of ints."""
    if kind in (_FLOAT, _LEAST_FLOAT, _LARGEST_FLOAT):
        value = plus_zero(value)
    if kind in (_LEAST_FLOAT, _LARGEST_FLOAT):
        value = ordered(value)
    return ~value if kind in (_LARGEST, _LARGEST_FLOAT) else value


def plus_zero(bits: int) -> int:
    """A float's bits, those of 0.0 for -0.0."""
    return 0 if bits == NEVER else bits


def ordered(bits: int) -> int:
    """A float's bits as an int in the same order."""
    return bits ^ (bits >> 63 & NOTHING)


def limb(size: int, kind: int) -> int:
    """The square's upper or lower limb, 2**32 apart."""
    upper, lower = size >> 23, size & ((1 << 23) - 1)
    cross = 2 * upper * lower
    low = ((cross & 511) << 23) + lower * lower
    return (upper * upper << 14) + (cross >> 9) + (low >> 32) if kind == _HIGH else low & 0xFFFF_FFFF


# ---- keys


def sort_by_slot(slots: I64, order: I64) -> int:
    """Rows with a key into `order`, by slot and then as they come: neighbours in the tables; returns how many."""
    many, top, bits = 0, 0, 4
    for row in range(len(slots)):
        if slots[row] >= 0:
            order[many] = row
            many += 1
            top = max(top, slots[row])
    while 1 << bits < many and bits < 11:
        bits += 1
    ends, other, shift = np.empty(1 << bits, np.int64), np.empty(many, np.int64), 0
    while many > 1 and top >> shift:  # by one digit after the other, the lowest first
        ends[:] = 0
        for i in range(many):
            ends[slots[order[i]] >> shift & ((1 << bits) - 1)] += 1
        for digit in range(1, 1 << bits):
            ends[digit] += ends[digit - 1]
        for i in range(many - 1, -1, -1):
            digit = slots[order[i]] >> shift & ((1 << bits) - 1)
            ends[digit] -= 1
            other[ends[digit]] = order[i]
        for i in range(many):
            order[i] = other[i]
        shift += bits
    return many


def find_keys(slots: I64, keys: Keys, many: int) -> None:
    """Fill `slots` and `first` of keys from the `order` of so many rows."""
    at = 0
    for i in range(many):
        slot = slots[keys.order[i]]
        if i == 0 or keys.slots[at - 1] != slot:
            keys.slots[at], keys.first[at] = slot, i
            at += 1
    keys.first[at] = many
    keys.counts[0], keys.counts[1], keys.counts[2], keys.counts[3] = at, 0, 0, 0


def look(now: State, keys: Keys, rows: tuple[I64, I64], limits: tuple[int, int], before: I64) -> None:
    """Say of each key what is to be done with it (`marks`), and touch those that are not left."""
    ttl, short = limits
    times, stream = rows
    for key in range(keys.counts[0]):
        slot, order = keys.slots[key], keys.order[keys.first[key] : keys.first[key + 1]]
        newest = now.fields[slot, _NEWEST] if now.heads[slot, _STOP] > 0 else NEVER
        has_expired = newest != NEVER and ttl > 0 and stream[order[0]] - newest >= ttl
        if has_expired:
            newest = NEVER
        if is_left(order, times, stream, newest, ttl):
            keys.marks[key] = _LEFT
            for i in range(len(order)):
                keys.left[keys.counts[2] + i] = order[i]
            keys.counts[2] += len(order)
            continue
        touch(now, slot, before[keys.counts[1]])
        keys.counts[1] += 1
        if has_expired:
            renew(now, slot)
        is_long = now.heads[slot, _STOP] - now.heads[slot, _START] + len(order) > short
        keys.marks[key] = _LONG if is_long else 0
        keys.counts[3] += is_long


def is_left(order: I64, times: I64, stream: I64, newest: int, ttl: int) -> bool:
    """Whether a row of a key comes late, or finds that a row before it in the batch has expired."""
    for i in range(len(order)):
        row = order[i]
        if times[row] < newest or (i > 0 and ttl > 0 and stream[row] - newest >= ttl):
            return True
        newest = times[row]
    return False


def touch(now: State, slot: int, before: I64) -> None:
    """Keep a key's slot, head, `flushed` and fields for an undo, and mark it dirty."""
    before[0], before[5] = slot, now.flushed[slot]
    for i in range(4):
        before[1 + i] = now.heads[slot, i]
    for i in range(now.fields.shape[1]):
        before[6 + i] = now.fields[slot, i]
    if not now.dirty[slot]:
        now.dirty[slot] = True
        now.dirty_of[now.task_of[slot]] += 1


def renew(now: State, slot: int) -> None:
    """A key that has expired is as new, and has no block."""
    now.fields[slot] = 0
    now.heads[slot] = 0
    now.heads[slot, _MASK] = -1
    now.flushed[slot] = 0


HELPERS = (
    fill, formed, plus_zero, ordered, limb, sort_by_slot, find_keys, look, is_left, touch, renew,
)  # fmt: skip
