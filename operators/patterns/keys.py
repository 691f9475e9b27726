"""One batch of the patterns of one key: which rows they must see, and what these make of the keys' runs.

all rows --> rows that may begin a match: their keys get a place in the table, if they have none
         --> a look-up of the key --> rows of keys that have runs, or begin some; most keys are not there
         --> bits say that the row means nothing to them: passed over, or all runs end, unread
         --> else each pattern's matcher
"""

from __future__ import annotations

__all__ = ["WANTS", "Found", "KeyState", "Looked", "PatternRun", "Patterns"]

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import count, repeat
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from operators.batch import Batch, TaskRows
from operators.patterns.matcher import OPENINGS_MAX, Attempt, KeyRuns, Match, Run
from operators.patterns.rows import plain_values
from operators.patterns.sight import ANY, BRITTLE, Sight, columns_of, packed
from operators.patterns.spec import PatternSpec
from operators.tables import LookupTable
from state.errors import RecordError, StateCorruptedError
from state.known import known_rows
from state.table import KeyedTable

WANTS: Final = "wants"
"""Field of the table: see `Sight.wants`; 0: the key has no runs."""


class Found(msgspec.Struct):
    """Of one pattern: the first match that each row ends, by row, and how many runs went at a row."""

    matches: dict[int, Match] = {}
    dropped: dict[int, int] = {}


class Looked(msgspec.Struct, frozen=True, gc=False):
    """A row that is looked at, the `at`-th of these: its number in the batch, its times, ms (`clock`: stream time); and
    of its key before the batch: what runs waited for, when it was last seen.
    """

    at: int
    number: int
    slot: int
    bits: int
    time: int
    clock: int
    wants: int
    seen: int


class KeyState(msgspec.Struct, gc=False):
    """A key's runs in a batch. `states`: None: not read yet; `wants`: None: to be reckoned anew."""

    seen: int
    wants: int | None
    states: dict[int, KeyRuns] | None = None
    is_changed: bool = False
    is_seen: bool = False


class Opens(NamedTuple):
    """What a row begins in a key of which nothing is known: runs, by number of the pattern, and what they wait for."""

    runs: Mapping[int, Sequence[Run]]
    wants: int


class Patterns:
    """The patterns of one key, as batches need them. `begins`: bits of rows that may begin a match of any; `openers`:
    those that `opens` is asked with: others would make one answer many.

    `columns`: what bits say, in their order; `ttl`: the shortest of any, ms; 0: none has one.
    """

    def __init__(self, specs: Sequence[PatternSpec], lookups: Mapping[str, LookupTable]) -> None:
        self.key = specs[0].key
        self.columns = tuple(dict.fromkeys(name for spec in specs for name in columns_of(spec)))
        self.sights = [Sight(spec, self.columns, lookups) for spec in specs]
        self.ttl = min(spec.ttl for spec in specs)
        self.begins = self.where = self.openers = 0
        for sight in self.sights:
            self.begins |= sight.begins
            self.where |= sight.where
            self.openers |= sight.openers
        self.opens = lru_cache(OPENINGS_MAX)(self._opens_of)
        self.store = msgspec.msgpack.Encoder().encode
        self.load = msgspec.msgpack.Decoder(list[tuple[int, KeyRuns]]).decode

    def wants(self, states: Mapping[int, KeyRuns]) -> int:
        """What all runs of a key wait for together."""
        found, common = 0, BRITTLE
        for number, state in states.items():
            sight = self.sights[number]
            one = sight.wants(state)
            found |= one
            if sight.keeps(state):
                common &= one
        return ANY if found & BRITTLE and not common else found

    def _opens_of(self, bits: int) -> Opens | None:
        runs = {i: one.opens(bits) for i, one in enumerate(self.sights) if bits & one.where and bits & one.begins}
        if not runs or not all(runs.values()):
            return None
        return Opens(runs, self.wants({number: _opened(0, one) for number, one in runs.items()}))


class PatternRun:
    """States are read once a key, and only if a row means something to them, and written once."""

    def __init__(self, patterns: Patterns, batch: Batch, table: KeyedTable) -> None:
        self._patterns, self._batch, self._table = patterns, batch, table
        self._stream = table.stream.advance(batch.tasks, batch.event_time) if table.stream else batch.event_time
        self._keys: dict[int, KeyState] = {}
        self._values: dict[str, list[Any]] = {}
        self._ttl = patterns.ttl
        self._looked = self._candidates()
        self.found = [Found() for _ in patterns.sights]

    def rows(self) -> list[Found]:
        """What each pattern finds."""
        for row in self._looked:
            self._look(row)
        self._keep()
        return self.found

    def _look(self, row: Looked) -> None:
        key = self._keys.get(row.slot)
        if key is None:
            key = self._keys[row.slot] = KeyState(row.seen, row.wants)
        if key.wants is None:
            key.wants = self._patterns.wants(key.states or {})
        if row.bits & (self._patterns.begins | key.wants) or not self._passes(key, row):
            self._row(key, row)

    def _candidates(self) -> list[Looked]:
        """The rows that may begin a match or whose key has runs, in the batch or before it."""
        batch, table, patterns = self._batch, self._table, self._patterns
        keys = batch.columns[patterns.key]
        spans, values = batch.tasks, keys.values
        known: npt.NDArray[np.intp] | slice = slice(None)
        if keys.valid is not None and np.count_nonzero(keys.valid) < batch.size:
            known = keys.valid.nonzero()[0]
            spans, values = _spans(batch.tasks, known), values[known]
        bits = packed(batch, patterns.columns, known)
        first, named = (bits & patterns.begins).nonzero()[0], values.tolist()
        if not first.size and _knows_none(table, spans, named):
            return []
        there, slots = known_rows(table, spans, named, first.tolist())
        wants = table.rows[:, table.index(WANTS)]
        wanted = _wanted(wants, slots, slots[there.searchsorted(first)])
        if not wanted.size:
            return []
        at, slots = there[wanted], slots[wanted]
        rows = at if isinstance(known, slice) else known[at]
        seen = table.rows[:, table.last_seen][slots].tolist() if self._ttl else repeat(0)
        each = (rows, slots, bits[at], batch.event_time[rows], self._stream[rows], wants[slots])
        return list(map(Looked, count(), *(one.tolist() for one in each), seen))

    def _last_seen(self, slot: int) -> int:
        return int(self._table.rows[slot, self._table.last_seen]) if self._ttl else 0

    def _passes(self, key: KeyState, row: Looked) -> bool:
        """Whether the runs of a key need not be looked at for a row that none of them can take."""
        if not key.wants:
            return True
        if key.wants & BRITTLE:
            key.states, key.wants, key.is_changed = {}, 0, True
            return True
        if self._ttl:
            if row.clock - key.seen >= self._ttl:
                return False
            self._see(key, row)
        return True

    def _see(self, key: KeyState, row: Looked) -> None:
        """A row that no run takes is one of its key's all the same."""
        if row.bits & self._patterns.where and row.time > key.seen:
            key.seen, key.is_seen = row.time, True

    def _row(self, key: KeyState, row: Looked) -> None:
        """A row goes to each pattern that it may mean something to."""
        if not key.wants and not (self._table.blobs[row.slot] if key.states is None else key.states):
            opens = self._patterns.opens(row.bits & self._patterns.openers)
            if opens is not None:
                key.states = {number: _opened(row.time, runs) for number, runs in opens.runs.items()}
                key.seen, key.wants, key.is_changed = row.time, opens.wants, True
                return
        if key.states is None:
            key.states = self._read(row.slot)
        if key.states and self._ttl:
            self._expire(key, row)
        states, bits = key.states, row.bits
        is_live = bool(key.wants) if key.wants is not None else any(state.attempts for state in states.values())
        for number, sight in enumerate(self._patterns.sights):
            if not bits & sight.where:
                continue
            state = states.get(number)
            if not bits & sight.begins and (state is None or not state.attempts):
                continue
            if state is None or not sight.keeps(state):
                state = states[number] = KeyRuns()
            self._step(number, state, row)
            key.wants, key.is_changed = None, True
        if key.wants is None:
            key.seen = max(key.seen, row.time) if is_live else row.time

    def _expire(self, key: KeyState, row: Looked) -> None:
        """What has expired when a row comes goes."""
        age = row.clock - key.seen
        if age >= self._ttl:
            sights = self._patterns.sights
            key.states = {number: one for number, one in (key.states or {}).items() if age < sights[number].spec.ttl}
            key.wants, key.is_changed = None, True

    def _step(self, number: int, state: KeyRuns, row: Looked) -> None:
        sight, found = self._patterns.sights[number], self.found[number]
        names = sight.spec.columns
        values = [self._column(name)[row.at] for name in names] if names else ()
        try:
            said, dropped = sight.row(state, row.time, row.bits, values)
        except RecordError as error:
            raise RecordError(error.reason, error.detail, (row.number,)) from error
        if dropped:
            found.dropped[row.number] = dropped
        if said:
            found.matches[row.number] = said[0]

    def _column(self, name: str) -> list[Any]:
        """A column's values at the rows that are looked at."""
        values = self._values.get(name)
        if values is None:
            numbers = [row.number for row in self._looked]
            values = self._values[name] = plain_values(self._batch.columns[name], numbers)
        return values

    def _read(self, slot: int) -> dict[int, KeyRuns]:
        stored = self._table.blobs[slot]
        try:
            return dict(self._patterns.load(stored)) if stored else {}
        except msgspec.MsgspecError as error:
            raise StateCorruptedError(f"table {self._table.spec.name}: a key's state cannot be read") from error

    def _keep(self) -> None:
        """Write what has changed; undone with the batch."""
        changed = {slot: key for slot, key in self._keys.items() if key.is_changed or key.is_seen}
        if not changed:
            return
        slots = np.fromiter(changed, np.int64, len(changed))
        self._table.touch(slots)
        stored = {slot: self._kept(key.states) for slot, key in changed.items() if key.is_changed}
        self._table.set_blobs(stored)
        for slot, kept in stored.items():
            if not kept:
                changed[slot].seen = 0
        self._write(slots, changed)

    def _write(self, slots: npt.NDArray[np.int64], changed: Mapping[int, KeyState]) -> None:
        """The fields beside the blobs."""
        table = self._table
        reckon = self._patterns.wants
        wants = [reckon(key.states or {}) if key.wants is None else key.wants for key in changed.values()]
        table.rows[:, table.index(WANTS)][slots] = wants
        if self._ttl:
            table.rows[:, table.last_seen][slots] = [key.seen for key in changed.values()]

    def _kept(self, states: Mapping[int, KeyRuns] | None) -> bytes:
        """What there is to remember of a key, by number of the pattern."""
        if not states:
            return b""
        sights = self._patterns.sights
        kept = []
        for number, state in states.items():
            if sights[number].keeps(state):
                kept.append((number, state))
        kept.sort()
        return self._patterns.store(kept) if kept else b""


def _opened(time: int, runs: Sequence[Run]) -> KeyRuns:
    """A key's state after its first row, of event time `time`."""
    return KeyRuns(1, 0, [Attempt(0, time, [*runs])])


def _knows_none(table: KeyedTable, spans: Sequence[TaskRows], keys: list[str]) -> bool:
    """Whether nothing is known of any of the rows' keys."""
    for span in spans:
        if table.loader is not None and not table.loader.is_whole(span.task):
            return False
        if not table.keys_of(span.task).keys().isdisjoint(keys[span.start : span.stop]):
            return False
    return True


def _wanted(
    wants: npt.NDArray[np.int64], slots: npt.NDArray[np.int64], begun: npt.NDArray[np.int64]
) -> npt.NDArray[np.intp]:
    """Which of the slots' keys have runs, or begin some in the batch: what these want is a mark for a moment."""
    if not begun.size:
        return wants[slots].nonzero()[0]
    before = wants[begun]
    wants[begun] = ANY
    wanted = wants[slots].nonzero()[0]
    wants[begun] = before
    return wanted


def _spans(tasks: Sequence[TaskRows], rows: npt.NDArray[np.intp]) -> tuple[TaskRows, ...]:
    """The tasks' spans when only `rows` of the batch are left."""
    if len(tasks) == 1:
        return (TaskRows(tasks[0].task, 0, len(rows)),)
    bounds = np.searchsorted(rows, [[span.start, span.stop] for span in tasks]).tolist()
    return tuple(TaskRows(span.task, start, stop) for span, (start, stop) in zip(tasks, bounds, strict=True))
