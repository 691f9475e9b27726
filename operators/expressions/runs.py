"""A program in few calls: steps of numbers and bools run together in loop.py, the kernels of the others between.

Values, and which columns have a `valid`, are those of the kernels alone; where a row may fail, nothing is said.
"""

from __future__ import annotations

__all__ = ["ROWS_MAX", "Loop", "Runs", "compiled_loop", "warm_loop"]

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from operators.batch import Batch, Column, column_of
from operators.expressions import loop
from operators.expressions.assembly import Assembly, Packed
from operators.expressions.emitting import emit
from operators.expressions.nodes import ROW_TIME
from operators.expressions.schedule import Layout, Phase, Step, operands
from operators.schema import DataType, Kind
from state.compiling import compiled

ROWS_MAX = 256
"""Of more rows, numpy's kernels take eight at a time where the loop takes one: their calls no longer count."""

Loop = Callable[[npt.NDArray[np.int64], npt.NDArray[np.uint8], tuple[npt.NDArray[Any], ...]], bool]
Pick = Callable[[Any], tuple[Any, ...]]
Values = list[npt.NDArray[Any]]
Valids = list[npt.NDArray[np.bool_] | None]
Room = tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]


@cache
def compiled_loop() -> Loop:
    """The loop as machine code.

    Raises:
        ImportError: numba is not installed.
    """
    return compiled(loop.compute, loop.HELPERS)


@cache
def warm_loop() -> Loop:
    """`compiled_loop`, made or fetched from where it is kept before rows come."""
    compute = compiled_loop()
    assembly = Assembly()
    packed = assembly.packed([assembly.step(loop.I_ABS, assembly.whole(0))], [])
    compute(packed.program, np.frombuffer(b"", np.uint8), _room(1, 0, 1))
    return compute


class Runs:
    """A program by phases. What a register holds is kept in two lists that grow, of values and of `valid`: constants,
    fills, row time, columns, results as they come.

    Args:
        layout: of the program.
        phases: of its steps.
        compute: `loop.compute`, or what it was compiled to.
    """

    def __init__(self, layout: Layout, phases: Sequence[Phase], compute: Loop) -> None:
        names = {name: at for name, at in layout.loads if name != ROW_TIME}
        row_time = dict(layout.loads).get(ROW_TIME, _NOWHERE)
        order = [*layout.constants, *(at for _, at in layout.fills), row_time, *names.values()]
        results = [_wanted(layout, phases, number) for number in range(len(phases))]
        for phase, made in zip(phases, results, strict=True):
            order += [*(step.at for step in phase.kernels), *(step.at for step in made)]
        at = {register: place for place, register in enumerate(order)}
        self._constants = [register for _, register in layout.constants.values()]
        self._fills = tuple(at[constant] for constant, _ in layout.fills)
        self._columns = _picks(list(names))
        self._phases = [
            (
                tuple((step.kernel, tuple([at[one] for one in step.arguments])) for step in phase.kernels),
                _run(layout, phase.together, made, at, compute) if made else None,
            )
            for phase, made in zip(phases, results, strict=True)
        ]
        self._names = tuple(name for name, _, _ in layout.outputs)
        self._types = tuple(kind for _, kind, _ in layout.outputs)
        self._outputs = _picks([at[one] for _, _, one in layout.outputs])

    def run(self, batch: Batch) -> dict[str, Column] | None:
        """The outputs' columns, by name; None: a row may fail. The batch has a row, at least."""
        values, valids = self._start(batch)
        for kernels, run in self._phases:
            if kernels:
                with np.errstate(all="ignore"):
                    for kernel, arguments in kernels:
                        value, valid, errors = kernel(*[(values[at], valids[at], None) for at in arguments])
                        if errors is not None:
                            return None
                        values.append(value)
                        if valid is not None and not valid.ndim:  # a constant's; whatever the row
                            valid = np.full(batch.size, valid)
                        valids.append(valid)
            if run is not None and not run.go(values, valids, batch.size):
                return None
        found = zip(self._types, self._outputs(values), self._outputs(valids), strict=True)
        return dict(zip(self._names, map(column_of, found), strict=True))

    def _start(self, batch: Batch) -> tuple[Values, Valids]:
        values = [value for value, _, _ in self._constants]
        valids = [valid for _, valid, _ in self._constants]
        for at in self._fills:
            valid = valids[at]
            values.append(np.full(batch.size, values[at]))
            valids.append(None if valid is None else np.full(batch.size, valid))
        columns = self._columns(batch.columns)
        values.append(batch.event_time)
        valids.append(None)
        values += map(_values, columns)
        valids += map(_valid, columns)
        return values, valids


class _Run:
    """Steps that are run together. They give registers of ints first, then floats, then bools."""

    def __init__(self, packed: Packed, at: Mapping[int, int], kinds: Sequence[Kind], compute: Loop) -> None:
        """`at`: where each of the program's registers is in the lists; `kinds`: of the results."""
        self._program, self._compute = packed.program, compute
        self._loads = _picks([at[one] for one in (*packed.numbers, *packed.bits, *(one for one, _ in packed.texts))])
        self._numbers, self._columns = len(packed.numbers), len(packed.numbers) + len(packed.bits)
        self._texts = np.array([text for _, text in packed.texts], np.object_)[:, None]
        self._bits = kinds.count(Kind.BOOL)
        self._ints = len(kinds) - self._bits - kinds.count(Kind.FLOAT64)
        self._count = len(kinds)

    def go(self, values: Values, valids: Valids, size: int) -> bool:
        """Add the results to what registers hold; False: a row may fail."""
        loads, of_loads = self._loads(values), self._loads(valids)
        masks = [one for one in of_loads if one is not None]
        flags = bytes([one is not None for one in of_loads])
        texts = self._equal(loads[self._columns :], size)
        columns = [*loads[: self._numbers], flags, *loads[self._numbers : self._columns], *texts, *masks]
        expected = (7 * self._numbers + len(loads) + len(masks)) * size + len(flags)
        given = _joined(columns, expected, size)
        numbers, bits, known, may_miss = room = _room(self._count - self._bits, self._bits, size)
        if given is None or not self._compute(self._program, np.frombuffer(given, np.uint8), room):
            return False
        values += [*numbers[: self._ints], *numbers[self._ints :].view(np.float64), *bits]
        first = len(valids)
        valids += [None] * self._count
        for one in may_miss.nonzero()[0].tolist():
            valids[first + one] = known[one]
        return True

    def _equal(self, columns: Sequence[npt.NDArray[Any]], size: int) -> Sequence[npt.NDArray[np.bool_]]:
        """Where texts equal their constants, all in one call."""
        return [np.concatenate(columns).reshape(-1, size) == self._texts] if columns else ()


_NOWHERE = -1
_values, _valid = itemgetter(1), itemgetter(2)


def _room(numbers: int, bits: int, size: int) -> Room:
    """For what a run gives: `loop.Results`."""
    count = numbers + bits
    return (
        np.empty((numbers, size), np.int64), np.empty((bits, size), np.bool_), np.empty((count, size), np.bool_),
        np.empty(count, np.bool_),
    )  # fmt: skip


def _joined(columns: Sequence[Any], expected: int, size: int) -> bytes | None:
    """The bytes of columns; such as do not lie together, or are of no dimension, are copied first. None: some column is
    not of its type's dtype.
    """
    try:
        joined = b"".join(columns)
    except (BufferError, TypeError, ValueError):  # they do not lie together
        joined = b""
    if len(joined) != expected:
        arrays = [np.frombuffer(one, np.uint8) if isinstance(one, bytes) else one for one in columns]
        joined = b"".join([(one if one.ndim else np.full(size, one)).tobytes() for one in arrays])
    return joined if len(joined) == expected else None


def _picks(places: Sequence[Any]) -> Pick:
    """A function that gives what stands at some places, as a tuple."""
    if len(places) == 1:
        place = places[0]
        return lambda values: (values[place],)
    return itemgetter(*places) if places else lambda _: ()


def _wanted(layout: Layout, phases: Sequence[Phase], number: int) -> list[Step]:
    """Which steps of a run give what is read outside: ints first, then floats, then bools."""
    read = {at for _, _, at in layout.outputs}
    for phase in phases[number + 1 :]:
        read.update(at for step in (*phase.kernels, *phase.together) for at in step.arguments)
    return sorted((one for one in phases[number].together if one.at in read), key=lambda one: _rank(one.call.type))


def _rank(kind: DataType) -> int:
    return {Kind.FLOAT64: 1, Kind.BOOL: 2}.get(kind.kind, 0)


def _run(layout: Layout, together: Sequence[Step], made: Sequence[Step], at: Mapping[int, int], compute: Loop) -> _Run:
    """`at`: where each of the program's registers is in the lists."""
    assembly = Assembly()
    for step in together:
        assembly.made[step.at] = emit(assembly, step.call, operands(step, layout))
    kinds = [step.call.type.kind for step in made]
    results = [assembly.made[step.at] for step in made]
    numbers = len(kinds) - kinds.count(Kind.BOOL)
    return _Run(assembly.packed(results[:numbers], results[numbers:]), at, kinds, compute)
