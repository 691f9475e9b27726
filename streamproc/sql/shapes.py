"""Windows of time as a statement writes them: TUMBLE, HOP, CUMULATE and SESSION with their intervals."""

from __future__ import annotations

__all__ = ["group_shape", "span_of", "table_shape"]

from typing import Final

from sqlglot import exp

from operators.expressions.clock import UNIT_MS
from state.errors import ConfigError
from streamproc.language.expression.time_calls import span_hint
from streamproc.sql.names import called
from streamproc.sql.plan import WindowShape
from streamproc.sql.statements import Statement

_UNITS_MAX: Final = 10**9
_WINDOWS_MAX: Final = 10_000
"""So many windows may a row belong to: more is an interval that was mistaken."""
_GROUP: Final = {
    "tumble": "TUMBLE(time, INTERVAL '5' MINUTE)",
    "hop": "HOP(time, INTERVAL '1' MINUTE, INTERVAL '5' MINUTE): how far apart windows begin, and their length",
    "session": "SESSION(time, INTERVAL '5' MINUTE): the gap that ends one",
}
_TABLE: Final = {
    "tumble": "TUMBLE(TABLE t, DESCRIPTOR(time), INTERVAL '5' MINUTE)",
    "hop": "HOP(TABLE t, DESCRIPTOR(time), INTERVAL '1' MINUTE, INTERVAL '5' MINUTE)",
    "cumulate": "CUMULATE(TABLE t, DESCRIPTOR(time), INTERVAL '1' MINUTE, INTERVAL '5' MINUTE)",
    "session": "SESSION(TABLE t PARTITION BY key, DESCRIPTOR(time), INTERVAL '5' MINUTE)",
}


def span_of(statement: Statement, node: exp.Expr) -> int:
    """Milliseconds of an interval.

    Raises:
        ConfigError: it is none, not positive, or of months.
    """
    unit = node.args.get("unit") if isinstance(node, exp.Interval) else None
    name = unit.name.lower().removesuffix("s") if isinstance(unit, exp.Var) else ""
    text = node.this.name if isinstance(node, exp.Interval) and node.this is not None else ""
    number = int(text) if text.isdecimal() and len(text) < 15 else 0
    if name not in UNIT_MS or not 0 < number <= _UNITS_MAX:
        what = f"a span of time is wanted: INTERVAL '5' MINUTE; units: {', '.join(UNIT_MS)}"
        raise ConfigError(what, statement.place(node), span_hint(name))
    return number * UNIT_MS[name]


def group_shape(statement: Statement, node: exp.Expr) -> WindowShape:
    """The windows of a group function: its arguments behind the time."""
    _check_count(statement, node, len(node.expressions) - 1, _GROUP[called(node)])
    return _shape(statement, node, node.expressions[1:])


def table_shape(statement: Statement, node: exp.Expr, spans: list[exp.Expr]) -> WindowShape:
    """The windows of a table function, whose intervals are `spans`; the last may be an offset."""
    offset = 0 if called(node) == "session" else 1
    _check_count(statement, node, len(spans), _TABLE[called(node)], offset)
    return _shape(statement, node, spans)


def _check_count(statement: Statement, node: exp.Expr, given: int, form: str, optional: int = 0) -> None:
    wanted = _wanted(node)
    if not wanted <= given <= wanted + optional:
        raise ConfigError(f"write {form}", statement.place(node))


def _wanted(node: exp.Expr) -> int:
    return 1 if called(node) in {"tumble", "session"} else 2


def _shape(statement: Statement, node: exp.Expr, spans: list[exp.Expr]) -> WindowShape:
    kind, wanted = called(node), _wanted(node)
    sizes = [span_of(statement, span) for span in spans]
    offset = sizes[wanted] if len(sizes) > wanted else 0
    step, size = (sizes[0], sizes[0]) if wanted == 1 else (sizes[0], sizes[1])
    if kind == "cumulate" and size % step:
        raise ConfigError("CUMULATE's size must be a multiple of its step", statement.place(node))
    if size > step * _WINDOWS_MAX:
        raise ConfigError(f"a row would be in more than {_WINDOWS_MAX} windows", statement.place(node))
    return WindowShape(kind, size, step, offset)  # type: ignore[arg-type]
