"""Linear models: a feature's share is its weight times its standardised value, and the base is the intercept."""

from __future__ import annotations

__all__ = ["LinearShares", "read_linear"]

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.explaining.graph import OnnxNode, Tensor
from state.errors import ConfigError

Floats = npt.NDArray[np.float64]
CHAIN = ("Imputer", "Scaler", "Clip", "Gemm")
"""What `models.training.export.linear_model` writes."""


class LinearShares(NamedTuple):
    """A missing value stands for the mean, as for the model: it adds nothing."""

    weights: Floats
    base: float
    means: Floats
    offset: Floats
    scale: Floats
    low: float
    high: float

    def of(self, matrix: npt.NDArray[np.float32]) -> Floats:
        """(rows, features) shares."""
        whole = np.where(np.isnan(matrix), self.means, matrix.astype(np.float64))
        return np.asarray(np.clip((whole - self.offset) * self.scale, self.low, self.high) * self.weights)

    def sums(self, matrix: npt.NDArray[np.float32]) -> Floats:
        """The raw score of each row, to the bit whatever rows are beside it: `@` gives no such promise."""
        whole = np.where(np.isnan(matrix), self.means, matrix.astype(np.float64))
        scaled = np.clip((whole - self.offset) * self.scale, self.low, self.high)
        return np.asarray(np.einsum("rf,f->r", scaled, self.weights) + self.base)


def read_linear(nodes: Sequence[OnnxNode], constants: Mapping[str, Tensor], width: int) -> LinearShares:
    """The linear model of the first nodes.

    Raises:
        ConfigError: they are another model, or hold what fits no other.
    """
    if tuple(node.operation for node in nodes[:4]) != CHAIN:
        raise ConfigError("it is neither an ensemble of trees nor a linear model of `streamproc train`")
    imputer, scaler, clip, product = nodes[:4]
    try:
        low, high = (float(constants[name].values[0]) for name in clip.inputs[1:3])
        weights, bias = (constants[name].values.astype(np.float64) for name in product.inputs[1:3])
    except (KeyError, ValueError, IndexError):
        raise ConfigError("its constants are missing") from None
    means, offset, scale = (
        node.floats(name).astype(np.float64)
        for node, name in ((imputer, "imputed_value_floats"), (scaler, "offset"), (scaler, "scale"))
    )
    if {len(weights), len(means), len(offset), len(scale)} != {width} or len(bias) != 1:
        raise ConfigError(f"its constants are not those of {width} features")
    return LinearShares(weights, float(bias[0]), means, offset, scale, low, high)
