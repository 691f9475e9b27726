"""A layout in numbers, all int64: what the loops of loop.py go by, whose machine code so fits every layout."""

from __future__ import annotations

__all__ = ["Keys", "Packed", "Past", "Program", "Row", "Rows", "State", "StateArrays", "packed", "program"]

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from operators.windows import extremes
from operators.windows.layout import I64, Layout, Lookup
from state.arena import BLOCK_MIN

Packed = tuple[npt.NDArray[Any], tuple[I64, ...]]
"""A program as arrays: its numbers as one record, and its tables."""


StateArrays = tuple[I64, I64, I64, I64, npt.NDArray[np.bool_], npt.NDArray[np.int32], I64]
"""`State` as a plain tuple: of a named one numba makes a call ready in several times the time."""


class State(NamedTuple):
    """Of a table: its arena, and by slot the heads of rings, below which positions all is as stored, the fields,
    whether the row is dirty, and its task; by task, how many rows are dirty.
    """

    entries: I64
    heads: I64
    flushed: I64
    fields: I64
    dirty: npt.NDArray[np.bool_]
    task_of: npt.NDArray[np.int32]
    dirty_of: I64


class Rows(NamedTuple):
    """Of each row its `inputs` (rows, inputs; frame.py says which), and `found` (rows, hashes): the newest position
    before it that counts its value, or NONE.
    """

    inputs: I64
    found: I64


class Keys(NamedTuple):
    """Rows of the key at `slots[k]` are `order[first[k] : first[k + 1]]`, in row order.

    `marks`: 1: its ring is long; 2: it is left to columns. It moves to a block of so many entries (`lengths`; 0: it
    stays) at `offs`. `left`: the rows of keys that are left, ascending. `counts`: of keys, of those touched, of rows
    left, of long keys, of what `loop.decide` keeps.
    """

    slots: I64
    first: I64
    order: I64
    marks: I64
    lengths: I64
    offs: I64
    left: I64
    counts: I64


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


class Program(NamedTuple):
    """How many there are of what, and where it stands: in a row's inputs (`.._input`), in an entry (`.._column`), in
    the marks of a key (`.._mark`, see loop.py) and in a result (`.._at`).

    `reads` (n, 2): edge and column of an entry; `pairs` (n, 2): marks, the second is subtracted from the first;
    `least`, `distinct`, `first_seen` (n, 3): column number, low edge, high edge; `carried` (n, 2): depth, filter;
    `low_limbs`: numbers of prefixes; `offsets`: ms, ascending.
    """

    horizon: int
    max_entries: int
    least_block: int
    short_block: int
    long_block: int
    prefixes: int
    extremes: int
    hashes: int
    fields: int
    is_flagged: int
    extreme_input: int
    hash_input: int
    state_input: int
    carried_input: int
    valid_input: int
    passing_input: int
    extreme_column: int
    hash_column: int
    carried_column: int
    flags_column: int
    total_mark: int
    counter_mark: int
    read_mark: int
    least_at: int
    distinct_at: int
    first_seen_at: int
    previous_at: int
    valid_at: int
    incomplete_at: int
    offsets: I64
    low_limbs: I64
    reads: I64
    pairs: I64
    least: I64
    distinct: I64
    first_seen: I64
    carried: I64


def program(layout: Layout) -> Program:
    """The program of a layout without a precision."""
    assert not layout.precision
    short, long = extremes.BLOCKS
    hashes, carried = len(layout.hashes), len(layout.carried)
    extreme_input = 1 + len(layout.prefixes)
    hash_input = extreme_input + len(layout.extremes)
    carried_input = hash_input + 2 * hashes
    total_mark = 1 + len(layout.offsets)
    counter_mark = total_mark + len(layout.prefixes)
    pairs = _table(layout.pairs, 2)
    pairs[pairs >= counter_mark] += len(layout.distinct)  # in the marks, counters stand before what is read
    return Program(
        horizon=layout.horizon,
        max_entries=layout.spec.max_entries,
        least_block=BLOCK_MIN,
        short_block=short,
        long_block=long,
        prefixes=len(layout.prefixes),
        extremes=len(layout.extremes),
        hashes=hashes,
        fields=layout.bucket_field - layout.EDGES,
        is_flagged=int(layout.flagged),
        extreme_input=extreme_input,
        hash_input=hash_input,
        state_input=hash_input + hashes,
        carried_input=carried_input,
        valid_input=carried_input + carried,
        passing_input=carried_input + 2 * carried,
        extreme_column=layout.extreme_column,
        hash_column=layout.hash_column,
        carried_column=layout.carried_column,
        flags_column=layout.flags_column,
        total_mark=total_mark,
        counter_mark=counter_mark,
        read_mark=counter_mark + len(layout.distinct),
        least_at=layout.extreme_at,
        distinct_at=layout.distinct_at,
        first_seen_at=layout.first_seen_at,
        previous_at=layout.previous_at,
        valid_at=layout.valid_at,
        incomplete_at=layout.incomplete_at,
        offsets=np.array(layout.offsets, np.int64),
        low_limbs=np.array(layout.low_limbs, np.int64),
        reads=_table([(edge, layout.prefix_at + prefix) for edge, prefix in layout.reads], 2),
        pairs=pairs,
        least=_lookups(layout.extreme_lookups),
        distinct=_lookups(layout.distinct),
        first_seen=_lookups(layout.first_seen),
        carried=_table([(carried.depth, carried.filter) for carried in layout.carried], 2),
    )


def packed(program: Program) -> Packed:
    """What the loops are given (`loop.unpacked`)."""
    tables = tuple(part for part in program if isinstance(part, np.ndarray))
    numbers = program[: len(program) - len(tables)]
    types = [(name, np.int64) for name in program._fields[: len(numbers)]]
    return np.array([numbers], types).view(np.recarray), tables


def _table(rows: Iterable[tuple[int, ...]], columns: int) -> I64:
    return np.array(list(rows), np.int64).reshape(-1, columns)


def _lookups(lookups: Iterable[Lookup]) -> I64:
    return _table([(lookup.column, *lookup.window) for lookup in lookups], 3)
