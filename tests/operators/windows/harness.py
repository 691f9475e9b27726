"""Rows of dicts through the operator, cut into batches; and the oracle's answer to compare with."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from operators.batch import Batch, Column, TaskRows
from operators.schema import DataType, Kind
from operators.windows.operator import WindowOperator
from operators.windows.spec import Aggregate, PreviousFeature, WindowFeature, WindowSpec
from state.table import KeyedTable
from tests.oracle.windows import Either, decide

DECIMAL, INT, FLOAT = DataType(Kind.DECIMAL, 2), DataType(Kind.INT64), DataType(Kind.FLOAT64)
STRING, BOOL, TIME = DataType(Kind.STRING), DataType(Kind.BOOL), DataType(Kind.TIMESTAMP)
TYPES = {"amount": DECIMAL, "number": INT, "ratio": FLOAT, "shop": STRING, "flag": BOOL, "at": TIME}
BLANK: dict[Kind, Any] = {Kind.STRING: "", Kind.BOOL: False, Kind.FLOAT64: 0.0}
Row = dict[str, Any]


class Context:
    def __init__(self, operator: WindowOperator) -> None:
        self.tables = {spec.name: KeyedTable(spec) for spec in operator.tables}

    def table(self, name: str) -> KeyedTable:
        return self.tables[name]

    def publish(self) -> None:
        for table in self.tables.values():
            table.publish()

    def undo(self) -> None:
        for table in self.tables.values():
            table.undo()


def column(type_: DataType, values: list[Any]) -> Column:
    blank = BLANK.get(type_.kind, 0)
    valid = np.array([v is not None for v in values], np.bool_)
    filled = np.array([blank if v is None else v for v in values], type_.dtype)
    return Column(type_, filled, None if valid.all() else valid)


def batch_of(rows: list[Row]) -> Batch:
    """Rows sorted by task, in row order inside a task."""
    tasks, start = [], 0
    for stop in range(1, len(rows) + 1):
        if stop == len(rows) or rows[stop]["task"] != rows[start]["task"]:
            tasks.append(TaskRows(rows[start]["task"], start, stop))
            start = stop
    columns = {name: column(type_, [r.get(name) for r in rows]) for name, type_ in TYPES.items()}
    columns["key"] = column(STRING, [r["key"] for r in rows])
    time = np.array([r["time"] for r in rows], np.int64)
    return Batch(len(rows), tuple(tasks), time, [r["key"] or "" for r in rows], columns)


def results(operator: WindowOperator, batch: Batch) -> list[Row]:
    out: list[Row] = [{} for _ in range(batch.size)]
    for field in operator.outputs:
        col = batch.columns[field.name]
        assert col.type == field.type
        assert col.values.dtype == field.type.dtype, field.name
        assert col.values.shape == (batch.size,)
        assert field.nullable or col.valid is None
        for i, value in enumerate(col.values.tolist()):
            out[i][field.name] = value if col.valid is None or col.valid[i] else None
    return out


def run(spec: WindowSpec, rows: list[Row], cut: int, undo: bool = False, operator: Any = None) -> list[Row]:
    """Outputs in the order of `rows`; with `undo`, each batch is first run and undone with the next rows added."""
    operator = operator or WindowOperator(spec)
    context = Context(operator)
    out: list[Row] = []
    for start in range(0, len(rows), cut):
        chunk = rows[start : start + cut]
        if undo:
            operator.process(batch_of(by_task(rows[start : start + 2 * cut + 1])), context)
            context.undo()
        order = sorted(range(len(chunk)), key=lambda i: chunk[i]["task"])
        batch = batch_of([chunk[i] for i in order])
        operator.process(batch, context)
        got = results(operator, batch)
        placed: list[Row] = [{} for _ in chunk]
        for i, row in zip(order, got, strict=True):
            placed[i] = row
        out += placed
        context.publish()
    return out


def by_task(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda r: r["task"])


def same(a: Any, b: Any) -> bool:
    if isinstance(b, Either):
        return a is None or same(a, b.value)
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-12, abs_tol=0.0) or a == b
    return bool(a == b) and (a is None) == (b is None)


def compare(spec: WindowSpec, rows: list[Row], cuts: Iterable[int], undo: bool = False) -> list[Row]:
    """Assert that every cut gives what the oracle says; returns it."""
    want = decide(spec, rows)
    for cut in cuts:
        got = run(spec, rows, cut, undo)
        for i, (g, w) in enumerate(zip(got, want, strict=True)):
            wrong = [(n, g[n], w[n]) for n in w if not same(g[n], w[n])]
            assert not wrong, f"cut {cut}, row {i} {rows[i]}: (name, got, want) {wrong}"
    return want


def feature(aggregate: str, of: str | None, over: int, **more: Any) -> WindowFeature:
    name = "_".join(str(x) for x in (aggregate, of, over, *more.values()))
    return WindowFeature(name, Aggregate(aggregate), over, of, TYPES[of] if of else None, **more)


def previous(of: str, n: int = 1, nullable: bool = True, where: str | None = None) -> PreviousFeature:
    name = f"previous_{of}_{n}" + (f"_{where}" if where else "")
    return PreviousFeature(name, of, TYPES[of], n, nullable, where)


def spec_of(*features: WindowFeature, previous: tuple[PreviousFeature, ...] = (), **more: Any) -> WindowSpec:
    return WindowSpec("w", "key", features, previous, **more)


def random_rows(
    seed: int,
    size: int,
    keys: int = 3,
    late: float = 0.0,
    null: float = 0.1,
    step: int = 10,
    tasks: int = 1,
    back: int = 60,
) -> list[Row]:
    rng = np.random.default_rng(seed)
    time, rows = 1_000_000, []
    for _ in range(size):
        time += int(rng.choice([0, 0, 1, step // 2, step, step, 10 * step]))
        at = time - int(rng.integers(1, back)) if rng.random() < late else time
        row: Row = {"task": int(rng.integers(tasks)), "key": f"k{int(rng.integers(keys) ** 2 // keys)}", "time": at}
        row |= {
            "amount": int(rng.integers(-500, 100_000)),
            "number": int(rng.integers(-9, 10)),
            "ratio": float(rng.choice([-1.5, -0.0, 0.0, 2.25, 1e300, float(rng.normal())])),
            "shop": f"s{int(rng.integers(6))}",
            "flag": bool(rng.random() < 0.6),
            "at": at,
        }
        for name in TYPES:
            if rng.random() < null:
                row[name] = None
        rows.append(row)
    return rows
