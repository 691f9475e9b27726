"""Functions OVER the rows before: the rows of a statement, told in order of time with what they see."""

from __future__ import annotations

__all__ = ["OverOperator", "OverSpec"]

from typing import Any

import msgspec

from operators.batch import Batch, Column
from operators.operator import OperatorContext, OutputField
from operators.statements.frames import FramesLogic, OverFunction, OverRow
from operators.statements.inputs import Reader, columns_of, key_texts
from operators.statements.spec import Input, Step
from operators.timed.run import Timers, TimersRun, WaitingOperator, spans_of, timers_table, waits_of
from state.table import KeyedTable, TableSpec


class OverSpec(msgspec.Struct, frozen=True):
    """What OVER of a statement sees and tells.

    Args:
        name: unique in the plan.
        source: the rows of a batch, through `steps`.
        keys: columns of PARTITION BY.
        columns: those that are told.
        arguments: those that functions are of.
        functions: what is told behind the columns.
        kept: see `FramesLogic`.
        disorder: ms by which the watermark lies behind.
    """

    name: str
    source: Input
    steps: tuple[Step, ...]
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    arguments: tuple[str, ...]
    functions: tuple[OverFunction, ...]
    kept: int
    disorder: int


class OverOperator(WaitingOperator):
    """Adds no columns, but rows to `Batch.emitted`."""

    def __init__(self, spec: OverSpec) -> None:
        self.spec, self.name = spec, spec.name
        self._reader = Reader(spec.source, spec.steps)
        self._timers = Timers(FramesLogic(spec.functions, spec.kept), spec.name, spec.disorder)
        self._table = timers_table(spec.name, f"{spec.name}.key")

    @property
    def inputs(self) -> tuple[str, ...]:
        return columns_of(self.spec.source)

    @property
    def outputs(self) -> tuple[OutputField, ...]:
        return ()

    @property
    def tables(self) -> tuple[TableSpec, ...]:
        return (self._table,)

    def process(self, batch: Batch, context: OperatorContext) -> None:
        table = context.table(self._table.name)
        run = TimersRun(self._timers, batch, table)
        run.process(self._rows(batch, table))

    def waits(self, context: OperatorContext, task: int) -> tuple[int, int] | None:
        """See `WaitingOperator`."""
        return waits_of(context.table(self._table.name), task, self.spec.disorder)

    def _rows(self, batch: Batch, table: KeyedTable) -> list[tuple[int, OverRow] | None]:
        found: list[tuple[int, OverRow] | None] = [None] * batch.size
        relation = self._reader.run(batch)
        places = relation.places.tolist()
        if not places:
            return found
        texts = key_texts([relation.columns[key] for key in self.spec.keys], len(places))
        slots = table.slots(spans_of(batch.tasks, places), texts).tolist()
        times = batch.event_time.tolist()
        values = _listed([relation.columns[key] for key in self.spec.columns], len(places))
        arguments = _listed([relation.columns[key] for key in self.spec.arguments], len(places))
        for place, slot, told, of in zip(places, slots, values, arguments, strict=True):
            found[place] = (slot, OverRow(times[place], told, of))
        return found


def _listed(columns: list[Column], size: int) -> list[list[Any]]:
    """A list of values a row, None for NULL."""
    if not columns:
        return [[] for _ in range(size)]
    lists = []
    for column in columns:
        values: list[Any] = column.values.tolist()
        if column.valid is not None:
            values = [value if valid else None for value, valid in zip(values, column.valid.tolist(), strict=True)]
        lists.append(values)
    return [list(row) for row in zip(*lists, strict=True)]
