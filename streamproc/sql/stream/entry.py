"""An entry of `sql:` -> what its rows are, and the steps that keep its state."""

from __future__ import annotations

__all__ = ["compile_entry"]

from typing import Final

import numpy as np
from sqlglot import exp
from sqlglot.tokenizer_core import TokenType

from operators.batch import Column
from operators.operator import Operator, OutputField
from operators.statements.spec import Rows, StatementSpec, Union
from state.errors import ConfigError
from streamproc.language.model import SqlEntry
from streamproc.language.statements import CompiledStatement, StatementStage
from streamproc.sql.ddl import CreateTable
from streamproc.sql.plan import AsOf, Group, Join, Match, Over
from streamproc.sql.query import Tables, compile_query
from streamproc.sql.statements import Source, Statement, parse_source
from streamproc.sql.stream.firsts import distinct
from streamproc.sql.stream.flows import Flow, Flows, Refused
from streamproc.sql.stream.joins import join_operator, joined
from streamproc.sql.stream.matches import UNBOUNDED_MS, matched
from streamproc.sql.stream.overs import over_operator, overed
from streamproc.sql.stream.prune import pruned, read_of
from streamproc.sql.stream.windows import grouped
from streamproc.sql.tables import Table

_DAY_MS: Final = 86_400_000
_FORM_OF_MATCHES: Final = "2"
"""Of their tables: what a key looks like, for one."""
_ONE: Final = "an entry of `sql` is one query: SELECT, perhaps behind WITH"


def compile_entry(entry: SqlEntry, stage: StatementStage) -> CompiledStatement:
    """Compile a statement over the streams of a stage.

    Raises:
        ConfigError: it is wrong, or has no form that a stream has; with the place of the part that is.
    """
    statement = _query(entry)
    tables = {name: _table(name, stage) for name in stage.streams}
    rows = compile_query(statement, statement.tree, Tables(tables, {}))
    made = _Made(statement, stage, f"sql.{entry.name}")
    flow = Flows(statement, stage, made).of(rows.node)
    if flow.window is not None:
        raise Refused(statement).at(None, "TABLE(TUMBLE(...)) wants GROUP BY window_start, window_end")
    steps, read = pruned(flow.steps, {one.key for one in rows.columns})
    source = flow.source
    if isinstance(source, Rows | Union):
        source = read_of(source, read)
    made_steps: list[Operator] = [*flow.made]
    if flow.join is not None:
        source, *made_steps = join_operator(flow, read, stage, f"sql.{entry.name}")
    elif flow.over is not None:
        source, *made_steps = over_operator(flow, read, stage, f"sql.{entry.name}")
    topic = entry.topic or f"{stage.pipeline}.{entry.name}"
    shown = tuple((one.name, one.key) for one in rows.columns)
    spec = StatementSpec(entry.name, topic, source, steps, shown, flow.key)
    return CompiledStatement(spec, tuple(made_steps), _meaning(statement), tuple(made.warnings))


class _Made:
    """See `Makers`."""

    def __init__(self, statement: Statement, stage: StatementStage, prefix: str) -> None:
        self.warnings: list[str] = []
        self._stage, self._prefix, self._refused = stage, prefix, Refused(statement)

    def grouped(self, flow: Flow, node: Group) -> Flow:
        """Windows of time that close."""
        return grouped(flow, node, self._stage, self._prefix, self._refused)

    def distinct(self, flow: Flow, node: Group) -> Flow:
        """Rows that come once."""
        return distinct(flow, node, self._stage, self._prefix, self._refused)

    def overed(self, flow: Flow, node: Over) -> Flow:
        """Functions over rows."""
        return overed(flow, node, self._stage, self._prefix, self._refused)

    def joined(self, left: Flow, right: Flow, node: Join | AsOf) -> Flow:
        """Pairs of rows."""
        made = joined((left, right), node, self._stage, self._prefix, self._refused)
        merged = list(self._stage.streams)
        if isinstance(node, AsOf) and merged.index(right.stream) > merged.index(left.stream):
            place = self._refused.find(exp.Join, TokenType.JOIN)
            what = f"of rows with one time {left.stream} comes before {right.stream}, and does not see its version"
            hint = f"name {right.stream} first in `streams`; the stream that is decided comes first of all"
            self.warnings.append(f"{place}: FOR SYSTEM_TIME AS OF: {what} ({hint})")
        return made

    def matched(self, flow: Flow, node: Match) -> Flow:
        """A pattern; one without WITHIN is warned of."""
        if not node.clause.within:
            kept = f"{(self._stage.ttl or UNBOUNDED_MS) / _DAY_MS:g} days without a row of its key"
            what = f"MATCH_RECOGNIZE without WITHIN: what has begun waits until {kept}"
            self.warnings.append(f"{node.place}: {what} (PATTERN (...) WITHIN INTERVAL '10' MINUTE)")
        return matched(flow, node, self._stage, self._prefix, self._refused)


def _query(entry: SqlEntry) -> Statement:
    found = parse_source(Source(entry.text, entry.body))
    if len(found) != 1:
        raise ConfigError(_ONE, entry.place)
    (statement,) = found
    if isinstance(statement, CreateTable):
        raise ConfigError(_ONE, statement.place, "the pipeline's streams are the tables")
    if statement.head.kind != "query":
        raise ConfigError(_ONE, statement.head.place, "`topic:` says where its rows go")
    return statement


def _table(name: str, stage: StatementStage) -> Table:
    """A stream as a table, without rows."""
    columns = {field.name: _column(field) for field in stage.fields[name]}
    return Table(name, 0, columns, stage.streams[name].event_time)


def _column(field: OutputField) -> Column:
    nothing = np.zeros(0, field.type.dtype)
    return Column(field.type, nothing, np.zeros(0, np.bool_) if field.nullable else None)


def _meaning(statement: Statement) -> str:
    """Its words, comments and layout do not count; and the form of state, where that is not the first one."""
    words = [repr(token.text) if token.token_type is TokenType.STRING else token.text for token in statement.tokens]
    return " ".join([*words, *(_FORM_OF_MATCHES for token in words if token.upper() == "MATCH_RECOGNIZE")])
