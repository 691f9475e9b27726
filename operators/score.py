"""Score a batch with a model: one call for all its rows, tasks mixed. See served_score.py for models of a registry."""

from __future__ import annotations

__all__ = ["FeatureMatrix", "Model", "ScoreColumns", "ScoreOperator", "ScoringOperator", "fill_matrix", "warm_up"]

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt

from models.manifest import Period
from operators.batch import Batch, Column
from operators.operator import Operator, OperatorContext, OutputField
from operators.schema import DataType, Kind
from state.errors import ConfigError

BOOL = DataType(Kind.BOOL)
FLOAT64 = DataType(Kind.FLOAT64)
STRING = DataType(Kind.STRING)


class Model(Protocol):
    """What scores (models.onnx.OnnxModel)."""

    width: int

    def score(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Scores 0-100 of float32 rows; NaN where there is none."""
        ...


def warm_up(model: object) -> None:
    """Let a model that takes its time to make ready do so now: results are the same."""
    if (ready := getattr(model, "warm_up", None)) is not None:
        ready()


class FeatureMatrix:
    """What a model is given, and learned from: float32, decimals in major units (12.34), bools as 0 and 1, NULL as NaN.

    `names`: the columns it takes, in the model's order.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._matrix = np.empty((64, len(self.names)), np.float32)  # scratch: grows to the largest batch

    def of(self, batch: Batch) -> npt.NDArray[np.float32]:
        """The rows of a batch: float32 (rows, features), C-contiguous, valid until the next call."""
        if len(self._matrix) < batch.size:
            self._matrix = np.empty((2 * batch.size, len(self.names)), np.float32)
        matrix = self._matrix[: batch.size]
        fill_matrix(matrix, self.names, batch.columns.__getitem__)
        return matrix


def fill_matrix(matrix: npt.NDArray[np.float32], names: Sequence[str], column: Callable[[str], Column]) -> None:
    """Write the columns of these names into the matrix of as many rows.

    Raises:
        ConfigError: one is a string.
    """
    with np.errstate(over="ignore"):  # beyond float32 is infinity: trees still compare it
        for i, name in enumerate(names):
            of_type, values, valid = column(name)
            if of_type.kind is Kind.STRING:
                raise ConfigError(f"feature {name} is a string; a model takes numbers and bools")
            matrix[:, i] = values / 10.0**of_type.scale if of_type.scale else values
            if valid is not None:
                matrix[~valid, i] = np.nan


class ScoreColumns:
    """The columns that a model of this name adds."""

    def __init__(self, name: str, tiers: Mapping[str, float]) -> None:
        """Args:
            name: the model's name in the pipeline.
            tiers: name -> score from which on it holds, rising; a score below the first has no tier.

        Raises:
            ConfigError: the tiers do not rise.
        """
        bounds = list(tiers.values())
        if any(low >= high for low, high in pairwise(bounds)):
            raise ConfigError(f"model {name}: tiers must rise", hint="tiers: {low: 0, medium: 40, high: 80}")
        self._score, self._failed, self._tier = f"{name}.score", f"{name}.failed", f"{name}.tier"
        self._bounds = np.array(bounds, np.float64)
        self._tiers = np.array(["", *tiers], np.object_)

    @property
    def outputs(self) -> tuple[OutputField, ...]:
        """What is added."""
        always = OutputField(self._score, FLOAT64), OutputField(self._failed, BOOL)
        return (*always, OutputField(self._tier, STRING)) if len(self._bounds) else always

    def add(self, batch: Batch, scores: npt.NDArray[np.float64]) -> None:
        """Give each row its score, in `scores`, which is taken over; NaN: there is none."""
        missing = np.isnan(scores)
        valid = None
        if missing.any():
            valid = ~missing
            scores[missing] = 0.0
        batch.columns[self._score] = Column(FLOAT64, scores, valid)
        asked = None if batch.late is None else ~batch.late
        batch.columns[self._failed] = Column(BOOL, missing if asked is None else missing & asked, asked)
        if len(self._bounds):
            tier = np.searchsorted(self._bounds, scores, side="right")
            if valid is not None:
                tier[missing] = 0
            known = tier > 0
            batch.columns[self._tier] = Column(STRING, self._tiers[tier], None if known.all() else known)


class ScoringOperator(Operator):
    """What scores, with one model (`ScoreOperator`) or with versions of a registered one (`ServedScoreOperator`)."""

    def __init__(self, name: str, features: Sequence[str], tiers: Mapping[str, float]) -> None:
        self.name = name
        self.features = FeatureMatrix(features)
        self._columns = ScoreColumns(name, tiers)

    @property
    @abstractmethod
    def scored_by(self) -> dict[str, str]:
        """What computes the scores of each version, if it says so."""

    @property
    @abstractmethod
    def learned(self) -> dict[int, Period]:
        """What the versions that decide were trained on, by number, as far as manifests say so."""


class ScoreOperator(ScoringOperator):
    """Adds `<name>.score` (float64, 0-100), `<name>.failed` (bool) and, where there are tiers, `<name>.tier` (string).

    A score the model cannot give (NaN) is NULL, and so is its tier; then it has failed. Of rows past their deadline it
    is not asked: all three are NULL. A silent replay does not score: no state depends on it.
    """

    def __init__(self, name: str, model: Model, features: Sequence[str], tiers: Mapping[str, float]) -> None:
        """Put a model into a plan.

        Args:
            name: the model's name in the pipeline.
            model: the loaded model.
            features: the columns it takes, in its order.
            tiers: see `ScoreColumns`.

        Raises:
            ConfigError: the model takes another number of features, or the tiers do not rise.
        """
        if model.width not in (0, len(features)):
            raise ConfigError(
                f"model {name} takes {model.width} features, the pipeline gives it {len(features)}",
                hint="list the features it was trained with, in that order",
            )
        super().__init__(name, features, tiers)
        self._model = model

    @property
    def scored_by(self) -> dict[str, str]:
        """Of the model's file."""
        return {"file": getattr(self._model, "scored_by", "")}

    @property
    def learned(self) -> dict[int, Period]:
        """Under 0, if there is a manifest beside the file."""
        period = getattr(self._model, "learned", None)
        return {} if period is None else {0: period}

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.features.names

    @property
    def outputs(self) -> tuple[OutputField, ...]:
        return self._columns.outputs

    def prepare(self) -> None:
        warm_up(self._model)

    def process(self, batch: Batch, context: OperatorContext) -> None:
        self._columns.add(batch, self._scores(batch))

    def replay(self, batch: Batch, context: OperatorContext) -> None:
        """Nothing: no state depends on scores."""

    def _scores(self, batch: Batch) -> npt.NDArray[np.float64]:
        """One a row; NaN where there is none."""
        matrix = self.features.of(batch)
        if batch.late is None:
            return self._model.score(matrix)
        scores = np.full(batch.size, np.nan)
        if not batch.late.all():
            scores[~batch.late] = self._model.score(matrix[~batch.late])
        return scores
