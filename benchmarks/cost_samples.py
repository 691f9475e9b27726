"""Samples of a pipeline's work: how many of which units each holds, and how long it takes.

Timed alone, in processor time, the best or the middle of several rounds, at batches of 1 and of 2,000 rows.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import expressions
from benchmarks.codec import best_us
from models.onnx import OnnxModel
from operators.batch import Batch, Column, TaskRows
from operators.block import BlockEncoder, BlockRows
from operators.decide import RuleDecider
from operators.decode import RecordDecoder
from operators.deduplicate import Deduplicator, payload_digests
from operators.encode import DecisionEncoder
from operators.expressions import ExpressionOperator
from operators.expressions.kernels import build_kernel
from operators.expressions.nodes import ROW_TIME, Call, ColumnRef, Constant, Node
from operators.handoff import HandoffEncoder
from operators.operator import Operator, OutputField
from operators.plan import DecisionSpec, Handoff, Plan, RuleSpec
from operators.schema import DataType, FieldSpec, Kind, StreamSchema, TopicNames
from operators.score import ScoreOperator
from operators.windows.layout import layouts
from operators.windows.operator import WindowOperator
from operators.windows.spec import Aggregate, PreviousFeature, WindowFeature, WindowSpec
from state.errors import Place
from state.table import KeyedTable
from streamproc.language.costing import BATCH, Cost
from streamproc.language.costing.windows import window_units
from streamproc.language.expression import compile_expression, parse

CONFIGS = Path(__file__).parents[1] / "configs"
TYPES = {kind: DataType(kind, 2 if kind is Kind.DECIMAL else 0) for kind in Kind}
MANY = 8
DAY = 86_400_000
NOW = 1_767_225_600_000
CARDS = 20_000


class Sample(NamedTuple):
    """Units, and microseconds they took: a batch of one row, and a row of a full batch."""

    units: Mapping[str, float]
    alone: float
    full: float


def values_of(kind: Kind, size: int, seed: int = 1) -> np.ndarray[Any, Any]:
    """Values as payments have them."""
    rng = np.random.default_rng(seed)
    match kind:
        case Kind.STRING:
            return np.array([f"value-{i:05d}" for i in rng.integers(0, 5_000, size)], np.object_)
        case Kind.FLOAT64:
            return rng.random(size).round(4) * 90
        case Kind.BOOL:
            return rng.random(size) < 0.5
        case Kind.TIMESTAMP:
            return NOW + rng.integers(0, DAY, size)
        case _:
            return rng.integers(1, 50_000, size)


def columns_of(size: int) -> dict[str, Column]:
    """MANY columns of each type, called after it: string_0 ..."""
    return {f"{kind}_{i}": Column(TYPES[kind], values_of(kind, size, i)) for kind in Kind for i in range(MANY)}


def batch_of(size: int) -> Batch:
    return Batch(size, (TaskRows(0, 0, size),), np.full(size, NOW), ["k"] * size, columns_of(size))


def process_us(step: Operator) -> tuple[float, float]:
    """Microseconds of a batch of one, and of a row of a full one; of a step without state."""
    alone, full = batch_of(1), batch_of(BATCH)
    return (
        best_us(lambda: step.process(alone, None), 1),  # type: ignore[arg-type]
        best_us(lambda: step.process(full, None), BATCH),  # type: ignore[arg-type]
    )


# ---- records in, records out


def schema(fields: Sequence[FieldSpec]) -> StreamSchema:
    own = [FieldSpec(name, TYPES[kind], name) for name, kind in (("id", Kind.STRING), ("key", Kind.STRING))]
    own.append(FieldSpec("at", TYPES[Kind.TIMESTAMP], "at"))
    return StreamSchema("bench", "bench", (*own, *fields), id="id", event_time="at", key="key")


def decode() -> Iterator[Sample]:
    variants: list[tuple[Kind, bool] | None] = [None, *((kind, False) for kind in Kind), (Kind.STRING, True)]
    for variant in variants:
        fields: list[FieldSpec] = []
        units: Counter[str] = Counter({"decode": 1, "decode:string": 2, "decode:timestamp": 1})
        if variant is not None:
            kind, pan = variant
            fields = [FieldSpec(f"f{i}", TYPES[kind], f"f{i}", pan=pan) for i in range(MANY)]
            units[f"decode:{kind}" + ":pan" * pan] += MANY
        decoder = RecordDecoder(schema(fields), b"k" * 32)
        records = list(_records(fields, BATCH))
        timed = {}
        for size in (1, BATCH):
            some, times = records[:size], [NOW] * size
            timed[size] = best_us(lambda d=decoder, r=some, t=times: d.decode(r, t), size)  # type: ignore[misc]
        yield Sample(units, timed[1], timed[BATCH])


def _records(fields: Sequence[FieldSpec], size: int) -> Iterator[bytes]:
    made = {field.name: values_of(field.type.kind, size, i).tolist() for i, field in enumerate(fields)}
    for field in fields:
        if field.type.kind is Kind.DECIMAL:
            made[field.name] = [value / 100 for value in made[field.name]]
    for row in range(size):
        own = {"id": f"t{row:08d}", "key": f"card-{row % 500:06d}", "at": NOW + row}
        yield json.dumps({**own, **{name: values[row] for name, values in made.items()}}).encode()


def encode() -> Iterator[Sample]:
    for kind in (None, *Kind):
        names = [f"{kind}_{i}" for i in range(MANY)] if kind else []
        types = {name: TYPES[kind] for name in names if kind}
        spec = DecisionSpec(("decline", "approve"), "approve", tuple(names))
        encoder, decider = (
            DecisionEncoder(schema(()), spec, {**types, "at": TYPES[Kind.TIMESTAMP]}),
            RuleDecider((), spec),
        )
        timed = {}
        for size in (1, BATCH):
            made, ids = columns_of(size), [f"t{i:08d}" for i in range(size)]
            done = decider.decide(made, size)
            at = np.full(size, NOW)
            timed[size] = best_us(lambda m=made, i=ids, d=done, a=at: encoder.encode(i, i, a, d, m), size)  # type: ignore[misc]  # noqa: B023
        yield Sample(Counter({"encode": 1, **({f"encode:{kind}": MANY} if kind else {})}), timed[1], timed[BATCH])


def handoff() -> Iterator[Sample]:
    for count in (1, MANY):
        names = tuple(f"{kind}_{i}" for kind in Kind for i in range(count))
        encoder = HandoffEncoder(Handoff("next", "string_0", names), digests=True, passes=False)
        timed = {}
        for size in (1, BATCH):
            made, ids, fresh = columns_of(size), [f"t{i:08d}" for i in range(size)], np.arange(size)
            handed = {
                "fields": made,
                "features": {},
                "fresh": fresh,
                "digests": fresh,
                "values": [b"{}"] * size,
                "arrived": fresh,
            }
            timed[size] = best_us(lambda i=ids, h=handed: encoder.encode(i, **h), size)  # type: ignore[misc]  # noqa: B023
        yield Sample({"handoff": 1, **{f"encode:{kind}": float(count) for kind in Kind}}, timed[1], timed[BATCH])


def block() -> Iterator[Sample]:
    for kind in (None, *Kind):
        features = tuple(OutputField(f"{kind}_{i}", TYPES[kind]) for i in range(MANY)) if kind else ()
        spec = DecisionSpec(("decline", "approve"), "approve")
        plan = Plan("b", schema(()), TopicNames("d", "l", "j"), (), features, (), spec, "", "", "b")
        decider = RuleDecider((), spec)
        encoder = BlockEncoder(plan, decider.action_names)
        timed = {}
        for size in (1, BATCH):
            made, ids = columns_of(size), [f"t{i:08d}" for i in range(size)]
            rows = BlockRows(ids, ids, np.arange(size), np.full(size, NOW))
            done = decider.decide(made, size)
            timed[size] = best_us(lambda r=rows, d=done, m=made: encoder.encode(encoder.arrays(r, d, m)), size)  # type: ignore[misc]  # noqa: B023
        yield Sample(Counter({"block": 1, **({f"block:{kind}": MANY} if kind else {})}), timed[1], timed[BATCH])


def decide() -> Iterator[Sample]:
    for count in (0, 5, 20):
        rules = tuple(RuleSpec(f"r{i}", f"r{i}", "decline", f"reason {i}") for i in range(count))
        decider = RuleDecider(rules, DecisionSpec(("decline", "approve"), "approve"))
        timed = {}
        for size in (1, BATCH):
            rng = np.random.default_rng(size)
            made = {rule.condition: Column(TYPES[Kind.BOOL], rng.random(size) < 0.01) for rule in rules}
            timed[size] = best_us(lambda m=made, s=size: decider.decide(m, s), size)  # type: ignore[misc]  # noqa: B023
        yield Sample({"decide": 1, "decide:rule": count}, timed[1], timed[BATCH])


# ---- expressions: each kernel that a sample calls, on the values it gets there

KERNELS = (
    *expressions.TWENTY.values(),
    *expressions.SINGLE.values(),
    "amount between 1 and 2",
    "sqrt(lat)",
    "exp(lat)",
    "power(lat, 2)",
    "abs(amount)",
    "sign(amount)",
    "floor(lat)",
    "round(lat, 1)",
    "log10(lat)",
    "-amount",
    "-spend_count_5m",
    "spend_count_5m + spend_count_30s",
    "spend_count_5m - spend_count_30s",
    "amount * 2",
    "lat * lon",
    "lat + lon",
    "lat - lon",
    "least(lat, lon)",
    "greatest(amount, previous_amount)",
    "previous_amount is null",
    "amount is distinct from previous_amount",
    "country is distinct from channel",
    "cast(amount as double)",
    "cast(spend_count_5m as varchar)",
    "cast(amount as bigint)",
    "upper(country)",
    "length(country)",
    "substr(country, 1, 1)",
    "starts_with(merchant_id, 'm1')",
    "replace(country, 'D', 'X')",
    "trim(country)",
    "country || channel",
    "strpos(country, 'E')",
    "country = channel",
    "merchant_id > 'm1'",
    "coalesce(profile, 'p1')",
    "profile is null",
    "case when card_present then country else channel end",
    "card_present or lat > 1",
    "not card_present",
    "minute(event_time)",
    "date_trunc('day', event_time)",
    "hours_since(previous_time) < 2",
    "event_time > previous_time",
    "spend_count_5m in (1, 2, 3)",
    "spend_count_5m % 3 = 0",
    "lat = lon",
    "spend_count_5m = spend_count_30s",
    "card_present = (lat > 1)",
)


def kernels() -> dict[str, Cost]:
    """One entry for each kernel and type of its first argument, its mean where samples call it with other settings."""
    found: dict[str, list[Cost]] = {}
    scope = {name: OutputField(name, kind, nullable) for name, (kind, nullable) in expressions.TYPES.items()}
    tables = {name: table.schema for name, table in expressions.LOOKUPS.items()}
    for text in KERNELS:
        node = compile_expression(parse(text, Place(text)), scope, tables).node
        timed: list[dict[str, list[float]]] = []
        for size in (1, BATCH):
            by_name: dict[str, list[float]] = {}
            with np.errstate(all="ignore"):
                _time_node(node, expressions.batch_of(size), by_name)
            timed.append(by_name)
        for name in timed[0]:
            for alone, full in zip(timed[0][name], timed[1][name], strict=True):
                found.setdefault(name, []).append(split(alone, full))
    by_kernel: dict[str, list[Cost]] = {}
    for name, costs in found.items():
        by_kernel.setdefault(name.rpartition(":")[0], []).extend(costs)
    everything = [cost for costs in found.values() for cost in costs]
    return {name: middle(costs) for name, costs in {**found, **by_kernel, "kernel": everything}.items()}


def split(alone: float, full: float) -> Cost:
    """Microseconds of a batch of one, and of a row of a full one -> so much a call, so much a row."""
    row = max((full * BATCH - alone) / (BATCH - 1), 0.0)
    return Cost(max(alone - row, 0.0), row)


def middle(costs: Sequence[Cost]) -> Cost:
    return Cost(float(np.median([cost.call for cost in costs])), float(np.median([cost.row for cost in costs])))


def _time_node(node: Node, batch: Batch, found: dict[str, list[float]]) -> Any:
    """The register of a node; each kernel's time goes to `found`, microseconds a row."""
    match node:
        case ColumnRef(name=name) if name == ROW_TIME:
            return batch.event_time, None, None
        case ColumnRef(name=name):
            column = batch.columns[name]
            return column.values, column.valid, None
        case Constant(type=kind, value=value):
            empty = "" if kind.kind is Kind.STRING else 0
            return (
                np.array(empty if value is None else value, kind.dtype),
                np.array(False) if value is None else None,
                None,
            )
        case Call():
            arguments = [_time_node(one, batch, found) for one in node.args]
            if all(isinstance(one, Constant) for one in node.args):
                arguments = [(np.full(batch.size, values), None, None) for values, _, _ in arguments]
            kernel = build_kernel(node, expressions.LOOKUPS)
            if node.kernel != "same":
                name = f"kernel:{node.kernel}:{node.args[0].type.kind}"
                found.setdefault(name, []).append(best_us(lambda: kernel(*arguments), batch.size, 5))
            return kernel(*arguments)
    raise AssertionError(node)


def outputs() -> Iterator[Sample]:
    """An operator whose expressions call nothing: what it takes to run it, and to put a column in place."""
    scope = {f"decimal_{i}": OutputField(f"decimal_{i}", TYPES[Kind.DECIMAL], False) for i in range(MANY)}
    for count in (1, MANY):
        made = [(f"o{i}", compile_expression(parse(f"decimal_{i}", Place("")), scope, {})) for i in range(count)]
        step = ExpressionOperator(made)
        timed = process_us(step)
        yield Sample({"expressions": 1, "expressions:output": count}, *timed)


# ---- windows


def specs() -> Iterator[WindowSpec]:
    """Specs that hold the units in different numbers."""
    overs = [n * 3_600_000 for n in (1, 2, 6, 12, 24, 72, 168, 720)]

    def features(aggregates: str, columns: int, windows: int, where: bool = False) -> Iterator[WindowFeature]:
        for aggregate in map(Aggregate, aggregates.split()):
            kind = Kind.STRING if aggregate in (Aggregate.DISTINCT, Aggregate.FIRST_SEEN) else Kind.DECIMAL
            for column in range(columns):
                for over in overs[:windows]:
                    name = f"{aggregate}_{column}_{over}_{where}"
                    condition = f"bool_{column}" if where else None
                    yield WindowFeature(name, aggregate, over, f"{kind}_{column}", TYPES[kind], False, condition)

    def rows(windows: int) -> Iterator[WindowFeature]:
        return (WindowFeature(f"rows_{over}", Aggregate.COUNT, over) for over in overs[:windows])

    for windows in (1, 4, 8):
        yield WindowSpec("card", "key", tuple(rows(windows)))
        yield WindowSpec("card", "key", tuple(features("sum", 1, windows)))
        yield WindowSpec("card", "key", tuple(features("sum", 4, windows)))
        yield WindowSpec("card", "key", tuple(features("sum mean stddev", 1, windows)))
        yield WindowSpec("card", "key", (*rows(windows), *features("count sum", 2, windows, where=True)))
    for aggregate in ("mean", "stddev", "min", "max", "distinct", "first_seen"):
        yield WindowSpec("card", "key", tuple(features(aggregate, 1, 1)))
        yield WindowSpec("card", "key", tuple(features(aggregate, 1, 4)))
        yield WindowSpec("card", "key", tuple(features(aggregate, 3, 2)))
    for columns, depth in ((1, 1), (4, 1), (4, 3)):
        previous = (PreviousFeature(f"p{i}_{n}", f"float64_{i}", TYPES[Kind.FLOAT64], n + 1, False)
                    for i in range(columns) for n in range(depth))  # fmt: skip
        yield WindowSpec("card", "key", tuple(rows(1)), tuple(previous))


class _Payments:
    """Batches of rows of CARDS keys, each of which has some ten entries within 30 days."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(1)
        self._keys = np.array([f"card-{i:012d}" for i in range(CARDS)], np.object_)
        self._step = 30 * DAY / (10 * CARDS)
        self._clock = float(NOW)
        self._full = columns_of(BATCH)

    def batch(self, size: int) -> Batch:
        keys = self._keys[self._rng.integers(0, CARDS, size)]
        at = (self._clock + np.arange(size) * self._step).astype(np.int64)
        self._clock += size * self._step
        columns = {name: Column(column.type, column.values[:size]) for name, column in self._full.items()}
        columns["key"] = Column(TYPES[Kind.STRING], keys)
        return Batch(size, (TaskRows(0, 0, size),), at, keys.tolist(), columns)


class _Tables:
    def __init__(self, operator: WindowOperator) -> None:
        self._tables = {spec.name: KeyedTable(spec) for spec in operator.tables}

    def table(self, name: str) -> KeyedTable:
        return self._tables[name]

    def publish(self) -> None:
        for table in self._tables.values():
            table.publish()


def windows() -> Iterator[Sample]:
    for spec in specs():
        operator, payments = WindowOperator(spec), _Payments()
        tables = _Tables(operator)
        units: dict[str, float] = {}
        for layout in layouts(spec):
            for found in window_units(layout).values():
                for unit, number in found.items():
                    units[unit] = units.get(unit, 0.0) + number

        def run(size: int, times: int, payments: _Payments = payments, operator: WindowOperator = operator,
                tables: _Tables = tables) -> float:  # fmt: skip
            seconds = []
            for _ in range(times):
                batch = payments.batch(size)
                begun = time.thread_time()
                operator.process(batch, tables)
                tables.publish()
                seconds.append(time.thread_time() - begun)
            return float(np.median(seconds)) / size * 1e6

        run(BATCH, 12 * CARDS // BATCH)
        full = run(BATCH, 30)
        yield Sample(units, run(1, 600), full)


# ---- deduplication


def deduplicate() -> Iterator[Sample]:
    """New ids, a hundred thousand remembered; the record's digest and the decided action are part of it."""
    index, begin = Deduplicator(DAY), 0

    def run(size: int, times: int) -> float:
        nonlocal begin
        seconds, nothing = [], np.zeros(size, np.uint8)
        for _ in range(times):
            ids = [f"t{i:012d}" for i in range(begin, begin + size)]
            payloads, at = [b"x" * 350] * size, np.arange(begin, begin + size)
            begin += size
            begun = time.thread_time()
            flags = index.check((TaskRows(0, 0, size),), ids, payload_digests(payloads), at)
            index.record(flags, nothing)
            index.publish()
            seconds.append(time.thread_time() - begun)
        return float(np.median(seconds)) / size * 1e6

    run(BATCH, 50)
    full = run(BATCH, 50)
    yield Sample({"deduplicate": 1}, run(1, 600), full)


# ---- the model


def score() -> Iterator[Sample]:
    """The shipped models; how much a model is, is its file's size."""
    numbers = (Kind.DECIMAL, Kind.FLOAT64, Kind.INT64, Kind.BOOL)
    names = tuple(f"{kind}_{i}" for i in range(MANY) for kind in numbers)
    for path in (CONFIGS / "card_fraud" / "model.onnx", CONFIGS / "bench_v1" / "model.onnx"):
        if not path.exists():
            print(f"without {path}: the fit stands on fewer models", file=sys.stderr)
            continue
        model = OnnxModel(path)
        step = ScoreOperator("m", model, names[: model.width], {"low": 0, "high": 70})
        timed = process_us(step)
        yield Sample({"score": 1, "score:kb": path.stat().st_size / 1024}, *timed)
    gather = ScoreOperator("m", _NoModel(), names, {})
    timed = process_us(gather)
    yield Sample({"score:feature": len(names)}, *timed)


class _NoModel:
    width = 0

    def score(self, matrix: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.zeros(len(matrix))


GROUPS = {
    "decode": decode,
    "encode": lambda: chain(encode(), handoff()),
    "block": block,
    "decide": decide,
    "expressions": outputs,
    "windows": windows,
    "deduplicate": deduplicate,
    "score": score,
}
"""The samples of units that are fitted together."""
