"""What merging costs: CPU of a row where every other one is of another stream, and of the same pipeline without it.

    python -m benchmarks.streams

Reading event times, merging, cutting into runs of one record (the worst there is), decoding two streams into one batch,
two windows, the journal's ranges. Without a log.
"""

from __future__ import annotations

__all__ = ["measure"]

import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from operators.plan import Plan
from streamproc.cli.compose import build_engine
from streamproc.cli.preparing import prepare
from streamproc.cli.replay_files import NothingStored
from streamproc.eventlog.contract import Chunk, TopicPartition
from streamproc.language import compile_pipeline, read_pipeline
from streamproc.runtime.chunks import rows_of
from streamproc.runtime.event_times import EventTimes
from streamproc.runtime.merge import Lane, merge_heads
from streamproc.runtime.partition_task import PartitionTask, Phase
from streamproc.runtime.rows import TaskInput

_START_MS = 1_600_000_000_000
_USERS = 2_000
_LOGINS = """\
  logins:
    id: login_id
    event_time: at
    fields: {login_id: string, user_id: string, outcome: string, at: timestamp}
"""
_PIPELINE = """\
pipeline: merged
partitions: 1
streams:
  payments:
    id: payment_id
    event_time: at
    fields: {payment_id: string, user_id: string, amount: decimal(2), at: timestamp}
%spartition_by: user_id
features:
  n_1h: {count: "*", over: 1h}
  spend_24h: {sum: amount, over: 24h}
%s"""
_FAILED = "  failed_10m: {count: '*', over: 10m, where: outcome = 'failed'}\n"


def measure(size: int, *, merged: bool, rows: int = 4_096) -> float:
    """Microseconds of CPU a row, in batches of `size` rows, the first quarter left out."""
    text = _PIPELINE % ((_LOGINS, _FAILED) if merged else ("", ""))
    plan = compile_pipeline(read_pipeline(text, "streams.yaml"))
    engine, state = build_engine(plan, bytes(32))
    prepare(engine)
    state.add_task(0, NothingStored())
    sources = [TopicPartition(stream.topic, 0) for stream in plan.streams]
    task = PartitionTask(0, sources[0], tuple(sources[1:]))
    task.enter(Phase.RUNNING)
    times = [EventTimes(decoder, stream) for decoder, stream in engine.decoders]
    spent: list[float] = []
    for number, given in enumerate(_batches(plan, size, rows)):
        begun, chunks = time.process_time(), given
        if merged:
            lanes = [Lane(reader.of(chunk), open=False) for reader, chunk in zip(times, given, strict=True)]
            places, chunks = [0] * len(given), []
            for lane, count in merge_heads(lanes):
                chunks.append(rows_of(given[lane], places[lane], places[lane] + count))
                places[lane] += count
        computed = engine.compute([TaskInput(0, sources[0], chunks)], {sources[0]: task}, _START_MS)
        engine.publish()
        engine.make_room()
        task.computed = computed.heads[sources[0]]
        task.advance(computed.heads[sources[0]], number)
        spent.append((time.process_time() - begun) / size)
    return round(float(np.mean(spent[len(spent) // 4 :])) * 1e6, 2)


def _batches(plan: Plan, size: int, rows: int) -> Iterator[list[Chunk]]:
    """One chunk a stream; their rows alternate in time."""
    chance = np.random.default_rng(1)
    share = len(plan.streams)
    for first in range(0, rows // share, max(1, size // share)):
        offsets = range(first, first + max(1, size // share))
        users = chance.integers(_USERS, size=(share, len(offsets))).tolist()
        yield [_chunk(stream.topic, offsets, users[n], n, share) for n, stream in enumerate(plan.streams)]


def _chunk(topic: str, offsets: range, users: list[int], number: int, share: int) -> Chunk:
    values: list[bytes | None] = []
    for offset, user in zip(offsets, users, strict=True):
        row: dict[str, Any] = {"user_id": f"u{user}", "at": _START_MS + 1_000 * (share * offset + number)}
        row |= {"login_id": f"l{offset}", "outcome": "ok"} if number else {"payment_id": f"p{offset}", "amount": 12.5}
        values.append(json.dumps(row).encode())
    return Chunk(
        TopicPartition(topic, 0), offsets, [None] * len(values), values, [_START_MS] * len(values), offsets.stop
    )


def main() -> None:
    """Print both at some batch sizes."""
    for size in (2, 8, 64, 512):
        print(json.dumps({"batch": size, "one": measure(size, merged=False), "merged": measure(size, merged=True)}))


if __name__ == "__main__":
    main()
