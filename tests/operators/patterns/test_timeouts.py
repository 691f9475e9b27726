"""Partial matches that WITHIN ends: what is told, after which row, however rows are cut, restored, undone, evicted."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from operators.batch import Batch, Emitted, TaskRows, TaskTick
from operators.patterns.timeouts import TimedPatternOperator
from state.memory import MemoryDisk, MemoryRowStores
from state.worker_state import WorkerState
from streamproc.language import compile_pipeline, read_pipeline
from tests.operators.samples import column, examples

PIPELINE = """\
pipeline: p
streams:
  s: {id: i, event_time: t, fields: {i: string, k: string, a: bool, b: bool, n: int64, t: timestamp}}
partition_by: k
ttl: 1ms
%s
patterns:
  x: {match: "%s", timeout: nobody came}
"""
PAIRS = (
    "MEASURES FIRST(A.n) AS f AFTER MATCH SKIP TO NEXT ROW PATTERN (A -> B) WITHIN INTERVAL '1' SECOND "
    "DEFINE A AS a, B AS b"
)
WITHIN = 1_000


class Row(NamedTuple):
    """`tick`: no row, but the clock."""

    time: int
    marks: str = ""
    key: str = "k"
    tick: bool = False


Said = tuple[int, str, int, int, Any]
"""After which row (a tick counts as one); key, begin, end, the measure."""


def made(text: str = PAIRS, disorder: int = 0) -> TimedPatternOperator:
    plan = compile_pipeline(
        read_pipeline(PIPELINE % (f"watermark: {{disorder: {disorder}ms}}" if disorder else "", text), "p.yaml")
    )
    (found,) = [step for step in plan.steps if isinstance(step, TimedPatternOperator)]
    assert plan.timed == (found,)
    assert [(alert.name, alert.reason) for alert in plan.alerts] == [("x", "nobody came")]
    return found


def batch_of(rows: list[Row], first: int) -> Batch:
    real = [row for row in rows if not row.tick]
    columns = {name: column("bool", [name in row.marks for row in real]) for name in "ab"}
    columns["k"] = column("string", [row.key for row in real])
    columns["n"] = column("int64", [first + i for i, row in enumerate(rows) if not row.tick])
    times = np.array([row.time for row in real], np.int64)
    ticks = tuple(TaskTick(0, row.time) for row in rows if row.tick)
    return Batch(len(real), (TaskRows(0, 0, len(real)),) if real else (), times, ["" for _ in real], columns, ticks)


def run(operator: TimedPatternOperator, rows: list[Row], cut: int, way: str = "") -> tuple[list[Said], list[int]]:
    """What is told, and the rows that end matches. `way`: what happens between batches."""
    disk = MemoryDisk(random.Random(0))
    said, matched = list[Said](), list[int]()
    stores = MemoryRowStores(disk)
    store, state = stores.open(0), WorkerState(operator.tables, memory_bytes=1 if way == "evict" else 0)
    state.add_task(0, store)
    begin = 0
    while begin < len(rows):
        end = next((i + 1 for i in range(begin, min(begin + cut, len(rows))) if rows[i].tick), begin + cut)
        part = rows[begin:end]
        if way == "undo":
            operator.process(batch_of(part, begin), state)
            state.undo()
        batch = batch_of(part, begin)
        operator.process(batch, state)
        state.publish()
        records = operator.records(batch.emitted)
        for one, record in zip(batch.emitted, records, strict=True):
            assert (record["event_time"], record["deadline"], record["key"]) == (one.said.start, one.said.end, one.key)
            said.append((begin + one.row, one.key, one.said.start, one.said.end, record["measures"].get("f")))
        matched += [begin + int(i) for i in np.flatnonzero(batch.columns["x.matched"].values)]
        begin = end
        if way:
            flushed = state.cut(0, b"m")
            flushed.write(store)
            flushed.written()
        if way == "restore":
            store.close()
            stores.close()
            stores = MemoryRowStores(disk)
            store, state = stores.open(0), WorkerState(operator.tables)
            state.add_task(0, store)
        if way == "evict":
            for _ in range(3):
                state.publish()
            while state._tables[operator.tables[0].name].evict():
                pass
    return said, matched


def wanted(rows: list[Row], disorder: int) -> tuple[list[Said], list[int]]:
    """Row by row: each A waits for the next B of its key; the clock, or a row of the key, ends the wait."""
    waiting: list[tuple[int, str, int]] = []
    said, matched, newest = list[Said](), list[int](), -(10**9)
    for i, row in enumerate(rows):
        over = sorted(one for one in waiting if not row.tick and one[1] == row.key and row.time - one[0] >= WITHIN)
        if not row.tick and row.marks:
            said += [(i, key, time, time + WITHIN, n) for time, key, n in sorted(over, key=lambda one: one[2])]
            waiting = [one for one in waiting if one not in over]
        if not row.tick and "b" in row.marks:
            matched += [i] * any(key == row.key for _, key, _ in waiting)
            waiting = [one for one in waiting if one[1] != row.key]
        if not row.tick and "a" in row.marks:
            waiting.append((row.time, row.key, i))
        newest = max(newest, row.time)
        done = sorted(one for one in waiting if newest - disorder - one[0] >= WITHIN)
        said += [(i, key, time, time + WITHIN, n) for time, key, n in done]
        waiting = [one for one in waiting if one not in done]
    return said, matched


STEPS = st.sampled_from([0, 0, 1, 100, 400, 999, 1_000, 2_500, 90_000_000, 200_000_000])
LATE = st.sampled_from([0, 0, 0, 50, 700, 1_500])
rows_of = st.lists(
    st.tuples(STEPS, LATE, st.sampled_from(["", "a", "a", "b", "ab"]), st.sampled_from("kkl"), st.booleans()),
    max_size=14,
)


@pytest.mark.timeout(240)
@example([(0, 0, "a", "k", False), (0, 50, "a", "k", False), (1_000, 0, "", "k", False)], 0)
# Two keys at one row: in order of time, not one key after the other.
@example([(50, 0, "a", key, False) for key in "klk"] + [(5_000, 0, "", "l", False)], 0)
# Nothing for longer than the operator's ttl, then a row of the same key.
@example([(0, 0, "a", "k", False), (200_000_000, 0, "a", "k", False)], 0)
# A key with runs, in a batch that is undone.
@example([(1, 0, marks, key, False) for marks, key in (("a", "k"), ("", "l")) * 3] + [(5_000, 0, "", "l", False)], 0)
# A key that has left memory, and is older than the stage's ttl.
@example([(0, 0, "a", "k", False), (500, 0, "", "l", False), (9, 0, "", "l", False), (5_000, 0, "", "l", False)], 0)
@given(rows_of, st.sampled_from([0, 300]))
@examples(150)
def test_what_is_told(drawn: Any, disorder: int) -> None:
    rows, now = list[Row](), 10**12
    for step, late, marks, key, tick in drawn:
        now += step
        is_tick = tick and step >= 1_000
        rows.append(Row(now, tick=True) if is_tick else Row(now - late, marks, key))
    operator = made(disorder=disorder)
    expected = wanted(rows, disorder)
    plain = [one for one in expected[0] if not rows[one[0]].tick]
    for cut, way in ((1, ""), (len(rows) or 1, ""), (1, "restore"), (3, "restore"), (2, "undo"), (1, "evict")):
        said, matched = run(operator, rows, cut, way)
        assert matched == expected[1], (cut, way)
        assert sorted(said) == sorted(expected[0]), (cut, way)
        assert [one for one in said if not rows[one[0]].tick] == plain, (cut, way)


@pytest.mark.parametrize("measure", ["FIRST(A.n)", "MATCH_NUMBER()"])
def test_what_is_said_is_the_same_wherever_rows_are_cut(measure: str) -> None:
    """Down to the number of the match: a restore compares all of it, whether a measure shows it or not."""
    operator = made(PAIRS.replace("FIRST(A.n)", measure))
    rows = [Row(0, "a"), Row(1, "b"), Row(2, "a"), Row(5_000, "")]
    every = [[one.said for one in emitted(operator, rows, cut)] for cut in (1, 2, 4)]
    assert [len(said) for said in every] == [1, 1, 1]
    assert every[0] == every[1] == every[2]


def emitted(operator: TimedPatternOperator, rows: list[Row], cut: int) -> list[Emitted]:
    state = WorkerState(operator.tables)
    state.add_task(0, MemoryRowStores(MemoryDisk(random.Random(0))).open(0))
    found: list[Emitted] = []
    for begin in range(0, len(rows), cut):
        batch = batch_of(rows[begin : begin + cut], begin)
        operator.process(batch, state)
        state.publish()
        found += batch.emitted
    return found


def test_a_beginning_that_fails_is_not_told() -> None:
    operator = made("PATTERN (A A B) WITHIN INTERVAL '1' SECOND DEFINE A AS a, B AS b")
    rows = [Row(0, "a"), Row(1, ""), Row(2, "a"), Row(1_002, ""), Row(5_000, "")]
    assert run(operator, rows, 1)[0] == [(3, "k", 2, 1_002, None)]


def test_what_waits_for_a_better_match_is_none() -> None:
    operator = made("PATTERN (A B B | A B) WITHIN INTERVAL '1' SECOND DEFINE A AS a, B AS b")
    rows = [Row(0, "a"), Row(1, "b"), Row(5_000, "", "other"), Row(5_001, "")]
    assert run(operator, rows, 1) == ([], [3])
