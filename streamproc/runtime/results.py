"""What computing a transaction gives: plain data between engine, output encoder, transaction and metrics."""

from __future__ import annotations

__all__ = ["Computed", "Judged"]

import msgspec
import numpy as np
import numpy.typing as npt

from operators.batch import Batch
from operators.decide import Decided
from streamproc.eventlog.contract import OutputRecords, TopicPartition
from streamproc.runtime.partition_task import TaskHead
from streamproc.runtime.rows import Rows


class Computed(msgspec.Struct):
    """One transaction's worth of results; `heads`: where each task (by its input) stands once it is published."""

    heads: dict[TopicPartition, TaskHead]
    outputs: list[OutputRecords]
    judged: Judged


class Judged(msgspec.Struct):
    """Rows with their decisions, before encoding.

    `batch` holds the rows that are no duplicates, with every column the plan added; `fresh` their indices
    among `rows`. `actions`: uint8, one action code a row of `rows`, duplicates included.
    """

    rows: Rows
    batch: Batch
    fresh: npt.NDArray[np.int64]
    duplicate: npt.NDArray[np.bool_]
    decided: Decided
    actions: npt.NDArray[np.uint8]
