"""Partial matches that WITHIN ends: what is told, after which row, however rows are cut, restored, undone, evicted."""

from __future__ import annotations

import random
from collections.abc import Iterator
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


def batches(
    operator: TimedPatternOperator, rows: list[Row], cut: int, way: str = "", ends: list[str] | None = None
) -> Iterator[tuple[int, Batch]]:
    """Each batch after its first row's number. `way`: what happens between batches. `ends` gets the state's digest."""
    disk = MemoryDisk(random.Random(0))
    stores = MemoryRowStores(disk)
    store, state = stores.open(0), WorkerState(operator.tables, memory_bytes=1 if way in ("evict", "sweep") else 0)
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
        yield begin, batch
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
        if way in ("evict", "sweep"):
            for _ in range(3):
                state.publish()
            part_of = state._tables[operator.tables[0].name]
            while part_of.evict() if way == "evict" else part_of.expire():
                pass
    if ends is not None:
        ends.append(state.digest(0))


def run(operator: TimedPatternOperator, rows: list[Row], cut: int, way: str = "") -> tuple[list[Said], list[int]]:
    """What is told, and the rows that end matches. `way`: what happens between batches."""
    said, matched = list[Said](), list[int]()
    for begin, batch in batches(operator, rows, cut, way):
        records = operator.records(batch.emitted)
        for one, record in zip(batch.emitted, records, strict=True):
            assert (record["event_time"], record["deadline"], record["key"]) == (one.said.start, one.said.end, one.key)
            said.append((begin + one.row, one.key, one.said.start, one.said.end, record["measures"].get("f")))
        matched += [begin + int(i) for i in np.flatnonzero(batch.columns["x.matched"].values)]
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


def rows_in(drawn: Any) -> list[Row]:
    rows, now = list[Row](), 10**12
    for step, late, marks, key, tick in drawn:
        now += step
        is_tick = tick and step >= 1_000
        rows.append(Row(now, tick=True) if is_tick else Row(now - late, marks, key))
    return rows


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
    rows, operator = rows_in(drawn), made(disorder=disorder)
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


DAYS = 3 * 86_400_000
"""Longer than a key is kept that no row is seen of."""
BETTER = "PATTERN (A B B | A B) WITHIN INTERVAL '1' SECOND DEFINE A AS a, B AS b"
NUMBERED = PAIRS.replace("FIRST(A.n)", "MATCH_NUMBER()")
COUNTED = f"MEASURES MATCH_NUMBER() AS f {BETTER}"
SOME = NUMBERED.replace("(A -> B)", "(A -> C)").replace(", B AS b", '", where: "b')
STRICT = "PATTERN (A A B) WITHIN INTERVAL '1' SECOND DEFINE A AS a, B AS b"
WAYS = [
    *((1, way) for way in ("", "sweep", "evict", "restore")),
    *((3, way) for way in ("", "sweep", "restore", "undo")),
]


def everything(operator: TimedPatternOperator, rows: list[Row], cut: int, way: str) -> tuple[list[Any], list[Any], str]:
    """What is told, down to the match's number, and after which row; matches with their measure; the state's digest."""
    told, matches, ends = list[Any](), list[Any](), list[str]()
    for begin, batch in batches(operator, rows, cut, way, ends):
        told += [(begin + one.row, one.key, one.said.start, one.said.number) for one in batch.emitted]
        measure = batch.columns.get("x.f")
        for i in np.flatnonzero(batch.columns["x.matched"].values).tolist():
            matches.append((begin + i, None if measure is None else int(measure.values[i])))
    return told, matches, ends[0]


def at_rows(told: list[Any], rows: list[Row]) -> list[Any]:
    return [one for one in told if not rows[one[0]].tick]


def in_all_ways(operator: TimedPatternOperator, rows: list[Row]) -> tuple[list[Any], list[Any]]:
    """What is told, and the matches, however rows are cut and whoever takes keys away; a batch's ticks come last."""
    first, states = everything(operator, rows, 1, ""), dict[int, str]()
    for cut, way in WAYS:
        told, matches, state = everything(operator, rows, cut, way)
        assert sorted(told) == sorted(first[0]), (cut, way)
        assert at_rows(told, rows) == at_rows(first[0], rows), (cut, way)
        assert matches == first[1], (cut, way)
        assert states.setdefault(cut, state) == state, (cut, way)
    return first[:2]


@pytest.mark.parametrize(
    ("text", "rows", "told", "matches"),
    [
        # A match that waits for a better one, and time that other keys moved on, or its own next row.
        (BETTER, [Row(0, "a"), Row(1, "b"), Row(DAYS, "", "l"), Row(DAYS + 1, "")], [], []),
        (BETTER, [Row(0, "a"), Row(1, "b"), Row(DAYS, "")], [], []),
        (BETTER, [Row(0, "a"), Row(1, "b"), Row(DAYS, tick=True), Row(DAYS + 1, "b")], [], []),
        (BETTER, [Row(0, "a"), Row(1, "b"), Row(86_400_999, "", "l"), Row(3, "")], [], [(3, None)]),
        # Matches are counted from 1 again; what has begun is told with the number that it had.
        (
            NUMBERED,
            [Row(0, "a"), Row(1, "b"), Row(2, "a"), Row(DAYS, "", "l"), Row(DAYS + 1, "a"), Row(DAYS + 2, "b")],
            [(3, "k", 2, 2)], [(1, 1), (5, 1)],
        ),
        (
            NUMBERED,
            [Row(0, "a"), Row(1, "b"), Row(2, "a"), Row(DAYS, "a"), Row(DAYS + 1, "b")],
            [(3, "k", 2, 2)], [(1, 1), (4, 1)],
        ),
        # A row that no run takes keeps no key that has expired when it comes.
        (
            NUMBERED,
            [Row(0, "a"), Row(1, "b"), Row(2, "a"), Row(DAYS, ""), Row(DAYS + 1, "a"), Row(DAYS + 2, "b")],
            [(3, "k", 2, 2)], [(1, 1), (5, 1)],
        ),
        # A row that the pattern does not see: what is over is told in the order of time, as at a row of another key.
        (
            SOME,
            [Row(0, "ab"), Row(1, "b"), Row(2, "ab", "l"), Row(3, "ab"), *map(Row, (DAYS,) * 3, ("a", "ab", "b"))],
            [(4, "l", 2, 1), (4, "k", 3, 2)], [(1, 1), (6, 1)],
        ),
        # Any row ends the runs of such a pattern; what is over before is told.
        (STRICT, [Row(0, "a"), Row(DAYS, "")], [(1, "k", 0, 1)], []),
        (STRICT, [Row(0, "a"), Row(DAYS, "", "l"), Row(DAYS + 1, "")], [(1, "k", 0, 1)], []),
        # A late row of a key, older than it would be kept.
        (NUMBERED, [Row(0, "a"), Row(1, "b"), Row(DAYS, "", "l"), Row(2, "a")], [(3, "k", 2, 1)], [(1, 1)]),
    ],
)  # fmt: skip
def test_a_key_that_has_expired_is_as_new_whoever_looks(text: str, rows: list[Row], told: Any, matches: Any) -> None:
    operator = made(text)
    if not operator.spec.numbers_matches:
        told = [(*one, 0) for *one, _ in told]
    assert in_all_ways(operator, rows) == (told, matches)


@pytest.mark.timeout(240)
@given(st.sampled_from([BETTER, COUNTED, NUMBERED, SOME, STRICT]), rows_of, st.sampled_from([0, 300]))
@examples(80)
def test_who_takes_an_expired_key_away_is_not_seen(text: str, drawn: Any, disorder: int) -> None:
    in_all_ways(made(text, disorder), rows_in(drawn))
