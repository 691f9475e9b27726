"""What `what-if` does.

1. the stages before the last one must be as they are at work: what they handed on is in the log
2. each task of the last stage begins with a checkpoint, and is decided again in the journal's order (runtime/again.py)
3. what the journal's blocks say was decided then is held against it
"""

from __future__ import annotations

__all__ = ["what_if"]

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from operators.plan import Plan
from state.errors import ConfigError
from streamproc.cli.compose import build_engine, open_log
from streamproc.cli.formats import prepared_log, schema_caches
from streamproc.cli.progress import Progress
from streamproc.cli.report_options import ReportOptions
from streamproc.cli.what_if_answer import Answering
from streamproc.cli.what_if_options import Answer, Asked, Begun, rfc3339
from streamproc.cli.what_if_state import Origins, Start
from streamproc.clock import SystemClock
from streamproc.eventlog.contract import EventLog, TopicPartition
from streamproc.runtime.again import DecideAgain
from streamproc.runtime.journal_reading import newest_entry
from streamproc.runtime.tables_then import TablesThen


async def what_if(plans: Sequence[Plan], asked: Asked, options: ReportOptions | None) -> Answer:
    """Decide again, and write the report if there are `options` for it.

    Raises:
        ConfigError: nothing was decided then, a stage before the last one has changed, a checkpoint is of no use.
        BlobStoreError: the checkpoints' store cannot be asked.
        EventLogError: the log failed, or has no longer what is needed.
    """
    plan, answering = plans[-1], Answering(plans[-1], asked, options)
    schemas = await asyncio.to_thread(schema_caches, plan.streams, SystemClock())
    log = prepared_log(open_log(asked.log), plan.streams, schemas)
    try:
        await _check_before(plans, log)
        engine, state = build_engine(plan, bytes(32), schemas=schemas)
        tables = None if plan.live is None else await TablesThen.read(log, plan.live)
        again, bounds = DecideAgain(engine, log, tables), await _bounds(plan, log)
        done = rows = 0
        with Progress("what-if", sum(end - begin for begin, end in bounds.values())) as progress:
            async with _origins(plan, asked) as origins:
                for task, (begin, end) in bounds.items():
                    start = await asyncio.to_thread(origins.find, task, asked.since_ms)
                    answering.begin(_begun(task, start, begin, asked.since_ms))
                    state.add_task(task, start.store)
                    async for batch in again.run(task, start.meta, end):
                        answering.add(task, batch)
                        rows += len(batch.offsets)
                        progress.update(done + batch.at - begin, rows)
                    done += end - begin
                    state.drop_task(task)
                    start.store.close()
    finally:
        await log.close()
    return await asyncio.to_thread(answering.answer)


@asynccontextmanager
async def _origins(plan: Plan, asked: Asked) -> AsyncIterator[Origins]:
    with tempfile.TemporaryDirectory(prefix="streamproc-what-if-") as directory:
        origins = await asyncio.to_thread(Origins, plan, asked.checkpoints, Path(directory))
        try:
            yield origins
        finally:
            await asyncio.to_thread(origins.close)


async def _bounds(plan: Plan, log: EventLog) -> dict[int, tuple[int, int]]:
    """Of each task, the bounds of its journal."""
    admin = log.admin()
    tps = [TopicPartition(plan.topics.journal, task) for task in range(await admin.partitions(plan.topics.journal))]
    begins, ends = (await admin.begin_offsets(tps), await admin.end_offsets(tps)) if tps else ({}, {})
    if all(begins[tp] == ends[tp] for tp in tps):
        raise ConfigError(f"the pipeline {plan.pipeline} has decided nothing in this log", hint="is it the right log?")
    return {tp.partition: (begins[tp], ends[tp]) for tp in tps}


async def _check_before(plans: Sequence[Plan], log: EventLog) -> None:
    for plan in plans[:-1]:
        for task in range(await log.admin().partitions(plan.topics.journal)):
            entry = await newest_entry(log, TopicPartition(plan.topics.journal, task))
            at_work = None if entry is None else (entry.state_fingerprint, entry.decision_fingerprint)
            if at_work not in (None, (plan.state_fingerprint, plan.decision_fingerprint)):
                raise ConfigError(
                    f"the stage {plan.stage} is another one than at work, and only the last stage is decided again",
                    hint="take its changes back, or compare both pipelines over files: backtest --compare",
                )


def _begun(task: int, start: Start, begin: int, since_ms: int) -> Begun:
    if start.written_ms is None:
        return Begun(task, None, begin == 0)
    return Begun(task, rfc3339(start.written_ms), start.written_ms <= since_ms)
