"""Checks of what an operator declares, and that it reads and writes just that."""

from __future__ import annotations

__all__ = ["check_declaration", "check_no_nulls_read", "check_only_declared", "input_types"]

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from operators.batch import Batch, Column
from operators.check_rows import SampleRows
from operators.check_run import Result, Run
from operators.operator import InputField, Operator, OperatorContext, OutputField
from operators.schema import MINOR_LIMIT, DataType, Kind
from state.errors import ConfigError
from state.expiry import LAST_SEEN

_OTHER = "a column of somebody else"


def input_types(operator: Operator, types: Mapping[str, DataType]) -> dict[str, DataType]:
    """The type of each input: the operator's own word, else `types`.

    Raises:
        ConfigError: nobody says it.
    """
    found = {}
    for name in operator.inputs:
        known = name.type if isinstance(name, InputField) else types.get(name)
        if known is None:
            hint = f'say InputField("{name}", STRING) in inputs, or give it to the check'
            raise ConfigError(f"the type of the input {name} is not known", hint=hint)
        found[str(name)] = known
    return found


def check_declaration(operator: Operator) -> None:
    """Inputs, outputs and tables fit together.

    Raises:
        ConfigError: they do not.
    """
    inputs, outputs, tables = operator.inputs, operator.outputs, operator.tables
    for what, names in (
        ("inputs", list(inputs)),
        ("outputs", [field.name for field in outputs]),
        ("tables", [table.name for table in tables]),
    ):
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(f"{', '.join(twice)} is named twice in its {what}")
    if not outputs:
        raise ConfigError("it adds no column: outputs is empty")
    if both := sorted({*inputs} & {field.name for field in outputs}):
        raise ConfigError(f"{', '.join(both)} is an input and an output: an operator adds columns")
    for table in tables:
        if table.key not in inputs:
            raise ConfigError(f"the key {table.key} of the table {table.name} is not among its inputs")
        if table.ttl_ms and not {*LAST_SEEN} & {*table.fields}:
            raise ConfigError(f"the table {table.name} has a ttl and no field last_seen")


class _Watched(dict[str, Column]):
    """Columns that remember who looks at what."""

    def __init__(self, columns: Mapping[str, Column]) -> None:
        super().__init__(columns)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Column:
        self.read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.read.update({name} & self.keys())
        return super().get(name, default)

    def items(self) -> Any:
        self.read.update(self)
        return super().items()

    def values(self) -> Any:
        self.read.update(self)
        return super().values()

    def plain(self) -> Iterator[tuple[str, Column]]:
        """All columns, unseen."""
        return iter(super().items())


def check_only_declared(operator: Operator, context: OperatorContext, rows: SampleRows) -> str | None:
    """On one batch of all rows, and on an empty one."""
    for picked in (range(rows.size), range(0)):
        batch, _ = rows.batch(picked)
        if wrong := _one_batch(operator, context, batch):
            return wrong
    return None


def _one_batch(operator: Operator, context: OperatorContext, batch: Batch) -> str | None:
    given = {**batch.columns, _OTHER: Column(DataType(Kind.INT64), np.zeros(batch.size, np.int64))}
    _freeze(batch, given)
    watched = _Watched(given)
    seen = Batch(batch.size, batch.tasks, batch.event_time, list(batch.keys), watched)
    try:
        operator.process(seen, context)
    except KeyError as error:
        name = error.args[0] if error.args else ""
        if name not in watched.read:
            raise
        return f"it reads the column {name!r}, which is not among its inputs"
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        return f"it changes what it was given ({error})"
    outputs = {field.name: field for field in operator.outputs}
    if strange := sorted(watched.read - {*operator.inputs} - outputs.keys()):
        return f"it reads {strange[0]!r}, which is not among its inputs"
    after = dict(watched.plain())
    if more := sorted(after.keys() - given.keys() - outputs.keys()):
        return f"it adds the column {more[0]!r}, which is not among its outputs"
    if changed := sorted(name for name in given if after.get(name) is not given[name]):
        return f"it replaces the column {changed[0]!r}"
    if (seen.size, seen.tasks, seen.keys) != (batch.size, batch.tasks, batch.keys):
        return "it changes the batch's rows, tasks or keys"
    for name, field in outputs.items():
        if name not in after:
            return f"it does not add its output {name!r}" + ("" if batch.size else " to a batch without rows")
        if wrong := _misfit(field, after[name], batch.size):
            return f"output {name} {wrong}"
    return None


def _freeze(batch: Batch, columns: Mapping[str, Column]) -> None:
    batch.event_time.flags.writeable = False
    for column in columns.values():
        column.values.flags.writeable = False
        if column.valid is not None:
            column.valid.flags.writeable = False


def _misfit(field: OutputField, column: Column, size: int) -> str | None:
    """What is wrong with an output column."""
    of_type, values, valid = column
    if of_type != field.type:
        return f"is {of_type}, declared as {field.type}"
    if values.dtype != np.dtype(field.type.dtype) or values.shape != (size,):
        return f"has {values.dtype}{list(values.shape)}, not {np.dtype(field.type.dtype)}[{size}]"
    if valid is not None and (valid.dtype != np.bool_ or valid.shape != (size,)):
        return f"has a mask {valid.dtype}{list(valid.shape)}, not bool[{size}]"
    if not field.nullable and valid is not None and not valid.all():
        return "is NULL but declared never to be"
    match of_type.kind:
        case Kind.STRING if not all(isinstance(value, str) for value in values.tolist()):
            return 'holds what is no str (under a NULL: "")'
        case Kind.FLOAT64 if not np.isfinite(values).all():
            return "holds NaN or infinity: make it NULL, with a finite value under it"
        case Kind.DECIMAL if (np.abs(values if valid is None else values[valid]) >= MINOR_LIMIT).any():
            return f"is too large for {of_type}"
        case _:
            return None


def check_no_nulls_read(
    rows: SampleRows,
    run: Callable[[SampleRows], Run],
    differs: Callable[[Mapping[int, Result], Mapping[int, Result]], str | None],
) -> str | None:
    """Other values under the NULLs change nothing."""
    wanted = run(rows).feed(rows)
    for name, column in rows.columns.items():
        if column.valid is None or column.valid.all():
            continue
        values = column.values.copy()
        values[~column.valid] = _other(column)
        changed = rows._replace(columns=rows.columns | {name: column._replace(values=values)})
        if wrong := differs(run(changed).feed(changed), wanted):
            return f"it reads the value under a NULL of {name}: {wrong}"
    return None


def _other(column: Column) -> Any:
    return {Kind.STRING: "?", Kind.BOOL: True, Kind.FLOAT64: 7.5}.get(column.type.kind, 7)
