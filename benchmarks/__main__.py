"""The whole suite, or parts of it.

    python -m benchmarks [--quick] [micro] [drain] [latency] [kill] [workers] [rebalance] [replay] [scale] [memory]
                         [card_fraud] [explaining_lag] [overload] [training]

Writes benchmarks/results/<date>.json and .md; a full run of everything also docs/benchmarks.md. It measures and
never asserts on a time: what was to be reached stands beside what was. Without Java or Kafka's jars (`make
kafka-jars`) the parts run on the embedded log alone.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import (
    card_fraud,
    drain,
    explaining_lag,
    kill,
    latency,
    memory,
    micro,
    overload,
    rebalance,
    reference,
    replay,
    report,
    scale,
    training,
    workers,
)
from benchmarks.job import has_model
from benchmarks.machine import facts
from benchmarks.world import World, world
from tests.kafka.broker import missing

PARTS = (
    "drain",
    "latency",
    "kill",
    "workers",
    "rebalance",
    "replay",
    "scale",
    "memory",
    "card_fraud",
    "explaining_lag",
    "overload",
    "training",
    "micro",
)
RESULTS = Path(__file__).parent / "results"
Result = dict[str, Any]


class Size(msgspec.Struct, frozen=True):
    """How much of everything."""

    records: int = 300_000
    repeats: int = 3
    steps: tuple[int, ...] = (10, 1_000)
    rates: tuple[int, ...] = latency.RATES
    warm_up: float = 10.0
    seconds: float = 30.0
    cards: tuple[int, ...] = scale.CARDS
    skew_cards: int = 100_000
    scale_events: int = 200_000


QUICK = Size(60_000, 1, (10,), (1_000, 5_000), 2.0, 4.0, (10_000, 100_000), 10_000, 40_000)


def _latencies(on: World, size: Size) -> list[Result]:
    found: list[Result] = []
    if on.broker is not None:
        found += latency.run(on, "kafka", "R", size.rates, size.warm_up, size.seconds)
        if has_model() and size != QUICK:
            found += latency.run(on, "kafka", "M", (1_000, 5_000), size.warm_up, size.seconds)
    embedded = [rate for rate in size.rates if rate in (1_000, 5_000)]
    return found + latency.run(on, "embedded", "R", embedded, size.warm_up, size.seconds)


def _workers(on: World, size: Size) -> list[Result]:
    if on.broker is None:
        return []
    return workers.run(on, workers.WORKERS, size.records, workers.INTERVALS_MS, workers.RATE, size.seconds)


def parts_of(on: World, size: Size) -> dict[str, Callable[[], list[Result]]]:
    """What measures each part."""
    logs = ("kafka", "embedded") if on.broker is not None else ("embedded",)
    variants = ("R", "M") if has_model() else ("R",)
    return {
        "drain": lambda: drain.run(on, size.records, logs, variants, size.steps, size.repeats),
        "latency": lambda: _latencies(on, size),
        "kill": lambda: kill.run(on, size.records, logs, "R", size.repeats),
        "workers": lambda: _workers(on, size),
        "rebalance": lambda: rebalance.run(on, rebalance.RATE, size.repeats) if on.broker is not None else [],
        "replay": lambda: replay.run(size.records, size.repeats),
        "scale": lambda: scale.run(size.cards, size.skew_cards, size.scale_events),
        "memory": lambda: memory.run(quick=size == QUICK),
        "card_fraud": lambda: card_fraud.run(
            on, logs, size.records, size.repeats, warm_up=size.warm_up, seconds=size.seconds
        ),
        "explaining_lag": lambda: explaining_lag.run(on, logs, explaining_lag.RATES, size.seconds),
        "overload": lambda: overload.run(on, overload.RATE, size.records, size.scale_events // 10),
        "training": lambda: training.run(training.PAYMENTS[: 1 if size == QUICK else None]),
        "micro": lambda: micro.run(on, quick=size == QUICK),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} [default: all]")
    parser.add_argument("--quick", action="store_true", help="small sizes, no repeats: minutes, and rough figures")
    chosen = parser.parse_args()
    if unknown := set(chosen.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    size = QUICK if chosen.quick else Size()
    results: Result = {"machine": facts(), "quick": chosen.quick}
    reference.self_check()
    if problem := missing():
        print(f"without Kafka: {problem}", file=sys.stderr)
    if not has_model():
        print("without variant M: python -m benchmarks.make_bench_model makes its model", file=sys.stderr)
    with world(kafka=not problem) as on:
        if {"drain", "latency", "kill", "workers", "rebalance", "card_fraud", "explaining_lag", "overload"} & set(
            chosen.parts or PARTS
        ):
            latency.warm(on)
        for part, measure in parts_of(on, size).items():
            if part in (chosen.parts or PARTS):
                begun = time.perf_counter()
                print(f"{part} ...", file=sys.stderr)
                try:
                    results[part] = measure()
                except Exception as error:  # the other parts are worth having all the same
                    print(f"{part} FAILED: {error}", file=sys.stderr)
                    results.setdefault("failed", {})[part] = str(error)
                print(f"{part}: {time.perf_counter() - begun:.0f} s", file=sys.stderr)
        if not chosen.parts and not chosen.quick:
            results["modules"] = micro.modules(on)
    stamp = datetime.now(UTC).strftime("%Y-%m-%d-%H%M%S")
    whole = not chosen.parts and not chosen.quick and "failed" not in results
    print(*report.table(report.goals(results)), sep="\n")
    print(*report.write(results, RESULTS, stamp, document=whole), sep="\n", file=sys.stderr)
    if "failed" in results:
        sys.exit(1)


if __name__ == "__main__":
    main()
