"""The section `sql:` of a stage: statements whose rows go to topics of their own."""

from __future__ import annotations

__all__ = ["check_statements", "has_statements_alone", "read_statements"]

from collections.abc import Iterable, Sequence

from streamproc.language.model import SqlEntry, Stage
from streamproc.language.problems import Problems
from streamproc.language.reader import Section, check_identifier, text, topic_name
from streamproc.language.yaml_tree import Mapping, Node, Scalar

_EXAMPLE = "sql: {large: SELECT id, amount FROM payments WHERE amount > 1000}"
_TAKEN = ("decisions", "dead_letters", "journal", "features", "alerts", "late")


def read_statements(stage: Section) -> dict[str, SqlEntry]:
    """Statements by the analyst's names."""
    node = stage.node("sql")
    if node is None or (isinstance(node, Scalar) and node.empty):
        return {}
    if not isinstance(node, Mapping):
        stage.problems.add("sql must be a mapping of names", node.place, _EXAMPLE)
        return {}
    found: dict[str, SqlEntry] = {}
    for name, entry in node.entries.items():
        with stage.problems.caught():
            check_identifier(name, node.keys[name])
            if (made := _statement(name, entry, stage)) is not None:
                found[name] = made
    return found


def _statement(name: str, node: Node, stage: Section) -> SqlEntry | None:
    if isinstance(node, Scalar):
        return _entry(name, node, "")
    section = Section(node, f"sql {name}", stage.problems)
    section.need("statement", text, "", "statement: SELECT ... FROM ...")
    topic = section.get("topic", topic_name, "")
    section.close()
    said = section.node("statement")
    return _entry(name, said, topic) if isinstance(said, Scalar) else None


def _entry(name: str, node: Scalar, topic: str) -> SqlEntry:
    text(node)
    return SqlEntry(name, node.written, node.body, topic, node.place)


def has_statements_alone(stages: Sequence[Stage]) -> bool:
    """Whether statements are all that stages are for."""
    others = any(stage.features or stage.timed or stage.patterns for stage in stages)
    return not others and any(stage.statements for stage in stages)


def check_statements(stages: Iterable[Stage], problems: Problems) -> None:
    """Statements of all stages have topics: their names differ, and are none of the other topics'."""
    known: dict[str, SqlEntry] = {}
    for stage in stages:
        for name, entry in stage.statements.items():
            if name in _TAKEN:
                problems.add(f"sql {name}: another topic is called so", entry.place, "choose another name")
            if name in known:
                problems.add(
                    f"two statements are called {name}", entry.place, f"first in line {known[name].place.line}"
                )
            known.setdefault(name, entry)
