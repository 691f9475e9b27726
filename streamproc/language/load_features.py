"""The `features:` section: expressions, single windows and groups of windows."""

from __future__ import annotations

__all__ = ["SIMILAR_AGGREGATES", "read_features"]

import re

from operators.windows.spec import Aggregate
from state.errors import ConfigError, Place
from streamproc.language.expression import Expr
from streamproc.language.model import ExpressionFeature, Feature, WindowGroup, window_names
from streamproc.language.problems import nearest
from streamproc.language.reader import (
    Section,
    check_identifier,
    check_unreserved,
    choice,
    duration,
    formula,
    identifier,
    itself,
    text,
)
from streamproc.language.units import parse_duration
from streamproc.language.yaml_tree import Items, Mapping, Node, Scalar, word

_AGGREGATES = tuple(str(aggregate) for aggregate in Aggregate)
_PLACEHOLDERS = ("group", "aggregate", "over")
_BRACES = re.compile(r"\{([^{}]*)\}")
SIMILAR_AGGREGATES = {
    "avg": "mean",
    "average": "mean",
    "std": "stddev",
    "cnt": "count",
    "nunique": "distinct",
    "total": "sum",
}
_WINDOWS_MAX = 1_000
"""Windows of one pipeline."""


def read_features(stage: Section) -> dict[str, Feature]:
    """All features of a stage by the analyst's names; a group is one entry.

    The columns that they make are checked to be distinct.
    """
    node = stage.node("features")
    if node is None or (isinstance(node, Scalar) and node.empty):
        return {}
    if not isinstance(node, Mapping):
        stage.problems.add("features must be a mapping of names", node.place, "features: {name: expression, ...}")
        return {}
    found: dict[str, Feature] = {}
    for name, entry in node.entries.items():
        with stage.problems.caught():
            found[name] = _feature(name, entry, node.keys[name], stage)
    _check_names(found, stage)
    return found


def _feature(name: str, node: Node, place: Place, stage: Section) -> Feature:
    check_identifier(name, place)
    if isinstance(node, Scalar):
        return ExpressionFeature(formula(node), place=place)
    if isinstance(node, Items):
        raise ConfigError(f"feature {name} must be an expression or a mapping", node.place)
    section = Section(node, f"feature {name}", stage.problems)
    if "expression" in section:
        expression = section.need("expression", formula, None)
        per = section.get("per", identifier, None)
        where = section.get("where", formula, None)
        section.close()
        if expression is None:
            return _nothing(place)
        return ExpressionFeature(expression, per, where, place)
    return _windows(name, section, place)


def _nothing(place: Place) -> WindowGroup:
    """Stands for a feature that was refused."""
    return WindowGroup(None, {}, {}, place=place)


def _windows(name: str, section: Section, place: Place) -> Feature:
    single = [key for key in section if key in _AGGREGATES]
    if single:
        aggregates = {single[0]: single[0]}
        of = _of(section, single[0])
        template = name
        for extra in single[1:]:
            section.node(extra)
            section.problems.add(f"feature {name} has two aggregates", section.key_place(extra), "make it a group: of:")
    elif "of" in section or "aggregates" in section:
        aggregates = _aggregates(section)
        of = _of(section, "of")
        template = section.get("name", text, "{group}_{aggregate}_{over}")
    else:
        what = 'expression:, of: with aggregates:, or one aggregate such as {count: "*", over: 5m}'
        wrong = next((key for key in section if key in SIMILAR_AGGREGATES), next(iter(section), ""))
        near = SIMILAR_AGGREGATES.get(wrong)
        hint = f"did you mean {near}?" if near else nearest(wrong, _AGGREGATES)
        place = section.key_place(wrong) if hint and hint.startswith("did you mean") else place
        section.problems.add(f"feature {name} needs {what}", place, hint)
        return _nothing(place)
    group = WindowGroup(
        of=of,
        aggregates=aggregates,
        over=_one_window(name, single[0], section) if single else _over(section),
        where=section.get("where", formula, None),
        delay=section.get("delay", duration, 0),
        precision=section.get("precision", duration, 0),
        per=section.get("per", identifier, None),
        name=template,
        place=place,
        per_place=getattr(section.node("per"), "place", place),
    )
    before = len(section.problems.errors)
    section.close()
    if len(section.problems.errors) == before:
        _check_group(name, group, section)
    return group


def _of(section: Section, key: str) -> Expr | None:
    """What is aggregated; None for `*`: rows."""
    node = section.node(key)
    if node is None or (isinstance(node, Scalar) and node.text == "*"):
        return None
    with section.problems.caught():
        return formula(node)
    return None


def _aggregates(section: Section) -> dict[str, str]:
    """Aggregate -> what names call it, from a list or a mapping."""
    if (node := section.need("aggregates", itself, None, "aggregates: [count, sum]")) is None:
        return {}
    found: dict[str, str] = {}
    for given, shown in _pairs(node):
        with section.problems.caught():
            word = text(given)
            if word in SIMILAR_AGGREGATES:
                raise ConfigError(
                    f"unknown aggregate {word!r}", given.place, f"did you mean {SIMILAR_AGGREGATES[word]}?"
                )
            aggregate = choice("aggregate", *_AGGREGATES)(given)
            if aggregate in found:
                raise ConfigError(f"{aggregate} is listed twice", given.place)
            found[aggregate] = text(shown)
    return found


def _over(section: Section) -> dict[int, str]:
    """Window length (ms) -> what names call it, from one duration, a list or a mapping."""
    if (node := section.need("over", itself, None, "over: 5m, or over: [5m, 1h]")) is None:
        return {}
    found: dict[int, str] = {}
    for given, shown in _pairs(node):
        with section.problems.caught():
            try:
                length = parse_duration(text(given))
            except ValueError as error:
                raise ConfigError(str(error), given.place) from None
            if length in found:
                raise ConfigError(f"the window {given.text} is listed twice", given.place)
            found[length] = text(shown)
    return found


def _one_window(name: str, aggregate: str, section: Section) -> dict[int, str]:
    """The `over:` of a feature that is one column."""
    windows = _over(section)
    if len(windows) < 2:
        return windows
    of = section.node(aggregate)
    shown = f"'{of.text}'" if isinstance(of, Scalar) and of.text == "*" else getattr(of, "text", "...")
    hint = f"several: {{of: {shown}, aggregates: [{aggregate}], over: [{', '.join(windows.values())}]}}"
    said = f"feature {name}: {aggregate}: takes one window only; for several use of:/aggregates:"
    section.problems.add(said, section.key_place("over"), hint)
    return dict(list(windows.items())[:1])


def _pairs(node: Node) -> list[tuple[Scalar, Node]]:
    """(value, name) of `[a, b]`, `a` or `{a: name}`."""
    if isinstance(node, Mapping):
        return [(word(key, node.keys[key]), value) for key, value in node.entries.items()]
    items = node.items if isinstance(node, Items) else [node]
    for item in items:
        text(item)
    return [(item, item) for item in items if isinstance(item, Scalar)]


def _check_group(name: str, group: WindowGroup, section: Section) -> None:
    for aggregate in group.aggregates:
        if group.of is None and aggregate != Aggregate.COUNT:
            section.problems.add(f"{aggregate} needs a column, not *", section.place, f"{aggregate}: amount")
    for over in group.over:
        if group.precision and over % group.precision:
            section.problems.add("a window must be a multiple of its precision", section.key_place("precision"))
            break
    wrong = sorted(set(_BRACES.findall(group.name)) - set(_PLACEHOLDERS))
    if wrong:
        raise ConfigError(f"name: {{{wrong[0]}}} is not known", section.key_place("name"), nearest("", _PLACEHOLDERS))
    for made, _, _ in window_names(name, group):
        check_identifier(made, section.key_place("name"))


def _check_names(features: dict[str, Feature], stage: Section) -> None:
    made: dict[str, Place] = {}
    for name, feature in features.items():
        columns = [name] if isinstance(feature, ExpressionFeature) else [c for c, _, _ in window_names(name, feature)]
        for column in columns:
            with stage.problems.caught():
                check_unreserved(column, feature.place, f"call it {column.lstrip('_')}")
            if column in made:
                hint = f"first in line {made[column].line}"
                stage.problems.add(f"two features are called {column}", feature.place, hint)
            made.setdefault(column, feature.place)
    if len(made) > _WINDOWS_MAX:
        stage.problems.add(f"more than {_WINDOWS_MAX} features", stage.key_place("features"))
