"""The suites' cases through the operator of a stream: its rows at once; one by one, each after some that are undone;
one by one, with a new worker that has what the store has between any two. Beside a matcher that reads every row.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from operators.batch import Batch
from operators.operator import Operator
from operators.patterns.matcher import KeyRuns
from operators.patterns.matcher import Row as Seen
from operators.patterns.operator import PatternOperator
from operators.patterns.rows import fitting, matcher_of, plain_values, true_rows
from operators.patterns.spec import PatternSpec
from state.errors import ConfigError, Place
from state.memory import MemoryDisk, MemoryRowStores
from state.worker_state import WorkerState
from streamproc.language.match_recognize import compile_match
from streamproc.language.patterns.clauses import parse_clauses
from tests.conformance.patterns.harness import FIELDS, Row, batch_of
from tests.conformance.patterns.test_suites import cases, statement

Ends = list[tuple[int, list[Any]]]
"""Rows that end a match, and its measures."""
REFUSED = {
    "the pattern ends with a greedy quantifier: a match would wait for the row behind it": {
        0, 14, 20, 22, 24, 34, 36, *range(44, 54), 71, *range(73, 80), *range(81, 92), 95,
    },
    "the pattern matches no row at all": {
        1, 12, 13, *range(16, 20), *range(26, 32), *range(57, 61), 63, 64, 69, 70, 72,
    },
    "^ and $ are the first and the last row of a key: a stream knows neither": {
        *range(2, 8), 61, 62, *range(65, 69),
    },
}  # fmt: skip
"""Numbers of Trino's cases that cannot be said of a stream, by the reason that is given; of the others all can."""
FEWER = {
    "EveryPatternTestCase#testQuery3": "a row ends two matches: the first is told",
    "EveryPatternTestCase#testQuery9": "a row ends two matches: the first is told",
    "SequenceTestCase#testQuery14": "a match is shown by the end of the input, which a stream has not",
}


def compiled(suite: str, case: dict[str, Any]) -> tuple[PatternSpec, Sequence[Operator], list[Row]]:
    text, rows = statement(suite, case)
    made = compile_match(parse_clauses(text, Place("case")), FIELDS, "key")
    return made.spec, made.steps, rows


def fed(chain: Sequence[Operator], state: WorkerState, rows: list[Row]) -> Batch:
    batch = batch_of(rows)
    for step in chain:
        step.process(batch, state)
    return batch


def streamed(spec: PatternSpec, steps: Sequence[Operator], rows: list[Row], way: str) -> Ends:
    chain = [*steps, PatternOperator([spec], "t")]
    tables = tuple(table for step in chain for table in step.tables)
    disk, found = MemoryDisk(random.Random(0)), Ends()
    store, state = MemoryRowStores(disk).open(0), WorkerState(tables)
    state.add_task(0, store)
    cut = len(rows) if way == "at once" else 1
    for begin in range(0, len(rows), cut):
        if way == "undone":
            fed(chain, state, rows[begin : begin + cut + 2])
            state.undo()
        batch = fed(chain, state, rows[begin : begin + cut])
        state.publish()
        measures = [batch.columns[f"{spec.name}.{name}"] for name, _ in spec.measures]
        ends = np.flatnonzero(batch.columns[f"{spec.name}.matched"].values).tolist()
        found += [(begin + end, [plain_values(one, [end])[0] for one in measures]) for end in ends]
        if way == "restored":
            flush = state.cut(0)
            flush.write(store)
            store.close()
            chain = [*steps, PatternOperator([spec], "t")]
            store, state = MemoryRowStores(disk).open(0), WorkerState(tables)
            state.add_task(0, store)
    return found


def read_all(spec: PatternSpec, steps: Sequence[Operator], rows: list[Row]) -> list[tuple[int, int]]:
    """Rows that end a match, and its number."""
    batch = fed(steps, WorkerState(tuple(table for step in steps for table in step.tables)), rows)
    matcher, runs, found = matcher_of(spec, {}), dict[str, KeyRuns](), []
    fits = fitting(spec, matcher.program.variables, batch).tolist()
    values = [plain_values(batch.columns[name], [*range(batch.size)]) for name in spec.columns]
    counts = true_rows(batch.columns[spec.counts]).tolist() if spec.counts else [True] * batch.size
    for row in np.flatnonzero(counts).tolist():
        seen = Seen(rows[row].time, fits[row], [one[row] for one in values])
        said, _ = matcher.row(runs.setdefault(rows[row].key, KeyRuns()), seen)
        if said:
            found.append((row, said[0].number))
    return found


def of_streams(suite: str) -> list[Any]:
    refused = set().union(*REFUSED.values()) if suite == "trino" else set()
    return [one for i, one in enumerate(cases(suite)) if i not in refused]


def ends_of(suite: str, case: dict[str, Any]) -> Ends:
    """The same in all ways, and beside the matcher."""
    spec, steps, rows = compiled(suite, case)
    found = streamed(spec, steps, rows, "at once")
    for way in ("undone", "restored"):
        assert streamed(spec, steps, rows, way) == found, way
    assert [row for row, _ in found] == [row for row, _ in read_all(spec, steps, rows)]
    return found


@pytest.mark.parametrize("case", of_streams("trino"))
def test_trino(case: dict[str, Any]) -> None:
    ends_of("trino", case)


@pytest.mark.parametrize("case", of_streams("flink_cep"))
def test_flink_cep(case: dict[str, Any]) -> None:
    found, rows = ends_of("flink_cep", case), case["rows"]
    spec, steps, given = compiled("flink_cep", case)
    assert [(row, number) for row, (number,) in found] == read_all(spec, steps, given)
    if len(set(rows)) == len(rows) and "!" not in case["pattern"]:
        assert [row for row, _ in found] == sorted({rows.index(match[-1]) for match in case["expect"]})


@pytest.mark.parametrize("case", of_streams("siddhi"))
def test_siddhi(case: dict[str, Any]) -> None:
    told = [measures for _, measures in ends_of("siddhi", case)]
    if case["test"] in FEWER:
        assert len(told) == len(case["expect"]) - 1
        assert told == [one for one in case["expect"] if one in told]
    else:
        assert told == case["expect"]


def test_what_cannot_be_said_of_a_stream_is_refused_with_the_reason() -> None:
    found: dict[tuple[str, str], set[int]] = {}
    for suite in ("trino", "flink_cep", "siddhi"):
        for i, one in enumerate(cases(suite)):
            (case,) = one.values
            spec, _, _ = compiled(suite, case)
            try:
                PatternOperator([spec], "t")
            except ConfigError as error:
                found.setdefault((suite, error.message), set()).add(i)
    assert found == {("trino", reason): numbers for reason, numbers in REFUSED.items()}
    assert [len(of_streams(suite)) for suite in ("trino", "flink_cep", "siddhi")] == [25, 114, 52]
