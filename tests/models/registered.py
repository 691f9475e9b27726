"""Versions in a registry whose scores are known without a model: a sigmoid of what its weights make of the features."""

from __future__ import annotations

__all__ = ["by_hand", "register", "register_file"]

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from models.manifest import (
    CARD,
    MANIFEST,
    MODEL,
    Bins,
    Calibration,
    Data,
    Manifest,
    Parity,
    Period,
    Search,
    Threshold,
)
from models.registry import open_registry

_PERIOD = Period("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", 1, 1)


def by_hand(weights: Mapping[str, float], row: Mapping[str, float]) -> float:
    """The score, 0-100."""
    return 100 / (1 + math.exp(-sum(weight * row[name] for name, weight in weights.items())))


def register(
    registry: Path, name: str, weights: Mapping[str, float], *, baseline: Mapping[str, Bins] | None = None,
    threshold: float = 50.0, learned: Period = _PERIOD,
) -> int:  # fmt: skip
    """Put a version behind the last one; it takes the features that have weights. Its number."""
    content = _onnx(list(weights.values()))
    return register_file(
        registry, name, content, tuple(weights), baseline=baseline, threshold=threshold, learned=learned
    )


def register_file(
    registry: Path, name: str, content: bytes, features: tuple[str, ...], *,
    baseline: Mapping[str, Bins] | None = None, threshold: float = 50.0, learned: Period = _PERIOD,
) -> int:  # fmt: skip
    """The same of any ONNX file."""
    manifest = Manifest(
        name, "logistic", {MODEL: hashlib.sha256(content).hexdigest()}, features, ("",),
        Data("", "fraud", 0, 0, learned), learned, Search(0, 0, 1, 1.0, (), (), 0.0, {}), (),
        Calibration(1.0, 0.0, 0.0, 0.0), Threshold(threshold, 0.001, 50.0, 0, 0.0, 0.0, 0.0, 0.0), Parity(0, 0.0), {},
        dict(baseline or {}),
    )  # fmt: skip
    return open_registry(str(registry), new=True).add(
        name, {MODEL: content, MANIFEST: msgspec.json.encode(manifest), CARD: b""}
    )


def _onnx(weights: list[float]) -> bytes:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["p"]),
        helper.make_node("Sub", ["one", "p"], ["q"]),
        helper.make_node("Concat", ["q", "p"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "logistic",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, len(weights)])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])],
        [
            numpy_helper.from_array(np.array(weights, np.float32).reshape(-1, 1), "w"),
            numpy_helper.from_array(np.array([[1.0]], np.float32), "one"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    return bytes(model.SerializeToString())
