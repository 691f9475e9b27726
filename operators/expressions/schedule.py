"""In which order a program's steps are run so that numbers and bools go together, in as few runs as may be."""

from __future__ import annotations

__all__ = ["STEPS_MIN", "Layout", "Phase", "Step", "operands", "phases"]

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from operators.expressions.assembly import Assembly, Operand
from operators.expressions.emitting import Refused, emit
from operators.expressions.nodes import Call, Constant
from operators.expressions.registers import Kernel, Register
from operators.schema import DataType, Kind

STEPS_MIN = 12
"""Steps of a run; fewer are sooner done by their kernels."""


class Step(NamedTuple):
    """A call, its kernel, and the registers of its arguments and of its result."""

    call: Call
    kernel: Kernel
    arguments: tuple[int, ...]
    at: int


class Layout(NamedTuple):
    """A program's registers. `constants`: what they are, and hold; `loads`: the column's name; `fills`: a constant, and
    the register that holds it once a row; then steps, and the outputs with their types.
    """

    constants: Mapping[int, tuple[Constant, Register]]
    loads: Sequence[tuple[str, int]]
    fills: Sequence[tuple[int, int]]
    steps: Sequence[Step]
    outputs: Sequence[tuple[str, DataType, int]]


class Phase(NamedTuple):
    """Kernels, and then what is run together; either may be nothing."""

    kernels: tuple[Step, ...]
    together: tuple[Step, ...]


def operands(step: Step, layout: Layout) -> list[Operand]:
    """What a step is given."""
    if step.call.kernel in ("contains", "lookup"):  # the number of the row that a key finds
        return [Operand(DataType(Kind.INT64), step.arguments[0])]
    found = []
    for node, at in zip(step.call.args, step.arguments, strict=True):
        constant = layout.constants.get(at)
        found.append(Operand(node.type, at, None if constant is None else constant[0]))
    return found


def phases(layout: Layout) -> list[Phase]:
    """The steps, each behind those that it reads from. Where nothing is run together, there is one phase."""
    able = {step.at for step in layout.steps if _has_steps(step, layout)}
    while True:
        place = _places(layout, able)
        many = Counter(place[at] for at in able)
        few = {at for at in able if many[place[at]] < STEPS_MIN}
        if not few:
            break
        able -= few
    found = []
    for number in range(max(place.values(), default=0) + 1):
        here = [step for step in layout.steps if place[step.at] == number]
        kernels = tuple(step for step in here if step.at not in able)
        found.append(Phase(kernels, tuple(step for step in here if step.at in able)))
    return found


def _has_steps(step: Step, layout: Layout) -> bool:
    try:
        emit(Assembly(), step.call, operands(step, layout))
    except Refused:
        return False
    return True


def _places(layout: Layout, able: set[int]) -> dict[int, int]:
    """The phase of each step: a kernel comes before the run of its phase."""
    place: dict[int, int] = {}
    for step in layout.steps:
        after = [place[at] + (at in able and step.at not in able) for at in step.arguments if at in place]
        place[step.at] = max(after, default=0)
    return place
