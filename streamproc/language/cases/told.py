"""The `tells:` section of a case: the alerts, and the rows of statements, that its events lead to."""

from __future__ import annotations

__all__ = ["names_told", "read_told"]

from collections.abc import Sequence

from operators.plan import Plan
from streamproc.language.cases.model import Told
from streamproc.language.cases.values import Wanted, read_wanted
from streamproc.language.problems import nearest
from streamproc.language.reader import Section
from streamproc.language.yaml_tree import Items, Mapping, Node


def names_told(plans: Sequence[Plan]) -> list[str]:
    """Alerts of all stages, then statements, in order."""
    alerts = [alert.name for plan in plans for alert in plan.alerts]
    return [*alerts, *(statement.name for plan in plans for statement in plan.statements)]


def read_told(section: Section, plans: Sequence[Plan], start: int) -> tuple[Told, ...]:
    """What is expected to be told, by alert or statement; `start`: ms, what relative times count from."""
    known, found = names_told(plans), []
    for name in section:
        place = section.key_place(name)
        if name not in known:
            hint = nearest(name, known) or "`windows`, `absences`, `timeout` of a pattern and `sql` tell something"
            section.problems.add(f"no alert or statement is called {name!r}", place, hint)
        elif known.count(name) > 1:
            wrong = f"{name!r} is an alert and a statement: what they tell cannot be told apart"
            section.problems.add(wrong, place, "give one of them another name")
        node = section.node(name)
        if not isinstance(node, Items):
            hint = f"{name}: [{{key: card-1}}], or [] for none"
            section.problems.add(f"{name} is a list of what is told, in order", place, hint)
            continue
        found.append(Told(name, place, tuple(_row(item, name, section, start) for item in node.items)))
    return tuple(found)


def _row(item: Node, name: str, section: Section, start: int) -> dict[str, Wanted]:
    """What is expected of the fields of one record."""
    if not isinstance(item, Mapping):
        section.problems.add(f"{name}: fields and their values are expected here", item.place, "{key: card-1}")
        return {}
    fields = Section(item, f"what {name} tells", section.problems)
    found = {}
    for field in fields:
        with section.problems.caught():
            if (node := fields.node(field)) is not None:
                found[field] = read_wanted(node, start)
    return found
