"""The budget of a worker's state: how it is shared out, and that what is counted is what is taken."""

from __future__ import annotations

import tracemalloc
from inspect import signature

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.budget import shares
from state.errors import ConfigError
from state.rocksdb import RocksRowStores
from state.table import KeyedTable, TableSpec
from state.worker_state import WorkerState

MB = 1 << 20


@given(st.integers(8, 1 << 20))
def test_the_shares_are_the_budget_and_keys_have_at_least_half(budget_mb: int) -> None:
    keys, cache, buffers = shares(budget_mb)
    assert keys + cache == budget_mb * MB
    assert keys >= cache >= 4 * MB
    assert MB <= buffers <= cache // 4


@pytest.mark.parametrize(
    ("budget_mb", "found"), [(8, (4, 4, 1)), (100, (75, 25, 6.25)), (1024, (768, 256, 24)), (4096, (3840, 256, 24))]
)
def test_some_shares(budget_mb: int, found: tuple[float, float, float]) -> None:
    assert shares(budget_mb) == tuple(int(part * MB) for part in found)


def test_without_a_budget_rocksdb_has_its_defaults_and_keys_are_not_counted() -> None:
    parameters = signature(RocksRowStores).parameters
    defaults = parameters["cache_bytes"].default, parameters["write_buffer_bytes"].default
    assert shares(0) == (0, *defaults)


@pytest.mark.parametrize("budget_mb", [1, 7])
def test_a_budget_that_is_too_small_is_refused(budget_mb: int) -> None:
    with pytest.raises(ConfigError, match="too little for RocksDB") as caught:
        shares(budget_mb)
    assert caught.value.hint is not None
    assert "8 or more" in caught.value.hint


@pytest.mark.parametrize("text", ["card-{:012d}", "{:0200d}"])
@pytest.mark.parametrize("blob", [False, True])
def test_what_keys_count_for_is_what_python_takes(text: str, *, blob: bool) -> None:
    """Keys come and go until the dictionary is as long as it gets; against the allocator's own figures."""
    tracemalloc.start()
    try:
        table = KeyedTable(TableSpec("t", "card", ("a", "b"), blob=blob))
        for number in range(120):
            if number >= 20:
                leaving = table.evictable(0, table.slot_count)[:1000]
                table.evict(leaving)
            names = [text.format(number * 1000 + i) for i in range(1000)]
            table.admit(0, names)
            if blob:
                for name in names:
                    table.put_blob(table.keys_of(0)[name], name.encode())
            table.publish()
            table.publish()
        here = [tracemalloc.Filter(True, name) for name in ("*/state/*.py", __file__)]
        traces = tracemalloc.take_snapshot().filter_traces(here)
    finally:
        tracemalloc.stop()
    taken = sum(trace.size for trace in traces.traces)
    assert table.live_keys == 20_000
    assert 0.85 * taken <= table.used_bytes <= 1.3 * taken


def test_texts_are_counted_while_they_are_there() -> None:
    table = KeyedTable(TableSpec("t", "card", ("a",)))
    empty = table.used_bytes
    table.admit(0, ["a" * 1000, "b"])
    table.admit(1, ["c" * 500])
    assert table.used_bytes - empty >= 1501
    table.undo()
    assert table.used_bytes == empty
    assert not any(table.keys)
    table.admit(1, ["c" * 500])
    table.publish()
    table.drop_task(1)
    assert table.used_bytes == empty
    assert not any(table.keys)


@pytest.mark.parametrize("text", ["card", "kärtchen", "卡片", "💳"])
def test_a_text_that_was_written_out_meanwhile_counts_as_before(text: str) -> None:
    """Python keeps the UTF-8 form beside a text that is not ASCII once something has asked for it, as JSON does."""
    table = KeyedTable(TableSpec("t", "card", ("a",)))
    empty = table.used_bytes
    keys = [f"{text}-{number}" for number in range(3)]
    table.admit(0, keys)
    orjson.dumps(keys)
    table.undo()
    assert table.used_bytes == empty


@pytest.mark.parametrize("memory_bytes", [1 << 50, 1 << 67, 1 << 90])
def test_more_than_can_be_reserved_is_refused(memory_bytes: int) -> None:
    with pytest.raises(ConfigError, match="cannot be reserved"):
        WorkerState([TableSpec("t", "card", ("a",))], memory_bytes=memory_bytes)


def test_stages_share_it() -> None:
    assert shares(64, 2) == shares(32)
    with pytest.raises(
        ConfigError, match=r"a state memory of 12 MiB is too little for RocksDB alone of 2 stages"
    ) as told:
        shares(12, 2)
    assert told.value.hint is not None
    assert "16 or more" in told.value.hint
