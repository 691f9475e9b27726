"""Silent replay: how fast a task's state comes back from the journaled input, and what that costs.

    python -m benchmarks.replay [--records 300000] [--repeats 3] [--transaction-rows 2000] [--late 0.0]

A worker decides the job's events on the embedded log, in transactions of `--transaction-rows`; then the real
Recovery restores all tasks from nothing, in this process. CPU microseconds an event are told apart:

    apply       decode, deduplicate, windows: what `Replayer.replay` takes on the loop
    loop        the rest of the loop: cutting journal and input into slices, the chain's digests
    threads     the other threads: here the embedded log's, which reads and unpacks

`events_per_s` is of CPU time, all threads together; `longest_slice_ms` is how long the loop was blocked at most.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.job import PARTITIONS, Job, pipeline, plan_of
from benchmarks.world import prepared
from operators.plan import Plan
from streamproc.cli.compose import RunOptions, build_engine, open_log, run_worker
from streamproc.cli.loops import run_async
from streamproc.cli.preparing import prepare
from streamproc.eventlog.contract import Chunk, TopicPartition
from streamproc.runtime.journal import JournalEntry, Rejected
from streamproc.runtime.replay import SilentReplayer
from streamproc.runtime.settings import WorkerSettings

Result = dict[str, Any]


class Stopwatch(SilentReplayer):
    """Adds up what applying takes; `longest` is the longest call, seconds of wall."""

    cpu = longest = 0.0

    def replay(  # type: ignore[override]
        self, task: int, chunks: list[Chunk], rejected: Rejected, actions: bytes, tick: int | None
    ) -> None:
        wall, cpu = time.perf_counter(), time.thread_time()
        super().replay(task, chunks, rejected, actions, tick)
        self.cpu += time.thread_time() - cpu
        self.longest = max(self.longest, time.perf_counter() - wall)

    def replay_last(self, task: int, chunks: list[Chunk], entry: JournalEntry) -> bool:  # type: ignore[override]
        cpu = time.thread_time()
        equal = super().replay_last(task, chunks, entry)
        self.cpu += time.thread_time() - cpu
        return equal


async def restore(plan: Plan, url: str, directory: Path) -> Result:
    """Restore all tasks of a decided log from nothing, into new stores in `directory`."""
    from state.rocksdb import RocksRowStores
    from streamproc.runtime.executor import ThreadExecutor
    from streamproc.runtime.partition_task import PartitionTask
    from streamproc.runtime.recovery import Recovery
    from streamproc.runtime.state_keeper import StateKeeper

    engine, state = build_engine(plan, bytes(32), PARTITIONS)
    prepare(engine)
    stores, executor = RocksRowStores(directory), ThreadExecutor()
    keeper = StateKeeper(state, stores, plan.state_fingerprint, executor)
    keeper.partitions = PARTITIONS
    log, watch = open_log(url), Stopwatch(engine)
    recovery = Recovery(
        log, watch, keeper, asyncio.Lock(), group=plan.pipeline, journal_topic=plan.topics.journal,
        state_fingerprint=plan.state_fingerprint, partitions=PARTITIONS,
    )  # fmt: skip
    tasks = [PartitionTask(number, TopicPartition(plan.stream.topic, number)) for number in range(PARTITIONS)]
    committed = await log.admin().committed(plan.pipeline, [task.source for task in tasks])
    for task in tasks:
        await keeper.open(task.task)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)  # as `run` does
    wall, cpu, loop = time.perf_counter(), time.process_time(), time.thread_time()
    for task in tasks:
        await recovery.restore(task, committed)
    wall, cpu, loop = time.perf_counter() - wall, time.process_time() - cpu, time.thread_time() - loop
    events = sum(task.position for task in tasks)
    for task in tasks:
        await keeper.close(task.task)
    executor.close()
    stores.close()
    await log.close()
    each = 1e6 / events
    return {
        "events": events, "events_per_s": events / cpu, "wall_events_per_s": events / wall,
        "cpu_us": cpu * each, "apply_us": watch.cpu * each, "loop_us": (loop - watch.cpu) * each,
        "threads_us": (cpu - loop) * each, "longest_slice_ms": watch.longest * 1e3,
    }  # fmt: skip


def run(count: int, repeats: int, transaction_rows: int = 2_000, late: float = 0.0) -> list[Result]:
    """Medians of the repeats, on one decided log."""
    with TemporaryDirectory(prefix="streamproc-replay-") as name:
        directory, url = Path(name), f"file:{name}/log"
        plan = plan_of(pipeline(directory, "R", "replay", "transactions"))
        prepared(url, "transactions", Job(late=late), count)
        settings = WorkerSettings(batch_rows_max=transaction_rows, until_end=True)
        run_async(run_worker([plan], RunOptions(url, directory / "state"), settings))
        runs = [run_async(restore(plan, url, directory / f"restored-{i}")) for i in range(repeats)]
    middle = {name: median(run[name] for run in runs) for name in runs[0]}
    rows = {"transaction_rows": transaction_rows, "late": late}
    return [{"what": "silent replay", "log": "embedded", **rows, **middle, "runs": repeats}]


def main() -> None:
    parser = argparse.ArgumentParser(description="Silent replay of the job from the embedded log.")
    parser.add_argument("--records", type=int, default=300_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--transaction-rows", type=int, default=2_000, help="rows of a transaction of all tasks, at most"
    )
    parser.add_argument("--late", type=float, default=0.0, help="share of events that come up to ten minutes late")
    chosen = parser.parse_args()
    for result in run(chosen.records, chosen.repeats, chosen.transaction_rows, chosen.late):
        print(json.dumps(result))


if __name__ == "__main__":
    main()
