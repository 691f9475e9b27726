"""ORDER BY, LIMIT, OFFSET and DISTINCT: the last clauses of a query, over what SELECT gives."""

from __future__ import annotations

__all__ = ["Order", "distinct", "sliced"]

from collections.abc import Sequence
from typing import Final

from sqlglot import exp
from sqlglot.tokenizer_core import TokenType

from state.errors import ConfigError, Place
from streamproc.language.expression.parse import dotted_name
from streamproc.language.problems import nearest
from streamproc.sql.names import Rows
from streamproc.sql.plan import Group, Project, Slice, Sort, SortKey
from streamproc.sql.statements import Statement

Items = Sequence[tuple[str, exp.Expr]]
_HIDDEN: Final = "@order"


class Order:
    """The terms of ORDER BY: columns of the query by their names or places, or expressions that become hidden ones."""

    def __init__(self, statement: Statement, tree: exp.Expr, items: Items, *, hides: bool) -> None:
        """`items`: SELECT's names and expressions; `hides`: whether terms may be expressions."""
        self.hidden: list[tuple[str, exp.Expr]] = []
        self._statement, self._items, self._hides = statement, items, hides
        clause = tree.args.get("order")
        self._place = None if clause is None else statement.clause(TokenType.ORDER_BY, clause)
        self._keys = [] if clause is None else [self._key(term) for term in clause.expressions]

    def _key(self, term: exp.Expr) -> SortKey:
        if not isinstance(term, exp.Ordered):
            raise ConfigError("a column is wanted in ORDER BY", self._statement.place(term))
        if term.args.get("with_fill"):
            raise ConfigError("WITH FILL is not part of the subset", self._statement.place(term))
        return SortKey(self._column(term.this), bool(term.args.get("desc")), bool(term.args.get("nulls_first")))

    def _column(self, node: exp.Expr) -> str:
        """The name of the column that a term means."""
        names = [name for name, _ in self._items]
        if isinstance(node, exp.Literal) and not node.is_string:
            if not node.name.isdecimal() or not 0 < int(node.name[:9]) <= len(names):
                what = f"the query has {len(names)} columns: ORDER BY {node.name[:9]} is none"
                raise ConfigError(what, self._statement.place(node))
            return names[int(node.name) - 1]
        name = dotted_name(node)
        if name in names:
            return name
        known = dict(self._items)
        if not self._hides:
            hint = nearest(name or "", names)
            raise ConfigError("ORDER BY names a column of the query here", self._statement.place(node), hint)
        made = exp.Paren(this=node.copy()).transform(
            lambda one: exp.Paren(this=known[found].copy()) if (found := dotted_name(one)) in known else one
        )
        self.hidden.append((f"{_HIDDEN}{len(self.hidden)}", made.this))
        return self.hidden[-1][0]

    def over(self, rows: Rows) -> Rows:
        """The rows in order; their columns' keys are their names."""
        if self._place is None:
            return rows
        return rows._replace(node=Sort(rows.node, tuple(self._keys), self._place))

    def shown(self, rows: Rows) -> Rows:
        """Without the hidden columns."""
        if not self.hidden:
            return rows
        columns = tuple(one for one in rows.columns if not one.key.startswith(_HIDDEN))
        pairs = tuple((one.key, one.key) for one in columns)
        return Rows(Project(rows.node, pairs), columns, rows.time)


def distinct(rows: Rows, place: Place) -> Rows:
    """The rows, equal ones once: the first of each."""
    return rows._replace(node=Group(rows.node, tuple(one.key for one in rows.columns), (), place=place))


def sliced(statement: Statement, tree: exp.Expr, rows: Rows) -> Rows:
    """LIMIT, OFFSET and FETCH FIRST."""
    limit, offset = tree.args.get("limit"), tree.args.get("offset")
    if limit is None and offset is None:
        return rows
    first = limit if limit is not None else offset
    assert first is not None
    place = statement.clause(TokenType.LIMIT if isinstance(limit, exp.Limit) else TokenType.OFFSET, first)
    options = None if limit is None else limit.args.get("limit_options")
    if options is not None and (options.args.get("percent") or options.args.get("with_ties")):
        raise ConfigError("FETCH FIRST n ROWS ONLY is wanted", place)
    skipped = 0 if offset is None else _count(statement, offset.expression, place)
    count = None
    if isinstance(limit, exp.Fetch):
        count = 1 if limit.args.get("count") is None else _count(statement, limit.args["count"], place)
    elif limit is not None and not (isinstance(limit.expression, exp.Var) and limit.expression.name.upper() == "ALL"):
        count = _count(statement, limit.expression, place)
    return rows._replace(node=Slice(rows.node, skipped, count, place))


def _count(statement: Statement, node: exp.Expr | None, place: Place) -> int:
    text = node.name if isinstance(node, exp.Literal) and not node.is_string else ""
    if not text.isdecimal() or len(text) > 15:
        raise ConfigError("a whole number of rows is wanted here", place if node is None else statement.place(node))
    return int(text)
