"""Bytes of a key, beside what the state itself counts, and beside what lies in a store."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from operators.batch import TaskRows
from operators.deduplicate import Deduplicator
from operators.windows.layout import layouts
from operators.windows.spec import Aggregate, WindowFeature, WindowSpec
from state.audit import survey
from state.memory import MemoryDisk, MemoryRowStores
from state.ring import Ring
from state.table import KeyedTable
from streamproc.cli.common import load_stages
from streamproc.cli.compose import build_engine
from streamproc.eventlog.contract import Chunk, TopicPartition
from streamproc.language.costing.state import ID_BYTES, key_state, memory_bytes, stored_bytes
from streamproc.runtime.rows import TaskInput
from streamproc.services.generator import GeneratorOptions, generate, json_records

CARD_FRAUD = Path(__file__).parents[3] / "configs" / "card_fraud" / "pipeline.yaml"
DAY = 86_400_000


def test_history_at_a_rate() -> None:
    """30 days and the hour for late rows, three events a day: 91 entries, in a block of 128 of 2 numbers each."""
    feature = WindowFeature("n", Aggregate.COUNT, 30 * DAY)
    (layout,) = layouts(WindowSpec("card", "card", (feature,)))
    state = key_state(layout, 3)
    assert (state.kept_ms, state.entries, state.entry_bytes) == (30 * DAY + 3_600_000, 91, 8)
    assert state.bytes - key_state(layout, 0.001).bytes == (128 - 4) * 8
    assert state.ttl_ms == 0


def test_buckets_bound_the_history() -> None:
    feature = WindowFeature("n", Aggregate.COUNT, 30 * DAY, precision_ms=DAY)
    (layout,) = layouts(WindowSpec("card", "card", (feature,)))
    assert key_state(layout, 1_000).entries == 33  # 30 days, one for late rows, one begun, one to come


class Decided:
    """The state of card_fraud's first stage after generated payments, and what a flush stored of it."""

    def __init__(self, events: int) -> None:
        plan = load_stages(str(CARD_FRAUD))[0]
        records, keys = json_records(generate(GeneratorOptions(events=events)))
        engine, self.state = build_engine(plan, bytes(32))
        self.store = MemoryRowStores(MemoryDisk(random.Random(1))).open(0)
        self.state.add_task(0, self.store)
        tp, now = TopicPartition(plan.stream.topic, 0), 1 << 42
        for at in range(0, events, 1_000):
            part = range(at, min(at + 1_000, events))
            values: list[bytes | None] = [records[i] for i in part]
            names: list[bytes | None] = [keys[i] for i in part]
            chunk = Chunk(tp, part, names, values, [now] * len(part), part.stop)
            engine.judge(engine.decode([TaskInput(0, tp, [chunk])]))
            engine.publish()
        tables = [self.state.table(spec.name) for spec in plan.tables]
        self.tables = [table for table in tables if table.ring is not None]  # those of windows
        self.state.cut(0, b"meta").write(self.store)


@pytest.fixture(scope="module")
def decided() -> Decided:
    return Decided(800)  # no longer than the shortest window


def entries(table: KeyedTable) -> dict[str, int]:
    """Live entries of each key."""
    assert table.ring is not None
    heads = table.ring.heads
    return {key: int(heads[slot, Ring.STOP] - heads[slot, Ring.START]) for key, slot in table.keys_of(0).items()}


def _is_whole(table: KeyedTable) -> bool:
    """No entry has expired yet."""
    assert table.ring is not None
    return not table.ring.heads[list(table.keys_of(0).values()), Ring.START].any()


def test_memory_is_what_the_state_counts(decided: Decided) -> None:
    """Key by key: text, slot and a block, which does not shrink; `bytes_estimate` counts free blocks, too."""
    assert len(decided.tables) >= 3
    for table in decided.tables:
        predicted = sum(memory_bytes(table.spec, count, key) for key, count in entries(table).items())
        if _is_whole(table):
            assert predicted == table.used_bytes, table.spec.name
        assert predicted <= table.used_bytes <= 1.1 * predicted
        assert predicted <= table.bytes_estimate() <= 2 * predicted


def test_what_is_stored_is_what_inspect_counts(decided: Decided) -> None:
    """Where no entry has expired, so that chunks begin at the first one."""
    found, compared = survey(decided.store).tables, 0
    for table in decided.tables:
        counted = found[table.spec.name]
        assert counted.keys == table.live_keys
        if _is_whole(table):
            compared += 1
            predicted = sum(stored_bytes(table.spec, count, key) for key, count in entries(table).items())
            assert predicted == counted.bytes, table.spec.name
    assert compared > 0


def test_an_id_takes_about_what_is_said() -> None:
    index, count = Deduplicator(DAY), 2_000
    for batch in range(50):
        ids = [f"{batch}-{i}" for i in range(count)]
        nothing = np.zeros(count, np.int64)
        index.check([TaskRows(0, 0, count)], ids, nothing, nothing)
        index.publish()
    assert index.bytes_estimate() / index.live_keys == pytest.approx(ID_BYTES, rel=0.2)
