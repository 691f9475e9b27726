"""A tree ensemble of an ONNX file as a flat table, checked before anything follows it.

The ONNX file and not the library's own text: it is what scored, to the float32 threshold and with its calibration; its
digest is what a decision names; and one reader serves LightGBM, XGBoost and what others export. What TreeSHAP
needs besides, how many training rows came through each node, has its place there, too: `nodes_hitrates`.
"""

from __future__ import annotations

__all__ = ["TreeTable", "read_trees"]

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.explaining.graph import OnnxNode
from state.errors import ConfigError

Ints = npt.NDArray[np.int64]
NODES_MAX, DEPTH_MAX = 2_000_000, 64
_COVER_TOLERANCE = 1e-3
_LEAF, _AT_MOST, _BELOW = "LEAF", "BRANCH_LEQ", "BRANCH_LT"


class TreeTable(NamedTuple):
    """Nodes of all trees, a row each. `feature` -1: a leaf, with a `value`. Else `x <= threshold` leads to node `left`,
    more to `right`, NaN to `left` if `missing_left`. `cover`: rows of training that came through it, or their weight.

    `roots`: the first node of each tree. `base`: added to the sum of the leaves. `depth`: of the deepest leaf.
    """

    feature: Ints
    threshold: npt.NDArray[np.float32]
    left: Ints
    right: Ints
    missing_left: npt.NDArray[np.bool_]
    value: npt.NDArray[np.float64]
    cover: npt.NDArray[np.float64]
    roots: Ints
    base: float
    depth: int

    def sums(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """The raw score of each row, by walking down every tree."""
        at = np.broadcast_to(self.roots, (len(matrix), len(self.roots))).copy()
        rows = np.arange(len(matrix))[:, None]
        for _ in range(self.depth):
            feature = self.feature[at]
            values = matrix[rows, np.maximum(feature, 0)]
            left = np.where(np.isnan(values), self.missing_left[at], values <= self.threshold[at])
            at = np.where(feature < 0, at, np.where(left, self.left[at], self.right[at]))
        return np.asarray(self.value[at].sum(axis=1) + self.base)


def read_trees(node: OnnxNode, width: int) -> TreeTable:
    """The ensemble of a TreeEnsembleRegressor or -Classifier over `width` features.

    Raises:
        ConfigError: it is wrong, too large, or of a kind that is not explained; says what.
    """
    trees, numbers = node.ints("nodes_treeids"), node.ints("nodes_nodeids")
    size = len(trees)
    if not 0 < size <= NODES_MAX:
        raise ConfigError(f"it has {size:,} nodes; up to {NODES_MAX:,} are explained")
    modes = np.array(node.strings("nodes_modes"))
    columns = {name: node.ints(f"nodes_{name}") for name in ("featureids", "truenodeids", "falsenodeids")}
    values, cover = node.floats("nodes_values"), node.floats("nodes_hitrates").astype(np.float64)
    missing = node.ints("nodes_missing_value_tracks_true")
    missing = missing if len(missing) else np.zeros(size, np.int64)
    lengths = [len(one) for one in (numbers, modes, *columns.values(), values, missing)]
    if any(length != size for length in lengths):
        raise ConfigError("its lists of nodes differ in length")
    if len(cover) != size:
        raise ConfigError("it does not say how many rows came through its nodes", hint="train it anew")
    if unknown := set(modes.tolist()) - {_LEAF, _AT_MOST, _BELOW}:
        raise ConfigError(f"it has branches of the kind {min(unknown)[:40]}")
    leaf = modes == _LEAF
    feature = np.where(leaf, -1, columns["featureids"])
    if (feature >= width).any() or (feature[~leaf] < 0).any():
        raise ConfigError(f"it splits by a feature that is none of the {width}")
    index = _Index(trees, numbers)
    left, right = index.of(trees, columns["truenodeids"], ~leaf), index.of(trees, columns["falsenodeids"], ~leaf)
    # What is below a float32 is at most the one before.
    threshold = np.where(modes == _BELOW, np.nextafter(values, np.float32(-np.inf)), values)
    if np.isnan(threshold[~leaf]).any() or not np.isfinite(cover).all():
        raise ConfigError("it has a threshold or a count that is no number")
    roots, depth = _walked(left, right, leaf)
    table = TreeTable(
        feature, threshold.astype(np.float32), left, right, missing != 0, _weights(node, index, leaf), cover, roots,
        _base(node), depth,
    )  # fmt: skip
    _check_cover(table)
    return table


class _Index:
    """(tree, number) -> row of the table."""

    def __init__(self, trees: Ints, numbers: Ints) -> None:
        pairs = list(zip(trees.tolist(), numbers.tolist(), strict=True))
        self._rows = {pair: row for row, pair in enumerate(pairs)}
        if len(self._rows) < len(pairs):
            raise ConfigError("it has two nodes of one number")

    def of(self, trees: Ints, numbers: Ints, wanted: npt.NDArray[np.bool_]) -> Ints:
        """Rows of the wanted ones; -1 for the others.

        Raises:
            ConfigError: there is no such node.
        """
        found = np.full(len(trees), -1, np.int64)
        for place in np.flatnonzero(wanted).tolist():
            row = self._rows.get((int(trees[place]), int(numbers[place])))
            if row is None:
                raise ConfigError("a node leads to one that is not there")
            found[place] = row
        return found


def _walked(left: Ints, right: Ints, leaf: npt.NDArray[np.bool_]) -> tuple[Ints, int]:
    """(roots, depth), once each node is reached by exactly one way from a root."""
    children = np.concatenate([left[~leaf], right[~leaf]])
    reached = np.bincount(children, minlength=len(leaf))
    if (reached > 1).any():
        raise ConfigError("two ways lead to one node")
    roots = np.flatnonzero(reached == 0)
    level, seen, depth = roots, len(roots), 0
    while (inner := level[~leaf[level]]).size:
        level = np.concatenate([left[inner], right[inner]])
        seen, depth = seen + len(level), depth + 1
        if depth > DEPTH_MAX:
            raise ConfigError(f"it is deeper than {DEPTH_MAX} levels")
    if seen < len(leaf):
        raise ConfigError("some of its nodes lead round in a circle")
    return roots, depth


def _weights(node: OnnxNode, index: _Index, leaf: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    kind = "class" if node.operation == "TreeEnsembleClassifier" else "target"
    trees, numbers = node.ints(f"{kind}_treeids"), node.ints(f"{kind}_nodeids")
    weights, targets = node.floats(f"{kind}_weights").astype(np.float64), node.ints(f"{kind}_ids")
    if not len(trees) == len(numbers) == len(weights) == len(targets) or len(set(targets.tolist())) > 1:
        raise ConfigError("it does not give one number a leaf: only binary classifiers are explained")
    found = np.zeros(len(leaf))
    rows = index.of(trees, numbers, np.ones(len(trees), np.bool_))
    if not leaf[rows].all() or len(set(rows.tolist())) < len(rows) or not np.isfinite(weights).all():
        raise ConfigError("its leaves have no weight, two of them, or one that is no number")
    found[rows] = weights
    return found


def _base(node: OnnxNode) -> float:
    aggregate = node.string("aggregate_function", "SUM")
    if aggregate != "SUM":
        raise ConfigError(f"its trees are joined by {aggregate[:20]}, not by their sum")
    base = node.floats("base_values")
    if len(base) > 1 or not np.isfinite(base).all():
        raise ConfigError("it does not begin from one number: only binary classifiers are explained")
    return float(base[0]) if len(base) else 0.0


def _check_cover(table: TreeTable) -> None:
    """What comes through a node comes through its children: some exporters write 1 everywhere."""
    inner = table.feature >= 0
    whole = table.cover[inner]
    parts = table.cover[table.left[inner]] + table.cover[table.right[inner]]
    if (table.cover < 0).any() or (whole <= 0).any() or (np.abs(parts - whole) > _COVER_TOLERANCE * whole).any():
        raise ConfigError("it does not say how many rows came through its nodes", hint="train it anew")
