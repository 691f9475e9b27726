"""The typed tree that the language compiles an expression to: plain data, no code.

A node is a column, a constant or a call of a named kernel. Values are physical (a decimal(2) of 12.34 is 1234).
"""

from __future__ import annotations

__all__ = ["ROW_TIME", "Call", "ColumnRef", "Compiled", "Constant", "Node", "Option"]

from typing import TypeAlias

import msgspec

from operators.schema import DataType

ROW_TIME = "@event_time"  # a ColumnRef of this name is the row's event time, not a column of the batch

Option: TypeAlias = str | int | float | bool | tuple["Option", ...] | None


class ColumnRef(msgspec.Struct, frozen=True):
    """A column of the batch."""

    name: str
    type: DataType
    nullable: bool


class Constant(msgspec.Struct, frozen=True):
    """A value known at compile time, in physical form; None is NULL."""

    type: DataType
    value: int | float | str | bool | None

    @property
    def nullable(self) -> bool:
        """Whether it is NULL."""
        return self.value is None


class Call(msgspec.Struct, frozen=True):
    """Kernel `kernel` on `args`; `options` are settings known at compile time (a pattern, a scale, a table's name)."""

    kernel: str
    args: tuple[Node, ...]
    type: DataType
    nullable: bool
    options: tuple[Option, ...] = ()


Node: TypeAlias = ColumnRef | Constant | Call


class Compiled(msgspec.Struct, frozen=True):
    """A checked expression: its type, whether it can be NULL, the columns and tables it reads, and its tree."""

    type: DataType
    nullable: bool
    inputs: tuple[str, ...]
    node: Node
    tables: tuple[str, ...] = ()
