"""From a parsed expression to a typed tree: names resolved, types checked, nullability inferred."""

from __future__ import annotations

__all__ = ["Field", "compile_expression"]

from collections.abc import Mapping
from typing import Protocol

from operators.expressions.nodes import Compiled
from operators.schema import DataType
from operators.tables import TableSchema
from streamproc.language.expression.parse import Expr


class Field(Protocol):
    """What a scope says of a column; an `operators.operator.OutputField` is one."""

    @property
    def type(self) -> DataType:
        """The column's type."""
        ...

    @property
    def nullable(self) -> bool:
        """Whether it can be NULL."""
        ...


def compile_expression(
    expr: Expr, scope: Mapping[str, Field], tables: Mapping[str, TableSchema] | None = None
) -> Compiled:
    """Check `expr` against the columns in `scope` and the `tables`, and compile it.

    Raises:
        ConfigError: an unknown column, function or table (with the nearest right name), a type error, or a bound
            (depth, size, scale) is exceeded; always with a place.
    """
    raise NotImplementedError
