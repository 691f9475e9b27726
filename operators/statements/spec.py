"""What a statement does with the rows of a batch: plain data that the compiler writes.

    rows of the stage --> steps (compute, filter, rename) -----------------------------------------> JSON, its topic
    rows of the stage --> steps --> windows that close by time, or a pattern --> results --> steps --> JSON, its topic

Columns have keys of their own: two statements do not know of each other's.
"""

from __future__ import annotations

__all__ = [
    "Computed",
    "Input",
    "Kept",
    "Matches",
    "Pairs",
    "Renamed",
    "Rows",
    "Seen",
    "Source",
    "StatementSpec",
    "Step",
    "Union",
    "Windows",
    "columns_read",
]

from typing import TypeAlias

import msgspec

from operators.expressions.nodes import Compiled
from operators.schema import DataType
from operators.timed.spec import TimedAggregate


class Computed(msgspec.Struct, frozen=True):
    """More columns: (key, expression). `time`: the column that is the rows' event time, "" for none."""

    expressions: tuple[tuple[str, Compiled], ...]
    time: str = ""


class Kept(msgspec.Struct, frozen=True):
    """Only rows where the condition is TRUE."""

    condition: Compiled
    time: str = ""


class Renamed(msgspec.Struct, frozen=True):
    """These columns only: (new key, key)."""

    columns: tuple[tuple[str, str], ...]


Step: TypeAlias = Computed | Kept | Renamed


class Rows(msgspec.Struct, frozen=True):
    """Rows of a batch: (key, the batch's column). `stream`: whose, "" where only one enters the stage."""

    columns: tuple[tuple[str, str], ...]
    stream: str = ""


class Union(msgspec.Struct, frozen=True):
    """Rows of several branches as they stand in a batch, each through steps that give all of them the same columns."""

    branches: tuple[tuple[Rows, tuple[Step, ...]], ...]


Input: TypeAlias = Rows | Union


class Matches(msgspec.Struct, frozen=True):
    """The rows of a batch where the column `matched` is true."""

    columns: tuple[tuple[str, str], ...]
    matched: str


class Windows(msgspec.Struct, frozen=True):
    """Results of timed operators, `timed`: their names; the first one counts all rows of a window, so it has all.

    `keys`: (key, type) of the values whose JSON text windows are keyed by. `start`, `end`: the keys of the bounds.
    `values`: (key, number of the timed operator, place among its aggregates, the aggregate, type of the result,
    decimals of what is aggregated). `distinct`: numbers of timed operators whose keys have one more value; a window
    has as many of it as there are such results.
    """

    timed: tuple[str, ...]
    keys: tuple[tuple[str, DataType], ...]
    start: str
    end: str
    values: tuple[tuple[str, int, int, TimedAggregate, DataType, int], ...] = ()
    distinct: tuple[int, ...] = ()


class Pairs(msgspec.Struct, frozen=True):
    """What the join `name` says: (key, type) of the columns of both sides.

    `routed`: which of the values that are equal is the records' key, as text; -1: it is the rows' own.
    """

    name: str
    left: tuple[tuple[str, DataType], ...]
    right: tuple[tuple[str, DataType], ...]
    routed: int = -1


class Seen(msgspec.Struct, frozen=True):
    """The rows that the step `name` tells, each when its time has come, or if it is to come: (key, type) of columns."""

    name: str
    columns: tuple[tuple[str, DataType], ...]


Source: TypeAlias = Input | Matches | Windows | Pairs | Seen


class StatementSpec(msgspec.Struct, frozen=True):
    """A statement: where its rows come from, what is done with them, and how they are told.

    `columns`: (name, key) of what a record shows. `key`: the key of the column whose text is the records' key; "": the
    rows' own.
    """

    name: str
    topic: str
    source: Source
    steps: tuple[Step, ...]
    columns: tuple[tuple[str, str], ...]
    key: str = ""


def columns_read(spec: StatementSpec) -> tuple[str, ...]:
    """The columns of a batch that are read when its rows are told."""
    source = spec.source
    if isinstance(source, Union):
        return tuple(dict.fromkeys(name for rows, _ in source.branches for _, name in rows.columns))
    return tuple(column for _, column in source.columns) if isinstance(source, Rows | Matches) else ()
