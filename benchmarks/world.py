"""What the end-to-end drivers share: a log with the job's input, a pinned worker, a watcher of what it commits."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import msgspec

from benchmarks.job import PARTITIONS, Job, records
from benchmarks.machine import Cores, Usage, family, lives, memory_mb, pin
from operators.plan import Plan
from state.hashing import partitions_of
from streamproc.cli.compose import open_log
from streamproc.cli.loops import run_async
from streamproc.eventlog.contract import Appender, Chunk, EventLog, OutputRecords, TopicPartition, TopicSpec
from tests.kafka.broker import Broker, missing

SAMPLE_SECONDS = 0.02
_STAMPED = {"message.timestamp.type": "LogAppendTime"}
_PRELOAD = 2_000
_PATIENCE_SECONDS = 120.0


def fresh(word: str) -> str:
    """A name nobody has used."""
    return f"{word}-{uuid.uuid4().hex[:8]}"


class World(msgspec.Struct):
    """A directory of this run and, for `kafka`, a broker beside the driver."""

    directory: Path
    cores: Cores
    broker: Broker | None = None

    @property
    def broker_pid(self) -> int:
        """0 without a broker."""
        process = self.broker and self.broker._process
        return process.pid if process else 0

    def url(self, log: str, name: str = "log") -> str:
        """Of `kafka` or of the embedded log called `name`."""
        if log == "kafka":
            assert self.broker is not None
            return f"kafka://{self.broker.bootstrap}"
        return f"file:{self.directory / name}"


@contextmanager
def world(*, kafka: bool, pin_broker: bool = True) -> Iterator[World]:
    """Start what is needed; the driver itself moves off the worker's core. The broker starts with all cores in
    sight, so that the JVM sizes itself for the machine, and is moved then."""
    cores, before = Cores.of_machine(), os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory(prefix="streamproc-bench-") as name:
        made = World(Path(name), cores)
        try:
            if kafka:
                if problem := missing():
                    raise SystemExit(problem)
                made.broker = Broker(Path(name) / "kafka")
                made.broker.start()
                if pin_broker:
                    pin(made.broker_pid, cores.others)
            pin(0, cores.others)
            yield made
        finally:
            pin(0, before)
            if made.broker is not None:
                made.broker.kill()


# ---- input


async def preload(log: EventLog, topic: str, job: Job, count: int, start: int = 0) -> float:
    """Append events to a topic, made if it is missing; seconds it took."""
    await log.admin().ensure_topics([TopicSpec(topic, PARTITIONS)])
    appender, begun = log.appender(), time.perf_counter()
    for keys, values in records(job, count, start):
        for at in range(0, len(keys), _PRELOAD * PARTITIONS):
            part = slice(at, at + _PRELOAD * PARTITIONS)
            await append(appender, topic, keys[part], values[part])
    await appender.close()
    return time.perf_counter() - begun


async def append(appender: Appender, topic: str, keys: list[bytes], values: list[bytes]) -> None:
    """Append records where Kafka's partitioner puts them."""
    by_partition: dict[int, list[int]] = defaultdict(list)
    for i, partition in enumerate(partitions_of(keys, PARTITIONS).tolist()):
        by_partition[partition].append(i)
    now = time.time_ns() // 1_000_000
    await appender.append(
        [
            OutputRecords(TopicPartition(topic, partition), [keys[i] for i in rows], [values[i] for i in rows], now)
            for partition, rows in sorted(by_partition.items())
        ]
    )


def prepared(url: str, topic: str, job: Job, count: int) -> None:
    """`preload` on a loop of its own."""

    async def work() -> None:
        log = open_log(url)
        await preload(log, topic, job, count)
        await log.close()

    run_async(work())


async def prepare_outputs(log: EventLog, plan: Plan) -> None:
    """Make the decisions' topic; on Kafka the broker stamps its records when they are first written."""
    await log.admin().ensure_topics([TopicSpec(plan.topics.decisions, PARTITIONS, _STAMPED)])


def copied(world_: World, source: str, name: str) -> str:
    """The URL of a copy of an embedded log."""
    shutil.copytree(world_.directory / source, world_.directory / name)
    return world_.url("embedded", name)


# ---- the worker


class Worker:
    """`streamproc run` as a child on one core; `started` is when it was asked to."""

    def __init__(
        self, world_: World, pipeline: Path, url: str, name: str, *options: str, cores: frozenset[int] | None = None
    ) -> None:
        """`cores`: instead of the worker's one."""
        self.state = world_.directory / f"{name}-state"
        self.log = world_.directory / f"{name}.log"
        self.port = _free_port()
        self._cores = cores or {world_.cores.worker}
        self._command = [
            sys.executable, "-m", "streamproc.cli.main", "run", str(pipeline), "--log", url, "--state", str(self.state),
            "--instance", name, "--metrics-port", str(self.port), *options,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self.started = 0.0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.started = time.time()
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        os.sched_setaffinity(self._process.pid, self._cores)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def check(self) -> None:
        """Complain if it has ended by itself."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"the worker has ended: {self.log.read_text()[-2000:]}")

    def kill(self) -> None:
        """SIGKILL to all of it at once, as losing a pod does, and wait until it is gone."""
        assert self._process is not None
        members = family(self.pid)  # the supervisor first: it must not start anything again
        for member in members:
            with suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)
        self._process.wait()
        while any(lives(member) for member in members):
            time.sleep(0.001)

    def stop(self) -> None:
        """SIGTERM, as an orchestrator would; SIGKILL after a while."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()

    def memory(self) -> dict[str, float]:
        return memory_mb(self.pid)

    def metrics(self, index: int = 0) -> dict[str, float]:
        """All samples of a worker's /metrics, by their text with labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port + index}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name.removeprefix("streamproc_"): float(value) for name, value in samples}

    def await_ready(self) -> float:
        """Wait for /ready; seconds since the start."""
        deadline = time.time() + _PATIENCE_SECONDS
        while time.time() < deadline:
            self.check()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=1):
                    return time.time() - self.started
            except (urllib.error.URLError, OSError):
                time.sleep(0.02)
        raise RuntimeError("the worker is not ready after two minutes")


def total(metrics: dict[str, float], name: str) -> float:
    """The sum of a metric over all its labels."""
    return sum(value for sample, value in metrics.items() if sample.partition("{")[0] == name)


def stages(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Mean ms of each step of a batch, and the rows of a batch, between two readings of the metrics."""
    found: dict[str, float] = {}
    for name, total in after.items():
        if name.startswith("step_seconds_sum"):
            count = name.replace("_sum", "_count")
            batches = after[count] - before.get(count, 0.0)
            step = name.split('"')[1]
            found[f"{step}_ms"] = (total - before.get(name, 0.0)) / max(batches, 1.0) * 1e3
    batches = after["batch_rows_count"] - before.get("batch_rows_count", 0.0)
    found["rows"] = (after["batch_rows_sum"] - before.get("batch_rows_sum", 0.0)) / max(batches, 1.0)
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# ---- the watcher


class Watched(msgspec.Struct):
    """Arrivals at a read_committed reader: (time, records) of each poll, and the records' own times in ms."""

    count: int = 0
    arrivals: list[tuple[float, int]] = []
    first_stamp: float = float("inf")
    last_arrival: float = 0.0

    def add(self, chunks: list[Chunk]) -> None:
        self.last_arrival = time.time()
        records_ = sum(len(chunk.offsets) for chunk in chunks)
        self.count += records_
        self.arrivals.append((self.last_arrival, records_))
        self.first_stamp = min(self.first_stamp, *(min(chunk.timestamps) / 1000 for chunk in chunks))


async def watch(
    log: EventLog, topic: str, until: Callable[[Watched], bool], *, worker: Worker | None = None,
    usages: tuple[Usage, ...] = (), on_chunks: Callable[[list[Chunk]], None] | None = None,
) -> Watched:  # fmt: skip
    """Read a topic from its beginning until `until`, which is asked after each arrival."""
    scanner, seen = log.scanner(), Watched()
    for number in range(PARTITIONS):
        scanner.seek(TopicPartition(topic, number), 0)
    sampler = asyncio.create_task(_sample(usages))
    quiet_since = time.time()
    try:
        while not until(seen):
            chunks = await scanner.poll(200)
            if chunks:
                seen.add(chunks)
                quiet_since = time.time()
                if on_chunks is not None:
                    on_chunks(chunks)
            elif time.time() - quiet_since > _PATIENCE_SECONDS:
                raise RuntimeError(f"nothing arrived for two minutes; {seen.count} records before")
            elif worker is not None:
                worker.check()
        for usage in usages:
            usage.sample(time.time())
    finally:
        sampler.cancel()
        await scanner.close()
    return seen


async def _sample(usages: tuple[Usage, ...]) -> None:
    while True:
        for usage in usages:
            usage.sample(time.time())
        await asyncio.sleep(SAMPLE_SECONDS)


async def read_back(url: str, topic: str) -> list[tuple[bytes | None, bytes]]:
    """Everything committed in a topic: on Kafka with aiokafka's own consumer, so not with our reading of batches."""
    if url.startswith("kafka://"):
        return await _read_kafka(url.removeprefix("kafka://"), topic)
    log = open_log(url)
    scanner, found = log.scanner(), list[tuple[bytes | None, bytes]]()
    tps = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    for tp in tps:
        scanner.seek(tp, 0)
    ends = await log.admin().end_offsets(tps)
    while any(scanner.position(tp) < end for tp, end in ends.items()):
        for chunk in await scanner.poll(200):
            found += zip(chunk.keys, map(bytes, filter(None, chunk.values)), strict=True)
    await log.close()
    return found


async def _read_kafka(bootstrap: str, topic: str) -> list[tuple[bytes | None, bytes]]:
    from aiokafka import AIOKafkaConsumer
    from aiokafka import TopicPartition as Theirs

    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, isolation_level="read_committed", enable_auto_commit=False, group_id=None
    )
    await consumer.start()
    try:
        tps = [Theirs(topic, number) for number in range(PARTITIONS)]
        consumer.assign(tps)
        ends = await consumer.end_offsets(tps)
        for tp in tps:
            consumer.seek(tp, 0)
        found: list[tuple[bytes | None, bytes]] = []
        while any([await consumer.position(tp) < ends[tp] for tp in tps]):
            for some in (await consumer.getmany(timeout_ms=200)).values():
                found += [(record.key, record.value) for record in some]
        return found
    finally:
        await consumer.stop()
