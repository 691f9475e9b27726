"""What a query does, step by step: a tree of plain data that `run.py` carries out. Columns are named by unique keys."""

from __future__ import annotations

__all__ = [
    "Aggregate",
    "Append",
    "AsOf",
    "Column",
    "Compute",
    "Filter",
    "Frame",
    "Group",
    "Join",
    "Match",
    "Node",
    "Over",
    "OverFunction",
    "Project",
    "Role",
    "Scan",
    "Slice",
    "Sort",
    "SortKey",
    "Window",
    "WindowShape",
]

from typing import Literal, TypeAlias

import msgspec

from operators.expressions.nodes import Compiled
from operators.operator import OutputField
from operators.schema import DataType
from state.errors import Place
from streamproc.language.match_recognize import CompiledMatch
from streamproc.language.patterns.clauses import MatchClause

Role: TypeAlias = Literal["", "window_start", "window_end", "window_time"]


class Column(msgspec.Struct, frozen=True):
    """A column that a step's rows have. `key`: unique; `alias`, `name`: how a statement calls it, as `alias.name`.

    `role`: what it is of the window that its row belongs to.
    """

    key: str
    alias: str
    name: str
    type: DataType
    nullable: bool
    role: Role = ""


class Scan(msgspec.Struct, frozen=True):
    """All rows of a table, in the order of its files; a column's key is `alias.name`."""

    table: str
    alias: str


class Compute(msgspec.Struct, frozen=True):
    """The rows, with more columns: (key, expression). `time`: the column that is the rows' event time, "" for none.

    `places`: where each expression stands, if that is known; `place`: where all of them do.
    """

    source: Node
    expressions: tuple[tuple[str, Compiled], ...]
    time: str = ""
    places: tuple[Place, ...] = ()
    place: Place | None = None


class Filter(msgspec.Struct, frozen=True):
    """The rows where the condition is TRUE."""

    source: Node
    condition: Compiled
    time: str = ""
    place: Place | None = None


class Project(msgspec.Struct, frozen=True):
    """The rows with these columns only: (new key, key)."""

    source: Node
    columns: tuple[tuple[str, str], ...]


class WindowShape(msgspec.Struct, frozen=True):
    """Windows of time, ms. `size`: of a session its gap; `step`: a hop's slide, a cumulating window's step."""

    kind: Literal["tumble", "hop", "cumulate", "session"]
    size: int
    step: int
    offset: int = 0


class Window(msgspec.Struct, frozen=True):
    """Each row once for each window that it belongs to, with the window's start and end (`start`, `end`: their keys).

    A session's rows are those that have equal `keys`.
    """

    source: Node
    time: str
    shape: WindowShape
    start: str
    end: str
    keys: tuple[str, ...] = ()
    place: Place | None = None


class Aggregate(msgspec.Struct, frozen=True):
    """`function` over the rows of a group where `argument` is not NULL ("": all rows) and `where` is TRUE ("": all).

    `distinct`: over the first one of equal values; `separator`: of the texts that LISTAGG joins.
    """

    key: str
    function: str
    argument: str
    type: DataType
    where: str = ""
    distinct: bool = False
    separator: str = ","


class Group(msgspec.Struct, frozen=True):
    """A row for each combination of `keys`, with the aggregates; in order of the column `by`, then as groups began.

    Without keys there is one row, of no rows, too. Without `by` groups are of no window.
    """

    source: Node
    keys: tuple[str, ...]
    aggregates: tuple[Aggregate, ...]
    by: str = ""
    place: Place | None = None


class Frame(msgspec.Struct, frozen=True):
    """The rows that a function over rows sees: those up to its own with equal `keys`.

    `rows`: so many before its own one; `range`: those at most so many ms earlier, and all of its own time. `preceding`
    None: from the first one on.
    """

    keys: tuple[str, ...]
    kind: Literal["rows", "range"]
    preceding: int | None


class SortKey(msgspec.Struct, frozen=True):
    """What rows are sorted by."""

    key: str
    descending: bool
    nulls_first: bool


class OverFunction(msgspec.Struct, frozen=True):
    """`function` of `argument` ("": of the rows) over a frame. LAG: `offset` rows before, else the column `default`.

    ROW_NUMBER: `order`, if it is not that of the rows' time.
    """

    key: str
    function: str
    argument: str
    type: DataType
    frame: Frame
    offset: int = 1
    default: str = ""
    order: tuple[SortKey, ...] = ()


class Over(msgspec.Struct, frozen=True):
    """The rows in order of their time (equal ones as they came; "": all), with the functions' columns."""

    source: Node
    time: str
    functions: tuple[OverFunction, ...]
    place: Place | None = None


class Join(msgspec.Struct, frozen=True):
    """Pairs of rows with equal keys (left's, right's; a NULL is equal to none) for which the condition is TRUE.

    `kind`: whose rows that pair with none come out, too, with NULLs. Pairs come in order of the later one's time;
    without times as the left ones stand.
    """

    left: Node
    right: Node
    keys: tuple[tuple[str, str], ...]
    condition: Compiled | None
    kind: Literal["inner", "left", "right", "full"]
    left_time: str = ""
    right_time: str = ""
    place: Place | None = None


class AsOf(msgspec.Struct, frozen=True):
    """Each left row with the right one of equal keys that is the latest at or before its time, if `condition` holds.

    Of several at one time the last one in the input. `outer`: left rows without one come out, too.
    """

    left: Node
    right: Node
    keys: tuple[tuple[str, str], ...]
    condition: Compiled | None
    time: str
    right_time: str
    outer: bool
    place: Place | None = None


class Match(msgspec.Struct, frozen=True):
    """MATCH_RECOGNIZE: the rows in order of their time, those with equal `keys` as one sequence.

    `names`: (the pattern's name of a column, its key). Of ONE ROW PER MATCH a match's row has the keys, else it has all
    columns of a row that is in it; and the measures (name, key, type). Matches come as the row comes that shows them.
    `clause`: what was compiled, over `fields`.
    """

    source: Node
    time: str
    keys: tuple[str, ...]
    names: tuple[tuple[str, str], ...]
    compiled: CompiledMatch
    all_rows: bool
    measures: tuple[tuple[str, str, DataType], ...]
    clause: MatchClause
    fields: tuple[OutputField, ...]
    place: Place


class Sort(msgspec.Struct, frozen=True):
    """The rows in another order; equal ones as they came."""

    source: Node
    keys: tuple[SortKey, ...]
    place: Place


class Slice(msgspec.Struct, frozen=True):
    """At most `count` rows (None: all) behind the first `skipped`."""

    source: Node
    skipped: int
    count: int | None
    place: Place


class Append(msgspec.Struct, frozen=True):
    """The rows of several queries, whose columns have the same keys and types, one query's after the other's."""

    sources: tuple[Node, ...]
    place: Place


Node: TypeAlias = (
    Scan | Compute | Filter | Project | Window | Group | Over | Join | AsOf | Match | Sort | Slice | Append
)
