"""What is told of windows, as JSON; DuckDB's sums; rows that cannot be counted; state that cannot be read."""

from __future__ import annotations

import json
import random
from typing import Any

import duckdb
import pytest

from operators.batch import Batch, Emitted
from operators.timed.alerts import AlertEncoder
from operators.timed.spec import AlertSpec, TimedAggregate, TimedSpec, check
from state.errors import ConfigError, RecordError, StateCorruptedError
from tests.operators.samples import type_of
from tests.operators.timed.harness import Row, Worker, absence, batch_of, row, tick, window

MAX = 2**63 - 1
END = 10_000_000


def told(rule: Any, rows: list[Row], reason: str = "why") -> list[dict[str, Any]]:
    spec = TimedSpec("w", "card", "key", rule, 0, "id")
    worker = Worker(spec)
    encoder = AlertEncoder([spec], [AlertSpec("w", reason)])
    batch, _ = batch_of(rows)
    worker.operator.process(batch, worker.state)
    return [json.loads(telling.text) for telling in encoder.encode(batch)]


def test_a_window_is_told_in_the_units_of_its_column() -> None:
    rule = window("tumble", 10, type=type_of("decimal(2)"), lateness=5)
    rows = [row(0, 1050), row(3, None), row(4, 2000), row(12, None), row(5, 1), tick(END)]
    head = {"alert": "w", "kind": "tumble", "per": "card", "key": "k", "reason": "why"}
    first = {"window_start": 0, "window_end": 10, "count": 2, "sum": 30.5, "mean": 15.25, "min": 10.5, "max": 20.0}
    second = first | {"count": 3, "sum": 30.51, "mean": 10.17, "min": 0.01, "revision": 1}
    empty = {"window_start": 10, "window_end": 20, "count": 0, "sum": None, "mean": None, "min": None, "max": None}
    assert told(rule, rows) == [head | first, head | second, head | empty]


def test_an_absence_and_a_late_row() -> None:
    said = told(absence(10), [row(0, after=True, id="p1"), row(50), row(1, without=True, id="p2")])
    assert said == [
        {"alert": "w", "kind": "absence", "per": "card", "key": "k", "id": "p1", "event_time": 0, "deadline": 10,
         "reason": "why"},
        {"window": "w", "per": "card", "key": "k", "id": "p2", "event_time": 1, "watermark": 50, "missed": 1,
         "windows": 1, "reason": "too_late"},
    ]  # fmt: skip


def test_a_key_that_is_not_unicode_is_told_all_the_same() -> None:
    said = told(window("tumble", 10), [row(0, 1, "a\udcffb"), tick(END)])
    assert [one["key"] for one in said] == ["a\\udcffb"]


def test_sums_are_duckdbs() -> None:
    chance = random.Random(7)
    rows = [row(chance.randrange(5000), chance.choice([None, chance.randint(-9, 99)]), f"c{n % 7}") for n in range(800)]
    rows = sorted(rows, key=lambda one: one["time"])
    table = duckdb.connect()
    table.execute("CREATE TABLE t (key VARCHAR, time BIGINT, value BIGINT)")
    table.executemany("INSERT INTO t VALUES (?, ?, ?)", [[one["key"], one["time"], one["value"]] for one in rows])
    wanted = table.execute(
        "SELECT key, time // 100 * 100, count(value), sum(value), avg(value), min(value), max(value)"
        " FROM t GROUP BY ALL ORDER BY 2, 1"
    ).fetchall()
    names = ("key", "window_start", "count", "sum", "mean", "min", "max")
    found = [tuple(one[name] for name in names) for one in told(window("tumble", 100), [*rows, tick(END)])]
    assert found == [
        (key, start, n, None if total is None else int(total), *rest) for key, start, n, total, *rest in wanted
    ]


@pytest.mark.parametrize("kind", ["tumble", "session"])
def test_a_row_whose_sum_leaves_64_bits_is_named(kind: str) -> None:
    worker = Worker(TimedSpec("w", "key", "key", window(kind, 10), 0, "id"))
    with pytest.raises(RecordError) as caught:
        worker.process([row(0, 5), row(1, MAX - 5), row(2, 1)])
    assert (caught.value.reason, caught.value.rows) == ("overflow", (2,))


def test_parts_of_a_window_that_leave_64_bits_together_have_no_sum() -> None:
    """Each slice holds; nobody's row is to blame."""
    rule = window("hop", 10, 5, aggregates=(TimedAggregate.SUM, TimedAggregate.MEAN))
    said = told(rule, [row(0, MAX), row(5, MAX), tick(END)])
    assert [one["sum"] for one in said] == [MAX, None, MAX]
    assert [one["mean"] for one in said] == [float(MAX)] * 3


def test_state_that_cannot_be_read_is_damaged() -> None:
    worker = Worker(TimedSpec("w", "key", "key", window("tumble", 10), 0, "id"))
    worker.process([row(0)])
    worker.state.publish()
    table = worker.state.table("timed.w")
    table.put_blob(table.keys_of(0)["k"], b"\xc1")
    with pytest.raises(StateCorruptedError, match=r"timed\.w"):
        worker.process([row(1)])


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (window("tumble", 0), "a window is longer than 0 ms"),
        (window("hop", 10, 11), "the step must be longer than 0 ms, and not longer"),
        (window("cumulate", 10, 3), "the window must be a multiple of its step"),
        (window("hop", 1001, 1), "would be cut into 1001 pieces"),
        (window("tumble", 10, of=None), "sum needs a column"),
        (window("tumble", 10, type=type_of("float64")), "sum of float64 is not exact"),
        (window("tumble", 10, type=type_of("timestamp")), "sum of timestamp is not exact"),
        (absence(0), "within must be longer"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_what_cannot_be_computed_is_refused(rule: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check(rule)


def test_the_digest_does_not_depend_on_the_other_tasks_of_a_batch() -> None:
    spec = TimedSpec("w", "card", "key", window("tumble", 10), 0, "id")
    encoder = AlertEncoder([spec], [AlertSpec("w", "w")])
    rows = [row(0), row(12), row(3), tick(40)]

    def emitted(more: list[Row], task: int) -> list[Emitted]:
        worker = Worker(spec, 2)
        batch: Batch = batch_of([*({**one, "task": task} for one in rows), *more])[0]
        worker.operator.process(batch, worker.state)
        return [one for one in batch.emitted if one.task == task]

    alone = encoder.digest(emitted([], 1))
    assert alone == encoder.digest(emitted([row(5, key="other"), row(50)], 1))
    assert alone != encoder.digest(emitted([], 1)[:-1])
