"""What expressions cost: one operator with the twenty of the shipped kind, and single operations, by batch size.

python -m benchmarks.expressions
"""

from __future__ import annotations

import json
import timeit
from typing import Any

import numpy as np

from operators.batch import Batch, Column
from operators.expressions import ExpressionOperator
from operators.operator import OutputField
from operators.schema import DataType, Kind
from operators.tables import LookupTable, Match
from state.errors import Place
from streamproc.language.expression import compile_expression, parse

SIZES = (1, 8, 64, 512, 2_000)
MONEY, FLOAT, INT = DataType(Kind.DECIMAL, 2), DataType(Kind.FLOAT64), DataType(Kind.INT64)
STRING, BOOL, TIME = DataType(Kind.STRING), DataType(Kind.BOOL), DataType(Kind.TIMESTAMP)
TYPES = {
    "amount": (MONEY, False),
    "previous_amount": (MONEY, True),
    "spend_mean_30d": (FLOAT, True),
    "spend_stddev_30d": (FLOAT, True),
    "spend_count_5m": (INT, False),
    "spend_count_30s": (INT, False),
    "lat": (FLOAT, True),
    "lon": (FLOAT, True),
    "previous_lat": (FLOAT, True),
    "previous_lon": (FLOAT, True),
    "previous_time": (TIME, True),
    "event_time": (TIME, False),
    "country": (STRING, False),
    "channel": (STRING, False),
    "merchant_id": (STRING, False),
    "profile": (STRING, True),
    "ip": (STRING, False),
    "card_present": (BOOL, False),
    "fraud.score": (FLOAT, False),
}
TWENTY = {
    "speed_kmh": "distance_km(previous_lat, previous_lon, lat, lon) / hours_since(previous_time)",
    "spend_z": "(amount - spend_mean_30d) / spend_stddev_30d",
    "ratio": "amount / nullif(previous_amount, 0)",
    "idle": "coalesce(hours_since(previous_time), 720)",
    "hour": "hour(event_time)",
    "weekday": "day_of_week(event_time)",
    "night": "hour(event_time) < 6 OR hour(event_time) >= 22",
    "round_amount": "amount % 10 = 0",
    "log_amount": "ln(amount + 1)",
    "abroad": "country <> 'DE'",
    "testing": "amount > 100 AND previous_amount < 2.00",
    "trusted": "merchant_id IN TABLE(trusted)",
    "above_limit": "amount > TABLE(thresholds, profile).max_amount",
    "velocity": "spend_count_30s >= 5",
    "burst": "spend_count_5m >= 10 AND amount > 50",
    "high_score": "fraud.score > 95",
    "remote": "channel IN ('online', 'phone') AND NOT card_present",
    "jump": "distance_km(previous_lat, previous_lon, lat, lon) > 500 AND hours_since(previous_time) < 1",
    "band": "CASE WHEN amount < 10 THEN 1 WHEN amount < 100 THEN 2 ELSE 3 END",
    "risky": "fraud.score BETWEEN 60 AND 95 AND country <> 'DE'",
}
SINGLE = {
    "compare": "amount > 100",
    "add": "amount + previous_amount",
    "divide": "amount / spend_mean_30d",
    "int_multiply_checked": "spend_count_5m * spend_count_30s",
    "and": "card_present AND NOT card_present",
    "string_equals": "country = 'DE'",
    "string_in": "country IN ('DE', 'FR', 'IT')",
    "in_table": "merchant_id IN TABLE(trusted)",
    "in_networks": "ip IN TABLE(networks)",
    "in_prefixes": "merchant_id IN TABLE(prefixes)",
    "in_timed": "merchant_id IN TABLE(timed)",
    "lookup": "TABLE(thresholds, profile).max_amount",
    "case": "CASE WHEN amount < 10 THEN 1 ELSE 3 END",
    "coalesce": "coalesce(previous_amount, 0)",
    "hour": "hour(event_time)",
    "month": "month(event_time)",
    "distance_km": "distance_km(previous_lat, previous_lon, lat, lon)",
    "lower": "lower(country)",
    "like": "merchant_id LIKE 'm1%'",
    "regexp_like": "regexp_like(merchant_id, '^m[0-9]+$')",
}
LOOKUPS = {
    "trusted": LookupTable("trusted", "id", {"id": STRING}, [{"id": f"m{n}"} for n in range(500)]),
    "thresholds": LookupTable(
        "thresholds",
        "profile",
        {"profile": STRING, "max_amount": MONEY},
        [{"profile": f"p{n}", "max_amount": n * 1000} for n in range(20)],
    ),
    "networks": LookupTable(
        "networks", "net", {"net": STRING}, [{"net": f"10.{n >> 8}.{n & 255}.0/24"} for n in range(10_000)], Match.CIDR
    ),
    "prefixes": LookupTable(
        "prefixes", "prefix", {"prefix": STRING}, [{"prefix": f"m{n}"} for n in range(10_000)], Match.PREFIX
    ),
    "timed": LookupTable(
        "timed",
        "id",
        {"id": STRING, "expires": TIME},
        [{"id": f"m{n}", "expires": 1_700_000_000_000 + n * 10_000} for n in range(10_000)],
    ),
}


def batch_of(size: int) -> Batch:
    """Rows with a fifth of the nullable values missing."""
    random = np.random.default_rng(7)
    columns = {}
    values: Any
    for name, (kind, nullable) in TYPES.items():
        if name == "ip":
            values = np.array([f"10.{n >> 8}.{n & 255}.7" for n in random.integers(0, 20_000, size)], dtype=object)
        elif kind == STRING:
            values = np.array([f"{name[0]}{n}" for n in random.integers(0, 1000, size)], dtype=object)
        elif kind == FLOAT:
            values = random.uniform(-80, 80, size)
        elif kind == BOOL:
            values = random.random(size) < 0.5
        elif kind == TIME:
            values = random.integers(1_700_000_000_000, 1_700_100_000_000, size)
        else:
            values = random.integers(0, 50_000, size)
        columns[name] = Column(kind, values, random.random(size) < 0.8 if nullable else None)
    times = columns["event_time"].values
    return Batch(size=size, tasks=(), event_time=times, keys=[""] * size, columns=columns)


def operator_of(texts: dict[str, str]) -> ExpressionOperator:
    """One operator for all."""
    scope = {name: OutputField(name, kind, nullable) for name, (kind, nullable) in TYPES.items()}
    tables = {name: table.schema for name, table in LOOKUPS.items()}
    return ExpressionOperator(
        [(name, compile_expression(parse(text, Place(name)), scope, tables)) for name, text in texts.items()], LOOKUPS
    )


def _microseconds(operator: ExpressionOperator, size: int) -> float:
    """Best of five, one call."""
    batch = batch_of(size)
    number = max(5, 2_000 // size)
    call = timeit.Timer(lambda: operator.process(batch, None))  # type: ignore[arg-type]
    return min(call.repeat(5, number)) / number * 1e6


def twenty() -> dict[str, float]:
    """Microseconds a batch of an operator with twenty expressions, by batch size."""
    operator = operator_of(TWENTY)
    return {str(size): round(_microseconds(operator, size), 1) for size in SIZES}


def single() -> dict[str, dict[str, float]]:
    """Microseconds a batch of each operation alone, by batch size."""
    return {
        name: {str(size): round(_microseconds(operator_of({name: text}), size), 2) for size in SIZES}
        for name, text in SINGLE.items()
    }


def main() -> None:
    print(json.dumps({"twenty_expressions_us": twenty(), "single_us": single()}, indent=2))


if __name__ == "__main__":
    main()
