"""Rows of a statement that are equal to none before: DISTINCT, UNION. NULLs are equal to each other.

What is kept is the text of a whole row, and when its like was last seen: after `ttl` without one it counts as new.
"""

from __future__ import annotations

__all__ = ["FirstsOperator", "FirstsSpec"]

from itertools import compress

import msgspec
import numpy as np
import numpy.typing as npt

from operators.batch import Batch, Emitted
from operators.operator import Operator, OperatorContext, OutputField
from operators.statements.chain import Relation
from operators.statements.inputs import Reader, columns_of, key_texts, values_of
from operators.statements.spec import Input, Step
from operators.timed.logic import Told
from operators.timed.run import spans_of
from state.table import KeyedTable, TableSpec

I64 = npt.NDArray[np.int64]


class FirstsSpec(msgspec.Struct, frozen=True):
    """`columns`: what is equal, and told; `ttl`: ms (stream time) that a row is remembered behind its last like."""

    name: str
    source: Input
    steps: tuple[Step, ...]
    columns: tuple[str, ...]
    ttl: int


class FirstsOperator(Operator):
    """Adds no columns, but rows to `Batch.emitted`."""

    def __init__(self, spec: FirstsSpec) -> None:
        self.spec, self.name = spec, spec.name
        self._reader = Reader(spec.source, spec.steps)
        self._table = TableSpec(f"firsts.{spec.name}", f"{spec.name}.key", ("last_seen", "seen"), ttl_ms=spec.ttl)

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
        assert table.stream is not None
        stream = table.stream.advance(batch.tasks, batch.event_time)
        found = self._reader.run(batch)
        if not len(found.places):
            return
        texts = key_texts([found.columns[key] for key in self.spec.columns], len(found.places))
        spans = spans_of(batch.tasks, found.places.tolist())
        slots = table.slots(spans, texts)
        first = self._first(table, slots, stream[found.places])
        firsts = found.take(np.flatnonzero(first))
        tasks = np.repeat([span.task for span in spans], [span.stop - span.start for span in spans])[first]
        self._tell(batch, firsts, list(compress(texts, first)), tasks, stream)

    def _first(self, table: KeyedTable, slots: I64, now: I64) -> npt.NDArray[np.bool_]:
        """Whether each row is the first of its like; `now`: stream time. From then on it has been seen."""
        order = np.argsort(slots, kind="stable")
        laid, times = slots[order], now[order]
        begins = np.diff(laid, prepend=-1) != 0
        kept = table.rows[laid]
        before = np.where(begins, kept[:, table.last_seen], np.roll(times, 1))
        first = np.empty(len(slots), np.bool_)
        first[order] = (times - before >= self.spec.ttl) | (begins & (kept[:, 1] == 0))
        last = np.roll(begins, -1)
        table.touch(laid[last])
        table.rows[laid[last]] = np.column_stack([times[last], np.ones(int(last.sum()), np.int64)])
        return first

    def _tell(self, batch: Batch, firsts: Relation, texts: list[str], tasks: I64, stream: I64) -> None:
        values = zip(*(values_of(firsts.columns[key]) for key in self.spec.columns), strict=True)
        for place, task, text, row in zip(firsts.places.tolist(), tasks.tolist(), texts, values, strict=True):
            batch.emitted.append(Emitted(task, self.name, text, place, int(stream[place]), Told(row)))
