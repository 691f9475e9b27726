"""From a query's tree to a plan: FROM, WHERE, GROUP BY, HAVING and SELECT, each over what the one before gives."""

from __future__ import annotations

__all__ = ["Tables", "compile_query"]

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from sqlglot import exp
from sqlglot.tokenizer_core import TokenType

from operators.expressions.nodes import ColumnRef, Compiled
from operators.schema import Kind
from state.errors import ConfigError
from streamproc.language.problems import nearest
from streamproc.sql.group import Grouping, compile_group
from streamproc.sql.join import Sides, joined, moment
from streamproc.sql.match import match_rows
from streamproc.sql.names import AGGREGATES, Rows, Scope, called, key_of
from streamproc.sql.order import Order, distinct, sliced
from streamproc.sql.over import Overs
from streamproc.sql.pattern_text import MATCH_CALL
from streamproc.sql.plan import Column, Compute, Filter, Project, Scan
from streamproc.sql.statements import Statement
from streamproc.sql.tables import EVENT_TIME, Table
from streamproc.sql.tvf import is_window_table, window_table
from streamproc.sql.unions import operands, united

_NESTED_MAX: Final = 30
# Arguments of a SELECT that we read; others are clauses of somebody else's SQL.
_TAIL: Final = frozenset({"order", "limit", "offset"})
_READ: Final = _TAIL | {"expressions", "distinct", "from_", "joins", "where", "group", "having", "with_", "windows"}
_CLAUSES: Final[Mapping[str, tuple[str, TokenType | None]]] = {
    "qualify": ("QUALIFY", TokenType.QUALIFY),
    "laterals": ("LATERAL", TokenType.LATERAL),
    "match": ("MATCH_RECOGNIZE", TokenType.MATCH_RECOGNIZE),
    "sample": ("TABLESAMPLE", TokenType.TABLE_SAMPLE),
    "hint": ("a hint", None),
    "into": ("INTO", TokenType.INTO),
    "locks": ("FOR", None),
}
_TABLE_READ: Final = frozenset({"this", "alias", "version"})


class Tables(NamedTuple):
    """What FROM may name: inputs, and queries that WITH has named.

    `declared`: names of CREATE TABLE. `processing`: columns that are PROCTIME().
    """

    inputs: Mapping[str, Table]
    queries: Mapping[str, Rows]
    declared: frozenset[str] = frozenset()
    processing: frozenset[str] = frozenset()
    depth: int = 0


def compile_query(statement: Statement, tree: exp.Expr, tables: Tables) -> Rows:
    """The plan of a query; its columns' keys are their names.

    Raises:
        ConfigError: it is wrong, or outside the subset; with the place of the part that is.
    """
    if tables.depth > _NESTED_MAX:
        raise ConfigError("queries are nested too deeply", statement.place(tree))
    tables = tables._replace(depth=tables.depth + 1)
    if isinstance(tree, exp.Select):
        return _select(statement, tree, tables)
    if isinstance(tree, exp.Subquery):
        _refuse_extras(statement, tree, _TAIL)
        return _tail(statement, tree, compile_query(statement, tree.this, tables))
    if not isinstance(tree, exp.Union):
        what = {"Intersect": "INTERSECT", "Except": "EXCEPT"}.get(type(tree).__name__)
        raise ConfigError(f"{what or 'this'} is not part of the subset: a query is a SELECT", statement.place(tree))
    tables = _with_queries(statement, tree, tables)
    queries = operands(tree)
    place = statement.clause(TokenType.UNION, queries[1])
    if tree.args.get("by_name") or tree.args.get("on"):
        raise ConfigError("UNION goes by the columns' places", place)
    rows = united(statement, [(one, compile_query(statement, one, tables)) for one in queries], place)
    return _tail(statement, tree, distinct(rows, place) if tree.args.get("distinct") else rows)


def _tail(statement: Statement, tree: exp.Expr, rows: Rows) -> Rows:
    """ORDER BY and LIMIT over whole queries, whose columns they name."""
    names = [(one.name, exp.column(one.name, quoted=True)) for one in rows.columns]
    return sliced(statement, tree, Order(statement, tree, names, hides=False).over(rows))


def _select(statement: Statement, tree: exp.Select, tables: Tables) -> Rows:
    _refuse_clauses(statement, tree)
    rows = _from(statement, tree, _with_queries(statement, tree, tables))
    where = tree.args.get("where")
    if where is not None:
        condition = Scope(statement, rows).condition(where.this, "WHERE")
        rows = rows._replace(node=Filter(rows.node, condition, rows.time, statement.place(where.this)))
    items = _items(statement, tree, rows)
    once = tree.args.get("distinct")
    order = Order(statement, tree, items, hides=once is None)
    rows = _listed(statement, tree, [*items, *order.hidden], rows)
    if once is not None:
        if once.args.get("on"):
            raise ConfigError("DISTINCT ON is not part of the subset", statement.clause(TokenType.DISTINCT, once))
        rows = distinct(rows, statement.clause(TokenType.DISTINCT, tree.expressions[0]))
    return order.shown(sliced(statement, tree, order.over(rows)))


def _listed(statement: Statement, tree: exp.Select, items: list[tuple[str, exp.Expr]], rows: Rows) -> Rows:
    """SELECT's list over rows, or over their groups."""
    group, having = tree.args.get("group"), tree.args.get("having")
    if group is None and not _aggregates([item for _, item in items], having):
        if having is not None:
            raise ConfigError("HAVING wants GROUP BY", statement.clause(TokenType.HAVING, having), "WHERE filters rows")
        overs = Overs(statement, rows, tree.args.get("windows") or [])
        selected = [(name, overs.after(item)) for name, item in items]
        return _selected(statement, selected, overs.rows())
    grouping = Grouping(statement, rows, group)
    selected = [(name, grouping.after(item, "SELECT")) for name, item in items]
    kept = None if having is None else _kept(statement, grouping, having.this, dict(items))
    rows = compile_group(grouping)
    if kept is not None and having is not None:
        condition = Scope(statement, rows).condition(kept, "HAVING")
        place = statement.clause(TokenType.HAVING, having)
        rows = rows._replace(node=Filter(rows.node, condition, rows.time, place))
    return _selected(statement, selected, rows)


def _kept(statement: Statement, grouping: Grouping, having: exp.Expr, items: Mapping[str, exp.Expr]) -> exp.Expr:
    """HAVING over the groups; it does not know the names of SELECT's list."""
    known = {one.name for one in grouping.source.columns}
    for node in having.find_all(exp.Column):
        if not node.table and node.name in items and node.name not in known:
            what = f"HAVING does not know {node.name}, a name of SELECT's list"
            raise ConfigError(what, statement.place(node), f"write {items[node.name].sql(comments=False)[:60]}")
    return grouping.after(having, "HAVING")


def _aggregates(items: Sequence[exp.Expr], having: exp.Expr | None) -> bool:
    """Whether there is an aggregate that is not one OVER rows."""
    return any(
        called(node) in AGGREGATES and not isinstance(node.parent, exp.Window)
        for item in [*items, *([] if having is None else [having.this])]
        for node in item.walk(prune=lambda one: isinstance(one, exp.Window))
    )


def _refuse_clauses(statement: Statement, tree: exp.Select) -> None:
    for argument, part in tree.args.items():
        if not part or argument in _READ:
            continue
        name, word = _CLAUSES.get(argument, (argument.upper(), None))
        first = part[0] if isinstance(part, list) else part
        node = first if isinstance(first, exp.Expr) else tree
        place = statement.place(node) if word is None else statement.clause(word, node)
        raise ConfigError(f"{name} is not part of the subset", place)


def _with_queries(statement: Statement, tree: exp.Expr, tables: Tables) -> Tables:
    clause = tree.args.get("with_")
    if clause is None:
        return tables
    if clause.args.get("recursive"):
        raise ConfigError("WITH RECURSIVE is not part of the subset", statement.place(clause))
    for query in clause.expressions:
        if query.args["alias"].args.get("columns"):
            raise ConfigError("name the columns in the query", statement.place(query))
        made = compile_query(statement, query.this, tables)
        tables = tables._replace(queries={**tables.queries, query.alias: made})
    return tables


def _from(statement: Statement, tree: exp.Select, tables: Tables) -> Rows:
    clause = tree.args.get("from_")
    if clause is None:
        raise ConfigError("FROM is missing: a query reads a table", statement.place(tree))
    if clause.this.args.get("version"):
        place = statement.place(clause.this)
        raise ConfigError("FOR SYSTEM_TIME AS OF is for the right side of a JOIN", place)
    rows = _relation(statement, clause.this, tables)
    for join in tree.args.get("joins") or []:
        as_of = join.this.args.get("version")
        other = _relation(statement, join.this, tables)
        rows = joined(statement, Sides(rows, other), join, tree.args.get("where"), moment(as_of, tables.processing))
    return rows


def _relation(statement: Statement, node: exp.Expr, tables: Tables) -> Rows:
    """One table, query, or table function of FROM."""
    if isinstance(node, exp.Subquery):
        _refuse_extras(statement, node)
        return _aliased(compile_query(statement, node.this, tables), node.alias)
    if isinstance(node, (exp.Lateral, exp.Unnest)):
        raise ConfigError(f"{node.key.upper()} is not part of the subset", statement.place(node))
    if not isinstance(node, exp.Table):
        raise ConfigError("a table, or a query in brackets, is wanted here", statement.place(node))
    _refuse_extras(statement, node)
    if is_window_table(node):
        return _aliased(window_table(statement, node, lambda one: _named(statement, one, tables)), node.alias)
    if called(node.this) == MATCH_CALL:
        data, number = node.this.expressions
        rows = _relation(statement, data, tables) if isinstance(data, exp.Subquery) else _named(statement, data, tables)
        return _aliased(match_rows(statement, statement.patterns[int(number.name)], rows), node.alias)
    if not isinstance(node.this, exp.Identifier) or node.args.get("db"):
        raise ConfigError("this is no table: TABLE(TUMBLE(...)) and the like are", statement.place(node))
    return _named(statement, node, tables)


def _refuse_extras(statement: Statement, node: exp.Expr, read: frozenset[str] = frozenset()) -> None:
    for argument, part in node.args.items():
        if part and argument not in _TABLE_READ | read:
            called_so = {
                "sample": "TABLESAMPLE",
                "joins": "JOIN in brackets",
                "db": "a database's name before a table's",
                "order": "ORDER BY",
            }
            name = called_so.get(argument, argument.upper())
            raise ConfigError(f"{name} is not part of the subset here", statement.place(node))
    alias = node.args.get("alias")
    if alias is not None and alias.args.get("columns"):
        raise ConfigError("name the columns in the query", statement.place(alias))


def _named(statement: Statement, node: exp.Expr, tables: Tables) -> Rows:
    """The table, or the query of WITH, that `node` names."""
    name, alias = node.name, node.alias or node.name
    if name in tables.queries:
        return _aliased(tables.queries[name], alias)
    table = tables.inputs.get(name)
    if table is None:
        if name in tables.declared:
            raise ConfigError(f"the table {name} has no input", statement.place(node), f"--input {name}=FILE")
        known = [*tables.inputs, *tables.queries]
        hint = nearest(name, known) or f"--input {name}=FILE gives one"
        raise ConfigError(f"there is no table {name}", statement.place(node), hint)
    if not table.columns:
        what = f"the input of {name} is empty, so its columns are not known"
        raise ConfigError(what, statement.place(node), f"CREATE TABLE {name} (...) declares them")
    columns = tuple(
        Column(f"{alias}.{one}", alias, one, column.type, column.valid is not None)
        for one, column in table.columns.items()
    )
    return Rows(Scan(name, alias), columns, "" if table.time is None else f"{alias}.{table.time}")


def _aliased(rows: Rows, alias: str) -> Rows:
    """A query's rows under a name."""
    renamed = tuple((f"{alias}.{one.key}", one.key) for one in rows.columns)
    columns = tuple(
        Column(f"{alias}.{one.key}", alias, one.name, one.type, one.nullable, one.role) for one in rows.columns
    )
    return Rows(Project(rows.node, renamed), columns, f"{alias}.{rows.time}" if rows.time else "")


def _items(statement: Statement, tree: exp.Select, rows: Rows) -> list[tuple[str, exp.Expr]]:
    """Names and expressions of SELECT's list; `*` is each column."""
    items: list[tuple[str, exp.Expr]] = []
    for n, item in enumerate(tree.expressions):
        star = item.this if isinstance(item, exp.Column) else item
        if isinstance(star, exp.Star):
            if star.args.get("except_") or star.args.get("replace") or star.args.get("rename"):
                raise ConfigError("* stands alone here", statement.place(tree))
            items += _starred(statement, item, rows)
        elif isinstance(item, exp.Alias):
            items.append((item.alias, item.this))
        else:
            name = item.name if isinstance(item, exp.Column) else f"EXPR${n}"
            items.append((name, item))
    names: set[str] = set()
    unique = []
    for name, item in items:
        free, n = name, 0
        while free in names:
            free, n = f"{name}{n}", n + 1
        names.add(free)
        unique.append((free, item))
    return unique


def _starred(statement: Statement, item: exp.Expr, rows: Rows) -> list[tuple[str, exp.Expr]]:
    alias = item.args["table"].name if isinstance(item, exp.Column) and item.args.get("table") else ""
    found = [one for one in rows.columns if one.name and alias in ("", one.alias)]
    if not found:
        aliases = dict.fromkeys(one.alias for one in rows.columns)
        raise ConfigError(f"there is no table {alias} in FROM", statement.place(item), nearest(alias, aliases))
    columns = [exp.column(one.name, table=one.alias or None, quoted=True) for one in found]
    return [(one.name, column) for one, column in zip(found, columns, strict=True)]


def _selected(statement: Statement, items: list[tuple[str, exp.Expr]], rows: Rows) -> Rows:
    """SELECT's list over the rows; the event time goes on if it is in the list."""
    scope = Scope(statement, rows)
    made: list[tuple[str, Compiled]] = []
    columns: list[Column] = []
    for name, item in items:
        compiled = scope.compile(item, "SELECT")
        key = key_of(item)
        role = "" if key is None else rows.at(key).role
        made.append((f"@out.{name}", compiled))
        columns.append(Column(name, "", name, compiled.type, compiled.nullable, role))
    renamed = tuple((name, f"@out.{name}") for name, _ in items)
    places = tuple(statement.place(item) for _, item in items)
    node = Project(Compute(rows.node, tuple(made), rows.time, places), renamed)
    return Rows(node, tuple(columns), _time_of(made, columns, rows.time))


def _time_of(made: list[tuple[str, Compiled]], columns: list[Column], time: str) -> str:
    """The event time that a query's rows have: that of what it reads, a window's, or as a table's is found."""
    for (_, compiled), column in zip(made, columns, strict=True):
        if isinstance(compiled.node, ColumnRef) and compiled.node.name == time:
            return column.name
    times = [one for one in columns if one.type.kind is Kind.TIMESTAMP]
    ends = [one.name for one in times if one.role == "window_time"] + [one.name for one in times if one.role]
    if ends:
        return ends[-1] if len(ends) == 1 else ends[0]
    named = [one.name for one in times if one.name == EVENT_TIME]
    return named[0] if named else times[0].name if len(times) == 1 else ""
