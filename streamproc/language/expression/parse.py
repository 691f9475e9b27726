"""Text to a parsed expression, and what can be done with it before types are known."""

from __future__ import annotations

__all__ = [
    "CallNode",
    "Expr",
    "both",
    "check_depth",
    "check_tokens",
    "columns_of",
    "dotted_name",
    "normalize",
    "null_comparisons",
    "parse",
    "place_at",
    "place_of",
    "rewrite_calls",
    "syntax_error",
]

import re
from collections.abc import Callable, Collection
from typing import Final, NamedTuple

from sqlglot import exp
from sqlglot.errors import ParseError, SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from state.errors import ConfigError, Place
from streamproc.language.expression.dialect import StreamprocDialect

TEXT_MAX: Final = 20_000
TOKENS_MAX: Final = 4_000
NESTING_MAX: Final = 30  # sqlglot's parser descends about 15 Python frames a level
DEPTH_MAX: Final = 100
_DIGITS_MAX: Final = 40  # far beyond int64; Python refuses to read very long ones

_DIALECT: Final = StreamprocDialect()
_PLAIN: Final = re.compile(r"[A-Za-z_]\w*")
_OPENS: Final = frozenset({TokenType.L_PAREN, TokenType.CASE, TokenType.L_BRACKET})
_CLOSES: Final = frozenset({TokenType.R_PAREN, TokenType.END, TokenType.R_BRACKET})
_PREFIXES: Final = frozenset({TokenType.NOT, TokenType.DASH, TokenType.PLUS, TokenType.TILDE})
# What stands before the first name of a part.
_PREFIX: Final[dict[type[exp.Expr], re.Pattern[str]]] = {
    exp.Paren: re.compile(r"\(\s*\Z"),
    exp.Subquery: re.compile(r"\(\s*\Z"),
    exp.Neg: re.compile(r"-\s*\Z"),
    exp.Not: re.compile(r"\bNOT\s*\Z", re.IGNORECASE),
    exp.Case: re.compile(r"\bCASE(\s+WHEN)?\s*\Z", re.IGNORECASE),
    exp.Cast: re.compile(r"\bCAST\s*\(\s*\Z", re.IGNORECASE),
    exp.Interval: re.compile(r"\bINTERVAL\s*\Z", re.IGNORECASE),
    exp.Select: re.compile(r"\bSELECT\s*\Z", re.IGNORECASE),
}
# Calls whose first argument is a word, not a column: a table's name, a unit.
_WORD_FIRST: Final = frozenset({"table", "timestampdiff", "timestampadd", "date_diff", "date_add", "date_trunc"})


class Expr(NamedTuple):
    """A parsed expression. `text`: the whole text as written; `place`: where its first character stands.

    An argument of a call keeps the text and place of the whole expression, so that errors point into it.
    """

    ast: exp.Expr
    text: str
    place: Place

    @property
    def sql(self) -> str:
        """Canonical text: equal for expressions that differ only in white space, comments, or keywords' case."""
        return self.ast.sql(_DIALECT, comments=False)

    @property
    def column(self) -> str | None:
        """The (dotted) name if the expression is just a column, else None."""
        return dotted_name(self.ast.unnest())

    @property
    def literal(self) -> int | str | bool | None:
        """The value if the expression is just an integer, string or bool literal, else None."""
        node = self.ast.unnest()
        if isinstance(node, exp.Boolean):
            return bool(node.this)
        sign = -1 if isinstance(node, exp.Neg) else 1
        if isinstance(node, exp.Neg):
            node = node.this
        if not isinstance(node, exp.Literal):
            return None
        if node.is_string:
            return str(node.this) if sign == 1 else None
        whole = node.this.isdecimal() and len(node.this) <= _DIGITS_MAX
        return sign * int(node.this) if whole else None


def both(first: Expr, second: Expr) -> Expr:
    """The condition that both hold; errors point into the first."""
    return first._replace(ast=exp.And(this=exp.Paren(this=first.ast.copy()), expression=second.ast.copy()))


class CallNode(NamedTuple):
    """A call met by `rewrite_calls`: lower-case name, arguments (inner calls already replaced), place."""

    name: str
    args: tuple[Expr, ...]
    place: Place

    @property
    def sql(self) -> str:
        """Canonical text of the call: equal calls have equal text."""
        return f"{self.name}({', '.join(arg.sql for arg in self.args)})"


def parse(text: str, place: Place) -> Expr:
    """Parse one expression whose first character stands at `place`.

    Raises:
        ConfigError: not an expression of the language, or too long or too deep; says where in the file.
    """
    if len(text) > TEXT_MAX:
        raise ConfigError(f"an expression has {len(text)} characters; at most {TEXT_MAX} are allowed", place)
    try:
        tokens = _DIALECT.tokenize(text)
        check_tokens(tokens, text, place)
        parsed = _DIALECT.parser().parse_into(exp.Condition, tokens, text)
    except RecursionError:
        raise ConfigError("the expression is nested too deeply", place) from None
    except ParseError as error:
        raise syntax_error(error, text, place) from None
    except SqlglotError:
        raise ConfigError("cannot read the expression: a quote is not closed?", place) from None
    if len(parsed) != 1 or not isinstance(parsed[0], exp.Expr):
        raise ConfigError("one expression is wanted here" if parsed else "the expression is empty", place)
    expr = Expr(parsed[0], text, place)
    check_depth(expr)
    normalize(expr.ast)
    return expr


def rewrite_calls(expr: Expr, names: Collection[str], replace: Callable[[CallNode], str]) -> Expr:
    """`expr` with each call of one of `names` (any case) replaced by the column that `replace` returns.

    Innermost calls come first, so that an outer call's arguments hold columns where inner calls stood; then left
    to right. `expr` itself is not changed.
    """
    wanted = {name.lower() for name in names}
    if not any(node.name.lower() in wanted for node in expr.ast.find_all(exp.Anonymous)):
        return expr
    root = exp.Paren(this=expr.ast.copy())
    for node in _innermost_first(root):
        if not isinstance(node, exp.Anonymous) or node.name.lower() not in wanted:
            continue
        args = tuple(Expr(arg, expr.text, expr.place) for arg in node.expressions)
        column = replace(CallNode(node.name.lower(), args, place_of(expr, node)))
        identifier = exp.to_identifier(column, quoted=not _PLAIN.fullmatch(column))
        identifier.update_positions(node)
        node.replace(exp.Column(this=identifier))
    return expr._replace(ast=root.this.pop())


def columns_of(expr: Expr) -> set[str]:
    """Names of the columns that it reads; `fraud.score` is one name."""
    names: set[str] = set()
    stack = [expr.ast]
    while stack:
        node = stack.pop()
        name = dotted_name(node)
        if name is None:
            stack.extend(node.iter_expressions())
        else:
            names.add(name)
    return names


def dotted_name(node: exp.Expr) -> str | None:
    """`a.b.c` for a column reference, whatever its number of parts; None for anything else."""
    if isinstance(node, exp.Column) and not isinstance(node.this, exp.Star):
        return ".".join(part.name for part in node.parts)
    if isinstance(node, exp.Dot) and isinstance(node.expression, exp.Identifier):
        left = dotted_name(node.this)
        return None if left is None else f"{left}.{node.expression.name}"
    return None


def null_comparisons(expr: Expr) -> list[Place]:
    """Where something is compared with the word NULL, which is NULL whatever it is compared with."""
    return [
        place_of(expr, node)
        for node in expr.ast.find_all(exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE)
        if any(isinstance(side.unnest(), exp.Null) for side in (node.left, node.right))
    ]


def place_of(expr: Expr, node: exp.Expr) -> Place:
    """Where `node` begins in the user's file, or what it stands in, if it holds no name."""
    at: exp.Expr | None = node
    while at is not None:
        starts = [start for item in at.walk() if (start := item.meta.get("start")) is not None]
        if starts:
            return place_at(expr.text, _before(expr.text, min(starts), at), expr.place)
        at = at.parent
    return place_at(expr.text, 0, expr.place)


def _before(text: str, start: int, node: exp.Expr) -> int:
    """Where `node` begins whose first name stands at `start`: signs and words before it have no place of their own."""
    kinds: list[type[exp.Expr]] = []
    at: exp.Expr | None = node
    while at is not None and (type(at) in _PREFIX or at.meta.get("start") is None):
        kinds.append(type(at))
        first = at.args["ifs"][0].this if isinstance(at, exp.Case) and at.this is None else at.this
        at = first if isinstance(first, exp.Expr) else None
    for kind in reversed(kinds):
        prefix = _PREFIX.get(kind)
        match = prefix and prefix.search(text, 0, start)
        start = match.start() if match else start
    return start


def _innermost_first(root: exp.Expr) -> list[exp.Expr]:
    """Children before parents, left before right."""
    order: list[exp.Expr] = []
    stack = [root]
    while stack:
        node = stack.pop()
        order.append(node)
        stack.extend(node.iter_expressions())
    order.reverse()
    return order


def place_at(text: str, offset: int, place: Place) -> Place:
    """Where the character at `offset` of `text` stands, if the first one stands at `place`."""
    if not place.line:
        return place
    before = text[:offset]
    newlines = before.count("\n")
    if newlines:
        return Place(place.file, place.line + newlines, offset - before.rfind("\n"))
    return Place(place.file, place.line, max(place.column, 1) + offset)


def check_tokens(tokens: list[Token], text: str, place: Place) -> None:
    """Bounds that keep sqlglot's recursive descent, and ours, from running out of stack."""
    if len(tokens) > TOKENS_MAX:
        raise ConfigError(f"an expression has {len(tokens)} words; at most {TOKENS_MAX} are allowed", place)
    nesting = prefixes = 0
    for token in tokens:
        kind = token.token_type
        prefixes = prefixes + 1 if kind in _PREFIXES else 0
        nesting += (kind in _OPENS) - (kind in _CLOSES)
        if nesting > NESTING_MAX or prefixes > NESTING_MAX:
            at = place_at(text, token.start, place)
            raise ConfigError(f"the expression is nested more than {NESTING_MAX} levels deep", at)
        if kind is TokenType.SEMICOLON:
            raise ConfigError("one expression is wanted here; ';' ends it", place_at(text, token.start, place))


def syntax_error(error: ParseError, text: str, place: Place, subject: str = "the expression") -> ConfigError:
    """The parser's message, short, at the token it stumbled over; `subject` is what could not be parsed."""
    found = error.errors[0] if error.errors else {}
    what = str(found.get("description") or "not an expression").split("\n", maxsplit=1)[0]
    word = str(found.get("highlight") or "")
    line, column = int(found.get("line") or 1), int(found.get("col") or 1)
    lines = text.split("\n")
    offset = sum(len(one) + 1 for one in lines[: line - 1]) + max(column - len(word), 0)
    what = "this does not fit here" if what.startswith("Invalid expression") else _lowered(what)
    if what.startswith("required keyword"):
        what = "an operand is missing"
    near = f" at {word!r}" if word else ""
    return ConfigError(f"cannot parse {subject}{near}: {what}", place_at(text, offset, place))


def _lowered(what: str) -> str:
    """The message as it goes on behind a colon; a word in capitals stays one."""
    return what if what[1:2].isupper() else what[:1].lower() + what[1:]


def check_depth(expr: Expr) -> None:
    """Depth of the tree, where a chain of one associative operator counts once."""
    stack: list[tuple[exp.Expr, int]] = [(expr.ast, 1)]
    while stack:
        node, depth = stack.pop()
        if depth > DEPTH_MAX:
            raise ConfigError(f"the expression is more than {DEPTH_MAX} operations deep", place_of(expr, node))
        for child in node.iter_expressions():
            chained = isinstance(node, (exp.And, exp.Or)) and type(child) is type(node)
            stack.append((child, depth if chained else depth + 1))


def normalize(root: exp.Expr) -> None:
    """Quotes only where needed; a call's leading word is a word, not a column."""
    for node in list(root.walk()):
        if isinstance(node, exp.Identifier):
            node.set("quoted", not _PLAIN.fullmatch(node.name))
        elif isinstance(node, exp.Anonymous) and node.name.lower() in _WORD_FIRST and node.expressions:
            first = node.expressions[0]
            if isinstance(first, exp.Column) and not first.table:
                first.replace(exp.Var(this=first.name).update_positions(first.this))
