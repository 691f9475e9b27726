"""The steps of a statement at work: rows by column, with the places that they come from."""

from __future__ import annotations

__all__ = ["Chain", "Relation", "true_rows"]

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from operators.batch import Batch, Column
from operators.expressions.program import Program
from operators.statements.spec import Computed, Kept, Step
from state.errors import RecordError

_CONDITION = "@condition"


class Relation(NamedTuple):
    """Rows by column; `places`: where each stood before the steps."""

    places: npt.NDArray[np.intp]
    columns: Mapping[str, Column]

    def take(self, rows: npt.NDArray[np.intp]) -> Relation:
        """The rows at these indices."""
        return Relation(self.places[rows], {key: column.take(rows) for key, column in self.columns.items()})


class Chain:
    """Runs steps, in order."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps: list[tuple[Step, Program | None]] = []
        for step in steps:
            if isinstance(step, Computed):
                self._steps.append((step, Program(step.expressions, {})))
            elif isinstance(step, Kept):
                self._steps.append((step, Program([(_CONDITION, step.condition)], {})))
            else:
                self._steps.append((step, None))

    def run(self, relation: Relation) -> Relation:
        """The rows behind the last step.

        Raises:
            RecordError: an expression fails; `rows` are places.
        """
        for step, program in self._steps:
            if program is None:
                assert not isinstance(step, Computed | Kept)
                relation = relation._replace(columns={new: relation.columns[key] for new, key in step.columns})
            elif isinstance(step, Computed):
                relation = relation._replace(columns={**relation.columns, **_ran(program, relation, step.time)})
            else:
                assert isinstance(step, Kept)
                found = _ran(program, relation, step.time)[_CONDITION]
                relation = relation.take(np.flatnonzero(true_rows(found)))
        return relation


def true_rows(column: Column) -> npt.NDArray[np.bool_]:
    """Where a bool column is TRUE: NULL is not."""
    found: npt.NDArray[np.bool_] = column.values if column.valid is None else column.values & column.valid
    return found


def _ran(program: Program, relation: Relation, time: str) -> dict[str, Column]:
    size = len(relation.places)
    times = relation.columns[time].values if time else np.zeros(size, np.int64)
    try:
        return program.run(Batch(size, (), times, [], dict(relation.columns)))
    except RecordError as error:
        places = tuple(int(relation.places[row]) for row in error.rows)
        raise RecordError(error.reason, error.detail, places) from error
