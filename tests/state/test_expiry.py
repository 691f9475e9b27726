"""A ttl: keys expire by row order, whoever removes them and when; memory and disk level off."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state import expiry, persistence
from state.audit import damages
from state.expiry import StreamTimes
from state.memory import MemoryDisk, MemoryRowStores
from state.ring import Ring, RingSpec
from state.table import KeyedTable, Slots, TableSpec
from state.table_cut import Sweep
from state.worker_state import FlushCut, WorkerState
from tests.state.driver import Span

TTL = 100
SPEC = TableSpec("t", "key", ("last_seen", "count"), ring=RingSpec(("time",)), blob=True, ttl_ms=TTL)
TASK = 1
Event = tuple[str, int]
Step = tuple[str, list[Event]]
OPERATIONS = (
    "batch", "batch", "undo", "pair", "flush", "copy", "write", "fail", "fail_stored", "sweep", "evict", "reload",
)  # fmt: skip


@given(
    st.lists(st.lists(st.lists(st.integers(-(1 << 60), 1 << 60), max_size=4), min_size=3, max_size=3), max_size=4),
    st.sampled_from([0, 1 << 30]),
)
def test_stream_time_is_the_running_maximum_of_each_task(batches: list[list[list[int]]], few: int) -> None:
    """However many rows are looked at one by one."""
    times, known = StreamTimes(), dict[int, int]()
    for batch in batches:
        edges = [0, *np.cumsum([len(mine) for mine in batch]).tolist()]
        spans = [Span(task, edges[task], edges[task + 1]) for task in range(3)]
        expected, before = list[int](), dict(known)
        for task, mine in enumerate(batch):
            for time in mine:
                known[task] = max(known.get(task, time), time)
                expected.append(known[task])
        step = max((time - before.get(task, expiry.NEVER) for task, time in known.items()), default=0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(expiry, "_FEW", few)
            for _ in range(2):
                gone = times.gone_on
                found = times.advance(spans, np.array([time for mine in batch for time in mine], np.int64))
                assert found.dtype == np.int64
                assert found.tolist() == expected
                assert [times.of(task) for task in known] == list(known.values())
                assert times.gone_on == gone + step
                assert all(times.before(task) == before.get(task, expiry.NEVER) for task in known)
                times.undo()
                assert all(times.of(task) == before.get(task, expiry.NEVER) for task in known)
            times.advance(spans, np.array([time for mine in batch for time in mine], np.int64))
            times.publish(sealed=False)


class Twin:
    """One dict: key -> (last seen, times), and the stream time."""

    def __init__(self) -> None:
        self.keys: dict[str, tuple[int, list[int]]] = {}
        self.stream = -(1 << 62)

    def apply(self, name: str, time: int) -> list[int]:
        """The times of the key's rows before this one."""
        self.stream = max(self.stream, time)
        seen, times = self.keys.get(name, (0, []))
        if self.stream - seen >= TTL:
            seen, times = time, []
        self.keys[name] = (max(seen, time), [*times, time])
        return times

    def alive(self) -> dict[str, tuple[int, list[int]]]:
        return {name: key for name, key in self.keys.items() if self.stream - key[0] < TTL}


class Worker:
    """One operator's table: it remembers the times of a key's rows in the ring, and their number."""

    def __init__(self) -> None:
        self.stores = MemoryRowStores(MemoryDisk(random.Random(1)))
        self.start()
        self.cut: FlushCut | None = None
        self.removed = 0

    def start(self) -> None:
        self.state = WorkerState([SPEC])
        self.store = self.stores.open(TASK)
        self.state.add_task(TASK, self.store)
        self.table = self.state.table("t")

    def apply(self, events: list[Event]) -> list[list[int]]:
        """What each row found."""
        if not events:
            return []
        table, ring = self.table, self.table.ring
        assert table.stream
        assert ring
        times = np.array([time for _, time in events])
        stream = table.stream.advance([Span(TASK, 0, len(events))], times)
        slots = table.slots([Span(TASK, 0, len(events))], [name for name, _ in events])
        found = []
        for i, (_, time) in enumerate(events):
            one = slots[i : i + 1]
            table.touch(one)
            ring.touch(one)
            table.renew(one, stream[i : i + 1])
            start, stop = ring.heads[one, Ring.START], ring.heads[one, Ring.STOP]
            found.append(ring.entries[ring.spans(one, start, stop), 0].tolist())
            seen = int(table.rows[one[0], 0]) if stop[0] else time
            ring.append_room(one, np.array([1]))
            ring.heads[one, Ring.STOP] += 1
            ring.entries[ring.spans(one, stop, stop + 1)] = time
            table.rows[one] = (max(seen, time), stop[0] + 1)
            table.set_blobs({int(one[0]): f"{stop[0]}".encode()})
        return found

    def flush(self) -> None:
        self.write()
        self.copy()
        self.write()

    def copy(self) -> None:
        if self.cut is None:
            self.cut = self.state.cut(TASK, b"meta")

    def write(self) -> None:
        if self.cut is not None:
            self.cut.write(self.store)
            self.cut.written()
            self.cut = None

    def fail(self) -> None:
        if self.cut is not None:
            self.cut.restore_dirty()
            self.cut = None

    def fail_stored(self) -> None:
        """The write of another task failed, or its own sync: the store has it all the same."""
        if self.cut is not None:
            self.cut.write(self.store)
        self.fail()

    def sweep(self) -> None:
        for part in self.state._parts:
            self.removed += part.expire()
        self.flush()

    def evict(self) -> None:
        self.state.memory_bytes = 1
        while self.state.evict():
            pass
        self.state.memory_bytes = 0

    def reload(self) -> None:
        self.flush()
        self.store.close()
        self.start()

    def seen(self) -> dict[str, tuple[int, list[int]]]:
        self.state.digest(TASK)
        ring, out = self.table.ring, {}
        assert ring
        keys = self.table.keys_of(TASK)
        slots = np.fromiter(keys.values(), np.int64, len(keys))
        gone = set(self.table.expired(slots).tolist())
        for name, slot in keys.items():
            one = slots[:0] if slot in gone else np.array([slot])
            if one.size and ring.heads[slot, Ring.STOP]:
                start, stop = ring.heads[one, Ring.START], ring.heads[one, Ring.STOP]
                times = ring.entries[ring.spans(one, start, stop), 0].tolist()
                assert self.table.blobs[slot] == f"{len(times) - 1}".encode()
                out[name] = (int(self.table.rows[slot, 0]), times)
        return out


def play(steps: list[Step]) -> tuple[Worker, Twin]:
    """Asserts that every row found what the twin says, sweeps or not."""
    worker, twin = Worker(), Twin()
    for what, events in steps:
        if what == "undo":
            worker.apply(events)
            worker.state.undo()
        elif what == "pair":
            half = len(events) // 2
            found = worker.apply(events[:half])
            worker.copy()
            worker.state.seal()
            worker.apply(events)
            worker.state.undo()
            found += worker.apply(events[half:])
            for part in worker.state._parts:
                part.expire()
            worker.state.publish()
            worker.write()
            worker.state.publish()
            assert found == [twin.apply(*event) for event in events]
        elif what == "batch":
            found = worker.apply(events)
            worker.state.publish()
            assert found == [twin.apply(*event) for event in events]
        else:
            getattr(worker, what)()
    assert worker.seen() == twin.alive()
    return worker, twin


def events_of(rng: random.Random, begin: int, count: int) -> list[Event]:
    late = [rng.choice((0, 0, 0, 30, 90, 150)) for _ in range(count)]
    return [(f"k{rng.randrange(8)}", begin + 3 * i - late[i]) for i in range(count)]


def random_steps(seed: int) -> list[Step]:
    rng, clock, steps = random.Random(seed), 1000, list[Step]()
    for _ in range(60):
        what = rng.choice(OPERATIONS)
        events = events_of(rng, clock, rng.randrange(30)) if what in ("batch", "undo", "pair") else []
        clock += rng.choice((10, 50, 130))
        steps.append((what, events))
    return steps


@pytest.mark.parametrize("seed", range(40))
def test_sweeps_evictions_and_restarts_are_unobservable(seed: int) -> None:
    steps = random_steps(seed)
    worker, _ = play(steps)
    plain, _ = play([step for step in steps if step[0] in ("batch", "pair")])
    assert worker.state.digest(TASK) == plain.state.digest(TASK)


def test_expired_rows_that_no_sweep_has_come_by_are_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sweep, "next", lambda *_: [])
    worker = Worker()
    worker.apply([("a", time) for time in range(40)])
    worker.state.publish()
    worker.flush()
    worker.apply([("b", 40 + 2 * TTL)])
    worker.state.publish()
    worker.flush()
    stored = dict(worker.store.scan(b"c"))
    assert len(stored) == 2
    assert list(damages(worker.store, [SPEC], [])) == []
    worker.store.write([], sorted(stored)[:1])
    assert list(damages(worker.store, [SPEC], [])) == ["table t: 1 rows cannot be read (a ring chunk is missing)"]


def test_chunks_of_a_write_that_failed_and_is_stored_go_with_their_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else they stay for ever, and `state verify` takes them for damage."""
    monkeypatch.setattr(Sweep, "next", lambda *_: [])
    worker = Worker()
    worker.apply([("a", time) for time in range(40)])
    worker.state.publish()
    worker.copy()
    worker.fail_stored()
    assert len(list(worker.store.scan(b"c"))) == 2
    worker.apply([("a", 40 + 2 * TTL)])  # a life of its own
    worker.state.publish()
    worker.flush()
    assert list(worker.store.scan(b"c")) == []
    assert list(damages(worker.store, [SPEC], [])) == []


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(OPERATIONS),
            st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 600)), max_size=25),
        ),
        max_size=15,
    )
)
def test_any_order_equals_the_twin(steps: list[Step]) -> None:
    play(steps)


def fails(seed: int) -> bool:
    try:
        play(random_steps(seed))
    except Exception:
        return True
    return False


def test_sweeping_too_early_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """One ms before their ttl is over, keys must stay, in memory's eyes and in the store's."""
    from state.table_cut import Sweep

    original = Sweep.next
    monkeypatch.setattr(Sweep, "next", lambda self, store, limit, *rest: original(self, store, limit + 60, *rest))
    assert any(fails(seed) for seed in range(40))


def test_sweeping_rows_that_are_just_written_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from state.table_cut import Sweep

    original = Sweep.next
    monkeypatch.setattr(Sweep, "next", lambda self, store, limit, kept, n: original(self, store, limit, (), n))
    monkeypatch.setattr(KeyedTable, "expired", lambda self, slots: slots[:0])
    assert any(fails(seed) for seed in range(40))


def test_expiry_by_a_clock_of_its_own_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the row's event time instead of the stream time, a late row tells whether its key was swept."""

    def own(self: StreamTimes, tasks: list[Span], times: Slots) -> Slots:
        advance(self, tasks, times)
        return times

    advance = StreamTimes.advance
    monkeypatch.setattr(StreamTimes, "advance", own)
    assert any(fails(seed) for seed in range(40))


def test_memory_and_disk_level_off() -> None:
    worker, sizes = Worker(), []
    for day in range(40):
        for part in range(4):
            clock = day * 40 + part * 10
            worker.apply([(f"{day}-{part}-{i}", clock) for i in range(20) for _ in range(18)])
            worker.state.publish()
            worker.state.evict()
            worker.flush()
        sizes.append((worker.table.slot_count, len(list(worker.store.scan(b"r"))), len(list(worker.store.scan(b"c")))))
    assert max(sizes[20:]) <= max(sizes[:20])
    assert sizes[-1][0] <= 20 * 4 * 8
    assert worker.state.live_keys <= 20 * 4 * 5


@pytest.mark.parametrize("transactions", [1, 10])
def test_memory_levels_off_whatever_a_flush_takes(transactions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk so slow that one flush follows the other, each as long as so many `transactions` of new keys."""
    monkeypatch.setattr(persistence, "_EVICTED", 40)
    worker, sizes = Worker(), []
    for clock in range(400):
        worker.apply([(f"{clock}-{i}", clock * 10) for i in range(20)])
        worker.state.publish()
        is_free = clock % transactions == 0
        worker.state.evict(is_writing=not is_free)
        if is_free:
            worker.write()
            worker.copy()
        sizes.append(worker.state.live_keys)
    assert max(sizes[200:]) <= max(sizes[:200])


def test_memory_levels_off_where_another_task_is_far_ahead() -> None:
    """A partition that is read up to its end, and nothing more comes: it must not stop the clock for one behind it."""
    worker, sizes = Worker(), []
    assert worker.table.stream
    worker.table.stream.advance([Span(TASK + 1, 0, 1)], np.array([1_000_000]))
    worker.state.publish()
    for clock in range(400):
        worker.apply([(f"{clock}-{i}", clock * 10) for i in range(20)])
        worker.state.publish()
        worker.flush()
        worker.state.evict()
        sizes.append(worker.state.live_keys)
    assert max(sizes[200:]) <= max(sizes[:200])


def test_between_its_rounds_over_all_slots_the_hand_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A round begins when stream time is a part of the ttl on; it ends although time stands still."""
    looked: list[int] = []
    original = KeyedTable.evictable

    def evictable(self: KeyedTable, begin: int, end: int) -> Slots:
        looked.append(begin)
        return original(self, begin, end)

    monkeypatch.setattr(KeyedTable, "evictable", evictable)
    monkeypatch.setattr(persistence, "_EVICTED", 8)
    monkeypatch.setattr(persistence, "_ROUNDS", 2)
    worker = Worker()
    ttl = worker.table.spec.ttl_ms
    for clock, rounds in ((1000, 1), (1000 + ttl // 2 - 1, 0), (1000 + ttl // 2, 1), (1000 + 2 * ttl, 1)):
        worker.apply([(f"{i}", clock) for i in range(20)])
        worker.state.publish()
        looked.clear()
        for _ in range(6):
            worker.state.evict()
        assert looked == [0, 8, 16] * rounds, clock


FLINK: list[tuple[Event, list[int]]] = [
    (("k", 0), [0]), (("k", 50), [0, 50]), (("clock", 120), [0, 50]), (("k", 170), [170]), (("clock", 220), [170]),
    (("clock", 300), []),
]  # fmt: skip
"""Flink's TtlStateTestBase, ttl 100, renewed by writes: what is left of "k" after each; other keys move the time."""


@pytest.mark.parametrize("evicted", [False, True])
@pytest.mark.parametrize("cuts", [{*range(1, len(FLINK))}, *({at} for at in range(1, len(FLINK))), set()], ids=str)
def test_flinks_ttl_with_a_restore_between_any_two_events(cuts: set[int], evicted: bool) -> None:
    """At batches of one with a restore after each, and of all with one at each place, and with none."""
    worker, begin = Worker(), 0
    for end in [*sorted(cuts), len(FLINK)]:
        worker.apply([event for event, _ in FLINK[begin:end]])
        worker.state.publish()
        assert worker.seen().get("k", (0, []))[1] == FLINK[end - 1][1]
        worker.reload()
        if evicted:
            worker.evict()
        begin = end
