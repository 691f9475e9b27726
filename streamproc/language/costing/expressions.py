"""Expressions -> units: a kernel call a node of the tree, subtrees that are equal once."""

from __future__ import annotations

__all__ = ["expression_units"]

from collections.abc import Iterator

from operators.expressions import ExpressionOperator
from operators.expressions.nodes import Call, Node
from streamproc.language.costing.units import Units


def expression_units(step: ExpressionOperator) -> dict[str, Units]:
    """Units of each expression of a step; what several share is the first one's."""
    done: set[Node] = set()
    return {name: Units([*_calls(compiled.node, done), "expressions:output"]) for name, compiled in step.expressions}


def _calls(node: Node, done: set[Node]) -> Iterator[str]:
    if not isinstance(node, Call) or node in done:
        return
    done.add(node)
    for argument in node.args:
        yield from _calls(argument, done)
    if node.kernel != "same":  # another type for the same values: nothing is called
        yield f"kernel:{node.kernel}:{node.args[0].type.kind if node.args else 'none'}"
