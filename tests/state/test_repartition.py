"""Rows, chunks and ids of N tasks in M: what is moved, copied, refused and noticed."""

from __future__ import annotations

import random
from collections import Counter
from math import gcd

import numpy as np
import pytest

from state.actions import ActionCodes
from state.entries import Entries
from state.errors import ConfigError, StateCorruptedError
from state.hashing import partition_of
from state.memory import MemoryDisk, MemoryRowStores
from state.repartition import IdsSpec, Repartition, contributors
from state.rowformat import LAYOUT_KEY, RowFormat
from state.rowstore import RowStore
from state.segment_store import SegmentStore
from state.segments import IdSegments
from state.table import TableSpec

CARDS = TableSpec("cards", "card", ("n",))
DEVICES = TableSpec("devices", "device", ("n",))
IDS = IdsSpec("deduplicate", b"12345678", 1000, ActionCodes())


def stores(count: int, seed: int = 1) -> dict[int, RowStore]:
    opened = MemoryRowStores(MemoryDisk(random.Random(seed)))
    return {task: opened.open(task) for task in range(count)}


def put(store: RowStore, spec: TableSpec, keys: list[str], number: int = 1) -> None:
    form = RowFormat(spec)
    values = form.pack_rows(np.full((len(keys), 1), number, np.int64), [], [])
    store.write([(LAYOUT_KEY, b"{}"), *zip(form.row_keys(keys), values, strict=True)], [])


def put_ids(store: RowStore, ids: list[tuple[int, int, int]]) -> None:
    """(hash, digest, time), in order of arrival; a flush in the middle."""
    index = IdSegments(IDS.horizon_ms)
    kept = SegmentStore(IDS.name, IDS.fingerprint, index, IDS.actions)
    for half in (ids[: len(ids) // 2], ids[len(ids) // 2 :]):
        for hash_, digest, time in half:
            index.stream_time = max(index.stream_time, time)
            index.append_one(hash_, hash_ ^ 77, digest=digest, time=time, slot=index.find_one(hash_, hash_ ^ 77)[1])
        store.write(*kept.cut().encode())
    store.write([(LAYOUT_KEY, b"{}")], [])


def ids_of(store: RowStore) -> IdSegments:
    index = IdSegments(IDS.horizon_ms)
    SegmentStore(IDS.name, IDS.fingerprint, index, IDS.actions).load(store)
    return index


def listed(index: IdSegments) -> Counter[tuple[int, ...]]:
    entries: Entries = index.columns.take(index.at(np.arange(index.first, index.stop)))
    return Counter(zip(*(column.tolist() for column in entries), strict=True))


def of_cards(sources: dict[int, RowStore], targets: dict[int, RowStore]) -> Repartition:
    return Repartition(
        sources, targets, len(sources), tables=[CARDS, DEVICES], moved=frozenset({"cards"}), ids=None
    )  # fmt: skip


@pytest.mark.parametrize(("old", "new"), [(4, 6), (6, 4), (4, 8), (5, 3), (1, 7), (7, 1), (4, 4)])
def test_contributors_are_those_that_may_have_its_keys(old: int, new: int) -> None:
    seen = {(partition_of(b"k%d" % n, old), partition_of(b"k%d" % n, new)) for n in range(3000)}
    assert seen == {(i, j) for j in range(new) for i in contributors(j, old, new)}
    assert all(len(contributors(j, old, new)) == old // gcd(old, new) for j in range(new))


def test_keys_move_by_their_hash_and_others_are_copied() -> None:
    sources, targets = stores(4), stores(6, 2)
    names = [f"c{n}" for n in range(500)]
    for task, store in sources.items():
        put(store, CARDS, [name for name in names if partition_of(name.encode(), 4) == task])
        put(store, DEVICES, [f"d{task}-{n}" for n in range(10)])
    move = of_cards(sources, targets)
    move.run()
    move.check()
    assert move.keys == {"cards": 500, "devices": 40}
    prefix, other = RowFormat(CARDS).row_prefix, RowFormat(DEVICES).row_prefix
    for task, store in targets.items():
        mine = {key[len(prefix) :].decode() for key, _ in store.scan(prefix)}
        assert mine == {name for name in names if partition_of(name.encode(), 6) == task}
        devices = {key[len(other) :].decode() for key, _ in store.scan(other)}
        assert devices == {f"d{i}-{n}" for i in contributors(task, 4, 6) for n in range(10)}


def test_a_key_that_two_contributors_have_is_refused() -> None:
    sources, targets = stores(4), stores(6, 2)
    for task, store in sources.items():
        put(store, DEVICES, ["shared" if task in (0, 2) else f"d{task}"])
    with pytest.raises(ConfigError, match=r"table devices: 1 or more keys \(device\) have state in several") as refused:
        of_cards(sources, targets).run()
    assert "shared" not in str(refused.value)


def test_the_same_key_in_tasks_that_never_meet_is_fine() -> None:
    sources, targets = stores(4), stores(8, 2)
    for store in sources.values():
        put(store, DEVICES, ["shared"])
    move = of_cards(sources, targets)
    move.run()
    move.check()


def test_a_key_in_a_wrong_task_is_refused() -> None:
    sources = stores(4)
    for store in sources.values():
        put(store, CARDS, ["c1"])
    with pytest.raises(ConfigError, match="do not belong into it by their murmur2 hash"):
        of_cards(sources, stores(6, 2)).run()


@pytest.mark.parametrize("damage", ["lost", "altered", "added", "astray"])
def test_the_check_sees_what_went_wrong(damage: str) -> None:
    sources, targets = stores(2), stores(3, 2)
    for task, store in sources.items():
        put(store, CARDS, [name for name in map(str, range(50)) if partition_of(name.encode(), 2) == task])
    move = of_cards(sources, targets)
    move.run()
    move.check()
    prefix = RowFormat(CARDS).row_prefix
    key, value = next(iter(targets[1].scan(prefix)))
    if damage in ("lost", "astray"):
        targets[1].write([], [key])
    if damage == "altered":
        targets[1].write([(key, value[:-1] + b"\7")], [])
    if damage == "added":
        targets[1].write([(prefix + b"another", value)], [])
    if damage == "astray":
        targets[2].write([(key, value)], [])
    with pytest.raises(StateCorruptedError, match="table cards"):
        move.check()


@pytest.mark.parametrize("seed", range(8))
def test_ids_of_all_contributors_are_known(seed: int) -> None:
    rng = random.Random(seed)
    sources, targets = stores(4), stores(6, 2)
    seen: dict[int, list[tuple[int, int, int]]] = {}
    for task, store in sources.items():
        times = sorted(rng.randrange(3000) for _ in range(rng.choice((0, 5, 200))))
        seen[task] = [(rng.getrandbits(60) * 4 + task, rng.getrandbits(40), time) for time in times]
        put_ids(store, seen[task])
    move = Repartition(sources, targets, 4, tables=[], moved=frozenset(), ids=IDS)
    move.run()
    move.check()
    assert move.reused == 0
    for task, store in targets.items():
        merged = ids_of(store)
        olds = [ids_of(sources[i]) for i in contributors(task, 4, 6)]
        assert listed(merged) == sum(map(listed, olds), Counter())
        assert merged.stream_time == max(old.stream_time for old in olds)
        assert merged.segments == sorted(merged.segments)
        for i in contributors(task, 4, 6):
            for hash_, digest, _ in seen[i]:
                number, _ = merged.find_one(hash_, hash_ ^ 77)
                assert number < 0 or merged.columns.digest.item(merged.place(number)) == digest
                assert number >= 0
        merged.stream_time += 2 * IDS.horizon_ms
        merged.expire()
        assert len(merged) == 0


def test_ids_that_several_tasks_have_seen_are_counted() -> None:
    sources, targets = stores(4), stores(6, 2)
    for task, store in sources.items():
        put_ids(store, [(5 if task in (1, 3) else 90 + task, task, 10)])
    move = Repartition(sources, targets, 4, tables=[], moved=frozenset(), ids=IDS)
    move.run()
    move.check()
    assert move.reused == 3  # in the new tasks 1, 3 and 5
    target = ids_of(targets[1])
    target.columns.action[0] ^= 1
    targets[1].write([(next(key for key, _ in targets[1].scan(b"d") if key[-9:-8] == b"e"), b"")], [])
    with pytest.raises(StateCorruptedError):
        move.check()


def test_state_of_two_plans_is_not_joined() -> None:
    sources = stores(2)
    put(sources[0], CARDS, [])
    sources[1].write([(LAYOUT_KEY, b"other")], [])
    with pytest.raises(StateCorruptedError, match="several plans"):
        of_cards(sources, stores(3, 2)).run()


def test_expiring_tables_go_on_at_the_newest_stream_time_of_their_old_tasks() -> None:
    spec = TableSpec("cards", "card", ("last_seen",), ttl_ms=1000)
    form = RowFormat(spec)
    sources, targets = stores(4), stores(2, 2)
    times = {0: 50, 1: -7, 2: 40}  # task 3 has seen nothing
    for task, store in sources.items():
        put(store, spec, [f"c{n}" for n in range(300) if partition_of(b"c%d" % n, 4) == task])
        if task in times:
            store.write([(form.time_key, times[task].to_bytes(8, "little", signed=True))], [])
    moved = Repartition(sources, targets, 4, tables=[spec], moved=frozenset({"cards"}), ids=None)
    moved.run()
    moved.check()
    found = {task: target.get_many([form.time_key])[0] for task, target in targets.items()}
    assert found == {task: time.to_bytes(8, "little", signed=True) for task, time in {0: 50, 1: -7}.items()}
