"""Event operators: values, state, failures. Everything shared with columnar operators is in test_checks."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.batch import Batch, Column, TaskRows
from operators.check_rows import sample_rows
from operators.check_run import Refused, Run
from operators.event_operator import (
    BOOL,
    FLOAT64,
    INT64,
    STRING,
    TIMESTAMP,
    Event,
    EventOperator,
    InputField,
    OutputField,
    decimal,
)
from operators.event_values import UnfitError, column_of, physical, python_values
from operators.schema import DataType
from state.errors import ConfigError, RecordError, StateCorruptedError
from state.worker_state import WorkerState
from tests.operators.event_operators import Habits, Ratio, Totals
from tests.operators.samples import column, examples

DAY = 86_400_000


def one_task(times: list[int], **columns: Column) -> Batch:
    size = len(times)
    return Batch(size, (TaskRows(0, 0, size),), np.array(times, np.int64), [""] * size, columns)


def numbers(shops: list[int | None], values: list[int | None], times: list[int] | None = None) -> Batch:
    return one_task(times or [0] * len(shops), shop=column("int64", shops), number=column("int64", values))


def run(operator: EventOperator, batch: Batch, state: WorkerState | None = None) -> dict[str, list[Any]]:
    operator.process(batch, state or WorkerState(operator.tables))
    return {field.name: python_values(batch.columns[field.name]) for field in operator.outputs}


# ---- values


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (INT64, [1, -(2**63), None]),
        (FLOAT64, [0.5, None]),
        (decimal(2), [Decimal("12.34"), Decimal("-0.01"), None]),
        (STRING, ["", "ü", None]),
        (BOOL, [True, False, None]),
        (TIMESTAMP, [0, -5, None]),
    ],
)
def test_values_go_out_and_come_back(kind: DataType, values: list[Any]) -> None:
    made = column_of(kind, [physical(kind)(value) for value in values])
    assert made.values.dtype == np.dtype(kind.dtype)
    back = python_values(made)
    assert back == values
    assert [type(value) for value in back] == [type(value) for value in values]


@given(st.integers(-(2**53) + 1, 2**53 - 1), st.integers(0, 9))
@examples(300)
def test_decimals_are_exact(minor: int, scale: int) -> None:
    kind = decimal(scale)
    (value,) = python_values(Column(kind, np.array([minor], np.int64)))
    assert value * 10**scale == minor
    assert physical(kind)(value) == minor


@pytest.mark.parametrize(
    ("kind", "value", "stored"),
    [
        (decimal(2), 3, 300),
        (decimal(0), Decimal("1E+2"), 100),
        (FLOAT64, 3, 3.0),
        (FLOAT64, float("nan"), None),
        (FLOAT64, float("inf"), None),
        (FLOAT64, 10**400, None),
        (INT64, np.int64(4), 4),
        (BOOL, np.True_, True),
        (FLOAT64, np.float64(2.5), 2.5),
    ],
)
def test_what_is_taken_too(kind: DataType, value: Any, stored: Any) -> None:
    assert physical(kind)(value) == stored


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (INT64, 1.0, "must be an int (int64), not float"),
        (INT64, True, "must be an int (int64), not bool"),
        (INT64, 2**63, "is too large for int64"),
        (FLOAT64, "1", "must be a float (float64), not str"),
        (decimal(2), 1.5, "must be a Decimal (decimal(2)), not float"),
        (decimal(2), Decimal("1.005"), "has more than 2 decimals: round it with quantize()"),
        (decimal(2), Decimal("NaN"), "is too large for decimal(2), or not a number"),
        (decimal(2), Decimal("1E+999999"), "is too large for decimal(2), or not a number"),
        (decimal(2), Decimal(2**53), "is too large for decimal(2)"),
        (STRING, b"x", "must be a str (string), not bytes"),
        (BOOL, 1, "must be a bool (bool), not int"),
        (TIMESTAMP, 10**15, "lies outside the years 1 to 9999"),
    ],
)
def test_what_a_column_cannot_hold(kind: DataType, value: Any, message: str) -> None:
    with pytest.raises(UnfitError) as caught:
        physical(kind)(value)
    assert message in str(caught.value)


# ---- rows and keys


class Plain(Totals):
    """Totals by shop as a plain loop would make them."""

    def on_event(self, event: Event, state: Any) -> dict[str, int]:
        state.value += event["number"] or 0
        return {"total": state.value}


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-5, 5)), max_size=30), st.integers(1, 8))
@examples(100)
def test_repeated_keys_in_a_batch(rows: list[tuple[int, int]], cut: int) -> None:
    operator, state = Plain(), WorkerState(Plain().tables)
    totals: dict[int, int] = defaultdict(int)
    wanted, found = list[int](), list[int]()
    for shop, number in rows:
        totals[shop] += number
        wanted.append(totals[shop])
    for start in range(0, len(rows), cut):
        shops, values = zip(*rows[start : start + cut], strict=True)
        found += run(operator, numbers(list(shops), list(values)), state)["total"]
        state.publish()
    assert found == wanted


def test_a_row_without_a_key_has_no_state() -> None:
    operator = Plain()
    state = WorkerState(operator.tables)
    assert run(operator, numbers([None, 1, None, 1], [5, 6, 7, 8]), state) == {"total": [5, 6, 7, 14]}
    assert state.table("operator.total").keys_of(0).keys() == {"1"}


def test_the_event_has_its_time() -> None:
    class Times(EventOperator):
        inputs = ("number",)
        outputs = (OutputField("time", TIMESTAMP),)

        def on_event(self, event: Event, state: None) -> tuple[int]:
            return (event.time,)

    assert run(Times(), numbers([1, 1], [1, 1], [3, 5])) == {"time": [3, 5]}


def test_state_is_what_was_stored_not_what_is_kept() -> None:
    class Bag(msgspec.Struct):
        seen: list[int] = []

    class Hoarder(EventOperator):
        """Keeps the state and changes it later; puts a tuple where a list belongs."""

        inputs = ("shop", "number")
        outputs = (OutputField("seen", INT64),)
        key, state = "shop", Bag
        old: Bag | None = None

        def on_event(self, event: Event, state: Bag) -> tuple[int]:
            assert type(state.seen) is list
            state.seen = (*state.seen, event["number"])  # type: ignore[assignment]
            if self.old is not None:
                self.old.seen = []
            self.old = state
            return (len(state.seen),)

    assert run(Hoarder(), numbers([1, 1, 2, 1], [1, 1, 1, 1])) == {"seen": [1, 2, 1, 3]}


def test_state_bytes_do_not_depend_on_the_order_of_a_set() -> None:
    words = [f"w{n}" for n in range(30)]
    digests = []
    for seed in (1, 2):
        random.Random(seed).shuffle(words)
        operator = Habits()
        state = WorkerState(operator.tables)
        cards = column("string", ["c"] * 30)
        amounts = column("decimal(2)", [100] * 30)
        run(operator, one_task([0] * 30, card_id=cards, country=column("string", words), amount=amounts), state)
        digests.append(bytes(state.table("operator.new_country").blobs[0]))
    assert digests[0] == digests[1]


# ---- ttl


class Daily(Plain):
    ttl = timedelta(days=1)


@pytest.mark.parametrize(
    ("times", "totals"),
    [
        ([0, DAY - 1], [1, 2]),
        ([0, DAY], [1, 1]),
        ([0, DAY - 1, 2 * DAY - 2, 3 * DAY - 3], [1, 2, 3, 4]),
        ([DAY, 0, 2 * DAY - 1], [1, 2, 3]),  # a late row does not make the key older
        ([0, 5 * DAY, DAY], [1, 1, 2]),  # what expired stays gone
        ([-5 * DAY, -5 * DAY + 1, -DAY], [1, 2, 1]),
    ],
)
@pytest.mark.parametrize("cut", [1, 9])
def test_ttl(times: list[int], totals: list[int], cut: int) -> None:
    operator = Daily()
    state, found = WorkerState(operator.tables), []
    for start in range(0, len(times), cut):
        part = times[start : start + cut]
        found += run(operator, numbers([1] * len(part), [1] * len(part), part), state)["total"]
        state.publish()
    assert found == totals


# ---- failures


def test_a_failing_row_leaves_its_key_as_it_was() -> None:
    operator = Totals()
    state = WorkerState(operator.tables)
    batch = numbers([1, 2, 1, 2, 1], [1, 10, 3, 20, 5])
    with pytest.raises(RecordError) as caught:
        operator.process(batch, state)
    assert (caught.value.reason, caught.value.rows) == ("operator_failed", (2,))
    assert caught.value.detail.startswith("Totals: ValueError in event_operators.py:")
    assert "4111" not in str(caught.value)
    state.undo()
    assert run(operator, numbers([1, 2, 2, 1], [1, 10, 20, 5]), state) == {"total": [1, 10, 30, 6]}


def test_the_first_failing_row_of_each_task_is_named() -> None:
    operator = Totals()
    batch = numbers([1] * 6, [1, 3, 3, 2, 3, 3])
    batch = msgspec.structs.replace(batch, tasks=(TaskRows(0, 0, 3), TaskRows(4, 3, 6)))
    with pytest.raises(RecordError) as caught:
        operator.process(batch, WorkerState(operator.tables))
    assert caught.value.rows == (1, 4)


def test_rows_of_another_reason_wait_for_the_next_run() -> None:
    amounts = column("decimal(2)", [100, 100, 100])
    batch = one_task([0] * 3, amount=amounts, number=column("int64", [-1, 0, -1]))
    batch = msgspec.structs.replace(batch, tasks=(TaskRows(0, 0, 1), TaskRows(1, 1, 2), TaskRows(2, 2, 3)))
    with pytest.raises(RecordError) as caught:
        Ratio().process(batch, WorkerState(()))
    error = caught.value
    assert (error.reason, error.detail, error.rows) == ("negative", "a divisor below 0", (0, 2))


def test_a_failing_batch_adds_no_column() -> None:
    batch = numbers([1], [3])
    with pytest.raises(RecordError):
        Totals().process(batch, WorkerState(Totals().tables))
    assert set(batch.columns) == {"shop", "number"}


class Odd(EventOperator):
    inputs = ("number",)
    outputs = (OutputField("a", INT64, nullable=False), OutputField("b", decimal(2)))

    def __init__(self, result: Any) -> None:
        self.result = result

    def on_event(self, event: Event, state: None) -> Any:
        return self.result


@pytest.mark.parametrize(
    ("result", "detail"),
    [
        (None, "Odd: on_event must return a mapping or a tuple, not NoneType"),
        ([1, 2], "Odd: on_event must return a mapping or a tuple, not list"),
        ((1,), "Odd: 1 results for 2 outputs"),
        ({"a": 1, "c": 2}, "Odd: c is not among the outputs (a, b)"),
        ({"b": 2}, "Odd: output a is NULL (or not finite) but declared never to be"),
        ({"a": "x"}, "Odd: output a must be an int (int64), not str"),
        ((1, 2.5), "Odd: output b must be a Decimal (decimal(2)), not float"),
    ],
)
def test_results_that_do_not_fit(result: Any, detail: str) -> None:
    with pytest.raises(RecordError) as caught:
        run(Odd(result), numbers([1], [1]))
    assert (caught.value.reason, caught.value.detail, caught.value.rows) == ("operator_failed", detail, (0,))


def test_a_missing_nullable_output_is_null() -> None:
    assert run(Odd({"a": 1}), numbers([1], [1])) == {"a": [1], "b": [None]}


class Colour(Enum):
    RED = "red"


class Mixed(msgspec.Struct):
    number: int = 0
    colour: Colour = Colour.RED


@pytest.mark.parametrize(
    ("field", "value", "detail"),
    [
        ("number", "4111", "Spoil: state Mixed: Expected `int`, got `str` - at `$.number`"),
        ("number", object(), "Spoil: state Mixed: Encoding objects of type object is unsupported"),
        ("colour", "4111", "Spoil: state Mixed: a value is not allowed"),
    ],
)
def test_state_that_cannot_be_stored_loses_the_row_that_made_it(field: str, value: Any, detail: str) -> None:
    class Spoil(EventOperator):
        inputs = ("shop", "number")
        outputs = (OutputField("n", INT64),)
        key, state = "shop", Mixed

        def on_event(self, event: Event, state: Mixed) -> tuple[int]:
            if event["number"] == 3:
                setattr(state, field, value)
            return (1,)

    with pytest.raises(RecordError) as caught:
        run(Spoil(), numbers([1, 1, 1], [0, 3, 0]))
    assert (caught.value.detail, caught.value.rows) == (detail, (1,))


def test_stored_state_of_another_class_is_corrupted_state() -> None:
    class Text(msgspec.Struct):
        value: str = ""

    class Changed(Plain):
        state = Text  # type: ignore[assignment]

    state = WorkerState(Plain().tables)
    run(Plain(), numbers([1], [1]), state)
    with pytest.raises(StateCorruptedError, match="stored state does not fit Text"):
        run(Changed(), numbers([1], [1]), state)


def test_rows_that_fail_now_and_then_are_lost_alone() -> None:
    rows = sample_rows({"shop": INT64, "number": INT64}, 5, size=200)
    run_ = Run(Totals, [0, 1])
    found = run_.feed(rows, 64)
    bad = [row for row, value in enumerate(python_values(rows.columns["number"])) if value == 3]
    assert bad
    assert [row for row, result in sorted(found.items()) if isinstance(result, Refused)] == bad


# ---- declarations


class Base(EventOperator):
    inputs: tuple[str, ...] = ("shop", "number")
    outputs = (OutputField("n", INT64),)

    def on_event(self, event: Event, state: Any) -> tuple[int]:
        return (1,)


class Needs(msgspec.Struct):
    value: int


class Unstorable(msgspec.Struct):
    value: Any = object()


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"inputs": "shop"}, "Made: inputs must be a tuple of names"),
        ({"inputs": ("shop", "shop")}, "Made: shop is named twice among inputs and outputs"),
        ({"outputs": ()}, "Made: outputs must be a tuple of one or more OutputField"),
        ({"outputs": OutputField("n", INT64)}, "Made: outputs must be a tuple of one or more OutputField"),
        ({"outputs": (OutputField("shop", INT64),)}, "Made: shop is named twice"),
        ({"key": "shop"}, "Made declares only key"),
        ({"state": Mixed}, "Made declares only state"),
        ({"ttl": timedelta(days=1)}, "Made declares only ttl"),
        ({"key": "card", "state": Mixed}, "Made: the key card is not one of its inputs"),
        ({"key": "shop", "state": dict}, "Made: state must be a class derived from msgspec.Struct"),
        ({"key": "shop", "state": Needs}, "Made: state Needs: Missing required argument 'value'"),
        ({"key": "shop", "state": Unstorable}, "Made: state Unstorable: Encoding objects of type object"),
        ({"key": "shop", "state": Mixed, "ttl": 5}, "Made: ttl must be a positive timedelta"),
        ({"key": "shop", "state": Mixed, "ttl": timedelta(0)}, "Made: ttl must be a positive timedelta"),
    ],
)
def test_declarations_that_do_not_fit(attributes: dict[str, Any], message: str) -> None:
    made = type("Made", (Base,), attributes)
    with pytest.raises(ConfigError) as caught:
        made().tables  # noqa: B018 - as the language does
    assert str(caught.value).startswith(message)


def test_on_event_must_be_synchronous() -> None:
    class Waits(Base):
        async def on_event(self, event: Event, state: Any) -> tuple[int]:  # type: ignore[override]
            return (1,)

    with pytest.raises(ConfigError, match="on_event must be a plain function"):
        Waits().tables  # noqa: B018


def test_columns_of_another_type_are_refused() -> None:
    class Typed(Base):
        inputs = (InputField("number", decimal(2)),)

    with pytest.raises(ConfigError, match=r"Typed reads number as decimal\(2\), but it is int64"):
        run(Typed(), numbers([1], [1]))

    class ByFlag(Base):
        key, state, inputs = "flag", Mixed, ("flag",)

    with pytest.raises(ConfigError, match="the key flag is bool, not string or int64"):
        run(ByFlag(), one_task([0], flag=column("bool", [True])))
