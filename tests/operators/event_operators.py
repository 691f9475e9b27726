"""Event operators that several tests use."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec

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
from state.errors import RecordError


class Habit(msgspec.Struct):
    countries: set[str] = set()
    spent: Decimal = Decimal(0)
    count: int = 0
    last: int | None = None


class Habits(EventOperator):
    """All kinds of values, state with a set and a Decimal, and a ttl."""

    inputs = (InputField("card_id", STRING), InputField("country", STRING), InputField("amount", decimal(2)))
    outputs = (
        OutputField("new_country", BOOL, nullable=False),
        OutputField("spent", decimal(2)),
        OutputField("mean", FLOAT64),
        OutputField("count", INT64, nullable=False),
        OutputField("last", TIMESTAMP),
        OutputField("label", STRING),
    )
    key = "card_id"
    state = Habit
    ttl = timedelta(days=2)

    def on_event(self, event: Event, state: Habit) -> dict[str, Any]:
        country, amount = event["country"], event["amount"]
        new = country is not None and country not in state.countries
        if new:
            state.countries.add(country)
        before, state.last = state.last, event.time
        state.count += 1
        if amount is not None:
            state.spent += amount
        return {
            "new_country": new,
            "spent": state.spent,
            "mean": float(state.spent) / state.count,
            "count": state.count,
            "last": before,
            "label": None if country is None else f"{country}:{state.count}",
        }


class Ratio(EventOperator):
    """No state; configured; raises where the divisor is zero, and refuses where it is negative."""

    def __init__(self, of: str = "amount", by: str = "number") -> None:
        self.inputs = (InputField(of, decimal(2)), InputField(by, INT64))
        self.outputs = (OutputField(f"{of}_ratio", FLOAT64),)
        self.of, self.by = of, by

    def on_event(self, event: Event, state: None) -> tuple[float | None]:
        of, by = event[self.of], event[self.by]
        if of is None or by is None:
            return (None,)
        if by < 0:
            raise RecordError("negative", "a divisor below 0")
        return (float(of / by),)


class Total(msgspec.Struct):
    value: int = 0


class Totals(EventOperator):
    """Changes its state, then raises at 3."""

    inputs = (InputField("shop", INT64), InputField("number", INT64))
    outputs = (OutputField("total", INT64, nullable=False),)
    key = "shop"
    state = Total

    def on_event(self, event: Event, state: Total) -> dict[str, int]:
        state.value += event["number"] or 0
        if event["number"] == 3:
            raise ValueError("4111 1111 1111 1111")
        return {"total": state.value}
