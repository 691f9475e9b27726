"""SQL statements over tables of rows: a file of statements is parsed, compiled to plans and run; pure, no I/O.

    statements = parse_file(text, "velocity.sql")          # CREATE TABLE and queries, with places
    queries = compile_file(statements, tables)             # everything wrong with them is said here
    for query in queries:
        for piece in query.lines(tables): ...              # rows as JSON, in order of emission

`statements.py` and `ddl.py` read; `query.py`, `group.py`, `tvf.py`, `order.py` and others compile to `plan.py`, over
names that `names.py` resolves and expressions that the expression language compiles; `run.py` carries a plan out;
`stream/` turns it into steps of a pipeline.
"""

from __future__ import annotations

__all__ = ["CreateTable", "Query", "Statement", "Table", "compile_file", "parse_file"]

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, get_args

from state.errors import ConfigError, Place
from streamproc.language.problems import Problems
from streamproc.sql.ddl import CreateTable
from streamproc.sql.heads import Head
from streamproc.sql.names import Rows
from streamproc.sql.plan import Match, Node
from streamproc.sql.query import Tables, compile_query
from streamproc.sql.rows import lines
from streamproc.sql.run import run
from streamproc.sql.sinks import headed
from streamproc.sql.statements import Statement, parse_file
from streamproc.sql.tables import Table
from streamproc.sql.untyped import explained


class Query(NamedTuple):
    """A compiled query, and where it begins."""

    rows: Rows
    place: Place

    def warnings(self) -> list[str]:
        """What may surprise in it; a line each."""
        what = "MATCH_RECOGNIZE without WITHIN: what has begun may wait to the end of the input"
        hint = "PATTERN (...) WITHIN INTERVAL '10' MINUTE"
        places = {str(node.place) for node in _nodes(self.rows.node) if isinstance(node, Match) and not _within(node)}
        return [f"{place}: {what} ({hint})" for place in sorted(places)]

    def lines(self, tables: Mapping[str, Table]) -> Iterator[bytes]:
        """Its rows as lines of JSON, some thousands at a time.

        Raises:
            ConfigError: a value cannot be computed; with the place of what asks for it.
        """
        try:
            found = run(self.rows.node, tables)
        except ConfigError as error:
            raise ConfigError(error.message, error.place or self.place, error.hint) from None
        yield from lines(found, self.rows.columns)


def _nodes(node: Node) -> Iterator[Node]:
    """A plan's steps."""
    yield node
    for name in node.__struct_fields__:
        part = getattr(node, name)
        for one in part if isinstance(part, tuple) else (part,):
            if isinstance(one, get_args(Node)):
                yield from _nodes(one)


def _within(node: Match) -> int:
    return node.compiled.spec.within


def compile_file(statements: Sequence[CreateTable | Statement], tables: Mapping[str, Table]) -> list[Query]:
    """The queries of a file over these tables; a view is a query's name in those behind it.

    Raises:
        PipelineError: with what is wrong in each statement; behind a wrong view nothing is looked at.
    """
    declared = {one.name: one for one in statements if isinstance(one, CreateTable)}
    processing = frozenset(name for one in declared.values() for name in one.processing)
    known = Tables(tables, {}, frozenset(declared), processing)
    problems = Problems()
    queries = []
    for statement in statements:
        if not isinstance(statement, Statement):
            continue
        with problems.caught(), explained(statement, tables):
            rows = headed(statement, compile_query(statement, statement.tree, known), declared)
            if statement.head.kind != "view":
                queries.append(Query(rows, statement.place(statement.tree)))
                continue
            _refuse_known(statement.head, known)
            known = known._replace(queries={**known.queries, statement.head.name: rows})
            continue
        if statement.head.kind == "view":
            break
    problems.check()
    return queries


def _refuse_known(head: Head, known: Tables) -> None:
    if head.name in known.queries or head.name in known.inputs or head.name in known.declared:
        raise ConfigError(f"there is a table {head.name} already", head.place, "name the view otherwise")
