"""The operator of one timed spec: rows move windows and the watermark, timers fire between rows.

    row -> its key's state (given the watermark before it) -> stream time = max(stream time, its event time)
        -> watermark = stream time - disorder -> all that is due by then, by (time, key) -> the next row

So what is said, and after which row, depends on row order only: never on where batches were cut. A clock tick moves
stream time as a row would, and is no row. Stream time is the task's (`StreamTimes` of the table, whose ttl also takes
away the keys whose windows are all closed).
"""

from __future__ import annotations

__all__ = ["TimedOperator", "WaitingOperator"]

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from operators.batch import Batch, Emitted, TaskRows
from operators.operator import Operator, OperatorContext, OutputField
from operators.timed.absences import AbsencesLogic
from operators.timed.logic import KeyLogic, Said, TimedRow
from operators.timed.panes import PanesLogic
from operators.timed.sessions import SessionsLogic
from operators.timed.spec import AbsenceSpec, TimedSpec, WindowKind, check
from state.due import DUE, WAITS
from state.errors import RecordError, StateCorruptedError
from state.expiry import NEVER
from state.table import KeyedTable, TableSpec

_PREFETCHED = 4096


class WaitingOperator(Operator):
    """An operator of which something may become due without a row of its key; it goes to `Batch.emitted`."""

    @abstractmethod
    def waits(self, context: OperatorContext, task: int) -> tuple[int, int] | None:
        """(stream time of the task, the stream time at which something may be due next), ms; None: nothing waits."""


class TimedOperator(WaitingOperator):
    """Computes one `TimedSpec`; it adds no columns, but results to `Batch.emitted`.

    Raises:
        ConfigError: the spec cannot be computed.
    """

    def __init__(self, spec: TimedSpec) -> None:
        check(spec.rule)
        self.spec = spec
        self.logic: KeyLogic
        if isinstance(spec.rule, AbsenceSpec):
            self.logic = AbsencesLogic(spec.rule)
        elif spec.rule.kind is WindowKind.SESSION:
            self.logic = SessionsLogic(spec.rule)
        else:
            self.logic = PanesLogic(spec.rule)
        self._table = TableSpec(f"timed.{spec.name}", spec.key, ("last_seen", DUE, WAITS), blob=True, ttl_ms=1)

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
        run = _Run(self, batch, context.table(self._table.name))
        for span in batch.tasks:
            run.rows(span)
        for task, time in batch.ticks:
            run.tick(task, time)
        run.keep()

    def waits(self, context: OperatorContext, task: int) -> tuple[int, int] | None:
        """See `WaitingOperator`."""
        table = context.table(self._table.name)
        due = table.due.next(task)
        now = table.stream.of(task) if table.stream else NEVER
        return None if due is None or now == NEVER else (now, due + self.spec.disorder)


class _Run:
    """One batch; states are read once and written once a key."""

    def __init__(self, operator: TimedOperator, batch: Batch, table: KeyedTable) -> None:
        self._operator, self._logic, self._batch, self._table = operator, operator.logic, batch, table
        assert table.stream is not None
        self._stream = table.stream
        self._before = {span.task: table.stream.of(span.task) for span in batch.tasks}
        self._times = table.stream.advance(batch.tasks, batch.event_time).tolist()
        self._states: dict[int, Any] = {}
        self._rows = self._readable()

    # ---- rows

    def _readable(self) -> list[tuple[int, TimedRow] | None]:
        """Of each row its key's slot and what is read of it; None where it does not count."""
        batch, rule = self._batch, self._operator.spec.rule
        keys = batch.columns[self._operator.spec.key]
        counts = np.ones(batch.size, np.bool_) if keys.valid is None else keys.valid.copy()
        if isinstance(rule, AbsenceSpec):
            after, without = self._true(rule.after), self._true(rule.without)
            counts &= after | without
            marks = list(zip(after.tolist(), without.tolist(), strict=True))
            values: list[int | None] = [None] * batch.size
        else:
            if rule.where is not None:
                counts &= self._true(rule.where)
            marks = [(False, False)] * batch.size
            values = self._values(rule.of)
        found: list[tuple[int, TimedRow] | None] = [None] * batch.size
        rows = np.flatnonzero(counts).tolist()
        if not rows:
            return found
        slots = self._table.slots(_spans(batch.tasks, rows), keys.values[rows].tolist()).tolist()
        times, ids = batch.event_time.tolist(), batch.columns[self._operator.spec.id].values
        for row, slot in zip(rows, slots, strict=True):
            found[row] = (slot, TimedRow(times[row], values[row], marks[row], str(ids[row])))
        return found

    def _true(self, name: str) -> Any:
        column = self._batch.columns[name]
        return column.values.copy() if column.valid is None else column.values & column.valid

    def _values(self, name: str | None) -> list[int | None]:
        if name is None:
            return [None] * self._batch.size
        column = self._batch.columns[name]
        values: list[int | None] = column.values.tolist()
        if column.valid is not None:
            for row in np.flatnonzero(~column.valid).tolist():
                values[row] = None
        return values

    def rows(self, span: TaskRows) -> None:
        """The rows of one task, one after the other."""
        task, disorder = span.task, self._operator.spec.disorder
        watermark = self._before[task] - disorder
        due, keys = self._table.due, self._table.keys
        for row in range(span.start, span.stop):
            if (given := self._rows[row]) is not None:
                slot, timed = given
                try:
                    said, soon = self._logic.row(self._state(slot), timed, watermark)
                except RecordError as error:
                    raise RecordError(error.reason, error.detail, (row,)) from error
                if soon is not None:
                    due.put(task, keys[slot], soon)
                if said:
                    self._say(task, keys[slot], said, row, watermark)
            watermark = self._times[row] - disorder
            first = due.next(task)
            if first is not None and first <= watermark:
                self._fire(task, watermark, row)

    def tick(self, task: int, time: int) -> None:
        """The clock of a task, whose input rests, has come to `time` (stream time, ms)."""
        end = self._batch.size
        now = self._stream.advance((TaskRows(task, 0, 1),), np.array([time], np.int64)).item()
        self._fire(task, now - self._operator.spec.disorder, end)

    # ---- timers

    def _fire(self, task: int, watermark: int, row: int) -> None:
        """All that is due by the watermark, by time and key."""
        due, mine = self._table.due, self._table.keys_of(task)
        while (first := due.next(task)) is not None and first <= watermark:
            at, key = due.take(task)
            if key not in mine:
                ready = due.ready(task, watermark, _PREFETCHED)
                self._table.admit(task, [key, *(one for one in ready if one not in mine and one != key)])
                mine = self._table.keys_of(task)
            state = self._state(mine[key])
            if said := self._logic.fire(state, at):
                self._say(task, key, said, row, watermark)
            following = self._logic.due(state, at)
            if following is not None:
                due.put(task, key, following)

    def _say(self, task: int, key: str, said: Sequence[Said], row: int, watermark: int) -> None:
        name = self._operator.spec.name
        self._batch.emitted += [Emitted(task, name, key, row, watermark, one) for one in said]

    # ---- state

    def _state(self, slot: int) -> Any:
        state = self._states.get(slot)
        if state is None:
            stored = self._table.blobs[slot]
            try:
                state = self._logic.load(stored) if stored else self._logic.new()
            except msgspec.MsgspecError as error:
                raise StateCorruptedError(f"table {self._table.spec.name}: a key's state cannot be read") from error
            self._states[slot] = state
        return state

    def keep(self) -> None:
        """Write what was looked at; undone with the batch."""
        if not self._states:
            return
        table, logic, disorder = self._table, self._logic, self._operator.spec.disorder
        slots = np.fromiter(self._states, np.int64, len(self._states))
        table.touch(slots)
        header = []
        for task, (slot, state) in zip(table.task_of[slots].tolist(), self._states.items(), strict=True):
            stored = logic.store(state)
            table.set_blob(slot, stored)
            following = logic.due(state, self._stream.of(task) - disorder) if stored else None
            last_seen = logic.closes(state) + disorder - 1 if stored else 0
            header.append((last_seen, following or 0, following is not None))
        table.rows[slots] = header


def _spans(tasks: Sequence[TaskRows], rows: list[int]) -> tuple[TaskRows, ...]:
    """The tasks' spans when only `rows` of the batch are left."""
    bounds = np.searchsorted(rows, [[span.start, span.stop] for span in tasks]).tolist()
    return tuple(TaskRows(span.task, start, stop) for span, (start, stop) in zip(tasks, bounds, strict=True))
