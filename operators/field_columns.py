"""Columns of all declared fields of a stream: those of one kind at once, as long as nothing is wrong with any."""

from __future__ import annotations

__all__ = ["FieldColumns", "Reader"]

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from operators.batch import Column
from operators.schema import DataType, FieldSpec, Kind, StreamSchema
from operators.values import Digits, Faults, Values, build_column, float_columns, text_columns

Reader = Callable[[int], Digits]
"""What reads the digits of a field, by its place: see `build_column`."""


class _Alike:
    """The fields of one kind; `places`: where they stand among all."""

    def __init__(self, schema: StreamSchema, kind: Kind) -> None:
        self.places = [place for place, spec in enumerate(schema.fields) if spec.type.kind is kind]
        self._types = [schema.fields[place].type for place in self.places]

    def of(self, fields: Sequence[Values]) -> tuple[Sequence[DataType], list[Values]]:
        """Their types, and the values of each."""
        return self._types, [fields[place] for place in self.places]


class FieldColumns:
    """Makes the columns of a stream. `must`: why a record that lacks a value is rejected, by field."""

    def __init__(self, schema: StreamSchema, must: Mapping[str, str]) -> None:
        self._names = [spec.name for spec in schema.fields]
        self._texts, self._floats = _Alike(schema, Kind.STRING), _Alike(schema, Kind.FLOAT64)
        self._apart = [
            (place, spec, must.get(spec.name))
            for place, spec in enumerate(schema.fields)
            if spec.type.kind is not Kind.STRING or spec.name in must
        ]
        naming = (schema.id, schema.key)
        self._naming = {name for name in naming if schema.field(name).type.kind is Kind.STRING}

    def build(self, fields: Sequence[Values], reader: Reader) -> tuple[dict[str, Column], Faults]:
        """Columns by name, and what is wrong with rows, in the order of fields. `fields`: each one's values."""
        faults = Faults()
        found: list[Column | None] = [None] * len(fields)
        for place, text in zip(self._texts.places, text_columns(*self._texts.of(fields)), strict=True):
            found[place] = text
        for place, floats in zip(self._floats.places, float_columns(*self._floats.of(fields)), strict=True):
            found[place] = floats
        for place, spec, reason in self._apart:
            column = found[place]
            if column is None:
                column = build_column(spec, fields[place], faults, reader(place))
            if reason is not None and (column.valid is not None or spec.name in self._naming):
                self._check_present(spec, column, reason, faults)
                column = Column(spec.type, column.values)
            found[place] = column
        return dict(zip(self._names, cast("list[Column]", found), strict=True)), faults

    def _check_present(self, spec: FieldSpec, column: Column, reason: str, faults: Faults) -> None:
        """Reject NULL where a value must be; an empty id or key names nothing, so it is missing too."""
        if column.valid is not None:
            faults.mark(~column.valid, reason, f"{spec.name}: expected {spec.type}, got nothing")
        if spec.name in self._naming and not all(column.values.tolist()):
            faults.mark(column.values == "", reason, f"{spec.name}: expected {spec.type}, got nothing")
