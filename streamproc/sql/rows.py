"""A query's rows as lines of JSON."""

from __future__ import annotations

__all__ = ["lines"]

from collections.abc import Iterator, Sequence
from typing import Final

from operators.statements.lines import RowEncoder
from streamproc.sql.plan import Column as Shown
from streamproc.sql.run import Relation

_ROWS_MAX: Final = 8192


def lines(relation: Relation, shown: Sequence[Shown]) -> Iterator[bytes]:
    """Each row as a line of JSON, some thousands at a time; the columns in the order of `shown`, by their names."""
    encoder = RowEncoder([one.name for one in shown])
    columns = [relation.columns[one.key] for one in shown]
    for start in range(0, relation.size, _ROWS_MAX):
        yield b"".join(text + b"\n" for text in encoder.encode(columns, slice(start, start + _ROWS_MAX)))
