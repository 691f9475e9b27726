"""What the demo does, in order.

1. the worker starts; meanwhile payments are generated and written to files; 2. a first handful warms the worker up;
3. most of the rest is fed as fast as it goes: how fast are they decided? 4. the others come at a steady rate that
leaves the machine air: how long does each wait? 5. the worker stops, what is left is read, all is counted. What users
do with their accounts is fed between the payments, in order of event time.
"""

from __future__ import annotations

__all__ = ["Demo"]

import asyncio
import contextlib
import gc
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from state.errors import StreamprocError
from streamproc.cli.compose import open_log
from streamproc.cli.demo_folder import DemoFolder
from streamproc.cli.demo_progress import DemoProgress
from streamproc.cli.demo_reader import DecisionReader
from streamproc.cli.demo_summary import DemoSummary, Timing, summarize
from streamproc.cli.demo_worker import DemoWorker
from streamproc.cli.feeder import Sender
from streamproc.cli.files import find_stream, read_file
from streamproc.cli.options import load_stages
from streamproc.cli.records import Key, Row
from streamproc.clock import SystemClock
from streamproc.eventlog.contract import EventLog, OutputRecords
from streamproc.runtime.topics import prepare_topics
from streamproc.services.generator import (
    GeneratorOptions,
    Traffic,
    generate,
    write_account_events,
    write_labels,
    write_parquet,
)

if TYPE_CHECKING:
    from operators.plan import Plan
    from operators.schema import StreamSchema

_ACCOUNTS = "account_events"

_WARM_UP = 200
_PIECE, _STEADY_PIECE = 2_000, 100
_STEADY_SHARE, _STEADY_MAX = 0.2, 6_000
_RATE_SHARE, _RATE_MAX = 0.1, 1_000.0
_STEADY_SECONDS_MAX = 8.0
_PATIENCE_SECONDS = 60.0


class Demo:
    """One demo; `run` it once."""

    def __init__(self, pipeline: Path, folder: DemoFolder, events: int, seed: int) -> None:
        self._pipeline = pipeline
        self._folder = folder
        self._options = GeneratorOptions(events=events, seed=seed)
        self._clock = SystemClock()
        self._timing = Timing(started=self._clock.monotonic())
        self._traffic: Traffic | None = None

    async def run(self) -> DemoSummary:
        """All of it, or as much as there is time for before Ctrl-C.

        Raises:
            StreamprocError: the worker failed, or decides no more.
        """
        plans = await asyncio.to_thread(load_stages, str(self._pipeline))
        last = plans[-1]
        log = open_log(f"file:{self._folder.log}")
        worker = DemoWorker(self._pipeline, self._folder)
        reader = DecisionReader(log, last, self._clock)
        try:
            partitions = await prepare_topics(log, *plans)
            await worker.start()
            reader.begin(partitions)
            with DemoProgress(self._options.events, reader, self._clock) as progress:
                reading = asyncio.create_task(reader.run(), name="read decisions")
                jobs = [
                    asyncio.create_task(self._feed(log, plans, partitions, reader), name="feed"),
                    reading,
                    asyncio.create_task(worker.failed(), name="worker"),
                    asyncio.create_task(progress.run(), name="progress"),
                ]
                self._timing.interrupted = await _first(jobs)
                self._timing.worker_exit = await worker.stop()
                await reader.finish(partitions)
        finally:
            await worker.stop()
            await log.close()
        await asyncio.to_thread(reader.write, self._folder.decisions)
        self._timing.ended = self._clock.monotonic()
        return summarize(
            last, reader, self._timing,
            pipeline=self._pipeline, folder=self._folder, options=self._options, traffic=self._traffic,
        )  # fmt: skip

    async def _feed(self, log: EventLog, plans: Sequence[Plan], partitions: int, reader: DecisionReader) -> None:
        paid, done, before = await asyncio.to_thread(self._generate, plans)
        timing, clock = self._timing, self._clock
        gc.freeze()  # a million objects that stay: no pauses for them while times are taken
        appender = _Watched(log, clock, timing)
        accounts = Sender(done.topic, partitions, log.appender(), clock, None)

        async def feed(start: int, stop: int, rate: float | None) -> None:
            sender = Sender(paid.topic, partitions, appender, clock, rate)
            step = _PIECE if rate is None else _STEADY_PIECE
            for at in range(start, stop, step):
                end = min(at + step, stop)
                due = slice(accounts.sent, before[end - 1])
                await accounts.send(done.rows[due], done.keys[due])
                await sender.send(paid.rows[at:end], paid.keys[at:end])

        total = len(paid.rows)
        steady = min(int(total * _STEADY_SHARE), _STEADY_MAX)
        await feed(0, _WARM_UP, None)
        await self._decided(reader, _WARM_UP)
        drain_began = clock.monotonic()
        await feed(_WARM_UP, total - steady, None)
        await self._decided(reader, total - steady)
        timing.drained = total - steady - _WARM_UP
        timing.drain_seconds = clock.monotonic() - drain_began
        rate = min(_RATE_MAX, _RATE_SHARE * timing.drained / timing.drain_seconds)
        timing.rate = max(rate, steady / _STEADY_SECONDS_MAX)
        timing.steady_from = total - steady
        await feed(total - steady, total, timing.rate)
        await self._decided(reader, total)

    async def _decided(self, reader: DecisionReader, count: int) -> None:
        if not await reader.until(count, _PATIENCE_SECONDS):
            raise StreamprocError(f"no decision for {_PATIENCE_SECONDS:.0f} s: see {self._folder.worker_log}")

    def _generate(self, plans: Sequence[Plan]) -> tuple[_Records, _Records, list[int]]:
        """The payments, the account events, and how many of these have happened when each payment is made."""
        began = self._clock.monotonic()
        traffic = self._traffic = generate(self._options)
        write_parquet(traffic, self._folder.payments)
        write_account_events(traffic, self._folder.account_events)
        write_labels(traffic, self._folder.labels)
        paid = _records(self._folder.payments, plans[0].stream)
        done = _records(self._folder.account_events, find_stream(_ACCOUNTS, plans))
        self._timing.generate_seconds = self._clock.monotonic() - began
        return paid, done, np.searchsorted(traffic.account.time, traffic.rows.time, side="right").tolist()


class _Records(NamedTuple):
    """What goes to a topic."""

    topic: str
    rows: list[Row]
    keys: list[Key]


def _records(path: Path, stream: StreamSchema) -> _Records:
    """The records of a file exactly as `feed` sends them: fed again, they are known."""
    pieces = list(read_file(path, stream))
    rows, keys = [row for piece in pieces for row in piece.rows], [key for piece in pieces for key in piece.keys]
    return _Records(stream.topic, rows, keys)


class _Watched:
    """An appender that notes when each record was handed over, and when the log had it."""

    def __init__(self, log: EventLog, clock: SystemClock, timing: Timing) -> None:
        self._appender = log.appender()
        self._clock = clock
        self._timing = timing

    async def append(self, outputs: Sequence[OutputRecords]) -> None:
        began = self._clock.monotonic()
        await self._appender.append(outputs)
        ended = self._clock.monotonic()
        self._timing.appends.append((sum(len(output.values) for output in outputs), began, ended))

    async def close(self) -> None:
        await self._appender.close()


async def _first(jobs: Sequence[asyncio.Task[None]]) -> bool:
    """Until the first job ends, or SIGINT or SIGTERM come (True); its error is raised."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, stopped.set)
    stopping = asyncio.create_task(stopped.wait(), name="stop")
    done, _ = await asyncio.wait([*jobs, stopping], return_when=asyncio.FIRST_COMPLETED)
    for job in (*jobs, stopping):
        job.cancel()
    await asyncio.gather(*jobs, stopping, return_exceptions=True)
    if stopping in done:
        return True
    for job in done:
        await job
    return False
