"""What loops make of a batch's columns, and columns of results, is what numpy makes of them, bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.batch import Batch
from operators.windows import arrange, finish, operator
from operators.windows.arrange import Raw
from operators.windows.frame import by_slot, load
from operators.windows.layout import Layout, layouts
from operators.windows.program import Keys
from operators.windows.results import readers
from operators.windows.row_by_row import Loops, RowByRow, compiled_loops
from operators.windows.spec import Aggregate
from state.compiling import can_compile
from state.errors import RecordError
from state.table import KeyedTable
from tests.operators.samples import examples
from tests.operators.windows.harness import batch_of, feature, previous, random_rows, spec_of
from tests.operators.windows.test_replay import random_spec

LOOPS = [Loops, *[compiled_loops] * can_compile()]
NOTHING = np.empty(0, np.int64)


def layout_of(seed: int) -> Layout:
    rng = np.random.default_rng(seed)
    while True:
        for layout in layouts(random_spec(rng)):
            if not layout.precision:
                return layout


def arranged(loops: Loops, layout: Layout, batch: Batch, slots: Any) -> tuple[Any, Keys]:
    """Inputs and keys, of a table that knows nothing."""
    raw, table = Raw(layout), KeyedTable(layout.table)
    ring = table.ring
    assert ring is not None
    keyed = None if (slots >= 0).all() else np.flatnonzero(slots >= 0)
    inputs = np.zeros((batch.size, 1 + len(raw.fills)), np.int64)
    work = np.zeros((len(Keys._fields), batch.size + 5), np.int64)
    before = np.zeros((batch.size, 6 + table.rows.shape[1]), np.int64)
    state = ring.entries, ring.heads, ring.flushed, table.rows, table.dirty, table.task_of, table.dirty_of
    how = raw.fills, raw.of(batch, keyed)
    if not loops.arrange(how, (slots, NOTHING), (0, 128), state, (inputs, work, before)):
        raise RecordError("overflow", "")
    return inputs, Keys(*work)


@pytest.mark.parametrize("loops", LOOPS)
@examples(60)
@given(seed=st.integers(0, 1 << 32), size=st.integers(1, 40))
def test_inputs_and_keys_are_those_of_columns(loops: Any, seed: int, size: int) -> None:
    layout, rng = layout_of(seed), np.random.default_rng(seed)
    batch = batch_of(random_rows(seed, size, null=0.3))
    slots = rng.integers(-1, rng.choice([2, 900]), size)
    rows = np.flatnonzero(slots >= 0)
    inputs, keys = arranged(loops(), layout, batch, slots)
    assert inputs[rows].T.tolist() == load(layout, batch, rows).tolist()
    many, want = int(keys.counts[0]), by_slot(slots[rows])
    assert keys.slots[:many].tolist() == want.unique.tolist()
    assert keys.first[: many + 1].tolist() == want.first.tolist()
    assert keys.order[: len(rows)].tolist() == rows[want.order].tolist()


@pytest.mark.parametrize("loops", LOOPS)
def test_large_squares_are_exact_or_refused(loops: Any) -> None:
    (layout,) = layouts(spec_of(feature("stddev", "amount", 40)))
    for amount, is_refused in ((1 << 46, False), (-(1 << 46), False), ((1 << 46) + 1, True), (-(1 << 46) - 1, True)):
        batch = batch_of([row | {"amount": amount} for row in random_rows(1, 2, null=0.0)])
        slots = np.zeros(2, np.int64)
        if is_refused:
            with pytest.raises(RecordError, match="overflow"):
                arranged(loops(), layout, batch, slots)
        else:
            assert arranged(loops(), layout, batch, slots)[0].T.tolist() == load(layout, batch, None).tolist()


def test_null_where_declared_never_null_is_refused() -> None:
    (layout,) = layouts(spec_of(feature("sum", "amount", 40, nullable=False)))
    batch = batch_of([row | {"amount": None} for row in random_rows(1, 2)])
    with pytest.raises(RecordError, match="null"):
        Raw(layout).of(batch, None)
    Raw(layout).of(batch, NOTHING)  # they have no key


@pytest.mark.parametrize("loops", LOOPS)
@examples(60)
@given(seed=st.integers(0, 1 << 32), size=st.integers(0, 30), large=st.sampled_from([1, 4, 1 << 20, 1 << 45]))
def test_columns_are_those_of_the_readers(loops: Any, seed: int, size: int, large: int) -> None:
    layout, rng = layout_of(seed), np.random.default_rng(seed)
    result = rng.integers(0, large, (layout.result_rows, size))
    result[rng.random(result.shape) < 0.2] = 0
    counts = rng.integers(0, 5, size)
    for plan in layout.plans:
        if plan.feature.aggregate is Aggregate.STDDEV:  # of values that there can be
            values = rng.integers(-large, large + 1, (size, 5)).tolist()
            some = [row[:count] for row, count in zip(values, counts.tolist(), strict=True)]
            squares = [sum(value * value for value in row) for row in some]
            result[plan.counted], result[plan.value] = counts, [sum(row) for row in some]
            result[plan.high], result[plan.low] = [q >> 32 for q in squares], [q & 0xFFFF_FFFF for q in squares]
    ways = RowByRow(layout, loops())
    found, incomplete = ways.columns(result, np.zeros(size, np.int64))
    columns = dict(found)
    want = {name: read(result) for name, read in readers(layout)}
    assert list(columns) == list(want)
    for name, column in want.items():
        mine = columns[name]
        assert (mine.type, mine.values.dtype) == (column.type, column.values.dtype), name
        assert mine.values.tobytes() == column.values.tobytes(), name
        assert (mine.valid is None) == (column.valid is None), name
        if mine.valid is not None and column.valid is not None:
            assert mine.valid.tolist() == column.valid.tolist(), name
    assert incomplete.tolist() == result[layout.incomplete_at].astype(bool).tolist()


@pytest.mark.parametrize("loops", LOOPS)
def test_rows_without_a_key_have_nothing(loops: Any) -> None:
    wanted = [feature(name, "amount", 40, nullable=False) for name in ("sum", "max", "mean", "stddev", "count")]
    (layout,) = layouts(spec_of(*wanted, previous=(previous("flag"),)))
    result = np.zeros((layout.result_rows, 2), np.int64)
    found, _ = RowByRow(layout, loops()).columns(result, np.full(2, -1))
    for name, column in found:
        assert not column.values.any(), name
        if not name.startswith("count"):
            assert column.valid is not None, name
            assert not column.valid.any(), name


@pytest.mark.skipif(not can_compile(), reason="numba is an extra")
def test_all_loops_are_made_when_steps_are_prepared() -> None:
    """Else the first batch would wait for the compiler."""
    one = operator.WindowOperator(spec_of(feature("sum", "amount", 40)))
    one.prepare()
    made = [len(getattr(loop, "signatures")) for loop in compiled_loops()]  # noqa: B009
    assert made == [1, 1, 1]


def test_numbers_that_the_kept_code_has_from_other_modules() -> None:
    """See the test of that name in test_few.py."""
    high, low = (1 << 63) - 1, -(1 << 63)
    want = {
        arrange: {"KNOWN": 1, "COUNTED": 2, "NOTHING": high, "SQUARE_MAX": 1 << 46, "NEVER": low},
        finish: {"NOTHING": high},
    }
    for module, numbers in want.items():
        found = {name: value for name, value in vars(module).items() if isinstance(value, int) and name[0] != "_"}
        assert found == numbers
