"""All state of a worker against plain dicts: batches, undo, flushes, failures and restarts in any order."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.errors import ConfigError, StateCorruptedError
from state.memory import MemoryDisk, MemoryRowStores
from state.ring import RingSpec
from state.rowformat import LAYOUT_KEY, META_KEY, RowFormat
from state.table import TableSpec
from state.worker_state import WorkerState
from tests.oracle.state import Table
from tests.state.driver import SPEC, TASK, Driver, Row, Span
from tests.state.stores import make_stores

names = st.sampled_from(["a", "b", "c", "", "é", "\ud800", "a\x00b", "k" * 300])
rows = st.lists(st.tuples(names, st.integers(-1000, 1000), st.integers(0, 12)), max_size=40)
step = st.tuples(st.sampled_from(["commit", "undo", "cut undo", "undo cut", "flush", "fail", "reload", "crash"]), rows)


def memory() -> tuple[MemoryDisk, Driver]:
    disk = MemoryDisk(random.Random(1))
    return disk, Driver(MemoryRowStores(disk))


def run(driver: Driver, twin: Table, what: str, batch: list[Row]) -> None:
    """One step; the twin forgets what a crash loses."""
    driver.apply(batch)
    if what in ("undo", "cut undo", "undo cut"):
        cut = driver.state.cut(TASK) if what != "undo" else None
        if cut and what == "undo cut":
            cut.restore_dirty()
        driver.state.undo()
        if cut and what == "cut undo":
            cut.restore_dirty()
        return
    for row in batch:
        twin.apply(row)
    driver.state.publish()
    twin.publish()
    if what == "flush":
        driver.flush()
    elif what == "fail":
        driver.state.cut(TASK).restore_dirty()
    elif what == "reload":
        driver.flush(b"at reload")
        assert driver.reload() == b"at reload"


@given(st.lists(step, max_size=12))
def test_any_order_of_steps_equals_the_twin(steps: list[tuple[str, list[Row]]]) -> None:
    _, driver = memory()
    twin, flushed = Table(), Table()
    for what, batch in steps:
        run(driver, twin, what, batch)
        if what in ("flush", "reload"):
            flushed.keys = twin.keys
            flushed.publish()
            flushed.undo()
        if what == "crash":
            assert isinstance(driver.stores, MemoryRowStores)
            driver.stores.kill()
            driver.start()
            twin.keys = flushed.keys
            twin.publish()
            twin.undo()
            flushed.publish()
            flushed.undo()
    assert driver.seen() == twin.seen()
    table = driver.state.table("plain")
    counts = {name: table.rows[slot].tolist() for name, slot in table.keys_of(TASK).items()}
    assert counts == {name: [key.fields[0]] for name, key in twin.keys.items()}


@pytest.mark.parametrize("outcome", ["both", "older", "neither", "again"])
@given(st.lists(st.tuples(rows, rows), max_size=6), st.booleans())
def test_a_batch_on_top_of_one_in_flight(outcome: str, pairs: list[tuple[list[Row], list[Row]]], flush: bool) -> None:
    """Each pair is two batches, the second computed before the first is published; then something befalls them."""
    _, driver = memory()
    twin = Table()
    for older, newer in pairs:
        driver.apply(older)
        cut = driver.state.cut(TASK, b"meta") if flush else None
        driver.state.seal()
        driver.apply(newer)
        if outcome in ("older", "again"):
            driver.state.undo()
        if outcome == "again":
            driver.apply(newer[::-1])
        if outcome == "neither":
            driver.state.undo_all()
            if cut:
                cut.restore_dirty()
            continue
        driver.state.publish()
        if cut:
            cut.write(driver.store)
        driver.state.publish()
        for row in older + {"both": newer, "older": [], "again": newer[::-1]}[outcome]:
            twin.apply(row)
    assert driver.seen() == twin.seen()
    driver.flush()
    driver.reload()
    assert driver.seen() == twin.seen()


@pytest.mark.parametrize("sealed", [False, True])
@given(rows, rows, rows, st.booleans())
def test_a_task_goes_while_another_has_an_open_batch(
    sealed: bool, mine: list[Row], theirs: list[Row], later: list[Row], commit: bool
) -> None:
    """A restore that is given up, or begins anew from a checkpoint, beside a task that is deciding."""
    _, driver = memory()
    twin = Table()
    leaving = Driver(driver.stores, driver.state, task=TASK + 1)
    leaving.apply(theirs)
    driver.state.publish()
    driver.apply(mine)
    if sealed:
        driver.state.seal()
    driver.state.drop_task(TASK + 1)
    if commit:
        driver.state.publish()
        for row in mine:
            twin.apply(row)
        twin.publish()
    else:
        driver.state.undo_all()
    for _ in range(2):  # slots and blocks are taken again, by one key each
        driver.apply(later)
        driver.state.publish()
        for row in later:
            twin.apply(row)
    assert driver.seen() == twin.seen()


@pytest.mark.parametrize("sealed", [False, True])
def test_a_task_does_not_go_while_its_own_batch_is_open(sealed: bool) -> None:
    _, driver = memory()
    driver.apply([("a", 1, 0)])
    if sealed:
        driver.state.seal()
    with pytest.raises(AssertionError, match="undo or publish first"):
        driver.state.drop_task(TASK)


@given(rows, st.integers(0, 40), st.integers(0, 40))
def test_the_digest_does_not_depend_on_cuts_flushes_or_restarts(batch: list[Row], a: int, b: int) -> None:
    _, once = memory()
    once.apply(batch)
    once.state.publish()
    _, thrice = memory()
    a, b = sorted((a, b))
    for part in (batch[:a], batch[a:b], batch[b:]):
        thrice.apply(part)
        thrice.state.undo()
        thrice.apply(part)
        thrice.state.publish()
        thrice.flush()
        thrice.reload()
    assert once.state.digest(TASK) == thrice.state.digest(TASK)
    thrice.apply([("a", 1, 0)])
    thrice.state.publish()
    assert once.state.digest(TASK) != thrice.state.digest(TASK)


@pytest.mark.parametrize("kind", ["memory", "rocksdb"])
def test_long_histories_come_back_and_no_chunk_is_left_over(kind: str, tmp_path: Path) -> None:
    driver, twin, rng = Driver(make_stores(kind, tmp_path)), Table(), random.Random(7)
    for number in range(60):
        batch = [(f"k{rng.randrange(30)}", rng.randrange(1000), rng.choice([0, 0, 1, 3, 40])) for _ in range(50)]
        run(driver, twin, rng.choice(["commit", "flush", "fail", "reload", "undo", "cut undo"]), batch)
        if number % 20 == 19:
            assert driver.seen() == twin.seen()
    driver.flush()
    expected = sum(len(key.entries) // 16 - min(key.start // 16, len(key.entries) // 16) for key in twin.keys.values())
    assert sum(1 for _ in driver.store.scan(b"c")) == expected
    driver.store.close()


def test_only_dirty_rows_and_new_chunks_are_written() -> None:
    _, driver = memory()
    driver.apply([("a", i, 0) for i in range(100)] + [("b", 1, 0)])
    driver.state.publish()
    assert driver.state.dirty_rows(TASK) == 4
    driver.flush()
    assert driver.state.dirty_rows(TASK) == 0
    driver.apply([("a", 1, 0)])
    driver.state.publish()
    puts, deletes = driver.state.cut(TASK, b"m").encode()
    assert len(puts) == 2 + 2
    assert deletes == []
    driver.apply([("a", i, 90 * (i == 0)) for i in range(20)])
    driver.state.publish()
    puts, deletes = driver.state.cut(TASK, b"m").encode()
    assert sorted(key[:1] for key, _ in puts) == [b"c", b"f", b"m", b"r", b"r"]
    assert len(deletes) == 90 // 16


def test_entries_changed_in_place_are_flushed_again() -> None:
    _, driver = memory()
    driver.apply([("a", i, 0) for i in range(100)])
    driver.state.publish()
    driver.flush()
    table = driver.state.table("spend")
    assert table.ring
    slots = np.array([table.keys_of(TASK)["a"]])
    table.touch(slots)
    table.ring.touch(slots)
    at = table.ring.spans(slots, np.array([40]), np.array([41]))
    table.ring.save(at)
    table.ring.entries[at] = (-5, -5)
    table.ring.changed_from(slots, np.array([40]))
    driver.state.publish()
    driver.flush()
    driver.reload()
    assert driver.seen()["a"][3][38:42] == [(38, 38), (39, 39), (-5, -5), (41, 41)]


def reload_all(driver: Driver) -> None:
    driver.reload()
    driver.seen()


@pytest.mark.parametrize("seed", range(30))
def test_damage_is_found(seed: int) -> None:
    """Truncate any stored row or chunk, or flip any bit: loading says so."""
    rng = random.Random(seed)
    disk, driver = memory()
    driver.apply([(f"k{i % 3}", i, 0) for i in range(100)])
    driver.state.publish()
    driver.flush()
    pairs = [pair for pair in driver.store.scan(b"") if pair[0] not in (META_KEY, LAYOUT_KEY)]
    key, value = rng.choice(pairs)
    driver.store.write([(key, value[: rng.randrange(len(value))])], [])
    with pytest.raises(StateCorruptedError):
        reload_all(driver)
    driver.stores.close()
    disk.flip_bit(TASK)
    with pytest.raises(StateCorruptedError):
        Driver(MemoryRowStores(disk)).seen()


def test_a_missing_chunk_is_found() -> None:
    _, driver = memory()
    driver.apply([("a", i, 0) for i in range(100)])
    driver.state.publish()
    driver.flush()
    driver.store.write([], [next(driver.store.scan(b"c"))[0]])
    driver.reload()
    with pytest.raises(StateCorruptedError, match="a ring chunk is missing"):
        driver.seen()


@pytest.mark.parametrize(
    "specs",
    [
        [SPEC],
        [TableSpec("spend", "card", ("count",)), TableSpec("plain", "user", ("count",))],
        [SPEC, TableSpec("plain", "card", ("count",))],
        [SPEC, TableSpec("plain", "user", ("count",)), TableSpec("new", "user", ())],
        [TableSpec("spend", "card", ("count", "total"), ring=RingSpec(("amount",)), blob=True)],
    ],
)
def test_another_plan_is_refused(specs: list[TableSpec]) -> None:
    _, driver = memory()
    driver.apply([("a", 1, 0)])
    driver.state.publish()
    driver.flush()
    driver.store.close()
    with pytest.raises(ConfigError, match="changed since this state was written"):
        WorkerState(specs).add_task(TASK, driver.stores.open(TASK))


def test_rows_without_a_meta_row_are_refused() -> None:
    _, driver = memory()
    driver.store.write([(b"rx", b"")], [])
    with pytest.raises(StateCorruptedError, match="does not say of which batch"):
        driver.reload()


def test_the_fingerprint_is_the_same_in_every_release() -> None:
    assert RowFormat(SPEC).fingerprint.hex() == "c248091974699342"


def test_a_dropped_task_leaves_nothing_behind() -> None:
    _, driver = memory()
    state = driver.state
    driver.apply([("a", 1, 0), ("b", 2, 0)])
    state.publish()
    state.drop_task(TASK)
    assert state.live_keys == 0
    assert state.tasks == []
    slots = state.table("spend").slots([Span(5, 0, 1)], ["a"])
    assert state.table("spend").rows[slots].tolist() == [[0, 0]]
    assert state.bytes_estimate() > 0


def test_undeclared_tables_and_open_batches_are_refused() -> None:
    _, driver = memory()
    with pytest.raises(KeyError, match="declared are"):
        driver.state.table("other")
    driver.apply([("a", 1, 0)])
    with pytest.raises(RuntimeError, match="between batches"):
        driver.state.digest(TASK)
    with pytest.raises(ConfigError, match="same name"):
        WorkerState([SPEC, SPEC])
