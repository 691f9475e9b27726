"""Samples of stages side by side: a row handed on to several of them, and put together from what they make of it."""

from __future__ import annotations

__all__ = ["beside", "gathers"]

import random
import time
from collections.abc import Iterator

import numpy as np

from benchmarks.codec import best_us
from benchmarks.cost_samples import NOW, Sample, columns_of
from operators.handoff import HandoffEncoder
from operators.plan import GatherSpec, Handoff, Target
from operators.schema import Kind
from state.held import HeldRows
from state.memory import MemoryDisk, MemoryRowStores
from state.worker_state import WorkerState
from streamproc.eventlog.contract import Chunk, TopicPartition
from streamproc.language.costing import BATCH
from streamproc.language.costing.units import Units
from streamproc.runtime.gathering import Gatherer
from streamproc.runtime.rows import TaskInput

_WAIT_MS = 3_600_000
_ROUNDS = 30


def beside() -> Iterator[Sample]:
    """What it takes besides to hand rows on to one more stage, and to three."""
    names = tuple(f"{kind}_0" for kind in Kind)
    for count in (1, 3):
        targets = tuple(Target(f"next{number}", "string_0") for number in range(count))
        handoff = Handoff("next", "string_0", names, beside=targets, placed=True)
        encoder = HandoffEncoder(handoff, digests=True, passes=False)
        timed = {}
        for size in (1, BATCH):
            made, ids, fresh = columns_of(size), [f"t{i:08d}" for i in range(size)], np.arange(size)
            handed = encoder.encode(
                ids, made, {}, fresh=fresh, digests=fresh, values=[b"{}"] * size, arrived=fresh, places=ids
            )
            timed[size] = best_us(lambda h=handed, i=ids, m=made, f=fresh: encoder.beside(h, i, m, {}, f), size)  # type: ignore[misc]  # noqa: B023
        yield Sample(Units({"handoff:beside": count}), timed[1], timed[BATCH])


def gathers() -> Iterator[Sample]:
    """Rows of two to four parts, each of which comes a batch after the one before: all wait but the last."""
    for parts in (2, 3, 4):
        yield Sample(Units({"gather": parts}), _gathered_us(parts, 1), _gathered_us(parts, BATCH))


def _gathered_us(parts: int, size: int) -> float:
    """Processor microseconds a row, of the best round."""
    tp = TopicPartition("t", 0)
    held = HeldRows(parts, _WAIT_MS)
    state = WorkerState((), (held,))
    state.add_task(0, MemoryRowStores(MemoryDisk(random.Random(1))).open(0))
    gatherer = Gatherer(tp.topic, GatherSpec(tuple(f"s{number}" for number in range(parts)), _WAIT_MS), held)
    best, offset = float("inf"), 0
    for turn in range(_ROUNDS if size > 1 else 20 * _ROUNDS):
        seconds = 0.0
        for number in range(parts):
            values: list[bytes | None] = [_part(number, turn * size + row) for row in range(size)]
            offsets = list(range(offset, offset + size))
            offset += size
            chunk = Chunk(tp, offsets, [b"u"] * size, values, [NOW] * size, offset)
            begun = time.thread_time()
            _, _, gathered = gatherer.look([TaskInput(0, tp, [chunk])])
            gatherer.apply(gathered)
            state.publish()
            seconds += time.thread_time() - begun
        best = min(best, seconds / size * 1e6)
    return best


def _part(number: int, row: int) -> bytes:
    """The first is the row with what its stage adds, the others what theirs add."""
    own = b'"id":"t%08d","card":"c%d","amount":12.5,"at":%d,"n":3,"spend":99.5' % (row, row, NOW) * (number == 0)
    own = own or b'"m%d":7,"s%d":12.25' % (number, number)
    return b'{%b,"_place":"0-%d","_part":%d,"_route":"u1"}' % (own, row, number)
