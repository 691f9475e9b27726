"""Carries a plan out over tables: each step takes whole columns and gives whole columns."""

from __future__ import annotations

__all__ = ["Relation", "run"]

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from operators.batch import Batch, Column
from operators.event_values import column_of, physical
from operators.expressions.nodes import Compiled
from operators.expressions.program import Program
from operators.schema import DataType, Kind
from state.errors import ConfigError, Place, RecordError
from streamproc.sql.aggregate import aggregated
from streamproc.sql.codes import Ints, group_codes, joint_codes, ranks
from streamproc.sql.frames import Bounds, bounds_of, framed, places
from streamproc.sql.matches import matched
from streamproc.sql.pairs import (
    NEVER,
    Pairs,
    concatenated,
    equal_pairs,
    in_order,
    latest_pairs,
    pairs_max,
    taken,
    with_unpaired,
)
from streamproc.sql.plan import (
    Append,
    AsOf,
    Compute,
    Filter,
    Frame,
    Group,
    Join,
    Match,
    Node,
    Over,
    Project,
    Scan,
    Slice,
    Sort,
    SortKey,
    Window,
)
from streamproc.sql.tables import Table
from streamproc.sql.windows import assigned

_TIMESTAMP: Final = DataType(Kind.TIMESTAMP)
Expressions = tuple[tuple[str, Compiled], ...]
_SAID: Final = {"overflow": "a number is too large", "cast": "a value cannot be cast"}


class Relation(NamedTuple):
    """Rows, by column."""

    size: int
    columns: Mapping[str, Column]

    def take(self, rows: npt.NDArray[np.intp]) -> Relation:
        """The rows at these places."""
        return Relation(len(rows), {key: column.take(rows) for key, column in self.columns.items()})


def run(node: Node, tables: Mapping[str, Table]) -> Relation:
    """The rows that a plan gives, in order of emission.

    Raises:
        ConfigError: a value is too large, cannot be cast, or is a NULL where a time must be; a JOIN makes too many
            pairs; memory is not enough; with the place of the clause that asks for it.
    """
    try:
        return _STEPS[type(node)](node, tables)
    except MemoryError:
        what, place = "memory is not enough for the rows that this makes", getattr(node, "place", None)
        raise ConfigError(what, place, "fewer rows or columns, in a query before it") from None
    except ConfigError as error:
        place = getattr(node, "place", None)
        if error.place is not None or place is None:
            raise
        raise ConfigError(error.message, place, error.hint) from None


def _scan(node: Scan, tables: Mapping[str, Table]) -> Relation:
    table = tables[node.table]
    return Relation(table.rows, {f"{node.alias}.{name}": column for name, column in table.columns.items()})


def _computed(
    source: Relation, expressions: Expressions, time: str, node: Node, places: Sequence[Place] = ()
) -> dict[str, Column]:
    """The expressions' columns; `node`: what the rows are, for messages."""
    times = source.columns[time].values if time else np.zeros(source.size, np.int64)
    batch = Batch(source.size, (), times, [], dict(source.columns))
    try:
        return Program(expressions, {}).run(batch)
    except RecordError as error:
        raise _failure(source, expressions, error, node, places) from None


def _failure(
    source: Relation, expressions: Expressions, error: RecordError, node: Node, places: Sequence[Place]
) -> ConfigError:
    """What is said of a value that cannot be computed: where it is asked for, in which column, of which row."""
    key = error.detail.removeprefix("in ")
    number = next((n for n, (one, _) in enumerate(expressions) if one == key), 0)
    name = key.removeprefix("@out.")
    said = _SAID.get(error.reason, error.reason) + (f", in {name}" if name and "@" not in name else "")
    said += _of_row(node, _first_failing(source, expressions[number]))
    hint = "TRY_CAST gives NULL instead" if error.reason == "cast" else None
    return ConfigError(said, places[number] if places else None, hint)


def _first_failing(source: Relation, expression: tuple[str, Compiled]) -> int:
    """The first row whose value cannot be computed: by halves, for a program fails as a whole."""
    program = Program((expression,), {})
    low, high = 0, source.size
    while high - low > 1:
        middle = (low + high) // 2
        part = source.take(np.arange(low, middle))
        try:
            program.run(Batch(part.size, (), np.zeros(part.size, np.int64), [], dict(part.columns)))
        except RecordError:
            high = middle
        else:
            low = middle
    return low


def _of_row(node: Node, row: int) -> str:
    """Which row of an input it is, if the rows are those of one."""
    while isinstance(node, Compute):
        node = node.source
    return f", in row {row + 1} of {node.table}" if isinstance(node, Scan) else ""


def _compute(node: Compute, tables: Mapping[str, Table]) -> Relation:
    source = run(node.source, tables)
    if not node.expressions:
        return source
    made = _computed(source, node.expressions, node.time, node.source, node.places)
    return Relation(source.size, {**source.columns, **made})


def _filter(node: Filter, tables: Mapping[str, Table]) -> Relation:
    source = run(node.source, tables)
    found = _computed(source, (("@where", node.condition),), node.time, node.source)["@where"]
    return source.take(np.flatnonzero(found.values if found.valid is None else found.values & found.valid))


def _project(node: Project, tables: Mapping[str, Table]) -> Relation:
    source = run(node.source, tables)
    return Relation(source.size, {key: source.columns[old] for key, old in node.columns})


def times_of(source: Relation, key: str, node: Node) -> npt.NDArray[np.int64]:
    """A column of times, none of which is NULL; `node`: what the rows are, for messages.

    Raises:
        ConfigError: one is.
    """
    column = source.columns[key]
    if column.valid is not None and not column.valid.all():
        name = key.rpartition(".")[2]
        row = _of_row(node, int(np.argmin(column.valid))).removeprefix(", in ") or "a row"
        raise ConfigError(f"{name} is NULL in {row}: what is timed needs a time", hint=f"WHERE {name} IS NOT NULL")
    return column.values


def _window(node: Window, tables: Mapping[str, Table]) -> Relation:
    source = run(node.source, tables)
    times = times_of(source, node.time, node.source)
    codes, _ = group_codes([source.columns[key] for key in node.keys], source.size)
    rows, start, end = assigned(node.shape, times, codes)
    windows = {node.start: Column(_TIMESTAMP, start), node.end: Column(_TIMESTAMP, end)}
    return Relation(len(rows), {**source.take(rows).columns, **windows})


def _group(node: Group, tables: Mapping[str, Table]) -> Relation:
    source = run(node.source, tables)
    codes, first = group_codes([source.columns[key] for key in node.keys], source.size)
    columns = {key: source.columns[key].take(first) for key in node.keys}
    groups = len(first) if node.keys else 1
    for one in node.aggregates:
        argument = source.columns[one.argument] if one.argument else None
        rows, own = argument, codes
        if one.where:
            kept = source.columns[one.where]
            places = np.flatnonzero(kept.values if kept.valid is None else kept.values & kept.valid)
            own = codes[places]
            rows = None if argument is None else argument.take(places)
        columns[one.key] = aggregated(one, rows, own, groups)
    found = Relation(groups, columns)
    return found.take(np.argsort(columns[node.by].values, kind="stable")) if node.by else found


def _over(node: Over, tables: Mapping[str, Table]) -> Relation:
    source = run(node.source, tables)
    if node.time:
        source = source.take(np.argsort(times_of(source, node.time, node.source), kind="stable"))
    times = source.columns[node.time].values if node.time else np.zeros(source.size, np.int64)
    columns = dict(source.columns)
    bounds: dict[Frame, Bounds] = {}
    for one in node.functions:
        if one.frame not in bounds:
            codes, _ = group_codes([source.columns[key] for key in one.frame.keys], source.size)
            bounds[one.frame] = bounds_of(one.frame, codes, times)
        if one.order:
            codes, _ = group_codes([source.columns[key] for key in one.frame.keys], source.size)
            order = np.lexsort([*_sorting(source, one.order), codes])
            columns[one.key] = Column(one.type, places(order, codes))
            continue
        argument = source.columns[one.argument] if one.argument else None
        default = source.columns[one.default] if one.default else None
        columns[one.key] = framed(one, argument, default, bounds[one.frame])
    return Relation(source.size, columns)


def _join(node: Join, tables: Mapping[str, Table]) -> Relation:
    left, right = run(node.left, tables), run(node.right, tables)
    kept = None if node.condition is None else _kept(left, right, node)
    most = pairs_max([*left.columns.values(), *right.columns.values()], left.size + right.size)
    pairs = equal_pairs(_keys(left, right, node.keys), kept, most)
    pairs = with_unpaired(pairs, left.size, right.size, node.kind)
    times = _time(left, node.left_time), _time(right, node.right_time)
    return _paired(left, right, in_order(pairs, *times))


def _as_of(node: AsOf, tables: Mapping[str, Table]) -> Relation:
    left, right = run(node.left, tables), run(node.right, tables)
    right_time = right.columns[node.right_time]
    if right_time.valid is not None:
        right = right.take(np.flatnonzero(right_time.valid))
    times = times_of(left, node.time, node.left), times_of(right, node.right_time, node.right)
    pairs = latest_pairs(_keys(left, right, node.keys), *times)
    pairs = pairs.take(_kept(left, right, node)(pairs))
    kind = "left" if node.outer else "inner"
    return _paired(left, right, in_order(with_unpaired(pairs, left.size, right.size, kind), None, None))


def _keys(left: Relation, right: Relation, keys: tuple[tuple[str, str], ...]) -> tuple[Ints, Ints]:
    """Numbers that are equal for equal keys; -1 where one is NULL."""
    both = [concatenated(left.columns[one], right.columns[other]) for one, other in keys]
    codes = joint_codes(both, left.size + right.size)
    for column in both:
        if column.valid is not None:
            codes = np.where(column.valid, codes, -1)
    return codes[: left.size], codes[left.size :]


def _kept(left: Relation, right: Relation, node: Join | AsOf) -> Callable[[Pairs], npt.NDArray[np.bool_]]:
    """Says of pairs for which the condition is TRUE."""
    condition = node.condition

    def kept(pairs: Pairs) -> npt.NDArray[np.bool_]:
        if condition is None:
            return np.ones(len(pairs.left), np.bool_)
        columns = {
            key: left.columns[key].take(pairs.left) if key in left.columns else right.columns[key].take(pairs.right)
            for key in condition.inputs
        }
        found = _computed(Relation(len(pairs.left), columns), (("@on", condition),), "", node)["@on"]
        return found.values if found.valid is None else found.values & found.valid

    return kept


def _time(side: Relation, key: str) -> Ints | None:
    if not key:
        return None
    column = side.columns[key]
    return column.values if column.valid is None else np.where(column.valid, column.values, NEVER)


def _paired(left: Relation, right: Relation, pairs: Pairs) -> Relation:
    columns = {key: taken(column, pairs.left) for key, column in left.columns.items()}
    columns |= {key: taken(column, pairs.right) for key, column in right.columns.items()}
    return Relation(len(pairs.left), columns)


def _match(node: Match, tables: Mapping[str, Table]) -> Relation:
    source = run(node.source, tables)
    source = source.take(np.argsort(times_of(source, node.time, node.source), kind="stable"))
    codes, first = group_codes([source.columns[key] for key in node.keys], source.size)
    columns = {name: source.columns[key] for name, key in node.names}
    found = matched(node.compiled, columns, source.columns[node.time].values, codes, node.all_rows)
    kept = source.columns if node.all_rows else {key: source.columns[key] for key in node.keys}
    rows = found.rows if node.all_rows else first[found.codes]
    made = {key: column.take(rows) for key, column in kept.items()}
    for name, key, kind in node.measures:
        made[key] = column_of(kind, list(map(physical(kind), found.measures[name])))
    return Relation(len(rows), made)


def _sort(node: Sort, tables: Mapping[str, Table]) -> Relation:
    source = run(node.source, tables)
    return source.take(np.lexsort(_sorting(source, node.keys)))


def _sorting(source: Relation, keys: Sequence[SortKey]) -> list[npt.NDArray[Any]]:
    """What the rows are sorted by, for lexsort: the last one first."""
    by: list[npt.NDArray[Any]] = []
    for one in reversed(keys):
        column = source.columns[one.key]
        codes = ranks(column)[0]
        known = np.ones(source.size, np.bool_) if column.valid is None else column.valid
        by += [np.where(known, -codes if one.descending else codes, 0), known if one.nulls_first else ~known]
    return by


def _slice(node: Slice, tables: Mapping[str, Table]) -> Relation:
    source = run(node.source, tables)
    stop = source.size if node.count is None else min(node.skipped + node.count, source.size)
    return source.take(np.arange(min(node.skipped, stop), stop))


def _append(node: Append, tables: Mapping[str, Table]) -> Relation:
    found = run(node.sources[0], tables)
    for one in node.sources[1:]:
        more = run(one, tables)
        columns = {key: concatenated(column, more.columns[key]) for key, column in found.columns.items()}
        found = Relation(found.size + more.size, columns)
    return found


_STEPS: Final[dict[type, Callable[[Any, Mapping[str, Table]], Relation]]] = {
    Scan: _scan,
    Compute: _compute,
    Filter: _filter,
    Project: _project,
    Window: _window,
    Group: _group,
    Over: _over,
    Join: _join,
    AsOf: _as_of,
    Match: _match,
    Sort: _sort,
    Slice: _slice,
    Append: _append,
}
