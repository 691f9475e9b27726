"""The sections `watermark:`, `windows:` and `absences:` of a stage: results that wait for time."""

from __future__ import annotations

__all__ = ["TIMED_KEYS", "check_alerts", "read_timed", "read_watermark"]

from collections.abc import Iterable

from operators.timed.spec import AbsenceSpec, TimedAggregate, WindowKind, WindowSpec, check
from state.errors import ConfigError, Place
from streamproc.language.expression import Expr
from streamproc.language.load_features import SIMILAR_AGGREGATES
from streamproc.language.model import Absence, SequencePattern, Stage, Timed, TimedWindow, Watermark
from streamproc.language.problems import Problems, nearest
from streamproc.language.reader import Section, choice, duration, each, formula, identifier, text
from streamproc.language.yaml_tree import Node, Scalar, word

TIMED_KEYS = ("watermark", "windows", "absences")
_KINDS = tuple(str(kind) for kind in WindowKind)
_AGGREGATES = tuple(str(aggregate) for aggregate in TimedAggregate)
_STEPPED = (WindowKind.HOP, WindowKind.CUMULATE)
_SIMILAR = {"tumbling": "tumble", "sliding": "hop", "hopping": "hop", "slide": "every", "step": "every"}
_NOTHING = word("", Place(""))


def read_watermark(stage: Section) -> Watermark:
    """How the stage's event time goes on."""
    node = stage.node("watermark")
    section = Section(node or _NOTHING, "watermark", stage.problems)
    found = Watermark(section.get("disorder", duration, 0), section.get("idle", duration, 0))
    section.close()
    return found


def read_timed(stage: Section) -> dict[str, Timed]:
    """Windows and absences by the analyst's names."""
    found: dict[str, Timed] = {}
    places: dict[str, Place] = {}
    for kind, read in (("windows", _window), ("absences", _absence)):
        for name, section in stage.subsections(kind, kind.removesuffix("s")):
            if name in found:
                hint = f"first in line {places[name].line}"
                stage.problems.add(f"a window and an absence are called {name}", section.place, hint)
            places.setdefault(name, section.place)
            if (made := read(name, section)) is not None:
                found[name] = made
    return found


def _window(name: str, section: Section) -> TimedWindow | None:
    given = [key for key in section if key in _KINDS]
    of = _of(section)
    usual: tuple[str, ...] = ("count",)
    aggregates = section.get("aggregates", each(_aggregate), usual)
    kind = given[0] if given else ""
    window = TimedWindow(
        kind=kind,
        size=section.need(kind, duration, 0) if given else 0,
        aggregates=tuple(dict.fromkeys(aggregates)),
        every=section.need("every", duration, 0, "how far apart they begin (hop), or by what they grow (cumulate)")
        if kind in _STEPPED
        else 0,
        offset=section.get("offset", duration, 0) if kind != WindowKind.SESSION else 0,
        lateness=section.get("lateness", duration, 0),
        of=of,
        where=section.get("where", formula, None),
        when=section.get("when", formula, None),
        per=section.get("per", identifier, None),
        reason=section.get("reason", text, name),
        place=section.place,
    )
    if not given:
        wrong = next((key for key in section if key in _SIMILAR), None)
        hint = f"did you mean {_SIMILAR[wrong]}?" if wrong else nearest(next(iter(section), ""), _KINDS)
        section.problems.add(f"window {name} needs one of {', '.join(_KINDS)}, with its length", section.place, hint)
        return None
    for extra in given[1:]:
        section.node(extra)
        section.problems.add(f"window {name} has two kinds", section.key_place(extra), "make it two windows")
    section.close()
    if len(aggregates) > len(window.aggregates):
        section.problems.add("an aggregate is listed twice", section.key_place("aggregates"))
    _check_lengths(window, section)
    return window


def _check_lengths(window: TimedWindow, section: Section) -> None:
    """What can be said without types; nothing of what was refused already."""
    if not window.size or (window.kind in _STEPPED and not window.every):
        return
    try:
        check(WindowSpec(WindowKind(window.kind), window.size, (), window.every, window.offset, window.lateness))
    except ConfigError as error:
        section.problems.add(error.message, section.key_place(window.kind), error.hint)
    if window.of is None:
        for aggregate in window.aggregates:
            if aggregate != TimedAggregate.COUNT:
                section.problems.add(f"{aggregate} needs a column, not *", section.place, "of: amount")


def _of(section: Section) -> Expr | None:
    """What is aggregated; None for `*`: rows."""
    node = section.node("of")
    if node is None or (isinstance(node, Scalar) and node.text == "*"):
        return None
    with section.problems.caught():
        return formula(node)
    return None


def _aggregate(node: Node) -> str:
    name = text(node)
    if name in SIMILAR_AGGREGATES:
        raise ConfigError(f"unknown aggregate {name!r}", node.place, f"did you mean {SIMILAR_AGGREGATES[name]}?")
    return choice("aggregate", *_AGGREGATES)(node)


def _absence(name: str, section: Section) -> Absence | None:
    after = section.need("after", formula, None, "the condition of the event that begins the wait")
    without = section.need("without", formula, None, "the condition of the event that does not come")
    within = section.need("within", duration, 0, "how long it is waited for: within: 10m")
    per, reason = section.get("per", identifier, None), section.get("reason", text, name)
    section.close()
    if after is None or without is None or not within:
        return None
    with section.problems.caught():
        check(AbsenceSpec("", "", within))
    return Absence(after, without, within, per, reason, section.place)


def check_alerts(stages: Iterable[Stage], problems: Problems) -> None:
    """Alerts of all stages go to one topic: their names differ."""
    known: dict[str, Timed | SequencePattern] = {}
    for stage in stages:
        told = [*stage.timed.items(), *((name, one) for name, one in stage.patterns.items() if one.timeout is not None)]
        for name, one in told:
            if name in known:
                problems.add(f"two alerts are called {name}", one.place, f"first in line {known[name].place.line}")
            known.setdefault(name, one)
