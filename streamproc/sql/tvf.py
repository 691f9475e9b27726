"""Table functions of time: TABLE(TUMBLE(TABLE payments, DESCRIPTOR(event_time), INTERVAL '5' MINUTE))."""

from __future__ import annotations

__all__ = ["is_window_table", "timestamp_column", "window_table", "with_window"]

from collections.abc import Callable
from typing import Final

from sqlglot import exp

from operators.expressions.nodes import Call, ColumnRef, Compiled, Constant
from operators.schema import DataType, Kind
from state.errors import ConfigError, Place
from streamproc.language.problems import nearest
from streamproc.sql.names import Rows, Scope, called
from streamproc.sql.plan import Column, Compute, Role, Window, WindowShape
from streamproc.sql.shapes import table_shape
from streamproc.sql.statements import Statement

TABLE_WINDOWS: Final = ("tumble", "hop", "cumulate", "session")
_TIMESTAMP: Final = DataType(Kind.TIMESTAMP)
_WINDOW: Final[tuple[Role, ...]] = ("window_start", "window_end", "window_time")
_ARGUMENTS: Final = ("data", "timecol", "slide", "step", "size", "gap", "offset")


def is_window_table(node: exp.Table) -> bool:
    """Whether it is TABLE(...) of a function, or the function itself."""
    return called(node.this) == "table" or called(node.this) in TABLE_WINDOWS


def window_table(statement: Statement, node: exp.Table, named: Callable[[exp.Expr], Rows]) -> Rows:
    """The table's rows with window_start, window_end and window_time; `named`: a table by its name.

    Raises:
        ConfigError: it is not written as it should be, or no timestamp is named.
    """
    call = node.this
    if called(call) == "table":
        if len(call.expressions) != 1 or called(call.expressions[0]) not in TABLE_WINDOWS:
            place = statement.place(call.expressions[0] if call.expressions else node)
            raise ConfigError(f"TABLE(...) wants one of {_names()}", place, _near(call))
        call = call.expressions[0]
    data, keys, time, spans = _arguments(statement, call)
    if not isinstance(data, exp.Column) or data.args.get("table"):
        raise ConfigError("the first argument is TABLE and a table's name", statement.place(data))
    rows = named(data)
    scope = Scope(statement, rows)
    if called(time) != "descriptor" or len(time.expressions) != 1:
        raise ConfigError("DESCRIPTOR(time) is wanted here", statement.place(time))
    if keys and called(call) != "session":
        raise ConfigError("only SESSION takes PARTITION BY", statement.place(keys[0]))
    key = timestamp_column(scope, time.expressions[0])
    shape = table_shape(statement, call, spans)
    if any(one.name in _WINDOW for one in rows.columns):
        raise ConfigError("the table has windows already", statement.place(data), "window_time is in the next query")
    place = statement.place(time)
    return with_window(rows, key, shape, place, keys=tuple(scope.key(one) for one in keys))


def _names() -> str:
    return ", ".join(name.upper() for name in TABLE_WINDOWS)


def _near(call: exp.Expr) -> str | None:
    name = called(call.expressions[0]) if call.expressions else ""
    return nearest(name, TABLE_WINDOWS)


def _arguments(statement: Statement, call: exp.Expr) -> tuple[exp.Expr, list[exp.Expr], exp.Expr, list[exp.Expr]]:
    """Table, keys of a session, descriptor and intervals; by their names (DATA => ...) they may come in any order."""
    given = list(call.expressions)
    named = {one.this.name.lower(): one.expression for one in given if isinstance(one, exp.Kwarg)}
    for one in given:
        if isinstance(one, exp.Kwarg) and one.this.name.lower() not in _ARGUMENTS:
            what = f"there is no argument {one.this.name}"
            raise ConfigError(what, statement.place(one), nearest(one.this.name.lower(), _ARGUMENTS))
    plain = [one for one in given if not isinstance(one, exp.Kwarg)]
    ordered = [named[name] for name in _ARGUMENTS if name in named]
    every = [*ordered[:1], *plain, *ordered[1:]] if "data" in named else [*plain, *ordered]
    time = next((n for n, one in enumerate(every) if called(one) == "descriptor"), 1)
    if len(every) < 3 or time == 0:
        form = f"write {called(call).upper()}(TABLE t, DESCRIPTOR(time), INTERVAL ...)"
        raise ConfigError(form, statement.place(call))
    keys = [part for one in every[1:time] for part in (one.expressions if isinstance(one, exp.Tuple) else [one])]
    keys = [one.this if isinstance(one, exp.Paren) else one for one in keys]
    return every[0], keys, every[time], every[time + 1 :]


def timestamp_column(scope: Scope, node: exp.Expr) -> str:
    """The key of a timestamp column that windows are made of.

    Raises:
        ConfigError: it is none.
    """
    if not isinstance(node, exp.Column):
        raise ConfigError("a window wants the column of a time", scope.statement.place(node))
    key = scope.key(node)
    kind = scope.rows.at(key).type
    if kind.kind is not Kind.TIMESTAMP:
        times = [one.name for one in scope.rows.columns if one.type.kind is Kind.TIMESTAMP]
        what = f"a window wants a timestamp; {node.name} is {kind}"
        raise ConfigError(what, scope.statement.place(node), nearest(node.name, times) or "this table has none")
    return key


def with_window(
    rows: Rows, time: str, shape: WindowShape, place: Place, *, keys: tuple[str, ...] = (), hidden: str = ""
) -> Rows:
    """The rows with the start, end and last moment of their windows, the last three columns.

    `hidden`: how their keys begin if a statement may not name them.
    """
    alias = "" if hidden else rows.at(time).alias
    start, end, last = (
        Column(f"{hidden or alias}.{name}", alias, "" if hidden else name, _TIMESTAMP, False, name) for name in _WINDOW
    )
    window = Window(rows.node, time, shape, start.key, end.key, keys, place)
    node = Compute(window, ((last.key, _last_moment(end.key)),))
    return Rows(node, (*rows.columns, start, end, last), last.key)


def _last_moment(end: str) -> Compiled:
    """The last millisecond of a window."""
    reference = ColumnRef(end, _TIMESTAMP, nullable=False)
    one = Constant(_TIMESTAMP, 1)
    return Compiled(_TIMESTAMP, False, (end,), Call("subtract", (reference, one), _TIMESTAMP, False))
