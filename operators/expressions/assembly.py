"""From calls of kernels to a program of loop.py: a kernel is some steps there, or none, and stays as it is.

Texts are no part of it, but whether one equals a constant: that is loaded, as bits, and worked out before.
"""

from __future__ import annotations

__all__ = ["Assembly", "Operand", "Packed"]

import struct
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from operators.expressions.loop import I64
from operators.expressions.nodes import Constant
from operators.schema import DataType, Kind

_NUMBER, _BIT, _TEXT, _CONSTANT, _RESULT = range(5)  # in this order


class Operand(NamedTuple):
    """What a call is given: a value of a type, in the caller's register `at`; `constant`, if it is one."""

    type: DataType
    at: int
    constant: Constant | None = None


class Packed(NamedTuple):
    """A program of loop.py, and what it wants to be given: `numbers` and `bits` by whoever made them, whether the text
    of each of `texts` equals its constant.
    """

    program: I64
    numbers: Sequence[int]
    bits: Sequence[int]
    texts: Sequence[tuple[int, str]]


class Assembly:
    """Steps as they are put together. `made`: the register of what these steps make, by the caller's."""

    def __init__(self) -> None:
        self.made: dict[int, int] = {}
        self._registers: list[int] = []  # which of the five it is
        self._known: dict[object, int] = {}
        self._sources: dict[int, tuple[int, str]] = {}
        self._constants: dict[int, tuple[int, bool]] = {}
        self._steps: list[tuple[int, int, int, int, int]] = []

    def value(self, operand: Operand) -> int:
        """The register of a number or a bool: made, constant, or loaded."""
        if operand.constant is not None:
            return self.constant(operand.constant)
        if operand.at in self.made:
            return self.made[operand.at]
        return self._once(("load", operand.at), _BIT if operand.type.kind is Kind.BOOL else _NUMBER, (operand.at, ""))

    def equals(self, source: int, text: str) -> int:
        """The register that says whether a text that is given equals a constant."""
        return self._once(("text", source, text), _TEXT, (source, text))

    def constant(self, node: Constant) -> int:
        """The register of a constant that is no text."""
        value = node.type.blank if node.value is None else node.value
        assert not isinstance(value, str)
        if node.type.kind is Kind.FLOAT64:
            (value,) = struct.unpack("<q", struct.pack("<d", value))
        register = self._once(("constant", int(value), node.value is None), _CONSTANT)
        self._constants[register] = int(value), node.value is not None
        return register

    def whole(self, value: int) -> int:
        """The register of an int64."""
        return self.constant(Constant(DataType(Kind.INT64), value))

    def real(self, value: float) -> int:
        """The register of a float64."""
        return self.constant(Constant(DataType(Kind.FLOAT64), value))

    def step(self, what: int, a: int, b: int | None = None, c: int | None = None) -> int:
        """The register of a step's result."""
        self._registers.append(_RESULT)
        to = len(self._registers) - 1
        self._steps.append((what, to, a, a if b is None else b, a if c is None else c))
        return to

    def packed(self, numbers: Sequence[int], bits: Sequence[int]) -> Packed:
        """All of it; `numbers` and `bits`: the registers that are wanted."""
        order = sorted(range(len(self._registers)), key=self._registers.__getitem__)
        at = {register: number for number, register in enumerate(order)}
        count = Counter(self._registers)
        loaded = [self._sources[one] for one in order if one in self._sources]
        constants = [self._constants[one] for one in order if one in self._constants]
        rows = [
            (count[_NUMBER], count[_BIT] + count[_TEXT], len(constants), len(self._steps), len(order)),
            (len(numbers), len(bits), 0, 0, 0),
            *((value, int(known), 0, 0, 0) for value, known in constants),
            *((what, *(at[one] for one in registers)) for what, *registers in self._steps),
            *((at[one], 0, 0, 0, 0) for one in (*numbers, *bits)),
        ]
        columns = count[_NUMBER] + count[_BIT]
        given = [source for source, _ in loaded[:columns]]
        return Packed(np.array(rows, np.int64), given[: count[_NUMBER]], given[count[_NUMBER] :], loaded[columns:])

    def _once(self, key: object, which: int, source: tuple[int, str] | None = None) -> int:
        if key not in self._known:
            self._known[key] = len(self._registers)
            self._registers.append(which)
            if source is not None:
                self._sources[self._known[key]] = source
        return self._known[key]
