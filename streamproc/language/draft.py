"""A pipeline taken apart into items: expressions, windows, earlier rows, scores, operators of the user.

Calls of previous() and first_seen() leave their expressions here and become items of their own, shared when equal.
Nothing is typed yet: an item knows its name, what it reads and where it stands in the file.
"""

from __future__ import annotations

__all__ = ["Draft"]

import hashlib
import re
from collections.abc import Collection, Sequence

from operators.expressions.clock import duration_text
from operators.patterns.operator import matched_column
from operators.windows.spec import PREVIOUS_MAX
from state.errors import ConfigError, Place
from streamproc.language.expression import CallNode, Expr, check_calls, columns_of, parse, place_of, rewrite_calls
from streamproc.language.items import (
    KEY_TEXT,
    ExpressionItem,
    Item,
    PatternItem,
    PreviousItem,
    TimedItem,
    WindowItem,
)
from streamproc.language.model import (
    Absence,
    ExpressionFeature,
    SequencePattern,
    Timed,
    WindowGroup,
    window_names,
)
from streamproc.language.patterns.references import read_references
from streamproc.language.sources import Sources
from streamproc.language.units import parse_duration

FIRST_SEEN_MS = 30 * 86_400_000
"""How far first_seen(x) looks back unless it says."""
_CALLS = ("previous", "first_seen")
_INNER = "_inner"
_NAME = re.compile(r"[A-Za-z_]\w{0,39}")


class Draft:
    """Collects the items of one stage.

    `key` is what state is keyed by unless something says `per`; `numbers` are the fields that hold whole numbers:
    as keys they are turned into text. `sources`: the stage's streams, if there are several.
    """

    def __init__(self, key: str, numbers: Collection[str] = (), sources: Sources | None = None) -> None:
        self.key = key
        self.items: dict[str, Item] = {}
        self._numbers = numbers
        self._sources = sources

    def add(self, item: Item) -> None:
        """Take an item as it is.

        Raises:
            ConfigError: something else has its name.
        """
        if item.name in self.items:
            first = self.items[item.name].place.line
            raise ConfigError(f"{item.name!r} exists already", item.place, f"in line {first}")
        self.items[item.name] = item

    def expression(
        self, name: str, expr: Expr, place: Place, per: str | None = None, where: Expr | None = None
    ) -> None:
        """A named expression; its calls of previous() and first_seen() become items, which look at rows `where` ..."""
        if where is not None and not _arguments(expr):
            hint = "it says which earlier rows these look at"
            raise ConfigError(f"{name}: where: without previous() or first_seen()", where.place, hint)
        self.add(ExpressionItem(name, self._without_calls(expr, per, where), place))

    def feature(self, name: str, feature: ExpressionFeature | WindowGroup) -> list[str]:
        """A declared feature; the columns that it makes, in the analyst's order."""
        if isinstance(feature, ExpressionFeature):
            self.expression(name, feature.expression, feature.place, feature.per, feature.where)
            return [name]
        of = self.column(feature.of, feature.per) if feature.of else None
        read = columns_of(feature.of) if feature.of else set()
        where = self._where(read, of, feature.where, feature.per, feature.place)
        made = []
        key = self._text_key(feature.per or self.key, feature.place)
        named = ((of, feature.of), (where, feature.where))
        places = {column: expr.place for column, expr in named if column and expr}
        if feature.per:
            places[key] = feature.per_place
        for column, aggregate, over in window_names(name, feature):
            self.add(
                WindowItem(
                    column, key, aggregate, over, of, where, feature.delay, feature.precision, feature.place, places
                )
            )
            made.append(column)
        return made

    def timed(self, name: str, timed: Timed, ids: Sequence[str], disorder: int) -> None:
        """A window that is told when it closes, or an absence; `ids`: the fields that identify rows, of each stream."""
        key = timed.per or self.key
        if isinstance(timed, Absence):
            columns = [self._where(set(), None, one, timed.per, timed.place) for one in (timed.after, timed.without)]
        else:
            of = self.column(timed.of, timed.per) if timed.of else None
            read = columns_of(timed.of) if timed.of else set()
            columns = [of, self._where(read, None, timed.where, timed.per, timed.place)]
        item = TimedItem(
            f"timed:{name}", self._text_key(key, timed.place), key, (columns[0], columns[1]),
            self._row_id(ids, timed.place), timed, disorder,
        )  # fmt: skip
        self.add(item)

    def pattern(self, name: str, declared: SequencePattern, disorder: int = 0) -> None:
        """A sequence pattern; what it reads of single rows becomes columns.

        Raises:
            ConfigError: with the place of what is wrong.
        """
        per = declared.per
        places: dict[str, Place] = {}

        def column(expr: Expr) -> str:
            name = self.column(expr, per)
            places.setdefault(name, place_of(expr, expr.ast))
            return name

        reading = read_references(declared.match, column)
        counts = None if declared.where is None else column(declared.where)
        key = per or self.key
        text_key = self._text_key(key, declared.per_place if per else declared.place)
        if per:
            places[text_key] = declared.per_place
        self.add(PatternItem(f"pattern:{name}", text_key, declared, reading, counts, key, disorder, places))

    def _row_id(self, ids: Sequence[str], place: Place) -> str:
        """The column that says which row it is, of whichever stream."""
        if len(ids) == 1:
            return ids[0]
        texts = ", ".join(f"CAST({one} AS varchar)" for one in ids)
        return self.column(parse(f"COALESCE({texts})", place), None)

    def column(self, expr: Expr, per: str | None) -> str:
        """The column that holds `expr`: its own, or a hidden one that is shared by equal expressions."""
        plain = self._without_calls(expr, per, None)
        if plain.column is not None:
            return plain.column
        name = f"_{_slug(plain.sql)}"
        if name not in self.items:
            self.add(ExpressionItem(name, plain, expr.place))
        return name

    def _text_key(self, key: str, place: Place) -> str:
        if key not in self._numbers:
            return key
        name = KEY_TEXT + key
        if name not in self.items:
            self.add(ExpressionItem(name, parse(f"CAST({key} AS varchar)", place), place))
        return name

    def _where(
        self, read: Collection[str], of: str | None, given: Expr | None, per: str | None, place: Place
    ) -> str | None:
        """The column that says which rows count for what reads the columns `read`; `of`: the one whose NULLs do not."""
        where = given
        if self._sources is not None:
            where = self._sources.where(read, given, per or self.key, place)
            if given is None and of is not None and self._sources.have(of) == self._sources.having(read):
                where = None  # where it is not declared it is NULL
        return None if where is None else self.column(where, per)

    def _without_calls(self, expr: Expr, per: str | None, where: Expr | None) -> Expr:
        check_calls(expr, (*_CALLS, "matched"))
        expr = rewrite_calls(expr, ("matched",), _matched)
        together = _arguments(expr) if self._sources is not None else set()
        if self._sources is not None and not self._sources.having(together):
            together = set()  # each call looks at streams of its own
        return rewrite_calls(expr, _CALLS, lambda call: self._call(call, per or self.key, where, together))

    def _call(self, call: CallNode, key: str, given: Expr | None, together: Collection[str]) -> str:
        """`given`: its `where:`; `together`: the columns that all calls of the expression read."""
        suffix = "" if key == self.key else f"_by_{key}"
        if not 1 <= len(call.args) <= 2:
            raise ConfigError(f"{call.name}() takes one or two arguments", call.place, _usage(call.name))
        of = self.column(call.args[0], key)
        read = together or columns_of(call.args[0])
        where = self._where(read, of if call.name == "first_seen" else None, given, key, call.place)
        suffix += f"_where_{_slug(where)}" if where else ""
        key = self._text_key(key, call.place)
        places = {of: place_of(call.args[0], call.args[0].ast)}
        item: Item
        if call.name == "previous":
            n = call.args[1].literal if len(call.args) == 2 else 1
            if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= PREVIOUS_MAX:
                raise ConfigError(f"previous(x, n) takes a number n from 1 to {PREVIOUS_MAX}", call.place)
            item = PreviousItem(f"_previous_{n}_{_slug(of)}{suffix}", key, of, n, call.place, where, places)
        else:
            over = _over(call)
            name = f"_first_seen_{duration_text(over)}_{_slug(of)}{suffix}"
            item = WindowItem(name, key, "first_seen", over, of, where, 0, 0, call.place, places)
        self.items.setdefault(item.name, item)
        return item.name


def _arguments(expr: Expr) -> set[str]:
    """The columns that calls of previous() and first_seen() read of earlier rows."""
    found: set[str] = set()

    def look(call: CallNode) -> str:
        if call.args:
            found.update(columns_of(call.args[0]))
        return _INNER

    rewrite_calls(expr, _CALLS, look)
    return found - {_INNER}


def _matched(call: CallNode) -> str:
    """The column of `matched(name)`."""
    name = call.args[0].column if len(call.args) == 1 else None
    if name is None:
        raise ConfigError("matched() takes the name of a pattern", call.place, "matched(card_testing)")
    return matched_column(name)


def _over(call: CallNode) -> int:
    if len(call.args) == 1:
        return FIRST_SEEN_MS
    text = call.args[1].literal
    try:
        return parse_duration(text if isinstance(text, str) else "")
    except ValueError:
        raise ConfigError("first_seen(x, over) takes a duration as text", call.place, _usage("first_seen")) from None


def _usage(name: str) -> str:
    return "previous(amount) or previous(amount, 2)" if name == "previous" else "first_seen(country, '90d')"


def _slug(sql: str) -> str:
    """A name for an expression: itself if it is a name, else its words and a digest (stable: it names state)."""
    if _NAME.fullmatch(sql):
        return sql
    words = re.sub(r"\W+", "_", sql)[:30].strip("_").lower()
    return f"{words}_{hashlib.sha256(sql.encode()).hexdigest()[:8]}"
