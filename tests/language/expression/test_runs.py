"""Numbers and bools that are run together give what their kernels give, to the bit: the loop itself and its code."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from operators.batch import Batch, Column
from operators.expressions import ExpressionOperator, loop, operator, schedule
from operators.expressions.program import Program
from operators.expressions.runs import ROWS_MAX, Runs, compiled_loop
from operators.expressions.schedule import phases
from operators.schema import Kind
from state.compiling import can_compile
from state.errors import RecordError
from tests.language.expression.support import COLUMNS, LOOKUPS, TIME, Row, batch_of, compiled, operator_of, rows
from tests.language.expression.test_against_duckdb import RARER, TEMPLATES, expressions

QUIET = settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
WAYS = ["plain", *["compiled"] * can_compile()]
GROUPS = sorted({*TEMPLATES, *RARER})
LARGE = [2**63 - 1, -(2**63), -1, 0, 1, 2**53, -(2**53) - 1, 3_037_000_500, 10**15, 255]
STRANGE = [np.inf, -np.inf, np.nan, -0.0, 0.0, 1.5, -1e308, 5e-324, 2.0**53, 0.5]
EDGES: dict[Kind, list[Any]] = {Kind.FLOAT64: STRANGE, Kind.BOOL: [False, True], Kind.STRING: ["", "a", "AB"]}


@pytest.fixture(params=WAYS)
def compute(request: pytest.FixtureRequest) -> Callable[..., bool]:
    return interpreted if request.param == "plain" else compiled_loop()


@np.errstate(all="ignore")
def interpreted(*args: Any) -> bool:
    """The loop as it stands."""
    return loop.compute(*args)


@pytest.fixture
def all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few steps there are, they are run together."""
    monkeypatch.setattr(schedule, "STEPS_MIN", 1)


def program_of(texts: Sequence[str]) -> Program:
    return Program([(f"out{n}", compiled(text)) for n, text in enumerate(texts)], LOOKUPS)


def each_of(*groups: str) -> list[tuple[str, Program]]:
    return [(text, program_of([text])) for group in groups for text in expressions(group)]


def runs_of(program: Program, compute: Callable[..., bool]) -> Runs:
    return Runs(program.layout, phases(program.layout), compute)


def clean(batch: Batch) -> Batch:
    """What lies under NULLs is blank."""
    columns = {}
    for name, (kind, values, valid) in batch.columns.items():
        blank = values if valid is None else np.where(valid, values, np.array(kind.blank, values.dtype))
        columns[name] = Column(kind, blank, valid)
    return Batch(batch.size, (), columns["event_time"].values, batch.keys, columns)


def bits(found: dict[str, Column] | None) -> dict[str, Any] | None:
    """Columns so that they are equal if they are so to the bit."""
    if found is None:
        return None
    return {
        name: (
            kind, values.dtype, values.shape, values.tolist() if kind.kind is Kind.STRING else values.tobytes(),
            None if valid is None else (valid.dtype, valid.tolist()),
        )
        for name, (kind, values, valid) in found.items()
    }  # fmt: skip


def by_kernels(program: Program, batch: Batch) -> dict[str, Any] | None:
    """None: a row fails."""
    try:
        return bits(program.run(batch))
    except RecordError:
        return None


@pytest.mark.parametrize("group", GROUPS)
def test_each_alone(group: str, compute: Callable[..., bool], all_together: None) -> None:
    made = [(text, program, runs_of(program, compute)) for text, program in each_of(group)]

    @given(data=rows(5))
    @QUIET
    def same(data: list[Row]) -> None:
        batch = clean(batch_of(data))
        for text, program, together in made:
            assert bits(together.run(batch)) == by_kernels(program, batch), text

    same()


def test_together_and_with_garbage_beneath_nulls(compute: Callable[..., bool]) -> None:
    programs = [program_of(expressions(group)) for group in GROUPS]
    made = [(program, runs_of(program, compute)) for program in programs]

    @given(data=rows(6))
    @QUIET
    def same(data: list[Row]) -> None:
        batch = batch_of(data)
        for program, together in made:
            found = bits(together.run(batch))
            assert found is None or found == by_kernels(program, batch)

    same()


def test_large_and_strange_values(compute: Callable[..., bool], all_together: None) -> None:
    texts = each_of("arithmetic", "comparison", "logic", "choice", "casts")
    made = [(text, program, runs_of(program, compute)) for text, program in texts]

    @given(seed=st.integers(0, 2**32), size=st.integers(1, 9))
    @QUIET
    def same(seed: int, size: int) -> None:
        batch = strange(np.random.default_rng(seed), size)
        for text, program, together in made:
            found = bits(together.run(batch))
            assert found is None or found == by_kernels(program, batch), text

    same()


def strange(random: np.random.Generator, size: int) -> Batch:
    """Rows of values at the edges."""
    columns = {}
    for name, kind in {**COLUMNS, "event_time": TIME}.items():
        some = EDGES.get(kind.kind, LARGE)
        values = np.array([some[at] for at in random.integers(0, len(some), size)], kind.dtype)
        columns[name] = Column(kind, values, random.random(size) < 0.7 if random.random() < 0.7 else None)
    return Batch(size, (), columns["event_time"].values, [""] * size, columns)


def test_every_step_of_the_loop_is_tried(all_together: None) -> None:
    used: set[int] = set()
    texts = [text for group in GROUPS for text in expressions(group)]
    program = program_of([*texts, "least(f, g)", "abs(kf)", "b IS DISTINCT FROM c"])
    for _, run in runs_of(program, loop.compute)._phases:
        if run is not None:
            first = 2 + run._program[0, 2]
            used |= set(run._program[first : first + run._program[0, 3], 0].tolist())
    assert used == set(range(loop.DISTINCT + 1))


NESTED = [
    "strpos(s, 'a') + 1 > i AND length(lpad(s, CAST(kb AS int64) + 2, 'x')) + ki > 3 OR s = 'ab'",
    "upper(s) = 'A' OR b",
]


@given(data=rows(4))
@QUIET
def test_kernels_between_runs(compute: Callable[..., bool], all_together: None, data: list[Row]) -> None:
    program = program_of(NESTED)
    made = phases(program.layout)
    assert [(bool(phase.kernels), bool(phase.together)) for phase in made] == [(True, True), (True, True)]
    found = runs_of(program, compute).run(batch := clean(batch_of(data)))
    assert found is not None
    assert bits(found) == by_kernels(program, batch)


def test_few_steps_are_left_to_their_kernels() -> None:
    few = " AND ".join(f"ki > {n}" for n in range(schedule.STEPS_MIN // 2))
    many = f"{few} AND kb AND b"
    for text, together in ((few, 0), (many, schedule.STEPS_MIN + 1 - schedule.STEPS_MIN % 2)):
        assert [len(phase.together) for phase in phases(program_of([text]).layout)] == [together]


ROW: dict[str, Any] = {
    name: {Kind.STRING: "a", Kind.BOOL: True}.get(kind.kind, 3) for name, kind in COLUMNS.items()
} | {"event_time": 5}
MANY = [f"ki + i > {n} OR f < {n} AND s = 'a{n}'" for n in range(9)]


def test_a_row_that_fails_is_told_by_the_kernels() -> None:
    program = program_of([*MANY, "i + 1"])
    program.go_by(interpreted)
    bad = batch_of([ROW, ROW | {"i": 2**63 - 1}])
    with pytest.raises(RecordError, match="overflow"):
        program.run(bad)
    assert program.run(batch_of([ROW]))["out9"].values.tolist() == [4]


@pytest.mark.parametrize("size", [0, 1, ROWS_MAX, ROWS_MAX + 1])
def test_columns_that_do_not_lie_together_and_such_of_another_dtype(size: int) -> None:
    batch = batch_of([ROW] * max(size, 1))
    columns = {name: column.take(np.arange(size)) for name, column in batch.columns.items()}
    plain, program = program_of(MANY), program_of(MANY)
    program.go_by(interpreted)
    apart = np.repeat(columns["ki"].values, 2)[::2]
    for values in (apart, columns["ki"].values.astype(np.int32)):
        given_ = Batch(
            size, (), columns["event_time"].values, [], columns | {"ki": columns["ki"]._replace(values=values)}
        )
        assert {name: column.values.tolist() for name, column in program.run(given_).items()} == {
            name: column.values.tolist() for name, column in plain.run(given_).items()
        }


@pytest.mark.skipif(not can_compile(), reason="numba is not installed")
def test_the_loop_is_compiled_once_whatever_the_program() -> None:
    for texts, size in ((MANY, 1), ([*NESTED, *MANY], 40)):
        made = operator_of(texts)
        made.prepare()
        assert made._program._runs is not None
        made.process(batch_of([ROW] * size), None)  # type: ignore[arg-type]
    assert len(getattr(compiled_loop(), "signatures")) == 1  # noqa: B009


def test_where_nothing_can_be_compiled_expressions_go_by_kernels(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused() -> None:
        raise RuntimeError

    made: ExpressionOperator = operator_of(MANY)
    monkeypatch.setattr(operator, "can_compile", lambda: False)
    made.prepare()
    monkeypatch.setattr(operator, "can_compile", lambda: True)
    monkeypatch.setattr(operator, "warm_loop", refused)
    with caplog.at_level(logging.WARNING):
        made.prepare()
    assert "expressions go by kernels: numba compiles nothing here (RuntimeError)" in caplog.text
    assert made._program._runs is None
