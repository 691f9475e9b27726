"""What the operator and whole tables share: a spec's matcher, and columns to what it reads and back."""

from __future__ import annotations

__all__ = ["fitting", "matcher_of", "plain_values", "true_rows", "values_batch"]

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from operators.batch import Batch, Column
from operators.event_values import column_of
from operators.expressions.program import Program as Expressions
from operators.operator import INT64
from operators.patterns.matcher import Condition, Match, Matcher, Row
from operators.patterns.nfa import compile_pattern
from operators.patterns.slots import Slot, value_of
from operators.patterns.spec import MATCH_NUMBER, PatternSpec
from operators.patterns.tree import is_gapped
from operators.tables import LookupTable


def matcher_of(spec: PatternSpec, lookups: Mapping[str, LookupTable], *, keeps_trail: bool = False) -> Matcher:
    """The matcher of a spec.

    Raises:
        ConfigError: the pattern is too large.
    """
    program = compile_pattern(spec.pattern)
    reads = {name for compiled in spec.conditions.values() for name in compiled.inputs}
    number = {name: i for i, name in enumerate(program.variables)}
    return Matcher(
        program,
        spec.slots,
        {number[name]: _condition(spec, name, lookups) for name in spec.conditions},
        asked=[i for i, slot in enumerate(spec.slots) if slot.name in reads],
        skip=spec.skip,
        within=spec.within,
        runs_max=spec.runs_max,
        ordered=not is_gapped(spec.pattern),
        keeps_trail=keeps_trail,
    )


def fitting(spec: PatternSpec, variables: Sequence[str], batch: Batch) -> npt.NDArray[np.int64]:
    """Bit i of each row: whether it may be of variable i, as far as the row alone says."""
    found = np.zeros(batch.size, np.int64)
    for i, variable in enumerate(variables):
        column = spec.fits.get(variable)
        if column is None:
            found |= 1 << i
        else:
            found |= true_rows(batch.columns[column]).astype(np.int64) << i
    return found


def values_batch(slots: Sequence[Slot], matches: Sequence[Match], times: npt.NDArray[np.int64]) -> Batch:
    """A batch of matches: a row each, the slots' values as columns."""
    columns = {
        slot.name: column_of(slot.of, [value_of(slot, match.values[i]) for match in matches])
        for i, slot in enumerate(slots)
    }
    columns[MATCH_NUMBER] = column_of(INT64, [match.number for match in matches])
    return Batch(len(matches), (), times, [], columns)


def _condition(spec: PatternSpec, variable: str, lookups: Mapping[str, LookupTable]) -> Condition:
    compiled = spec.conditions[variable]
    program = Expressions([(variable, compiled)], lookups)
    slots = [(i, slot) for i, slot in enumerate(spec.slots) if slot.name in compiled.inputs]
    columns = [(i, name) for i, name in enumerate(spec.columns) if name in compiled.inputs]

    def holds(values: list[Any], row: Row) -> bool:
        known = {slot.name: column_of(slot.of, [value_of(slot, values[i])]) for i, slot in slots}
        for i, name in columns:
            known[name] = column_of(spec.types[i], [row.values[i]])
        batch = Batch(1, (), np.array([row.time], np.int64), [], known)
        said = program.run(batch)[variable]
        return bool(said.values[0]) and (said.valid is None or bool(said.valid[0]))

    return holds


def true_rows(column: Column) -> npt.NDArray[np.bool_]:
    """Where a condition holds: NULL is not true."""
    values: npt.NDArray[np.bool_] = column.values if column.valid is None else column.values & column.valid
    return values


def plain_values(column: Column, rows: list[int]) -> list[Any]:
    """Physical values at `rows`; None is NULL."""
    values: list[Any] = column.values[rows].tolist()
    if column.valid is None:
        return values
    return [value if known else None for value, known in zip(values, column.valid[rows].tolist(), strict=True)]
