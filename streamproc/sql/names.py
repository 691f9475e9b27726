"""Names in a statement: which column one means, and expressions compiled over a step's columns."""

from __future__ import annotations

__all__ = [
    "AGGREGATES",
    "AUXILIARY",
    "GROUP_WINDOWS",
    "OVER_AGGREGATES",
    "SPREADS",
    "Rows",
    "Scope",
    "called",
    "key_of",
    "reference",
    "replaced",
]

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from sqlglot import exp

from operators.expressions.nodes import Compiled
from operators.operator import OutputField
from operators.schema import Kind
from state.errors import ConfigError
from streamproc.language.expression.infer import compile_expression
from streamproc.language.expression.parse import dotted_name
from streamproc.language.problems import nearest
from streamproc.sql.plan import Column, Node
from streamproc.sql.statements import Statement

SPREADS: Final = {"stddev": "stddev_samp", "stddev_samp": "stddev_samp", "stddev_pop": "stddev_pop"} | {
    "variance": "var_samp", "var_samp": "var_samp", "var_pop": "var_pop",
}  # fmt: skip
"""Aggregates of how far values lie apart, by all their names."""
OVER_AGGREGATES: Final = frozenset({"count", "sum", "avg", "min", "max"})
AGGREGATES: Final = OVER_AGGREGATES | SPREADS.keys() | {"first_value", "last_value", "listagg"}
GROUP_WINDOWS: Final = frozenset({"tumble", "hop", "session"})
AUXILIARY: Final = frozenset(f"{kind}_{part}" for kind in GROUP_WINDOWS for part in ("start", "end", "rowtime"))
_SINCE: Final = re.compile(r"(seconds|minutes|hours|days)_since").fullmatch
_CLOCKS: Final = frozenset(
    {"CURRENT_TIMESTAMP", "CURRENT_TIME", "CURRENT_DATE", "LOCALTIMESTAMP", "LOCALTIME", "CURRENT_ROW_TIMESTAMP"}
)
_KEY: Final = "key"  # in a node's meta: it is a reference, and to which column


class Rows(NamedTuple):
    """What a step of a query gives: its node, its columns, and the key of its event time ("": it has none)."""

    node: Node
    columns: tuple[Column, ...]
    time: str

    def at(self, key: str) -> Column:
        """The column of that key."""
        return next(column for column in self.columns if column.key == key)


class Scope:
    """Resolves and compiles parts of a statement over the columns of `rows`."""

    def __init__(self, statement: Statement, rows: Rows) -> None:
        self.statement = statement
        self.rows = rows

    def key(self, node: exp.Expr) -> str:
        """The key of the column that a name means.

        Raises:
            ConfigError: none, or several.
        """
        name = dotted_name(node) or ""
        alias, _, last = name.rpartition(".")
        fits = [one for one in self.rows.columns if one.name == last and alias in ("", one.alias)]
        if len(fits) == 1:
            return fits[0].key
        place = self.statement.place(node)
        if fits:
            known = ", ".join(f"{one.alias}.{one.name}" for one in fits)
            raise ConfigError(f"{name} may mean several columns", place, f"one of {known}")
        aliases = dict.fromkeys(one.alias for one in self.rows.columns if one.alias)
        if alias and alias not in aliases:
            raise ConfigError(f"there is no table {alias} in FROM", place, nearest(alias, aliases))
        names = [one.name for one in self.rows.columns if alias in ("", one.alias) and one.name]
        if name.upper() in _CLOCKS:
            hint = "a clock would not give the same twice: the event time is a column"
            raise ConfigError(f"{name.upper()} is not part of the subset", place, hint)
        raise ConfigError(f"there is no column {name}", place, nearest(last, names))

    def resolved(self, node: exp.Expr) -> exp.Expr:
        """A copy in which each name is a reference to its column."""
        if isinstance(node, exp.Star):
            return node.copy()
        return replaced(node, lambda one: self.key(one) if _is_name(one) else None)

    def compile(self, node: exp.Expr, where: str) -> Compiled:
        """A part of the statement, resolved or not, as an expression over the rows; `where`: its clause, for messages.

        Raises:
            ConfigError: an unknown name, a type error, an aggregate where none may be.
        """
        for one in node.walk():
            self._refuse_queries(one, where)
        root = self.resolved(node)
        for one in root.walk():
            self._refuse_calls(one, where)
        fields = {one.key: OutputField(one.key, one.type, one.nullable) for one in self.rows.columns}
        return compile_expression(self.statement.source.expr(root), fields)

    def condition(self, node: exp.Expr, where: str) -> Compiled:
        """As `compile`, of what must be TRUE or FALSE."""
        compiled = self.compile(node, where)
        if compiled.type.kind is not Kind.BOOL:
            raise ConfigError(f"{where} wants a condition, not {compiled.type}", self.statement.place(node))
        return compiled

    def _refuse_queries(self, node: exp.Expr, where: str) -> None:
        if isinstance(node, (exp.Query, exp.Exists)) or node.args.get("query") is not None:
            place = self.statement.place(node)
            raise ConfigError(
                f"a query is not allowed in {where}", place, "queries may stand in FROM and WITH: JOIN it"
            )

    def _refuse_calls(self, node: exp.Expr, where: str) -> None:
        """What is a function elsewhere in a statement, but not here."""
        if isinstance(node, exp.Window):
            place = self.statement.place(node)
            raise ConfigError(f"OVER is not allowed in {where}", place, "compute it in a query in FROM")
        name = called(node)
        if name in AGGREGATES:
            hint = "HAVING filters groups" if where == "WHERE" else None
            raise ConfigError(
                f"the aggregate {name.upper()} is not allowed in {where}", self.statement.place(node), hint
            )
        if name in AUXILIARY | GROUP_WINDOWS | {"cumulate"}:
            kind = name.partition("_")[0].upper()
            raise ConfigError(f"{name.upper()} wants GROUP BY {kind}(...) in its query", self.statement.place(node))
        if _SINCE(name) and not self.rows.time:
            raise ConfigError(
                f"{name} wants rows that have an event time", self.statement.place(node), "use TIMESTAMPDIFF"
            )


def called(node: exp.Expr) -> str:
    """The function that a node calls, in lower case; "" if it calls none."""
    return node.name.lower() if isinstance(node, exp.Anonymous) else ""


def key_of(node: exp.Expr) -> str | None:
    """The key, if the node is a reference to a column."""
    key = node.meta.get(_KEY)
    return key if isinstance(key, str) else None


def reference(key: str, start: int) -> exp.Expr:
    """A node that means the column of that key; `start`: where its name stands."""
    column = exp.Column(this=exp.Identifier(this=key, quoted=True))
    column.meta[_KEY] = key
    column.this.meta["start"] = start
    return column


def replaced(node: exp.Expr, replace: Callable[[exp.Expr], str | None]) -> exp.Expr:
    """A copy in which a reference stands wherever `replace` gives a key; what it replaces is not looked into."""
    root = exp.Paren(this=node.copy())
    root.meta["start"] = _start(node)
    stack = [root.this]
    while stack:
        one = stack.pop()
        key = replace(one)
        if key is not None:
            one.replace(reference(key, _start(one)))
        elif key_of(one) is None:
            stack.extend(one.iter_expressions())
    inner: exp.Expr = root.this
    if isinstance(inner, exp.Column):
        return inner.pop()
    inner.meta.setdefault("start", root.meta["start"])
    return inner.pop()


def _is_name(node: exp.Expr) -> bool:
    return key_of(node) is None and dotted_name(node) is not None


def _start(node: exp.Expr) -> int:
    """Where a node begins, or what it stands in."""
    at: exp.Expr | None = node
    while at is not None:
        starts = [start for item in at.walk() if (start := item.meta.get("start")) is not None]
        if starts:
            return int(min(starts))
        at = at.parent
    return 0
