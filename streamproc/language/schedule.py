"""The order of items: as few steps as their dependencies allow, what keeps state first.

A silent replay runs only the steps with state and what feeds them; so these come first, and an expression that no
state needs is never computed beside one that is needed.
"""

from __future__ import annotations

__all__ = ["check_names", "schedule"]

import re
from collections.abc import Iterable, Mapping, Sequence

from operators.patterns.tree import variables_of
from state.errors import ConfigError, Place
from streamproc.language.items import (
    ExpressionItem,
    Item,
    PatternItem,
    PreviousItem,
    ScoreItem,
    TimedItem,
    UserItem,
    WindowItem,
    reads,
    writes,
)
from streamproc.language.problems import Problems, nearest

Layer = list[Item]


def check_names(items: Mapping[str, Item], fields: Iterable[str], refused: set[str], problems: Problems) -> set[str]:
    """Refuse columns that two things make and columns that nothing makes; names and columns of what is concerned.

    `refused` columns count as made: what is wrong with them has been said.
    """
    makers: dict[str, Item | None] = dict.fromkeys(fields)
    wrong: set[str] = set()
    for item in items.values():
        for column in writes(item):
            if column in makers:
                other = makers[column]
                what = f"in line {other.place.line}" if other else "is a field of the stream"
                problems.add(f"{column!r} exists already", item.place, f"it {what}" if not other else what)
                wrong |= {item.name, *writes(item)}
            makers.setdefault(column, item)
    shown = [column for column in makers if not column.startswith(("_", "rule:"))]
    variables = [name for item in items.values() if isinstance(item, PatternItem) for name in _variables(item)]
    for item in items.values():
        for column in reads(item):
            if column not in makers and column not in refused:
                called_so = f"did you mean matched({column})?" if f"pattern:{column}" in items else None
                hint = called_so or _of_variable(column, shown, variables) or _hint(item, column, shown)
                problems.add(f"unknown column {column!r}", _find(item, column), hint)
                wrong |= {item.name, *writes(item)}
    return wrong


def _variables(item: PatternItem) -> tuple[str, ...]:
    match = item.declared.match
    return (*variables_of(match.pattern), *match.subsets)


def _of_variable(column: str, shown: list[str], variables: list[str]) -> str | None:
    """For `SMAL.amount`: that it is SMALL.amount, of a pattern's variable, if nothing is nearer."""
    _, dot, last = column.rpartition(".")
    near = nearest(column, [*shown, *(f"{name}.{last}" for name in variables)]) if dot and variables else None
    return near if near and near.startswith("did you mean") else None


def _hint(item: Item, column: str, shown: list[str]) -> str | None:
    """The nearest column; of a name in double quotes, that it may be meant as a text."""
    near = nearest(column, shown)
    if not isinstance(item, ExpressionItem) or f'"{column}"' not in item.expr.text.replace("\\", ""):
        return near
    text = "text stands in single quotes: '" + column.replace("'", "''") + "'"
    return f"{text}; {near}" if near and near.startswith("did you mean") else text


def _find(item: Item, column: str) -> Place:
    """Where a column stands in an item's text."""
    if isinstance(item, ScoreItem):
        return dict(zip(item.model.features, item.model.places, strict=True)).get(column, item.place)
    if isinstance(item, WindowItem | PreviousItem | PatternItem):
        return item.places.get(column, item.place)
    if not isinstance(item, ExpressionItem):
        return item.place
    text, place = item.expr.text, item.expr.place
    match = re.search(rf"(?<![\w.]){re.escape(column)}(?![\w.])", text, re.IGNORECASE)
    if not match:
        return place
    before = text[: match.start()]
    line = before.count("\n")
    return place._replace(
        line=place.line + line, column=match.start() - before.rfind("\n") if line else place.column + match.start()
    )


def schedule(items: Mapping[str, Item], fields: Iterable[str]) -> list[Layer]:
    """Layers in execution order; all items of a layer become one step (windows, patterns: of one key).

    Raises:
        ConfigError: items refer to each other in a circle, or state would depend on a model.
    """
    makers = {column: item for item in items.values() for column in writes(item)}
    roots = [
        item
        for item in items.values()
        if isinstance(item, WindowItem | PreviousItem | TimedItem | PatternItem)
        or (isinstance(item, UserItem) and item.operator.tables)
    ]
    stateful = _needed(roots, makers)
    if any(isinstance(items[name], ScoreItem) for name in stateful):
        raise _score_in_state(roots, makers)
    done = set(fields)
    first = [item for item in items.values() if item.name in stateful]
    rest = [item for item in items.values() if item.name not in stateful]
    return _layers(first, done, makers) + _layers(rest, done, makers)


def _needed(roots: Sequence[Item], makers: Mapping[str, Item]) -> set[str]:
    """Names of the roots and of all that they read, directly or not."""
    found: dict[str, Item] = {}
    todo = list(roots)
    while todo:
        item = todo.pop()
        if item.name not in found:
            found[item.name] = item
            todo += [makers[column] for column in reads(item) if column in makers]
    return set(found)


def _score_in_state(roots: Sequence[Item], makers: Mapping[str, Item]) -> ConfigError:
    scores = {item.name for item in makers.values() if isinstance(item, ScoreItem)}
    first = next(item for item in roots if scores & _needed([item], makers))
    hint = "use what the score is made of; a replay does not score"
    return ConfigError("state cannot depend on a model's score", first.place, hint)


def _layers(items: list[Item], done: set[str], makers: Mapping[str, Item]) -> list[Layer]:
    layers: list[Layer] = []
    todo = list(items)
    while todo:
        before = len(todo)
        if expressions := _ready_expressions(todo, done):
            layers.append(expressions)
        ready = [item for item in todo if not isinstance(item, ExpressionItem) and done.issuperset(reads(item))]
        by_key: dict[tuple[bool, str], Layer] = {}
        for item in ready:
            todo.remove(item)
            if isinstance(item, WindowItem | PreviousItem | PatternItem):
                by_key.setdefault((isinstance(item, PatternItem), item.key), []).append(item)
        layers += by_key.values()
        layers += [[item] for item in ready if isinstance(item, ScoreItem | TimedItem | UserItem)]
        done.update(column for item in ready for column in writes(item))
        if len(todo) == before:
            raise _circle(todo, makers)
    return layers


def _ready_expressions(todo: list[Item], done: set[str]) -> Layer:
    """All expressions that can be computed now, one after another; they leave `todo`."""
    found: Layer = []
    grew = True
    while grew:
        grew = False
        for item in list(todo):
            if isinstance(item, ExpressionItem) and done.issuperset(reads(item)):
                todo.remove(item)
                found.append(item)
                done.add(item.name)
                grew = True
    return found


def _circle(todo: list[Item], makers: Mapping[str, Item]) -> ConfigError:
    """Name the circle: every item left waits for another one that is left."""
    waiting = {item.name for item in todo}
    path = [todo[0]]
    while True:
        following = next(
            makers[column] for column in reads(path[-1]) if column in makers and makers[column].name in waiting
        )
        if following in path:
            circle = [item.name for item in path[path.index(following) :]] + [following.name]
            shown = " -> ".join(name for name in circle if not name.startswith("_"))
            return ConfigError(f"features refer to each other in a circle: {shown}", following.place)
        path.append(following)
