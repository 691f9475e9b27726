"""The contract of row stores, over RocksDB and the simulated one."""

from __future__ import annotations

from pathlib import Path

import pytest

from state.rowstore import RowStores
from tests.state.stores import make_stores


@pytest.fixture(params=["memory", "rocksdb"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> RowStores:
    return make_stores(request.param, tmp_path / "state")


def test_reads_what_was_written(stores: RowStores) -> None:
    store = stores.open(0)
    store.write([(b"a", b"1"), (b"b", b""), (b"\x00\xff", b"3")], [])
    assert store.get_many([b"b", b"none", b"a", b"\x00\xff"]) == [b"", None, b"1", b"3"]
    assert store.get_many([]) == []


def test_deletes_come_before_puts(stores: RowStores) -> None:
    store = stores.open(0)
    store.write([(b"a", b"1"), (b"b", b"1")], [])
    store.write([(b"a", b"2")], [b"a", b"b", b"none"])
    assert list(store.scan(b"")) == [(b"a", b"2")]


def test_scan_is_ordered_by_prefix_and_as_of_the_call(stores: RowStores) -> None:
    store = stores.open(0)
    store.write([(key, key) for key in (b"c", b"b2", b"b", b"b\xff", b"a")], [])
    found = store.scan(b"b")
    store.write([(b"b3", b"")], [b"b2"])
    assert list(found) == [(b"b", b"b"), (b"b2", b"b2"), (b"b\xff", b"b\xff")]


def test_survives_closing(stores: RowStores) -> None:
    store = stores.open(7)
    store.write([(b"a", b"1")], [])
    store.close()
    store.close()
    assert stores.open(7).get_many([b"a"]) == [b"1"]
    stores.close()


def test_tasks_do_not_meet(stores: RowStores) -> None:
    stores.open(0).write([(b"a", b"1")], [])
    assert stores.open(1).get_many([b"a"]) == [None]


def test_a_task_is_opened_once(stores: RowStores) -> None:
    stores.open(0)
    with pytest.raises(ValueError, match="open already"):
        stores.open(0)
    with pytest.raises(ValueError, match="close its store first"):
        stores.discard(0)


def test_discard_starts_empty(stores: RowStores) -> None:
    store = stores.open(0)
    store.write([(b"a", b"1")], [])
    store.close()
    stores.discard(0)
    assert list(stores.open(0).scan(b"")) == []


def test_a_snapshot_is_installed(stores: RowStores, tmp_path: Path) -> None:
    store = stores.open(0)
    store.write([(b"a", b"1")], [])
    store.snapshot(tmp_path / "snapshot")
    store.write([(b"a", b"2")], [])
    store.close()
    stores.install(0, tmp_path / "snapshot")
    assert list(stores.open(0).scan(b"")) == [(b"a", b"1")]
    stores.close()
