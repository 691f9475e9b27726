"""Keys with a `precision`, late rows and more entries than are kept: whatever the cuts, the same, and never wrong."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from operators.batch import Batch, Column, TaskRows
from operators.windows import late as late_module
from operators.windows.operator import WindowOperator
from operators.windows.spec import Aggregate, WindowSpec
from tests.operators.windows.harness import DECIMAL, STRING, Context, Row, feature, random_rows, run, same, spec_of
from tests.operators.windows.test_replay import Twin
from tests.operators.windows.test_windows import OF
from tests.oracle.windows import decide

STEP, OVER = 10, 200
ROWS = random_rows(5, 160, keys=2, late=0.25, step=4, back=90)


def spec(most: int) -> WindowSpec:
    """The least that is taken: a window has 20 steps, one with a delay 21."""
    kinds = [feature(a, OF[a][-1], OVER, precision_ms=STEP) for a in OF]
    return spec_of(
        *kinds, feature("sum", "amount", OVER, precision_ms=STEP, delay_ms=7), late_ms=OVER, max_entries=most
    )


@cache
def unbounded() -> list[Row]:
    """What the oracle says, which forgets none."""
    return decide(spec(1 << 30), ROWS)


@pytest.mark.parametrize("most", [22, 1 << 17])
def test_what_is_complete_is_what_the_oracle_says_and_cuts_change_nothing(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond `most` entries the oracle still says what a complete row must be."""
    want, given = unbounded(), run(spec(most), ROWS, 1)
    lost = [row["w__incomplete"] for row in given]
    for got, wanted in zip(given, want, strict=True):
        assert got["w__incomplete"] or all(same(got[name], wanted[name]) for name in wanted)
    assert sum(lost) == sum(row["w__incomplete"] for row in want) if most == 1 << 17 else 10 < sum(lost) < 140
    for cut, chunk in ((2, 192), (9, 3), (160, 8)):
        monkeypatch.setattr(late_module, "CHUNK", chunk)
        assert run(spec(most), ROWS, cut, undo=True) == given, f"cut {cut}"


def test_a_replay_cut_otherwise_goes_on_alike() -> None:
    processed, replayed = Twin(spec(22)), {cut: Twin(spec(22)) for cut in (1, 7, 120)}
    for start in range(0, 120, 40):
        processed.process(ROWS[start : start + 40])
    for cut, twin in replayed.items():
        for start in range(0, 120, cut):
            twin.replay(ROWS[start : min(120, start + cut)])
    want = processed.process(ROWS[120:])
    assert all(twin.process(ROWS[120:]) == want for twin in replayed.values())


@pytest.mark.parametrize(
    "aggregates",
    [[Aggregate.COUNT, Aggregate.SUM], [Aggregate.STDDEV], [Aggregate.MIN, Aggregate.MAX], [Aggregate.DISTINCT], [*OF]],
    ids=["totals", "squares", "extremes", "distinct", "all"],
)
def test_rows_in_order_beside_late_ones_share_entries_whatever_the_cuts(
    aggregates: list[Aggregate], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jitter: every few rows one is late, by less than a step or more. No row falls below what is kept, so that the
    whole state is alike.
    """
    rows = random_rows(1, 150, keys=2, late=0.3, step=1, back=12)
    kinds = [feature(a, OF[a][0], 10_000, precision_ms=STEP) for a in aggregates]
    wanted = spec_of(*kinds, late_ms=10_000, max_entries=1 << 17)
    want = Twin(wanted)
    for row in rows:
        want.process([row])
    for cut, chunk in ((4, 192), (70, 192), (150, 9)):
        monkeypatch.setattr(late_module, "CHUNK", chunk)
        twin = Twin(wanted)
        for start in range(0, len(rows), cut):
            twin.process(rows[start : start + cut])
        assert twin.digests == want.digests, f"cut {cut}, {chunk} at once"
    (table,) = (want.state.table(spec.name) for spec in want.operator.tables)
    assert table.ring is not None
    assert 50 < table.ring.heads[:, table.ring.STOP].sum() < 150, "late rows, and some in order"


def test_more_rows_in_a_window_than_places() -> None:
    """The places as they are, 131,072: what reaches below them says so, and what does not is right."""
    size, over, step, cut = 150_000, 140_000, 1_000, 25_000
    rng = np.random.default_rng(1)
    late = np.where(rng.random(size) < 0.001, rng.integers(1, 5_000, size), 0)
    times = 1_000_000 + np.arange(size) - late
    amounts = np.where(rng.random(size) < 0.95, size - np.arange(size), size)  # most are the least, and take a place
    kinds = feature("count", None, over, precision_ms=step), feature("min", "amount", over, precision_ms=step)
    operator = WindowOperator(spec_of(*kinds))
    context = Context(operator)
    found = np.empty((3, size), np.int64)
    for start in range(0, size, cut):
        mine = slice(start, start + cut)
        keys, texts = Column(STRING, np.array(["k"] * cut, object)), ["k"] * cut
        columns = {"key": keys, "amount": Column(DECIMAL, amounts[mine].copy())}
        batch = Batch(cut, (TaskRows(0, 0, cut),), times[mine], texts, columns)
        operator.process(batch, context)
        context.publish()
        found[:, mine] = [batch.columns[name].values for name in (kinds[0].name, kinds[1].name, "w__incomplete")]
    clock = -(-times // step)
    complete = np.flatnonzero(found[2] == 0)
    assert 130_000 < len(complete) < size
    for i in [*complete[-20:], *rng.choice(complete, 20)]:
        inside = (clock[: i + 1] > (times[i] - over) // step) & (clock[: i + 1] <= clock[i])
        assert found[0, i] == np.count_nonzero(inside)
        assert found[1, i] == amounts[: i + 1][inside].min()
