"""Numbers and bools of a program, row by row: a plain loop over its steps, as machine code where it can be made.

Registers are numbers: what is loaded, constants, results. Each holds 64 bits (an int64, a float64 by its bits, a bool
as 0 or 1), `known` says that it is not NULL, and `may_miss` that a column of it has a `valid`. Every step does what its
kernel of numpy does, to the bit, also beneath NULLs; where a row may fail, nothing is said: the kernels settle it.

A program is an int64 matrix of five columns (assembly.py writes it):

    head         numbers that are loaded, bits that are loaded, constants, steps, registers
    results      of numbers, of bits, 0, 0, 0
    a constant:  its bits, whether it is known, 0, 0, 0
    a step:      the operation, its register, its arguments (up to three)
    a result:    its register, 0, 0, 0, 0                               numbers first

What is loaded are bytes: the columns of numbers; for each column whether it has a `valid`; the columns of bits; `valid`
of those that have it.
"""

from __future__ import annotations

__all__ = ["HELPERS", "compute"]

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

_FITS = 9.223372036854e18  # a float product below it is below 2**63 exactly, whatever the rounding

(
    F_ADD, F_SUBTRACT, F_MULTIPLY, F_DIVIDE, F_NEGATE, F_ABS, F_FLOOR, F_CEIL, F_SQRT, TO_FLOAT, FINITE,
    I_ADD, I_SUBTRACT, I_MULTIPLY, I_FLOOR_DIVIDE, I_CUT_DIVIDE, I_MODULO, I_ABS,
    ADD_CHECKED, SUBTRACT_CHECKED, MULTIPLY_CHECKED, LIMIT,
    F_EQUAL, F_DIFFERS, F_LESS, F_AT_MOST, I_EQUAL, I_DIFFERS, I_LESS, I_AT_MOST, NOT, EITHER,
    AND, OR, SELECT, COALESCE, EXTREME, TRUTH, IS_NULL, DISTINCT,
) = range(40)  # fmt: skip


class Registers(NamedTuple):
    """Of one row: `ints` and `floats` (the same memory), what is `known` (0 or 1); of all rows so far: `may_miss`."""

    ints: I64
    floats: npt.NDArray[np.float64]
    known: I64
    may_miss: I64


class Given(NamedTuple):
    """Columns of numbers, columns of bits, and where the `valid` of each begins in the latter; NOWHERE: it has none."""

    numbers: I64
    bytes: Bytes
    valid: I64


class Results(NamedTuple):
    """(numbers, rows), (bits, rows), (both, rows): `valid`, and (both,): whether it is to be said."""

    numbers: I64
    bits: npt.NDArray[np.bool_]
    known: npt.NDArray[np.bool_]
    may_miss: npt.NDArray[np.bool_]


NOWHERE = -1


def compute(program: I64, given: Bytes, results: tuple[npt.NDArray[Any], ...]) -> bool:
    """Fill `results` (as `Results`) from what is `given`; False: a row may fail, and they say nothing."""
    out = Results(*results)
    rows = out.known.shape[1]
    first = 2 + program[0, 2]
    last = first + program[0, 3]
    m = start(program)
    n, f, known, may_miss = m.ints, m.floats, m.known, m.may_miss
    columns = found(program, given, rows, m)
    registers = program.view(np.uint64)  # what cannot be negative is found sooner
    for row in range(rows):
        load(program, columns, m, row, rows)
        for at in range(first, last):
            what, to, a = program[at, 0], registers[at, 1], registers[at, 2]
            b, c = registers[at, 3], registers[at, 4]
            if what >= AND:
                n[to], known[to] = chosen(what, (n[a], known[a]), (n[b], known[b]), (n[c], known[c]))
                continue
            known[to] = known[a] & known[b]
            if what >= I_EQUAL:
                n[to] = ints_compare(what, n[a], n[b])
            elif what >= F_EQUAL:
                n[to] = floats_compare(what, f[a], f[b])
            elif what >= I_ADD:
                n[to] = of_ints(what, n[a], n[b])
                if what >= ADD_CHECKED and fails(what, (n[a], known[a]), n[b], n[to], n[c]):
                    return False
            else:
                f[to] = of_floats(what, f[a], f[b], n[a])
                if what == FINITE and f[a] - f[a] != 0.0:
                    f[to], known[to], may_miss[to] = 0.0, 0, 1
        store(program, last, m, out, row)
    missing(program, first, last, may_miss)
    for one in range(len(out.may_miss)):
        out.may_miss[one] = may_miss[program[last + one, 0]] != 0
    return True


def missing(program: I64, first: int, last: int, may_miss: I64) -> None:
    """Of each step's result, whether it may be NULL; of FINITE it is known where it made some."""
    for at in range(first, last):
        what, to, a, b = program[at, 0], program[at, 1], program[at, 2], program[at, 3]
        if what <= SELECT:
            may_miss[to] |= may_miss[a] | may_miss[b]
        elif what <= EXTREME:
            may_miss[to] = may_miss[a] & may_miss[b]


def start(program: I64) -> Registers:
    """Registers with the constants."""
    ints = np.empty(program[0, 4], np.int64)
    m = Registers(ints, ints.view(np.float64), np.ones(len(ints), np.int64), np.zeros(len(ints), np.int64))
    loaded = program[0, 0] + program[0, 1]
    for one in range(program[0, 2]):
        m.ints[loaded + one] = program[2 + one, 0]
        m.known[loaded + one] = program[2 + one, 1]
        m.may_miss[loaded + one] = 1 - program[2 + one, 1]
    return m


def found(program: I64, given: Bytes, rows: int, m: Registers) -> Given:
    """Where in the bytes all lies; which columns have a `valid`."""
    numbers, bits = program[0, 0], program[0, 1]
    flags = 8 * numbers * rows
    valid = np.empty(numbers + bits, np.int64)
    at = bits * rows
    for one in range(numbers + bits):
        valid[one] = NOWHERE
        if given[flags + one]:
            m.may_miss[one] = 1
            valid[one] = at
            at += rows
    return Given(given[:flags].view(np.int64), given[flags + numbers + bits :], valid)


def load(program: I64, given: Given, m: Registers, row: int, rows: int) -> None:
    """Take a row of what is given."""
    numbers, bits = program[0, 0], program[0, 1]
    for one in range(numbers):
        m.ints[one] = given.numbers[one * rows + row]
    for one in range(bits):
        m.ints[numbers + one] = given.bytes[one * rows + row]
    for one in range(numbers + bits):
        if given.valid[one] >= 0:
            m.known[one] = given.bytes[given.valid[one] + row]


def store(program: I64, first: int, m: Registers, out: Results, row: int) -> None:
    """Put a row where it is wanted."""
    numbers = program[1, 0]
    for one in range(numbers):
        out.numbers[one, row] = m.ints[program[first + one, 0]]
    for one in range(program[1, 1]):
        out.bits[one, row] = m.ints[program[first + numbers + one, 0]] != 0
    for one in range(numbers + program[1, 1]):
        out.known[one, row] = m.known[program[first + one, 0]] != 0


def of_floats(what: int, a: float, b: float, whole: int) -> float:
    """`whole`: the first one's bits as an int."""
    if what == F_ADD:
        return a + b
    if what == F_SUBTRACT:
        return a - b
    if what == F_MULTIPLY:
        return a * b
    if what == F_DIVIDE:
        return a / b
    if what == F_NEGATE:
        return -a
    if what == F_ABS:
        return abs(a)
    return rounded(what, a, whole)


def rounded(what: int, a: float, whole: int) -> float:
    if what == F_FLOOR:
        return float(np.floor(a))
    if what == F_CEIL:
        return float(np.ceil(a))
    if what == F_SQRT:
        return float(np.sqrt(a))
    return float(whole) if what == TO_FLOAT else a  # FINITE


def of_ints(what: int, a: int, b: int) -> int:
    """Divisors are positive. What is checked is computed as what is not."""
    if what in (I_ADD, ADD_CHECKED):
        return a + b
    if what in (I_SUBTRACT, SUBTRACT_CHECKED):
        return a - b
    if what in (I_MULTIPLY, MULTIPLY_CHECKED):
        return a * b
    if what == I_FLOOR_DIVIDE:
        return a // b
    if what == I_CUT_DIVIDE:
        return a // b + (a < 0 and a // b * b != a)
    if what == I_MODULO:
        return a % b
    return abs(a) if what == I_ABS else a  # LIMIT


def fails(what: int, one: tuple[int, int], b: int, result: int, highest: int) -> bool:
    """Whether a value, be it NULL, leaves int64 or may do so; or is no NULL and leaves the bounds."""
    a, knows_a = one
    if what == ADD_CHECKED:
        return (a ^ result) & (b ^ result) < 0
    if what == SUBTRACT_CHECKED:
        return (a ^ b) & (a ^ result) < 0
    if what == MULTIPLY_CHECKED:
        return abs(float(a) * float(b)) > _FITS
    return knows_a != 0 and (a < b or a > highest)


def floats_compare(what: int, a: float, b: float) -> bool:
    if what == F_EQUAL:
        return a == b
    if what == F_DIFFERS:
        return a != b
    return a < b if what == F_LESS else a <= b


def ints_compare(what: int, a: int, b: int) -> int:
    """Also what is done to bools that are known or not known alike."""
    if what == I_EQUAL:
        return a == b
    if what == I_DIFFERS:
        return a != b
    if what == I_LESS:
        return a < b
    if what == I_AT_MOST:
        return a <= b
    return a ^ 1 if what == NOT else a | b  # EITHER


def chosen(what: int, one: tuple[int, int], other: tuple[int, int], third: tuple[int, int]) -> tuple[int, int]:
    """The value and whether it is known, of such; of SELECT and EXTREME the third says whether it is the first one."""
    (a, knows_a), (b, knows_b), (c, knows_c) = one, other, third
    if what == SELECT:
        return one if c & knows_c else other
    if what == COALESCE:
        return (a if knows_a else b), knows_a | knows_b
    if what == EXTREME:
        return (a if (c & knows_a) | (knows_b ^ 1) else b), knows_a | knows_b
    return logic(what, one, other, c)


def logic(what: int, one: tuple[int, int], other: tuple[int, int], c: int) -> tuple[int, int]:
    """All is 0 or 1; a NULL is 0."""
    (a, knows_a), (b, knows_b) = one, other
    if what == AND:
        value = a & knows_a & b & knows_b
        return value, value | ((a ^ 1) & knows_a) | ((b ^ 1) & knows_b)
    if what == OR:
        value = (a & knows_a) | (b & knows_b)
        return value, value | ((a ^ 1) & knows_a & (b ^ 1) & knows_b)
    if what == TRUTH:
        return a & knows_a, 1
    if what == IS_NULL:
        return knows_a ^ 1, 1
    return (c & knows_a & knows_b) | (knows_a ^ knows_b), 1  # DISTINCT: `c` says whether the values differ


HELPERS = (
    start, found, load, store, missing, of_floats, rounded, of_ints, fails, floats_compare, ints_compare, chosen, logic,
)  # fmt: skip
