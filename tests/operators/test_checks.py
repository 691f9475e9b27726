"""The shared checks: our operators pass them, and each check finds the fault it is for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from operators.batch import Batch, Column
from operators.check_rows import SampleRows, sample_rows, shrink
from operators.checks import CHECKS, CheckFailedError, check_operator, results_digest, run_checks
from operators.deduplicate import Deduplicator
from operators.operator import (
    BOOL,
    FLOAT64,
    INT64,
    STRING,
    TIMESTAMP,
    InputField,
    Operator,
    OperatorContext,
    OutputField,
    decimal,
)
from operators.plan import Plan
from operators.score import ScoreOperator
from operators.windows.operator import WindowOperator
from operators.windows.spec import Aggregate, PreviousFeature, WindowFeature, WindowSpec
from streamproc.language import compile_pipeline, read_pipeline
from tests.operators import broken_operators as broken
from tests.operators.event_operators import Habits, Ratio, Totals

HOUR = 3_600_000
PIPELINE = """
pipeline: p
streams:
  payments:
    id: id
    event_time: at
    fields:
      id: string
      card: string
      amount: decimal(2)
      number: int64
      ratio: float64
      shop: string
      flag: bool
      at: timestamp
partition_by: card
ttl: 3d
features:
  spend: {of: amount, aggregates: [count, sum, mean, stddev, min, max], over: [1h, 1d]}
  shops: {of: shop, aggregates: [distinct, first_seen], over: [1d], where: amount > 1}
  slow: {of: number, aggregates: [sum, max], over: [1d], delay: 1h, precision: 10m}
  jump: amount / previous(amount)
  far: previous(ratio, 2) + previous(number)
  mixed: coalesce(ratio, 0) * 2 + number / amount
  text: concat(shop, upper(card))
  late: hour(at) < 6 and (flag or shop = 'a')
  speed: number / hours_since(previous(at))
"""


def scope_of(plan: Plan) -> dict[str, OutputField]:
    needed = {plan.stream.id, plan.stream.key, plan.stream.event_time}
    scope = {f.name: OutputField(f.name, f.type, f.name not in needed) for f in plan.stream.fields}
    return scope | {field.name: field for step in plan.steps for field in step.outputs}


def samples_for(step: Operator, scope: dict[str, OutputField]) -> list[SampleRows]:
    types = {name: scope[name].type for name in step.inputs}
    never_null = [name for name in step.inputs if not scope[name].nullable]
    return [sample_rows(types, seed, never_null=never_null) for seed in range(4)]


def test_what_a_pipeline_compiles_to() -> None:
    plan = compile_pipeline(read_pipeline(PIPELINE, "p.yaml"))
    kinds = {type(step).__name__ for step in plan.steps}
    assert kinds == {"WindowOperator", "ExpressionOperator"}
    for step in plan.steps:
        check_operator(step, samples_for(step, scope_of(plan)))


def test_windows_of_nullable_keys_that_expire() -> None:
    features = (
        WindowFeature("n", Aggregate.COUNT, HOUR),
        WindowFeature("total", Aggregate.SUM, 24 * HOUR, "amount", decimal(2)),
        WindowFeature("new", Aggregate.FIRST_SEEN, 24 * HOUR, "shop", STRING),
        WindowFeature("most", Aggregate.MAX, HOUR, "ratio", FLOAT64, where="flag"),
    )
    previous = (PreviousFeature("before", "amount", decimal(2), 1),)
    types = {"card": STRING, "amount": decimal(2), "shop": STRING, "ratio": FLOAT64, "flag": BOOL}
    spec = WindowSpec("card", "card", features, previous, 3 * 24 * HOUR)
    outcomes = run_checks(lambda: WindowOperator(spec), types=types)
    assert [one.text for one in outcomes if one.status != "ok"] == []


class SumModel:
    width = 0

    def score(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        scores = np.abs(matrix.astype(np.float64).sum(axis=1)) % 100
        return np.where(np.isnan(matrix).all(axis=1), np.nan, np.nan_to_num(scores))


def test_scores() -> None:
    types = {"amount": decimal(2), "number": INT64, "ratio": FLOAT64, "flag": BOOL}
    check_operator(lambda: ScoreOperator("fraud", SumModel(), list(types), {"low": 0, "high": 70}), types=types)


class DeduplicateStep(Operator):
    """The deduplicator as a step; a row's action is its payload's last digit."""

    inputs = (InputField("id", STRING), InputField("payload", INT64))
    outputs = (OutputField("duplicate", BOOL, False), OutputField("reused", BOOL, False), OutputField("action", INT64))

    def __init__(self) -> None:
        self.deduplicator = Deduplicator(6 * HOUR)

    def process(self, batch: Batch, context: OperatorContext) -> None:
        payload = batch.columns["payload"].values
        ids = batch.columns["id"].values.tolist()
        flags = self.deduplicator.check(batch.tasks, ids, payload, batch.event_time)
        actions = np.where(flags.duplicate, flags.first_action, payload % 10).astype(np.uint8)
        here = np.flatnonzero(flags.duplicate & (flags.first_row >= 0))
        actions[here] = actions[flags.first_row[here]]
        self.deduplicator.record(flags, actions)
        batch.columns["duplicate"] = Column(BOOL, flags.duplicate)
        batch.columns["reused"] = Column(BOOL, flags.reused)
        batch.columns["action"] = Column(INT64, actions.astype(np.int64))


def test_deduplication() -> None:
    def rows(seed: int) -> SampleRows:
        made = sample_rows({"id": STRING, "payload": INT64}, seed, never_null=("id", "payload"))
        few = made.columns["payload"]._replace(values=made.columns["payload"].values % 2)
        return made._replace(columns=made.columns | {"payload": few})

    def parts(step: Operator) -> tuple[Deduplicator]:
        assert isinstance(step, DeduplicateStep)
        return (step.deduplicator,)

    # Its horizon ends by the stream time of the whole task: keys are not apart.
    outcomes = run_checks(DeduplicateStep, [rows(seed) for seed in range(5)], skip=("keys",), parts=parts)
    failed = [one.text for one in outcomes if one.status == "failed"]
    assert failed == []
    assert {one.check for one in outcomes if one.status == "skipped"} == {"keys", "ttl"}


@pytest.mark.parametrize("operator", [Habits, Ratio, Totals, broken.Visits])
def test_examples(operator: type[Operator]) -> None:
    check_operator(operator)


FAULTS: list[tuple[str, type[Operator], str]] = [
    ("declaration", broken.OutputIsInput, "number is an input and an output"),
    ("declaration", broken.NotDeclaredKey, "the key card_id of the table visits is not among its inputs"),
    ("computes", broken.NeverComputes, "only 0 of 48 sample rows can be computed: no"),
    ("only-declared", broken.ReadsOther, "it reads 'a column of somebody else'"),
    ("only-declared", broken.ReadsUnknown, "it reads the column 'merchant_id', which is not among its inputs"),
    ("only-declared", broken.AddsOther, "it adds the column 'more', which is not among its outputs"),
    ("only-declared", broken.WritesInput, "it changes what it was given"),
    ("only-declared", broken.OtherType, "output visits has int32[1], not int64[1]"),
    ("only-declared", broken.ShortColumn, "output visits has int64[0], not int64[1]"),
    ("batch-cuts", broken.CountsBatches, "in batches of 2, visits of row 1 is 1, not 2 as in batches of 1"),
    ("restore", broken.ForgetsToFlush, "restored after"),
    ("replay", broken.SilentIsIdle, "after a silent replay of 1 rows, visits of row 1 is 1, not 2"),
    ("undo", broken.NoBeforeImage, "the state differs after the batch from row"),
    ("keys", broken.OneKey, "without the rows of other keys, visits of row 1 is 1, not 2"),
    ("keys", broken.InstanceMemory, "in the opposite order"),
    ("tasks", broken.OneTask, "without the rows of other tasks, visits of row 0 is 1, not 2"),
    ("ttl", broken.ForEver, "with history that expired 86400000 ms ago, visits of row 0 is 2, not 1"),
    ("determinism", broken.Chance, "it depends on something that is neither input nor declared state"),
    ("nulls", broken.Doubled, "it reads the value under a NULL of number: doubled of row 0 is 14, not 0"),
    ("nulls", broken.NullRaises, "TypeError in broken_operators.py:"),
    ("bad-rows", broken.LosesNeighbours, "is refused (three), not computed"),
    ("computes", broken.WrongRows, "RecordError names the rows"),
]


def test_every_check_has_a_fault_that_it_finds() -> None:
    assert {check for check, _, _ in FAULTS} - {"computes"} == set(CHECKS)


@pytest.mark.parametrize(("check", "operator", "message"), FAULTS, ids=lambda value: getattr(value, "__name__", None))
def test_a_check_finds_its_fault(check: str, operator: type[Operator], message: str) -> None:
    found = {one.check: one for one in run_checks(operator) if one.status == "failed"}
    assert check in found
    assert message in found[check].text
    if operator not in ALSO_ELSEWHERE:
        assert list(found) == [check]


ALSO_ELSEWHERE = (
    broken.ShortColumn,
    broken.NoBeforeImage,
    broken.Chance,
    broken.InstanceMemory,
    broken.NullRaises,
    broken.CountsBatches,
    broken.LosesNeighbours,
    broken.WrongRows,
    broken.OneKey,
    broken.OneTask,
)
"""A fault that more than one check finds."""


def test_an_undeclared_table_cannot_be_reached() -> None:
    with pytest.raises(CheckFailedError, match="KeyError"):
        check_operator(broken.OtherTable)


def test_the_smallest_failing_batch_is_shown() -> None:
    with pytest.raises(CheckFailedError) as caught:
        check_operator(broken.CountsBatches)
    text = str(caught.value)
    assert "failed  batch-cuts: in batches of 2, visits of row 1 is 1, not 2" in text
    section = text[text.index("batch-cuts") :].splitlines()
    assert section[1].split() == ["task", "event_time", "card_id", "number"]
    assert len([line for line in section[2:4] if line[:1].isdigit()]) == 2
    assert not section[4:5] or not section[4][:1].isdigit()


def test_types_must_be_known() -> None:
    class Untyped(broken.Doubled):
        inputs: tuple[str, ...] = ("number",)  # type: ignore[assignment]

    assert run_checks(Untyped)[0].message.startswith("the type of the input number is not known")
    assert [one.check for one in run_checks(Untyped, types={"number": INT64}) if one.status == "failed"] == ["nulls"]


def test_shrink_keeps_failing() -> None:
    rows = sample_rows({"n": INT64, "at": TIMESTAMP}, 1)
    wanted = rows.columns["n"].values[[3, 40]].tolist()

    def fails(some: SampleRows) -> bool:
        left = some.columns["n"].values.tolist()
        return all(value in left for value in wanted)

    assert shrink(rows, fails).size == len(set(wanted))


def test_sample_rows_are_seeded_and_hold_trouble() -> None:
    types = {"s": STRING, "d": decimal(2), "f": FLOAT64, "b": BOOL, "t": TIMESTAMP, "n": INT64}
    rows, again, other = (sample_rows(types, seed, size=200) for seed in (7, 7, 8))
    assert rows.table() == again.table() != other.table()
    steps = np.diff(rows.event_time)
    assert (steps == 0).any()
    assert (steps < 0).any()
    assert all(column.valid is not None and not column.valid.all() for column in rows.columns.values())
    assert all(column.type == types[name] for name, column in rows.columns.items())


def test_the_digest_covers_results_and_state() -> None:
    first = results_digest(Habits)
    assert first == results_digest(Habits)

    class Other(Habits):
        def on_event(self, event: Any, state: Any) -> dict[str, Any]:
            found = super().on_event(event, state)
            return found | {"label": None}

    assert results_digest(Other) != first
    assert results_digest(Habits, types={}) == first


def test_outcomes_name_their_check() -> None:
    outcomes = run_checks(broken.Visits)
    assert [one.check for one in outcomes] == list(CHECKS)
    assert lines(outcomes)[0] == "ok      declaration"


def lines(outcomes: Sequence[object]) -> list[str]:
    return [str(getattr(one, "line", "")) for one in outcomes]
