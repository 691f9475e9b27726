"""The contract of a step of the plan.

An `Operator` is columnar: it reads columns of a batch and adds columns. Its state, if any, lives in tables that
it declares (`tables`) and gets from its context; undeclared access raises. One call may mix rows of several
tasks and any number of keys. What a row gets depends only on the rows of its own key before it (and, for
deduplication, of its own task): never on where batches were cut. `operators/checks.py` tests just that.
"""

from __future__ import annotations

__all__ = [
    "BOOL",
    "FLOAT64",
    "INT64",
    "STRING",
    "TIMESTAMP",
    "InputField",
    "Operator",
    "OperatorContext",
    "OutputField",
    "decimal",
]

from abc import ABC, abstractmethod
from typing import Protocol

import msgspec

from operators.batch import Batch
from operators.schema import DataType, Kind
from state.table import KeyedTable, TableSpec

BOOL = DataType(Kind.BOOL)
FLOAT64 = DataType(Kind.FLOAT64)
INT64 = DataType(Kind.INT64)
STRING = DataType(Kind.STRING)
TIMESTAMP = DataType(Kind.TIMESTAMP)


def decimal(scale: int) -> DataType:
    """The type `decimal(scale)`: exact numbers with so many decimals.

    >>> str(decimal(2))
    'decimal(2)'
    """
    return DataType(Kind.DECIMAL, scale)


class InputField(str):
    """The name of a column that an operator reads, with the type it must have: both in one, for `inputs`.

    >>> amount = InputField("amount", decimal(2))
    >>> amount, str(amount.type)
    ('amount', 'decimal(2)')
    """

    __slots__ = ("type",)
    type: DataType

    def __new__(cls, name: str, type: DataType) -> InputField:  # noqa: A002 - as in OutputField
        """A name that knows its type."""
        field = super().__new__(cls, name)
        field.type = type
        return field


class OutputField(msgspec.Struct, frozen=True):
    """A column that an operator adds."""

    name: str
    type: DataType
    nullable: bool = True


class OperatorContext(Protocol):
    """What an operator may reach while it runs."""

    def table(self, name: str) -> KeyedTable:
        """The declared table `name`; KeyError says which names this operator declared."""
        ...


class Operator(ABC):
    """One columnar step. Instances hold configuration only; all that changes lies in declared tables."""

    @property
    @abstractmethod
    def inputs(self) -> tuple[str, ...]:
        """Names of the columns it reads; an `InputField` also says of which type (a plain name: of any)."""

    @property
    @abstractmethod
    def outputs(self) -> tuple[OutputField, ...]:
        """The columns it adds."""

    @property
    def tables(self) -> tuple[TableSpec, ...]:
        """The state it keeps; none by default."""
        return ()

    def prepare(self) -> None:  # noqa: B027 - most have nothing to prepare
        """Make ready for many batches: what takes a second once and makes each of them cheaper, results the same."""

    @abstractmethod
    def process(self, batch: Batch, context: OperatorContext) -> None:
        """Add this operator's columns to `batch.columns`.

        Raises:
            RecordError: a row cannot be computed; the runtime undoes the batch and finds the row by bisection.
        """

    def replay(self, batch: Batch, context: OperatorContext) -> None:
        """As `process` in a silent replay: columns that only decisions read may be left out."""
        self.process(batch, context)
