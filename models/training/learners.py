"""What every algorithm is to the rest of training."""

from __future__ import annotations

__all__ = ["Fitted", "Learner", "Options", "Value"]

from collections.abc import Mapping
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from models.training.history import History

Value = int | float


class Options(msgspec.Struct, frozen=True):
    """What holds for every trial. `positive_weight`: of a fraud, beside a legitimate payment's 1; 0: so that both kinds
    weigh the same. `increasing`, `decreasing`: features that may move the score that way only.
    """

    seed: int = 1
    threads: int = 1
    positive_weight: float = 1.0
    increasing: tuple[str, ...] = ()
    decreasing: tuple[str, ...] = ()

    def weights(self, labels: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
        """One a row."""
        frauds = int((labels == 1).sum())
        weight = self.positive_weight or (len(labels) - frauds) / frauds
        return np.where(labels == 1, weight, 1.0)


class Fitted(Protocol):
    """A model that has learned."""

    def raw(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Log-odds of fraud, by the library itself."""
        ...

    def text(self) -> str:
        """The library's own text of it."""
        ...

    def onnx(self, slope: float, intercept: float) -> bytes:
        """An ONNX classifier that gives sigmoid(slope * raw + intercept)."""
        ...


class Learner(Protocol):
    """An algorithm. `libraries`: packages whose versions decide what comes out."""

    libraries: tuple[str, ...]

    def usual(self) -> Mapping[str, Value]:
        """The parameters that are tried first."""
        ...

    def drawn(self, random: np.random.Generator) -> Mapping[str, Value]:
        """Other ones."""
        ...

    def fit(self, rows: History, parameters: Mapping[str, Value], options: Options) -> Fitted:
        """Learn; all labels are known."""
        ...
