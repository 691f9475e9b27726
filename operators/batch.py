"""A batch: the rows that one step of the plan sees at once, as columns.

Rows of one task lie together and in row order; `tasks` says which rows are whose. Operators read columns and
add columns; they never reorder or drop rows.
"""

from __future__ import annotations

__all__ = ["Batch", "Column", "Emitted", "TaskRows", "TaskTick", "column_of", "narrowed"]

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import msgspec
import numpy as np
import numpy.typing as npt

from operators.schema import DataType


class Column(NamedTuple):
    """`values`: shape (rows,), of the type's dtype; `valid`: bool (rows,), or None when no row is NULL.

    The value under a NULL is arbitrary but harmless (0, False or ""): kernels may compute on it.
    """

    type: DataType
    values: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_] | None = None

    def take(self, rows: npt.NDArray[np.intp]) -> Column:
        """The column at `rows` (indices)."""
        return Column(self.type, self.values[rows], None if self.valid is None else self.valid[rows])


column_of = cast("Callable[[tuple[object, ...]], Column]", partial(tuple.__new__, Column))
"""A column of (type, values, valid), where many are made: in half the time of `Column(...)`."""


class TaskRows(NamedTuple):
    """Rows start..stop (exclusive) of the batch belong to task (partition) `task`."""

    task: int
    start: int
    stop: int


class TaskTick(NamedTuple):
    """A task whose input rests: its clock has come to `time` (stream time, ms)."""

    task: int
    time: int


class Emitted(NamedTuple):
    """Said by the timed operator `name` about `key` of `task`, after `row` of the batch; its size: by a clock tick.

    `said`: `operators.timed.logic.Fired` or `Missed`. `watermark`: ms, when it was said.
    """

    task: int
    name: str
    key: str
    row: int
    watermark: int
    said: Any


class Batch(msgspec.Struct):
    """Rows of one stage, by column.

    `event_time`: int64 (rows,), ms. `keys`: the partition key's text, one a row. `columns` grows as steps run.
    `ticks` come after the rows. `emitted`: what timed operators say; it is no column, for it belongs to no row.
    `late`: bool (rows,), rows that were taken after their deadline and are decided without a model; None: none was.
    `hashes`: of texts, by column: the values they are of, and int64 (rows,); who needs them again finds them here.
    """

    size: int
    tasks: tuple[TaskRows, ...]
    event_time: npt.NDArray[np.int64]
    keys: list[str]
    columns: dict[str, Column]
    ticks: tuple[TaskTick, ...] = ()
    emitted: list[Emitted] = []
    late: npt.NDArray[np.bool_] | None = None
    hashes: dict[str, tuple[npt.NDArray[Any], npt.NDArray[np.int64]]] = {}


def narrowed(batch: Batch, rows: npt.NDArray[np.intp]) -> Batch:
    """The batch of the rows at ascending indices `rows`, in a dictionary of its own; nothing is emitted in it."""
    if len(rows) == batch.size:
        return Batch(batch.size, batch.tasks, batch.event_time, batch.keys, dict(batch.columns), late=batch.late)
    edges = np.searchsorted(rows, [[span.start, span.stop] for span in batch.tasks]).reshape(-1, 2).tolist()
    spans = tuple(TaskRows(span.task, a, b) for span, (a, b) in zip(batch.tasks, edges, strict=True) if b > a)
    columns = {name: column.take(rows) for name, column in batch.columns.items()}
    late = None if batch.late is None else batch.late[rows]
    return Batch(len(rows), spans, batch.event_time[rows], [batch.keys[i] for i in rows.tolist()], columns, late=late)
