"""A silent replay leaves the state that `process` leaves, bit by bit, whatever the windows, the rows and the cuts."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from operators.windows import extremes, hashes
from operators.windows import late as late_module
from operators.windows.operator import WindowOperator
from operators.windows.spec import WindowSpec
from state.errors import RecordError
from state.memory import MemoryDisk, MemoryRowStores
from state.worker_state import WorkerState
from tests.operators.windows.harness import Row, batch_of, by_task, feature, previous, random_rows, results, spec_of
from tests.operators.windows.test_windows import OF, ORDERS

TASKS = 2


class Twin:
    """An operator with state of its own."""

    def __init__(self, spec: WindowSpec) -> None:
        self.operator = WindowOperator(spec)
        self.state = WorkerState(self.operator.tables)
        stores = MemoryRowStores(MemoryDisk(random.Random(0)))
        for task in range(TASKS):
            self.state.add_task(task, stores.open(task))

    def process(self, rows: list[Row]) -> list[Row]:
        batch = batch_of(by_task(rows))
        self.operator.process(batch, self.state)
        self.state.publish()
        return results(self.operator, batch)

    def replay(self, rows: list[Row]) -> None:
        batch = batch_of(by_task(rows))
        columns = set(batch.columns)
        self.operator.replay(batch, self.state)
        assert set(batch.columns) == columns
        self.state.publish()

    @property
    def digests(self) -> list[str]:
        return [self.state.digest(task) for task in range(TASKS)]


def same_state(spec: WindowSpec, rows: list[Row], cuts: list[int]) -> None:
    """Assert that both twins have one state after every batch, and one output at the end, however replay is cut."""
    processed, replayed, at_once = Twin(spec), Twin(spec), Twin(spec)
    bounds = [0, *cuts, len(rows) - len(rows) // 8]
    for start, stop in pairwise(bounds):
        processed.process(rows[start:stop])
        replayed.replay(rows[start:stop])
        assert processed.digests == replayed.digests, f"after rows {start} to {stop}"
    at_once.replay(rows[: bounds[-1]])
    rest = rows[bounds[-1] :]
    want = processed.process(rest)
    assert replayed.process(rest) == want
    assert at_once.process(rest) == want


def random_spec(rng: np.random.Generator) -> WindowSpec:
    """Windows of any kind together."""
    features = {}
    for _ in range(int(rng.integers(0, 7))):
        aggregate = str(rng.choice(list(OF)))
        of = OF[aggregate][int(rng.integers(len(OF[aggregate])))]
        more: dict[str, Any] = {}
        if rng.random() < 0.3:
            more["where"] = "flag"
        if rng.random() < 0.3:
            more["delay_ms"] = int(rng.integers(1, 40))
        if rng.random() < 0.3:
            more["precision_ms"] = 25
        made = feature(aggregate, of, int(rng.choice([5, 40, 300])), **more)
        features[made.name] = made
    wanted = {
        (of, n): previous(of, n, where="flag" if rng.random() < 0.4 else None)
        for of, n in zip(rng.choice(["ratio", "at", "flag", "amount"], 3), rng.integers(1, 5, 3).tolist(), strict=True)
    }
    earlier = tuple(wanted.values()) if rng.random() < 0.6 or not features else ()
    more = {}
    if rng.random() < 0.3:  # more than a window has steps of its precision
        more["max_entries"] = int(rng.choice([1, 4, 9])) + 14 * any(f.precision_ms for f in features.values())
    if rng.random() < 0.3:
        more["late_ms"] = int(rng.choice([0, 30]))
    if rng.random() < 0.3:
        more["ttl_ms"] = 400
    return spec_of(*features.values(), previous=earlier, **more)


@pytest.mark.parametrize("seed", range(60))
def test_any_pipeline_any_rows_any_cuts(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(seed)
    if seed % 3 == 0:  # what else takes long histories
        monkeypatch.setattr(hashes, "SHORT", 3)
        monkeypatch.setattr(extremes, "BLOCKS", (4, 16))
        monkeypatch.setattr(late_module, "CHUNK", 5)
    order = ORDERS[list(ORDERS)[int(rng.integers(len(ORDERS)))]]
    rows = random_rows(
        seed, int(rng.integers(30, 160)), **{"tasks": TASKS, "null": float(rng.choice([0, 0.1]))} | order
    )
    leap = 0
    for row in rows:  # some have no key; now and then time leaps beyond every horizon
        leap += int(rng.choice([0, 3000], p=[0.97, 0.03]))
        row |= {"key": None if rng.random() < 0.03 else row["key"], "time": row["time"] + leap}
    cuts = sorted(rng.integers(0, len(rows) - len(rows) // 8, int(rng.integers(0, 6))).tolist())
    same_state(random_spec(rng), rows, cuts)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("aggregate", OF)
def test_each_aggregate(aggregate: str, order: str) -> None:
    variants: list[dict[str, Any]] = [{}, {"where": "flag"}, {"delay_ms": 20}, {"precision_ms": 25}]
    features = [feature(aggregate, of, over, **more) for of in OF[aggregate] for over in (5, 300) for more in variants]
    same_state(spec_of(*features), random_rows(3, 120, **ORDERS[order]), [1, 20, 27, 90])


def test_what_cannot_be_computed_leaves_nothing() -> None:
    spec = spec_of(feature("sum", "number", 100), previous=(previous("at"),))
    rows: list[Row] = [{"task": 0, "key": "k", "time": t, "number": 1 << 61} for t in (10, 20, 30)]
    twin = Twin(spec)
    twin.replay(rows[:2])
    before = twin.digests
    with pytest.raises(RecordError, match="overflow"):
        twin.replay(rows[2:])
    twin.state.undo()
    assert twin.digests == before


def test_no_rows() -> None:
    twin = Twin(spec_of(feature("sum", "amount", 10), previous=(previous("at"),)))
    batch = batch_of([{"task": 0, "key": None, "time": 1}])
    twin.operator.replay(batch, twin.state)
    assert twin.state.live_keys == 0
