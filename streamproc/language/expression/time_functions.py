"""The functions of times."""

from __future__ import annotations

__all__ = ["TIME"]

from typing import Final

from operators.expressions.clock import PARTS, TRUNCATIONS, UNIT_MONTHS, UNIT_MS
from streamproc.language.expression.function import Function
from streamproc.language.expression.time_calls import (
    ceiling,
    date_add,
    date_diff,
    date_format,
    epoch_ms,
    from_epoch,
    from_unixtime,
    part,
    since,
    to_date,
    to_timestamp,
    truncate,
    unix_timestamp,
)

_PART_DUCKDB: Final = {
    "day_of_week": "isodow({0})",
    "dayofweek": "(dayofweek({0}) + 1)",
    "day_of_year": "dayofyear({0})",
    "millisecond": "(millisecond({0}) % 1000)",
    "epoch": "floor(epoch({0}))::BIGINT",
}
_SAID: Final = {
    "day_of_week": "ISO: Monday 1 to Sunday 7",
    "dayofweek": "Flink's: Sunday 1 to Saturday 7",
    "week": "ISO: 1 to 53, from Monday; the first has the year's first Thursday",
    "isoyear": "the year of the ISO week",
    "epoch": "whole seconds since 1970-01-01 UTC",
}
_PARTS: Final = {
    name: Function(
        f"{name}(ts)",
        _SAID.get(name, f"the {name.replace('_', ' ')}, in UTC"),
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
TIME: Final = {
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
    "date_ceil": Function(
        "date_ceil(unit, ts)",
        "the start of the unit that begins at ts or next",
        "date_ceil('hour', TIMESTAMP '2026-05-03T10:20:30Z')",
        2,
        2,
        ceiling,
        "CASE WHEN date_trunc({all}) = {1} THEN {1} ELSE date_trunc({all}) + CAST('1 ' || {0} AS INTERVAL) END",
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
        "ts plus n units: " + ", ".join((*UNIT_MS, *UNIT_MONTHS)) + "; a day that a month lacks is its last",
        "date_add('minute', -5, TIMESTAMP '2026-05-03T10:20:30Z')",
        3,
        3,
        date_add,
        "time_later({all})",
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
        "to_timestamp(s [, pattern])",
        "s, RFC 3339 or a date, or written by Java's pattern (a literal), as a timestamp; NULL where it is none",
        "to_timestamp('03.05.2026', 'dd.MM.yyyy')",
        1,
        2,
        to_timestamp,
        "parsed_time({all})",
    ),
    "to_date": Function(
        "to_date(s [, pattern])",
        "the same, at the start of its day: a timestamp",
        "to_date('2026-05-03')",
        1,
        2,
        to_date,
        "date_trunc('day', parsed_time({all}))",
    ),
    "unix_timestamp": Function(
        "unix_timestamp(s [, pattern])",
        "the same, as whole seconds since 1970-01-01 UTC",
        "unix_timestamp('1970-01-02 00:00:01')",
        1,
        2,
        unix_timestamp,
        "floor(epoch(parsed_time({all})))::BIGINT",
    ),
    "from_unixtime": Function(
        "from_unixtime(n [, pattern])",
        "n seconds after 1970-01-01 UTC as text, by Java's pattern (yyyy-MM-dd HH:mm:ss)",
        "from_unixtime(44)",
        1,
        2,
        from_unixtime,
        "unix_text({all})",
    ),
    "to_timestamp_ltz": Function(
        "to_timestamp_ltz(n [, digits])",
        "the timestamp n seconds (digits: 0) or milliseconds (3, or none) after 1970-01-01 UTC",
        "to_timestamp_ltz(86400000, 3)",
        1,
        2,
        from_epoch,
        "epoch_time({all})",
    ),
}
