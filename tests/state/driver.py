"""Drives a `WorkerState` the way an operator and the runtime would; rows are those of tests.oracle.state.Table."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from state.ring import Ring, RingSpec
from state.rowstore import RowStore, RowStores
from state.table import TableSpec
from state.worker_state import WorkerState

SPEC = TableSpec("spend", "card", ("count", "total"), ring=RingSpec(("amount", "number")), blob=True)
PLAIN = TableSpec("plain", "user", ("count",))
TASK = 3

Row = tuple[str, int, int]


class Span(NamedTuple):
    task: int
    start: int
    stop: int


class Driver:
    """One worker with one task, or one more task of a worker with this `state`; `reload` is a restart."""

    def __init__(self, stores: RowStores, state: WorkerState | None = None, task: int = TASK) -> None:
        self.stores = stores
        self.task = task
        self.start(state)

    def start(self, state: WorkerState | None = None) -> bytes | None:
        self.state = state or WorkerState([SPEC, PLAIN])
        self.store: RowStore = self.stores.open(self.task)
        return self.state.add_task(self.task, self.store)

    def apply(self, rows: list[Row]) -> None:
        if not rows:
            return
        names = [name for name, _, _ in rows]
        plain = self.state.table("plain")
        slots = plain.slots([Span(self.task, 0, len(rows))], names)
        plain.touch(np.unique(slots))
        np.add.at(plain.rows, slots, 1)
        table = self.state.table("spend")
        ring = table.ring
        assert ring
        slots = table.slots([Span(self.task, 0, len(rows))], names)
        unique, counts = np.unique(slots, return_counts=True)
        table.touch(unique)
        ring.touch(unique)
        ring.append_room(unique, counts)
        for slot, (_, amount, expire) in zip(slots.tolist(), rows, strict=True):
            off, mask, start, stop = ring.heads[slot].tolist()
            ring.entries[off + (stop & mask)] = (amount, stop)
            ring.heads[slot, Ring.STOP] = stop + 1
            ring.heads[slot, Ring.START] = min(stop + 1, start + expire)
            table.rows[slot] += (1, amount)
            table.set_blobs({slot: (table.blobs[slot] + bytes([amount % 251]))[-20:]})

    def flush(self, meta: bytes = b"meta") -> None:
        self.state.cut(self.task, meta).write(self.store)

    def reload(self) -> bytes | None:
        self.store.close()
        return self.start()

    def seen(self) -> dict[str, tuple[list[int], int, int, list[tuple[int, int]], bytes]]:
        self.state.digest(self.task)
        table, out = self.state.table("spend"), {}
        ring = table.ring
        assert ring
        for name, slot in table.keys_of(self.task).items():
            start, stop = ring.heads[slot, Ring.START :].tolist()
            at = np.array([slot])
            entries = ring.entries[ring.spans(at, np.array([start]), np.array([stop]))].tolist()
            out[name] = (table.rows[slot].tolist(), start, stop, [(a, b) for a, b in entries], table.blobs[slot])
        return out
