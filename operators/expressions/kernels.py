"""The kernels by name: what a `Call` node runs. A factory gets the node (its options and types) and the tables."""

from __future__ import annotations

__all__ = ["FACTORIES", "build_kernel", "found_row"]

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import numpy as np

from operators.expressions import arithmetic, clock, logic, regexps, shaping, text
from operators.expressions.casts import cast_kernel, within_kernel
from operators.expressions.date_format import date_format
from operators.expressions.date_parse import parse_date
from operators.expressions.nodes import Call
from operators.expressions.registers import OVERFLOW, Array, Kernel, Register, both, checked, strict
from operators.prefixes import NONE as NO_ROW
from operators.schema import DataType, Kind
from operators.tables import LookupTable

Lookups: TypeAlias = Mapping[str, LookupTable]
Factory: TypeAlias = Callable[[Call, Lookups], Kernel]


def build_kernel(call: Call, lookups: Lookups) -> Kernel:
    """The kernel of `call`; KeyError if there is none of that name."""
    return FACTORIES[call.kernel](call, lookups)


def _plain(function: Callable[..., Array], arity: int = 1) -> Factory:
    kernel = strict(function, arity)
    return lambda call, lookups: kernel


def _fixed(kernel: Kernel) -> Factory:
    return lambda call, lookups: kernel


def _checked(function: Callable[..., Any]) -> Factory:
    return _fixed(checked(function, OVERFLOW))


def _with_int(function: Callable[[Array, int], Array]) -> Factory:
    def make(call: Call, lookups: Lookups) -> Kernel:
        setting = call.options[0]
        assert isinstance(setting, int)
        return strict(lambda values: function(values, setting), 1)

    return make


def _option(call: Call, position: int = 0) -> Any:
    return call.options[position]


def _each(key: Array, times: Array) -> Array:
    """A key for each row: beside the row's time, a constant one has no dimension."""
    return key if key.ndim else np.broadcast_to(key, times.shape)


def found_row(call: Call) -> Call:
    """What a call of "contains" or "lookup" is given in place of its key: the number of the row that the key finds."""
    return Call("find", call.args, DataType(Kind.INT64), call.args[0].nullable, call.options[:1])


def _find(call: Call, lookups: Lookups) -> Kernel:
    name = str(call.options[0])
    if len(call.args) > 1:
        return strict(lambda values, times: lookups[name].rows(_each(values, times), times), 2)
    return strict(lambda values: lookups[name].rows(values), 1)  # noqa: PLW0108  looked up at each batch


def _lookup(call: Call, lookups: Lookups) -> Kernel:
    name, column = str(call.options[0]), str(call.options[1])

    def run(row: Register) -> Register:
        found = lookups[name].column(column, row[0])
        return found.values, both(found.valid, row[1]), row[2]

    return run


def _cast(call: Call, lookups: Lookups) -> Kernel:
    return cast_kernel(call.args[0].type, call.type, bool(call.options[0]))


def _elapsed_float(call: Call, lookups: Lookups) -> Kernel:
    divisor = np.float64(_option(call))
    return strict(lambda start, end: np.true_divide(end - start, divisor), 2)


FACTORIES: Final[dict[str, Factory]] = {
    # numbers
    "same": _fixed(lambda register: register),  # another type for the same physical values
    "finite": _fixed(arithmetic.finite),
    "add": _plain(np.add, 2),
    "subtract": _plain(np.subtract, 2),
    "multiply": _plain(np.multiply, 2),
    "negate": _plain(np.negative),
    "add_checked": _checked(arithmetic.add_checked),
    "subtract_checked": _checked(arithmetic.subtract_checked),
    "multiply_checked": _checked(arithmetic.multiply_checked),
    "negate_checked": _checked(arithmetic.negate_checked),
    "abs_checked": _checked(arithmetic.absolute_checked),
    "limited": lambda call, _: arithmetic.limited(_option(call), _option(call, 1)),
    "divide": _plain(arithmetic.divide, 2),
    "divide_scaled": lambda call, _: strict(arithmetic.divide_scaled(_option(call), _option(call, 1)), 2),
    "remainder": _fixed(arithmetic.remainder),
    "remainder_float": _plain(np.fmod, 2),
    "abs": _plain(np.abs),
    "sign": _plain(lambda v: np.sign(v).astype(np.int64)),
    "floor": _plain(np.floor),
    "ceil": _plain(np.ceil),
    "floor_scaled": _with_int(lambda v, factor: v // factor),
    "ceil_scaled": _with_int(arithmetic.ceil_scaled),
    "round": _with_int(arithmetic.round_float),
    "round_scaled": _with_int(arithmetic.round_scaled),
    "cut": _with_int(arithmetic.cut_float),
    "cut_scaled": _with_int(arithmetic.cut_scaled),
    "sqrt": _plain(np.sqrt),
    "ln": _plain(np.log),
    "log10": _plain(np.log10),
    "exp": _plain(np.exp),
    "power": _plain(np.power, 2),
    "log2": _plain(np.log2),
    "log": _plain(arithmetic.logarithm, 2),
    **{name: _plain(function) for name, function in arithmetic.CIRCULAR.items()},
    "atan2": _plain(np.arctan2, 2),
    "distance_km": _plain(arithmetic.distance_km, 4),
    # comparisons and logic
    **{name: _plain(function, 2) for name, function in logic.COMPARISONS.items()},
    "not": _plain(np.logical_not),
    "and": _fixed(logic.conjunction),
    "or": _fixed(logic.disjunction),
    "truth": _fixed(logic.truth),
    "is_null": _fixed(logic.is_null),
    "distinct": _fixed(logic.distinct),
    "case": _fixed(logic.case),
    "coalesce": _fixed(logic.coalesce),
    "least": _fixed(logic.extreme(np.less_equal)),
    "greatest": _fixed(logic.extreme(np.greater_equal)),
    "member": lambda call, _: logic.member(_option(call)),
    "find": _find,
    "contains": _plain(lambda rows: rows != NO_ROW),
    "lookup": _lookup,
    "cast": _cast,
    "within": lambda call, _: within_kernel(_option(call), _option(call, 1), bool(_option(call, 2))),
    # timestamps
    "part": lambda call, _: strict(clock.PARTS[_option(call)], 1),
    "truncate": lambda call, _: strict(clock.TRUNCATIONS[_option(call)], 1),
    "elapsed": lambda call, _: strict(clock.elapsed(_option(call)), 2),
    "elapsed_months": lambda call, _: strict(clock.elapsed_months(_option(call)), 2),
    "elapsed_float": _elapsed_float,
    "next_start": lambda call, _: strict(clock.next_starts(_option(call)), 1),
    "add_months": lambda call, _: strict(clock.add_months(_option(call)), 2),
    "parse_date": lambda call, _: parse_date(_option(call)),
    "date_format": lambda call, _: date_format(_option(call)),
    # strings
    "lower": _fixed(text.mapped(text.lower, 1, np.object_)),
    "upper": _fixed(text.mapped(text.upper, 1, np.object_)),
    "trim": lambda call, _: text.mapped(shaping.trimmed(str.strip), len(call.args), np.object_),
    "ltrim": lambda call, _: text.mapped(shaping.trimmed(str.lstrip), len(call.args), np.object_),
    "rtrim": lambda call, _: text.mapped(shaping.trimmed(str.rstrip), len(call.args), np.object_),
    "shaped": lambda call, _: shaping.shaped(_option(call)),
    "reverse": _fixed(text.mapped(lambda one: one[::-1], 1, np.object_)),
    "locate": lambda call, _: text.mapped(shaping.locate, len(call.args), np.int64),
    "code_point": _fixed(text.mapped(shaping.code_point, 1, np.int64)),
    "character": _fixed(text.mapped(shaping.character, 1, np.object_)),
    "digest": lambda call, _: text.mapped(shaping.digest(_option(call)), 1, np.object_),
    "length": _fixed(text.mapped(len, 1, np.int64)),
    "substr": lambda call, _: text.mapped(text.substr, len(call.args), np.object_),
    "starts_with": _fixed(text.mapped(str.startswith, 2, np.bool_)),
    "ends_with": _fixed(text.mapped(str.endswith, 2, np.bool_)),
    "contains_text": _fixed(text.mapped(str.__contains__, 2, np.bool_)),
    "strpos": _fixed(text.mapped(text.strpos, 2, np.int64)),
    "replace": _fixed(text.replace()),
    "join": _fixed(text.concat(skip_null=False)),
    "concat": _fixed(text.concat(skip_null=True)),
    "concat_ws": _fixed(text.concat_ws()),
    "like": lambda call, _: text.like(_option(call), _option(call, 1)),
    "regexp_like": lambda call, _: regexps.regexp_like(_option(call)),
    "regexp_extract": lambda call, _: regexps.regexp_extract(_option(call), _option(call, 1)),
    "regexp_replace": lambda call, _: regexps.regexp_replace(_option(call), _option(call, 1)),
}
