"""Columns that are made at once are those that are made one by one, and so is what is said of bad rows."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from operators.batch import Column
from operators.field_columns import FieldColumns
from operators.schema import FieldSpec, Kind, StreamSchema
from operators.values import Digits, Faults, build_column
from tests.operators.samples import examples, type_of

KINDS = {
    "id": "string", "x": "float64", "text": "string", "money": "decimal(2)", "y": "float64", "at": "timestamp",
    "card": "string", "word": "string", "n": "int64", "whole": "decimal(0)", "yes": "bool",
}  # fmt: skip
SCHEMA = StreamSchema(
    "payments", "payments", tuple(FieldSpec(name, type_of(kind), name) for name, kind in KINDS.items()), "id", "at",
    "card",
)  # fmt: skip
MUST = {"id": "missing_id", "at": "missing_time", "card": "missing_key", "y": "missing_field", "word": "missing_field"}
MINOR = st.integers(-(10**18), 10**18)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "string": st.sampled_from(["", "a", "bc"]),
    "float64": st.floats(allow_nan=False),
    "decimal(2)": MINOR.map(lambda minor: minor / 100) | st.floats(-9, 9) | st.sampled_from(["1.25", "1.255", "x"]),
    "decimal(0)": MINOR.map(float),
    "timestamp": st.integers(-(1 << 62), 1 << 62) | st.sampled_from(["2026-01-01T00:00:00Z", "soon"]),
    "int64": st.integers(-(1 << 65), 1 << 65),
    "bool": st.booleans(),
}
ROW = st.tuples(*(VALUES[kind] | (st.none() if name not in MUST else st.nothing()) for name, kind in KINDS.items()))


def one_by_one(fields: list[tuple[Any, ...]], reader: Any) -> tuple[dict[str, Column], Faults]:
    """As `FieldColumns.build`, field after field."""
    faults, found = Faults(), {}
    for place, spec in enumerate(SCHEMA.fields):
        column = build_column(spec, fields[place], faults, reader(place))
        if spec.name in MUST and column.valid is not None:
            faults.mark(~column.valid, MUST[spec.name], f"{spec.name}: expected {spec.type}, got nothing")
        if spec.name in (SCHEMA.id, SCHEMA.key):
            empty = np.array([value == "" for value in column.values.tolist()], np.bool_)
            faults.mark(empty, MUST[spec.name], f"{spec.name}: expected {spec.type}, got nothing")
        found[spec.name] = Column(spec.type, column.values) if spec.name in MUST else column
    return found, faults


def plain(column: Column) -> tuple[Any, ...]:
    of_type, values, valid = column
    listed = values.tolist() if of_type.kind is not Kind.FLOAT64 else list(map(repr, values.tolist()))
    return of_type, values.dtype, values.flags.c_contiguous, listed, None if valid is None else valid.tolist()


@examples(300)
@given(st.lists(ROW, max_size=6))
def test_they_are_those_that_are_made_one_by_one(rows: list[tuple[Any, ...]]) -> None:
    fields: list[tuple[Any, ...]] = list(zip(*rows, strict=True)) if rows else [()] * len(KINDS)

    def reader(place: int) -> Digits:
        return lambda row: Decimal(repr(rows[row][place]))

    columns, faults = FieldColumns(SCHEMA, MUST).build(fields, reader)
    expected, known = one_by_one(fields, reader)
    assert list(columns) == list(expected)
    assert {name: plain(column) for name, column in columns.items()} == {
        name: plain(column) for name, column in expected.items()
    }
    assert list(faults.rows.items()) == list(known.rows.items())


@examples(200)
@given(st.lists(st.none() | VALUES["string"], max_size=6))
def test_texts_are_what_was_read_and_nothing_where_there_was_null(values: list[str | None]) -> None:
    spec = FieldSpec("text", type_of("string"), "text")
    _, found, valid = build_column(spec, values, Faults(), lambda row: Decimal(row))
    assert found.tolist() == [value or "" for value in values]
    assert (None not in values) if valid is None else (valid.tolist() == [value is not None for value in values])
