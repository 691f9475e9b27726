"""What the journal says of each task of a transaction: what its tasks share is made once, and cut."""

from __future__ import annotations

__all__ = ["NO_ROWS", "Shared", "TaskSpan", "digest_of", "exact_matrix", "repeated", "spans_of"]

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from operators.batch import Column, Emitted
from streamproc.runtime.results import Judged, Merged


class TaskSpan(NamedTuple):
    """A task's rows, start..stop (exclusive), of which those that repeat none are first..last of all such rows."""

    start: int
    stop: int
    first: int
    last: int


NO_ROWS = TaskSpan(0, 0, 0, 0)


def spans_of(of: Judged | Merged) -> dict[int, TaskSpan]:
    """The rows of each task that has some."""
    spans = of.rows.spans
    if len(of.fresh) == of.rows.size:
        return {task: TaskSpan(start, stop, start, stop) for task, start, stop in spans}
    edges = np.searchsorted(of.fresh, [span[1:] for span in spans]).tolist()
    return {span.task: TaskSpan(span.start, span.stop, *edge) for span, edge in zip(spans, edges, strict=True)}


def exact_matrix(columns: Sequence[Column], size: int) -> npt.NDArray[np.int64]:
    """Columns of int64 and bool as int64 (rows, columns and some more), which does not depend on how a batch was cut.

    A NULL is 0 and a bit in one of the last columns: whether a mask exists depends on the batch's other rows.
    """
    count = len(columns)
    out = np.zeros((size, count + -(-count // 63)), np.int64)
    if not count:
        return out
    known = [(i, column.valid) for i, column in enumerate(columns) if column.valid is not None]
    told = [one.values if one.valid is None else one.values * one.valid for one in columns]
    out[:, :count] = np.concatenate(told, dtype=np.int64).reshape(count, size).T
    if known:
        flags = np.zeros((size, (out.shape[1] - count) * 64), np.bool_)
        flags[:, [i // 63 * 64 + i % 63 for i, _ in known]] = ~np.array([valid for _, valid in known]).T
        out[:, count:] = np.packbits(flags, axis=1, bitorder="little").view("<i8")
    return out


class Shared(NamedTuple):
    """What all tasks of a transaction share, as the journal tells it: of all streams that enter the stage.

    `exact`: int64 (fresh rows, columns); `actions`: a code a row; `refused` and `emitted`: by task; `texts`, of rows
    that are decided, whose spans are `decided`: one a row, if something is said of each.
    """

    of: Judged | Merged
    spans: Mapping[int, TaskSpan]
    actions: bytes
    exact: npt.NDArray[np.int64]
    emitted: Mapping[int, Sequence[Emitted]]
    decided: Mapping[int, TaskSpan]
    texts: Sequence[bytes]

    @staticmethod
    def make(
        judged: Judged, exact: npt.NDArray[np.int64], decided: Mapping[int, TaskSpan], texts: Sequence[bytes]
    ) -> Shared:
        """Of what was judged."""
        emitted: dict[int, list[Emitted]] = {}
        for one in judged.ran.emitted:
            emitted.setdefault(one.task, []).append(one)
        of = judged if judged.merged is None else judged.merged
        spans = decided if judged.merged is None else spans_of(of)
        return Shared(of, spans, of.actions.tobytes(), exact, emitted, decided, texts)


def digest_of(texts: Sequence[bytes]) -> bytes:
    """The journal's `output` digest of rows' texts."""
    return hashlib.sha256(b"\n".join(texts)).digest()


def repeated(of: Judged | Merged, span: TaskSpan) -> list[tuple[str, int]]:
    """(topic, offset) of a task's rows that repeat earlier ones."""
    rows, mine = of.rows, span.start + np.flatnonzero(of.duplicate[span.start : span.stop])
    topics = [""] * len(mine) if rows.streams is None else [rows.topics[n] for n in rows.streams[mine].tolist()]
    return list(zip(topics, rows.offsets[mine].tolist(), strict=True))
