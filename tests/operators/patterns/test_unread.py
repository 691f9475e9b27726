"""Rows that the operator passes over unread mean nothing: random patterns of one key, beside matchers that read all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from operators.batch import Batch, TaskRows
from operators.expressions import Compiled
from operators.expressions.nodes import ColumnRef
from operators.operator import INT64, OutputField
from operators.patterns.matcher import KeyRuns, Row
from operators.patterns.operator import PatternOperator
from operators.patterns.rows import fitting, matcher_of, plain_values, true_rows
from operators.patterns.slots import Slot, SlotKind
from operators.patterns.spec import MATCH_NUMBER, PatternSpec, Skip, SkipKind, check
from operators.patterns.tree import variables_of
from state.errors import ConfigError, Place
from state.worker_state import WorkerState
from streamproc.language.expression import compile_expression, parse
from tests.operators.patterns.test_law import NAMES, gapped, strict, tree
from tests.operators.samples import column, examples

LARGER = compile_expression(
    parse("n >= last", Place("test")), {"n": OutputField("n", INT64), "last": OutputField("last", INT64)}, {}
)
NUMBER = Compiled(INT64, False, (MATCH_NUMBER,), ColumnRef(MATCH_NUMBER, INT64, False))
options = st.fixed_dictionaries(
    {
        "skip": st.sampled_from([SkipKind.PAST_LAST, SkipKind.PAST_LAST, SkipKind.NEXT_ROW, SkipKind.NO_SKIP]),
        "within": st.sampled_from([0, 0, 4]),
        "counts": st.sampled_from([None, None, None, "w"]),
        "asks": st.booleans(),
        "numbers": st.booleans(),
        "defined": st.sampled_from(["abc", "abc", "abc", "ab"]),
    }
)
patterns = st.lists(st.tuples(st.one_of(strict, gapped), options), min_size=1, max_size=3)
marks = st.sampled_from(["", "", "a", "b", "c", "ab", "ac"])
rows = st.lists(st.tuples(st.sampled_from("kkkl"), marks, st.integers(0, 2), st.booleans()), max_size=14)
PLAIN = {"skip": SkipKind.PAST_LAST, "within": 0, "counts": None, "asks": False, "numbers": False, "defined": "abc"}
A, B, C = (("var", name) for name in NAMES)


def spec_of(name: str, node: Any, given: dict[str, Any]) -> PatternSpec:
    pattern = tree(node)
    names = variables_of(pattern)
    bit = sum(1 << i for i, one in enumerate(names) if one == "A")
    spec = PatternSpec(
        name, "k", pattern, {one: one.lower() for one in names if one.lower() in given["defined"]},
        {"B": LARGER} if given["asks"] and "B" in names else {}, ("n",), (INT64,),
        (Slot("last", SlotKind.LAST, bit, 0, INT64),), (("m", NUMBER),) if given["numbers"] else (),
        given["counts"], Skip(given["skip"]), given["within"], 1_000_000,
    )  # fmt: skip
    try:
        check(spec)
    except ConfigError:
        assume(False)
    return spec


def batch_of(some: list[tuple[str, str, int, bool]]) -> Batch:
    columns = {name: column("bool", [name in marks for _, marks, _, _ in some]) for name in "abc"}
    columns["n"] = column("int64", [n for _, _, n, _ in some])
    columns["w"] = column("bool", [seen for *_, seen in some])
    keys = [key for key, *_ in some]
    columns["k"] = column("string", keys)
    return Batch(len(some), (TaskRows(0, 0, len(some)),), np.arange(len(some), dtype=np.int64), keys, columns)


def read_all(spec: PatternSpec, batch: Batch) -> dict[int, int]:
    """Row -> number of the match that it shows."""
    matcher, runs = matcher_of(spec, {}), dict[str, KeyRuns]()
    fits = fitting(spec, matcher.program.variables, batch).tolist()
    values = plain_values(batch.columns["n"], [*range(batch.size)])
    seen = true_rows(batch.columns[spec.counts]).tolist() if spec.counts else [True] * batch.size
    found = {}
    for row in range(batch.size):
        if seen[row]:
            state = runs.setdefault(batch.keys[row], KeyRuns())
            said, dropped = matcher.row(state, Row(int(batch.event_time[row]), fits[row], [values[row]]))
            assert dropped == 0
            if said:
                found[row] = said[0].number
    return found


@pytest.mark.timeout(300)
@example([(("seq", [A, ("alt", [("seq", [B, C]), B])]), PLAIN)], [("k", one, 0, True) for one in ("a", "b", "", "a")])
@example(
    [(("seq", [A, ("gap", "relaxed", [], ["C"], B)]), PLAIN)], [("k", one, 0, True) for one in ("a", "", "c", "b")]
)
@example([(("seq", [A, ("gap", "relaxed", ["C"], [], B)]), PLAIN)], [("k", one, 0, True) for one in ("a", "c", "b")])
@example(
    [(("seq", [A, ("gap", "relaxed", [], [], B)]), PLAIN), (("seq", [A, C]), PLAIN)],
    [("k", one, 0, True) for one in ("a", "", "c", "b")],
)
@example(
    [(("seq", [A, B]), {**PLAIN, "numbers": True})], [("k", one, 0, True) for one in ("a", "b", "a", "", "a", "b")]
)
@example(
    [(A, PLAIN), (A, {**PLAIN, "numbers": True}), (("seq", [A, A]), PLAIN)],
    [("k", one, 0, True) for one in ("a", "", "a")],
)
@given(patterns, rows)
@examples(250)
def test_operator_beside_matchers(given: Any, some: Any) -> None:
    specs = [spec_of(f"x{i}", node, one) for i, (node, one) in enumerate(given)]
    made = PatternOperator(specs, "t")
    state = WorkerState(made.tables)
    batch = batch_of(some)
    made.process(batch, state)
    for spec in specs:
        wanted = read_all(spec, batch)
        matched = np.flatnonzero(batch.columns[f"{spec.name}.matched"].values).tolist()
        assert matched == sorted(wanted), spec.name
        if spec.measures:
            numbers = batch.columns[f"{spec.name}.m"].values
            assert {row: int(numbers[row]) for row in matched} == wanted
