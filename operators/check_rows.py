"""Sample rows for the checks: seeded columns with ties, late rows, NULLs and keys that come again."""

from __future__ import annotations

__all__ = ["SampleRows", "sample_rows", "shrink"]

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from operators.batch import Batch, Column, TaskRows
from operators.event_values import column_of, python_values
from operators.schema import DataType, Kind

_START_MS = 1_600_000_000_000
_STEPS_MS = (0, 0, 1, 900, 60_000, 3_600_000)
_LATE_MS = 7_200_000
_SHRINK_TRIALS = 120
_SHOWN = 10


class SampleRows(NamedTuple):
    """Rows in order of arrival; tasks may be mixed.

    `task`, `event_time` (ms): int64 (rows,); `keys`: partition keys; `columns`: an operator's inputs.
    """

    task: npt.NDArray[np.int64]
    event_time: npt.NDArray[np.int64]
    keys: list[str]
    columns: dict[str, Column]

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.keys)

    def take(self, rows: Sequence[int]) -> SampleRows:
        """The rows at `rows`, in that order."""
        at = np.array(rows, np.intp)
        columns = {name: column.take(at) for name, column in self.columns.items()}
        return SampleRows(self.task[at], self.event_time[at], [self.keys[i] for i in rows], columns)

    def batch(self, rows: Sequence[int]) -> tuple[Batch, list[int]]:
        """A batch of `rows`, those of a task together; and which row each of its rows is."""
        order = sorted(rows, key=lambda row: int(self.task[row]))
        part = self.take(order)
        edges = [0, *(np.flatnonzero(np.diff(part.task)) + 1).tolist(), part.size]
        spans = [TaskRows(int(part.task[a]), a, b) for a, b in pairwise(edges) if a < b]
        return Batch(part.size, tuple(spans), part.event_time, part.keys, part.columns), order

    def table(self) -> str:
        """The first rows as text, one a line."""
        shown = self.take(range(min(self.size, _SHOWN)))
        head = ["task", "event_time", *self.columns]
        values = [shown.task.tolist(), shown.event_time.tolist(), *map(python_values, shown.columns.values())]
        lines = [head, *([_text(value) for value in row] for row in zip(*values, strict=True))]
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        texts = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        more = [f"... and {self.size - _SHOWN} more rows"] if self.size > _SHOWN else []
        return "\n".join(text.rstrip() for text in texts + more)


def sample_rows(
    types: Mapping[str, DataType], seed: int, *, size: int = 48, tasks: int = 2, never_null: Collection[str] = ()
) -> SampleRows:
    """Random rows of the given columns.

    Args:
        types: name -> type.
        seed: equal seeds give equal rows.
        size: rows.
        tasks: how many tasks they are of; each sees the same keys.
        never_null: columns without NULLs.
    """
    rng = np.random.default_rng(seed)
    clock = _START_MS + np.cumsum(rng.choice(_STEPS_MS, size))
    late = rng.random(size) < 0.12
    times = np.where(late, clock - rng.integers(1, _LATE_MS, size), clock).astype(np.int64)
    columns = {}
    for name, of_type in types.items():
        values = _values(of_type, times, rng)
        if name not in never_null:
            values = [None if rng.random() < 0.1 else value for value in values]
        columns[name] = column_of(of_type, values)
    key = next((name for name, of_type in types.items() if of_type.kind is Kind.STRING), None)
    keys = ["k"] * size if key is None else columns[key].values.tolist()
    return SampleRows(rng.integers(0, tasks, size), times, keys, columns)


def _values(of_type: DataType, times: npt.NDArray[np.int64], rng: np.random.Generator) -> list[Any]:
    """Physical values; few different ones, so that keys and values come again."""
    size = len(times)
    values: npt.NDArray[Any]
    match of_type.kind:
        case Kind.STRING:
            texts = np.array(["a", "b", "c", "d", "Zürich", ""], np.object_)
            values = texts[rng.choice(6, size, p=(0.3, 0.25, 0.2, 0.1, 0.1, 0.05))]
        case Kind.BOOL:
            values = rng.random(size) < 0.5
        case Kind.TIMESTAMP:
            values = times - np.where(rng.random(size) < 0.3, rng.integers(0, _LATE_MS, size), 0)
        case Kind.FLOAT64:
            odd = rng.choice((0.0, -1.5, 0.1, 1e12), size)
            values = np.where(rng.random(size) < 0.4, odd, rng.normal(0, 50, size).round(3))
        case _:
            small, large = rng.integers(-3, 12, size), rng.integers(-1_000, 1_000_000, size)
            values = np.where(rng.random(size) < 0.5, small, large)
    found: list[Any] = values.tolist()
    return found


def shrink(rows: SampleRows, fails: Callable[[SampleRows], bool]) -> SampleRows:
    """As few rows as can be found with which `fails` stays true; it is asked a bounded number of times."""
    trials = _SHRINK_TRIALS
    width = rows.size // 2
    while width and trials:
        at = 0
        while at < rows.size and rows.size > 1 and trials:
            rest = rows.take([row for row in range(rows.size) if not at <= row < at + width])
            trials -= 1
            if rest.size and fails(rest):
                rows = rest
            else:
                at += width
        width //= 2
    return rows


def _text(value: object) -> str:
    return "NULL" if value is None else repr(value) if isinstance(value, str) else str(value)
