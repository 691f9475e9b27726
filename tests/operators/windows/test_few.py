"""A few rows one by one give what columns give: results and state, bit by bit, also after an undo."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.windows import extremes, hashes, operator
from operators.windows.few import few
from operators.windows.spec import WindowSpec
from state.errors import RecordError
from tests.operators.samples import examples
from tests.operators.windows.harness import Row, batch_of, by_task, feature, previous, random_rows, results, spec_of
from tests.operators.windows.test_replay import TASKS, Twin, random_spec
from tests.operators.windows.test_windows import ORDERS

MANY = 1 << 30


def _process(twin: Twin, rows: list[Row], most: int, *, undo: bool = False) -> list[Row]:
    """With rows one by one up to `most` of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operator, "FEW", most)
        if not undo:
            return twin.process(rows)
        batch = batch_of(by_task(rows))
        twin.operator.process(batch, twin.state)
        twin.state.undo()
        return results(twin.operator, batch)


def _same(spec: WindowSpec, rows: list[Row], sizes: list[int]) -> None:
    """Batches of `sizes` by turns, each first undone with rows more."""
    one_by_one, columns = Twin(spec), Twin(spec)
    at = turn = 0
    while at < len(rows):
        end = at + sizes[turn % len(sizes)]
        for stop, undo in ((end + 3, True), (end, False)):
            got, want = (
                _process(twin, rows[at:stop], most, undo=undo) for twin, most in ((one_by_one, MANY), (columns, 0))
            )
            assert repr(got) == repr(want), f"rows {at} to {stop}"
            assert one_by_one.digests == columns.digests, f"rows {at} to {stop}, undone: {undo}"
        at, turn = end, turn + 1


@examples(25)
@given(
    seed=st.integers(0, 1 << 32), order=st.sampled_from(sorted(ORDERS)), short=st.booleans(),
    sizes=st.lists(st.integers(1, 24), min_size=1, max_size=4),
)  # fmt: skip
def test_rows_one_by_one_are_columns(seed: int, order: str, short: bool, sizes: list[int]) -> None:
    rng = np.random.default_rng(seed)
    rows = random_rows(seed, int(rng.integers(30, 90)), **{"tasks": TASKS, "null": 0.1} | ORDERS[order])
    leap = 0
    for row in rows:  # some have no key; now and then time leaps beyond every horizon
        leap += int(rng.choice([0, 3000], p=[0.97, 0.03]))
        row |= {"key": None if rng.random() < 0.03 else row["key"], "time": row["time"] + leap}
    with pytest.MonkeyPatch.context() as patch:
        if short:  # what else takes long histories
            patch.setattr(hashes, "SHORT", 3)
            patch.setattr(extremes, "BLOCKS", (4, 16))
        _same(random_spec(rng), rows, sizes)


def test_long_histories_are_the_same() -> None:
    spec = spec_of(
        feature("distinct", "number", 3000), feature("distinct", "shop", 20_000, delay_ms=300),
        feature("first_seen", "shop", 9000, delay_ms=50), feature("max", "amount", 20_000),
        feature("min", "ratio", 4000, delay_ms=900), feature("stddev", "amount", 20_000),
        previous=(previous("amount", 3), previous("at")),
    )  # fmt: skip
    _same(spec, random_rows(7, 3000, keys=1, null=0.02), [7, 1, 16])


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether batches were done one by one."""
    found: list[bool] = []

    def spy(*args: object, **more: object) -> bool:
        found.append(few(*args, **more))  # type: ignore[arg-type]
        return found[-1]

    monkeypatch.setattr(operator, "few", spy)
    return found


SUM = feature("sum", "amount", 40)


@pytest.mark.parametrize(
    ("spec", "back", "is_done"),
    [
        (spec_of(SUM), 0, True),
        (spec_of(SUM, ttl_ms=200), 0, True),
        (spec_of(SUM, previous=(previous("amount", 2),)), 0, True),
        (spec_of(SUM), 1, False),
        (spec_of(SUM, ttl_ms=200), -300, False),
        (spec_of(SUM, max_entries=2), 0, False),
        (spec_of(feature("sum", "amount", 50, precision_ms=25)), 0, False),
        (spec_of(SUM, previous=(previous("amount", where="flag"),)), 0, True),
    ],
)
def test_which_rows_are_done_one_by_one(spec: WindowSpec, back: int, is_done: bool, tried: list[bool]) -> None:
    twin = Twin(spec)
    rows = random_rows(1, 4, keys=1, null=0.0)
    time = rows[-2]["time"]
    rows[-1]["time"] = time - back
    twin.process(rows[:1])
    twin.process(rows[1:])
    assert tried[-1] is is_done


def test_a_total_that_is_too_large_is_refused_and_leaves_nothing() -> None:
    spec = spec_of(SUM)
    rows = random_rows(1, 3, keys=1, null=0.0)
    for row, amount in zip(rows, ((1 << 62) - 1, 1, 1), strict=True):
        row["amount"] = amount
    twin, before = Twin(spec), Twin(spec)
    _process(twin, rows[:2], MANY)
    _process(before, rows[:2], MANY)
    with pytest.raises(RecordError, match="overflow"):
        _process(twin, rows[2:], MANY)
    twin.state.undo()
    assert twin.digests == before.digests
