"""GROUP BY: windows of time, keys and aggregates."""

from __future__ import annotations

__all__ = ["Grouping", "aggregate_type", "compile_group"]

from typing import Final, NamedTuple

from sqlglot import exp
from sqlglot.tokenizer_core import TokenType

from operators.expressions.nodes import Compiled
from operators.schema import DataType, Kind
from state.errors import ConfigError, Place
from streamproc.language.expression.functions import FUNCTIONS, REFUSED
from streamproc.language.expression.wording import sql_words
from streamproc.language.problems import nearest
from streamproc.sql.names import AGGREGATES, AUXILIARY, GROUP_WINDOWS, SPREADS, Rows, Scope, called, key_of, replaced
from streamproc.sql.plan import Aggregate, Column, Compute, Group
from streamproc.sql.shapes import group_shape
from streamproc.sql.statements import Statement
from streamproc.sql.tvf import timestamp_column, with_window

_INT64: Final = DataType(Kind.INT64)
_FLOAT64: Final = DataType(Kind.FLOAT64)
_NUMBERS: Final = (Kind.INT64, Kind.DECIMAL, Kind.FLOAT64)
_WINDOW: Final = "@window"
_PARTS: Final = {"start": "window_start", "end": "window_end", "rowtime": "window_time"}
_OTHERS: Final = {"cube": "CUBE", "rollup": "ROLLUP", "grouping_sets": "GROUPING SETS", "all": "GROUP BY ALL"}


class _Key(NamedTuple):
    """A key of the groups: what it is, resolved, and its column's key."""

    tree: exp.Expr
    key: str


class Grouping:
    """Takes GROUP BY apart, and what stands behind it: aggregates and keys become columns of the groups."""

    def __init__(self, statement: Statement, rows: Rows, clause: exp.Expr | None) -> None:
        """`clause`: GROUP BY; None: all rows are one group."""
        self.statement = statement
        clause = exp.Group() if clause is None else clause
        self.place = statement.clause(TokenType.GROUP_BY, clause)
        for argument, name in _OTHERS.items():
            if clause.args.get(argument):
                raise ConfigError(f"{name} is not part of the subset", statement.place(clause))
        functions = [one for one in clause.expressions if called(one) in GROUP_WINDOWS]
        if len(functions) > 1:
            raise ConfigError("GROUP BY takes one window", statement.place(functions[1]))
        self.computed: list[tuple[str, Compiled]] = []
        self.places: list[Place] = []
        self.keys: list[_Key] = []
        self.columns: list[Column] = []
        self.aggregates: list[Aggregate] = []
        self._aggregated: dict[str, str] = {}
        self.source = rows
        self._scope = Scope(statement, rows)
        for one in clause.expressions:
            if one not in functions and not (isinstance(one, exp.Tuple) and not one.expressions):
                self._add_key(one)
        self.window = functions[0] if functions else None
        if self.window is not None:
            self._check_window(self.window)

    def _check_window(self, window: exp.Expr) -> None:
        if not window.expressions:
            raise ConfigError(f"{window.name.upper()} wants a time and its intervals", self.statement.place(window))
        self.time = timestamp_column(self._scope, window.expressions[0])
        self.shape = group_shape(self.statement, window)

    def _add_key(self, node: exp.Expr) -> None:
        if isinstance(node, (exp.Rollup, exp.Cube, exp.GroupingSets)):
            raise ConfigError(f"{sql_words(node)} is not part of the subset", self.statement.place(node))
        if isinstance(node, exp.Literal):
            raise ConfigError("name the column that groups are made of", self.statement.place(node))
        tree = self._scope.resolved(node)
        key = key_of(tree)
        if key is None:
            compiled = self._scope.compile(tree, "GROUP BY")
            key = f"@key{len(self.keys)}"
            self.computed.append((key, compiled))
            self.places.append(self.statement.place(node))
            self.columns.append(Column(key, "", "", compiled.type, compiled.nullable))
        else:
            self.columns.append(self.source.at(key))
        self.keys.append(_Key(tree, key))

    def after(self, node: exp.Expr, where: str) -> exp.Expr:
        """A part of SELECT or HAVING, over the groups: references to keys, aggregates and the window's times.

        Raises:
            ConfigError: a column is neither a key nor in an aggregate, or an aggregate or window is wrong.
        """
        return replaced(self._scope.resolved(node), lambda one: self._replace(one, where))

    def _replace(self, node: exp.Expr, where: str) -> str | None:
        name = called(node)
        if isinstance(node, exp.Window):
            instead = "put it in FROM of another query, ordered by its time; for the first n: ORDER BY ... LIMIT n"
            raise ConfigError("a query with GROUP BY has no OVER", self.statement.place(node), instead)
        if isinstance(node, exp.WithinGroup):
            instead = "aggregates take rows as they come: ORDER BY in a query in FROM"
            raise ConfigError("WITHIN GROUP is not part of the subset", self.statement.place(node), instead)
        if name in AUXILIARY:
            return self._window_part(node, name)
        if isinstance(node, exp.Filter) and called(node.this) in AGGREGATES:
            return self._aggregate(node.this, node.expression.this)
        if name in AGGREGATES:
            return self._aggregate(node, None)
        for one in self.keys:
            if type(one.tree) is type(node) and one.tree == node:
                return one.key
        if name and name not in FUNCTIONS:
            hint = REFUSED.get(name) or nearest(name, (*AGGREGATES, *FUNCTIONS))
            raise ConfigError(f"there is no function or aggregate {name}", self.statement.place(node), hint)
        if key_of(node) is not None:
            called_so = self.source.at(str(key_of(node))).name
            what = f"{called_so} in {where} must be in GROUP BY, or in an aggregate"
            raise ConfigError(what, self.statement.place(node))
        return None

    def _window_part(self, node: exp.Expr, name: str) -> str | None:
        kind, _, part = name.partition("_")
        if self.window is None or called(self.window) != kind:
            hint = (
                "window_start, window_end" if self.window is None else f"{called(self.window).upper()}_{part.upper()}"
            )
            raise ConfigError(f"{name.upper()} wants GROUP BY {kind.upper()}(...)", self.statement.place(node), hint)
        if not self._is_of_window(node, kind):
            what = f"{name.upper()} must have the arguments of {kind.upper()} in GROUP BY"
            raise ConfigError(what, self.statement.place(node))
        return f"{_WINDOW}.{_PARTS[part]}"

    def _is_of_window(self, node: exp.Expr, kind: str) -> bool:
        """Whether a function's arguments are those of the window: the time, and equal spans."""
        assert self.window is not None
        own = self.window.expressions
        if len(node.expressions) != len(own) or self._scope.resolved(node.expressions[0]) != self._scope.resolved(
            own[0]
        ):
            return False
        given = exp.Anonymous(this=kind, expressions=[one.copy() for one in node.expressions])
        return group_shape(self.statement, given) == self.shape

    def _aggregate(self, node: exp.Expr, where: exp.Expr | None) -> str:
        """The key of the aggregate's column; equal ones are computed once."""
        text = f"{node.sql()} {'' if where is None else where.sql()}"
        if text not in self._aggregated:
            key = f"@aggregate{len(self.aggregates)}"
            made = self._made(node, where, key)
            self._aggregated[text] = key
            self.aggregates.append(made)
        return self._aggregated[text]

    def _made(self, node: exp.Expr, where: exp.Expr | None, key: str) -> Aggregate:
        function = called(node)
        arguments = list(node.expressions)
        distinct = len(arguments) == 1 and isinstance(arguments[0], exp.Distinct)
        if distinct:
            arguments = list(arguments[0].expressions)
        separator = self._separator(arguments.pop()) if function == "listagg" and len(arguments) == 2 else ","
        if len(arguments) != 1:
            raise ConfigError(f"{function.upper()} wants one argument", self.statement.place(node))
        of = ""
        if where is not None:
            of = f"@where{len(self.computed)}"
            self.computed.append((of, self._scope.condition(where, "FILTER")))
            self.places.append(self.statement.place(where))
        if isinstance(arguments[0], exp.Star):
            if function != "count" or distinct:
                raise ConfigError("* is for COUNT(*) only", self.statement.place(node))
            return Aggregate(key, "count", "", _INT64, of)
        compiled = self._scope.compile(arguments[0], f"the argument of {function.upper()}")
        kind = aggregate_type(self.statement, node, compiled.type)
        argument = f"@argument{len(self.computed)}"
        self.computed.append((argument, compiled))
        self.places.append(self.statement.place(node))
        function = SPREADS.get(function, function)
        distinct = distinct and function not in {"min", "max"}
        return Aggregate(key, function, argument, kind, of, distinct, separator)

    def _separator(self, node: exp.Expr) -> str:
        if not isinstance(node, exp.Literal) or not node.is_string:
            raise ConfigError("LISTAGG's separator is a text literal", self.statement.place(node))
        return str(node.this)


def aggregate_type(statement: Statement, node: exp.Expr, argument: DataType) -> DataType:
    """The type of an aggregate's result.

    Raises:
        ConfigError: it does not take such an argument.
    """
    function = called(node)
    if function == "count":
        return _INT64
    if function in {"sum", "avg", *SPREADS} and argument.kind not in _NUMBERS:
        raise ConfigError(f"{function.upper()} wants a number, not {argument}", statement.place(node))
    if function == "listagg" and argument.kind is not Kind.STRING:
        raise ConfigError(f"LISTAGG wants a text, not {argument}", statement.place(node), "CAST(... AS STRING)")
    return _FLOAT64 if function in {"avg", *SPREADS} else argument


def compile_group(grouping: Grouping) -> Rows:
    """The groups: their keys' columns, their window's and their aggregates'."""
    rows = grouping.source
    rows = rows._replace(node=Compute(rows.node, tuple(grouping.computed), rows.time, tuple(grouping.places)))
    keys = tuple(one.key for one in grouping.keys)
    columns = list(grouping.columns)
    if grouping.window is not None:
        place = grouping.statement.place(grouping.window)
        windowed = with_window(rows, grouping.time, grouping.shape, place, keys=keys, hidden=_WINDOW)
        parts = windowed.columns[-3:]
        keys = (*keys, *(one.key for one in parts))
        columns = [*parts, *columns]
        rows = windowed
    roles = ("window_end", "window_start", "window_time")
    by = next((one.key for role in roles for one in columns if one.role == role), "")
    made = [Column(one.key, "", "", one.type, one.function != "count") for one in grouping.aggregates]
    time = next((one.key for one in columns if one.role == "window_time"), "")
    node = Group(rows.node, keys, tuple(grouping.aggregates), by, grouping.place)
    return Rows(node, (*columns, *made), time)
