"""What computing a transaction gives: plain data between engine, output encoder, transaction and metrics; and why it
may give nothing.
"""

from __future__ import annotations

__all__ = [
    "AtHand",
    "BatchTooBadError",
    "BatchTooLargeError",
    "Computed",
    "HandedRows",
    "Judged",
    "Merged",
    "OfStage",
    "check_size",
]

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from operators.batch import Batch, Column
from operators.decide import Decided
from operators.operator import INT64, STRING
from operators.plan import ARRIVED, DIGEST, ROUTE, Handoff
from operators.timed.alerts import Telling
from state.errors import StreamprocError
from streamproc.eventlog.contract import OutputRecords, TopicPartition
from streamproc.runtime.partition_task import TaskHead
from streamproc.runtime.rows import Rows

_BLOCK_BYTES_MAX = 900_000
_BLOCK_BYTES_AIM = 512 * 1024


class Computed(msgspec.Struct):
    """One transaction's worth of results; `heads`: where each task (by its input) stands once it is published.

    `handed`: the rows that the next stage gets, if there is one.
    """

    heads: dict[TopicPartition, TaskHead]
    outputs: list[OutputRecords]
    judged: Judged
    handed: HandedRows | None = None


class AtHand(NamedTuple):
    """Rows that need not be read from their records: `columns` of them by name; `order`: which row each record is."""

    columns: Mapping[str, Column]
    order: npt.NDArray[np.int64]


class HandedRows(msgspec.Struct):
    """What was written to the next stage's source. `digests`: whether it says of each row how it first came; `routes`:
    one a row; `places`: which rows went to each partition, in order.
    """

    judged: Judged
    handoff: Handoff
    digests: bool
    routes: list[str]
    places: dict[TopicPartition, npt.NDArray[np.int64]]

    def at_hand(self, taken: Iterable[TopicPartition]) -> AtHand:
        """The rows of these partitions, one after the other; columns that only rows of other streams have stay here."""
        rows, written = self.judged.rows, (*self.handoff.passed, *self.handoff.columns)
        found = {name: rows.columns[name] for name in written if name in rows.columns}
        for name in self.handoff.columns:
            if name not in found:
                found[name] = self._spread(self.judged.batch.columns[name])
        found[ROUTE] = Column(STRING, np.array(self.routes, np.object_))
        if self.digests and DIGEST not in found:
            found[DIGEST] = Column(INT64, rows.digests())
        if self.handoff.arrived and ARRIVED not in found:
            found[ARRIVED] = Column(INT64, rows.timestamps)
        return AtHand(found, np.concatenate([self.places[tp] for tp in taken]))

    def _spread(self, column: Column) -> Column:
        """A column of the rows that repeat none, over all rows."""
        size, fresh = self.judged.rows.size, self.judged.fresh
        if len(fresh) == size:
            return column
        values, valid = np.zeros(size, column.values.dtype), np.zeros(size, np.bool_)
        values[fresh], valid[fresh] = column.values, True if column.valid is None else column.valid
        return Column(column.type, values, valid)


class Merged(msgspec.Struct):
    """Rows of all streams of a stage, of which only some are decided; what the journal says of them.

    `fresh`, `duplicate`, `actions`: as in `Judged`, of all rows. `exact`: int64 (fresh rows, columns), what must come
    out equal on any machine. `batch`: the fresh rows as the steps with state saw them.
    """

    rows: Rows
    fresh: npt.NDArray[np.int64]
    duplicate: npt.NDArray[np.bool_]
    actions: npt.NDArray[np.uint8]
    exact: npt.NDArray[np.int64]
    batch: Batch


class Judged(msgspec.Struct):
    """Rows with their decisions, before encoding.

    `batch` holds the rows that are no duplicates, with every column the plan added; `fresh` their indices
    among `rows`. `actions`: uint8, one action code a row of `rows`, duplicates included. `merged`: where several
    streams enter the stage, all rows; those here are of the one that is decided. `statements`: rows of SQL statements.
    `told`: how many alerts, late rows and rows of statements were encoded, by (name, `Telling.what`).
    """

    rows: Rows
    batch: Batch
    fresh: npt.NDArray[np.int64]
    duplicate: npt.NDArray[np.bool_]
    decided: Decided
    actions: npt.NDArray[np.uint8]
    merged: Merged | None = None
    statements: list[Telling] = []
    told: Counter[tuple[str, str]] = msgspec.field(default_factory=Counter)

    @property
    def all_rows(self) -> Rows:
        """Of whichever stream."""
        return self.rows if self.merged is None else self.merged.rows

    @property
    def ran(self) -> Batch:
        """What the steps with state saw."""
        return self.batch if self.merged is None else self.merged.batch


class BatchTooLargeError(StreamprocError):
    """A feature block of the batch is larger than a record may be; `rows`: how many to take from now on."""

    def __init__(self, rows: int) -> None:
        super().__init__(f"a batch's feature block is too large, from now on {rows} rows a batch")
        self.rows = max(1, rows)


def check_size(computed: Computed, journal: str) -> None:
    """A record of the topic `journal` must fit into what the log takes: the rows that would about fill it are the new
    bound.

    Raises:
        BatchTooLargeError: one does not.
    """
    largest = 0
    for output in computed.outputs:
        if output.tp.topic == journal:
            size = len(output.values[0] or b"")
            for _, value in output.headers[0] if output.headers else ():
                size += len(value)
            largest = max(largest, size)
    if largest > _BLOCK_BYTES_MAX:
        rows = computed.judged.all_rows.size
        raise BatchTooLargeError(min(rows - 1, max(1, rows * _BLOCK_BYTES_AIM // largest)))


class BatchTooBadError(StreamprocError):
    """Too many rows of a batch fail to find them all in one go: undone; try again with fewer rows."""

    def __init__(self) -> None:
        super().__init__("too many rows of one batch fail in an operator")


OfStage = tuple[str, Judged]
"""Judged rows behind the name of their stage."""
