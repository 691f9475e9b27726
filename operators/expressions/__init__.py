"""Expressions at run time: the typed tree, its numpy kernels, and the operator that computes them over a batch."""

from __future__ import annotations

__all__ = ["Call", "ColumnRef", "Compiled", "Constant", "ExpressionOperator", "Node"]

from operators.expressions.nodes import Call, ColumnRef, Compiled, Constant, Node
from operators.expressions.operator import ExpressionOperator
