"""What units of work cost: the table that `streamproc explain` predicts from, and how right it is.

    python -m benchmarks.costs --write                        measure, and write streamproc/language/costing/costs.json
    python -m benchmarks.costs --check PIPELINE [--events N]  the shipped table's prediction beside a measurement

Each unit is timed alone, or fitted (non-negative least squares) from samples that hold different numbers of it
(cost_samples.py): so much a call, so much a row. The check runs the generator's payments through all stages as a
worker does, without a log.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from benchmarks import machine
from benchmarks.chain import Chain, compiled
from benchmarks.cost_parts import beside, gathers
from benchmarks.cost_samples import CARDS, GROUPS, NOW, Sample, kernels, split
from benchmarks.cost_waits import calls, patterns, timed
from streamproc.language import load_pipeline
from streamproc.language.costing import BATCH, Cost, Costs, predict, shipped_costs
from streamproc.language.costing.state import memory_bytes
from streamproc.services.generator import GeneratorOptions, generate, json_records

Floats = npt.NDArray[np.float64]
TABLE = Path(__file__).parents[1] / "streamproc" / "language" / "costing" / "costs.json"


def _explained(counts: Floats, found: Floats) -> Floats:
    weights = np.maximum(found, max(found.max() / 1_000, 1e-9))
    solved: Floats = nnls(counts / weights[:, None], found / weights)[0]
    return solved


def fitted(samples: Sequence[Sample]) -> dict[str, Cost]:
    """The cost of each unit that explains the samples best, errors counted relative to what was measured."""
    names = sorted({name for sample in samples for name in sample.units})
    counts = np.array([[sample.units.get(name, 0.0) for name in names] for sample in samples])
    parts = [split(sample.alone, sample.full) for sample in samples]
    row, call = (_explained(counts, np.array(found)) for found in zip(*((p.row, p.call) for p in parts), strict=True))
    return {name: Cost(float(a), float(b)) for name, a, b in zip(names, call, row, strict=True)}


# ---- what the engine adds: the whole of it, less what was measured alone

PLAIN = """\
pipeline: costs
streams:
  payments:
    {id: id, event_time: at, deduplicate: 1d, fields: {id: string, key: string, at: timestamp, amount: decimal(2)}}
partition_by: key
features: {n: {aggregates: [count], over: FEATURES}}
"""


def engine(costs: dict[str, Cost]) -> Iterator[Sample]:
    """Engines over small plans: what is left when their parts are taken away is bookkeeping, digests, the journal."""
    table = Costs({}, {**costs, "journal": Cost()})
    with TemporaryDirectory() as name:
        for overs in (1, 10, 40):
            path = Path(name) / "p.yaml"
            hours = ", ".join(f"{hour}h" for hour in range(1, overs + 1))
            path.write_text(PLAIN.replace("FEATURES", f"[{hours}]"))
            predicted = predict(load_pipeline(path), compiled(path), costs=table)
            found = measure(path, list(_plain(60_000)))
            units = {"journal": 1.0, "journal:exact": overs + 1.0}
            yield Sample(units, found[1] - predicted.us_alone, found[BATCH] - predicted.us)


def _plain(count: int) -> Iterator[tuple[bytes, bytes]]:
    rng = np.random.default_rng(1)
    for number, card in enumerate(rng.integers(0, CARDS, count).tolist()):
        at = NOW + number * 1_000
        yield b"c%d" % card, b'{"id":"t%08d","key":"c%d","at":%d,"amount":%d.25}' % (number, card, at, card % 500)


def measure(path: Path, records: Sequence[tuple[bytes, bytes]]) -> dict[int, float]:
    """Microseconds an event at batches of one and full ones, on the state of the first half of the records."""
    chain = Chain(compiled(path))
    half, now = len(records) // 2, time.time_ns() // 1_000_000

    def feed(some: Sequence[tuple[bytes, bytes]], size: int) -> float:
        seconds = []
        for at in range(0, len(some) - size + 1, size):
            keys, values = zip(*some[at : at + size], strict=True)
            before = chain.cpu
            chain.feed(list(keys), list(values), now)
            seconds.append(chain.cpu - before)
        return float(np.median(seconds)) / size * 1e6

    feed(records[:half], BATCH)
    rest = min(2_000, half // 4)
    return {BATCH: feed(records[half : len(records) - rest], BATCH), 1: feed(records[len(records) - rest :], 1)}


# ---- the command


def measured() -> dict[str, Cost]:
    """All units."""
    costs: dict[str, Cost] = {}
    for name, group in GROUPS.items():
        print(f"{name} ...", file=sys.stderr)
        samples = list(group())
        costs |= fitted(samples)
        for sample in samples:
            explained = sum((costs[unit].times(n).at(BATCH) for unit, n in sample.units.items()), 0.0)
            print(f"  measured {sample.full:7.3f} fitted {explained:7.3f}", file=sys.stderr)
    costs |= kernels()
    costs |= fitted(list(engine(costs)))
    return costs | waits()


def waits() -> dict[str, Cost]:
    """Of what waits for time, for further rows, and for services."""
    return timed_costs(list(timed())) | fitted(list(patterns())) | fitted(list(calls())) | parts()


def parts() -> dict[str, Cost]:
    """Of stages side by side."""
    return fitted(list(beside())) | fitted(list(gathers()))


def timed_costs(samples: Sequence[Sample]) -> dict[str, Cost]:
    """Rows are looked at one by one: what a batch costs besides is one price. A sample's rows that came alone were too
    few for windows to end: they hold no results.
    """
    names = sorted({name for sample in samples for name in sample.units})
    counts = np.array([[sample.units.get(name, 0.0) for name in names] for sample in samples])
    rows = dict(zip(names, _explained(counts, np.array([s.full for s in samples])).tolist(), strict=True))
    quiet = [sum(rows[name] * n for name, n in s.units.items() if name != "timed:result") for s in samples]
    call = float(np.median([s.alone - us for s, us in zip(samples, quiet, strict=True)]))
    for sample, us in zip(samples, counts @ [rows[name] for name in names], strict=True):
        print(f"  timed: measured {sample.full:7.3f} fitted {us:7.3f}, alone {sample.alone:5.0f}", file=sys.stderr)
    return {name: Cost(max(0.0, call) if name == "timed" else 0.0, row) for name, row in rows.items()}


def write(costs: dict[str, Cost]) -> None:
    """The table that the package ships."""
    facts = machine.facts()
    about = {
        "cpu": facts["cpu"], "cores": str(facts["cores"]), "python": platform.python_version(),
        "date": datetime.now(UTC).date().isoformat(),
    }  # fmt: skip
    units = {name: [round(cost.call, 3), round(cost.row, 5)] for name, cost in sorted(costs.items())}
    lines = ",\n    ".join(f"{json.dumps(name)}: {json.dumps(cost)}" for name, cost in units.items())
    TABLE.write_text(f'{{\n  "machine": {json.dumps(about)},\n  "units": {{\n    {lines}\n  }}\n}}\n')


def check(path: Path, events: int) -> dict[str, Any]:
    """The prediction beside a measurement of the generator's payments, and bytes a key of each table."""
    records, keys = json_records(generate(GeneratorOptions(events=events)))
    plans, pipeline = compiled(path), load_pipeline(path)
    found = measure(path, list(zip(keys, records, strict=True)))
    predicted = predict(pipeline, plans)
    sizes = {}
    chain = Chain(plans)
    for at in range(0, len(records), BATCH):
        chain.feed(keys[at : at + BATCH], records[at : at + BATCH], time.time_ns() // 1_000_000)
    for plan, state in zip(plans, chain.states, strict=True):
        for spec in plan.tables:
            table = state.table(spec.name)
            assert table.ring is not None
            entries = table.ring.heads[: len(table.keys), 3] - table.ring.heads[: len(table.keys), 2]
            expected = np.mean([memory_bytes(spec, count) for count in entries.tolist()])
            live = table.live_keys
            sizes[f"{plan.stage}/{spec.name}"] = {
                "keys": live, "entries": float(entries.mean()), "predicted": float(expected),
                "used_bytes": table.used_bytes / live, "bytes_estimate": table.bytes_estimate() / live,
            }  # fmt: skip
    return {
        "us": {"measured": found[BATCH], "predicted": predicted.us},
        "us_alone": {"measured": found[1], "predicted": predicted.us_alone},
        "bytes_a_key": sizes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.costs", description="What units of work cost.")
    parser.add_argument("--write", action="store_true", help="measure, and write the table that the package ships")
    parser.add_argument("--waits", action="store_true", help="anew for what waits only, for time and for services")
    parser.add_argument("--check", type=Path, metavar="PIPELINE", help="how right its prediction is")
    parser.add_argument("--events", type=int, default=60_000)
    chosen = parser.parse_args()
    if chosen.write:
        write(measured())
    if chosen.waits:
        write(shipped_costs().units | waits())
    if chosen.check:
        print(json.dumps(check(chosen.check, chosen.events), indent=2))


if __name__ == "__main__":
    main()
