"""The operator that computes named expressions over a batch."""

from __future__ import annotations

__all__ = ["ExpressionOperator"]

from collections.abc import Mapping, Sequence

from operators.batch import Batch
from operators.expressions.nodes import Compiled
from operators.operator import Operator, OperatorContext, OutputField
from operators.tables import LookupTable


class ExpressionOperator(Operator):
    """Computes `expressions` (name, compiled), equal subexpressions once; each becomes a column of its name.

    Args:
        expressions: in order; a later one may read an earlier one's column.
        lookups: the tables by name; looked up anew at each batch, so a replaced snapshot is seen by the next one.
    """

    def __init__(
        self, expressions: Sequence[tuple[str, Compiled]], lookups: Mapping[str, LookupTable] | None = None
    ) -> None:
        self.expressions = tuple(expressions)
        self.lookups = {} if lookups is None else lookups

    @property
    def inputs(self) -> tuple[str, ...]:
        own = {name for name, _ in self.expressions}
        return tuple(dict.fromkeys(name for _, item in self.expressions for name in item.inputs if name not in own))

    @property
    def outputs(self) -> tuple[OutputField, ...]:
        return tuple(OutputField(name, item.type, item.nullable) for name, item in self.expressions)

    def process(self, batch: Batch, context: OperatorContext) -> None:
        raise NotImplementedError
