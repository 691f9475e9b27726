"""A right columnar operator with state, and copies of it with one fault each: what the checks are for."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from operators.batch import Batch, Column, TaskRows
from operators.event_operator import Event, EventOperator
from operators.operator import FLOAT64, INT64, STRING, InputField, Operator, OperatorContext, OutputField
from state.errors import RecordError
from state.table import KeyedTable, TableSpec

I64 = npt.NDArray[np.int64]
TTL_MS = 86_400_000


class Visits(Operator):
    """Counts a key's rows; forgets a key a day after its newest row."""

    inputs: tuple[str, ...] = (InputField("card_id", STRING), InputField("number", INT64))
    outputs: tuple[OutputField, ...] = (OutputField("visits", INT64, nullable=False),)
    tables = (TableSpec("visits", "card_id", ("count", "last_seen"), ttl_ms=TTL_MS),)

    def process(self, batch: Batch, context: OperatorContext) -> None:
        table = context.table("visits")
        slots = self.slots(table, batch)
        self.touch(table, np.unique(slots))
        visits = self.count(table, slots, batch)
        batch.columns["visits"] = Column(INT64, visits)

    def slots(self, table: KeyedTable, batch: Batch) -> I64:
        key = batch.columns["card_id"]
        valid = [True] * batch.size if key.valid is None else key.valid.tolist()
        texts = [f"={k}" if known else "NULL" for k, known in zip(key.values.tolist(), valid, strict=True)]
        return table.slots(batch.tasks, texts)

    def touch(self, table: KeyedTable, slots: I64) -> None:
        table.touch(slots)

    def count(self, table: KeyedTable, slots: I64, batch: Batch) -> I64:
        visits = np.empty(batch.size, np.int64)
        for row, (slot, time) in enumerate(zip(slots.tolist(), batch.event_time.tolist(), strict=True)):
            count, last = table.rows[slot].tolist()
            fresh = count == 0 or self.expired(time - last)
            visits[row] = 1 if fresh else count + 1
            table.rows[slot] = visits[row], time if fresh else max(last, time)
        return visits

    def expired(self, silent_ms: int) -> bool:
        return silent_ms >= TTL_MS


class OutputIsInput(Visits):
    outputs = (OutputField("number", INT64),)


class NotDeclaredKey(Visits):
    inputs = (InputField("number", INT64),)


class ReadsOther(Visits):
    def process(self, batch: Batch, context: OperatorContext) -> None:
        super().process(batch, context)
        list(batch.columns.values())


class ReadsUnknown(Visits):
    def process(self, batch: Batch, context: OperatorContext) -> None:
        super().process(batch, context)
        if batch.size:
            batch.columns["merchant_id"]


class AddsOther(Visits):
    def process(self, batch: Batch, context: OperatorContext) -> None:
        super().process(batch, context)
        batch.columns["more"] = batch.columns["visits"]


class WritesInput(Visits):
    def process(self, batch: Batch, context: OperatorContext) -> None:
        super().process(batch, context)
        batch.columns["number"].values.sort()


class OtherType(Visits):
    def process(self, batch: Batch, context: OperatorContext) -> None:
        super().process(batch, context)
        batch.columns["visits"] = Column(INT64, batch.columns["visits"].values.astype(np.int32))


class ShortColumn(Visits):
    def process(self, batch: Batch, context: OperatorContext) -> None:
        super().process(batch, context)
        batch.columns["visits"] = Column(INT64, batch.columns["visits"].values[:-1])


class OtherTable(Visits):
    def process(self, batch: Batch, context: OperatorContext) -> None:
        context.table("somebody_elses")


class CountsBatches(Visits):
    def count(self, table: KeyedTable, slots: I64, batch: Batch) -> I64:
        table.rows[slots, 0] += 1
        visits: I64 = table.rows[slots, 0]
        return visits


class ForgetsToFlush(Visits):
    def touch(self, table: KeyedTable, slots: I64) -> None:
        table.touch(slots)
        table.dirty[slots] = False


class SilentIsIdle(Visits):
    def replay(self, batch: Batch, context: OperatorContext) -> None: ...


class NoBeforeImage(Visits):
    def touch(self, table: KeyedTable, slots: I64) -> None:
        table.mark_dirty(slots)


class OneKey(Visits):
    def slots(self, table: KeyedTable, batch: Batch) -> I64:
        return table.slots(batch.tasks, ["all"] * batch.size)


class OneTask(Visits):
    def slots(self, table: KeyedTable, batch: Batch) -> I64:
        whole = Batch(batch.size, (TaskRows(0, 0, batch.size),), batch.event_time, batch.keys, batch.columns)
        return super().slots(table, whole)


class ForEver(Visits):
    def expired(self, silent_ms: int) -> bool:
        return False


class Chance(Visits):
    """Another process would begin at 0 again."""

    ticks = itertools.count()

    def count(self, table: KeyedTable, slots: I64, batch: Batch) -> I64:
        return super().count(table, slots, batch) + next(self.ticks)


class Doubled(Operator):
    """Reads what lies under a NULL."""

    inputs = (InputField("number", INT64),)
    outputs = (OutputField("doubled", INT64),)

    def process(self, batch: Batch, context: OperatorContext) -> None:
        batch.columns["doubled"] = Column(INT64, 2 * batch.columns["number"].values)


class NullRaises(EventOperator):
    inputs = (InputField("number", INT64),)
    outputs = (OutputField("half", FLOAT64),)

    def on_event(self, event: Event, state: None) -> tuple[float]:
        return (event["number"] / 2,)


class LosesNeighbours(Visits):
    """One bad row, and it names them all."""

    def process(self, batch: Batch, context: OperatorContext) -> None:
        number = batch.columns["number"]
        if (number.values[slice(None) if number.valid is None else number.valid] == 3).any():
            raise RecordError("three", rows=tuple(range(batch.size)))
        super().process(batch, context)


class WrongRows(LosesNeighbours):
    """It names a row that is not there."""

    def process(self, batch: Batch, context: OperatorContext) -> None:
        try:
            super().process(batch, context)
        except RecordError as error:
            raise RecordError("three", rows=(batch.size,)) from error


class NeverComputes(Visits):
    def process(self, batch: Batch, context: OperatorContext) -> None:
        raise RecordError("no")


class InstanceMemory(EventOperator):
    """Remembers on itself: works until the worker is restarted."""

    inputs = (InputField("card_id", STRING),)
    outputs = (OutputField("seen", INT64),)

    def __init__(self) -> None:
        self.count = 0

    def on_event(self, event: Event, state: None) -> tuple[int]:
        self.count += 1
        return (self.count,)
