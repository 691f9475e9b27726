"""From a `WindowSpec` to tables: which columns an entry has, which fields a row has, what is read for a feature.

Features of one precision share one table. An entry of the ring, in this order:

    clock           event time in ms, or the bucket's number ceil(t / precision)
    prefixes        exclusive running totals: what all earlier entries (by clock) of the key add up to
    extremes        3 columns each: the value and its running minimum in aligned blocks (extremes.py)
    hashes          3 columns each: hash, previous and next position of the same hash (distinct.py)
    carried         1..n columns for each `previous` column, and one column of validity bits (previous.py)

The row of a key: newest event time, newest dropped clock, the position of every window edge for the newest row, the
totals behind the prefixes, one counter a distinct feature, the extremes of the newest bucket.

Everything additive (counts, sums, sums of squares) is a difference of two positions or two prefixes. Each distinct
difference is computed once (`differences`); `plans` says how a feature reads them.
"""

from __future__ import annotations

__all__ = ["Carried", "Difference", "FeaturePlan", "Layout", "Lookup", "Prefix", "Source", "Window", "layouts"]

from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from operators.schema import DataType
from operators.windows.spec import HOUR_MS, Aggregate, PreviousFeature, WindowFeature, WindowSpec, output_type
from state.errors import ConfigError
from state.ring import RingSpec
from state.table import TableSpec

T = TypeVar("T")
I64 = npt.NDArray[np.int64]
POSITIONS = -1
NOT_DELAYED = -1


class Source(NamedTuple):
    """A column with the rows that count: `of` None counts rows; only a nullable column needs its NULLs skipped."""

    of: str | None
    where: str | None
    nullable: bool


class Prefix(NamedTuple):
    """One running total. `part`: count | sum | high | low (limbs of the squares, 2**32 apart)."""

    part: str
    source: Source


class Window(NamedTuple):
    """Edges by index into `offsets`; `hi` NOT_DELAYED: the window ends with the row itself."""

    lo: int
    hi: int


class Difference(NamedTuple):
    """Total of prefix `column` (POSITIONS: of entries) over a window."""

    column: int
    window: Window


class Lookup(NamedTuple):
    """A question to the extremes or distinct kernel: column number and window."""

    column: int
    window: Window


class Carried(NamedTuple):
    """A column whose last `depth` values an entry carries; `filter`: the number of what rows must pass, -1: nothing."""

    of: str
    type: DataType
    depth: int
    nullable: bool
    filter: int


class FeaturePlan(NamedTuple):
    """How one feature, of `type`, is read from the result matrix; rows of it, -1 where not needed."""

    feature: WindowFeature
    type: DataType
    value: int
    counted: int
    high: int
    low: int


class Layout:
    """The table and the result matrix of the features of one precision."""

    NEWEST, DROPPED, EDGES = 0, 1, 2

    def __init__(self, spec: WindowSpec, precision: int, previous: tuple[PreviousFeature, ...]) -> None:
        self.spec = spec
        self.precision = precision
        self.unit = max(1, precision)
        self.features = tuple(f for f in spec.features if f.precision_ms == precision)
        self.previous = previous
        offsets = {f.delay_ms + f.over_ms for f in self.features} | {f.delay_ms for f in self.features if f.delay_ms}
        self.offsets = tuple(sorted(offsets))
        reach = max(self.offsets, default=0)
        late = spec.late_ms if spec.late_ms >= 0 else min(reach or HOUR_MS, HOUR_MS)
        self.reach = -(-reach // self.unit)
        self.horizon = max(1, self.reach + -(-late // self.unit) + (precision > 0))
        ttl = -(-spec.ttl_ms // self.unit)
        self.ttl = max(ttl, self.horizon + self.reach) if ttl else 0
        self.prefixes: list[Prefix] = []
        self.differences: list[Difference] = []
        self.extremes: list[tuple[Source, bool]] = []
        self.extreme_lookups: list[Lookup] = []
        self.hashes: list[Source] = []
        self.distinct: list[Lookup] = []
        self.first_seen: list[Lookup] = []
        drafts = [self._draft(feature) for feature in self.features]
        self._count_rows(drafts)
        self.plans = tuple(self._plan(feature, draft) for feature, draft in zip(self.features, drafts, strict=True))
        self._place()

    def clock(self, time: I64) -> I64:
        """Clock of event times."""
        clock: I64 = -(-time // self.unit) if self.precision else time
        return clock

    def limits(self, time: I64) -> I64:
        """(edges, rows): an edge lies before the first entry whose clock is above its limit."""
        limits: I64 = time - np.array(self.offsets, np.int64)[:, None]
        return limits // self.unit if self.precision else limits

    # ---- features -> what is kept and computed

    def _draft(self, f: WindowFeature) -> dict[str, int]:
        window = self._window(f)
        source = Source(f.of, f.where, f.nullable)
        match f.aggregate:
            case Aggregate.COUNT:
                return {"value": self._count(source, window)}
            case Aggregate.DISTINCT:
                return {"distinct": _index(self.distinct, Lookup(_index(self.hashes, source), window))}
            case Aggregate.FIRST_SEEN:
                return {"first_seen": _index(self.first_seen, Lookup(_index(self.hashes, source), window))}
        sure = not f.nullable and f.where is None and not f.delay_ms
        count = -1 if sure and f.aggregate is not Aggregate.MEAN else self._count(source, window)
        match f.aggregate:
            case Aggregate.SUM | Aggregate.MEAN:
                return {"value": self._total("sum", source, window), "count": count}
            case Aggregate.STDDEV:
                parts = {part: self._total(part, source, window) for part in ("high", "low")}
                return {
                    "value": self._total("sum", source, window),
                    "count": self._count(source, window),
                    **parts,
                }
        column = _index(self.extremes, (source, f.aggregate is Aggregate.MAX))
        return {"extreme": _index(self.extreme_lookups, Lookup(column, window)), "count": count}

    def _window(self, f: WindowFeature) -> Window:
        hi = self.offsets.index(f.delay_ms) if f.delay_ms else NOT_DELAYED
        return Window(self.offsets.index(f.delay_ms + f.over_ms), hi)

    def _count(self, source: Source, window: Window) -> int:
        of = source.of if source.nullable else None
        counted = Source(of, source.where, of is not None)
        if counted == (None, None, False) and not self.precision:
            return _index(self.differences, Difference(POSITIONS, window))
        return self._total("count", counted, window)

    def _total(self, part: str, source: Source, window: Window) -> int:
        return _index(self.differences, Difference(_index(self.prefixes, Prefix(part, source)), window))

    # ---- result matrix

    def _count_rows(self, drafts: list[dict[str, int]]) -> None:
        at = len(self.differences)
        self.extreme_at = at
        self.distinct_at = self.extreme_at + len(self.extreme_lookups)
        self.first_seen_at = self.distinct_at + len(self.distinct)
        self.previous_at = self.first_seen_at + len(self.first_seen)
        self.carried: list[Carried] = []
        self.carried_rows: list[tuple[str, str | None, int]] = []
        self.filters = tuple(dict.fromkeys(p.where for p in self.previous if p.where))
        for of, where in dict.fromkeys((p.of, p.where) for p in self.previous):
            mine = [p for p in self.previous if (p.of, p.where) == (of, where)]
            depth, nullable = max(p.n for p in mine), any(p.nullable for p in mine)
            passing = self.filters.index(where) if where else -1
            self.carried.append(Carried(of, mine[0].type, depth, nullable, passing))
            self.carried_rows += [(of, where, n) for n in range(1, depth + 1)]
        self.flagged = any(c.depth > 1 or c.nullable or c.filter >= 0 for c in self.carried)
        if len(self.carried_rows) > 62:
            raise ConfigError(f"{self.spec.name}: more than 62 earlier values of one key")
        number = {key: i for i, key in enumerate(self.carried_rows)}
        self.previous_rows = tuple(number[p.of, p.where, p.n] for p in self.previous)
        self.valid_at = self.previous_at + len(self.carried_rows)
        self.incomplete_at = self.valid_at + len(self.carried_rows)
        self.result_rows = self.incomplete_at + 1

    def _plan(self, feature: WindowFeature, draft: dict[str, int]) -> FeaturePlan:
        value = draft.get("value", -1)
        for name, at in (
            ("extreme", self.extreme_at),
            ("distinct", self.distinct_at),
            ("first_seen", self.first_seen_at),
        ):
            if name in draft:
                value = draft[name] + at
        return FeaturePlan(
            feature, output_type(feature), value, draft.get("count", -1), draft.get("high", -1), draft.get("low", -1)
        )

    # ---- entry and row

    def _place(self) -> None:
        prefixes, edges = len(self.prefixes), len(self.offsets)
        self.prefix_at = 1
        self.low_limbs = tuple(i for i, prefix in enumerate(self.prefixes) if prefix.part == "low")
        self.extreme_column = 1 + prefixes
        self.hash_column = self.extreme_column + 3 * len(self.extremes)
        self.carried_column = self.hash_column + 3 * len(self.hashes)
        self.flags_column = self.carried_column + len(self.carried_rows)
        self.width = self.flags_column + self.flagged
        self.total_field = self.EDGES + edges
        self.distinct_field = self.total_field + prefixes
        self.bucket_field = self.distinct_field + len(self.distinct)
        self.field_count = self.bucket_field + (len(self.extremes) if self.precision else 0)
        self.hash_columns: I64 = self.hash_column + 3 * np.arange(len(self.hashes))
        asked = [(lookup.column, *lookup.window) for lookup in self.distinct]
        self.distinct_parts: I64 = np.array(asked, np.int64).reshape(-1, 3).T  # hash column, low and high edge of each
        self._stack()

    def _stack(self) -> None:
        """Row numbers in the stack [own position + 1, edges, inclusive prefixes, prefixes read at edges]."""
        edges, prefixes = len(self.offsets), len(self.prefixes)
        self.reads: list[tuple[int, int]] = []  # (edge, prefix)
        self.upper: list[int] = []
        self.lower: list[int] = []
        for column, window in self.differences:
            for edge, out in ((window.hi, self.upper), (window.lo, self.lower)):
                if column == POSITIONS:
                    out.append(1 + edge)
                elif edge == NOT_DELAYED:
                    out.append(1 + edges + column)
                else:
                    out.append(1 + edges + prefixes + _index(self.reads, (edge, column)))

        self.pairs = tuple(zip(self.upper, self.lower, strict=True))
        self.read_edges, columns = np.array(self.reads, np.int64).reshape(-1, 2).T
        self.read_columns: I64 = columns + self.prefix_at

    @property
    def table(self) -> TableSpec:
        """The declared table."""
        suffix = f"@{self.precision}" if self.precision else ""
        columns = ["clock"]
        columns += [_name(p.part, p.source) for p in self.prefixes]
        for source, largest in self.extremes:
            name = _name("max" if largest else "min", source)
            columns += [name, f"{name}/32", f"{name}/1024"]
        for source in self.hashes:
            name = _name("hash", source)
            columns += [name, f"{name}<", f"{name}>"]
        earlier = [f"{of}:{n}" + (f" where {where}" if where else "") for of, where, n in self.carried_rows]
        columns += [f"previous:{text}" for text in earlier] + ["valid"] * self.flagged
        fields = ["newest", "dropped"] + [f"edge:{offset}" for offset in self.offsets]
        fields += [_name(f"total_{p.part}", p.source) for p in self.prefixes]
        fields += [f"distinct:{column}:{window.lo}:{window.hi}" for column, window in self.distinct]
        fields += [f"bucket:{i}" for i in range(self.field_count - len(fields))]
        return TableSpec(
            name=f"{self.spec.name}{suffix}",
            key=self.spec.key,
            fields=tuple(fields),
            ring=RingSpec(tuple(columns)),
            ttl_ms=self.ttl * self.unit,
        )

    def inputs(self) -> list[str]:
        """Columns read besides the key."""
        sources = [p.source for p in self.prefixes] + [s for s, _ in self.extremes] + self.hashes
        names = [name for source in sources for name in (source.of, source.where) if name is not None]
        return [*names, *(carried.of for carried in self.carried), *self.filters]


def layouts(spec: WindowSpec) -> tuple[Layout, ...]:
    """One layout for each precision; `previous` lives with the exact windows."""
    precisions = {f.precision_ms for f in spec.features} | ({0} if spec.previous else set())
    return tuple(Layout(spec, p, spec.previous if p == 0 else ()) for p in sorted(precisions))


def _name(part: str, source: Source) -> str:
    of = (source.of or "") + "?" * source.nullable
    return f"{part}:{of}" + (f" where {source.where}" if source.where else "")


def _index(items: list[T], item: T) -> int:
    if item not in items:
        items.append(item)
    return items.index(item)
