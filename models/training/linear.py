"""Logistic regression by Newton's method: a base line, and what calibrates the others."""

from __future__ import annotations

__all__ = ["LogisticRegression", "fit_sigmoid", "sigmoid"]

import json
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from models.training.export import CLIP, linear_model
from models.training.history import History
from models.training.learners import Options, Value

Floats = npt.NDArray[np.float64]
_STEPS = 50
_ENOUGH = 1e-10


def sigmoid(odds: Floats) -> Floats:
    """Log-odds -> probability; far ones do not overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * odds)))


def _newton(columns: Floats, wanted: Floats, weights: Floats, penalty: Floats) -> Floats:
    """The coefficients of least weighted log-loss plus penalty * coefficient^2 / 2.

    A step that would make it worse is halved.
    """

    def loss(found: Floats) -> float:
        odds = columns @ found
        return float(weights @ (np.logaddexp(0, odds) - wanted * odds) + penalty @ found**2 / 2)

    found = np.zeros(columns.shape[1])
    now = loss(found)
    for _ in range(_STEPS):
        chance = sigmoid(columns @ found)
        slope = columns.T @ (weights * (chance - wanted)) + penalty * found
        curve = (columns * (weights * chance * (1 - chance))[:, None]).T @ columns + np.diag(penalty + 1e-12)
        step, then = np.linalg.solve(curve, slope), np.inf
        while (then := loss(found - step)) > now and np.abs(step).max() > _ENOUGH:
            step = step / 2
        if then > now or np.abs(step).max() < _ENOUGH:
            break
        found, now = found - step, then
    return found


def fit_sigmoid(raw: Floats, labels: npt.NDArray[np.int8]) -> tuple[float, float]:
    """Slope and intercept that turn log-odds into probabilities (Platt, 1999), his smoothed targets included.

    A slope that is not positive would turn the order round: then (1, 0), the scores as they are.
    """
    frauds = int((labels == 1).sum())
    wanted = np.where(labels == 1, (frauds + 1) / (frauds + 2), 1 / (len(labels) - frauds + 2))
    columns = np.stack([raw, np.ones(len(raw))], axis=1)
    slope, intercept = _newton(columns, wanted, np.ones(len(raw)), np.zeros(2)).tolist()
    return (slope, intercept) if slope > 0 else (1.0, 0.0)


class LogisticRegression:
    """On standardised features; a missing value counts as the mean."""

    libraries: tuple[str, ...] = ()

    def usual(self) -> Mapping[str, Value]:
        return {"l2": 1.0}

    def drawn(self, random: np.random.Generator) -> Mapping[str, Value]:
        return {"l2": round(float(np.exp(random.uniform(np.log(0.01), np.log(1000.0)))), 4)}

    def fit(self, rows: History, parameters: Mapping[str, Value], options: Options) -> _Linear:
        matrix = np.where(np.isfinite(rows.matrix), rows.matrix, np.nan).astype(np.float64)
        known = np.isfinite(matrix)
        counts = np.maximum(known.sum(axis=0), 1)
        means = np.where(known, matrix, 0.0).sum(axis=0) / counts
        scales = np.sqrt(np.where(known, (matrix - means) ** 2, 0.0).sum(axis=0) / counts)
        # What serving has: float32.
        means = means.astype(np.float32).astype(np.float64)
        fitted = _Linear(rows.names, means, np.where(scales > 0, scales, 1.0), np.zeros(len(means)), 0.0)
        columns = np.concatenate([fitted.standard(rows.matrix), np.ones((len(matrix), 1))], axis=1)
        penalty = np.append(np.full(len(means), float(parameters["l2"])), 0.0)
        wanted = (rows.labels == 1).astype(np.float64)
        *weights, intercept = _newton(columns, wanted, options.weights(rows.labels), penalty).tolist()
        return _Linear(rows.names, means, fitted.scales, np.array(weights), intercept)


class _Linear:
    def __init__(
        self, names: tuple[str, ...], means: Floats, scales: Floats, weights: Floats, intercept: float
    ) -> None:
        self.scales = scales
        self._names, self._means, self._weights, self._intercept = names, means, weights, intercept

    def standard(self, matrix: npt.NDArray[np.float32]) -> Floats:
        whole = np.where(np.isnan(matrix), self._means, matrix.astype(np.float64))
        return np.asarray(np.clip((whole - self._means) / self.scales, -CLIP, CLIP))

    def raw(self, matrix: npt.NDArray[np.float32]) -> Floats:
        return np.asarray(self.standard(matrix) @ self._weights + self._intercept)

    def text(self) -> str:
        columns = zip(self._names, self._weights.tolist(), self._means.tolist(), self.scales.tolist(), strict=True)
        each = {name: {"weight": weight, "mean": mean, "scale": scale} for name, weight, mean, scale in columns}
        return json.dumps({"intercept": self._intercept, "features": each}, indent=2) + "\n"

    def onnx(self, slope: float, intercept: float) -> bytes:
        bias = slope * self._intercept + intercept
        return linear_model(slope * self._weights, bias, self._means, self.scales)
