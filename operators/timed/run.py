"""Rows move what is kept of their keys, and the watermark; timers fire between rows.

    row -> its key's state (given the watermark before it) -> stream time = max(stream time, its event time)
        -> watermark = stream time - disorder -> all that is due by then, by (time, key) -> the next row

So what is said, and after which row, depends on row order only: never on where batches were cut. A clock tick moves
stream time as a row would, and is no row. Stream time is the task's (`StreamTimes` of the table, whose ttl also takes
away the keys whose windows are all closed).
"""

from __future__ import annotations

__all__ = ["Timers", "TimersRun", "WaitingOperator", "spans_of", "timers_table", "waits_of"]

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
import numpy as np

from operators.batch import Batch, Emitted, TaskRows
from operators.operator import Operator, OperatorContext
from operators.timed.logic import KeyLogic, Said, Timed
from state.due import DUE, WAITS
from state.errors import RecordError, StateCorruptedError
from state.expiry import NEVER
from state.table import KeyedTable, TableSpec

_PREFETCHED = 4096
R = TypeVar("R", bound=Timed)


class WaitingOperator(Operator):
    """An operator of which something may become due without a row of its key; it goes to `Batch.emitted`."""

    @abstractmethod
    def waits(self, context: OperatorContext, task: int) -> tuple[int, int] | None:
        """(stream time of the task, the stream time at which something may be due next), ms; None: nothing waits."""


class Timers(NamedTuple, Generic[R]):
    """What is computed of each key's rows, what it is called, and ms by which the watermark lies behind."""

    logic: KeyLogic[R]
    name: str
    disorder: int


def timers_table(name: str, key: str) -> TableSpec:
    """The table of a `TimersRun`."""
    return TableSpec(f"timed.{name}", key, ("last_seen", DUE, WAITS), blob=True, ttl_ms=1)


def waits_of(table: KeyedTable, task: int, disorder: int) -> tuple[int, int] | None:
    """See `WaitingOperator`."""
    due = table.due.next(task)
    now = table.stream.of(task) if table.stream else NEVER
    return None if due is None or now == NEVER else (now, due + disorder)


class TimersRun(Generic[R]):
    """One batch; states are read once and written once a key."""

    def __init__(self, timers: Timers[R], batch: Batch, table: KeyedTable) -> None:
        self._timers, self._logic, self._batch, self._table = timers, timers.logic, batch, table
        assert table.stream is not None
        self._stream = table.stream
        self._before = {span.task: table.stream.of(span.task) for span in batch.tasks}
        self._times = table.stream.advance(batch.tasks, batch.event_time).tolist()
        self._states: dict[int, Any] = {}

    # ---- rows

    def process(self, rows: Sequence[tuple[int, R] | None]) -> None:
        """Take the batch: of each row its key's slot and what is read of it; None where it does not count."""
        for span in self._batch.tasks:
            self._take(span, rows)
        for task, time in self._batch.ticks:
            self._tick(task, time)
        self._keep()

    def _take(self, span: TaskRows, rows: Sequence[tuple[int, R] | None]) -> None:
        task, disorder = span.task, self._timers.disorder
        watermark = self._before[task] - disorder
        due, keys = self._table.due, self._table.keys
        for row in range(span.start, span.stop):
            if (given := rows[row]) is not None:
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

    def _tick(self, task: int, time: int) -> None:
        """The clock of a task, whose input rests, has come to `time` (stream time, ms)."""
        end = self._batch.size
        now = self._stream.advance((TaskRows(task, 0, 1),), np.array([time], np.int64)).item()
        self._fire(task, now - self._timers.disorder, end)

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
        name = self._timers.name
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

    def _keep(self) -> None:
        """Write what was looked at; undone with the batch."""
        if not self._states:
            return
        table, logic, disorder = self._table, self._logic, self._timers.disorder
        slots = np.fromiter(self._states, np.int64, len(self._states))
        table.touch(slots)
        stored_of = {slot: logic.store(state) for slot, state in self._states.items()}
        table.set_blobs(stored_of)
        header = []
        for task, state, stored in zip(
            table.task_of[slots].tolist(), self._states.values(), stored_of.values(), strict=True
        ):
            following = logic.due(state, self._stream.of(task) - disorder) if stored else None
            last_seen = logic.closes(state) + disorder - 1 if stored else 0
            header.append((last_seen, following or 0, following is not None))
        table.rows[slots] = header


def spans_of(tasks: Sequence[TaskRows], rows: list[int]) -> tuple[TaskRows, ...]:
    """The tasks' spans when only `rows` of the batch are left."""
    bounds = np.searchsorted(rows, [[span.start, span.stop] for span in tasks]).tolist()
    return tuple(TaskRows(span.task, start, stop) for span, (start, stop) in zip(tasks, bounds, strict=True))
