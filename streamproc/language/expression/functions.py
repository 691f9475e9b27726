"""Every function of the language: its signature, an example, its typing, and DuckDB's spelling for the reference."""

from __future__ import annotations

__all__ = ["FUNCTIONS", "REFUSED", "Function"]

import math
from typing import Final

from streamproc.language.expression.arithmetic import remainder
from streamproc.language.expression.calls import choice, choose, coalesce, distance, floats, logarithm, nullif
from streamproc.language.expression.function import UNBOUNDED, Function
from streamproc.language.expression.numeric import absolute, ceiling, floor, rounded, sign, truncated
from streamproc.language.expression.text_functions import TEXT
from streamproc.language.expression.time_functions import TIME
from streamproc.language.expression.typed import FLOAT64, constant

_CIRCULAR: Final = {
    name: Function(f"{name}(x)", summary, f"{name}(0.5)", 1, 1, floats(name), sql)
    for name, summary, sql in (
        ("sin", "sine of x radians", "finite(sin({0}))"),
        ("cos", "cosine of x radians", "finite(cos({0}))"),
        ("tan", "tangent of x radians", "finite(tan({0}))"),
        ("cot", "cotangent of x radians; of 0: NULL", "if({0} = 0, NULL, cot({0}))"),
        ("asin", "arc sine, in radians; outside -1 to 1: NULL", "if(abs({0}) > 1, NULL, asin({0}))"),
        ("acos", "arc cosine, in radians; outside -1 to 1: NULL", "if(abs({0}) > 1, NULL, acos({0}))"),
        ("atan", "arc tangent, in radians", "atan({0})"),
        ("sinh", "hyperbolic sine; too large: NULL", "finite(sinh({0}))"),
        ("cosh", "hyperbolic cosine; too large: NULL", "finite(cosh({0}))"),
        ("tanh", "hyperbolic tangent", "tanh({0})"),
        ("degrees", "radians as degrees", "finite(degrees({0}))"),
        ("radians", "degrees as radians", "radians({0})"),
    )
}
_NUMERIC: Final = {
    "abs": Function("abs(x)", "|x|", "abs(-2.5)", 1, 1, absolute, "abs({0})"),
    "sign": Function("sign(x)", "-1, 0 or 1 as int64", "sign(-2.5)", 1, 1, sign, "sign({0})"),
    "round": Function(
        "round(x [, digits])",
        "to `digits` decimals (a literal), halves away from zero; a decimal with no digits left is int64",
        "round(2.345, 2)",
        1,
        2,
        rounded,
        "round({all})",
    ),
    "truncate": Function(
        "truncate(x [, digits])",
        "the same towards zero",
        "truncate(-2.567, 2)",
        1,
        2,
        truncated,
        "trunc({all})",
    ),
    "floor": Function("floor(x)", "rounded down; of a decimal: int64", "floor(-2.5)", 1, 1, floor, "floor({0})"),
    "ceil": Function("ceil(x)", "rounded up; of a decimal: int64", "ceil(-2.5)", 1, 1, ceiling, "ceil({0})"),
    "sqrt": Function(
        "sqrt(x)", "square root; negative: NULL", "sqrt(2)", 1, 1, floats("sqrt"), "if({0} >= 0, sqrt({0}), NULL)"
    ),
    "ln": Function(
        "ln(x)", "natural logarithm; not positive: NULL", "ln(10)", 1, 1, floats("ln"), "if({0} > 0, ln({0}), NULL)"
    ),
    "log10": Function(
        "log10(x)",
        "decimal logarithm; not positive: NULL",
        "log10(1000)",
        1,
        1,
        floats("log10"),
        "if({0} > 0, log10({0}), NULL)",
    ),
    "log2": Function(
        "log2(x)",
        "logarithm to base 2; not positive: NULL",
        "log2(8)",
        1,
        1,
        floats("log2"),
        "if({0} > 0, log2({0}), NULL)",
    ),
    "log": Function(
        "log([base,] x)",
        "logarithm, natural without a base; outside its range: NULL",
        "log(2, 8)",
        1,
        2,
        logarithm,
        "logarithm({all})",
    ),
    **_CIRCULAR,
    "atan2": Function(
        "atan2(y, x)", "angle of the point, in radians", "atan2(1, 2)", 2, 2, floats("atan2"), "atan2({all})"
    ),
    "pi": Function("pi()", "the number pi", "pi()", 0, 0, lambda _: constant(math.pi, FLOAT64), "pi()"),
    "e": Function("e()", "the number e", "e()", 0, 0, lambda _: constant(math.e, FLOAT64), "exp(1)"),
    "exp": Function(
        "exp(x)", "e to the x; too large: NULL", "exp(1)", 1, 1, floats("exp"), "finite(exp(({0})::DOUBLE))"
    ),
    "power": Function(
        "power(x, y)",
        "x to the y, float64; not a finite number: NULL",
        "power(2, 10)",
        2,
        2,
        floats("power"),
        "finite(power(({0})::DOUBLE, ({1})::DOUBLE))",
    ),
    "mod": Function(
        "mod(x, y)",
        "x % y: the sign of x; y = 0: NULL",
        "mod(-7, 3)",
        2,
        2,
        lambda args: remainder(*args),
        "if({1} = 0, NULL, {0} % {1})",
    ),
    "least": Function(
        "least(x, ...)",
        "the smallest; NULLs are skipped",
        "least(3, 1)",
        1,
        UNBOUNDED,
        choice("least"),
        "least({all})",
    ),
    "greatest": Function(
        "greatest(x, ...)",
        "the greatest; NULLs are skipped",
        "greatest(3, 1)",
        1,
        UNBOUNDED,
        choice("greatest"),
        "greatest({all})",
    ),
    "distance_km": Function(
        "distance_km(lat1, lon1, lat2, lon2)",
        "great-circle distance of two points in degrees: haversine, earth radius 6371.0 km",
        "distance_km(52.52, 13.405, 48.137, 11.575)",
        4,
        4,
        distance,
        "distance_km({all})",
    ),
}
_CHOICES: Final = {
    "coalesce": Function(
        "coalesce(x, ...)",
        "the first that is not NULL",
        "coalesce(NULL, 1)",
        1,
        UNBOUNDED,
        coalesce,
        "coalesce({all})",
    ),
    "nullif": Function("nullif(x, y)", "NULL if x = y, else x", "nullif(3, 3)", 2, 2, nullif, "nullif({all})"),
    "if": Function(
        "if(condition, x [, y])",
        "x where TRUE, else y",
        "if(1 < 2, 'a', 'b')",
        2,
        3,
        choose,
        "CASE WHEN {0} THEN {1} ELSE {2} END",
    ),
}
_ALIASES: Final = {
    "ceiling": "ceil",
    "char_length": "length",
    "character_length": "length",
    "dayofmonth": "day",
    "dayofyear": "day_of_year",
    "ifnull": "coalesce",
    "instr": "strpos",
    "regexp": "regexp_like",
    "timestampadd": "date_add",
    "pow": "power",
    "substring": "substr",
    "timestampdiff": "date_diff",
    "dow": "day_of_week",
    "isodow": "day_of_week",
    "btrim": "trim",
    "endswith": "ends_with",
    "startswith": "starts_with",
    "trunc": "truncate",
}
FUNCTIONS: Final[dict[str, Function]] = {**_NUMERIC, **_CHOICES, **TEXT, **TIME}
FUNCTIONS.update({alias: FUNCTIONS[name] for alias, name in _ALIASES.items()})
_CLOCK: Final = "a clock would not give the same twice: the event time is a column"
_CHANCE: Final = "it would not give the same twice"
_JSON: Final = "name the fields of the input's records instead"
_LISTS: Final = "there are no values of arrays and maps"
_BYTES: Final = "there are no values of bytes; hashes are md5, sha1, sha2"
REFUSED: Final = {
    **dict.fromkeys(("now", "current_row_timestamp", "current_timestamp", "localtimestamp", "proctime"), _CLOCK),
    **dict.fromkeys(("current_watermark", "source_watermark"), "rows never depend on when a watermark passes"),
    **dict.fromkeys(("rand", "rand_integer", "uuid"), _CHANCE),
    **dict.fromkeys(("json_value", "json_query", "json_exists", "json_object", "json_array", "json_string"), _JSON),
    **dict.fromkeys(("array", "map", "cardinality", "element", "split", "str_to_map", "array_agg", "collect"), _LISTS),
    **dict.fromkeys(("encode", "decode", "to_base64", "from_base64", "hex", "unhex", "bin"), _BYTES),
    "convert_tz": "there is no time zone but UTC",
    "parse_url": "take the part with regexp_extract",
    "datediff": "date_diff(unit, a, b), or TIMESTAMPDIFF(unit, a, b)",
}
"""Functions of others that are left out: why, or what does instead."""
