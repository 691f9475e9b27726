"""A typed tree laid out as a short list of steps over registers; equal subtrees share one register."""

from __future__ import annotations

__all__ = ["Program", "constant_value", "used_tables"]

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from operators.batch import Batch, Column
from operators.expressions.kernels import Lookups, build_kernel, found_row
from operators.expressions.nodes import ROW_TIME, Call, ColumnRef, Compiled, Constant, Node
from operators.expressions.registers import REASONS, Register
from operators.expressions.runs import ROWS_MAX, Loop, Runs
from operators.expressions.schedule import Layout, Step, phases
from operators.schema import DataType
from state.errors import RecordError


class Program:
    """Named expressions as steps.

    Registers are laid out once: first constants, then the batch's columns, then results. `run` computes all outputs.
    """

    def __init__(self, expressions: Sequence[tuple[str, Compiled]], lookups: Lookups) -> None:
        self._lookups = lookups
        self._known: dict[object, int] = {}
        self._start: list[Register | None] = []
        self._loads: list[tuple[str, int]] = []
        self._fills: list[tuple[int, int]] = []
        self._steps: list[Step] = []
        self._constants: dict[int, Constant] = {}
        self._named: dict[str, int] = {}
        self._outputs: list[tuple[str, DataType, int]] = []
        for name, compiled in expressions:
            register = self._place(compiled.node)
            self._named[name] = register
            output = self._filled(register) if register in self._constants else register
            self._outputs.append((name, compiled.type, output))
        self._runs: Runs | None = None

    @property
    def size(self) -> int:
        """Number of kernel calls."""
        return len(self._steps)

    @property
    def layout(self) -> Layout:
        """What its steps are, and where they find what they read."""
        constants = {}
        for at, node in self._constants.items():
            register = self._start[at]
            assert register is not None
            constants[at] = node, register
        return Layout(constants, self._loads, self._fills, self._steps, self._outputs)

    def go_by(self, compute: Loop) -> None:
        """From now on, numbers and bools are computed together by `compute`, where there are enough of them."""
        layout = self.layout
        found = phases(layout)
        if any(phase.together for phase in found):
            self._runs = Runs(layout, found, compute)

    def run(self, batch: Batch) -> dict[str, Column]:
        """The outputs' columns, by name.

        Raises:
            RecordError: "overflow" or "cast" in a row that needs the failing value; names the expression.
        """
        runs = self._runs
        found = None if runs is None or not 0 < batch.size <= ROWS_MAX else runs.run(batch)
        return self._by_kernels(batch) if found is None else found

    def _by_kernels(self, batch: Batch) -> dict[str, Column]:
        """`run`, a call a step."""
        registers: list[Any] = self._start.copy()
        columns = batch.columns
        for name, position in self._loads:
            if name == ROW_TIME:
                registers[position] = (batch.event_time, None, None)
            else:
                column = columns[name]
                registers[position] = (column.values, column.valid, None)
        for constant, position in self._fills:
            values, valid, _ = registers[constant]
            registers[position] = (
                np.full(batch.size, values),
                None if valid is None else np.full(batch.size, valid),
                None,
            )
        with np.errstate(all="ignore"):
            for _, kernel, arguments, position in self._steps:
                if len(arguments) == 2:  # most have two
                    registers[position] = kernel(registers[arguments[0]], registers[arguments[1]])
                else:
                    registers[position] = kernel(*[registers[one] for one in arguments])
        return {name: _column(name, kind, registers[at], batch.size) for name, kind, at in self._outputs}

    def _place(self, node: Node) -> int:
        """The register that will hold `node`'s value."""
        if isinstance(node, ColumnRef):
            if node.name in self._named:
                return self._named[node.name]
            key: object = ("column", node.name)
            if key not in self._known:
                self._loads.append((node.name, self._new(key, None)))
            return self._known[key]
        if isinstance(node, Constant):
            key = ("constant", node.type, repr(node.value))
            if key not in self._known:
                self._constants[self._new(key, _constant(node))] = node
            return self._known[key]
        if node.kernel == "same":  # another type for the same physical values
            return self._place(node.args[0])
        if node.kernel in ("contains", "lookup"):  # of one key in one table: found once
            arguments: tuple[int, ...] = (self._place(found_row(node)),)
        else:
            arguments = tuple([self._place(one) for one in node.args])
            if all(isinstance(one, Constant) for one in node.args):  # not folded: a table's key; kernels want a column
                arguments = tuple([self._filled(one) for one in arguments])
        key = (node.kernel, arguments, node.type, repr(node.options))
        if key not in self._known:
            kernel = build_kernel(node, self._lookups)
            self._steps.append(Step(node, kernel, arguments, self._new(key, None)))
        return self._known[key]

    def _filled(self, constant: int) -> int:
        """The register that holds a constant once a row."""
        key = ("filled", constant)
        if key not in self._known:
            self._fills.append((constant, self._new(key, None)))
        return self._known[key]

    def _new(self, key: object, value: Register | None) -> int:
        self._known[key] = len(self._start)
        self._start.append(value)
        return self._known[key]


def constant_value(call: Call) -> int | float | str | bool | None:
    """The value of a call whose arguments are all constants, in physical form; None is NULL.

    Raises:
        RecordError: it overflows or cannot be cast.
    """
    arguments = []
    for one in call.args:
        assert isinstance(one, Constant)
        values, valid, _ = _constant(one)
        arguments.append((values.reshape(1), None if valid is None else valid.reshape(1), None))
    with np.errstate(all="ignore"):
        values, valid, errors = build_kernel(call, {})(*arguments)
    if errors is not None and errors.any():
        raise RecordError(REASONS[int(errors[0])])
    if valid is not None and not valid[0]:
        return None
    value: int | float | str | bool = values.tolist()[0]
    return value


def _constant(node: Constant) -> Register:
    value = node.type.blank if node.value is None else node.value
    valid = np.array(False) if node.value is None else None
    return np.array(value, dtype=node.type.dtype), valid, None


def _column(name: str, kind: DataType, register: Register, size: int) -> Column:
    values, valid, errors = register
    if errors is not None and errors.any():
        code = int(errors.max())
        raise RecordError(REASONS[code], f"in {name}")
    if valid is not None and valid.ndim == 0:
        valid = np.full(size, valid[()], dtype=np.bool_)
    return Column(kind, values, valid)


def used_tables(expressions: Sequence[tuple[str, Compiled]]) -> Mapping[str, str]:
    """Tables that are read, each with the name of the first expression that does."""
    found: dict[str, str] = {}
    for name, compiled in expressions:
        for table in compiled.tables:
            found.setdefault(table, name)
    return found
