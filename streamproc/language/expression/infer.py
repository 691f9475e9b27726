"""From a parsed expression to a typed tree: names resolved, types checked, nullability inferred."""

from __future__ import annotations

__all__ = ["Field", "compile_expression"]

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NoReturn, Protocol

from sqlglot import exp

from operators.expressions.clock import UNIT_MS
from operators.expressions.nodes import ROW_TIME, ColumnRef, Compiled, Constant, Node
from operators.live_tables import IMPLIED
from operators.schema import DataType, Kind
from operators.tables import Match, TableSchema
from state.errors import ConfigError, RecordError
from streamproc.language.expression.arithmetic import (
    arithmetic,
    chain,
    compare,
    conjunction,
    member,
    negated,
    remainder,
)
from streamproc.language.expression.calls import choose
from streamproc.language.expression.conversion import cast, escape_of, like
from streamproc.language.expression.functions import FUNCTIONS, REFUSED
from streamproc.language.expression.parse import Expr, dotted_name, place_of
from streamproc.language.expression.text_calls import similar
from streamproc.language.expression.time_calls import UnitError, part, part_name, row_time, span_hint
from streamproc.language.expression.typed import (
    BOOL,
    INT64,
    STORED,
    STRING,
    TIMESTAMP,
    Typed,
    TypeMismatchError,
    boolean,
    call,
    coerce,
    column_bound,
    constant,
    number,
    settled,
    unify,
)
from streamproc.language.expression.wording import sql_words


class Field(Protocol):
    """What a scope says of a column; an `operators.operator.OutputField` is one."""

    @property
    def type(self) -> DataType:
        """The column's type."""
        ...

    @property
    def nullable(self) -> bool:
        """Whether it can be NULL."""
        ...


def compile_expression(
    expr: Expr, scope: Mapping[str, Field], tables: Mapping[str, TableSchema] | None = None
) -> Compiled:
    """Check `expr` against the columns in `scope` and the `tables`, and compile it.

    Raises:
        ConfigError: an unknown column, function or table (with the nearest right name), a type error, or a bound
            (depth, size, scale) is exceeded; always with a place.
    """
    checker = _Checker(expr, scope, {} if tables is None else tables)
    piece = checker.check(expr.ast)
    if piece.untyped:
        checker.refuse(expr.ast, "the type of NULL is not known here; write CAST(NULL AS <type>)")
    piece = settled(piece)
    if piece.bound > column_bound(piece.type):
        limits = STORED[piece.type.kind]
        piece = checker.guarded(expr.ast, lambda: call("limited", piece, to=piece.type, options=limits))
    inputs, used = _reads(piece.node)
    return Compiled(piece.type, piece.nullable, inputs, piece.node, used)


def _reads(root: Node) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Columns and tables that a tree reads, in order."""
    columns: dict[str, None] = {}
    tables: dict[str, None] = {}
    stack: list[Node] = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, ColumnRef):
            if node.name != ROW_TIME:
                columns[node.name] = None
        elif not isinstance(node, Constant):
            if node.kernel in {"contains", "lookup"}:
                tables[str(node.options[0])] = None
            stack.extend(reversed(node.args))
    return tuple(columns), tuple(tables)


_ELSEWHERE = ("previous", "first_seen", "matched")
"""Functions that are no functions of a row: they are columns by now."""
_OVER = "over time it is a window: {sum: amount, over: 5m}"
_AGGREGATES = {name: f"{name}: amount" for name in ("sum", "mean", "stddev", "distinct", "first_seen")}
_AGGREGATES |= {"count": 'count: "*"', "avg": "mean: amount", "average": "mean: amount", "std": "stddev: amount"}
"""What is no function of a row -> the window that it is."""


class _Checker:
    """Walks one parsed expression, bottom up."""

    def __init__(self, expr: Expr, scope: Mapping[str, Field], tables: Mapping[str, TableSchema]) -> None:
        self._expr = expr
        self._scope = scope
        self._tables = tables

    def check(self, node: exp.Expr) -> Typed:
        """The typed piece of `node`; ConfigError with the place of the smallest part that is wrong."""
        rule = _RULES.get(type(node))
        if rule is None:
            hint = _OVER if isinstance(node, exp.Window) else None
            self.refuse(node, f"{sql_words(node)} is not part of the expression language", hint)
        extra = [name for name, value in node.args.items() if value and name not in _SETTINGS]
        if extra:  # what no rule reads must not be dropped in silence
            self.refuse(node, f"{extra[0]} of {sql_words(node)} is not part of the expression language")
        return self.guarded(node, lambda: rule(self, node))

    def guarded(self, node: exp.Expr, build: Callable[[], Typed]) -> Typed:
        """`build()`, its errors turned into errors with a place."""
        try:
            return build()
        except UnitError as error:
            self.refuse(node.this if isinstance(node, exp.Extract) else node.expressions[0], str(error), error.hint)
        except TypeMismatchError as error:
            self.refuse(node, str(error))
        except RecordError as error:
            self.refuse(node, f"the constants fail: {error.reason}")

    def refuse(self, node: exp.Expr, message: str, hint: str | None = None) -> NoReturn:
        """Raise a ConfigError at `node`."""
        raise ConfigError(message, place_of(self._expr, node), hint) from None

    def unknown(self, node: exp.Expr, what: str, name: str, known: Iterable[str]) -> NoReturn:
        """Refuse a name, with the nearest right one."""
        names = list(known)
        near = difflib.get_close_matches(name, names, 1) or [one for one in names if one.lower() == name.lower()]
        hint = f"did you mean {near[0]}?" if near else None
        if what == "function" and name in _AGGREGATES:
            hint = f"over time it is a window: {{{_AGGREGATES[name]}, over: 5m}}"
        left_out = REFUSED.get(name) if what == "function" else None
        self.refuse(node, f"there is no {what} {name}", left_out or hint)

    # Names

    def column(self, node: exp.Expr) -> Typed:
        name = dotted_name(node)
        if name is None:
            if isinstance(node, exp.Dot):
                return self.lookup(node)
            self.refuse(node, "* is not part of the expression language")
        field = self._scope.get(name)
        if field is None:
            self.unknown(node, "column", name, self._scope)
        return Typed(ColumnRef(name, field.type, field.nullable), bound=column_bound(field.type))

    def table(self, node: exp.Expr) -> tuple[TableSchema, list[exp.Expr]]:
        """The table of `table(name, ...)` and the other arguments."""
        if not isinstance(node, exp.Anonymous) or node.name.lower() != "table" or not node.expressions:
            self.refuse(node, "table(name) is wanted here")
        first, *others = node.expressions
        schema = self._tables.get(first.name)
        if schema is None:
            self.unknown(node, "table", first.name, self._tables)
        return schema, others

    def key(self, schema: TableSchema, node: exp.Expr) -> tuple[Typed, ...]:
        """A key to look up in the table, and the row's event time if the table's rows hold for a time only."""
        piece = self.check(node)
        if schema.match is not Match.EXACT and piece.type.kind is Kind.INT64 and not piece.untyped:
            self.refuse(node, f"a {schema.match} table looks texts up, not int64", "CAST(... AS varchar)")
        key = self.guarded(node, lambda: coerce(piece, schema.key_type))
        return (key, row_time()) if schema.timed else (key,)

    def lookup(self, node: exp.Expr) -> Typed:
        """table(name, key).column: NULL if there is no such key."""
        schema, keys = self.table(node.this)
        if len(keys) != 1:
            self.refuse(node, f"write table({schema.name}, <key>).<column>")
        kind = schema.columns.get(node.expression.name)
        if kind is None:
            if node.expression.name in IMPLIED:  # of a table without a topic, if its file has it
                self.refuse(node, f"the file of the table {schema.name} has no column {node.expression.name}")
            self.unknown(node, f"column of the table {schema.name}", node.expression.name, schema.columns)
        options = (schema.name, node.expression.name)
        key = self.key(schema, keys[0])
        return call("lookup", *key, to=kind, nullable=True, options=options, bound=column_bound(kind))

    # Operators

    def membership(self, node: exp.Expr) -> Typed:
        field = node.args.get("field")
        if field is not None:
            schema, others = self.table(field)
            if others:
                self.refuse(field, "IN table(name) takes the table's name only")
            return call("contains", *self.key(schema, node.this), to=BOOL, options=(schema.name,))
        if node.args.get("query") is not None or not node.expressions:
            self.refuse(node, "IN wants a list (1, 2) or table(name)")
        return member(self.check(node.this), [self.check(item) for item in node.expressions])

    def logic(self, node: exp.Expr) -> Typed:
        kernel = "and" if isinstance(node, exp.And) else "or"
        return chain(kernel, [self._condition(part) for part in node.flatten()])

    def _condition(self, node: exp.Expr) -> Typed:
        piece = self.check(node)
        return self.guarded(node, lambda: boolean(piece))

    def negation(self, node: exp.Expr) -> Typed:
        return call("not", self._condition(node.this), to=BOOL)

    def between(self, node: exp.Expr) -> Typed:
        value = self.check(node.this)
        low, high = self.check(node.args["low"]), self.check(node.args["high"])
        within = conjunction(compare("ge", value, low), compare("le", value, high))
        if not node.args.get("symmetric"):
            return within
        return chain("or", (within, conjunction(compare("ge", value, high), compare("le", value, low))))

    def is_(self, node: exp.Expr) -> Typed:
        wanted = node.expression
        piece = self.check(node.this)
        if isinstance(wanted, exp.Null):
            if not piece.nullable:
                return constant(False, BOOL)
            return call("is_null", piece, to=BOOL, nullable=False, strict=False)
        if isinstance(wanted, exp.Boolean):
            piece = boolean(piece)
            piece = piece if wanted.this else call("not", piece, to=BOOL)
            return call("truth", piece, to=BOOL, nullable=False, strict=False)
        return self.refuse(node, "IS wants NULL, TRUE, FALSE or DISTINCT FROM")

    def distinct(self, node: exp.Expr) -> Typed:
        left, right = self.check(node.this), self.check(node.expression)
        if left.untyped and right.untyped:
            differs = constant(False, BOOL)
        else:
            left, right = unify((left, right))
            differs = call("distinct", left, right, to=BOOL, nullable=False, strict=False)
        return differs if isinstance(node, exp.NullSafeNEQ) else call("not", differs, to=BOOL)

    def case(self, node: exp.Expr) -> Typed:
        subject = None if node.this is None else self.check(node.this)
        pieces: list[Typed] = []
        for branch in node.args["ifs"]:
            when = self.check(branch.this)
            pieces.append(self._when(branch.this, subject, when))
            pieces.append(self.check(branch.args["true"]))
        default = node.args.get("default")
        return choose(pieces if default is None else [*pieces, self.check(default)])

    def _when(self, node: exp.Expr, subject: Typed | None, when: Typed) -> Typed:
        if subject is None:
            return self.guarded(node, lambda: boolean(when))
        return self.guarded(node, lambda: compare("eq", subject, when))

    def function(self, node: exp.Expr) -> Typed:
        name = node.name.lower()
        if name == "table":
            self.refuse(node, "write x IN table(name) or table(name, key).column")
        known = FUNCTIONS.get(name)
        if known is None:
            self.unknown(node, "function", name, [*FUNCTIONS, *_ELSEWHERE])
        if not known.least <= len(node.expressions) <= known.most:
            self.refuse(node, f"wrong number of arguments: {known.signature}")
        return known.build([self.check(arg) for arg in node.expressions])

    def interval(self, node: exp.Expr) -> Typed:
        unit = node.args.get("unit")
        name = "" if unit is None else unit.name.lower().removesuffix("s")
        text = "" if node.this is None else node.this.name
        plain = isinstance(unit, exp.Var) and isinstance(node.this, exp.Literal)
        if not plain or name not in UNIT_MS or not text.removeprefix("-").isdecimal() or len(text) > 15:
            self.refuse(node, f"an interval is INTERVAL '5' MINUTES; units: {', '.join(UNIT_MS)}", span_hint(name))
        span = int(text) * UNIT_MS[name]
        if abs(span) > 2**53:
            self.refuse(node, "the interval is too long")
        return constant(span, INT64)._replace(interval=True)

    def pieces(self, node: exp.Expr) -> tuple[Typed, Typed]:
        """Both operands."""
        return self.check(node.this), self.check(node.expression)


def _literal(checker: _Checker, node: exp.Expr) -> Typed:
    if node.is_string:
        return constant(str(node.this), STRING, str(node.this))
    return number(str(node.this))


def _null(checker: _Checker, node: exp.Expr) -> Typed:
    return constant(None, BOOL)._replace(untyped=True)


def _binary(sign: str) -> Callable[[_Checker, Any], Typed]:
    return lambda checker, node: arithmetic(sign, *checker.pieces(node))


def _comparison(kernel: str) -> Callable[[_Checker, Any], Typed]:
    return lambda checker, node: compare(kernel, *checker.pieces(node))


def _extract(checker: _Checker, node: exp.Expr) -> Typed:
    build, time = part(part_name(node.name)), node.expression
    return build([checker.guarded(time, lambda: coerce(checker.check(time), TIMESTAMP))])


def _cast(checker: _Checker, node: exp.Expr) -> Typed:
    return cast(checker.check(node.this), node.args["to"], try_=isinstance(node, exp.TryCast))


def _joined(checker: _Checker, node: exp.Expr) -> Typed:
    left, right = (coerce(one, STRING) for one in checker.pieces(node))
    return call("join", left, right, to=STRING)


def _like(checker: _Checker, node: exp.Expr) -> Typed:
    escape = None
    if isinstance(node, exp.Escape):
        escape, node = escape_of(checker.check(node.expression)), node.this
        if not isinstance(node, (exp.Like, exp.SimilarTo)):
            checker.refuse(node, "ESCAPE belongs to LIKE and SIMILAR TO")
    build = like if isinstance(node, exp.Like) else similar
    found = build(*checker.pieces(node), escape)
    return call("not", found, to=BOOL) if node.args.get("negate") else found


# Parts of sqlglot's nodes that the rules read, or that say nothing (`typed`, `safe`: how other dialects divide).
_SETTINGS: Final = frozenset(
    {"this", "expression", "expressions", "table", "db", "catalog", "low", "high", "ifs", "default", "true"}
    | {"unit", "to", "field", "query", "negate", "symmetric", "typed", "safe", "is_string"}
)
_RULES: Final[dict[type[exp.Expr], Callable[[_Checker, Any], Typed]]] = {
    exp.Column: _Checker.column,
    exp.Dot: _Checker.column,
    exp.Paren: lambda checker, node: checker.check(node.this),
    exp.Literal: _literal,
    exp.Boolean: lambda checker, node: constant(bool(node.this), BOOL),
    exp.Null: _null,
    exp.Var: lambda checker, node: constant(node.name, STRING, node.name),
    exp.Interval: _Checker.interval,
    exp.Add: _binary("+"),
    exp.Sub: _binary("-"),
    exp.Mul: _binary("*"),
    exp.Div: _binary("/"),
    exp.Mod: lambda checker, node: remainder(*checker.pieces(node)),
    exp.Neg: lambda checker, node: negated(checker.check(node.this)),
    exp.EQ: _comparison("eq"),
    exp.NEQ: _comparison("ne"),
    exp.LT: _comparison("lt"),
    exp.LTE: _comparison("le"),
    exp.GT: _comparison("gt"),
    exp.GTE: _comparison("ge"),
    exp.And: _Checker.logic,
    exp.Or: _Checker.logic,
    exp.Not: _Checker.negation,
    exp.In: _Checker.membership,
    exp.Between: _Checker.between,
    exp.Is: _Checker.is_,
    exp.NullSafeEQ: _Checker.distinct,
    exp.NullSafeNEQ: _Checker.distinct,
    exp.Case: _Checker.case,
    exp.Anonymous: _Checker.function,
    exp.Extract: _extract,
    exp.Cast: _cast,
    exp.TryCast: _cast,
    exp.DPipe: _joined,
    exp.Like: _like,
    exp.SimilarTo: _like,
    exp.Escape: _like,
}
