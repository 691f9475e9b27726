"""A case through the whole language: text -> clauses -> program; rows at once, or one by one with every state written
and read again between any two.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import numpy as np

from operators.batch import Batch, TaskRows
from operators.operator import INT64, STRING, OutputField
from operators.patterns.bounded import BoundedPattern, Line
from operators.patterns.matcher import KeyRuns
from state.errors import Place
from state.worker_state import WorkerState
from streamproc.language.match_recognize import compile_match
from streamproc.language.patterns.clauses import parse_clauses
from tests.operators.samples import column

FIELDS = {
    "key": OutputField("key", STRING, False),
    "value": OutputField("value", INT64),
    "kind": OutputField("kind", STRING),
    "name": OutputField("name", STRING),
    "volume": OutputField("volume", INT64),
}


class Row(NamedTuple):
    """A row of the table that all cases are about; `time`: ms."""

    time: int
    key: str = "k"
    kind: str | None = None
    name: str | None = None
    value: int | None = None
    volume: int | None = None


def lines(text: str, rows: list[Row], cut: int) -> list[Line]:
    """What a statement says of rows, in batches of `cut`, each read by a process of its own."""
    clause = parse_clauses(text, Place("case"))
    compiled = compile_match(clause, FIELDS, "key")
    state = WorkerState(tuple(table for step in compiled.steps for table in step.tables))
    pattern = BoundedPattern(compiled.spec, all_rows=clause.rows == "ALL")
    found: list[Line] = []
    for begin in range(0, len(rows), cut):
        batch = batch_of(rows[begin : begin + cut])
        for step in compiled.steps:
            step.process(batch, state)
        state.publish()
        found += pattern.process(batch)
        pattern = _restored(pattern, all_rows=clause.rows == "ALL")
    return found + pattern.finish()


def batch_of(rows: list[Row]) -> Batch:
    size = len(rows)
    columns = {
        "key": column("string", [row.key for row in rows]),
        "kind": column("string", [row.kind for row in rows]),
        "name": column("string", [row.name for row in rows]),
        "value": column("int64", [row.value for row in rows]),
        "volume": column("int64", [row.volume for row in rows]),
    }
    times = np.array([row.time for row in rows], np.int64)
    return Batch(size, (TaskRows(0, 0, size),), times, [row.key for row in rows], columns)


def _restored(pattern: BoundedPattern, *, all_rows: bool) -> BoundedPattern:
    """Another process, which has the bytes."""
    stored = msgspec.msgpack.encode((pattern.states, pattern.rows))
    fresh = BoundedPattern(pattern.spec, all_rows=all_rows)
    kind: Any = tuple[dict[str, KeyRuns], dict[str, list[list[Any]]]]
    fresh.states, rows = msgspec.msgpack.decode(stored, type=kind)
    fresh.rows = dict(rows)
    return fresh
