"""What `what-if` does.

1. the stages before the last one must be as they are at work: what they handed on is in the log
2. each task of the last stage begins with a checkpoint, and is decided again in the journal's order (runtime/again.py)
3. what the journal's blocks say was decided then is held against it
"""

from __future__ import annotations

__all__ = ["what_if"]

import asyncio
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from operators.plan import Plan
from state.errors import ConfigError
from streamproc.cli.compose import build_engine, open_log
from streamproc.cli.formats import prepared_log, schema_caches
from streamproc.cli.preparing import prepare
from streamproc.cli.progress import Progress
from streamproc.cli.times import rfc3339
from streamproc.cli.what_if_answer import Answering
from streamproc.cli.what_if_options import Asked, Begun
from streamproc.cli.what_if_roles import said_of_roles
from streamproc.cli.what_if_state import Origins, Start
from streamproc.clock import SystemClock
from streamproc.eventlog.contract import EventLog, TopicPartition
from streamproc.language import load_pipeline
from streamproc.runtime.again import DecideAgain
from streamproc.runtime.executor import ThreadExecutor
from streamproc.runtime.journal_reading import newest_entry
from streamproc.runtime.tables_then import TablesThen


class _Journal(NamedTuple):
    """A task's: its offsets; whether it, and its input, are there from their first records on."""

    begin: int
    end: int
    whole: bool

    @property
    def records(self) -> int:
        return self.end - self.begin


async def what_if(plans: Sequence[Plan], asked: Asked, answering: Answering, directory: Path) -> None:
    """Decide again, and tell `answering`.

    Args:
        plans: of all stages, in order.
        asked: what.
        answering: takes what the last stage decides.
        directory: for copies of checkpoints.

    Raises:
        ConfigError: nothing is, or was, decided, a stage before the last one has changed, a checkpoint is of no use.
        BlobStoreError: the checkpoints' store cannot be asked.
        EventLogError: the log failed, or has no longer what is needed.
    """
    plan = plans[-1]
    if plan.is_silent:
        raise ConfigError(f"the pipeline {plan.pipeline} decides nothing: it only has SQL statements")
    schemas = await asyncio.to_thread(schema_caches, plan.streams, SystemClock())
    async with AsyncExitStack() as stack:
        log = prepared_log(open_log(asked.log), plan.streams, schemas)
        stack.push_async_callback(log.close)
        await _check_before(plans, log)
        journals = await _journals(plan, log)
        executor = ThreadExecutor()
        stack.push_async_callback(asyncio.to_thread, executor.close)
        engine, state = build_engine(plan, bytes(32), schemas=schemas)
        await asyncio.to_thread(prepare, engine)
        tables = None if plan.live is None else await TablesThen.read(log, plan.live)
        for line in await said_of_roles(await asyncio.to_thread(load_pipeline, asked.pipeline), log):
            sys.stderr.write(f"warning: {line}\n")
        again = DecideAgain(engine, log, tables, executor)
        origins = await asyncio.to_thread(Origins, plan, asked.checkpoints, directory)
        stack.push_async_callback(asyncio.to_thread, origins.close)
        progress = stack.enter_context(Progress("what-if", sum(journal.records for journal in journals)))
        done = rows = 0
        for task, journal in enumerate(journals):
            start = await asyncio.to_thread(origins.find, task, asked.since_ms, whole=journal.whole)
            answering.begin(_begun(task, start, journal, asked.since_ms))
            state.add_task(task, start.store)
            async for batch in again.run(task, start.meta, journal.end):
                answering.add(task, batch)
                rows += len(batch.offsets)
                progress.update(done + batch.at - journal.begin, rows)
            done += journal.records
            state.drop_task(task)
            await asyncio.to_thread(start.store.close)


async def _journals(plan: Plan, log: EventLog) -> list[_Journal]:
    """Of each task."""
    admin, topic = log.admin(), plan.topics.journal
    tasks = range(await admin.partitions(topic))
    journals = [TopicPartition(topic, task) for task in tasks]
    inputs = [[TopicPartition(stream.topic, task) for stream in plan.streams] for task in tasks]
    begins = await admin.begin_offsets([*journals, *chain.from_iterable(inputs)]) if journals else {}
    ends = await admin.end_offsets(journals) if journals else {}
    if all(begins[tp] == ends[tp] for tp in journals):
        raise ConfigError(f"the pipeline {plan.pipeline} has decided nothing in this log", hint="is it the right log?")
    return [
        _Journal(begins[tp], ends[tp], not any(begins[at] for at in (tp, *mine)))
        for tp, mine in zip(journals, inputs, strict=True)
    ]


async def _check_before(plans: Sequence[Plan], log: EventLog) -> None:
    for plan in plans[:-1]:
        for task in range(await log.admin().partitions(plan.topics.journal)):
            entry = await newest_entry(log, TopicPartition(plan.topics.journal, task))
            if entry is not None and entry.state_fingerprint != plan.state_fingerprint:
                raise ConfigError(
                    f"the stage {plan.stage} is another one than at work, and only the last stage is decided again",
                    hint="take its changes back, or compare both pipelines over files: backtest --compare",
                )


def _begun(task: int, start: Start, journal: _Journal, since_ms: int) -> Begun:
    if start.written_ms is None:
        return Begun(task, None, journal.whole)
    return Begun(task, rfc3339(start.written_ms), start.written_ms <= since_ms)
