"""What all tasks of a transaction share is what each of them would have made by itself."""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from operators.batch import Column, TaskRows
from operators.operator import BOOL, INT64
from streamproc.runtime.entries import TaskSpan, exact_matrix, spans_of
from streamproc.runtime.results import Judged
from tests.operators.samples import examples


def _exact(columns: list[Column], size: int) -> npt.NDArray[np.int64]:
    """Column by column."""
    count = len(columns)
    out = np.zeros((size, count + -(-count // 63)), np.int64)
    for i, (_, values, valid) in enumerate(columns):
        for row in range(size):
            if valid is None or valid[row]:
                out[row, i] = values[row]
            else:
                out[row, count + i // 63] |= np.int64(1 << i % 63)
    return out


@examples(100)
@given(st.integers(0, 130), st.integers(0, 5), st.integers(0, 1 << 32))
def test_exact_columns_at_once(count: int, size: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    columns = []
    for _ in range(count):
        valid = None if random.random() < 0.5 else random.random(size) < 0.7
        if random.random() < 0.3:
            columns.append(Column(BOOL, random.random(size) < 0.5, valid))
        else:
            columns.append(Column(INT64, random.integers(-(2**63), 2**63 - 1, size), valid))
    assert np.array_equal(exact_matrix(columns, size), _exact(columns, size))


def test_a_mask_that_hides_nothing_is_none() -> None:
    values = np.arange(3)
    with_mask = exact_matrix([Column(INT64, values, np.ones(3, np.bool_))], 3)
    assert np.array_equal(with_mask, exact_matrix([Column(INT64, values)], 3))


class _Rows:
    spans = (TaskRows(2, 0, 3), TaskRows(5, 3, 5))
    size = 5


class _Judged:
    rows = _Rows
    fresh = np.array([0, 2, 4])


def test_spans_of_rows_and_of_those_that_repeat_none() -> None:
    assert spans_of(cast(Judged, _Judged)) == {2: TaskSpan(0, 3, 0, 2), 5: TaskSpan(3, 5, 2, 3)}
