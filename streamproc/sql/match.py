"""MATCH_RECOGNIZE: the pattern language over a query's rows."""

from __future__ import annotations

__all__ = ["match_rows"]

from collections.abc import Sequence

from msgspec.structs import replace
from sqlglot import exp
from sqlglot.tokenizer_core import Token, TokenType

from operators.operator import STRING, OutputField
from operators.schema import Kind
from state.errors import ConfigError
from streamproc.language.match_recognize import compile_match
from streamproc.language.patterns.clauses import MatchClause, parse_clauses
from streamproc.sql.matches import KEY
from streamproc.sql.names import Rows, Scope, called
from streamproc.sql.pattern_text import PatternText
from streamproc.sql.plan import Column, Match, Project
from streamproc.sql.statements import Statement


def match_rows(statement: Statement, pattern: PatternText, rows: Rows) -> Rows:
    """The matches in the rows; columns' keys are their names.

    Raises:
        ConfigError: with all that is wrong with the pattern.
    """
    scope = Scope(statement, rows)
    keys = [scope.key(one) for one in _columns(statement, pattern.partition)]
    times = [scope.key(one) for one in _columns(statement, pattern.order)]
    if len(times) != 1 or rows.at(times[0]).type.kind is not Kind.TIMESTAMP:
        known = rows.at(rows.time).name if rows.time else "a timestamp"
        place = statement.source.at(pattern.order[0].start) if pattern.order else pattern.keyword
        raise ConfigError(f"MATCH_RECOGNIZE wants ORDER BY the event time: {known}", place)
    clause = _with_times(parse_clauses(pattern.text, pattern.place), rows.at(times[0]).name)
    named = {one.name: one for one in rows.columns if one.name}
    fields = {name: OutputField(name, one.type, one.nullable) for name, one in named.items()}
    compiled = compile_match(clause, {**fields, KEY: OutputField(KEY, STRING, False)}, KEY)
    all_rows = clause.rows == "ALL"
    kept = [one for one in rows.columns if one.name and (all_rows or one.key in keys)]
    if not all_rows:
        kept.sort(key=lambda one: keys.index(one.key))
    measures = [(name, f"@measure.{name}", made.type) for name, made in compiled.spec.measures]
    twice = [name for name, _, _ in measures if name in {one.name for one in kept}]
    if twice:
        place = clause.measures[twice[0]].place
        raise ConfigError(f"a measure is called like the column {twice[0]}", place, "name it otherwise")
    node = Match(
        rows.node,
        times[0],
        tuple(keys),
        tuple((name, one.key) for name, one in named.items()),
        compiled,
        all_rows,
        tuple(measures),
        clause,
        tuple(fields.values()),
        pattern.keyword,
    )
    made = [Column(key, "", name, kind, True) for name, key, kind in measures]
    columns = [*kept, *made]
    time = times[0] if all_rows or times[0] in keys else ""
    return _by_names(Rows(node, tuple(columns), time))


def _with_times(clause: MatchClause, time: str) -> MatchClause:
    """The clause in which MATCH_ROWTIME() is the time of the match's last row."""

    def change(node: exp.Expr) -> exp.Expr:
        if called(node) != "match_rowtime" or node.expressions:
            return node
        column = exp.column(time, quoted=True)
        column.this.meta.update(node.meta)
        return column

    measures = {
        name: expr._replace(ast=exp.Paren(this=expr.ast.copy()).transform(change).this)
        for name, expr in clause.measures.items()
    }
    return replace(clause, measures=measures)


def _by_names(rows: Rows) -> Rows:
    renamed = tuple((one.name, one.key) for one in rows.columns)
    columns = tuple(Column(one.name, "", one.name, one.type, one.nullable) for one in rows.columns)
    times = [one.name for one in columns if one.type.kind is Kind.TIMESTAMP]
    time = rows.at(rows.time).name if rows.time else times[0] if len(times) == 1 else ""
    return Rows(Project(rows.node, renamed), columns, time)


def _columns(statement: Statement, words: Sequence[Token]) -> list[exp.Expr]:
    """The columns that a list of words names."""
    found: list[exp.Expr] = []
    parts: list[Token] = []
    for word in [*words, None]:
        if word is not None and word.token_type is not TokenType.COMMA:
            parts.append(word)
            continue
        if parts:
            found.append(_column(statement, parts))
        parts = []
    return found


def _column(statement: Statement, parts: list[Token]) -> exp.Expr:
    place = statement.source.at(parts[0].start)
    if parts[-1].token_type is TokenType.DESC:
        raise ConfigError("rows come in ascending order of time", place)
    if parts[-1].token_type is TokenType.ASC:
        parts = parts[:-1]
    names = [part for part in parts if part.token_type is not TokenType.DOT]
    if not 0 < len(names) < 3 or len(parts) != 2 * len(names) - 1:
        raise ConfigError("the name of a column is wanted here", place)
    column = exp.column(names[-1].text, table=names[0].text if len(names) > 1 else None, quoted=True)
    column.this.meta["start"] = names[0].start
    return column
