"""The operator of a pattern: no matter where batches are cut, what is restored, undone or evicted between them."""

from __future__ import annotations

import numpy as np
import pytest

from operators.batch import Batch, TaskRows
from operators.check_rows import SampleRows, sample_rows
from operators.checks import check_operator
from operators.operator import BOOL, INT64, STRING, decimal
from operators.patterns.operator import PatternOperator, dropped_runs
from operators.patterns.spec import RUNS_MAX
from state.worker_state import WorkerState
from streamproc.language import compile_pipeline, read_pipeline
from tests.operators.samples import column

PIPELINE = """\
pipeline: p
streams:
  s: {id: i, event_time: t, fields: {i: string, k: string, a: bool, b: bool, n: int64, d: decimal(2), t: timestamp}}
partition_by: k
%s
patterns:
  x: >
    %s
"""
TEXTS = {
    "strict": "MEASURES COUNT(*) AS c, SUM(A.d) AS s PATTERN (A{2,} B) DEFINE A AS a, B AS b",
    "within": "PATTERN (A -> B ->> A) WITHIN INTERVAL '2' HOURS DEFINE A AS a, B AS b",
    "asks": "MEASURES FIRST(A.d) AS f, LAST(CLASSIFIER(), 1) AS l PATTERN ((A | C)+? -> !C -> B) "
    "DEFINE A AS a, B AS b AND d > LAST(A.d), C AS n > 0 AND n > FIRST(n)",
    "every": "MEASURES MATCH_NUMBER() AS m, MAX(n) AS x AFTER MATCH NO SKIP PATTERN (A -> (-> B)* ->> A) "
    "DEFINE A AS a, B AS b",
    "next": "AFTER MATCH SKIP TO NEXT ROW PATTERN (A+ !C B) DEFINE A AS a, B AS b, C AS n > 0",
}


def operator(text: str, ttl: str = "") -> PatternOperator:
    plan = compile_pipeline(read_pipeline(PIPELINE % (ttl, text), "p.yaml"))
    (found,) = [step for step in plan.steps if isinstance(step, PatternOperator)]
    return found


def together(ttl: str = "") -> PatternOperator:
    """All of them in one operator, and one that sees some rows only."""
    some = "  some:\n    match: PATTERN (A B) DEFINE A AS a, B AS b OR d > 1\n    where: n > 0\n"
    texts = {name: text for name, text in TEXTS.items() if ttl or "WITHIN" not in text}
    entries = "".join(f"  {name}: >\n    {text}\n" for name, text in texts.items()) + some
    text = PIPELINE[: PIPELINE.index("  x: >")] % ttl + entries
    (found,) = [
        step for step in compile_pipeline(read_pipeline(text, "p.yaml")).steps if isinstance(step, PatternOperator)
    ]
    return found


@pytest.mark.timeout(240)
@pytest.mark.parametrize("ttl", ["", "ttl: 3h"])
@pytest.mark.parametrize("name", [*TEXTS, "together"])
def test_a_pattern_does_not_depend_on_cuts(name: str, ttl: str) -> None:
    made = operator(TEXTS[name], ttl) if name in TEXTS else together(ttl)
    samples = [samples_of(made, seed, 40) for seed in range(2)]
    # What is forgotten depends on the task's stream time, to which rows of other keys belong.
    check_operator(made, samples, skip=("keys",) if ttl else ())


def samples_of(made: PatternOperator, seed: int, size: int) -> SampleRows:
    types = {"k": STRING, "n": INT64, "d": decimal(2)}
    types |= {name: BOOL for name in made.inputs if name not in types}
    return sample_rows({name: types[name] for name in made.inputs}, seed, size=size)


def test_a_row_that_means_nothing_changes_no_state() -> None:
    made = operator("PATTERN (A -> B) DEFINE A AS a, B AS b")
    state = WorkerState(made.tables)
    (table,) = (state.table(spec.name) for spec in made.tables)
    for a, dirty in ((True, 1), (False, 0), (False, 0)):
        columns = {"k": column("string", ["k", "other"]), "a": column("bool", [a, False])}
        columns["b"] = column("bool", [False, False])
        made.process(Batch(2, (TaskRows(0, 0, 2),), np.arange(2, dtype=np.int64), ["k", "other"], columns), state)
        state.publish()
        slots, cut = table.take_dirty(0)
        table.written(slots, cut)
        assert len(slots) == dirty


def test_a_key_without_runs_has_no_place_in_the_table() -> None:
    made = operator("PATTERN (A B) DEFINE A AS a, B AS b")
    state = WorkerState(made.tables)
    columns = {"k": column("string", ["k", "other", "k"])}
    columns |= {name: column("bool", [name == "a", False, name == "b"]) for name in "ab"}
    batch = Batch(3, (TaskRows(0, 0, 3),), np.arange(3, dtype=np.int64), ["k", "other", "k"], columns)
    made.process(batch, state)
    assert batch.columns["x.matched"].values.tolist() == [False, False, True]
    assert list(state.table(made.tables[0].name).keys_of(0)) == ["k"]


def test_a_key_has_a_bounded_number_of_runs_and_says_how_many_went() -> None:
    text = "PATTERN (A -> B) WITHIN INTERVAL '1' DAY DEFINE A AS a, B AS b AND n = FIRST(n)"
    made = operator(f"MEASURES FIRST(n) AS f {text}")
    size = 100
    columns = {
        "k": column("string", ["k"] * size),
        "_": column("bool", [True] * size),
        "n": column("int64", [*range(99), 98]),
        **{name: column("bool", [True] * size) for name in ("a", "b")},
    }
    batch = Batch(size, (TaskRows(0, 0, size),), np.arange(size, dtype=np.int64), ["k"] * size, columns)
    made.process(batch, WorkerState(made.tables))
    assert dropped_runs(batch) == {"x": size - 1 - RUNS_MAX}
    assert batch.columns["x.dropped"].values.tolist() == [0] * RUNS_MAX + [1] * (size - 1 - RUNS_MAX) + [0]
    assert np.flatnonzero(batch.columns["x.matched"].values).tolist() == [99], "the newest beginning is still there"


def test_nested_quantifiers_take_bounded_time() -> None:
    made = operator("PATTERN ((((A*)*)*)* (((A | A)* | (A A)*)* )+ B) DEFINE A AS a, B AS b")
    size = 2_000
    columns = {"k": column("string", ["k"] * size), "a": column("bool", [True] * (size - 1) + [False])}
    columns["b"] = column("bool", [False] * (size - 1) + [True])
    batch = Batch(size, (TaskRows(0, 0, size),), np.arange(size, dtype=np.int64), ["k"] * size, columns)
    made.process(batch, WorkerState(made.tables))
    assert np.flatnonzero(batch.columns["x.matched"].values).tolist() == [size - 1]
    assert not dropped_runs(batch)
