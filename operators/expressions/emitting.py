"""Which steps of loop.py do what a kernel does; a kernel that is not here, or not of such types, has none."""

from __future__ import annotations

__all__ = ["Refused", "emit"]

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from operators.expressions import loop as do
from operators.expressions.assembly import Assembly, Operand
from operators.expressions.nodes import Call, Constant
from operators.prefixes import NONE as NO_ROW
from operators.schema import DataType, Kind

_TEXTS_MAX, _NUMBERS_MAX = 4, 16  # members: more are looked up
_DAY = 86_400_000
_UNITS: Final = {"hour": (3_600_000, 24), "minute": (60_000, 60), "second": (1_000, 60)}

Operands = Sequence[Operand]
Emitter = Callable[[Assembly, Call, Operands], int]


class Refused(Exception):
    """A call that has no steps."""


def emit(assembly: Assembly, call: Call, operands: Operands) -> int:
    """Put down what a call does, and say which register has its result.

    Raises:
        Refused: loop.py has no steps for it.
    """
    emitter = _EMITTERS.get(call.kernel)
    if emitter is None:
        raise Refused(call.kernel)
    return emitter(assembly, call, operands)


def _sort(operands: Operands) -> str:
    """What all are: "int", "float", "bool" or "text"; of ints and floats: "mixed"."""
    found = {_SORTS.get(one.type.kind, "int") for one in operands}
    if len(found) == 1:
        return found.pop()
    if found == {"int", "float"}:
        return "mixed"
    raise Refused


_SORTS: Final = {Kind.FLOAT64: "float", Kind.BOOL: "bool", Kind.STRING: "text"}


def _floats(assembly: Assembly, operands: Operands) -> list[int]:
    """Their registers, as floats."""
    if _sort(operands) not in ("int", "float", "mixed"):
        raise Refused
    return [
        assembly.value(one) if _sort([one]) == "float" else assembly.step(do.TO_FLOAT, assembly.value(one))
        for one in operands
    ]


def _ints(assembly: Assembly, operands: Operands) -> list[int]:
    if _sort(operands) != "int":
        raise Refused
    return [assembly.value(one) for one in operands]


def _of(assembly: Assembly, operands: Operands, sort: str) -> list[int]:
    if _sort(operands) != sort:
        raise Refused
    return [assembly.value(one) for one in operands]


# ---- numbers


def _numbers(assembly: Assembly, call: Call, operands: Operands, *, of_ints: int, of_floats: int) -> int:
    if _sort(operands) == "int":
        return assembly.step(of_ints, *_ints(assembly, operands))
    return assembly.step(of_floats, *_floats(assembly, operands))


def _integers(assembly: Assembly, call: Call, operands: Operands, *, what: int) -> int:
    return assembly.step(what, *_ints(assembly, operands))


def _real(assembly: Assembly, call: Call, operands: Operands, *, what: int) -> int:
    return assembly.step(what, *_of(assembly, operands, "float"))


def _divide(assembly: Assembly, call: Call, operands: Operands) -> int:
    return assembly.step(do.F_DIVIDE, *_floats(assembly, operands))


def _negate(assembly: Assembly, call: Call, operands: Operands, *, what: int = do.I_SUBTRACT) -> int:
    if _sort(operands) == "float":
        return assembly.step(do.F_NEGATE, *_floats(assembly, operands))
    return assembly.step(what, assembly.whole(0), *_ints(assembly, operands))


def _absolute_checked(assembly: Assembly, call: Call, operands: Operands) -> int:
    _negate(assembly, call, operands, what=do.SUBTRACT_CHECKED)
    return assembly.step(do.I_ABS, *_ints(assembly, operands))


def _within(assembly: Assembly, call: Call, operands: Operands) -> int:
    low, high, *null_on_error = call.options
    if any(null_on_error) or not isinstance(low, int) or not isinstance(high, int):
        raise Refused
    (value,) = _ints(assembly, operands)
    return assembly.step(do.LIMIT, value, assembly.whole(low), assembly.whole(high))


def _cast(assembly: Assembly, call: Call, operands: Operands) -> int:
    source, target = call.args[0].type, call.type
    sort = _sort(operands)
    if sort == "text" or target.kind is Kind.STRING:
        raise Refused
    value = assembly.value(operands[0])
    if target.kind is Kind.BOOL and sort != "bool":
        if sort == "float":
            return assembly.step(do.F_DIFFERS, value, assembly.real(0.0))
        return assembly.step(do.I_DIFFERS, value, assembly.whole(0))
    if target.kind is Kind.FLOAT64 and sort != "float":
        found = assembly.step(do.TO_FLOAT, value)
        if source.kind is not Kind.DECIMAL:
            return found
        return assembly.step(do.F_DIVIDE, found, assembly.real(10.0**source.scale))
    if target.kind is Kind.INT64 and source.kind is Kind.BOOL:
        return value
    if target.kind is Kind.INT64 and source.kind is Kind.DECIMAL:
        return assembly.step(do.I_CUT_DIVIDE, value, assembly.whole(10**source.scale))
    is_wider = target.kind is Kind.DECIMAL and sort in ("int", "bool") and target.scale >= source.scale
    if is_wider and source.kind is not Kind.TIMESTAMP and not call.options[0]:
        factor = assembly.whole(10 ** (target.scale - source.scale))
        return assembly.step(do.MULTIPLY_CHECKED, value, factor)
    raise Refused


# ---- comparisons


def _compare(assembly: Assembly, call: Call, operands: Operands, *, of_ints: int, of_floats: int) -> int:
    """`of_ints` and `of_floats`: of the operands in this order."""
    if _sort(operands) == "int":
        return assembly.step(of_ints, *_ints(assembly, operands))
    return assembly.step(of_floats, *_floats(assembly, operands))


def _turned(assembly: Assembly, call: Call, operands: Operands, *, of_ints: int, of_floats: int) -> int:
    return _compare(assembly, call, operands[::-1], of_ints=of_ints, of_floats=of_floats)


def _equal(assembly: Assembly, call: Call, operands: Operands) -> int:
    sort = _sort(operands)
    if sort == "bool":
        return assembly.step(do.I_EQUAL, *_of(assembly, operands, "bool"))
    if sort == "text":
        return _text_equals(assembly, operands)
    return _compare(assembly, call, operands, of_ints=do.I_EQUAL, of_floats=do.F_EQUAL)


def _differs(assembly: Assembly, call: Call, operands: Operands) -> int:
    sort = _sort(operands)
    if sort == "bool":
        return assembly.step(do.I_DIFFERS, *_of(assembly, operands, "bool"))
    if sort == "text":
        return assembly.step(do.NOT, _text_equals(assembly, operands))
    return _compare(assembly, call, operands, of_ints=do.I_DIFFERS, of_floats=do.F_DIFFERS)


def _text_equals(assembly: Assembly, operands: Operands) -> int:
    """A column's text and a constant, that is not NULL."""
    texts = [one for one in operands if one.constant is None]
    constants = [one.constant.value for one in operands if one.constant is not None]
    if len(texts) != 1 or not isinstance(constants[0], str):
        raise Refused
    return assembly.equals(texts[0].at, constants[0])


def _member(assembly: Assembly, call: Call, operands: Operands) -> int:
    members = call.options[0]
    sort = _sort(operands)
    is_text = sort == "text"
    if sort == "bool" or not isinstance(members, tuple) or len(members) > (_TEXTS_MAX if is_text else _NUMBERS_MAX):
        raise Refused
    found = []
    for one in members:
        assert not isinstance(one, tuple)
        constant = Operand(operands[0].type, -1, Constant(operands[0].type, one))
        found.append(_equal(assembly, call, [operands[0], constant]))
    result = found[0]
    for equals in found[1:]:
        result = assembly.step(do.EITHER, result, equals)
    return result


def _contains(assembly: Assembly, call: Call, operands: Operands) -> int:
    row = Operand(DataType(Kind.INT64), operands[0].at)
    return assembly.step(do.I_DIFFERS, assembly.value(row), assembly.whole(NO_ROW))


# ---- logic and choices


def _bits(assembly: Assembly, call: Call, operands: Operands, *, what: int) -> int:
    return assembly.step(what, *_of(assembly, operands, "bool"))


def _is_null(assembly: Assembly, call: Call, operands: Operands) -> int:
    if _sort(operands) == "text":
        raise Refused
    return assembly.step(do.IS_NULL, assembly.value(operands[0]))


def _distinct(assembly: Assembly, call: Call, operands: Operands) -> int:
    if _sort(operands) in ("text", "mixed"):
        raise Refused
    a, b = (assembly.value(one) for one in operands)
    return assembly.step(do.DISTINCT, a, b, _differs(assembly, call, operands))


def _choice(operands: Operands) -> str:
    sort = _sort(operands)
    if sort in ("text", "mixed"):
        raise Refused
    return sort


def _case(assembly: Assembly, call: Call, operands: Operands) -> int:
    _choice([*operands[1::2], operands[-1]])
    result = assembly.value(operands[-1])
    for at in range(len(operands) - 3, -1, -2):
        condition, then = (assembly.value(one) for one in operands[at : at + 2])
        result = assembly.step(do.SELECT, then, result, condition)
    return result


def _coalesce(assembly: Assembly, call: Call, operands: Operands) -> int:
    _choice(operands)
    result = assembly.value(operands[-1])
    for one in operands[-2::-1]:
        result = assembly.step(do.COALESCE, assembly.value(one), result)
    return result


def _extreme(assembly: Assembly, call: Call, operands: Operands, *, is_least: bool) -> int:
    sort = _choice(operands)
    if sort == "bool":
        raise Refused
    what = do.I_AT_MOST if sort == "int" else do.F_AT_MOST
    result = assembly.value(operands[0])
    for one in operands[1:]:
        other = assembly.value(one)
        better = assembly.step(what, *((result, other) if is_least else (other, result)))
        result = assembly.step(do.EXTREME, result, other, better)
    return result


# ---- timestamps


def _elapsed(assembly: Assembly, call: Call, operands: Operands) -> int:
    start, end = _ints(assembly, operands)
    unit = call.options[0]
    assert isinstance(unit, int)
    return assembly.step(do.I_CUT_DIVIDE, assembly.step(do.I_SUBTRACT, end, start), assembly.whole(unit))


def _elapsed_float(assembly: Assembly, call: Call, operands: Operands) -> int:
    start, end = _ints(assembly, operands)
    unit = call.options[0]
    assert isinstance(unit, float)
    span = assembly.step(do.TO_FLOAT, assembly.step(do.I_SUBTRACT, end, start))
    return assembly.step(do.F_DIVIDE, span, assembly.real(unit))


def _part(assembly: Assembly, call: Call, operands: Operands) -> int:
    (value,) = _ints(assembly, operands)
    name = call.options[0]
    if name in ("day_of_week", "dayofweek"):
        days = assembly.step(do.I_FLOOR_DIVIDE, value, assembly.whole(_DAY))
        shifted = assembly.step(do.I_ADD, days, assembly.whole(3 if name == "day_of_week" else 4))
        rest = assembly.step(do.I_MODULO, shifted, assembly.whole(7))
        return assembly.step(do.I_ADD, rest, assembly.whole(1))
    if name not in _UNITS:
        raise Refused
    unit, count = _UNITS[name]
    whole = assembly.step(do.I_FLOOR_DIVIDE, value, assembly.whole(unit))
    return assembly.step(do.I_MODULO, whole, assembly.whole(count))


_EMITTERS: Final[dict[str, Emitter]] = {
    "add": partial(_numbers, of_ints=do.I_ADD, of_floats=do.F_ADD),
    "subtract": partial(_numbers, of_ints=do.I_SUBTRACT, of_floats=do.F_SUBTRACT),
    "multiply": partial(_numbers, of_ints=do.I_MULTIPLY, of_floats=do.F_MULTIPLY),
    "negate": _negate,
    "add_checked": partial(_integers, what=do.ADD_CHECKED),
    "subtract_checked": partial(_integers, what=do.SUBTRACT_CHECKED),
    "multiply_checked": partial(_integers, what=do.MULTIPLY_CHECKED),
    "negate_checked": partial(_negate, what=do.SUBTRACT_CHECKED),
    "abs_checked": _absolute_checked,
    "abs": partial(_numbers, of_ints=do.I_ABS, of_floats=do.F_ABS),
    "divide": _divide,
    "finite": partial(_real, what=do.FINITE),
    "floor": partial(_real, what=do.F_FLOOR),
    "ceil": partial(_real, what=do.F_CEIL),
    "sqrt": partial(_real, what=do.F_SQRT),
    "limited": _within,
    "within": _within,
    "cast": _cast,
    "eq": _equal,
    "ne": _differs,
    "lt": partial(_compare, of_ints=do.I_LESS, of_floats=do.F_LESS),
    "le": partial(_compare, of_ints=do.I_AT_MOST, of_floats=do.F_AT_MOST),
    "gt": partial(_turned, of_ints=do.I_LESS, of_floats=do.F_LESS),
    "ge": partial(_turned, of_ints=do.I_AT_MOST, of_floats=do.F_AT_MOST),
    "member": _member,
    "contains": _contains,
    "not": partial(_bits, what=do.NOT),
    "and": partial(_bits, what=do.AND),
    "or": partial(_bits, what=do.OR),
    "truth": partial(_bits, what=do.TRUTH),
    "is_null": _is_null,
    "distinct": _distinct,
    "case": _case,
    "coalesce": _coalesce,
    "least": partial(_extreme, is_least=True),
    "greatest": partial(_extreme, is_least=False),
    "elapsed": _elapsed,
    "elapsed_float": _elapsed_float,
    "part": _part,
}
