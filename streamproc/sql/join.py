"""JOIN: rows that go together, by equal keys and a condition; as of a time, by the latest version."""

from __future__ import annotations

__all__ = ["Moment", "Sides", "joined", "moment"]

from typing import Final, NamedTuple

from msgspec.structs import replace
from sqlglot import exp
from sqlglot.tokenizer_core import TokenType

from operators.expressions.nodes import Compiled
from operators.schema import Kind
from state.errors import ConfigError, Place
from streamproc.sql.names import Rows, Scope, called, key_of
from streamproc.sql.plan import AsOf, Column, Compute, Join
from streamproc.sql.statements import Statement

_READ: Final = frozenset({"this", "side", "kind", "on"})
_KINDS: Final = frozenset({"", "INNER", "OUTER", "CROSS"})


class Sides(NamedTuple):
    """What is joined."""

    left: Rows
    right: Rows


class Moment(NamedTuple):
    """FOR SYSTEM_TIME AS OF: the version's time; None: now."""

    time: exp.Expr | None
    version: exp.Expr


class _Condition(NamedTuple):
    """ON, taken apart: equal keys (computed ones by their columns), and what is left."""

    keys: list[tuple[str, str]]
    left: list[tuple[str, Compiled]]
    right: list[tuple[str, Compiled]]
    rest: Compiled | None
    place: Place


def moment(version: exp.Expr | None, processing: frozenset[str]) -> Moment | None:
    """What a table's FOR SYSTEM_TIME AS OF says; `processing`: columns that are the time of processing."""
    if version is None:
        return None
    time = version.expression if version.args.get("kind") == "AS OF" else None
    now = called(time) == "proctime" if time is not None else False
    if isinstance(time, exp.Column) and time.name in processing:
        now = True
    return Moment(None if now else time, version)


def joined(statement: Statement, sides: Sides, join: exp.Expr, where: exp.Expr | None, at: Moment | None) -> Rows:
    """Two tables joined; `where`: the query's WHERE, where a join without ON has its condition.

    Raises:
        ConfigError: it is wrong, or no join of the subset.
    """
    _refuse(statement, join)
    common = {one.alias for one in sides.left.columns} & {one.alias for one in sides.right.columns}
    if common:
        name = min(common) or "a query"
        raise ConfigError(f"two tables are called {name}", statement.place(join.this), "name one: AS other")
    side = str(join.args.get("side") or "").lower()
    on = join.args.get("on")
    crossed = join.args.get("kind") == "CROSS" or statement.follows(join.this, TokenType.COMMA, TokenType.JOIN)
    if on is None and (side or not crossed):
        raise ConfigError("JOIN wants ON", statement.place(join.this))
    both = Rows(sides.left.node, (*sides.left.columns, *sides.right.columns), "")
    parts = _parts(on) if on is not None else _found(Scope(statement, both), where)
    condition = _condition(Scope(statement, both), sides, parts, statement.place(join.this))
    if at is not None:
        if not condition.keys and side in {"", "left"}:
            raise ConfigError("FOR SYSTEM_TIME AS OF wants ON left.key = right.key", statement.place(on or at.version))
        return _versioned(statement, sides, condition, side, at)
    return _plain(sides, condition, side or "inner")


def _refuse(statement: Statement, join: exp.Expr) -> None:
    if join.args.get("using"):
        place = statement.clause(TokenType.USING, join.args["using"][0])
        raise ConfigError("USING is not part of the subset", place, "write ON")
    kind = str(join.args.get("kind") or "").upper()
    extra = [name for name, part in join.args.items() if part and name not in _READ]
    if kind not in _KINDS or extra:
        name = kind if kind not in _KINDS else str(join.args.get("method") or extra[0]).upper()
        word = TokenType.NATURAL if name == "NATURAL" else TokenType.JOIN
        raise ConfigError(f"{name} JOIN is not part of the subset", statement.clause(word, join.this))


def _parts(condition: exp.Expr) -> list[exp.Expr]:
    """What AND joins."""
    plain = condition.unnest()
    return [part for one in plain.flatten() for part in _parts(one)] if isinstance(plain, exp.And) else [plain]


def _found(scope: Scope, where: exp.Expr | None) -> list[exp.Expr]:
    """The parts of WHERE that can be told from the tables joined so far; WHERE says the rest, and these once more."""
    known = []
    for part in [] if where is None else _parts(where.this):
        try:
            scope.condition(part, "WHERE")
        except ConfigError:
            continue
        known.append(part)
    return known


def _condition(scope: Scope, sides: Sides, parts: list[exp.Expr], place: Place) -> _Condition:
    found = _Condition([], [], [], None, place)
    rest: list[exp.Expr] = []
    for part in parts:
        tree = scope.resolved(part)
        if not (isinstance(tree, exp.EQ) and _add_key(scope, sides, tree, found)):
            rest.append(tree)
    if not rest:
        return found
    whole = rest[0] if len(rest) == 1 else exp.and_(*(exp.paren(one, copy=False) for one in rest), copy=False)
    return found._replace(rest=scope.condition(whole, "ON"))


def _add_key(scope: Scope, sides: Sides, equal: exp.Expr, found: _Condition) -> bool:
    """Whether it says that something of the left is equal to something of the right, of one type."""
    lefts = {one.key for one in sides.left.columns}
    rights = {one.key for one in sides.right.columns}
    one, other = equal.this, equal.expression
    if _keys(one) <= rights and _keys(other) <= lefts:
        one, other = other, one
    if not (_keys(one) and _keys(other) and _keys(one) <= lefts and _keys(other) <= rights):
        return False
    first, second = scope.compile(one, "ON"), scope.compile(other, "ON")
    if first.type != second.type:
        return False
    pair: list[str] = []
    for tree, compiled, computed in ((one, first, found.left), (other, second, found.right)):
        key = key_of(tree)
        if key is None:
            key = f"@on{len(found.keys)}.{len(pair)}"
            computed.append((key, compiled))
        pair.append(key)
    found.keys.append((pair[0], pair[1]))
    return True


def _keys(tree: exp.Expr) -> set[str]:
    return {key for node in tree.walk() if (key := key_of(node)) is not None}


def _plain(sides: Sides, condition: _Condition, kind: str) -> Rows:
    left, right = sides
    node = Join(
        Compute(left.node, tuple(condition.left), left.time),
        Compute(right.node, tuple(condition.right), right.time),
        tuple(condition.keys),
        condition.rest,
        kind,  # type: ignore[arg-type]
        left.time,
        right.time,
        condition.place,
    )
    columns = (
        *_nullable(left.columns, kind in {"right", "full"}),
        *_nullable(right.columns, kind in {"left", "full"}),
    )
    return Rows(node, columns, left.time if kind in {"inner", "left"} else "")


def _versioned(statement: Statement, sides: Sides, condition: _Condition, side: str, at: Moment) -> Rows:
    left, right = sides
    place = statement.place(at.version)
    if side not in {"", "left"}:
        raise ConfigError(f"FOR SYSTEM_TIME AS OF goes with JOIN and LEFT JOIN, not {side.upper()} JOIN", place)
    if at.time is None or not right.time:
        if at.time is not None:
            Scope(statement, left).key(at.time)
        return _plain(sides, condition, side or "inner")
    if not isinstance(at.time, exp.Column):
        raise ConfigError("FOR SYSTEM_TIME AS OF wants a time of the left side", place)
    scope = Scope(statement, left)
    time = scope.key(at.time)
    if left.at(time).type.kind is not Kind.TIMESTAMP:
        raise ConfigError(f"{at.time.name} is no timestamp, but {left.at(time).type}", place)
    node = AsOf(
        Compute(left.node, tuple(condition.left), left.time),
        Compute(right.node, tuple(condition.right), right.time),
        tuple(condition.keys),
        condition.rest,
        time,
        right.time,
        side == "left",
        condition.place,
    )
    return Rows(node, (*left.columns, *_nullable(right.columns, side == "left")), left.time)


def _nullable(columns: tuple[Column, ...], anew: bool) -> tuple[Column, ...]:
    return tuple(replace(one, nullable=True) for one in columns) if anew else columns
