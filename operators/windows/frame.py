"""The rows of a batch as one int64 matrix, sorted by key and inside a key in row order.

Every input becomes int64: decimals, ints and timestamps as they are, bools 0 or 1, floats in an order-preserving
form (extremes), by bit pattern (distinct) or raw (previous), strings by their stable hash. What does not count
(NULL, `where` not true) is the neutral value of its kernel. One gather sorts the whole matrix.
"""

from __future__ import annotations

__all__ = ["I64", "BySlot", "Frame", "by_slot", "load", "text_hashes"]

from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from operators.batch import Batch, Column
from operators.schema import Kind
from operators.windows.layout import I64, Layout, Source
from state.errors import RecordError
from state.hashing import stable_hashes64

Mask = npt.NDArray[np.bool_]
NOTHING = np.iinfo(np.int64).max  # in the extremes: larger than any value
SQUARE_MAX = 1 << 46
KNOWN, COUNTED = 1, 2  # bits of a hash's state


class BySlot(NamedTuple):
    """Rows of a batch by slot, and for one slot in row order: which rows (`order`), and the slot of each.

    Those of the key at `unique[k]` are `first[k]` to `first[k + 1]`.
    """

    order: I64
    slots: I64
    unique: I64
    first: I64

    @property
    def counts(self) -> I64:
        """How many rows each key has."""
        return self.first[1:] - self.first[:-1]

    def take(self, rows: I64) -> BySlot:
        """Those at ascending `rows`."""
        return _grouped(self.order[rows], self.slots[rows])


def by_slot(slots: I64) -> BySlot:
    """One sort of (slot, row) packed into an int64 is faster than a stable argsort."""
    size = len(slots)
    bits = size.bit_length()
    packed = (slots << bits) | np.arange(size)
    packed.sort()
    return _grouped(packed & ((1 << bits) - 1), packed >> bits)


def _grouped(order: I64, slots: I64) -> BySlot:
    if not len(slots):
        return BySlot(order, slots, slots, np.zeros(1, np.int64))
    begins = (slots[1:] != slots[:-1]).nonzero()[0]
    first = np.empty(len(begins) + 2, np.int64)
    first[0], first[-1] = 0, len(slots)
    np.add(begins, 1, out=first[1:-1])
    return BySlot(order, slots, slots[first[:-1]], first)


class Frame:
    """Sorted rows of one layout.

    `data` is (inputs, rows): time, prefix values, extremes, hashes, hash states, carried values and their
    validity, which rows pass each filter of earlier rows. `first`, `count`: where each key's rows lie; `group`: the
    key's number of each row.
    """

    def __init__(self, layout: Layout, rows: BySlot, data: I64) -> None:
        self.layout, self.rows = layout, rows
        self.slots, self.unique = rows.slots, rows.unique
        self.data = data
        self.size = len(rows.slots)
        self.first, self.count = rows.first[:-1], rows.counts
        self.last = rows.first[1:] - 1
        self.group = np.arange(len(self.unique)).repeat(self.count)
        self.time = data[0]
        self.clock = layout.clock(self.time)
        at = 1 + len(layout.prefixes)
        self.values = data[1:at]
        self.extremes = data[at : at + len(layout.extremes)]
        at += len(layout.extremes)
        hashes, carried = len(layout.hashes), len(layout.carried)
        self.hashes, self.states = data[at : at + hashes], data[at + hashes : at + 2 * hashes]
        at += 2 * hashes
        self.carried, self.valid = data[at : at + carried], data[at + carried : at + 2 * carried]
        self.passing = data[at + 2 * carried :]

    @cached_property
    def limits(self) -> I64:
        """(edges, rows): `Layout.limits` of every row; a replay needs only those of each key's last one."""
        return self.layout.limits(self.time)

    def take(self, rows: npt.NDArray[np.intp]) -> Frame:
        """Those rows (ascending)."""
        return Frame(self.layout, self.rows.take(rows), self.data[:, rows])

    def rank(self) -> I64:
        """Number of each row among its key's rows."""
        rank: I64 = np.arange(self.size) - self.first[self.group]
        return rank


def load(layout: Layout, batch: Batch, rows: npt.NDArray[np.intp] | None) -> I64:
    """The unsorted input matrix of the batch (of `rows` only, if given).

    Raises:
        RecordError: a value is too large for an exact sum of squares, or NULL where declared never NULL.
    """
    return _Loader(batch, rows).matrix(layout)


class _Loader:
    def __init__(self, batch: Batch, rows: npt.NDArray[np.intp] | None) -> None:
        self.batch = batch
        self.rows = rows
        self.size = batch.size if rows is None else len(rows)
        self.masks: dict[Source, Mask | None] = {}
        self.values: dict[Source, I64] = {}  # of rows that count, else 0
        self.squares: dict[Source, tuple[I64, I64]] = {}

    def matrix(self, layout: Layout) -> I64:
        inputs = 1 + len(layout.prefixes) + len(layout.extremes) + 2 * (len(layout.hashes) + len(layout.carried))
        out = np.empty((inputs + len(layout.filters), self.size), np.int64)
        out[0] = self.batch.event_time if self.rows is None else self.batch.event_time[self.rows]
        at = 1
        for part, source in layout.prefixes:
            self._total(part, source, out[at])
            at += 1
        for source, largest in layout.extremes:
            self._extreme(source, largest, out[at])
            at += 1
        hashes, carried = len(layout.hashes), len(layout.carried)
        for i, source in enumerate(layout.hashes):
            self._hash(source, out[at + i], out[at + hashes + i])
        at += 2 * hashes
        for i, wanted in enumerate(layout.carried):
            column = self._column(wanted.of, wanted.nullable)
            out[at + i] = column.values.view(np.int64) if column.type.kind is Kind.FLOAT64 else column.values
            out[at + carried + i] = 1 if column.valid is None else column.valid
        for i, name in enumerate(layout.filters, inputs):
            column = self._column(name, True)
            out[i] = column.values if column.valid is None else column.values & column.valid
        return out

    def _column(self, name: str, nullable: bool) -> Column:
        column = self.batch.columns[name]
        if self.rows is not None:
            column = column.take(self.rows)
        if not nullable and column.valid is not None and not column.valid.all():
            raise RecordError("null", f"{name} was declared never NULL")
        return column

    def _mask(self, source: Source) -> Mask | None:
        """Rows that count; None: all."""
        if source not in self.masks:
            parts = []
            if source.of is not None and (valid := self._column(source.of, source.nullable).valid) is not None:
                parts.append(valid)
            if source.where is not None:
                where = self._column(source.where, True)
                parts.append(where.values.astype(np.bool_, copy=False))
                if where.valid is not None:
                    parts.append(where.valid)
            mask: Mask | None = None
            for part in parts:
                mask = part if mask is None else mask & part
            self.masks[source] = mask
        return self.masks[source]

    def _total(self, part: str, source: Source, out: I64) -> None:
        mask = self._mask(source)
        if part == "count":
            out[:] = 1 if mask is None else mask
            return
        if source not in self.values:
            assert source.of is not None
            values = self._column(source.of, source.nullable).values
            self.values[source] = values if mask is None else np.where(mask, values, 0)
        if part == "sum":
            out[:] = self.values[source]
            return
        if source not in self.squares:
            self.squares[source] = _square(self.values[source])
        out[:] = self.squares[source][part == "low"]

    def _extreme(self, source: Source, largest: bool, out: I64) -> None:
        assert source.of is not None
        column = self._column(source.of, source.nullable)
        values = _ordered(column.values) if column.type.kind is Kind.FLOAT64 else column.values
        mask = self._mask(source)
        out[:] = ~values if largest else values
        if mask is not None:
            out[~mask] = NOTHING

    def _hash(self, source: Source, out: I64, state: I64) -> None:
        assert source.of is not None
        column = self._column(source.of, source.nullable)
        mask = self._mask(source)
        if column.type.kind is Kind.STRING:
            (hashes,) = text_hashes(self.batch, [source.of])
            out[:] = hashes if self.rows is None else hashes[self.rows]
        elif column.type.kind is Kind.FLOAT64:
            out[:] = (column.values + 0.0).view(np.int64)
        else:
            out[:] = column.values
        state[:] = KNOWN if column.valid is None else column.valid
        state[:] |= COUNTED if mask is None else mask * COUNTED


def _square(values: I64) -> tuple[I64, I64]:
    """Squares as limbs: high * 2**32 + low, 0 <= low < 2**32."""
    size = np.abs(values)
    if len(size) and (int(size.max()) > SQUARE_MAX or int(values.min()) < -SQUARE_MAX):
        raise RecordError("overflow", "a value is too large for an exact standard deviation")
    upper, lower = size >> 23, size & ((1 << 23) - 1)
    cross = 2 * upper * lower
    low = ((cross & 511) << 23) + lower * lower
    return (upper * upper << 14) + (cross >> 9) + (low >> 32), low & 0xFFFF_FFFF


def _ordered(values: npt.NDArray[np.float64]) -> I64:
    """Floats as ints in the same order; its own inverse on the bits (`unordered`)."""
    return unordered((values + 0.0).view(np.int64))


def unordered(bits: I64) -> I64:
    """The float's bits behind its ordered form, and back."""
    return bits ^ ((bits >> 63) & np.int64(NOTHING))


def text_hashes(batch: Batch, names: list[str]) -> list[I64]:
    """Stable hashes of columns of texts, int64 (rows,) each, made once a batch."""
    columns, known, size = batch.columns, batch.hashes, batch.size
    new = [name for name in names if name not in known or known[name][0] is not columns[name].values]
    if new:
        texts: list[str] = []
        for name in new:
            texts += columns[name].values.tolist()
        hashes = stable_hashes64(texts)
        for i, name in enumerate(new):
            known[name] = columns[name].values, hashes[i * size : (i + 1) * size]
    return [known[name][1] for name in names]
