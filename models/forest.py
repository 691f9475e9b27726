"""The trees of an ONNX file as flat arrays for `models.quickscorer`, and what is left of the graph without them.

Nothing in a file is believed: trees are walked once, level by level, before anything counts by their numbers.
"""

from __future__ import annotations

__all__ = ["LEAVES_MAX", "Forest", "UnfitError", "read_forest", "sample_rows"]

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

NODES_MAX, TREES_MAX, WIDTH_MAX, BYTES_MAX = 1_000_000, 20_000, 4_096, 64 << 20
LEAVES_MAX = 64
_KINDS = {"TreeEnsembleRegressor": "target", "TreeEnsembleClassifier": "class"}
_MODES = {b"LEAF", b"BRANCH_LEQ", b"BRANCH_LT"}
_ROWS = 300
"""Of a sample: more than a block of `models.quickscorer`, and no multiple of eight."""


class UnfitError(Exception):
    """The graph is none that is scored by its trees; says why."""


class Forest(NamedTuple):
    """Trees of up to 32 leaves (masks are int32) or 64 (int64), numbered from the left, where true leads.

    Inner nodes, those of a tree from `starts[tree]` to `starts[tree + 1]`: `feature` <= `threshold` is true, of NaN
    where `missing`. `keeps`: the leaves, a bit each, that a row may still reach where it is false. `leaves`: (trees,
    LEAVES_MAX), in the order of the numbers. `base` is added to the sum of a row's leaves.

    `rest`: an ONNX model of the nodes behind the trees, which takes these sums, (rows, 1), as its one input.
    """

    starts: Ints
    feature: Ints
    threshold: Floats
    missing: Flags
    keeps: npt.NDArray[np.int32] | npt.NDArray[np.int64]
    leaves: Floats
    base: np.float32
    rest: bytes


class _Nodes(NamedTuple):
    """Nodes of all trees, one behind the other, a root first; `left`, `right`: places of inner nodes' children."""

    tree: Ints
    starts: Ints
    leaf: Flags
    left: Ints
    right: Ints


def read_forest(content: bytes, width: int) -> Forest:
    """The forest of an ONNX file whose input has `width` columns.

    Raises:
        UnfitError: it has none, or one that is not scored here.
    """
    if len(content) > BYTES_MAX or not 0 < width <= WIDTH_MAX:
        raise UnfitError("it is too large, or does not say how many features it takes")
    try:
        model = onnx.load_from_string(content)
    except Exception:  # protobuf's own, which is no dependency of ours
        raise UnfitError("it cannot be parsed") from None
    ensemble = _ensemble(model)
    kind = _KINDS[ensemble.op_type]
    found = {attribute.name: attribute for attribute in ensemble.attribute}
    _check_sum(found, kind)
    modes = _modes(found)
    nodes = _nodes(found, modes)
    low, count = _numbered(nodes)
    inner = np.flatnonzero(~nodes.leaf)
    feature, threshold, missing = _comparisons(found, modes, inner, width)
    order = np.lexsort((feature, missing, nodes.tree[inner]))  # within a tree any will do: this one is kind to caches
    at = inner[order]
    leaves = np.zeros((len(nodes.starts), LEAVES_MAX), np.float32)
    leaves[nodes.tree[nodes.leaf], low[nodes.leaf]] = _weights(found, kind, nodes)[nodes.leaf]
    return Forest(
        np.searchsorted(nodes.tree[at], np.arange(len(nodes.starts) + 1)), feature[order], threshold[order],
        missing[order], _keeps(low[at], count[nodes.left[at]], count[nodes.starts].max()), leaves, _base(found),
        _rest(model, ensemble, found),
    )  # fmt: skip


def sample_rows(forest: Forest, width: int) -> Floats:
    """Made-up rows of `width` features, always the same, to compare two ways of scoring: thresholds, the numbers next
    to them, missing ones, infinities, both zeros, and random ones.
    """
    random = np.random.default_rng(width)
    rows = random.standard_normal((_ROWS, width)).astype(np.float32)
    order = np.argsort(forest.feature, kind="stable")
    bounds = np.searchsorted(forest.feature[order], np.arange(width + 1))
    for feature, (start, stop) in enumerate(pairwise(bounds.tolist())):
        if start < stop:
            near = forest.threshold[order[random.integers(start, stop, _ROWS)]]
            aside = np.array([-np.inf, 0, np.inf], np.float32)[random.integers(0, 3, _ROWS)]
            near = np.where(aside == 0, near, _next(near, aside))
            rows[:, feature] = np.where(random.random(_ROWS) < 0.8, near, rows[:, feature])
    special = np.array([np.nan, np.nan, np.nan, np.inf, -np.inf, 0.0, -0.0], np.float32)
    rows = np.where(random.random(rows.shape) < 0.15, special[random.integers(0, len(special), rows.shape)], rows)
    rows[: len(special)] = special[:, None]
    return rows


def _ensemble(model: Any) -> Any:
    """The one node that takes the graph's input, if that is trees."""
    graph = model.graph
    if model.functions:
        raise UnfitError("it has functions of its own, which may be called as trees are")
    inputs = {one.name for one in graph.input} - {one.name for one in graph.initializer}
    takers = [node for node in graph.node if inputs & set(node.input)]
    if len(inputs) != 1 or len(takers) != 1 or takers[0].op_type not in _KINDS or len(takers[0].input) != 1:
        raise UnfitError("its input does not go to one ensemble of trees alone")
    return takers[0]


def _modes(found: Mapping[str, Any]) -> npt.NDArray[np.bytes_]:
    """Of each node. They are looked at first: an array has room for the longest in each place."""
    modes = list(found["nodes_modes"].strings) if "nodes_modes" in found else []
    if len(set(modes) - {b"LEAF"}) > 1 or set(modes) - _MODES:
        raise UnfitError("its branches are not all of the kind <=, or all <")
    return np.array(modes, np.bytes_)


def _check_sum(found: Mapping[str, Any], kind: str) -> None:
    """One number a row, the sum of its leaves'."""
    aggregate = found["aggregate_function"].s if "aggregate_function" in found else b"SUM"
    after = found["post_transform"].s if "post_transform" in found else b"NONE"
    if aggregate != b"SUM" or after != (b"NONE" if kind == "target" else b"LOGISTIC"):
        raise UnfitError("its trees are not joined by their sum, or what follows is not the sigmoid")
    if kind == "target" and "n_targets" in found and found["n_targets"].i != 1:
        raise UnfitError("its trees have several targets")
    if kind == "class" and len(_ints(found, "classlabels_int64s")) != 2:
        raise UnfitError("its classes are not two, with numbers as labels")


def _nodes(found: Mapping[str, Any], modes: npt.NDArray[np.bytes_]) -> _Nodes:
    trees, numbers = _ints(found, "nodes_treeids"), _ints(found, "nodes_nodeids")
    to_true, to_false = _ints(found, "nodes_truenodeids"), _ints(found, "nodes_falsenodeids")
    size = len(trees)
    if not 0 < size <= NODES_MAX or any(len(one) != size for one in (numbers, to_true, to_false, modes)):
        raise UnfitError("it has no nodes, too many, or lists of them that differ in length")
    starts = np.flatnonzero(np.concatenate([[True], trees[1:] != trees[:-1]]))
    if len(starts) > TREES_MAX or len(np.unique(trees[starts])) != len(starts):
        raise UnfitError("it has too many trees, or one that does not stand together")
    tree = np.repeat(np.arange(len(starts)), np.diff(starts, append=size))
    own, sizes = starts[tree], np.diff(starts, append=size)[tree]
    if (numbers != np.arange(size) - own).any():
        raise UnfitError("its nodes are not numbered as they stand")
    leaf = modes == b"LEAF"
    if (~leaf & ((to_true < 0) | (to_true >= sizes) | (to_false < 0) | (to_false >= sizes))).any():
        raise UnfitError("a node leads to one that is not there")
    return _Nodes(tree, starts, leaf, np.where(leaf, 0, own + to_true), np.where(leaf, 0, own + to_false))


def _numbered(nodes: _Nodes) -> tuple[Ints, Ints]:
    """Of each node, which leaf of its tree is the first below it, and how many there are; a leaf is below itself."""
    inner = ~nodes.leaf
    reached = np.bincount(np.concatenate([nodes.left[inner], nodes.right[inner]]), minlength=len(nodes.tree))
    if (reached > 1).any() or reached[nodes.starts].any():
        raise UnfitError("two ways lead to one node")
    levels = [nodes.starts]
    while len(levels) <= LEAVES_MAX and (parents := levels[-1][inner[levels[-1]]]).size:
        levels.append(np.concatenate([nodes.left[parents], nodes.right[parents]]))
    if inner[levels[-1]].any() or sum(map(len, levels)) < len(nodes.tree):
        raise UnfitError("a tree is too deep, or its nodes lead round in a circle")
    low, count = np.zeros_like(nodes.left), np.ones_like(nodes.left)
    parents_of = [level[inner[level]] for level in levels]
    for parents in reversed(parents_of):
        count[parents] = count[nodes.left[parents]] + count[nodes.right[parents]]
    if count.max() > LEAVES_MAX:
        raise UnfitError(f"a tree has more than {LEAVES_MAX} leaves")
    for parents in parents_of:
        low[nodes.left[parents]] = low[parents]
        low[nodes.right[parents]] = low[parents] + count[nodes.left[parents]]
    return low, count


def _comparisons(
    found: Mapping[str, Any], modes: npt.NDArray[np.bytes_], inner: Ints, width: int
) -> tuple[Ints, Floats, Flags]:
    """Of the inner nodes: feature, threshold of <=, whether NaN is true."""
    features, values = _ints(found, "nodes_featureids"), _floats(found, "nodes_values")
    missing = _ints(found, "nodes_missing_value_tracks_true")
    missing = missing if len(missing) else np.zeros_like(features)
    if any(len(one) != len(modes) for one in (features, values, missing)):
        raise UnfitError("its lists of nodes differ in length")
    feature, threshold, less = features[inner], values[inner], modes[inner] == b"BRANCH_LT"
    if ((feature < 0) | (feature >= width)).any() or (np.isnan(threshold) | (less & np.isneginf(threshold))).any():
        raise UnfitError("it splits by a feature that is not there, or at what is no number")
    below = _next(threshold, np.float32(-np.inf))  # what is less is at most the float32 before
    return feature, np.where(less, below, threshold), missing[inner] != 0


def _weights(found: Mapping[str, Any], kind: str, nodes: _Nodes) -> Floats:
    """Of each node; of a leaf its one."""
    trees, numbers = _ints(found, f"{kind}_treeids"), _ints(found, f"{kind}_nodeids")
    given, targets = _floats(found, f"{kind}_weights"), _ints(found, f"{kind}_ids")
    size = int(nodes.leaf.sum())
    if any(len(one) != size for one in (trees, numbers, given, targets)) or len(np.unique(targets)) > 1:
        raise UnfitError("its leaves do not have one number each")
    ids = _ints(found, "nodes_treeids")[nodes.starts]
    order = np.argsort(ids)
    tree = order[np.searchsorted(ids[order], trees).clip(max=len(ids) - 1)]
    sizes = np.diff(nodes.starts, append=len(nodes.tree))
    there = (ids[tree] == trees) & (numbers >= 0) & (numbers < sizes[tree])
    if not there.all() or not np.isfinite(given).all():
        raise UnfitError("it gives numbers that are none, or to leaves that are not there")
    rows = nodes.starts[tree] + numbers
    if (np.bincount(rows, minlength=len(nodes.tree)) != nodes.leaf).any():
        raise UnfitError("its leaves do not have one number each")
    weights = np.zeros(len(nodes.tree), np.float32)
    weights[rows] = given
    return weights


def _keeps(low: Ints, count: Ints, leaves: int) -> npt.NDArray[np.int32] | npt.NDArray[np.int64]:
    """All bits but those of `count` leaves from `low` on."""
    one = np.uint64(1)
    keeps = ~(((one << count.astype(np.uint64)) - one) << low.astype(np.uint64))
    return keeps.astype(np.uint32).view(np.int32) if leaves <= LEAVES_MAX // 2 else keeps.view(np.int64)


def _base(found: Mapping[str, Any]) -> np.float32:
    base = _floats(found, "base_values")
    if len(base) > 1 or not np.isfinite(base).all():
        raise UnfitError("it does not begin from one number")
    return np.float32(base[0]) if len(base) else np.float32(0)


def _rest(model: Any, ensemble: Any, found: Mapping[str, Any]) -> bytes:
    """The model with sums for its input. A classifier's sigmoid is that of a linear one whose weight is 1."""
    nodes = list(model.graph.node)
    place = nodes.index(ensemble)
    if ensemble.op_type == "TreeEnsembleClassifier":
        (sums,) = ensemble.input
        nodes[place] = helper.make_node(
            "LinearClassifier", [sums], ensemble.output, domain="ai.onnx.ml", coefficients=[1.0], intercepts=[0.0],
            classlabels_ints=_ints(found, "classlabels_int64s").tolist(), post_transform="LOGISTIC",
        )  # fmt: skip
    else:
        (sums,) = ensemble.output
        del nodes[place]
    kept = onnx.ModelProto()
    kept.CopyFrom(model)
    del kept.graph.node[:], kept.graph.input[:]
    kept.graph.node.extend(nodes)
    kept.graph.input.append(helper.make_tensor_value_info(sums, TensorProto.FLOAT, [None, 1]))
    return bytes(kept.SerializeToString())


def _next(values: Floats, towards: Floats | np.float32) -> Floats:
    """The neighbours of numbers; of the largest, infinity."""
    with np.errstate(over="ignore", under="ignore"):
        return np.nextafter(values, towards)


def _ints(found: Mapping[str, Any], name: str) -> Ints:
    return np.array(found[name].ints if name in found else [], np.int64)


def _floats(found: Mapping[str, Any], name: str) -> Floats:
    return np.array(found[name].floats if name in found else [], np.float32)
