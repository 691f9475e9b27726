"""What is said more of a wrong query if it names a column without any value, whose type no file tells."""

from __future__ import annotations

__all__ = ["explained"]

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from sqlglot import exp

from operators.schema import Kind
from state.errors import ConfigError
from streamproc.sql.statements import Statement
from streamproc.sql.tables import Table


@contextmanager
def explained(statement: Statement, tables: Mapping[str, Table]) -> Iterator[None]:
    """Adds a hint to what the block says of strings.

    Raises:
        ConfigError: that of the block.
    """
    try:
        yield
    except ConfigError as error:
        hint = _hint(statement, tables) if Kind.STRING.value in error.message else None
        if hint is None:
            raise
        raise ConfigError(error.message, error.place, hint) from None


def _hint(statement: Statement, tables: Mapping[str, Table]) -> str | None:
    named = {column.name for column in statement.tree.find_all(exp.Column)}
    for table in tables.values():
        for name in sorted(named & table.unknown):
            said = f"{name} has no value in the input of {table.name}, so that it counts as a string"
            return f"{said}: CREATE TABLE {table.name} (...) says its type"
    return None
