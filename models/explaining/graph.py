"""The nodes of an ONNX file as plain data: no library, which would be an extra, and nothing that runs."""

from __future__ import annotations

__all__ = ["OnnxNode", "Tensor", "read_graph"]

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.explaining.wire import Fields, fields, floats, integers, text
from state.errors import ConfigError

BYTES_MAX = 256 << 20
_FLOAT = 1
# Field numbers of onnx.proto.
_GRAPH = 7
_NODES, _INITIALIZERS = 1, 5
_INPUTS, _OUTPUTS, _OPERATION, _ATTRIBUTES = 1, 2, 4, 5
_NAME, _F, _S, _FLOATS, _INTS, _STRINGS = 1, 2, 4, 7, 8, 9
_DIMS, _DATA_TYPE, _FLOAT_DATA, _TENSOR_NAME, _RAW_DATA = 1, 2, 4, 8, 9


class Tensor(NamedTuple):
    """A constant of float32."""

    shape: tuple[int, ...]
    values: npt.NDArray[np.float32]


class OnnxNode(NamedTuple):
    """A node of the graph; attributes are read when they are asked for."""

    operation: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Fields]

    def ints(self, name: str) -> npt.NDArray[np.int64]:
        """A list of integers; empty if it is not there."""
        return np.array(integers(self.attributes.get(name, {}).get(_INTS, ())), np.int64)

    def floats(self, name: str) -> npt.NDArray[np.float32]:
        """A list of numbers; empty if it is not there."""
        return floats(self.attributes.get(name, {}).get(_FLOATS, ()))

    def strings(self, name: str) -> list[str]:
        """A list of strings; empty if it is not there."""
        return [text([value]) for value in self.attributes.get(name, {}).get(_STRINGS, ())]

    def string(self, name: str, otherwise: str) -> str:
        """A string."""
        return text(self.attributes.get(name, {}).get(_S, ()), otherwise)

    def number(self, name: str, otherwise: float) -> float:
        """A float."""
        found = floats(self.attributes.get(name, {}).get(_F, ()))
        return float(found[-1]) if len(found) else otherwise


def read_graph(content: bytes) -> tuple[list[OnnxNode], dict[str, Tensor]]:
    """The nodes in order, and the constants of float32 by name.

    Raises:
        ConfigError: it is no ONNX model, or larger than any that scores payments.
    """
    if len(content) > BYTES_MAX:
        raise ConfigError(f"it is larger than {BYTES_MAX >> 20} MiB")
    graph = _message(fields(content).get(_GRAPH, ()))
    nodes = [_node(_message([node])) for node in graph.get(_NODES, ())]
    constants = [_message([tensor]) for tensor in graph.get(_INITIALIZERS, ())]
    return nodes, {
        text(one.get(_TENSOR_NAME, ())): _tensor(one)
        for one in constants
        if integers(one.get(_DATA_TYPE, ())) == [_FLOAT]
    }


def _message(values: Sequence[bytes | int]) -> Fields:
    if not values or not isinstance(values[-1], bytes):
        raise ConfigError("it is no ONNX model: it has no graph of nodes")
    return fields(values[-1])


def _node(node: Fields) -> OnnxNode:
    attributes = [_message([attribute]) for attribute in node.get(_ATTRIBUTES, ())]
    return OnnxNode(
        text(node.get(_OPERATION, ())),
        tuple(text([name]) for name in node.get(_INPUTS, ())),
        tuple(text([name]) for name in node.get(_OUTPUTS, ())),
        {text(attribute.get(_NAME, ())): attribute for attribute in attributes},
    )


def _tensor(tensor: Fields) -> Tensor:
    raw = tensor.get(_RAW_DATA, ())
    return Tensor(tuple(integers(tensor.get(_DIMS, ()))), floats(raw if raw else tensor.get(_FLOAT_DATA, ())))
