"""What computing a transaction gives: plain data between engine, output encoder, transaction and metrics; and why it
may give nothing.
"""

from __future__ import annotations

__all__ = ["BatchTooBadError", "BatchTooLargeError", "Computed", "Judged", "Merged"]

from collections import Counter

import msgspec
import numpy as np
import numpy.typing as npt

from operators.batch import Batch
from operators.decide import Decided
from operators.timed.alerts import Telling
from state.errors import StreamprocError
from streamproc.eventlog.contract import OutputRecords, TopicPartition
from streamproc.runtime.partition_task import TaskHead
from streamproc.runtime.rows import Rows


class Computed(msgspec.Struct):
    """One transaction's worth of results; `heads`: where each task (by its input) stands once it is published."""

    heads: dict[TopicPartition, TaskHead]
    outputs: list[OutputRecords]
    judged: Judged


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


class BatchTooBadError(StreamprocError):
    """Too many rows of a batch fail to find them all in one go: undone; try again with fewer rows."""

    def __init__(self) -> None:
        super().__init__("too many rows of one batch fail in an operator")
