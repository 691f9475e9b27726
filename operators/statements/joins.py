"""JOIN of a statement: rows of two sides that have equal keys, paired as the later one comes.

    row of a side -> its key's state: forget what is older than `ttl` -> pairs with the other side's rows -> keep it

A version (`as_of`) is a row of the right side: a left row pairs with the latest at or before its time, and left rows
are not kept. What is kept is bounded in time and, a key and side, in number; the oldest rows go first.
"""

from __future__ import annotations

__all__ = ["ROWS_MAX", "JoinOperator", "JoinRow", "JoinSide", "JoinSpec", "Values", "join_rows"]

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import msgspec
import numpy as np

from operators.batch import Batch, Emitted, TaskRows
from operators.operator import Operator, OperatorContext, OutputField
from operators.statements.inputs import Reader, columns_of, key_texts, values_of
from operators.statements.spec import Rows, Step
from operators.timed.logic import Pair
from state.errors import StateCorruptedError
from state.table import KeyedTable, TableSpec

ROWS_MAX = 1_000
"""Rows that a key keeps of a side."""
Values = tuple[Any, ...]


class JoinSide(msgspec.Struct, frozen=True):
    """Rows of a batch through steps: the columns that are equal on both sides, and those that pairs have."""

    source: Rows
    steps: tuple[Step, ...]
    keys: tuple[str, ...]
    columns: tuple[str, ...]


class JoinSpec(msgspec.Struct, frozen=True):
    """`ttl`: how long (ms, stream time) rows are kept; of versions 0: the latest for ever. `outer`: left rows without a
    version come, too. `disorder`: how far back the time of a left row may lie, ms.
    """

    name: str
    key: str
    left: JoinSide
    right: JoinSide
    ttl: int
    as_of: bool = False
    outer: bool = False
    disorder: int = 0


class Kept(msgspec.Struct, array_like=True):
    """Rows of one key that wait for others: (time, values), by side, as they came."""

    left: list[tuple[int, list[Any]]] = []
    right: list[tuple[int, list[Any]]] = []


class JoinRow(NamedTuple):
    """A row of a side; `key`: the text of what is equal; `known`: without a NULL in it."""

    place: int
    is_right: bool
    key: str
    known: bool
    values: Values


class JoinOperator(Operator):
    """Adds no columns, but pairs to `Batch.emitted`."""

    def __init__(self, spec: JoinSpec) -> None:
        self.spec, self.name = spec, spec.name
        self._readers = [Reader(side.source, side.steps) for side in (spec.left, spec.right)]
        fields = ("last_seen", "held") if spec.ttl else ("held",)
        self._table = TableSpec(f"join.{spec.name}", spec.key, fields, blob=True, ttl_ms=spec.ttl)
        self._store = msgspec.msgpack.Encoder().encode
        self._load = msgspec.msgpack.Decoder(Kept).decode

    @property
    def inputs(self) -> tuple[str, ...]:
        return columns_of(self.spec.left.source, self.spec.right.source)

    @property
    def outputs(self) -> tuple[OutputField, ...]:
        return ()

    @property
    def tables(self) -> tuple[TableSpec, ...]:
        return (self._table,)

    def process(self, batch: Batch, context: OperatorContext) -> None:
        table = context.table(self._table.name)
        stream = table.stream.advance(batch.tasks, batch.event_time).tolist() if table.stream else None
        rows = join_rows(self._readers, (self.spec.left, self.spec.right), batch, (self.spec.outer, False))
        rows.sort(key=lambda row: (row.place, row.is_right != self.spec.as_of))
        if not rows:
            return
        times, states = batch.event_time.tolist(), dict[int, Kept]()
        seen: dict[int, int] = {}
        slots = iter(self._slots(table, batch, [row for row in rows if row.known]))
        for task, row in _tasks(batch.tasks, rows):
            if not row.known:
                batch.emitted.append(Emitted(task, self.spec.name, "", row.place, 0, Pair(row.values, None)))
                continue
            slot = next(slots)
            now = times[row.place] if stream is None else stream[row.place]
            if slot not in states:
                states[slot] = self._state(table, slot)
                seen[slot] = int(table.rows[slot, table.last_seen]) if self.spec.ttl else now
            if self.spec.ttl and now - seen[slot] >= self.spec.ttl:
                states[slot] = Kept()
            state = states[slot]
            for pair in self._pairs(state, row, times[row.place], now):
                batch.emitted.append(Emitted(task, self.spec.name, row.key, row.place, now, pair))
            seen[slot] = now
        self._keep(table, states, seen)

    # ---- rows

    def _slots(self, table: KeyedTable, batch: Batch, rows: Sequence[JoinRow]) -> list[int]:
        spans, start = [], 0
        for task, some in groupby(_tasks(batch.tasks, rows), key=lambda one: one[0]):
            size = sum(1 for _ in some)
            spans.append(TaskRows(task, start, start + size))
            start += size
        found: list[int] = table.slots(tuple(spans), [row.key for row in rows]).tolist()
        return found

    def _pairs(self, state: Kept, row: JoinRow, time: int, now: int) -> list[Pair]:
        if self.spec.as_of:
            return self._version(state, row, time, now)
        oldest = now - self.spec.ttl
        for kept in (state.left, state.right):
            kept[:] = [one for one in kept if one[0] > oldest]
        mine, others = (state.right, state.left) if row.is_right else (state.left, state.right)
        if time > oldest:
            mine.append((time, list(row.values)))
            del mine[:-ROWS_MAX]
        if row.is_right:
            return [Pair(tuple(other), row.values) for _, other in others]
        return [Pair(row.values, tuple(other)) for _, other in others]

    def _version(self, state: Kept, row: JoinRow, time: int, now: int) -> list[Pair]:
        kept = state.right
        if row.is_right:
            kept.append((time, list(row.values)))
            kept.sort(key=lambda one: one[0])  # stable: of one time the later one is behind
            settled = [place for place, (at, _) in enumerate(kept) if at <= now - self.spec.disorder]
            del kept[: max(settled[-1] if settled else 0, len(kept) - ROWS_MAX)]
            return []
        found = next((tuple(values) for at, values in reversed(kept) if at <= time), None)
        return [Pair(row.values, found)] if found is not None or self.spec.outer else []

    # ---- state

    def _state(self, table: KeyedTable, slot: int) -> Kept:
        stored = table.blobs[slot]
        try:
            return self._load(stored) if stored else Kept()
        except msgspec.MsgspecError as error:
            raise StateCorruptedError(f"table {table.spec.name}: a key's state cannot be read") from error

    def _keep(self, table: KeyedTable, states: dict[int, Kept], seen: dict[int, int]) -> None:
        changed = {slot: state for slot, state in states.items() if state.left or state.right or table.blobs[slot]}
        if not changed:
            return
        slots = np.fromiter(changed, np.int64, len(changed))
        table.touch(slots)
        table.set_blobs({slot: self._store(one) if one.left or one.right else b"" for slot, one in changed.items()})
        header = []
        for slot, state in changed.items():
            held = len(state.left) + len(state.right)
            header.append((seen[slot] if held else 0, held) if self.spec.ttl else (held,))
        table.rows[slots] = header


def join_rows(
    readers: Sequence[Reader], sides: Sequence[JoinSide], batch: Batch, alone: tuple[bool, bool]
) -> list[JoinRow]:
    """Rows of both sides. A NULL in a key is equal to nothing: such rows come where a side's rows may be `alone`."""
    found = []
    for number, side in enumerate(sides):
        relation = readers[number].run(batch)
        keys = [relation.columns[key] for key in side.keys]
        known = np.ones(len(relation.places), np.bool_)
        for column in keys:
            if column.valid is not None:
                known &= column.valid
        lists = [values_of(relation.columns[name]) for name in side.columns]
        values = list(zip(*lists, strict=True)) if lists else [()] * len(known)
        for at, (place, key) in enumerate(zip(relation.places.tolist(), key_texts(keys, len(known)), strict=True)):
            if known[at] or alone[number]:
                found.append(JoinRow(place, number == 1, key, bool(known[at]), values[at]))
    return found


def _tasks(spans: Sequence[TaskRows], rows: Sequence[JoinRow]) -> list[tuple[int, JoinRow]]:
    """Rows, in the order of their places, with their tasks."""
    found, at = [], 0
    for row in rows:
        while row.place >= spans[at].stop:
            at += 1
        found.append((spans[at].task, row))
    return found
