"""A model's file -> what explains its scores."""

from __future__ import annotations

__all__ = ["Explained", "Explainer"]

import hashlib
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from models.explaining.graph import read_graph
from models.explaining.linear import read_linear
from models.explaining.shapley import TreeShares
from models.explaining.trees import read_trees
from state.errors import ConfigError

Floats = npt.NDArray[np.float64]
ADDITIVE = 1e-6
"""How far the shares may miss the raw score, in log-odds."""
_SCORE_TOLERANCE = 2e-3
"""Of 0-100: a file scores in float32, and 1e-5 of a probability may be lost by exporting it."""
_ENSEMBLES = ("TreeEnsembleRegressor", "TreeEnsembleClassifier")


class _Sums(Protocol):
    def sums(self, matrix: npt.NDArray[np.float32]) -> Floats: ...


class _Shares(Protocol):
    @property
    def base(self) -> float: ...
    def of(self, matrix: npt.NDArray[np.float32]) -> Floats: ...


class Explained(NamedTuple):
    """Of some rows: `shares` (rows, features) and `base` add up to `raw`, the log-odds of fraud; `additive` where
    they do within 1e-6, `fits` where the given score is the one that `raw` means.
    """

    shares: Floats
    base: float
    raw: Floats
    additive: npt.NDArray[np.bool_]
    fits: npt.NDArray[np.bool_]


class Explainer:
    """Explains scores of one model. `digest`: SHA-256 of its file, hex; `names`: its features, in its order."""

    def __init__(self, content: bytes, names: Sequence[str]) -> None:
        """Read the model from its file's bytes.

        Raises:
            ConfigError: it is none that can be explained; says why.
        """
        self.digest = hashlib.sha256(content).hexdigest()
        self.names = tuple(names)
        nodes, constants = read_graph(content)
        ensembles = [node for node in nodes if node.operation in _ENSEMBLES]
        if ensembles:
            if len(ensembles) > 1:
                raise ConfigError("it has several ensembles of trees")
            trees = read_trees(ensembles[0], len(names))
            self._sums: _Sums = trees
            self._shares: _Shares = TreeShares(trees, len(names))
        else:
            self._sums = self._shares = read_linear(nodes, constants, len(names))

    def explain(self, matrix: npt.NDArray[np.float32], scores: Floats) -> Explained:
        """The shares of each row of `matrix`, as the model was given it; `scores` (0-100): what it made of them."""
        shares, raw = self._shares.of(matrix), self._sums.sums(matrix)
        additive = np.abs(shares.sum(axis=1) + self._shares.base - raw) <= ADDITIVE
        fits = np.abs(50 * (1 + np.tanh(raw / 2)) - scores) <= _SCORE_TOLERANCE
        return Explained(shares, self._shares.base, raw, additive, fits)
