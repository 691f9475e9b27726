"""Decode, decide, encode, feature block and model: microseconds a row at several batch sizes.

    python -m benchmarks.codec [model.onnx]

The records are those of the job card-fraud v1 (14 fields, 260 bytes). CPU time, best of several rounds, so that the
figures are the code's and not its neighbours'. A model is scored only where a file with 10 features is given.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from models.onnx import OnnxModel
from operators.batch import Batch, Column, TaskRows
from operators.block import BlockEncoder, BlockRows
from operators.decide import Decided, RuleDecider
from operators.decode import RecordDecoder
from operators.encode import DecisionEncoder
from operators.operator import OutputField
from operators.plan import DecisionSpec, Plan, RuleSpec
from operators.schema import DataType, FieldSpec, Kind, StreamSchema, TopicNames
from operators.score import ScoreOperator

SIZES = (1, 8, 64, 512, 2000)
RECORDS = 20_000
LOG_TIME = 1_540_000_300_000
NEEDED = ("transaction_id", "card_id", "amount", "lat", "lon", "event_time", "ts")
TEXT, INT, FLOAT = DataType(Kind.STRING), DataType(Kind.INT64), DataType(Kind.FLOAT64)
MONEY, TIME, BOOL = DataType(Kind.DECIMAL, 2), DataType(Kind.TIMESTAMP), DataType(Kind.BOOL)
FIELDS = {
    "transaction_id": TEXT, "card_id": TEXT, "merchant_id": TEXT, "terminal_id": TEXT, "device_id": TEXT,
    "amount": MONEY, "currency": TEXT, "mcc": INT, "country": TEXT, "lat": FLOAT, "lon": FLOAT, "channel": TEXT,
    "event_time": TIME, "ts": INT,
}  # fmt: skip
FEATURES = {
    "amount": MONEY, "n_5m": INT, "s_5m": MONEY, "n_1h": INT, "s_1h": MONEY, "n_24h": INT, "s_24h": MONEY,
    "n_30s": INT, "speed_kmh": FLOAT, "hour": INT,
}  # fmt: skip
RULES = tuple(RuleSpec(f"rule_{i}", f"rule:{i}", "decline" if i < 3 else "review", f"reason {i}") for i in range(5))
DECISION = DecisionSpec(("decline", "review", "approve"), "approve", tuple(FEATURES), score="fraud.score")

Result = dict[str, float | str]


def schema(names: tuple[str, ...]) -> StreamSchema:
    fields = tuple(FieldSpec(name, FIELDS[name], name) for name in names)
    return StreamSchema("bench", "bench", fields, id="transaction_id", event_time="event_time", key="card_id")


def records(count: int) -> list[bytes]:
    """Payments like those of the job."""
    rng = np.random.default_rng(7)
    amounts = np.exp(3.2 + 0.9 * rng.standard_normal(count)).round(2).tolist()
    cards = rng.integers(0, 20_000, count).tolist()
    return [
        b'{"transaction_id":"t%08d","card_id":"c%07d","merchant_id":"m%05d","terminal_id":"t%05d","device_id":"d%06d",'
        b'"amount":%.2f,"currency":"EUR","mcc":5411,"country":"FR","lat":%.2f,"lon":%.2f,"channel":"pos",'
        b'"event_time":%d,"ts":1540000000123}'
        % (i, card, i % 5000, i % 20_000, card * 7, amount, 36 + card % 24, -9 + card % 34, 1_540_000_000_000 + 10 * i)
        for i, (card, amount) in enumerate(zip(cards, amounts, strict=True))
    ]


def columns(size: int) -> dict[str, Column]:
    """Features and rule conditions of `size` rows."""
    rng = np.random.default_rng(size)
    made: dict[str, Column] = {}
    for name, of_type in FEATURES.items():
        whole = rng.integers(0, 100_000 if of_type is MONEY else 20, size)
        made[name] = Column(of_type, whole * 1.37 if of_type is FLOAT else whole)
    made["fraud.score"] = Column(FLOAT, rng.random(size).astype(np.float32).astype(np.float64) * 100)
    for rule in RULES:
        made[rule.condition] = Column(BOOL, rng.random(size) < 0.02)
    return made


def best_us(work: Callable[[], object], rows: int, rounds: int = 9) -> float:
    """Microseconds of CPU a row in the best round; a round lasts at least 20 ms."""
    repeat, started = 0, time.thread_time()
    while time.thread_time() - started < 0.02:
        work()
        repeat += 1
    fastest = float("inf")
    for _ in range(rounds):
        started = time.thread_time()
        for _ in range(repeat):
            work()
        fastest = min(fastest, time.thread_time() - started)
    return fastest / repeat / rows * 1e6


def row(name: str, timed: dict[int, float]) -> Result:
    return {"step": name, **{str(size): us for size, us in timed.items()}}


def measure_decode() -> list[Result]:
    """7 of 14 fields declared (the others ignored), all declared, and 1 % broken records."""
    values = records(RECORDS)
    spoiled = [b'{"a":1,"z":[{}' if i % 100 == 50 else value for i, value in enumerate(values)]
    results = []
    for label, names, given in (
        ("decode 7 of 14", NEEDED, values),
        ("decode 14", tuple(FIELDS), values),
        ("decode 14, 1 % broken", tuple(FIELDS), spoiled),
    ):
        decoder = RecordDecoder(schema(names))
        timed = {}
        for size in SIZES:
            batches = [given[i : i + size] for i in range(0, min(RECORDS, size * 100), size)]
            times = [LOG_TIME] * size
            work = _over(decoder, batches, times)
            timed[size] = best_us(work, size * len(batches))
        results.append(row(label, timed))
    return results


def _over(decoder: RecordDecoder, batches: list[list[bytes]], times: list[int]) -> Callable[[], object]:
    return lambda: [decoder.decode(batch, times[: len(batch)]) for batch in batches]


def decided(size: int) -> tuple[Decided, dict[str, Column], BlockRows]:
    made = columns(size)
    rows = BlockRows(
        [f"t{i:08d}" for i in range(size)], [f"c{i:07d}" for i in range(size)],
        np.arange(size, dtype=np.int64), np.arange(size, dtype=np.int64) + 1_540_000_000_000,
    )  # fmt: skip
    return RuleDecider(RULES, DECISION).decide(made, size), made, rows


def measure_decide() -> Result:
    decider = RuleDecider(RULES, DECISION)
    timed = {}
    for size in SIZES:
        made = columns(size)
        timed[size] = best_us(lambda made=made, size=size: decider.decide(made, size), size)  # type: ignore[misc]
    return row("decide, 5 rules", timed)


def measure_encode() -> Result:
    types = {**FIELDS, **FEATURES, "fraud.score": FLOAT}
    encoder = DecisionEncoder(schema(NEEDED), DECISION, types)
    timed = {}
    for size in SIZES:
        done, made, rows = decided(size)
        ids, keys = list(rows.ids), list(rows.keys)
        timed[size] = best_us(_encoding(encoder, ids, keys, rows, done, made), size)
    return row("encode, 10 features", timed)


def _encoding(
    encoder: DecisionEncoder, ids: list[str], keys: list[str], rows: BlockRows, done: Decided, made: dict[str, Column]
) -> Callable[[], object]:
    return lambda: encoder.encode(ids, keys, rows.event_time, done, made)


def measure_block() -> Result:
    features = tuple(OutputField(name, of_type) for name, of_type in FEATURES.items())
    plan = Plan("b", schema(NEEDED), TopicNames("d", "l", "j"), (), features, RULES, DECISION, "", "", "b")
    encoder = BlockEncoder(plan, RuleDecider(RULES, DECISION).action_names)
    timed = {}
    for size in SIZES:
        done, made, rows = decided(size)
        timed[size] = best_us(_blocking(encoder, rows, done, made), size)
    return row("block, 10 features", timed)


def _blocking(encoder: BlockEncoder, rows: BlockRows, done: Decided, made: dict[str, Column]) -> Callable[[], object]:
    return lambda: encoder.encode(encoder.arrays(rows, done, made))


def measure_score(path: Path) -> Result:
    operator = ScoreOperator("fraud", OnnxModel.load(path, tuple(FEATURES)), tuple(FEATURES), {"low": 0, "high": 90})
    timed = {}
    for size in SIZES:
        made = columns(size)
        batch = Batch(size, (TaskRows(0, 0, size),), np.zeros(size, np.int64), ["k"] * size, made)
        timed[size] = best_us(lambda batch=batch: operator.process(batch, None), size)  # type: ignore[misc, arg-type]
    return row("score", timed)


def run(model: Path | None = None) -> list[Result]:
    """All of it."""
    results = [*measure_decode(), measure_decide(), measure_encode(), measure_block()]
    return [*results, measure_score(model)] if model else results


def main() -> None:
    print(f"{'us a row at batch':24}" + "".join(f"{size:>9}" for size in SIZES))
    for result in run(Path(sys.argv[1]) if len(sys.argv) > 1 else None):
        print(f"{result['step']:24}" + "".join(f"{result[str(size)]:9.2f}" for size in SIZES))


if __name__ == "__main__":
    main()
