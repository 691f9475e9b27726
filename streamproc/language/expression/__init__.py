"""The expression language: SQL expressions, parsed by sqlglot, checked and compiled to a plain typed tree.

    expr = parse("amount > 100 AND previous(amount) < 2.00", Place("fraud.yaml", 12, 15))
    expr = rewrite_calls(expr, {"previous"}, lambda call: add_state(call))   # -> amount > 100 AND previous_1 < 2.00
    compiled = compile_expression(expr, scope, tables)                       # -> type, nullable, inputs, node
    ExpressionOperator((("hit", compiled),), lookups)                        # operators.expressions

docs/language/expressions.md lists the syntax, every function, and where the semantics differ from DuckDB's.
"""

from __future__ import annotations

__all__ = [
    "CallNode",
    "Compiled",
    "Expr",
    "Field",
    "TableSchema",
    "both",
    "check_calls",
    "columns_of",
    "compile_expression",
    "null_comparisons",
    "parse",
    "place_of",
    "rewrite_calls",
]

from operators.expressions.nodes import Compiled
from operators.tables import TableSchema
from streamproc.language.expression.infer import Field, compile_expression
from streamproc.language.expression.near import check_calls
from streamproc.language.expression.parse import (
    CallNode,
    Expr,
    both,
    columns_of,
    null_comparisons,
    parse,
    place_of,
    rewrite_calls,
)
