"""One life of an operator under check: an instance, its state, its stores; rows go in, values by row come out."""

from __future__ import annotations

__all__ = ["MakeOperator", "MakeParts", "Refused", "Result", "Run", "difference", "digest"]

import hashlib
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from operators.batch import Batch, Column
from operators.check_rows import SampleRows
from operators.operator import Operator
from state.errors import RecordError, StreamprocError
from state.memory import MemoryDisk, MemoryRowStores
from state.part import StatePart
from state.worker_state import WorkerState

MakeOperator = Callable[[], Operator]
MakeParts = Callable[[Operator], Sequence[StatePart]]
_CLOSE = 1e-12  # floats: their last bits may depend on how many rows numpy sees at once


class Refused(NamedTuple):
    """What a row comes to that cannot be computed. `unexpected`: the exception was no RecordError of the operator's."""

    why: str
    unexpected: bool


Result = tuple[Any, ...] | Refused
"""Physical values of the outputs, None for NULL."""


class Run:
    """A worker that runs nothing but one operator; `disk` is what an earlier one left behind."""

    def __init__(
        self, make: MakeOperator, tasks: Sequence[int], parts: MakeParts | None = None, disk: MemoryDisk | None = None
    ) -> None:
        self.operator = make()
        self.disk = disk or MemoryDisk(random.Random(0))  # noqa: S311 - no secrets: simulated faults
        self.stores = MemoryRowStores(self.disk)
        self.state = WorkerState(self.operator.tables, parts(self.operator) if parts else ())
        self._open = {task: self.stores.open(task) for task in tasks}
        for task, store in self._open.items():
            self.state.add_task(task, store)

    # ---- rows

    def feed(self, rows: SampleRows, cut: int = 0) -> dict[int, Result]:
        """All `rows` in batches of `cut` (0: in one), each published."""
        return self.go_on(rows, range(rows.size), cut)

    def go_on(self, rows: SampleRows, picked: Sequence[int], cut: int = 0) -> dict[int, Result]:
        """The same for the rows at `picked`."""
        found: dict[int, Result] = {}
        size = cut or max(1, len(picked))
        for start in range(0, len(picked), size):
            found |= self.transaction(rows, picked[start : start + size])
            self.state.publish()
        return found

    def transaction(self, rows: SampleRows, picked: Sequence[int]) -> dict[int, Result]:
        """One batch as the engine runs it: a row that fails is refused, the batch undone and run without it."""
        found: dict[int, Result] = {}
        left = list(picked)
        while left:
            batch, order = rows.batch(left)
            try:
                self.operator.process(batch, self.state)
                return found | self._results(batch, order)
            except RecordError as error:
                self.state.undo()
                bad = error.rows or (self._first_bad(rows, order),)
                if not all(0 <= row < len(order) for row in bad):
                    raise StreamprocError(f"RecordError names the rows {bad} of a batch of {len(order)}") from error
                refused = Refused(f"{error.reason} {error.detail}".strip(), error.reason == "operator_failed")
            except StreamprocError:
                raise
            except Exception as error:
                self.state.undo()
                bad = (self._first_bad(rows, order),)
                refused = Refused(type(error).__name__, unexpected=True)
            gone = {order[row] for row in bad}
            found |= dict.fromkeys(gone, refused)
            left = [row for row in left if row not in gone]
        return found

    def _results(self, batch: Batch, order: list[int]) -> dict[int, Result]:
        columns = [_visible(batch.columns[field.name]) for field in self.operator.outputs]
        return dict(zip(order, zip(*columns, strict=True), strict=True))

    def _first_bad(self, rows: SampleRows, order: list[int]) -> int:
        good, bad = 0, len(order)
        while bad - good > 1:
            middle = (good + bad) // 2
            try:
                self.operator.process(rows.batch(order[:middle])[0], self.state)
                good = middle
            except Exception:
                bad = middle
            finally:
                self.state.undo()
        return bad - 1

    # ---- state

    def flush(self) -> None:
        """Write what is dirty."""
        for task, store in self._open.items():
            self.state.cut(task, b"checked").write(store)

    def restart(self, make: MakeOperator, parts: MakeParts | None) -> Run:
        """The next process: it knows what was flushed and nothing else."""
        self.stores.kill()
        return Run(make, list(self._open), parts, self.disk)

    def digests(self) -> list[str]:
        """Of each task's state."""
        return [self.state.digest(task) for task in self._open]


def difference(fields: Sequence[str], found: Mapping[int, Result], wanted: Mapping[int, Result]) -> str | None:
    """Where the rows of `found` first differ from `wanted`; None: nowhere."""
    for row in sorted(found):
        mine, other = found[row], wanted[row]
        if isinstance(mine, Refused) or isinstance(other, Refused):
            if isinstance(mine, Refused) is not isinstance(other, Refused):
                return f"row {row} is {_outcome(mine)}, not {_outcome(other)}"
            continue
        for name, a, b in zip(fields, mine, other, strict=True):
            if not _same(a, b):
                return f"{name} of row {row} is {_shown(a)}, not {_shown(b)}"
    return None


def digest(results: Mapping[int, Result], states: Sequence[str]) -> str:
    """SHA-256 of results and state, as hex."""
    text = repr([(row, tuple(results[row])) for row in sorted(results)])
    return hashlib.sha256("\n".join([text, *states]).encode("utf-8", "surrogatepass")).hexdigest()


def _visible(column: Column) -> list[Any]:
    values: list[Any] = column.values.tolist()
    if column.valid is None:
        return values
    return [value if valid else None for value, valid in zip(values, column.valid.tolist(), strict=True)]


def _outcome(result: Result) -> str:
    return f"refused ({result.why})" if isinstance(result, Refused) else "computed"


def _shown(value: object) -> str:
    return "NULL" if value is None else repr(value)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=_CLOSE, abs_tol=0.0) or (math.isnan(a) and math.isnan(b))
    return type(a) is type(b) and bool(a == b)
