"""Every function of the language: its signature, an example, its typing, and DuckDB's spelling for the reference."""

from __future__ import annotations

__all__ = ["FUNCTIONS", "Function"]

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from operators.expressions.clock import PARTS, TRUNCATIONS, UNIT_MONTHS, UNIT_MS
from streamproc.language.expression.arithmetic import remainder
from streamproc.language.expression.calls import (
    choice,
    choose,
    coalesce,
    concat,
    concat_ws,
    date_add,
    date_diff,
    date_format,
    distance,
    epoch_ms,
    floats,
    from_epoch,
    left,
    nullif,
    part,
    regexp,
    regexp_replace,
    since,
    substr,
    text_count,
    text_test,
    text_to,
    to_timestamp,
    truncate,
)
from streamproc.language.expression.numeric import absolute, ceiling, floor, rounded, sign
from streamproc.language.expression.typed import Typed

_UNBOUNDED: Final = 100


class Function(NamedTuple):
    """A function. `least`/`most`: numbers of arguments. `duckdb`: its text there, with {0} {1}, {all} and {now}."""

    signature: str
    summary: str
    example: str
    least: int
    most: int
    build: Callable[[Sequence[Typed]], Typed]
    duckdb: str


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
        _UNBOUNDED,
        choice("least"),
        "least({all})",
    ),
    "greatest": Function(
        "greatest(x, ...)",
        "the greatest; NULLs are skipped",
        "greatest(3, 1)",
        1,
        _UNBOUNDED,
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
        _UNBOUNDED,
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
_TEXT: Final = {
    "lower": Function("lower(s)", "lower case", "lower('ABC')", 1, 1, text_to("lower"), "lower({0})"),
    "upper": Function("upper(s)", "upper case", "upper('abc')", 1, 1, text_to("upper"), "upper({0})"),
    "trim": Function("trim(s)", "without spaces at both ends", "trim('  a ')", 1, 1, text_to("trim"), "trim({0})"),
    "length": Function(
        "length(s)", "number of code points", "length('abc')", 1, 1, text_count("length"), "length({0})"
    ),
    "substr": Function(
        "substr(s, start [, length])",
        "part of s; start counts from 1, a negative one from the end",
        "substr('abcdef', 2, 3)",
        2,
        3,
        substr,
        "substr({all})",
    ),
    "left": Function(
        "left(s, n)",
        "the first n code points",
        "left('abcdef', 2)",
        2,
        2,
        left,
        "substr({0}, 1, {1})",
    ),
    "starts_with": Function(
        "starts_with(s, prefix)",
        "whether s begins so",
        "starts_with('abc', 'ab')",
        2,
        2,
        text_test("starts_with"),
        "starts_with({all})",
    ),
    "ends_with": Function(
        "ends_with(s, suffix)",
        "whether s ends so",
        "ends_with('abc', 'bc')",
        2,
        2,
        text_test("ends_with"),
        "ends_with({all})",
    ),
    "contains": Function(
        "contains(s, part)",
        "whether part stands in s",
        "contains('abc', 'b')",
        2,
        2,
        text_test("contains_text"),
        "contains({all})",
    ),
    "strpos": Function(
        "strpos(s, part)",
        "where part stands in s, from 1; 0: nowhere",
        "strpos('abc', 'c')",
        2,
        2,
        text_count("strpos"),
        "strpos({all})",
    ),
    "replace": Function(
        "replace(s, old, new)",
        "every `old` replaced",
        "replace('aba', 'a', 'x')",
        3,
        3,
        text_to("replace"),
        "replace({all})",
    ),
    "concat": Function(
        "concat(s, ...)",
        "texts joined; NULL counts as ''",
        "concat('a', NULL, 'b')",
        1,
        _UNBOUNDED,
        concat,
        "concat({all})",
    ),
    "concat_ws": Function(
        "concat_ws(separator, s, ...)",
        "texts joined by the separator; NULLs are left out",
        "concat_ws('~', 'AA', NULL, 'BB', '', 'CC')",
        2,
        _UNBOUNDED,
        concat_ws,
        "concat_ws({all})",
    ),
    "regexp_like": Function(
        "regexp_like(s, pattern)",
        "whether RE2's pattern (a literal) matches anywhere in s; linear time",
        "regexp_like('abc', 'b+c$')",
        2,
        2,
        regexp,
        "regexp_matches({all})",
    ),
    "regexp_replace": Function(
        "regexp_replace(s, pattern, new)",
        "every match of RE2's pattern replaced by the text `new` (both literals); linear time",
        "regexp_replace('foobar', 'oo+', 'u')",
        3,
        3,
        regexp_replace,
        r"regexp_replace({0}, {1}, replace({2}, '\', '\\'), 'g')",
    ),
}
_PART_DUCKDB: Final = {
    "day_of_week": "isodow({0})",
    "dayofweek": "(dayofweek({0}) + 1)",
    "day_of_year": "dayofyear({0})",
}
_WEEKS: Final = {
    "day_of_week": "ISO: Monday 1 to Sunday 7",
    "dayofweek": "Flink's: Sunday 1 to Saturday 7",
}
_PARTS: Final = {
    name: Function(
        f"{name}(ts)",
        _WEEKS.get(name, f"the {name.replace('_', ' ')}, in UTC"),
        f"{name}(TIMESTAMP '2026-05-03T10:20:30Z')",
        1,
        1,
        part(name),
        _PART_DUCKDB.get(name, name + "({0})"),
    )
    for name in PARTS
}
_SINCE: Final = {
    f"{unit}s_since": Function(
        f"{unit}s_since(ts)",
        f"float64 {unit}s from ts to the row's event time",
        f"{unit}s_since(TIMESTAMP '2026-05-03T10:20:30Z')",
        1,
        1,
        since(UNIT_MS[unit]),
        f"((epoch_ms({{now}}) - epoch_ms({{0}})) / {UNIT_MS[unit]}.0::DOUBLE)",
    )
    for unit in ("second", "minute", "hour", "day")
}
_TIME: Final = {
    **_PARTS,
    **_SINCE,
    "date_trunc": Function(
        "date_trunc(unit, ts)",
        "the start of ts's " + ", ".join(TRUNCATIONS),
        "date_trunc('hour', TIMESTAMP '2026-05-03T10:20:30Z')",
        2,
        2,
        truncate,
        "date_trunc({all})::TIMESTAMP",
    ),
    "date_diff": Function(
        "date_diff(unit, a, b)",
        "whole elapsed units from a to b, towards zero: " + ", ".join((*UNIT_MS, *UNIT_MONTHS)),
        "date_diff('minute', TIMESTAMP '2026-05-03T10:20:30Z', TIMESTAMP '2026-05-03T11:20:29Z')",
        3,
        3,
        date_diff,
        "date_sub({all})",
    ),
    "date_add": Function(
        "date_add(unit, n, ts)",
        "ts plus n units: " + ", ".join(UNIT_MS),
        "date_add('minute', -5, TIMESTAMP '2026-05-03T10:20:30Z')",
        3,
        3,
        date_add,
        "({2} + to_milliseconds({1} * unit_ms({0})))",
    ),
    "date_format": Function(
        "date_format(ts, pattern)",
        "ts in UTC by Java's pattern (a literal): y, M, d, E, H, h, m, s, S, a, and text in quotes",
        "date_format(TIMESTAMP '2026-05-03T10:20:30Z', 'dd.MM.yyyy HH:mm')",
        2,
        2,
        date_format,
        "strftime({0}, strftime_pattern({1}))",
    ),
    "epoch_ms": Function(
        "epoch_ms(ts)",
        "milliseconds since 1970-01-01 UTC",
        "epoch_ms(TIMESTAMP '1970-01-02T00:00:00Z')",
        1,
        1,
        epoch_ms,
        "epoch_ms({0})",
    ),
    "to_timestamp": Function(
        "to_timestamp(s)",
        "s, RFC 3339 or a date, as a timestamp; NULL where it is none",
        "to_timestamp('2026-05-03 10:20:30')",
        1,
        1,
        to_timestamp,
        "TRY_CAST({0} AS TIMESTAMP)",
    ),
    "to_timestamp_ltz": Function(
        "to_timestamp_ltz(n, digits)",
        "the timestamp n seconds (digits: 0) or milliseconds (3) after 1970-01-01 UTC",
        "to_timestamp_ltz(86400000, 3)",
        2,
        2,
        from_epoch,
        "make_timestamp_ms({0} * if({1} = 0, 1000, 1))",
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
}
FUNCTIONS: Final[dict[str, Function]] = {**_NUMERIC, **_CHOICES, **_TEXT, **_TIME}
FUNCTIONS.update({alias: FUNCTIONS[name] for alias, name in _ALIASES.items()})
