"""The items that a pipeline is taken apart into (draft.py): what each is called, reads, writes, and where it stands."""

from __future__ import annotations

__all__ = [
    "KEY_TEXT",
    "ExpressionItem",
    "Item",
    "PatternItem",
    "PreviousItem",
    "ScoreItem",
    "TimedItem",
    "UserItem",
    "WindowItem",
    "reads",
    "served_columns",
    "writes",
]

import msgspec

from operators.operator import Operator
from operators.patterns.operator import dropped_column, matched_column, measure_column
from state.errors import Place
from streamproc.language.expression import Expr, columns_of
from streamproc.language.model import Model, SequencePattern, Served, Timed
from streamproc.language.patterns.references import Reading

KEY_TEXT = "_key_"
"""Before the name of a whole-number key: the column that holds its text."""


class ExpressionItem(msgspec.Struct, frozen=True):
    """A column computed row by row."""

    name: str
    expr: Expr
    place: Place


class WindowItem(msgspec.Struct, frozen=True):
    """One aggregate over one window; `of` and `where` are columns. `places`: where each is named, if
    not at `place`.
    """

    name: str
    key: str
    aggregate: str
    over: int
    of: str | None
    where: str | None
    delay: int
    precision: int
    place: Place
    places: dict[str, Place] = {}


class PreviousItem(msgspec.Struct, frozen=True):
    """A column's value in an earlier row of the key, of those for which the column `where` is true."""

    name: str
    key: str
    of: str
    n: int
    place: Place
    where: str | None = None
    places: dict[str, Place] = {}


class ScoreItem(msgspec.Struct, frozen=True):
    """A model's score."""

    name: str
    model: Model

    @property
    def place(self) -> Place:
        """Where the model is declared."""
        return self.model.place


class UserItem(msgspec.Struct, frozen=True):
    """An operator of the user, ready made."""

    name: str
    operator: Operator
    place: Place


class TimedItem(msgspec.Struct, frozen=True):
    """A window that is told when it closes, or an absence; `columns`: what it reads besides key and id.

    Of a window: what is aggregated and which rows count, if said. Of an absence: its two conditions.
    """

    name: str
    key: str
    per: str
    columns: tuple[str | None, str | None]
    id: str
    timed: Timed
    disorder: int

    @property
    def place(self) -> Place:
        """Where it is declared."""
        return self.timed.place


class PatternItem(msgspec.Struct, frozen=True):
    """A sequence pattern and what it reads; `counts`: the column of the rows that it sees, None: all.

    `per`: the key as the analyst calls it; `disorder`: ms by which the watermark lies behind; `places`: where columns
    are named, if not at `place`.
    """

    name: str
    key: str
    declared: SequencePattern
    reading: Reading
    counts: str | None
    per: str = ""
    disorder: int = 0
    places: dict[str, Place] = {}

    @property
    def place(self) -> Place:
        """Where it is declared."""
        return self.declared.place

    @property
    def pattern(self) -> str:
        """The analyst's name for it."""
        return self.name.removeprefix("pattern:")


Item = ExpressionItem | WindowItem | PreviousItem | PatternItem | ScoreItem | TimedItem | UserItem


def reads(item: Item) -> tuple[str, ...]:
    """The columns that an item needs."""
    match item:
        case ExpressionItem():
            return tuple(sorted(columns_of(item.expr)))
        case WindowItem():
            return tuple(column for column in (item.key, item.of, item.where) if column)
        case PreviousItem():
            return tuple(column for column in (item.key, item.of, item.where) if column)
        case ScoreItem():
            by = item.model.served.by if item.model.served else ""
            return tuple(dict.fromkeys((*item.model.features, *([by] if by else []))))
        case TimedItem():
            return tuple(column for column in (item.key, *item.columns, item.id) if column)
        case PatternItem():
            return tuple(
                column
                for column in (item.key, item.counts, *item.reading.fits.values(), *item.reading.columns)
                if column
            )
        case UserItem():
            return item.operator.inputs


def served_columns(served: Served | None) -> tuple[str, ...]:
    """What a registered model adds, besides what every model does."""
    return ("version", "shadows") if served else ()


def writes(item: Item) -> tuple[str, ...]:
    """The columns that an item adds."""
    if isinstance(item, ScoreItem):
        kinds = ["score", "failed", *["tier"] * bool(item.model.tiers), *served_columns(item.model.served)]
        return tuple(f"{item.name}.{kind}" for kind in kinds)
    if isinstance(item, UserItem):
        return tuple(field.name for field in item.operator.outputs)
    if isinstance(item, TimedItem):
        return ()
    if isinstance(item, PatternItem):
        measures = [measure_column(item.pattern, one) for one in item.reading.measures]
        return (matched_column(item.pattern), *measures, dropped_column(item.pattern))
    return (item.name,)
