"""LEFT, RIGHT and FULL JOIN of a statement: pairs as the later row comes, and rows that have stayed alone.

    row of a side -> its key's state: pairs with the other side's rows -> it waits for more
    stream time is `ttl` past a row -> it has had no partner: it comes alone -> nothing pairs with it any more

What was said is never taken back, so a row comes alone when it will stay so: by its time, or as it has no room, or no
key.
"""

from __future__ import annotations

__all__ = ["OuterJoinOperator", "OuterJoinSpec"]

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from operators.batch import Batch, Column, TaskRows
from operators.event_values import column_of
from operators.expressions.nodes import Compiled
from operators.operator import OperatorContext, OutputField
from operators.schema import DataType
from operators.statements.chain import Chain, Relation
from operators.statements.inputs import Reader, columns_of
from operators.statements.joins import ROWS_MAX, JoinRow, JoinSide, Values, join_rows
from operators.statements.spec import Kept
from operators.timed.logic import Pair, Said
from operators.timed.run import Timers, TimersRun, WaitingOperator, spans_of, timers_table, waits_of
from state.errors import RecordError
from state.table import KeyedTable, TableSpec

Matching = Callable[["SideRow", Sequence["Waiting"]], list[bool]]
"""Which of the other side's rows go with a row."""


class OuterJoinSpec(msgspec.Struct, frozen=True):
    """`ttl`: how long (ms, stream time) rows wait. `alone`: whether rows of left, of right come without a partner, too.

    `condition`: what pairs fulfil beside equal keys; `types`: of the sides' columns.
    """

    name: str
    left: JoinSide
    right: JoinSide
    ttl: int
    alone: tuple[bool, bool]
    condition: Compiled | None
    types: dict[str, DataType]


class SideRow(NamedTuple):
    """A row of a side; `known`: there is no NULL in its key."""

    time: int
    is_right: bool
    known: bool
    values: Values


class Waiting(msgspec.Struct, array_like=True):
    """`settled`: it has a partner, or is not to come without."""

    time: int
    values: list[Any]
    settled: bool


class Sides(msgspec.Struct, array_like=True):
    """Rows of one key that wait for others, by side, as they came."""

    left: list[Waiting] = []
    right: list[Waiting] = []


class OuterLogic:
    """See `KeyLogic`; the watermark is stream time."""

    def __init__(self, ttl: int, alone: tuple[bool, bool], matching: Matching) -> None:
        self._ttl, self._alone, self._matching = ttl, alone, matching
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Sides).decode

    def new(self) -> Sides:
        """Without rows."""
        return Sides()

    def load(self, stored: bytes) -> Sides:
        """From bytes."""
        return self._decode(stored)

    def store(self, state: Sides) -> bytes:
        """As bytes."""
        return self._encode(state) if state.left or state.right else b""

    def row(self, state: Sides, row: SideRow, watermark: int) -> tuple[Sequence[Said], int | None]:
        """Its pairs; it waits for more, if only for what is due at once."""
        if not row.known:
            return [_alone(row.is_right, row.values)], None
        said = self._expired(state, max(watermark, row.time) - self._ttl)
        mine, others = (state.right, state.left) if row.is_right else (state.left, state.right)
        settled = not self._alone[row.is_right]
        for other, fits in zip(others, self._matching(row, others), strict=True):
            if fits:
                other.settled = settled = True
                both = (tuple(other.values), row.values) if row.is_right else (row.values, tuple(other.values))
                said.append(Pair(*both))
        mine.append(Waiting(row.time, list(row.values), settled))
        said += [_alone(row.is_right, tuple(one.values)) for one in mine[:-ROWS_MAX] if not one.settled]
        del mine[:-ROWS_MAX]
        return said, None if settled else row.time + self._ttl

    def fire(self, state: Sides, due: int) -> Sequence[Said]:
        """The rows whose time is over by then, and who have stayed alone."""
        return self._expired(state, due - self._ttl)

    def due(self, state: Sides, watermark: int) -> int | None:
        """When the first row that is alone has waited long enough."""
        times = [one.time for one in (*state.left, *state.right) if not one.settled]
        return min(times) + self._ttl if times else None

    def closes(self, state: Sides) -> int:
        """When the newest row waits no more."""
        return max(one.time for one in (*state.left, *state.right)) + self._ttl

    def _expired(self, state: Sides, oldest: int) -> list[Said]:
        """Forget rows of that time and before; those that were alone, in order of time."""
        gone: list[tuple[int, Pair]] = []
        for is_right, rows in enumerate((state.left, state.right)):
            old = [one for one in rows if one.time <= oldest]
            if old:
                rows[:] = [one for one in rows if one.time > oldest]
                gone += [(one.time, _alone(bool(is_right), tuple(one.values))) for one in old if not one.settled]
        return [pair for _, pair in sorted(gone, key=lambda one: one[0])]


def _alone(is_right: bool, values: Values) -> Pair:
    return Pair(None, values) if is_right else Pair(values, None)


class OuterJoinOperator(WaitingOperator):
    """Adds no columns, but pairs to `Batch.emitted`."""

    def __init__(self, spec: OuterJoinSpec) -> None:
        self.spec, self.name = spec, spec.name
        self._sides = (spec.left, spec.right)
        self._readers = [Reader(side.source, side.steps) for side in self._sides]
        self._chain = None if spec.condition is None else Chain([Kept(spec.condition)])
        self._timers = Timers(OuterLogic(spec.ttl, spec.alone, self._matching), spec.name, 0)
        self._table = timers_table(spec.name, f"{spec.name}.key")

    @property
    def inputs(self) -> tuple[str, ...]:
        return columns_of(*(side.source for side in self._sides))

    @property
    def outputs(self) -> tuple[OutputField, ...]:
        return ()

    @property
    def tables(self) -> tuple[TableSpec, ...]:
        return (self._table,)

    def waits(self, context: OperatorContext, task: int) -> tuple[int, int] | None:
        """See `WaitingOperator`."""
        return waits_of(context.table(self._table.name), task, 0)

    def process(self, batch: Batch, context: OperatorContext) -> None:
        table = context.table(self._table.name)
        rows = join_rows(self._readers, self._sides, batch, self.spec.alone)
        rows.sort(key=lambda row: (row.place, row.is_right))
        part, at, mine = _spread(batch, [row.place for row in rows])
        TimersRun(self._timers, part, table).process(self._given(part, rows, mine, table))
        places = [*at, batch.size]
        batch.emitted += [one._replace(row=places[one.row]) for one in part.emitted]

    def _given(
        self, part: Batch, rows: Sequence[JoinRow], mine: list[int], table: KeyedTable
    ) -> list[tuple[int, SideRow] | None]:
        found: list[tuple[int, SideRow] | None] = [None] * part.size
        if rows:
            slots = table.slots(spans_of(part.tasks, mine), [row.key for row in rows]).tolist()
            times = part.event_time.tolist()
            for at, slot, row in zip(mine, slots, rows, strict=True):
                found[at] = (slot, SideRow(times[at], row.is_right, row.known, row.values))
        return found

    def _matching(self, row: SideRow, others: Sequence[Waiting]) -> list[bool]:
        """Those for which the condition is TRUE; one that it fails on is no partner: neither row is to blame for it."""
        condition = self.spec.condition
        if condition is None or self._chain is None or not others:
            return [True] * len(others)
        columns = self._columns(row, others, condition.inputs)
        try:
            found = self._chain.run(Relation(np.arange(len(others)), columns)).places.tolist()
        except RecordError:
            if len(others) == 1:
                return [False]
            return [fits for one in others for fits in self._matching(row, [one])]
        kept = set(found)
        return [place in kept for place in range(len(others))]

    def _columns(self, row: SideRow, others: Sequence[Waiting], wanted: Sequence[str]) -> dict[str, Column]:
        """What the condition reads of the row beside each of the others."""
        own, its = (self.spec.right, self.spec.left) if row.is_right else (self.spec.left, self.spec.right)
        columns = {}
        for key in wanted:
            if key in own.columns:
                values = [row.values[own.columns.index(key)]] * len(others)
            else:
                place = its.columns.index(key)
                values = [one.values[place] for one in others]
            columns[key] = column_of(self.spec.types[key], values)
        return columns


def _spread(batch: Batch, places: list[int]) -> tuple[Batch, list[int], list[int]]:
    """The batch with each row so often as it is in `places` (ascending), but once at least.

    Returns it, where each of its rows stood, and which of its rows are those of `places`.
    """
    counts = np.bincount(np.array(places, np.intp), minlength=batch.size)
    edges = np.concatenate([[0], np.cumsum(np.maximum(counts, 1))]).tolist()
    at = np.repeat(np.arange(batch.size), np.maximum(counts, 1))
    spans = tuple(TaskRows(span.task, edges[span.start], edges[span.stop]) for span in batch.tasks)
    part = Batch(len(at), spans, batch.event_time[at], [], {}, batch.ticks)
    return part, at.tolist(), np.flatnonzero(counts[at]).tolist()
