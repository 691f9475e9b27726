"""UNION ALL and UNION: the rows of several queries as one's."""

from __future__ import annotations

__all__ = ["operands", "united"]

from collections.abc import Sequence

from sqlglot import exp

from operators.expressions.nodes import Compiled
from operators.schema import DataType, Kind
from state.errors import ConfigError, Place
from streamproc.sql.names import Rows, Scope, reference
from streamproc.sql.plan import Append, Column, Compute, Project
from streamproc.sql.statements import Statement

_EXACT = frozenset({Kind.INT64, Kind.DECIMAL})
_NUMBERS = _EXACT | {Kind.FLOAT64}


def operands(tree: exp.Union) -> list[exp.Expr]:
    """The queries that a chain of one kind of UNION joins, in order."""
    found = [tree.expression]
    first = tree.this
    while isinstance(first, exp.Union) and first.args.get("distinct") == tree.args.get("distinct"):
        if any(first.args.get(name) for name in ("order", "limit", "offset", "with_")):
            break
        found.append(first.expression)
        first = first.this
    return [first, *reversed(found)]


def united(statement: Statement, queries: Sequence[tuple[exp.Expr, Rows]], place: Place) -> Rows:
    """All rows, under the names of the first query's columns; a column's type holds the values of all.

    Raises:
        ConfigError: the queries differ in how many columns they have, or in their types.
    """
    first = queries[0][1]
    for tree, rows in queries:
        if len(rows.columns) != len(first.columns):
            what = f"the queries of UNION have {len(first.columns)} and {len(rows.columns)} columns"
            raise ConfigError(what, statement.place(tree))
    columns = []
    for n, one in enumerate(first.columns):
        kind = one.type
        for tree, rows in queries[1:]:
            kind = _common(kind, rows.columns[n], one.name, statement.place(tree))
        nullable = any(rows.columns[n].nullable for _, rows in queries)
        roles = {rows.columns[n].role for _, rows in queries}
        columns.append(Column(one.name, "", one.name, kind, nullable, one.role if len(roles) == 1 else ""))
    nodes = tuple(_as(statement, rows, columns) for _, rows in queries)
    at = {[one.key for one in rows.columns].index(rows.time) if rows.time else -1 for _, rows in queries}
    place_of_time = at.pop() if len(at) == 1 else -1
    return Rows(Append(nodes, place), tuple(columns), columns[place_of_time].key if place_of_time >= 0 else "")


def _common(kind: DataType, column: Column, name: str, place: Place) -> DataType:
    other = column.type
    if kind == other:
        return kind
    if {kind.kind, other.kind} <= _EXACT:
        return DataType(Kind.DECIMAL, max(kind.scale, other.scale))
    if {kind.kind, other.kind} <= _NUMBERS:
        return DataType(Kind.FLOAT64)
    raise ConfigError(f"{name} is {kind} in one query of UNION, {other} in another", place, "CAST one of them")


def _as(statement: Statement, rows: Rows, columns: Sequence[Column]) -> Project:
    """A query's rows with those columns."""
    scope = Scope(statement, rows)
    made: list[tuple[str, Compiled]] = []
    pairs: list[tuple[str, str]] = []
    for n, (one, column) in enumerate(zip(rows.columns, columns, strict=True)):
        key = one.key
        if one.type != column.type:
            key = f"@union{n}"
            made.append((key, scope.compile(exp.cast(reference(one.key, 0), _text(column.type)), "UNION")))
        pairs.append((column.key, key))
    node = Compute(rows.node, tuple(made), rows.time) if made else rows.node
    return Project(node, tuple(pairs))


def _text(kind: DataType) -> str:
    return "DOUBLE" if kind.kind is Kind.FLOAT64 else f"DECIMAL(18, {kind.scale})"
