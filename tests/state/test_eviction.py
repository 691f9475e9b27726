"""Keys that leave memory and come back, against plain dicts: batches, flushes, failures, restarts in any order."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state.arena import Blocks
from state.known import known_rows
from state.memory import MemoryDisk, MemoryRowStores
from state.table import KeyedTable, Slots, TableSpec
from state.worker_state import FlushCut, WorkerState
from tests.oracle.state import Table
from tests.state.driver import PLAIN, TASK, Driver, Row, Span
from tests.state.stores import make_stores

OPERATIONS = ("batch", "undo", "pair", "pair undone", "copy", "write", "fail", "fail stored", "evict", "reload")
names = st.sampled_from([f"k{i}" for i in range(6)])
rows = st.lists(st.tuples(names, st.integers(-9, 9), st.integers(0, 3)), max_size=30)
Step = tuple[str, list[Row]]


def driver_on(stores: MemoryRowStores | None = None) -> Driver:
    return Driver(stores or MemoryRowStores(MemoryDisk(random.Random(1))))


class Player:
    """A driver beside its twin. At most one cut is under way, as in the runtime."""

    def __init__(self, driver: Driver) -> None:
        self.driver, self.twin = driver, Table()
        self.cut: FlushCut | None = None
        self.evicted = 0

    def play(self, step: Step) -> None:
        what, batch = step
        getattr(self, what.replace(" ", "_"))(batch)

    def commit(self, batch: list[Row]) -> None:
        self.driver.state.publish()
        for row in batch:
            self.twin.apply(row)
        self.twin.publish()

    def batch(self, batch: list[Row]) -> None:
        self.driver.apply(batch)
        self.commit(batch)

    def undo(self, batch: list[Row]) -> None:
        self.driver.apply(batch)
        self.driver.state.undo()

    def pair(self, batch: list[Row], *, undone: bool = False) -> None:
        """Two batches, the second on top of the first; copied, evicted and written in between."""
        half = len(batch) // 2
        self.driver.apply(batch[:half])
        if self.cut is None:
            self.cut = self.driver.state.cut(TASK, b"meta")
        self.driver.state.seal()
        self.driver.apply(batch[half:])
        self.evict(batch)
        self.commit(batch[:half])
        self.write(batch)
        self.evict(batch)
        if undone:
            self.driver.state.undo()
        else:
            self.commit(batch[half:])

    def pair_undone(self, batch: list[Row]) -> None:
        self.pair(batch, undone=True)

    def copy(self, batch: list[Row]) -> None:
        if self.cut is None:
            self.cut = self.driver.state.cut(TASK, b"meta")

    def write(self, batch: list[Row]) -> None:
        if self.cut is not None:
            self.cut.write(self.driver.store)
            self.cut.written()
            self.cut = None

    def fail(self, batch: list[Row]) -> None:
        if self.cut is not None:
            self.cut.restore_dirty()
            self.cut = None

    def fail_stored(self, batch: list[Row]) -> None:
        """The write of another task failed, or its own sync: the store has it all the same."""
        if self.cut is not None:
            self.cut.write(self.driver.store)
        self.fail(batch)

    def evict(self, batch: list[Row]) -> None:
        state = self.driver.state
        state.memory_bytes = 1
        while gone := state.evict():
            self.evicted += gone

    def reload(self, batch: list[Row]) -> None:
        self.write(batch)
        self.driver.flush()
        self.driver.reload()


def played(steps: list[Step], driver: Driver | None = None) -> Player:
    player = Player(driver or driver_on())
    for step in steps:
        player.play(step)
    return player


def random_steps(seed: int, count: int = 40) -> list[Step]:
    rng = random.Random(seed)
    found: list[Step] = []
    for _ in range(count):
        batch = [
            (f"k{rng.randrange(8)}", rng.randrange(99), rng.choice((0, 0, 1, 20))) for _ in range(rng.randrange(25))
        ]
        found.append((rng.choice(OPERATIONS), batch))
    return found


def wrong(seed: int) -> bool:
    player = played(random_steps(seed))
    return player.driver.seen() != player.twin.seen()


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(OPERATIONS), rows), max_size=25))
def test_any_order_with_evictions_equals_the_twin(steps: list[Step]) -> None:
    player = played(steps)
    assert player.driver.seen() == player.twin.seen()


@pytest.mark.parametrize("kind", ["memory", "rocksdb"])
def test_long_orders_equal_the_twin_and_do_evict(kind: str, tmp_path: Path) -> None:
    evicted = 0
    for seed in range(20):
        driver = Driver(make_stores(kind, tmp_path / str(seed)))
        player = played(random_steps(seed, 80), driver)
        evicted += player.evicted
        assert player.driver.seen() == player.twin.seen()
        driver.store.close()
    assert evicted > 500


@pytest.mark.parametrize("dropped", ["dirty", "cut_of"])
def test_without_one_of_its_conditions_eviction_loses_rows(dropped: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that the store does not have as they are must stay."""

    def careless(self: KeyedTable, begin: int, end: int) -> Slots:
        part = slice(begin, end)
        free = self.live[part].copy()
        if dropped != "dirty":
            free &= ~self.dirty[part]
        if dropped != "cut_of":
            free &= self.cut_of[part] == 0
        return begin + np.flatnonzero(free)

    assert not any(map(wrong, range(30)))
    monkeypatch.setattr(KeyedTable, "evictable", careless)
    found = 0
    for seed in range(30):
        try:
            found += wrong(seed)
        except (AssertionError, KeyError, IndexError):
            found += 1
    assert found


def test_freed_slots_and_blocks_are_used_again() -> None:
    driver = driver_on()
    state, table = driver.state, driver.state.table("spend")
    assert table.ring
    sizes = []
    for round_ in range(30):
        for part in range(5):
            driver.apply([(f"{round_}-{part}-{i % 40}", i, 0) for i in range(40 * (1 + round_ % 5))])
            state.publish()
        cut = state.cut(TASK, b"meta")
        cut.write(driver.store)
        cut.written()
        state.memory_bytes = 1
        while state.evict():
            pass
        sizes.append((table.slot_count, table.ring.blocks.end))
    assert sizes[-1] == sizes[9]
    assert state.live_keys <= 2 * 80
    assert sum(part.used_bytes for part in state._parts) < 200_000


@pytest.mark.parametrize("spec", [PLAIN, TableSpec("texts", "user", (), blob=True)], ids=["a field", "a blob"])
def test_only_keys_with_state_make_it_doubtful_what_the_store_has(spec: TableSpec) -> None:
    """Of a task of which none has left, a key that is not in memory is nowhere: it gets no place by being asked for."""
    store = MemoryRowStores(MemoryDisk(random.Random(1))).open(TASK)
    state = WorkerState([spec], memory_bytes=1)
    state.add_task(TASK, store)
    table, spans, names = state.table(spec.name), [Span(TASK, 0, 2)], ["a", "b"]

    def all_leave() -> None:
        flushed = state.cut(TASK, b"meta")
        flushed.write(store)
        flushed.written()
        for _ in range(3):
            state.publish()
        while state.evict():
            pass
        assert table.live_keys == 0

    assert [one.tolist() for one in known_rows(table, spans, names, [])] == [[], []]
    table.slots(spans, names)
    all_leave()
    assert [one.tolist() for one in known_rows(table, spans, names, [])] == [[], []]
    (slot,) = table.slots([Span(TASK, 0, 1)], ["a"])
    table.touch(np.array([slot]))
    if spec.blob:
        table.set_blobs({int(slot): b"x"})
    else:
        table.rows[slot] = 7
    all_leave()
    rows, (first, second) = known_rows(table, spans, names, [])
    assert rows.tolist() == [0, 1]
    assert (table.blobs[first], table.blobs[second]) == (b"x", b"") if spec.blob else table.rows[first].item() == 7


def test_the_longest_unused_leave_first() -> None:
    driver = driver_on()
    state = driver.state
    for begin in range(0, 40_000, 4_000):
        driver.apply([(f"k{i}", 1, 0) for i in range(begin, begin + 4_000)])
        state.publish()
        driver.apply([("hot", 1, 0)])
        state.publish()
    cut = state.cut(TASK, b"meta")
    cut.write(driver.store)
    cut.written()
    table = state.table("spend")
    state.memory_bytes = table.used_bytes + state.table("plain").used_bytes - 1
    assert state.evict() == 2048, "one step is enough"
    left = table.keys_of(TASK)
    assert "hot" in left
    assert sum(f"k{i}" not in left for i in range(4_000)) == 2048


def test_beside_a_flush_only_what_is_far_over_the_budget_leaves() -> None:
    driver = driver_on()
    state = driver.state
    driver.apply([(f"k{i}", 1, 0) for i in range(8_000)])
    state.publish()
    for _ in range(2):  # what the last two batches asked for stays
        driver.apply([("hot", 1, 0)])
        state.publish()
    cut = state.cut(TASK, b"meta")
    cut.write(driver.store)
    cut.written()
    used = state.table("spend").used_bytes + state.table("plain").used_bytes
    state.memory_bytes = used * 9 // 10
    assert (state.over_budget, state.evict(is_writing=True)) == (True, 0)
    state.memory_bytes = used * 8 // 10
    assert state.evict(is_writing=True) > 0
    assert state.over_budget, "an eighth is left"
    assert state.evict() > 0
    assert not state.over_budget


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 40), st.booleans()), max_size=60), st.randoms())
def test_blocks_never_overlap_and_free_space_is_accounted(
    steps: list[tuple[int, int, bool]], rng: random.Random
) -> None:
    blocks, taken = Blocks(), dict[int, int]()
    for power, count, back in steps:
        length = 4 << (power % 11)
        for off in blocks.take(count, length).tolist():
            assert off % min(length, 4096) == 0
            taken[off] = length
        if back:
            gone = rng.sample(sorted(taken), len(taken) // 2)
            blocks.give(np.array(gone, np.int64), np.array([taken.pop(off) for off in gone], np.int64))
        blocks.merge()
        spans = sorted(taken.items())
        assert all(a + length <= b for (a, length), (b, _) in pairwise(spans))
        assert blocks.end - blocks.free == sum(taken.values())


def test_small_free_blocks_become_long_ones() -> None:
    blocks = Blocks()
    small = blocks.take(50_000, 4)
    blocks.give(small, np.full(50_000, 4))
    for _ in range(4):
        blocks.merge()
    end = blocks.end
    assert blocks.take(40, 4096).max() < end
    assert blocks.take(9_000, 4).max() < end
