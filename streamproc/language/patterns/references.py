"""DEFINE and MEASURES -> columns of rows, slots of runs, and expressions over both.

    DEFINE B AS amount > 100 AND B.amount > 2 * LAST(A.amount)
        amount > 100                      reads the row alone: a column of the whole batch (`fits`)
        amount > 2 * _slot_0              reads the run: asked of each run (`conditions`); _slot_0 is LAST(A.amount)

In DEFINE of B, `x` and `B.x` are the row's own. Elsewhere `A.x` is LAST(A.x), and `x` that of the match's last row.
PREV(x) is the key's row before, whether it is of the match or not: previous(x).
"""

from __future__ import annotations

__all__ = ["Reading", "SlotDraft", "read_references"]

from collections.abc import Callable
from typing import Final, NoReturn

import msgspec
from sqlglot import exp

from operators.patterns.slots import CLASSIFIER, OFFSET_MAX, ROW_NUMBER, SlotKind
from operators.patterns.spec import MATCH_NUMBER, Skip, SkipKind
from operators.patterns.tree import variables_of
from operators.windows.spec import PREVIOUS_MAX
from state.errors import ConfigError, Place
from streamproc.language.expression import Expr, columns_of
from streamproc.language.expression.parse import place_of
from streamproc.language.patterns.clauses import MatchClause
from streamproc.language.problems import nearest

_KINDS: Final = {
    "first": SlotKind.FIRST,
    "last": SlotKind.LAST,
    "count": SlotKind.COUNT,
    "sum": SlotKind.SUM,
    "min": SlotKind.MIN,
    "max": SlotKind.MAX,
}
_NAVIGATION: Final = ("first", "last")
_CALLS: Final = (*_KINDS, "avg", "mean", "prev", "next", "classifier", "match_number")
_ALL: Final = ""
_NOWHERE: Final = Place("")


class SlotDraft(msgspec.Struct, frozen=True):
    """A slot without its type; `column`: a name, None (COUNT(*)), or the number that stands for no column.

    `place`: where it is read first, of those whose type may not fit.
    """

    name: str
    kind: SlotKind
    variables: int
    column: str | int | None
    offset: int = 0
    place: Place = Place("")


class Reading(msgspec.Struct):
    """`fits`: variable -> column; `conditions`: what is left, over slots and `columns`; `measures` over slots."""

    fits: dict[str, str] = {}
    conditions: dict[str, Expr] = {}
    measures: dict[str, Expr] = {}
    slots: list[SlotDraft] = []
    skip: Skip = Skip()

    @property
    def columns(self) -> tuple[str, ...]:
        """The row values that slots and conditions read."""
        own = {slot.name for slot in self.slots}
        read = {name for expr in self.conditions.values() for name in columns_of(expr)} - own
        return tuple(sorted(read | {slot.column for slot in self.slots if isinstance(slot.column, str)}))


def read_references(clause: MatchClause, column: Callable[[Expr], str]) -> Reading:
    """What a clause reads; `column`: the name of the column that holds an expression of one row.

    Raises:
        ConfigError: with the place of what is wrong.
    """
    reader = _Reader(clause, column)
    for variable, expr in clause.define.items():
        reader.define(variable, expr)
    for name, expr in clause.measures.items():
        reader.measure(name, expr)
    reader.skip()
    return reader.found


class _Reader:
    def __init__(self, clause: MatchClause, column: Callable[[Expr], str]) -> None:
        self.found = Reading()
        self._clause, self._column = clause, column
        number = {name: i for i, name in enumerate(variables_of(clause.pattern))}
        self._sets: dict[str, int] = {name: 1 << i for name, i in number.items()}
        for name, members in clause.subsets.items():
            self._sets[name] = sum(self._sets[member] for member in set(members))
        self._sets[_ALL] = (1 << len(number)) - 1

    def define(self, variable: str, expr: Expr) -> None:
        """A variable's condition, taken apart at its ANDs."""
        alone: list[exp.Expr] = []
        rest: list[exp.Expr] = []
        for part in _conjuncts(expr.ast):
            read = self._rewritten(expr, part, variable)
            slots = {slot.name for slot in self.found.slots}
            (alone if slots.isdisjoint(columns_of(read)) else rest).append(read.ast)
        if alone:
            self.found.fits[variable] = self._column(expr._replace(ast=_all_of(alone)))
        if rest:
            self.found.conditions[variable] = expr._replace(ast=_all_of(rest))

    def measure(self, name: str, expr: Expr) -> None:
        """A measure."""
        self.found.measures[name] = self._rewritten(expr, expr.ast, None)

    def skip(self) -> None:
        """Where to go on: the slot that holds the row's number."""
        given = self._clause.skip
        slot = -1
        if given.kind is SkipKind.TO_ROW:
            kind = SlotKind.LAST if given.last else SlotKind.FIRST
            name = self._slot(kind, self._sets[given.variable], ROW_NUMBER, 0)
            slot = [one.name for one in self.found.slots].index(name)
        self.found.skip = Skip(given.kind, slot)

    # ---- expressions

    def _rewritten(self, expr: Expr, part: exp.Expr, variable: str | None) -> Expr:
        """A part of `expr` whose references are columns; `variable`: whose condition it is, None: a measure."""

        def change(node: exp.Expr) -> exp.Expr:
            if isinstance(node, exp.Anonymous) and _name(node) in _CALLS:
                return self._call(expr, node, variable)
            if isinstance(node, exp.Column) and not isinstance(node.this, exp.Star):
                return self._reference(node, variable)
            return node

        return expr._replace(ast=exp.Paren(this=part.copy()).transform(change).this)

    def _reference(self, node: exp.Column, variable: str | None) -> exp.Expr:
        qualifier = node.table if node.table in self._sets and not node.db else _ALL
        bare = _bare(node, qualifier)
        if variable is not None and qualifier in (_ALL, variable):
            return bare
        column = ".".join(part.name for part in bare.parts)
        return _column(self._slot(SlotKind.LAST, self._sets[qualifier], column, 0), node)

    def _call(self, expr: Expr, node: exp.Anonymous, variable: str | None) -> exp.Expr:
        name, args = _name(node), node.expressions
        if name == "next":
            self._refuse(expr, node, "NEXT looks at rows that have not come", "say it of the later row, with PREV")
        if name == "match_number":
            if variable is not None:
                self._refuse(expr, node, "MATCH_NUMBER() is for MEASURES")
            return _column(MATCH_NUMBER, node)
        if name == "classifier":
            return _column(self._slot(SlotKind.LAST, self._classified(expr, node), CLASSIFIER, 0), node)
        if not 1 <= len(args) <= (2 if name in (*_NAVIGATION, "prev") else 1):
            self._refuse(expr, node, f"wrong number of arguments of {name.upper()}")
        if name == "prev":
            return self._previous(expr, node, variable)
        offset = self._offset(expr, args[1], OFFSET_MAX) if len(args) == 2 else 0
        of, column = self._argument(expr, node, args[0])
        if name in ("avg", "mean"):
            place = place_of(expr, node)
            kinds = (SlotKind.SUM, SlotKind.COUNT)
            total, count = (_column(self._slot(kind, of, column, 0, place), node) for kind in kinds)
            return exp.Paren(this=exp.Div(this=total, expression=count))
        if column is None and name != "count":
            self._refuse(expr, node, f"{name.upper()} needs a column, not *")
        return _column(self._slot(_KINDS[name], of, column, offset, place_of(expr, node)), node)

    def _previous(self, expr: Expr, node: exp.Anonymous, variable: str | None) -> exp.Expr:
        """PREV(x, n): the row before; PREV(LAST(A.x), n): before that one."""
        args = node.expressions
        back = self._offset(expr, args[1], PREVIOUS_MAX) if len(args) == 2 else 1
        inner, kind, offset = args[0], SlotKind.LAST, 0
        navigates = isinstance(inner, exp.Anonymous) and _name(inner) in _NAVIGATION
        if navigates:
            kind = _KINDS[_name(inner)]
            offset = self._offset(expr, inner.expressions[1], OFFSET_MAX) if len(inner.expressions) == 2 else 0
            inner = inner.expressions[0]
        qualifier, bare = self._stripped(expr, node, inner)
        if back:
            bare = exp.Anonymous(this="previous", expressions=[bare, exp.Literal.number(back)])
        column = self._column(expr._replace(ast=bare))
        if variable is not None and not navigates and qualifier in (_ALL, variable):
            return _column(column, node)
        return _column(self._slot(kind, self._sets[qualifier], column, offset), node)

    def _argument(self, expr: Expr, node: exp.Anonymous, argument: exp.Expr) -> tuple[int, str | int | None]:
        """Of which variables, and which column; None: COUNT(*)."""
        if isinstance(argument, exp.Star):
            return self._sets[_ALL], None
        if isinstance(argument, exp.Column) and isinstance(argument.this, exp.Star):
            return self._set(expr, argument, argument.table), None
        if isinstance(argument, exp.Anonymous) and _name(argument) == "classifier":
            return self._classified(expr, argument), CLASSIFIER
        qualifier, bare = self._stripped(expr, node, argument)
        return self._sets[qualifier], self._column(expr._replace(ast=bare))

    def _stripped(self, expr: Expr, node: exp.Anonymous, argument: exp.Expr) -> tuple[str, exp.Expr]:
        """An expression of one row, and the variable that says which."""
        found: set[str] = set()

        def change(one: exp.Expr) -> exp.Expr:
            if isinstance(one, exp.Anonymous) and _name(one) in _CALLS:
                self._refuse(expr, one, f"{_name(one).upper()} inside {_name(node).upper()}")
            if isinstance(one, exp.Column) and not isinstance(one.this, exp.Star):
                qualifier = one.table if one.table in self._sets and not one.db else _ALL
                found.add(qualifier)
                return _bare(one, qualifier)
            return one

        bare = exp.Paren(this=argument.copy()).transform(change).this
        if len(found) > 1:
            self._refuse(expr, node, f"{_name(node).upper()} is of the rows of one variable")
        return next(iter(found), _ALL), bare

    def _classified(self, expr: Expr, node: exp.Anonymous) -> int:
        if not node.expressions:
            return self._sets[_ALL]
        return self._set(expr, node.expressions[0], node.expressions[0].name)

    def _set(self, expr: Expr, node: exp.Expr, name: str) -> int:
        if name not in self._sets or not name:
            self._refuse(expr, node, f"{name} is not in the pattern", nearest(name, [one for one in self._sets if one]))
        return self._sets[name]

    def _offset(self, expr: Expr, node: exp.Expr, most: int) -> int:
        value = expr._replace(ast=node).literal
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
            self._refuse(expr, node, f"a number of rows from 0 to {most} is wanted here")
        return int(value)

    def _slot(
        self, kind: SlotKind, variables: int, column: str | int | None, offset: int, place: Place = _NOWHERE
    ) -> str:
        """The name of a slot; equal ones are one."""
        slots = self.found.slots
        for slot in slots:
            if (slot.kind, slot.variables, slot.column, slot.offset) == (kind, variables, column, offset):
                return slot.name
        slots.append(SlotDraft(f"_slot_{len(slots)}", kind, variables, column, offset, place))
        return slots[-1].name

    def _refuse(self, expr: Expr, node: exp.Expr, message: str, hint: str | None = None) -> NoReturn:
        raise ConfigError(message, place_of(expr, node), hint)


def _name(node: exp.Expr) -> str:
    """A call's name; in one row per match RUNNING and FINAL say the same."""
    return node.name.lower().removeprefix("final_").removeprefix("running_")


def _bare(node: exp.Column, qualifier: str) -> exp.Column:
    if not qualifier:
        return node
    identifier = node.this.copy()
    return exp.Column(this=identifier)


def _column(name: str, node: exp.Expr) -> exp.Column:
    identifier = exp.to_identifier(name, quoted="." in name)
    found = next((one for one in node.walk() if one.meta.get("start") is not None), node)
    identifier.update_positions(found)
    return exp.Column(this=identifier)


def _conjuncts(node: exp.Expr) -> list[exp.Expr]:
    node = node.unnest()
    return [part for one in node.flatten() for part in _conjuncts(one)] if isinstance(node, exp.And) else [node]


def _all_of(parts: list[exp.Expr]) -> exp.Expr:
    found: exp.Expr = exp.Paren(this=parts[0])
    for part in parts[1:]:
        found = exp.And(this=found, expression=exp.Paren(this=part))
    return found
