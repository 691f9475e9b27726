"""Every aggregate against the brute-force oracle, whatever the order of rows and wherever batches are cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from operators.batch import Batch, TaskRows
from operators.schema import DataType, Kind
from operators.windows import extremes, hashes
from operators.windows import late as late_module
from operators.windows.operator import WindowOperator
from operators.windows.spec import WindowFeature, WindowSpec
from state.errors import ConfigError, RecordError
from tests.operators.windows.harness import (
    INT,
    TYPES,
    Context,
    batch_of,
    column,
    compare,
    feature,
    previous,
    random_rows,
    results,
    run,
    spec_of,
)

CUTS = (1, 7, 64, 2000)
OF = {
    "count": (None, "amount", "shop"),
    "sum": ("amount", "number"),
    "mean": ("amount", "number"),
    "stddev": ("amount", "number"),
    "min": ("amount", "ratio", "at"),
    "max": ("amount", "ratio", "at"),
    "distinct": ("shop", "number", "ratio", "flag"),
    "first_seen": ("shop", "number"),
}
VARIANTS: list[dict[str, Any]] = [{}, {"where": "flag"}, {"delay_ms": 20}, {"where": "flag", "delay_ms": 7}]


def features_of(aggregate: str, precision: int = 0) -> list[WindowFeature]:
    more = {"precision_ms": precision} if precision else {}
    return [
        feature(aggregate, of, over, **variant, **more)
        for of in OF[aggregate]
        for over in (5, 40, 300)
        for variant in VARIANTS
    ]


ORDERS: dict[str, dict[str, Any]] = {
    "in order": {"keys": 3},
    "late": {"keys": 3, "late": 0.25},
    "very late": {"keys": 2, "late": 0.2, "back": 900},
    "ties": {"keys": 2, "step": 2},
    "one key": {"keys": 1, "late": 0.1, "tasks": 2},
    "no nulls": {"keys": 2, "null": 0.0, "late": 0.1},
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("aggregate", OF)
def test_equals_oracle(aggregate: str, order: str) -> None:
    compare(spec_of(*features_of(aggregate)), random_rows(11, 110, **ORDERS[order]), CUTS)


@pytest.mark.parametrize("aggregate", OF)
def test_precision_equals_oracle(aggregate: str) -> None:
    spec = spec_of(*features_of(aggregate, 25))
    for late in (0.0, 0.25):
        compare(spec, random_rows(5, 110, late=late, keys=2), CUTS)


@pytest.mark.parametrize("late", [0.0, 0.2])
def test_all_precise_windows_of_a_table_together(late: float) -> None:
    features = [f for a in OF for f in features_of(a, 60) if f.of != "flag"]
    for keys in (1, 3):
        compare(spec_of(*features), random_rows(9, 110, late=late, keys=keys, step=4), (1, 7, 50, 200), undo=True)


def test_buckets_keep_few_entries() -> None:
    rng = np.random.default_rng(1)
    rows = [{"task": 0, "key": "k", "time": t, "amount": int(rng.integers(1000)), "shop": "s"} for t in range(2000)]
    features = [feature(a, OF[a][-1], 500, precision_ms=100) for a in ("mean", "distinct")]
    operator = WindowOperator(spec_of(*features, feature("min", "amount", 500, precision_ms=100)))
    context = Context(operator)
    for start in range(0, 2000, 150):
        operator.process(batch_of(rows[start : start + 150]), context)
        context.publish()
    (table,) = context.tables.values()
    assert table.ring is not None
    assert table.ring.heads[0, table.ring.STOP] < 200
    assert table.ring.heads[0, table.ring.MASK] < 128


@pytest.mark.parametrize("aggregate", OF)
def test_undo_anywhere_is_as_if_never_run(aggregate: str) -> None:
    spec = spec_of(*features_of(aggregate), *features_of(aggregate, 30), previous=(previous("ratio", 2),))
    for late in (0.0, 0.2):
        compare(spec, random_rows(7, 90, late=late, keys=2), (3, 20), undo=True)


@pytest.mark.parametrize("more", [{}, {"late_ms": 0}, {"max_entries": 7}, {"ttl_ms": 400}])
@pytest.mark.parametrize("order", ORDERS)
def test_previous_equals_oracle(order: str, more: dict[str, Any]) -> None:
    wanted = (previous("ratio"), previous("ratio", 3), previous("flag"), previous("at", 2), previous("amount", 2))
    rows = random_rows(3, 110, **ORDERS[order])
    compare(spec_of(feature("count", None, 40), previous=wanted, **more), rows, CUTS)
    compare(spec_of(previous=wanted, **more), rows, (1, 2000))


def test_a_key_without_rows_for_ttl_counts_as_new() -> None:
    times = (0, 399, 799, 1198, 1190, 1598, 1990, 1989, 2390, 2400)  # 799 and 2390 come 400 after the newest, 1598 too
    rows = [{"task": 0, "key": "k", "time": t, "at": t, "amount": 1} for t in times]
    spec = spec_of(feature("sum", "amount", 40), previous=(previous("at"), previous("at", 2, False)), ttl_ms=400)
    want = compare(spec, rows, (1, 2, 3, 10), undo=True)
    assert [row["previous_at_1"] for row in want[:4]] == [None, 0, None, 799]
    assert [row["previous_at_2"] for row in want[:4]] == [None, None, None, None]


def test_late_chunks_of_any_size_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of(
        *(feature(a, OF[a][-1], 60) for a in OF), feature("max", "ratio", 60, delay_ms=9), previous=(previous("at", 2),)
    )
    rows = random_rows(2, 150, keys=1, late=0.3, back=200)
    for chunk in (1, 3, 16):
        monkeypatch.setattr(late_module, "CHUNK", chunk)
        compare(spec, rows, (50,))


def test_cap_marks_incomplete() -> None:
    spec = spec_of(*(feature(a, OF[a][-1], 500) for a in OF), max_entries=9)
    for late in (0.0, 0.2):
        want = compare(spec, random_rows(4, 150, keys=2, late=late), CUTS, undo=True)
        assert any(row["w__incomplete"] for row in want)
        assert not all(row["w__incomplete"] for row in want)


def test_buckets_alone_do_not_reach_the_cap() -> None:
    """A window that begins within a bucket sees one more than it has steps; with one place fewer it is refused."""
    rows = [{"task": 0, "key": "k", "time": t, "amount": 1} for t in range(0, 2_000, 5)]
    spec = spec_of(feature("count", None, 100, precision_ms=10), max_entries=11)
    for cut in CUTS:
        assert not any(row["w__incomplete"] for row in run(spec, rows, cut))


def test_a_cap_far_above_the_chunk_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late_module, "CHUNK", 8)
    spec = spec_of(feature("sum", "amount", 3000), feature("min", "amount", 3000, delay_ms=30), max_entries=60)
    compare(spec, random_rows(4, 300, keys=1, late=0.2, back=30), (1, 60, 300))


def test_rows_beyond_the_horizon_are_incomplete() -> None:
    rows = [{"task": 0, "key": "k", "time": t, "amount": 1} for t in (0, 1000, 10)]
    want = compare(spec_of(feature("sum", "amount", 100), late_ms=0), rows, (1, 3))
    assert [row["w__incomplete"] for row in want] == [False, False, True]
    assert want[2]["sum_amount_100"] == 1


def test_edge_of_a_window_is_open_below_and_closed_above() -> None:
    rows = [{"task": 0, "key": "k", "time": t, "amount": 1} for t in (0, 1, 10, 11)]
    spec = spec_of(feature("count", None, 10), feature("count", None, 9, delay_ms=1))
    want = compare(spec, rows, (1, 4))
    assert [row["count_None_10"] for row in want] == [1, 2, 2, 2]
    assert [row["count_None_9_1"] for row in want] == [0, 1, 1, 1]


def test_running_minima_over_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extremes, "BLOCKS", (4, 16))
    spec = spec_of(feature("min", "amount", 300), feature("max", "ratio", 3000), feature("max", "at", 900, delay_ms=40))
    for late in (0.0, 0.1):
        compare(spec, random_rows(1, 250, keys=1, late=late, step=4), (9, 250), undo=True)


def test_long_rings_use_the_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "SHORT", 3)
    spec = spec_of(feature("distinct", "shop", 300), feature("first_seen", "number", 90), feature("distinct", "at", 50))
    for late in (0.0, 0.2):
        compare(spec, random_rows(1, 200, keys=2, late=late), (1, 7, 200))
        compare(spec, random_rows(1, 200, keys=2, late=late), (5, 30), undo=True)


def test_rings_grow_and_wrap() -> None:
    rng = np.random.default_rng(0)
    rows, time = [], 0
    for burst in (300, 3, 5, 200, 2):
        for _ in range(burst):
            time += int(rng.integers(0, 3))
            rows.append({"task": 0, "key": "k", "time": time, "amount": int(rng.integers(100)), "shop": f"{time % 7}"})
        time += 1000
    spec = spec_of(feature("sum", "amount", 100), feature("min", "amount", 100), feature("distinct", "shop", 100))
    compare(spec, rows, (1, 13, 600))


def test_rows_without_a_key_have_no_state() -> None:
    rows = random_rows(6, 60, late=0.1, tasks=2)
    for row in rows[::3]:
        row["key"] = None
    spec = spec_of(*(feature(a, OF[a][-1], 50) for a in OF), previous=(previous("ratio"),))
    compare(spec, rows, CUTS)
    compare(spec, [dict(row, key=None) for row in rows], (60,))


def test_rows_without_a_key_move_stream_time_on() -> None:
    rows = [{"task": 0, "key": key, "time": t, "amount": 1} for key, t in (("k", 0), (None, 1000), ("k", 10))]
    spec = spec_of(feature("sum", "amount", 100), feature("sum", "amount", 100, precision_ms=50), ttl_ms=400, late_ms=0)
    want = compare(spec, rows, (1, 2, 3), undo=True)
    assert [row["sum_amount_100"] for row in want] == [1, None, 1]


@pytest.mark.parametrize("late", [0, 1])
def test_overflow_is_an_error_and_leaves_nothing(late: int) -> None:
    spec = spec_of(feature("sum", "number", 100))
    rows: list[dict[str, Any]] = [{"task": 0, "key": "k", "time": t, "number": 1 << 61} for t in (10, 20, 30, 40)]
    rows[3]["time"] -= 25 * late
    for cut in (1, 4):
        with pytest.raises(RecordError, match="overflow"):
            run(spec, rows, cut)
    operator = WindowOperator(spec)
    context = Context(operator)
    operator.process(batch_of(rows[:2]), context)
    context.publish()
    with pytest.raises(RecordError):
        operator.process(batch_of(rows[2:]), context)
    context.undo()
    operator.process(batch := batch_of([dict(rows[2], number=-5)]), context)
    assert results(operator, batch)[0]["sum_number_100"] == (1 << 62) - 5


def test_large_values_have_exact_deviations() -> None:
    rows = [{"task": 0, "key": "k", "time": t, "number": (1 << 43) + t * t} for t in range(200)]
    compare(spec_of(feature("stddev", "number", 150)), rows, (1, 64))
    rows[5]["number"] = 1 << 50
    with pytest.raises(RecordError, match="overflow"):
        run(spec_of(feature("stddev", "number", 150)), rows, 200)


def test_null_where_declared_never_null() -> None:
    rows = [{"task": 0, "key": "k", "time": 1, "amount": None}]
    with pytest.raises(RecordError, match="null"):
        run(spec_of(feature("sum", "amount", 100, nullable=False)), rows, 1)


def test_never_null_columns_agree() -> None:
    features = [feature(a, "amount", 40, nullable=False) for a in OF]
    features += [feature(a, "amount", 40, delay_ms=30, nullable=False) for a in OF]
    compare(spec_of(*features, previous=(previous("at", 1, False),)), random_rows(8, 120, null=0.0, late=0.1), CUTS)


def test_empty_batch() -> None:
    operator = WindowOperator(spec_of(feature("sum", "amount", 10), previous=(previous("at"),)))
    columns = {name: column(type_, []) for name, type_ in TYPES.items()} | {"key": column(DataType(Kind.STRING), [])}
    batch = Batch(0, (TaskRows(0, 0, 0),), np.zeros(0, np.int64), [], columns)
    operator.process(batch, Context(operator))
    assert results(operator, batch) == []


@pytest.mark.parametrize(
    "wrong",
    [
        spec_of(feature("sum", "ratio", 10)),
        spec_of(feature("min", "shop", 10)),
        spec_of(feature("count", None, 0)),
        spec_of(previous=(previous("shop"),)),
        spec_of(previous=(previous("at", 17),)),
        spec_of(feature("count", None, 5), feature("count", None, 5)),
        spec_of(feature("count", None, 100, precision_ms=10), max_entries=10),
        spec_of(feature("count", None, 60, precision_ms=10, delay_ms=31), max_entries=10),
        WindowSpec("w", "key", (WindowFeature("f", "sum", 5),)),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_exact_is_refused(wrong: WindowSpec) -> None:
    with pytest.raises(ConfigError):
        WindowOperator(wrong)


def test_declared_types_do_not_depend_on_data() -> None:
    operator = WindowOperator(spec_of(feature("sum", "number", 10)))
    assert operator.outputs[0].type == INT
    assert operator.inputs == ("key", "number")
    assert [table.name for table in operator.tables] == ["w"]


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, Any]]:
    size = draw(st.integers(1, 40))
    step = st.sampled_from([0, 0, 1, 2, 5, 10, 11, 40])
    time, rows = 0, []
    for _ in range(size):
        time += draw(step)
        late = draw(st.sampled_from([0, 0, 0, 1, 9, 30]))
        row: dict[str, Any] = {"task": 0, "key": draw(st.sampled_from(["a", "b", "a", "b", None]))}
        row["time"] = time - late
        row["amount"] = draw(st.one_of(st.none(), st.integers(-3, 3)))
        row["ratio"] = draw(st.one_of(st.none(), st.sampled_from([0.0, -0.0, 1.5, -2.0])))
        row["shop"] = draw(st.one_of(st.none(), st.sampled_from("xyz")))
        row["flag"] = draw(st.one_of(st.none(), st.booleans()))
        rows.append(row)
    return rows


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rows=histories(), cut=st.integers(1, 12), over=st.sampled_from([1, 10, 30]), delay=st.sampled_from([0, 0, 5]),
    cap=st.sampled_from([4, 99]), ttl=st.sampled_from([0, 0, 1]),
)  # fmt: skip
def test_any_history(rows: list[dict[str, Any]], *, cut: int, over: int, delay: int, cap: int, ttl: int) -> None:
    more = {"delay_ms": delay} if delay else {}
    features = [
        feature("count", None, over, **more),
        feature("sum", "amount", over, where="flag", **more),
        feature("stddev", "amount", over, **more),
        feature("min", "amount", over, **more),
        feature("max", "ratio", over, **more),
        feature("distinct", "shop", over, **more),
        feature("first_seen", "ratio", over, **more),
    ]
    if cap == 99:  # with a precision, the cap counts entries, not rows
        features += [
            feature(a, of, over, precision_ms=10, **more) for a, of in (("sum", "amount"), ("distinct", "shop"))
        ]
    spec = spec_of(*features, previous=(previous("amount", 2),), max_entries=cap, ttl_ms=ttl, late_ms=6 * ttl - 1)
    compare(spec, rows, (cut,), undo=True)
