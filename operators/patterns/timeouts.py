"""A pattern whose partial matches are told when WITHIN ends them: alerts, in the order of time.

    row -> attempts of its key whose WITHIN is over at its own time are told, then the matcher takes it
        -> watermark = stream time - disorder -> all attempts whose WITHIN is over by then, by (time, key)
        -> the next row

Stream time is the task's, as for windows that close (operators/timed); a clock tick moves it, too. So what is told, and
after which row, depends on row order only. Each beginning is told once, with the values of its preferred run; one that
has a complete match, and waits for a better one, is none of these.
"""

from __future__ import annotations

__all__ = ["TimedOut", "TimedPatternOperator"]

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from operators.batch import Batch, Emitted, TaskRows
from operators.encode import json_values
from operators.operator import OperatorContext
from operators.patterns.keys import WANTS, Found, KeyState, Looked, PatternRun, Patterns
from operators.patterns.matcher import KeyRuns, Match
from operators.patterns.operator import PatternOperator, measure_column
from operators.patterns.rows import values_batch
from operators.patterns.sight import BRITTLE
from operators.patterns.spec import PatternSpec
from operators.tables import LookupTable
from operators.timed.run import WaitingOperator
from state.due import DUE, WAITS
from state.expiry import NEVER
from state.table import KeyedTable, TableSpec

_PREFETCHED = 4096


class TimedOut(NamedTuple):
    """The beginning at `start` was not completed by `end`, ms. `values`: of the pattern's slots; `number`: which match
    it would have been, 0 if no measure asks for it.
    """

    start: int
    end: int
    number: int
    values: tuple[Any, ...]


class TimedPatternOperator(PatternOperator, WaitingOperator):
    """Computes one `PatternSpec` that has a `timeout`; its partial matches go to `Batch.emitted`."""

    def __init__(self, spec: PatternSpec, table: str, lookups: Mapping[str, LookupTable] | None = None) -> None:
        super().__init__([spec], table, lookups)
        self.spec = spec
        self._table = TableSpec(table, spec.key, ("last_seen", WANTS, DUE, WAITS), blob=True, ttl_ms=spec.ttl)

    def found(self, batch: Batch, context: OperatorContext) -> list[Found]:
        """See `PatternOperator`."""
        return _TimedRun(self._patterns, batch, context.table(self._table.name)).rows()

    def waits(self, context: OperatorContext, task: int) -> tuple[int, int] | None:
        """See `WaitingOperator`."""
        table = context.table(self._table.name)
        due = table.due.next(task)
        now = table.stream.of(task) if table.stream else NEVER
        return None if due is None or now == NEVER else (now, due + self.spec.disorder)

    def records(self, emitted: Sequence[Emitted]) -> list[dict[str, Any]]:
        """What is told of partial matches, a JSON object each."""
        matches = [Match(one.said.number, 0, 0, list(one.said.values), []) for one in emitted]
        columns = self._measures[0].run(values_batch(self.spec.slots, matches, np.zeros(len(matches), np.int64)))
        names = [name for name, _ in self.spec.measures]
        values = {name: json_values(columns[measure_column(self.spec.name, name)]) for name in names}
        return [
            {
                "alert": one.name, "kind": "timeout", "per": self.spec.per, "key": one.key,
                "event_time": one.said.start, "deadline": one.said.end,
                "measures": {name: found[i] for name, found in values.items()},
            }
            for i, one in enumerate(emitted)
        ]  # fmt: skip


class _TimedRun(PatternRun):
    """One batch. Timers lie in the table; an attempt's is due at its first row's time and WITHIN."""

    def __init__(self, patterns: Patterns, batch: Batch, table: KeyedTable) -> None:
        super().__init__(patterns, batch, table)
        self._now: list[int] = self._stream.tolist()

    def rows(self) -> list[Found]:
        """What the pattern finds; what it tells goes to the batch."""
        batch, table, i = self._batch, self._table, 0
        for span in batch.tasks:
            begin = span.start
            while i < len(self._looked) and self._looked[i].number < span.stop:
                row = self._looked[i]
                self._fire(span.task, begin, row.number)
                self._look(row)
                due = self._due(self._keys[row.slot])
                if due is not None:
                    table.due.put(span.task, table.keys[row.slot], due)
                begin, i = row.number, i + 1
            self._fire(span.task, begin, span.stop)
        for task, time in batch.ticks:
            assert table.stream is not None
            now = table.stream.advance((TaskRows(task, 0, 1),), np.array([time], np.int64)).item()
            self._due_by(task, now - self._spec.disorder, batch.size)
        self._keep()
        return self.found

    @property
    def _spec(self) -> PatternSpec:
        return self._patterns.sights[0].spec

    # ---- rows

    def _passes(self, key: KeyState, row: Looked) -> bool:
        """Runs that a row would end are looked at: their WITHIN may be over. A key that has expired is not seen again:
        what is left of it waits for time, and goes with the first row that the pattern looks at.
        """
        if not key.wants:
            return True
        if key.wants & BRITTLE:
            return False
        if row.clock - key.seen < self._ttl:
            self._see(key, row)
        return True

    def _expire(self, key: KeyState, row: Looked) -> None:
        """What WITHIN ends is told before it goes; a row that the pattern does not see leaves both to others."""
        if row.bits & self._patterns.where and row.clock - key.seen >= self._ttl:
            for state in (key.states or {}).values():
                self._end(state, row)
            super()._expire(key, row)

    def _step(self, number: int, state: KeyRuns, row: Looked) -> None:
        self._end(state, row)
        super()._step(number, state, row)

    def _end(self, state: KeyRuns, row: Looked) -> None:
        """Attempts of which WITHIN is over at a row's own time are told, and go."""
        task = next(span.task for span in self._batch.tasks if span.start <= row.number < span.stop)
        key = str(self._batch.columns[self._patterns.key].values[row.number])
        watermark = self._now[row.number] - self._spec.disorder
        self._say(task, key, state, time=row.time, row=row.number, watermark=watermark)

    # ---- timers

    def _fire(self, task: int, begin: int, end: int) -> None:
        """All that became due behind the rows begin..end (exclusive)."""
        disorder = self._spec.disorder
        while (first := self._table.due.next(task)) is not None:
            row = bisect_left(self._now, first + disorder, begin, end)
            if row == end:
                return
            self._tell(task, row, self._now[row] - disorder)

    def _due_by(self, task: int, watermark: int, row: int) -> None:
        while (first := self._table.due.next(task)) is not None and first <= watermark:
            self._tell(task, row, watermark)

    def _tell(self, task: int, row: int, watermark: int) -> None:
        """The first timer's attempts."""
        table, due = self._table, self._table.due
        at, name = due.take(task)
        slot = table.keys_of(task).get(name)
        if slot is None:
            mine, ready = table.keys_of(task), due.ready(task, watermark, _PREFETCHED) if due.next(task) else []
            table.admit(task, [name, *(one for one in ready if one not in mine and one != name)])
            slot = table.keys_of(task)[name]
        key = self._keys.get(slot)
        if key is None:
            key = self._keys[slot] = KeyState(self._last_seen(slot), int(table.rows[slot, table.index(WANTS)]))
        if key.states is None:
            key.states = self._read(slot)
        state = key.states.get(0)
        if state is not None and self._say(task, name, state, time=at, row=row, watermark=watermark):
            key.wants, key.is_changed = None, True
        following = self._due(key)
        if following is not None:
            due.put(task, name, following)

    def _say(self, task: int, key: str, state: KeyRuns, *, time: int, row: int, watermark: int) -> bool:
        """Attempts of which WITHIN is over at `time` are told, and go; whether there were any."""
        spec = self._spec
        gone = self._patterns.sights[0].matcher.timed_out(state, time)
        number = state.matches + 1 if spec.numbers_matches else 0  # else it goes with the key's last run
        for attempt in gone:
            said = TimedOut(attempt.time, attempt.time + spec.within, number, tuple(attempt.runs[0].values))
            self._batch.emitted.append(Emitted(task, spec.name, key, row, watermark, said))
        return bool(gone)

    def _due(self, key: KeyState) -> int | None:
        """When the first of a key's attempts is over; None: none waits, or none was looked at."""
        state = None if key.states is None else key.states.get(0)
        waiting = [] if state is None else [one.time for one in state.attempts if one.runs and one.found is None]
        return min(waiting) + self._spec.within if waiting else None

    def _write(self, slots: Any, changed: Mapping[int, KeyState]) -> None:
        super()._write(slots, changed)
        table: KeyedTable = self._table
        for slot, key in changed.items():
            if key.is_changed:
                due = self._due(key)
                table.rows[slot, table.index(DUE)] = due or 0
                table.rows[slot, table.index(WAITS)] = due is not None
