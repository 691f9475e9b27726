"""What the language compiles look-back features to: plain data, no code.

One `WindowSpec` is all that is remembered of one key (an entity such as a card). The window of row i are the rows
j of the same key with j <= i in row order and `event_time_j` in (t_i - delay - over, t_i - delay]; with no delay
the row itself belongs to it.
"""

from __future__ import annotations

__all__ = ["NEVER_NULL", "Aggregate", "PreviousFeature", "WindowFeature", "WindowSpec", "check", "output_type"]

from enum import StrEnum

import msgspec

from operators.schema import DataType, Kind
from state.errors import ConfigError

HOUR_MS = 3_600_000
PREVIOUS_MAX = 16
_EXACT = (Kind.INT64, Kind.DECIMAL)
_ORDERED = (Kind.INT64, Kind.DECIMAL, Kind.FLOAT64, Kind.TIMESTAMP)


class Aggregate(StrEnum):
    """What is computed over a window; the comment gives type and value of a window without counting rows."""

    COUNT = "count"  # int64, 0
    SUM = "sum"  # type of `of`, NULL
    MEAN = "mean"  # float64 in major units, NULL
    MIN = "min"  # type of `of`, NULL
    MAX = "max"  # type of `of`, NULL
    STDDEV = "stddev"  # float64 in major units, sample standard deviation, NULL below two values
    DISTINCT = "distinct"  # int64, 0
    FIRST_SEEN = "first_seen"  # bool: the row's own non-NULL value is not among the window's earlier rows


NEVER_NULL = (Aggregate.COUNT, Aggregate.DISTINCT, Aggregate.FIRST_SEEN)


class WindowFeature(msgspec.Struct, frozen=True):
    """One output column over one window.

    Args:
        name: the output column.
        aggregate: see `Aggregate`. Rows whose `of` is NULL do not count.
        over_ms: length of the window, > 0.
        of: the column aggregated; None only for COUNT: rows are counted.
        type: type of `of`.
        nullable: whether `of` can be NULL (False saves a counter; a NULL is then a RecordError).
        where: a bool column; rows where it is false or NULL do not count (their own window is reported all the same).
        delay_ms: the window ends so long before the row's time.
        precision_ms: 0, or the bucket: edges are then rounded to multiples of it: the row sees the rows with
            ceil(t/precision) > floor((t_i - delay - over)/precision).
    """

    name: str
    aggregate: Aggregate
    over_ms: int
    of: str | None = None
    type: DataType | None = None
    nullable: bool = True
    where: str | None = None
    delay_ms: int = 0
    precision_ms: int = 0


class PreviousFeature(msgspec.Struct, frozen=True):
    """`of` of the n-th earlier row of the key in row order among those with event time <= the row's own.

    `name` is the output column, of type `type`: NULL where there is no such row or its value was NULL. `where`: a bool
    column; rows where it is false or NULL are passed over (and see earlier rows all the same).
    """

    name: str
    of: str
    type: DataType
    n: int = 1
    nullable: bool = True
    where: str | None = None


class WindowSpec(msgspec.Struct, frozen=True):
    """All look-back features of one key.

    Args:
        name: unique in the plan and stable over releases: names the tables and the output `<name>__incomplete`.
        key: the column whose text keys the state.
        features: the windows; `previous`: earlier values.
        ttl_ms: a key without a row for so long (event time) counts as new; 0: never. Raised to what windows need.
        max_entries: most entries kept per key; beyond it the oldest go and the feature is `incomplete`. Under a
            `precision` rows may share an entry (buckets.py); which do depends on row order alone. Buckets alone must
            not reach it.
        late_ms: history kept beyond the longest window, for late rows; -1: as long as the longest window, at most 1 h.
    """

    name: str
    key: str
    features: tuple[WindowFeature, ...] = ()
    previous: tuple[PreviousFeature, ...] = ()
    ttl_ms: int = 0
    max_entries: int = 1 << 17
    late_ms: int = -1

    @property
    def incomplete(self) -> str:
        """Output column (bool, never NULL): some window of the row lacks rows that were dropped."""
        return f"{self.name}__incomplete"


def output_type(feature: WindowFeature) -> DataType:
    """Type of the column that `feature` adds."""
    match feature.aggregate:
        case Aggregate.COUNT | Aggregate.DISTINCT:
            return DataType(Kind.INT64)
        case Aggregate.MEAN | Aggregate.STDDEV:
            return DataType(Kind.FLOAT64)
        case Aggregate.FIRST_SEEN:
            return DataType(Kind.BOOL)
        case _:
            assert feature.type is not None
            return feature.type


def check(spec: WindowSpec) -> None:
    """Refuse what cannot be computed.

    Raises:
        ConfigError: names the feature and what would work.
    """
    names = [f.name for f in spec.features] + [p.name for p in spec.previous] + [spec.incomplete]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{spec.name}: two features are called {name}")
    if spec.max_entries < 1 or spec.ttl_ms < 0 or spec.late_ms < -1:
        raise ConfigError(f"{spec.name}: max_entries must be positive, ttl and late not negative")
    for feature in spec.features:
        _check_feature(feature)
        _check_buckets(feature, spec.max_entries)
    for previous in spec.previous:
        _check_previous(previous)


def _check_feature(feature: WindowFeature) -> None:
    name, aggregate = feature.name, feature.aggregate
    if feature.over_ms <= 0 or feature.delay_ms < 0 or feature.precision_ms < 0:
        raise ConfigError(f"{name}: a window's length must be positive, delay and precision not negative")
    if feature.of is None or feature.type is None:
        if aggregate is not Aggregate.COUNT:
            raise ConfigError(f"{name}: {aggregate} needs a column (`of`) and its type")
        return
    kind = feature.type.kind
    if aggregate in (Aggregate.SUM, Aggregate.MEAN, Aggregate.STDDEV) and kind not in _EXACT:
        raise ConfigError(f"{name}: {aggregate} of {kind} would not be exact", hint="declare the field as decimal(n)")
    if aggregate in (Aggregate.MIN, Aggregate.MAX) and kind not in _ORDERED:
        raise ConfigError(f"{name}: {aggregate} is not defined for {kind}")


def _check_buckets(feature: WindowFeature, most: int) -> None:
    if not feature.precision_ms:
        return
    buckets = -(-(feature.over_ms + feature.delay_ms) // feature.precision_ms)
    if buckets >= most:  # a window that begins within a step sees one more
        raise ConfigError(
            f"{feature.name}: {buckets:,} steps of its precision are too many for the {most:,} entries kept of a key",
            hint="use a coarser precision, or a shorter window",
        )


def _check_previous(previous: PreviousFeature) -> None:
    if not 1 <= previous.n <= PREVIOUS_MAX:
        raise ConfigError(f"{previous.name}: previous(x, n) takes n from 1 to {PREVIOUS_MAX}")
    if previous.type.kind is Kind.STRING:
        raise ConfigError(
            f"{previous.name}: previous() of a string is not kept", hint="use first_seen or distinct, or a number"
        )
