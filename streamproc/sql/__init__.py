"""SQL statements over tables of rows: a file of statements is parsed, compiled to plans and run; pure, no I/O.

    statements = parse_file(text, "velocity.sql")          # CREATE TABLE and queries, with places
    queries = compile_file(statements, tables)             # everything wrong with them is said here
    for query in queries:
        for piece in query.lines(tables): ...              # rows as JSON, in order of emission

`statements.py` and `ddl.py` read; `query.py`, `group.py`, `tvf.py` compile to `plan.py`, over names that `names.py`
resolves and expressions that the expression language compiles; `run.py` carries a plan out.
"""

from __future__ import annotations

__all__ = ["CreateTable", "Query", "Statement", "Table", "compile_file", "parse_file"]

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, get_args

from streamproc.language.problems import Problems
from streamproc.sql.ddl import CreateTable
from streamproc.sql.names import Rows
from streamproc.sql.plan import Match, Node
from streamproc.sql.query import Tables, compile_query
from streamproc.sql.rows import lines
from streamproc.sql.run import run
from streamproc.sql.statements import Statement, parse_file
from streamproc.sql.tables import Table


class Query(NamedTuple):
    """A compiled query."""

    rows: Rows

    def warnings(self) -> list[str]:
        """What may surprise in it; a line each."""
        what = "MATCH_RECOGNIZE without WITHIN: what has begun may wait to the end of the input"
        hint = "PATTERN (...) WITHIN INTERVAL '10' MINUTE"
        places = {str(node.place) for node in _nodes(self.rows.node) if isinstance(node, Match) and not _within(node)}
        return [f"{place}: {what} ({hint})" for place in sorted(places)]

    def lines(self, tables: Mapping[str, Table]) -> Iterator[bytes]:
        """Its rows as lines of JSON, some thousands at a time."""
        yield from lines(run(self.rows.node, tables), self.rows.columns)


def _nodes(node: Node) -> Iterator[Node]:
    """A plan's steps."""
    yield node
    for name in node.__struct_fields__:
        part = getattr(node, name)
        if isinstance(part, get_args(Node)):
            yield from _nodes(part)


def _within(node: Match) -> int:
    return node.compiled.spec.within


def compile_file(statements: Sequence[CreateTable | Statement], tables: Mapping[str, Table]) -> list[Query]:
    """The queries of a file over these tables.

    Raises:
        PipelineError: with what is wrong in each statement.
    """
    declared = frozenset(one.name for one in statements if isinstance(one, CreateTable))
    processing = frozenset(name for one in statements if isinstance(one, CreateTable) for name in one.processing)
    known = Tables(tables, {}, declared, processing)
    problems = Problems()
    queries = []
    for statement in statements:
        if isinstance(statement, Statement):
            with problems.caught():
                queries.append(Query(compile_query(statement, statement.tree, known)))
    problems.check()
    return queries
