"""The `expect:` section of a case."""

from __future__ import annotations

__all__ = ["DECIDED", "read_expectations", "visible_columns"]

from collections.abc import Mapping, Sequence

from operators.decide import ID_REUSED
from operators.plan import Plan
from operators.schema import DataType
from state.errors import ConfigError, Place
from streamproc.language.cases.model import Expected
from streamproc.language.cases.values import Value, read_expected
from streamproc.language.problems import nearest
from streamproc.language.reader import Section, choice, each, flag, text
from streamproc.language.yaml_tree import Node

_HIDDEN = ("_", "rule:")
DECIDED = ("decision", "reasons", "hits", "misses", "features", "score", "risk_tier", "duplicate")
"""What may be expected of an event that is decided."""


def visible_columns(plan: Plan) -> dict[str, DataType]:
    """The columns that cases may name: fields, features, what operators and models add."""
    types = {field.name: field.type for stream in plan.streams for field in stream.fields}
    types |= {field.name: field.type for step in plan.steps for field in step.outputs}
    return {name: kind for name, kind in types.items() if not name.startswith(_HIDDEN)}


def read_expectations(
    section: Section, plans: Sequence[Plan], start: int, labels: Mapping[str, int]
) -> tuple[Expected, ...]:
    """What is expected of the named events; `labels`: the names, and which record each is. `plans`: of all stages."""
    found = []
    for name in section:
        node = section.node(name)
        place = section.key_place(name)
        if name not in labels:
            names = [label for label in labels if "[" not in label]
            hint = nearest(name, names) or f"name it: events: [{{event: {name}, ...}}]"
            section.problems.add(f"no event is called {name!r}", place, hint)
        if node is not None:
            one = _Expectation(Section(node, f"what is expected of {name}", section.problems), plans, start)
            found.append(one.read(labels.get(name, 0), place))
    return tuple(found)


class _Expectation:
    """Reads what is expected of one event."""

    def __init__(self, section: Section, plans: Sequence[Plan], start: int) -> None:
        self._section = section
        self._plan = plans[-1]
        self._cards = {field.name for field in plans[0].stream.fields if field.pan}
        self._start = start

    def read(self, given: int, place: Place) -> Expected:
        section, plan = self._section, self._plan
        actions = plan.decision.actions.names
        rule = each(choice("rule", *(rule.id for rule in plan.rules)))
        reasons = dict.fromkeys([ID_REUSED, *(rule.reason for rule in plan.rules if not rule.shadow)])
        expected = Expected(
            given,
            place,
            decision=section.get("decision", choice("action", *actions), None),
            reasons=section.get("reasons", each(choice("reason", *reasons)), None),
            hits=section.get("hits", rule, ()),
            misses=section.get("misses", rule, ()),
            columns=self._columns(),
            dead_letter=section.get("dead_letter", text, None),
            duplicate=section.get("duplicate", flag, False),
        )
        section.close()
        self._check(expected)
        return expected

    def _columns(self) -> dict[str, Value]:
        section, plan = self._section, self._plan
        known = visible_columns(plan)
        columns: dict[str, Value] = {}
        if (node := section.node("features")) is not None:
            features = Section(node, "features", section.problems)
            for name in features:
                if name in self._cards:
                    wrong = f"{name} is a card number, of which only a hash is kept"
                    section.problems.add(wrong, features.key_place(name), "expect what follows from it")
                elif name in known:
                    self._column(columns, name, known[name], features.node(name))
                else:
                    hint = nearest(name, known)
                    section.problems.add(f"there is no feature or field {name!r}", features.key_place(name), hint)
        for key, column in (("score", plan.decision.score), ("risk_tier", plan.decision.tier)):
            if (node := section.node(key)) is None:
                continue
            if column is None:
                what = "model" if key == "score" else "model with tiers"
                section.problems.add(f"{key}: the pipeline has no {what}", section.key_place(key))
            else:
                self._column(columns, column, known[column], node)
        return columns

    def _column(self, columns: dict[str, Value], name: str, kind: DataType, node: Node | None) -> None:
        with self._section.problems.caught():
            if node is not None:
                columns[name] = read_expected(node, name, kind, self._start)

    def _check(self, expected: Expected) -> None:
        section = self._section
        if expected.dead_letter is not None:
            for key in DECIDED:
                if key in section:
                    section.problems.add("a dead letter is not decided", section.key_place(key), f"leave {key} out")
        for rule in set(expected.hits) & set(expected.misses):
            section.problems.add(f"rule {rule} cannot both hit and miss", section.key_place("misses"))
        if not any(key in section for key in (*DECIDED, "dead_letter")):
            section.problems.note(ConfigError(f"{section.what}: nothing", section.place, "{decision: ...}"))
