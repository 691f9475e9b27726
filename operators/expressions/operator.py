"""The operator that computes named expressions over a batch."""

from __future__ import annotations

__all__ = ["ExpressionOperator"]

from collections.abc import Mapping, Sequence

from operators.batch import Batch
from operators.expressions.nodes import Compiled
from operators.expressions.program import Program, used_tables
from operators.expressions.runs import warm_loop
from operators.operator import Operator, OperatorContext, OutputField
from operators.tables import LookupTable
from state.compiling import can_compile, made_or_told


class ExpressionOperator(Operator):
    """Computes `expressions` (name, compiled), equal subexpressions once; each becomes a column of its name.

    Args:
        expressions: in order; a later one may read an earlier one's column.
        lookups: the tables by name; looked up anew at each batch, so a replaced snapshot is seen by the next one.

    Raises:
        ValueError: a table that an expression reads is not among `lookups`.
    """

    def __init__(
        self, expressions: Sequence[tuple[str, Compiled]], lookups: Mapping[str, LookupTable] | None = None
    ) -> None:
        self.expressions = tuple(expressions)
        self.lookups = {} if lookups is None else lookups
        for table, reader in used_tables(self.expressions).items():
            if table not in self.lookups:
                raise ValueError(f"expression {reader} reads the table {table}, which was not given")
        self._program = Program(self.expressions, self.lookups)

    @property
    def inputs(self) -> tuple[str, ...]:
        own: set[str] = set()
        found: dict[str, None] = {}
        for name, compiled in self.expressions:
            found.update(dict.fromkeys(one for one in compiled.inputs if one not in own))
            own.add(name)
        return tuple(found)

    @property
    def outputs(self) -> tuple[OutputField, ...]:
        return tuple(OutputField(name, item.type, item.nullable) for name, item in self.expressions)

    def prepare(self) -> None:
        """Numbers and bools go through a compiled loop from now on, where it can be made."""
        made = made_or_told(warm_loop, "expressions go by kernels") if can_compile() else None
        if made is not None:
            self._program.go_by(made)

    def process(self, batch: Batch, context: OperatorContext) -> None:
        batch.columns.update(self._program.run(batch))
