"""Runs the same expressions here and in DuckDB over the same rows."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cache, partial
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from operators.batch import Batch, Column
from operators.expressions import Compiled, ExpressionOperator
from operators.operator import OutputField
from operators.schema import DataType, Kind
from operators.tables import LookupTable
from state.errors import Place
from streamproc.language.expression import compile_expression, parse
from streamproc.language.expression.reference import PRELUDE, duckdb_sql

INT = DataType(Kind.INT64)
FLOAT = DataType(Kind.FLOAT64)
MONEY = DataType(Kind.DECIMAL, 2)
STRING = DataType(Kind.STRING)
BOOL = DataType(Kind.BOOL)
TIME = DataType(Kind.TIMESTAMP)
EPOCH = dt.datetime(1970, 1, 1)

# Two nullable columns of each type, and one that never is: `i`, `j` and `ki`, ...
LETTERS = {"i": INT, "f": FLOAT, "m": MONEY, "s": STRING, "b": BOOL, "t": TIME}
SECOND = {"i": "j", "f": "g", "m": "n", "s": "r", "b": "c", "t": "u"}
COLUMNS = {name: kind for one, kind in LETTERS.items() for name in (one, SECOND[one], f"k{one}")}
SCOPE = {name: OutputField(name, kind, not name.startswith("k")) for name, kind in COLUMNS.items()}
SCOPE["event_time"] = OutputField("event_time", TIME, nullable=False)

INTS = st.one_of(st.integers(-5, 5), st.integers(-(10**6), 10**6))
FLOATS = st.one_of(
    st.sampled_from([0.0, 1.0, -1.0, 0.5, 2.5, -2.5, 100.0]),
    st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: 0.0 if abs(x) < 1e-9 else x),
)
TEXTS = st.text(alphabet="abAB%_.x 1é漢\u00a0", max_size=6)
TIMES = st.one_of(st.integers(-(10**9), 4 * 10**12), st.sampled_from([0, 1_709_164_800_000, 1_735_689_599_999]))
VALUES = {Kind.INT64: INTS, Kind.FLOAT64: FLOATS, Kind.DECIMAL: INTS, Kind.STRING: TEXTS, Kind.BOOL: st.booleans()}
VALUES[Kind.TIMESTAMP] = TIMES

LIST = LookupTable("blocked", "key", {"key": STRING}, [{"key": "a"}, {"key": "AB"}, {"key": ""}])
LIMITS = LookupTable(
    "limits",
    "key",
    {"key": INT, "top": MONEY, "word": STRING},
    [{"key": 1, "top": 100, "word": "x"}, {"key": 2, "top": None, "word": "y"}, {"key": -1, "top": 5, "word": None}],
)
LOOKUPS = {"blocked": LIST, "limits": LIMITS}
TABLES = {name: table.schema for name, table in LOOKUPS.items()}

Row = Mapping[str, Any]


def rows(max_size: int = 12) -> st.SearchStrategy[list[Row]]:
    """Rows of all columns, in physical values; None is NULL."""
    cells = {
        name: VALUES[kind.kind] if name.startswith("k") else st.one_of(st.none(), VALUES[kind.kind])
        for name, kind in COLUMNS.items()
    }
    return st.lists(st.fixed_dictionaries({**cells, "event_time": TIMES}), min_size=1, max_size=max_size)


def column(kind: DataType, values: Sequence[Any], salt: int = 0) -> Column:
    """A column; what lies under a NULL is arbitrary, and differs by row and column."""
    choices: dict[Kind, list[Any]] = {
        Kind.STRING: ["", "a", "AB"],
        Kind.BOOL: [True, False],
        Kind.INT64: [2**63 - 1, 0, -(2**63)],
        Kind.FLOAT64: [float("nan"), 1.0, float("inf")],
    }
    beneath = choices.get(kind.kind, [2**53 - 1, 0, 1])
    array = np.array(
        [beneath[(n + salt) % len(beneath)] if value is None else value for n, value in enumerate(values)],
        dtype=kind.dtype,
    )
    valid = np.array([value is not None for value in values])
    return Column(kind, array, None if valid.all() else valid)


def batch_of(data: Sequence[Row]) -> Batch:
    """A batch of rows."""
    names = {**COLUMNS, "event_time": TIME}
    columns = {name: column(kind, [row[name] for row in data], n) for n, (name, kind) in enumerate(names.items())}
    times = columns["event_time"].values
    return Batch(size=len(data), tasks=(), event_time=times, keys=[""] * len(data), columns=columns)


@cache
def compiled(text: str) -> Compiled:
    """`text` compiled against the test's columns and tables."""
    return compile_expression(parse(text, Place("test.yaml", 1, 1)), SCOPE, TABLES)


def operator_of(texts: Sequence[str]) -> ExpressionOperator:
    """One operator that computes all."""
    return ExpressionOperator([(f"out{n}", compiled(text)) for n, text in enumerate(texts)], LOOKUPS)


def plain(result: Column) -> list[Any]:
    """Physical values; None is NULL."""
    valid = result.valid
    return [None if valid is not None and not valid[n] else value for n, value in enumerate(result.values.tolist())]


def ours(texts: Sequence[str], data: Sequence[Row]) -> list[list[Any]]:
    """Each expression's values over the rows."""
    batch = batch_of(data)
    operator_of(texts).process(batch, None)  # type: ignore[arg-type]
    results = []
    for n, text in enumerate(texts):
        result = batch.columns[f"out{n}"]
        assert result.values.shape == (len(data),), text
        assert result.values.dtype == compiled(text).type.dtype, text
        assert result.type == compiled(text).type, text
        values = plain(result)
        assert compiled(text).nullable or None not in values, f"{text} is NULL but was inferred not to be"
        results.append(values)
    return results


class Reference:
    """DuckDB with the tests' tables."""

    def __init__(self) -> None:
        self._connection = duckdb.connect(":memory:")
        for name in ("sha224", "sha384", "sha512"):  # DuckDB has no such functions
            self._connection.create_function(f"{name}_of", partial(_hashed, name), [str], str)
        self._connection.execute(PRELUDE)
        for name, table in LOOKUPS.items():
            kinds = table.schema.columns
            cells = {one: plain(Column(kind, *table._columns[one][1:]))[:-1] for one, kind in kinds.items()}
            arrow = pa.table({one: _arrow(kind, cells[one]) for one, kind in kinds.items()})
            self._connection.register("incoming", arrow)
            self._connection.execute(f'CREATE TABLE "{name}" AS FROM incoming')

    def values(self, texts: Sequence[str], data: Sequence[Row]) -> list[list[Any]]:
        """Each expression's values over the rows, in our physical form."""
        self._register(data)
        items = ", ".join(duckdb_sql(parse(text, Place("test.yaml", 1, 1))) for text in texts)
        found = self._connection.execute(f"SELECT {items} FROM rows").fetchall()
        kinds = [compiled(text).type for text in texts]
        return [[_physical(kind, row[n]) for row in found] for n, kind in enumerate(kinds)]

    def is_full(self, text: str, data: Sequence[Row]) -> bool:
        """Whether DuckDB has no digit left for it, and so may drop decimals that we keep."""
        self._register(data)
        sql = duckdb_sql(parse(text, Place("test.yaml", 1, 1)))
        found = self._connection.execute(f"SELECT typeof({sql}) FROM rows LIMIT 1").fetchall()
        return str(found[0][0]).startswith("DECIMAL(38,")

    def _register(self, data: Sequence[Row]) -> None:
        names = {**COLUMNS, "event_time": TIME}
        arrow = pa.table({name: _arrow(kind, [row[name] for row in data]) for name, kind in names.items()})
        self._connection.register("rows", arrow)


def _hashed(algorithm: str, text: str) -> str:
    return hashlib.new(algorithm, text.encode()).hexdigest()


def _arrow(kind: DataType, values: Sequence[Any]) -> Any:
    if kind.kind is Kind.DECIMAL:
        whole = [None if value is None else Decimal(value).scaleb(-kind.scale) for value in values]
        return pa.array(whole, pa.decimal128(18, kind.scale))
    types = {
        Kind.INT64: pa.int64(),
        Kind.FLOAT64: pa.float64(),
        Kind.STRING: pa.string(),
        Kind.BOOL: pa.bool_(),
        Kind.TIMESTAMP: pa.timestamp("ms"),
    }
    return pa.array(values, types[kind.kind])


def _physical(kind: DataType, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, dt.datetime):
        return (value - EPOCH) // dt.timedelta(milliseconds=1)
    if isinstance(value, dt.timedelta):
        return value // dt.timedelta(milliseconds=1)
    if kind.kind is Kind.DECIMAL:
        scaled = Decimal(str(value)).scaleb(kind.scale)
        assert scaled == scaled.to_integral_value(), f"{value} is not a {kind}"
        return int(scaled)
    if kind.kind is Kind.FLOAT64:
        return float(value)
    if kind.kind is Kind.INT64:
        assert value == int(value)
        return int(value)
    return value


def same(one: Any, other: Any) -> bool:
    """Equal; floats up to a few units in the last place (libm and numpy differ there)."""
    if one is None or other is None:
        return one is other
    if isinstance(one, float):
        return math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-12)
    return bool(one == other) and type(one) is type(other)
