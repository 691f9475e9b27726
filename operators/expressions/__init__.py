"""Expressions at run time: the typed tree, its numpy kernels, the loop that does many of them
at once (loop.py, and assembly.py, emitting.py, schedule.py and runs.py around it), and the operator of a batch."""

from __future__ import annotations

__all__ = ["Call", "ColumnRef", "Compiled", "Constant", "ExpressionOperator", "Node"]

from operators.expressions.nodes import Call, ColumnRef, Compiled, Constant, Node
from operators.expressions.operator import ExpressionOperator
