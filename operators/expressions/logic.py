"""Three-valued logic, choices and comparisons."""

from __future__ import annotations

__all__ = ["case", "coalesce", "conjunction", "disjunction", "distinct", "extreme", "is_null", "member", "truth"]

import operator
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from operators.expressions.registers import Array, Errors, Kernel, Mask, Register, worst

_NO_ERROR: Final[Errors] = np.array(0, np.int8)


def _true(register: Register) -> Mask:
    """Rows known to be TRUE."""
    return register[0] if register[1] is None else register[0] & register[1]


def _false(register: Register) -> Mask:
    """Rows known to be FALSE."""
    return ~register[0] if register[1] is None else ~register[0] & register[1]


def _undecided(a: Register, b: Register, decides: Callable[[Register], Mask]) -> Errors | None:
    """Errors of AND and OR: one operand's error does not matter where the other decides."""
    ae, be = a[2], b[2]
    if ae is None and be is None:
        return None
    by_a = decides(a) if ae is None else decides(a) & (ae == 0)
    by_b = decides(b) if be is None else decides(b) & (be == 0)
    left = None if ae is None else np.where(by_b, _NO_ERROR, ae)
    right = None if be is None else np.where(by_a, _NO_ERROR, be)
    return worst(left, right)


def conjunction(a: Register, b: Register) -> Register:
    """A AND b: FALSE if either is FALSE, else NULL if either is NULL."""
    errors = None if a[2] is None and b[2] is None else _undecided(a, b, _false)
    if a[1] is None and b[1] is None:
        return a[0] & b[0], None, errors
    values = _true(a) & _true(b)
    return values, values | _false(a) | _false(b), errors


def disjunction(a: Register, b: Register) -> Register:
    """A OR b: TRUE if either is TRUE, else NULL if either is NULL."""
    errors = None if a[2] is None and b[2] is None else _undecided(a, b, _true)
    if a[1] is None and b[1] is None:
        return a[0] | b[0], None, errors
    values = _true(a) | _true(b)
    return values, values | (_false(a) & _false(b)), errors


def truth(register: Register) -> Register:
    """A bool with NULL as FALSE."""
    return _true(register), None, register[2]


def is_null(register: Register) -> Register:
    """Whether it is NULL; never NULL itself."""
    values, valid, errors = register
    return np.zeros(values.shape, np.bool_) if valid is None else np.broadcast_to(~valid, values.shape), None, errors


def case(*args: Register) -> Register:
    """(condition, value) pairs, then the ELSE value. Errors of rows not taken are dropped."""
    values, valid, errors = args[-1]
    for position in range(len(args) - 3, -1, -2):
        condition, then = args[position], args[position + 1]
        taken = _true(condition)
        values = np.where(taken, then[0], values)
        if valid is not None or then[1] is not None:
            one = True if then[1] is None else then[1]
            valid = np.where(taken, one, True if valid is None else valid)
        if errors is not None or then[2] is not None:
            errors = np.where(taken, _NO_ERROR if then[2] is None else then[2], _NO_ERROR if errors is None else errors)
        if condition[2] is not None:
            errors = condition[2] if errors is None else np.where(condition[2] > 0, condition[2], errors)
    return values, valid, errors


def coalesce(*args: Register) -> Register:
    """The first that is not NULL; errors of later ones count only where they are reached."""
    values, valid, errors = args[-1]
    for register in reversed(args[:-1]):
        ours, known, our_errors = register
        if known is None:
            values, valid, errors = register
            continue
        values = np.where(known, ours, values)
        valid = None if valid is None else known | valid
        if errors is not None or our_errors is not None:
            reached = _NO_ERROR if errors is None else np.where(known, _NO_ERROR, errors)
            errors = reached if our_errors is None else np.maximum(our_errors, reached)
    return values, valid, errors


def distinct(a: Register, b: Register) -> Register:
    """A IS DISTINCT FROM b: NULL equals NULL; never NULL itself."""
    differs = a[0] != b[0]
    errors = worst(a[2], b[2])
    if a[1] is None and b[1] is None:
        return differs, None, errors
    known_a: Any = True if a[1] is None else a[1]
    known_b: Any = True if b[1] is None else b[1]
    return (differs & known_a & known_b) | (known_a != known_b), None, errors


def extreme(better: Callable[[Array, Array], Array]) -> Kernel:
    """LEAST (`np.less_equal`) and GREATEST (`np.greater_equal`): NULLs are skipped; NULL only if all are."""

    def run(*args: Register) -> Register:
        values, valid, errors = args[0]
        for other, known, other_errors in args[1:]:
            ours = better(values, other)
            if valid is not None:
                ours = ours & valid
            if known is not None:
                ours = ours | ~known
            values = np.where(ours, values, other)
            valid = None if valid is None or known is None else valid | known
            errors = worst(errors, other_errors)
        return values, valid, errors

    return run


def member(values: tuple[Any, ...]) -> Kernel:
    """X IN (constants), none of them NULL."""
    known = frozenset(values)
    ordered = None if any(isinstance(value, str) for value in values) else np.array(sorted(known))

    def run(register: Register) -> Register:
        column, valid, errors = register
        if ordered is not None and len(column) > 16:
            place = np.minimum(np.searchsorted(ordered, column), len(ordered) - 1)
            found = ordered[place] == column
        else:
            found = np.fromiter([value in known for value in column.tolist()], np.bool_, len(column))
        return found, valid, errors

    return run


COMPARISONS: dict[str, Callable[[Array, Array], Array]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}
