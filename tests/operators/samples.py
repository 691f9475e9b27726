"""Schemas and columns that several tests use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings

from operators.batch import Column
from operators.operator import OutputField
from operators.plan import DecisionSpec, Plan, RuleSpec
from operators.schema import DataType, FieldSpec, Kind, StreamSchema, TopicNames

PAN_KEY = b"0123456789abcdef"
NOW = 1_600_000_000_000


def examples(count: int) -> settings:
    """So many examples, however slow the machine."""
    return settings(max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def type_of(text: str) -> DataType:
    """The type written as in a pipeline: "int64", "decimal(2)"."""
    if text.startswith("decimal"):
        return DataType(Kind.DECIMAL, int(text[8:-1]))
    return DataType(Kind(text))


def column(kind: str, values: Sequence[Any]) -> Column:
    """A column; None is NULL; decimals are given in minor units."""
    of_type = type_of(kind)
    blank: Any = {Kind.STRING: "", Kind.BOOL: False}.get(of_type.kind, 0)
    valid = np.array([value is not None for value in values], np.bool_)
    filled = np.empty(len(values), of_type.dtype)
    filled[:] = [blank if value is None else value for value in values]
    return Column(of_type, filled, None if valid.all() else valid)


def stream(fields: dict[str, str], **options: Any) -> StreamSchema:
    """A stream with `id`, `card`, `at` and other fields, type by name; `!` requires, `*` marks a card number."""
    given = {"id": "string", "card": "string", "at": "timestamp", **fields}
    specs = tuple(
        FieldSpec(name, type_of(kind.rstrip("!*")), f"s_{name}", pan="*" in kind, required="!" in kind)
        for name, kind in given.items()
    )
    return StreamSchema("payments", "payments", specs, id="id", event_time="at", key="card", **options)


def plan_of(schema: StreamSchema, features: dict[str, str], rules: Sequence[RuleSpec], decision: DecisionSpec) -> Plan:
    """A plan without steps."""
    outputs = tuple(OutputField(name, type_of(kind)) for name, kind in features.items())
    return Plan("p", schema, TopicNames("d", "l", "j"), (), outputs, tuple(rules), decision, "", "", "p")
