"""Windows with next to no memory: every key leaves it as soon as it may, and all outputs stay the same."""

from __future__ import annotations

import random

import pytest

from operators.windows import hashes
from operators.windows.operator import WindowOperator
from operators.windows.spec import WindowSpec
from state.memory import MemoryDisk, MemoryRowStores
from state.worker_state import WorkerState
from tests.operators.windows.harness import (
    Row,
    batch_of,
    by_task,
    feature,
    previous,
    random_rows,
    results,
    same,
    spec_of,
)
from tests.oracle.windows import decide

AGGREGATES = (
    feature("count", None, 100),
    feature("sum", "amount", 200),
    feature("mean", "amount", 300, delay_ms=50),
    feature("stddev", "number", 300),
    feature("min", "ratio", 400),
    feature("max", "amount", 2_000),
    feature("distinct", "shop", 2_000),
    feature("distinct", "number", 300, delay_ms=30),
    feature("first_seen", "shop", 2_000),
)
COARSE = (feature("sum", "amount", 600, precision_ms=100), feature("distinct", "shop", 600, precision_ms=100))
SPECS = {
    "exact": spec_of(*AGGREGATES, previous=(previous("amount"), previous("number", 2))),
    "coarse": spec_of(*COARSE, feature("max", "amount", 600, precision_ms=100)),
    "long": spec_of(
        feature("distinct", "number", 20_000), feature("max", "ratio", 20_000), feature("sum", "amount", 90)
    ),
}


TTL = spec_of(
    feature("count", None, 100), feature("distinct", "shop", 100), feature("sum", "amount", 100, precision_ms=50),
    previous=(previous("amount", 2),), ttl_ms=400, late_ms=20,
)  # fmt: skip


class Worker:
    """One operator on stores in memory; `tiny`: it flushes and evicts now and then, and its loops are compiled."""

    def __init__(self, spec: WindowSpec, tasks: int, *, tiny: bool) -> None:
        self.operator = WindowOperator(spec)
        if tiny:
            self.operator.prepare()
        self.state = WorkerState(self.operator.tables, memory_bytes=int(tiny))
        stores = MemoryRowStores(MemoryDisk(random.Random(0)))
        self.stores = {task: stores.open(task) for task in range(tasks)}
        for task, store in self.stores.items():
            self.state.add_task(task, store)

    def process(self, rows: list[Row]) -> list[Row]:
        batch = batch_of(rows)
        self.operator.process(batch, self.state)
        return results(self.operator, batch)

    def flush(self) -> None:
        for task, store in self.stores.items():
            cut = self.state.cut(task, b"meta")
            cut.write(store)
            cut.written()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", SPECS)
def test_outputs_and_state_do_not_depend_on_the_budget(kind: str, seed: int) -> None:
    rng = random.Random(seed)
    late = (0.0, 0.2)[seed % 2]
    rows = random_rows(seed, 900, keys=3 if kind == "long" else 12, late=late, tasks=2)
    plain, tiny = Worker(SPECS[kind], 2, tiny=False), Worker(SPECS[kind], 2, tiny=True)
    at = 0
    while at < len(rows):
        size = rng.choice((1, 3, 20))
        part = by_task(rows[at : at + size])
        at += size
        if rng.random() < 0.2:
            tiny.process(by_task(rows[at : at + 9]) or part)
            tiny.state.undo()
        assert tiny.process(part) == plain.process(part)
        plain.state.publish()
        tiny.state.publish()
        if rng.random() < 0.5:
            tiny.flush()
        tiny.state.evict()
    assert tiny.state.evicted > 20


@pytest.mark.parametrize("cut", [1, 7, 60, 900])
@pytest.mark.parametrize("seed", range(3))
def test_ttl_with_and_without_sweeps_equals_the_oracle(seed: int, cut: int) -> None:
    rows = random_rows(seed, 300, keys=12, late=0.2, tasks=2, back=900)
    want = decide(TTL, rows)
    plain, swept = Worker(TTL, 2, tiny=False), Worker(TTL, 2, tiny=True)
    kept = 0
    for at in range(0, len(rows), cut):
        part = rows[at : at + cut]
        order = sorted(range(len(part)), key=lambda i: part[i]["task"])
        ordered = [part[i] for i in order]
        found = plain.process(ordered)
        assert swept.process(ordered) == found
        for i, row in zip(order, found, strict=True):
            assert all(same(row[name], value) for name, value in want[at + i].items())
        plain.state.publish()
        swept.state.publish()
        swept.flush()
        swept.state.evict()
        kept += sum(1 for store in swept.stores.values() for _ in store.scan(b"r"))
    assert cut > 7 or kept < 0.95 * 300 // cut * plain.state.live_keys


def test_what_is_kept_beside_long_rings_goes_with_their_keys() -> None:
    """By and by, as other keys are kept something of."""
    worker = Worker(spec_of(feature("distinct", "number", 400)), 1, tiny=True)
    table = worker.state.table("w")
    for turn, keys in enumerate((300, 200, 200, 40)):
        names = [f"{turn}-{key}" for key in range(keys)]
        worker.process([{"task": 0, "key": name, "time": turn, "number": i} for name in names for i in range(200)])
        for _ in range(3):
            worker.state.publish()
            worker.flush()
            worker.state.evict()
        assert not table.live_keys
    assert len(hashes._INDICES[table].kept) <= 240
