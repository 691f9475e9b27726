"""Runs a pattern over all rows of a table."""

from __future__ import annotations

__all__ = ["KEY", "Found", "matched"]

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from operators.batch import Batch, Column, TaskRows
from operators.operator import STRING
from operators.patterns.bounded import BoundedPattern
from state.errors import ConfigError, RecordError
from state.worker_state import WorkerState
from streamproc.language.match_recognize import CompiledMatch
from streamproc.sql.codes import Ints

KEY: Final = "match_key"
"""The column of what PARTITION BY says, as text."""


class Found(NamedTuple):
    """A line each: the number of its key, the row that it shows (of one row per match: the match's first one)."""

    codes: Ints
    rows: Ints
    measures: Mapping[str, list[Any]]


def matched(compiled: CompiledMatch, columns: Mapping[str, Column], times: Ints, codes: Ints, all_rows: bool) -> Found:
    """The lines of all matches, as they are found; `codes`: rows with equal ones are of one key.

    Raises:
        ConfigError: a number is too large.
    """
    size = len(times)
    keys = list(map(str, codes.tolist()))
    batch = Batch(
        size, (TaskRows(0, 0, size),), times, keys, {**columns, KEY: Column(STRING, np.array(keys, np.object_))}
    )
    pattern = BoundedPattern(compiled.spec, all_rows=all_rows)
    lines = []
    if size:
        state = WorkerState(tuple(table for step in compiled.steps for table in step.tables))
        try:
            for step in compiled.steps:
                step.process(batch, state)
            lines = [*pattern.process(batch), *pattern.finish()]
        except RecordError as error:
            raise ConfigError(f"a number is too large, {error.detail or 'in a pattern'}") from None
    order = np.argsort(codes, kind="stable")
    begins = np.searchsorted(codes[order], np.arange(int(codes.max(initial=-1)) + 1))
    found = np.array([int(line.key) for line in lines], np.int64)
    numbers = np.array([line.row for line in lines], np.int64)
    rows = order[np.minimum(begins[found] + numbers, size - 1)] if lines else numbers
    measures = {name: [line.measures[name] for line in lines] for name, _ in compiled.spec.measures}
    return Found(found, rows, measures)
