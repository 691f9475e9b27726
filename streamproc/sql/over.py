"""Functions over the rows before: SUM(amount) OVER (PARTITION BY card ORDER BY event_time RANGE ...)."""

from __future__ import annotations

__all__ = ["Overs"]

from collections.abc import Sequence
from typing import Final

from sqlglot import exp

from operators.expressions.nodes import Compiled
from operators.schema import DataType, Kind
from state.errors import ConfigError, Place
from streamproc.language.problems import nearest
from streamproc.sql.group import aggregate_type
from streamproc.sql.names import OVER_AGGREGATES, Rows, Scope, called, key_of, replaced
from streamproc.sql.plan import Column, Compute, Frame, Over, OverFunction, SortKey
from streamproc.sql.shapes import span_of
from streamproc.sql.statements import Statement

_ROWS_MAX: Final = 10**9
_OTHERS: Final = ("row_number", "lag", "first_value", "last_value")
_KNOWN: Final = (*sorted(OVER_AGGREGATES), *_OTHERS)
_LAG_MAX: Final = 3
_INT64: Final = DataType(Kind.INT64)
_INSTEAD: Final = {
    "LEAD": "it needs rows that come later",
    "FILTER": "SUM(CASE WHEN condition THEN x END) OVER (...)",
    "RANK": "ROW_NUMBER() tells equal rows by their order",
}
_FORM: Final = "BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW"


class Overs:
    """Takes the functions over rows out of SELECT's list; each becomes a column."""

    def __init__(self, statement: Statement, rows: Rows, named: Sequence[exp.Expr]) -> None:
        self.statement = statement
        self._source = rows
        self._scope = Scope(statement, rows)
        self._named = {one.this.name: one for one in named}
        self._computed: list[tuple[str, Compiled]] = []
        self._functions: list[OverFunction] = []
        self._columns: list[Column] = []
        self._place: Place | None = None

    def after(self, node: exp.Expr) -> exp.Expr:
        """A part of SELECT's list, resolved, over the columns of `rows()`."""
        return replaced(self._scope.resolved(node), self._replace)

    def rows(self) -> Rows:
        """The rows with the functions' columns; as they came if there are none."""
        if not self._functions:
            return self._source
        source = Compute(self._source.node, tuple(self._computed), self._source.time)
        time = self._source.time if any(not one.order for one in self._functions) else ""
        node = Over(source, time, tuple(self._functions), self._place)
        return Rows(node, (*self._source.columns, *self._columns), self._source.time)

    def _replace(self, node: exp.Expr) -> str | None:
        if not isinstance(node, exp.Window):
            return None
        function, place = called(node.this), self.statement.place(node)
        self._place = self._place or place
        if function not in _KNOWN:
            name = function.upper() or type(node.this).__name__.upper()
            hint = _INSTEAD.get(name) or nearest(function, _KNOWN)
            raise ConfigError(f"{name} is not known OVER rows", place, hint)
        arguments = list(node.this.expressions)
        distinct = len(arguments) == 1 and isinstance(arguments[0], exp.Distinct)
        if distinct:
            arguments = arguments[0].expressions
            if function != "count":
                raise ConfigError(f"{function.upper()}(DISTINCT ...) is not part of the subset", place)
        window = self._definition(node)
        order = self._order(window) if function == "row_number" and not self._in_time(window) else ()
        frame = self._frame(window, function, ordered=bool(order))
        key = f"@over{len(self._functions)}"
        made = self._function(node.this, arguments, frame, key)
        if order:
            made = OverFunction(key, function, "", made.type, frame, order=order)
        if distinct:
            made = OverFunction(key, "distinct", made.argument, made.type, frame)
        self._functions.append(made)
        self._columns.append(Column(key, "", "", made.type, made.function not in {"count", "distinct", "row_number"}))
        return key

    def _definition(self, node: exp.Expr) -> exp.Expr:
        """The window: written here, or named in WINDOW."""
        name = node.args.get("alias")
        if name is None:
            return node
        found = self._named.get(name.name)
        if found is None:
            place = self.statement.place(name)
            raise ConfigError(f"there is no window {name.name}", place, nearest(name.name, self._named))
        return self._scope.resolved(found)

    def _function(self, call: exp.Expr, arguments: list[exp.Expr], frame: Frame, key: str) -> OverFunction:
        function, place = called(call), self.statement.place(call)
        if function == "row_number":
            if arguments:
                raise ConfigError("ROW_NUMBER() takes no argument", place)
            return OverFunction(key, function, "", _INT64, frame)
        if len(arguments) != 1 and not (function == "lag" and 1 < len(arguments) <= _LAG_MAX):
            raise ConfigError(f"{function.upper()} has the wrong number of arguments", place)
        if isinstance(arguments[0], exp.Star):
            if function != "count":
                raise ConfigError("* is for COUNT(*) only", place)
            return OverFunction(key, "count", "", _INT64, frame)
        argument, kind = self._argument(arguments[0], function)
        if function in OVER_AGGREGATES:
            return OverFunction(key, function, argument, aggregate_type(self.statement, call, kind), frame)
        offset, default = 1, ""
        if len(arguments) > 1:
            offset = self._whole(arguments[1], "LAG's second argument")
        if len(arguments) > 2:
            default, other = self._argument(arguments[2], function)
            if other != kind:
                raise ConfigError(f"LAG's default is {other}, its first argument {kind}", place, "CAST one of them")
        return OverFunction(key, function, argument, kind, frame, offset, default)

    def _argument(self, node: exp.Expr, function: str) -> tuple[str, DataType]:
        compiled = self._scope.compile(node, f"the argument of {function.upper()}")
        key = f"@argument{len(self._computed)}"
        self._computed.append((key, compiled))
        return key, compiled.type

    def _whole(self, node: exp.Expr, what: str) -> int:
        text = node.name if isinstance(node, exp.Literal) and not node.is_string else ""
        if not text.isdecimal() or not 0 < int(text[:10]) <= _ROWS_MAX:
            raise ConfigError(f"{what} is a whole number", self.statement.place(node))
        return int(text)

    def _in_time(self, window: exp.Expr) -> bool:
        """Whether its order is that of the event time, or none is said."""
        order, time = window.args.get("order"), self._source.time
        terms = [] if order is None else order.expressions
        return not terms or (len(terms) == 1 and key_of(terms[0].this) == time and not terms[0].args.get("desc"))

    def _order(self, window: exp.Expr) -> tuple[SortKey, ...]:
        return tuple(
            SortKey(self._key(one.this, "ORDER BY"), bool(one.args.get("desc")), bool(one.args.get("nulls_first")))
            for one in window.args["order"].expressions
        )

    def _frame(self, window: exp.Expr, function: str, *, ordered: bool) -> Frame:
        if not ordered:
            self._check_order(window)
        keys = tuple(self._key(one) for one in window.args.get("partition_by") or ())
        spec = window.args.get("spec")
        if spec is None:
            return Frame(keys, "rows" if function in {"row_number", "lag"} else "range", None)
        place = self.statement.place(window)
        kind = str(spec.args.get("kind")).lower()
        if spec.args.get("end") not in {None, "CURRENT ROW"} or spec.args.get("exclude"):
            raise ConfigError("a frame ends at CURRENT ROW", place, f"{kind.upper()} {_FORM}")
        start = spec.args.get("start")
        if spec.args.get("start_side") not in {None, "PRECEDING"} or kind not in {"rows", "range"} or start is None:
            raise ConfigError("a frame begins at rows PRECEDING", place, f"RANGE {_FORM}")
        if start == "UNBOUNDED":
            return Frame(keys, kind, None)  # type: ignore[arg-type]
        if start == "CURRENT ROW":
            return Frame(keys, kind, 0)  # type: ignore[arg-type]
        if kind == "rows":
            return Frame(keys, "rows", self._whole(start, "the number of rows of ROWS"))
        return Frame(keys, "range", span_of(self.statement, start))

    def _check_order(self, window: exp.Expr) -> None:
        order = window.args.get("order")
        place = self.statement.place(window if order is None else order)
        time = self._source.time
        if not time:
            hint = "CREATE TABLE with WATERMARK FOR says which column it is"
            raise ConfigError("OVER wants rows that have an event time", place, hint)
        name = self._source.at(time).name
        if order is None or not self._in_time(window):
            raise ConfigError(f"OVER wants ORDER BY the event time, ascending: {name}", place)

    def _key(self, node: exp.Expr, where: str = "PARTITION BY") -> str:
        key = key_of(node)
        if key is None:
            compiled = self._scope.compile(node, where)
            key = f"@part{len(self._computed)}"
            self._computed.append((key, compiled))
        return key
