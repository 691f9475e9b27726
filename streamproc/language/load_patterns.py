"""The section `patterns:` of a stage: sequences of a key's rows."""

from __future__ import annotations

__all__ = ["read_patterns"]

from state.errors import ConfigError
from streamproc.language.model import SequencePattern
from streamproc.language.patterns.clauses import MatchClause, parse_clauses
from streamproc.language.reader import Section, check_identifier, formula, identifier, text
from streamproc.language.yaml_tree import Mapping, Node, Scalar


def read_patterns(stage: Section) -> dict[str, SequencePattern]:
    """Patterns by the analyst's names."""
    node = stage.node("patterns")
    if node is None or (isinstance(node, Scalar) and node.empty):
        return {}
    if not isinstance(node, Mapping):
        stage.problems.add("patterns must be a mapping of names", node.place, "patterns: {name: PATTERN (A B) ...}")
        return {}
    found: dict[str, SequencePattern] = {}
    for name, entry in node.entries.items():
        with stage.problems.caught():
            check_identifier(name, node.keys[name])
            if (made := _pattern(name, entry, stage)) is not None:
                found[name] = made
    return found


def _pattern(name: str, node: Node, stage: Section) -> SequencePattern | None:
    place = node.place
    if isinstance(node, Scalar):
        return SequencePattern(_clause(node), place=place)
    section = Section(node, f"pattern {name}", stage.problems)
    clause = section.need("match", _clause, None, "match: PATTERN (A{3,} B) DEFINE A AS ..., B AS ...")
    per, where = section.get("per", identifier, None), section.get("where", formula, None)
    timeout = section.get("timeout", text, None)
    section.close()
    if timeout is not None and clause is not None and not clause.within:
        hint = "WITHIN INTERVAL '10' MINUTE behind PATTERN (...)"
        raise ConfigError(
            "timeout: tells of matches that WITHIN ends: there is none", section.key_place("timeout"), hint
        )
    per_place = getattr(section.node("per"), "place", place)
    return None if clause is None else SequencePattern(clause, per, where, place, timeout, per_place)


def _clause(node: Node) -> MatchClause:
    text(node)
    assert isinstance(node, Scalar)
    clause = parse_clauses(node.written, node.body)
    if clause.rows == "ALL":
        hint = "a decision is about one row: measures say what there is to say of the others"
        raise ConfigError("ALL ROWS PER MATCH is for SQL statements", clause.rows_place, hint)
    return clause
