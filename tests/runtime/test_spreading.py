"""Which rows go to which partition of the next stage, and in which order: the same by columns and by loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from state import spread_loop
from state.compiling import can_compile
from state.hashing import partition_of
from state.spread_loop import Loop
from streamproc.runtime import spreading
from streamproc.runtime.spreading import Spreader
from tests.operators.samples import examples

WAYS: list[Loop | None] = [spread_loop.spread, *[None] * can_compile()]


def _by_loop(loop: Loop | None) -> Spreader:
    """One that goes by a loop; None: by the compiled one."""
    made = Spreader()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spreading, "can_compile", lambda: True)
        if loop is not None:
            patch.setattr(spreading, "compiled_loop", lambda: loop)
        made.prepare()
    return made


def _spread(
    made: Spreader, keys: list[bytes], times: list[int], sizes: list[int], partitions: int
) -> dict[int, list[int]]:
    stops = np.cumsum([0, *sizes])
    edges = np.stack([stops[:-1], stops[1:]], axis=1)
    found = made.spread(keys, np.array(times, np.int64), edges, partitions)
    return {partition: rows.tolist() for partition, rows in found}


def test_rows_come_by_time_and_those_of_a_task_as_they_stand() -> None:
    keys, times = [b"k"] * 6, [10, 5, 30, 5, 10, 20]  # two tasks of three; the second row is late in its task
    for made in (Spreader(), *map(_by_loop, WAYS)):
        assert _spread(made, keys, times, [3, 3], 1) == {0: [3, 0, 1, 4, 5, 2]}


@examples(200)
@given(
    st.lists(st.tuples(st.binary(max_size=20), st.integers(0, 9)), max_size=50), st.lists(st.integers(0, 50)),
    st.integers(1, 9),
)  # fmt: skip
def test_loops_spread_as_columns_do(rows: list[tuple[bytes, int]], cuts: list[int], partitions: int) -> None:
    keys, times = [key for key, _ in rows], [time for _, time in rows]
    stops = sorted(min(cut, len(rows)) for cut in cuts)
    sizes = np.diff([0, *stops, len(rows)]).tolist()
    want = _spread(Spreader(), keys, times, sizes, partitions)
    assert list(want) == sorted({partition_of(key, partitions) for key in keys})
    for loop in WAYS:
        got = _spread(_by_loop(loop), keys, times, sizes, partitions)
        assert got == want
        assert list(got) == list(want)
