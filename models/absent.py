"""What stands where a model is not loaded: it cannot be, or nobody asks it."""

from __future__ import annotations

__all__ = ["AbsentModel", "Blank", "or_absent"]

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from state.errors import ConfigError


class AbsentModel:
    """Gives no score to any row. `error`: why the model is not there."""

    width = 0
    digest = "0" * 64

    def __init__(self, error: ConfigError) -> None:
        self.error = error

    def score(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """NaN each."""
        return np.full(len(matrix), np.nan)


class Blank:
    """Stands where the model will, or where none is asked. Nothing may depend on its scores: all have the same one."""

    width = 0
    digest = "0" * 64

    def __init__(self, where: object) -> None:
        """`where`: the model is, which need not exist."""

    def score(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """0 each."""
        return np.zeros(len(matrix))


def or_absent(open_model: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`open_model`, with an `AbsentModel` in the place of a ConfigError.

    For workers: one that starts again at night must not stop deciding because a model has gone.
    """

    def opened(where: Any) -> Any:
        try:
            return open_model(where)
        except ConfigError as error:
            return AbsentModel(error)

    return opened
