"""Deduplication against a dict twin: any batching, several tasks, undo, flush and restart at any point."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from operators import deduplicate
from operators.batch import TaskRows
from operators.deduplicate import Deduplicator, DuplicateFlags
from state.compiling import can_compile
from state.errors import ConfigError, StateCorruptedError
from state.id_index import IdIndex
from state.id_loop import compiled_judge
from state.id_loop import judge as judge_rows
from state.memory import MemoryDisk, MemoryRowStores
from state.pages import Pages
from state.rowstore import RowStore
from state.worker_state import WorkerState
from tests.oracle.state import Ids, Verdict

WAYS = ("columns", "compiled loop" if can_compile() else "loop")
Row = tuple[str, int, int]  # id, payload digest, event time
HORIZON = 40
rows = st.lists(
    st.tuples(st.sampled_from([*"abcdefgh", "\ud800"]), st.integers(0, 1), st.integers(0, 400)), max_size=80
)


@pytest.fixture(autouse=True, scope="module", params=WAYS)
def _way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test is made by columns and row by row, and by a loop."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param != "columns":
            patch.setattr(deduplicate, "can_compile", lambda: True)
            patch.setattr(deduplicate, "compiled_judge", compiled_judge if can_compile() else lambda: judge_rows)
            patch.setattr(sys.modules[__name__], "Deduplicator", _prepared)
        yield


def _prepared(horizon: int) -> Deduplicator:
    made = deduplicate.Deduplicator(horizon)
    made.prepare()
    return made


def check(index: Deduplicator, batch: list[Row], task: int = 0) -> DuplicateFlags:
    return index.check(
        [TaskRows(task, 0, len(batch))],
        [name for name, _, _ in batch],
        np.array([digest for _, digest, _ in batch], np.int64),
        np.array([time for _, _, time in batch], np.int64),
    )


def action(number: int) -> int:
    return 1 + number % 255


def judge(index: Deduplicator, batch: list[Row], begin: int, task: int = 0) -> list[Verdict]:
    """Verdicts in the twin's form; rows are numbered from `begin`; in-batch firsts get their action by copying."""
    flags = check(index, batch, task)
    actions = np.array([action(begin + i) for i in range(len(batch))], np.uint8)
    index.record(flags, actions)
    out = []
    for i in range(len(batch)):
        first = int(flags.first_row[i])
        given_by = int(actions[first]) if first >= 0 else int(flags.first_action[i])
        out.append(Verdict(bool(flags.duplicate[i]), bool(flags.reused[i]), first, given_by))
    return out


def expected(twin: Ids, batch: list[Row], begin: int) -> list[Verdict]:
    verdicts = [twin.judge(begin + i, *row, action(begin + i)) for i, row in enumerate(batch)]
    return [v._replace(first_row=v.first_row - begin if v.first_row >= begin else -1) for v in verdicts]


@given(rows, st.lists(st.tuples(st.integers(0, 80), st.booleans()), max_size=6), st.integers(1, 300))
def test_any_batching_with_undo_equals_the_twin(stream: list[Row], cuts: list[tuple[int, bool]], horizon: int) -> None:
    index, twin = Deduplicator(horizon), Ids(horizon)
    begin = 0
    for end, undone in [*sorted(cuts), (len(stream), False)]:
        batch = stream[begin:end]
        if undone:
            judge(index, batch[::-1], begin)
            index.undo()
        assert judge(index, batch, begin) == expected(twin, batch, begin)
        index.publish()
        begin = max(begin, end)


pairs = st.lists(st.tuples(rows, rows, st.sampled_from(["both", "older", "neither"])), max_size=5)


_FREED_TWICE = [
    ([], [("a", 0, 39), ("h", 0, 0), ("\ud800", 0, 43)], "both"),
    ([("\ud800", 0, 0), ("a", 0, 70), ("h", 0, 0)], [("h", 0, 0), ("\ud800", 0, 0)], "neither"),
]


@example(_FREED_TWICE, 4, 0)
@given(pairs, st.integers(1, 300), st.integers(0, 200))
def test_a_batch_on_top_of_one_in_flight(
    program: list[tuple[list[Row], list[Row], str]], horizon: int, pace: int
) -> None:
    """The second of each pair is judged before the first is published; then something befalls them."""
    index, twin = Deduplicator(horizon), Ids(horizon)
    state = WorkerState([], [index])
    state.add_task(0, MemoryRowStores(MemoryDisk(random.Random(1))).open(0))
    clock = begin = 0
    for older, newer, outcome in program:
        first, second = ([(name, digest, time + clock) for name, digest, time in some] for some in (older, newer))
        clock += pace
        if outcome == "neither":
            judge(index, first, begin)
            state.seal()
            judge(index, second, begin + len(first))
            state.undo_all()
        assert judge(index, first, begin) == expected(twin, first, begin)
        begin += len(first)
        state.seal()
        if outcome == "older":
            judge(index, second[::-1], begin)
            state.undo()
        assert judge(index, second, begin) == expected(twin, second, begin)
        begin += len(second)
        state.publish()
        state.publish()


def start(stores: MemoryRowStores, horizon: int = HORIZON) -> tuple[WorkerState, Deduplicator, RowStore]:
    index = Deduplicator(horizon)
    state = WorkerState([], [index])
    store = stores.open(0)
    state.add_task(0, store)
    return state, index, store


def fail_stored(state: WorkerState, store: RowStore) -> None:
    """A write whose sync failed, or that of another task of the same flush: the store has it all the same."""
    cut = state.cut(0, b"m")
    cut.write(store)
    cut.restore_dirty()


whats = ["commit", "flush", "fail", "fail stored", "undo cut", "reload"]
steps = st.lists(st.tuples(st.sampled_from(whats), rows), max_size=8)


@settings(deadline=None)
@given(steps)
def test_flush_and_restart_at_any_point(program: list[tuple[str, list[Row]]]) -> None:
    stores = MemoryRowStores(MemoryDisk(random.Random(1)))
    state, index, store = start(stores)
    plain = Deduplicator(HORIZON)
    whole = WorkerState([], [plain])
    whole.add_task(0, MemoryRowStores(MemoryDisk(random.Random(1))).open(0))
    begin, clock, twin = 0, 0, Ids(HORIZON)
    for what, some in program:
        batch = [(name, digest, time + clock) for name, digest, time in some]
        clock += 100
        if what == "undo cut":
            judge(index, batch, begin)
            cut = state.cut(0, b"m")
            state.undo()
            cut.restore_dirty()
        assert judge(index, batch, begin) == expected(twin, batch, begin)
        state.publish()
        judge(plain, batch, begin)
        whole.publish()
        begin += len(batch)
        if what == "fail":
            state.cut(0, b"m").restore_dirty()
        if what == "fail stored":
            fail_stored(state, store)
        if what in ("flush", "reload"):
            state.cut(0, b"m").write(store)
        if what == "reload":
            store.close()
            state, index, store = start(stores)
        assert state.digest(0) == whole.digest(0)


@pytest.mark.parametrize("failures", [1, 2])
def test_a_write_that_failed_and_is_stored_leaves_no_chunk_behind(failures: int) -> None:
    """Time goes on before the next one: that begins within what is stored, at the oldest id still alive."""
    stores = MemoryRowStores(MemoryDisk(random.Random(1)))
    state, index, store = start(stores)
    for clock in range(0, 20 * failures, 20):
        check(index, [(f"{time}", 0, time) for time in range(clock, clock + 20)])
        state.publish()
        fail_stored(state, store)
    clock = 10 + 20 * (failures - 1)
    check(index, [("now", 0, clock + HORIZON + 5)])
    state.publish()
    cut = state.cut(0, b"m")
    cut.write(store)
    cut.written()
    store.close()
    state, index, store = start(stores)
    assert check(index, [(f"{clock + 9}", 0, clock + 9)]).duplicate.all()
    assert not check(index, [("0", 0, 0)]).duplicate.any()


def test_tasks_of_one_batch_do_not_meet() -> None:
    index = Deduplicator(100)
    for size in (2, 40):
        ids = [f"{size}-{i}" for i in range(size)]
        spans = [TaskRows(task, task * size, (task + 1) * size) for task in range(3)]
        flags = index.check(spans, ids * 3, np.zeros(3 * size, np.int64), np.zeros(3 * size, np.int64))
        assert not flags.duplicate.any()
        flags = index.check(spans, ids * 3, np.zeros(3 * size, np.int64), np.zeros(3 * size, np.int64))
        assert flags.duplicate.all()


@given(st.lists(st.lists(rows, min_size=3, max_size=3), max_size=4))
def test_tasks_of_one_batch_are_told_what_each_would_be_alone(batches: list[list[list[Row]]]) -> None:
    """Whatever is made for all of them at once is cut where the next one's begins; also of those that make nothing."""
    together, alone = Deduplicator(HORIZON), [Deduplicator(HORIZON) for _ in range(3)]
    for number, parts in enumerate(batches):
        edges = [0, *np.cumsum([len(part) for part in parts]).tolist()]
        spans = [TaskRows(task, edges[task], edges[task + 1]) for task in range(3) if parts[task]]
        batch = [row for part in parts for row in part]
        names, numbers = [name for name, _, _ in batch], np.array([row[1:] for row in batch], np.int64).reshape(-1, 2)
        flags = together.check(spans, names, numbers[:, 0], numbers[:, 1])
        actions = np.array([action(number * 80 + i) for i in range(len(names))], np.uint8)
        together.record(flags, actions)
        for task, part in enumerate(parts):
            mine, span = check(alone[task], part, task), slice(edges[task], edges[task + 1])
            alone[task].record(mine, actions[span])
            assert mine.duplicate.tolist() == flags.duplicate[span].tolist()
            assert mine.reused.tolist() == flags.reused[span].tolist()
            assert mine.first_action.tolist() == flags.first_action[span].tolist()
            assert np.where(mine.first_row >= 0, mine.first_row + edges[task], -1).tolist() == (
                flags.first_row[span].tolist()
            )
        together.publish()
        for one in alone:
            one.publish()
    for task, one in enumerate(alone):
        if one.live_keys:
            assert b"".join(one.canonical(task)) == b"".join(together.canonical(task))


def test_many_ids_grow_the_index_and_old_ones_go() -> None:
    index, count = Deduplicator(80_000), 2000
    for batch in range(100):
        ids = [f"{batch}-{i}" for i in range(count)]
        times = np.arange(batch * count, (batch + 1) * count)
        flags = index.check([TaskRows(0, 0, count)], ids, np.zeros(count, np.int64), times)
        assert not flags.duplicate.any()
        if batch % 7 == 3:
            index.undo()
            flags = index.check([TaskRows(0, 0, count)], ids, np.zeros(count, np.int64), times)
            assert not flags.duplicate.any()
        again = index.check([TaskRows(0, 0, count)], ids, np.zeros(count, np.int64), times)
        assert again.duplicate.all()
        index.publish()
    assert 80_000 <= index.live_keys <= 80_000 * 9 // 8 + 2 * count
    assert index.bytes_estimate() <= 56 * index.live_keys


@pytest.mark.parametrize("size", [1, 100])
def test_one_id_reused_for_ever_takes_one_slot(size: int) -> None:
    """Else its two buckets overflow, and the index doubles without end."""
    index = Deduplicator(1_000_000)
    for number in range(0, 3000, size):
        digests = np.arange(number, number + size)
        flags = index.check([TaskRows(0, 0, size)], ["same"] * size, digests, digests)
        assert flags.reused.all() == (number > 0)
        if number % 500 == 0:
            index.undo()
            index.check([TaskRows(0, 0, size)], ["same"] * size, digests, digests)
        index.publish()
    assert index.bytes_estimate() < 1_000_000


def test_a_late_reuse_supersedes_a_live_entry() -> None:
    index = Deduplicator(10)
    assert judge(index, [("a", 1, 95), ("b", 1, 100)], 0)[0] == Verdict(False, False, -1, 0)
    assert judge(index, [("a", 2, 50)], 2)[0].reused
    assert judge(index, [("a", 1, 100)], 3)[0] == Verdict(False, False, -1, 0)


def test_flushes_append_chunks_and_delete_expired_ones() -> None:
    state, index, store = start(MemoryRowStores(MemoryDisk(random.Random(1))), horizon=80)
    for clock in range(0, 1000, 10):
        check(index, [(f"{clock}-{i}", 0, clock) for i in range(20)])
        state.publish()
        assert state.dirty_rows(0) == 2
        state.cut(0, b"m").write(store)
        assert state.dirty_rows(0) == 0
    assert 8 <= sum(key[:1] == b"d" for key, _ in store.scan(b"")) <= 12


@pytest.mark.parametrize("seed", range(20))
def test_damage_is_found(seed: int) -> None:
    rng = random.Random(seed)
    stores = MemoryRowStores(MemoryDisk(rng))
    state, index, store = start(stores)
    for clock in range(5):
        check(index, [(f"{clock}-{i}", 0, clock) for i in range(5)])
        state.publish()
        state.cut(0, b"m").write(store)
    key, value = rng.choice(list(store.scan(b"d")))
    store.write([(key, value[: rng.randrange(len(value))])] if seed % 2 else [], [key])
    store.close()
    with pytest.raises(StateCorruptedError):
        start(stores)


def test_another_horizon_is_refused() -> None:
    stores = MemoryRowStores(MemoryDisk(random.Random(1)))
    state, index, store = start(stores)
    check(index, [("a", 0, 0)])
    state.publish()
    state.cut(0, b"m").write(store)
    store.close()
    with pytest.raises(ConfigError, match="tables: deduplicate"):
        start(stores, horizon=41)
    with pytest.raises(ConfigError, match="longer than 0"):
        Deduplicator(0)


def test_the_index_grows_by_steps_no_larger_than_the_batch_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch never waits for the whole index: some buckets are split, and no entry is copied."""
    split, steps = IdIndex._split_some, list[int]()

    def noted(self: IdIndex, begin: int, count: int) -> None:
        steps.append(count)
        split(self, begin, count)

    monkeypatch.setattr(IdIndex, "_split_some", noted)
    index, count = Deduplicator(1_000_000), 500
    for batch in range(400):
        ids = [f"{batch}-{i}" for i in range(count)]
        flags = index.check([TaskRows(0, 0, count)], ids, np.zeros(count, np.int64), np.zeros(count, np.int64))
        assert not flags.duplicate.any()
        index.publish()
    assert len(steps) > 100
    assert max(steps) <= 256
    known = [f"{batch}-7" for batch in range(400)]
    assert index.check([TaskRows(0, 0, 400)], known, np.zeros(400, np.int64), np.zeros(400, np.int64)).duplicate.all()


@pytest.mark.parametrize("load", [0.5, 1.6])
def test_full_buckets_make_room_and_undo_finds_what_moved(load: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 1.6 entries a slot (every other one superseded) entries move between their buckets."""
    moved, make_room = list[int](), IdIndex.make_room

    def noted(self: IdIndex, lo: int, hi: int) -> None:
        moved.append(lo)
        make_room(self, lo, hi)

    monkeypatch.setattr("state.id_index._LOAD", load)
    monkeypatch.setattr(IdIndex, "make_room", noted)
    index, twin, count = Deduplicator(60_000), Ids(60_000), 1000
    for batch in range(80):
        begin = batch * count
        names = [f"{batch - i % 3}-{i - i % 3}" for i in range(count)]  # new, reused, then a duplicate of the reuse
        batch_rows = [(name, batch - (i % 3 == 2), begin + i) for i, name in enumerate(names)]
        if batch % 2:  # else the index grows in the batch that counts
            judge(index, batch_rows[::-1], begin)
            index.undo()
        assert judge(index, batch_rows, begin) == expected(twin, batch_rows, begin)
        index.publish()
    assert (len(moved) > 20) == (load > 0.5)


def test_pages_keep_what_they_hold_however_they_grow() -> None:
    pages = Pages(np.int64, 10)
    pages.array[:10] = range(10)
    pages.reserve(1000)
    held = pages.array[:3]
    pages.reserve(100_000)
    assert pages.array[:11].tolist() == [*range(10), 0]
    assert not pages.array[10:].any()
    assert held.tolist() == [0, 1, 2]
    assert len(pages.array) >= 100_000


def test_what_is_compiled_is_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deduplicate, "compiled_judge", lambda: judge_rows)
    monkeypatch.setattr(deduplicate, "can_compile", lambda: True)
    rng, plain, other = random.Random(1), _prepared(HORIZON), Deduplicator(HORIZON)
    for begin in range(0, 600, 30):
        batch = [(rng.choice("abcdefgh"), rng.randrange(2), begin + rng.randrange(60)) for _ in range(30)]
        assert judge(plain, batch, begin) == judge(other, batch, begin)


def test_where_nothing_can_be_compiled_ids_are_looked_up_by_columns(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused() -> None:
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(deduplicate, "can_compile", lambda: True)
    monkeypatch.setattr(deduplicate, "compiled_judge", refused)
    assert not check(_prepared(HORIZON), [("a", 0, 0)] * 20).duplicate[0]
    assert caplog.messages == [
        "ids are looked up by columns: numba compiles nothing here (RuntimeError); can NUMBA_CACHE_DIR be written?"
    ]
