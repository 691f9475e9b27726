"""The faults of the simulated row store."""

from __future__ import annotations

import random

import pytest

from state.errors import ConfigError, StateCorruptedError
from state.memory import MemoryDisk, MemoryRowStores


@pytest.mark.parametrize("seed", range(20))
def test_a_crash_loses_a_suffix_of_unsynced_batches(seed: int) -> None:
    disk = MemoryDisk(random.Random(seed))
    store = MemoryRowStores(disk, sync=False).open(0)
    for i in range(10):
        store.write([(b"last", b"%d" % i), (b"%d" % i, b"")], [b"%d" % (i - 3)])
    disk.crash()
    with pytest.raises(OSError, match="closed"):
        store.get_many([b"last"])
    found = dict(MemoryRowStores(disk).open(0).scan(b""))
    if found:
        last = int(found.pop(b"last"))
        assert sorted(found) == [b"%d" % i for i in range(max(0, last - 2), last + 1)]


def test_synced_batches_survive_a_crash_and_all_survive_a_kill() -> None:
    disk = MemoryDisk(random.Random(1))
    stores = MemoryRowStores(disk)
    stores.open(0).write([(b"a", b"1")], [])
    disk.crash()
    stores = MemoryRowStores(disk, sync=False)
    stores.open(0).write([(b"b", b"2")], [])
    with pytest.raises(ConfigError, match="held by another process"):
        MemoryRowStores(disk).open(0)
    stores.kill()
    assert MemoryRowStores(disk).open(0).get_many([b"a", b"b"]) == [b"1", b"2"]


def test_a_flipped_bit_is_found() -> None:
    disk = MemoryDisk(random.Random(1))
    store = MemoryRowStores(disk).open(0)
    assert not disk.flip_bit(0)
    store.write([(b"a", b"1")], [])
    assert disk.flip_bit(0)
    with pytest.raises(StateCorruptedError):
        store.get_many([b"a"])


@pytest.mark.parametrize("stored", [False, True])
def test_a_failed_write_is_stored_whole_or_not(stored: bool) -> None:
    disk = MemoryDisk(random.Random(1))
    store = MemoryRowStores(disk).open(0)
    disk.fail_write(OSError("no space"), stored=stored)
    with pytest.raises(OSError, match="no space"):
        store.write([(b"a", b"1"), (b"b", b"2")], [])
    assert len(list(store.scan(b""))) == 2 * stored
