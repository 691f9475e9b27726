"""The operator of one timed spec: see `run.py` for how rows and timers follow each other."""

from __future__ import annotations

__all__ = ["TimedOperator"]

from typing import Any

import numpy as np

from operators.batch import Batch
from operators.operator import OperatorContext, OutputField
from operators.timed.absences import AbsencesLogic
from operators.timed.logic import TimedRow, WindowLogic
from operators.timed.panes import PanesLogic
from operators.timed.run import Timers, TimersRun, WaitingOperator, spans_of, timers_table, waits_of
from operators.timed.sessions import SessionsLogic
from operators.timed.spec import AbsenceSpec, TimedSpec, WindowKind, check
from state.expiry import NEVER
from state.table import KeyedTable, TableSpec


class TimedOperator(WaitingOperator):
    """Computes one `TimedSpec`; it adds no columns, but results to `Batch.emitted`.

    Raises:
        ConfigError: the spec cannot be computed.
    """

    def __init__(self, spec: TimedSpec) -> None:
        check(spec.rule)
        self.spec = spec
        self.logic: WindowLogic
        if isinstance(spec.rule, AbsenceSpec):
            self.logic = AbsencesLogic(spec.rule)
        elif spec.rule.kind is WindowKind.SESSION:
            self.logic = SessionsLogic(spec.rule)
        else:
            self.logic = PanesLogic(spec.rule)
        self._table = timers_table(spec.name, spec.key)

    @property
    def inputs(self) -> tuple[str, ...]:
        spec, rule = self.spec, self.spec.rule
        named = (rule.after, rule.without) if isinstance(rule, AbsenceSpec) else (rule.of, rule.where)
        return tuple(dict.fromkeys(name for name in (spec.key, *named, spec.id) if name))

    @property
    def outputs(self) -> tuple[OutputField, ...]:
        return ()

    @property
    def tables(self) -> tuple[TableSpec, ...]:
        return (self._table,)

    def process(self, batch: Batch, context: OperatorContext) -> None:
        table = context.table(self._table.name)
        run = TimersRun(Timers(self.logic, self.spec.name, self.spec.disorder), batch, table)
        run.process(self._readable(batch, table))

    def waits(self, context: OperatorContext, task: int) -> tuple[int, int] | None:
        """See `WaitingOperator`."""
        return waits_of(context.table(self._table.name), task, self.spec.disorder)

    def open_windows(self, context: OperatorContext, task: int) -> int:
        """How many windows, or waits, of the keys in memory have begun and are not told yet."""
        table = context.table(self._table.name)
        if table.stream is None or table.stream.of(task) == NEVER:
            return 0
        watermark = table.stream.of(task) - self.spec.disorder
        stored = [found for slot in table.keys_of(task).values() if (found := table.blobs[slot])]
        return sum(self.logic.open_windows(self.logic.load(one), watermark) for one in stored)

    def _readable(self, batch: Batch, table: KeyedTable) -> list[tuple[int, TimedRow] | None]:
        """Of each row its key's slot and what is read of it; None where it does not count."""
        rule = self.spec.rule
        keys = batch.columns[self.spec.key]
        counts = np.ones(batch.size, np.bool_) if keys.valid is None else keys.valid.copy()
        if isinstance(rule, AbsenceSpec):
            after, without = _true(batch, rule.after), _true(batch, rule.without)
            counts &= after | without
            marks = list(zip(after.tolist(), without.tolist(), strict=True))
            values: list[Any] = [None] * batch.size
        else:
            if rule.where is not None:
                counts &= _true(batch, rule.where)
            marks = [(False, False)] * batch.size
            values = _values(batch, rule.of)
        found: list[tuple[int, TimedRow] | None] = [None] * batch.size
        rows = np.flatnonzero(counts).tolist()
        if not rows:
            return found
        slots = table.slots(spans_of(batch.tasks, rows), keys.values[rows].tolist()).tolist()
        times, ids = batch.event_time.tolist(), batch.columns[self.spec.id].values
        for row, slot in zip(rows, slots, strict=True):
            found[row] = (slot, TimedRow(times[row], values[row], marks[row], str(ids[row])))
        return found


def _true(batch: Batch, name: str) -> Any:
    column = batch.columns[name]
    return column.values.copy() if column.valid is None else column.values & column.valid


def _values(batch: Batch, name: str | None) -> list[Any]:
    if name is None:
        return [None] * batch.size
    column = batch.columns[name]
    values: list[Any] = column.values.tolist()
    if column.valid is not None:
        for row in np.flatnonzero(~column.valid).tolist():
            values[row] = None
    return values
