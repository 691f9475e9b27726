"""Score a batch with the versions of a registered model that are at work (serving.py says who plays which role)."""

from __future__ import annotations

__all__ = ["ServedScoreOperator", "ShadowBudget"]

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from models.manifest import Period
from operators.batch import Batch, Column
from operators.operator import INT64, STRING, OperatorContext, OutputField
from operators.schema import Kind
from operators.score import ScoringOperator
from operators.serving import Lineup, ServedModel, Version
from state.errors import ConfigError

_KNOWN = (Kind.STRING, Kind.INT64)
_LEARNING = 0.2
"""How much of what a row costs the last batch decides, if it was cheaper."""
_FADING = 0.98
"""What is left of a cost with each batch for which it was too much: one stall, or one slow batch of a single row, must
not keep a shadow out for ever. One that takes four times the budget is tried in one of 70 batches.
"""


class ShadowBudget:
    """What shadows may take of the time of a batch: one that would take more is not asked, the last ones first.

    `shed` counts the rows of which a shadow was not asked, by its version, for whoever tells of it.
    """

    def __init__(self, seconds: float) -> None:
        """Args:
        seconds: of a batch, for all shadows together; 0: all are always asked.
        """
        self.clock: Callable[[], float] | None = None
        self.shed: dict[int, int] = {}
        self._seconds = seconds
        self._cost: dict[int, float] = {}

    def allows(self, version: int, rows: int, spent: float) -> bool:
        """Whether a shadow may score so many rows, where others before it have taken `spent` seconds."""
        if not self._seconds or self.clock is None:
            return True
        cost = self._cost.get(version, 0.0)
        fits = spent + cost * rows <= self._seconds
        if not fits:
            self.shed[version] = self.shed.get(version, 0) + rows
            self._cost[version] = cost * _FADING
        return fits

    def took(self, version: int, rows: int, seconds: float) -> None:
        """Learn from a batch; what is dearer than it was known to be at once."""
        cost = seconds / rows
        known = self._cost.get(version, cost)
        self._cost[version] = max(cost, known + _LEARNING * (cost - known))

    def take_shed(self) -> dict[int, int]:
        """What `shed` has counted since the last time."""
        taken, self.shed = self.shed, {}
        return taken

    def seconds(self) -> float:
        """Of the clock; 0 without one."""
        return 0.0 if self.clock is None else self.clock()


class ServedScoreOperator(ScoringOperator):
    """Adds the columns of `ScoreOperator`, by the champion or, for its share of keys, the challenger.

        <name>.version   int64: which version the score is of; NULL where there is none
        <name>.shadows   string: what shadows say, {"14": 37.2501}, NULL without any; journaled, in no decision

    A shadow that fails has null, one that has no time nothing; nothing else changes. `by`: the column whose value says
    who has a challenger.
    """

    def __init__(
        self, served: ServedModel, features: Sequence[str], tiers: Mapping[str, float], by: OutputField,
        shadow_seconds: float,
    ) -> None:  # fmt: skip
        """Put a registered model into a plan.

        Args:
            served: its versions.
            features: the columns that the pipeline gives it.
            tiers: see `ScoreColumns`.
            by: the column whose value says who has a challenger: string or int64.
            shadow_seconds: see `ShadowBudget`.

        Raises:
            ConfigError: the tiers do not rise, or `by` is of another type.
        """
        if by.type.kind not in _KNOWN:
            raise ConfigError(f"model {served.name}: by: {by.name} is {by.type}, not string or int64")
        super().__init__(served.name, features, tiers)
        self.served = served
        self.budget = ShadowBudget(shadow_seconds)
        self.by = by.name
        self._version, self._shadows = f"{served.name}.version", f"{served.name}.shadows"

    @property
    def scored_by(self) -> dict[str, str]:
        """Of the versions at work."""
        return {str(one.number): getattr(one.model, "scored_by", "") for one in self.served.lineup.versions}

    @property
    def learned(self) -> dict[int, Period]:
        """Of champion and challenger."""
        deciding = (self.served.lineup.champion, self.served.lineup.challenger)
        periods = {one.number: getattr(one.model, "learned", None) for one in deciding if one is not None}
        return {number: period for number, period in periods.items() if period is not None}

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.features.names, self.by)))

    @property
    def outputs(self) -> tuple[OutputField, ...]:
        own = OutputField(self._version, INT64), OutputField(self._shadows, STRING)
        return (*self._columns.outputs, *own)

    def prepare(self) -> None:
        self.served.warm_up()

    def process(self, batch: Batch, context: OperatorContext) -> None:
        lineup, matrix = self.served.lineup, self.features.of(batch)
        rows = np.arange(batch.size) if batch.late is None else np.flatnonzero(~batch.late)
        scores = np.full(batch.size, np.nan)
        versions = np.zeros(batch.size, np.int64)
        if len(rows):
            given = matrix if len(rows) == batch.size else matrix[rows]
            scores[rows], versions[rows] = self._decisive(lineup, given, batch, rows)
        known = ~np.isnan(scores)
        self._columns.add(batch, scores)
        batch.columns[self._version] = Column(INT64, np.where(known, versions, 0), None if known.all() else known)
        # Rows past their deadline say that time is short: then shadows are the first to go.
        told = self._told(lineup.shadows, matrix) if len(rows) == batch.size else None
        batch.columns[self._shadows] = _texts(told, batch.size)

    def replay(self, batch: Batch, context: OperatorContext) -> None:
        """Nothing: no state depends on scores."""

    def _decisive(
        self, lineup: Lineup, matrix: npt.NDArray[np.float32], batch: Batch, rows: npt.NDArray[np.intp]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Scores that decide, and the versions they are of; `rows`: where those of the matrix stand in the batch."""
        champion, challenger = lineup.champion, lineup.challenger
        versions = np.full(len(rows), champion.number, np.int64)
        if challenger is None:
            return champion.score(matrix), versions
        mine = self.served.challenged(_keys(batch.columns[self.by], rows))
        scores = np.empty(len(rows))
        scores[~mine] = champion.score(matrix[~mine])
        scores[mine] = challenger.score(matrix[mine])
        versions[mine] = challenger.number
        return scores, versions

    def _told(
        self, shadows: Sequence[Version], matrix: npt.NDArray[np.float32]
    ) -> dict[int, npt.NDArray[np.float64]] | None:
        """Scores by version, of those that have time."""
        told: dict[int, npt.NDArray[np.float64]] = {}
        begun = before = self.budget.seconds()
        for shadow in shadows:
            if not (len(matrix) and self.budget.allows(shadow.number, len(matrix), before - begun)):
                continue
            told[shadow.number] = shadow.score(matrix)
            now = self.budget.seconds()
            self.budget.took(shadow.number, len(matrix), now - before)
            before = now
        return told or None


def _keys(column: Column, rows: npt.NDArray[np.intp]) -> list[str]:
    """What a challenger's share goes by; rows without a value are all alike."""
    values = column.values[rows]
    keys: list[str] = values.tolist() if column.type.kind is Kind.STRING else values.astype(str).tolist()
    if column.valid is not None:
        for row in np.flatnonzero(~column.valid[rows]).tolist():
            keys[row] = ""
    return keys


def _texts(told: Mapping[int, npt.NDArray[np.float64]] | None, size: int) -> Column:
    """One JSON object a row: scores by version."""
    if told is None:
        return Column(STRING, np.full(size, "", np.object_), np.zeros(size, np.bool_))
    parts = [
        [f'"{version}": null' if math.isnan(score) else f'"{version}": {score:.4f}' for score in scores.tolist()]
        for version, scores in told.items()
    ]
    texts = np.empty(size, np.object_)
    texts[:] = [f"{{{', '.join(row)}}}" for row in zip(*parts, strict=True)]
    return Column(STRING, texts, None)
